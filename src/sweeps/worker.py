"""One run of a sweep, in a process of its own that Ray's worker starts, watches and stops.

Ray ships this module by value, with what it takes of `src.runs.folder`, and it needs nothing else of this project: a
worker has no PyTorch and no model in memory.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import ray
from filelock import FileLock, Timeout
from ray import tune

from src.runs.folder import DIE_WITH, RUN_FOLDER, RunFolder, read_json

_FOREIGN = re.compile(
    r"SLURM_|SBATCH_|PMI_|PMIX_|OMPI_|TORCHELASTIC_|RAY_|TUNE_|PL_|MASTER_(ADDR|PORT)$|(GROUP_|LOCAL_|NODE_|ROLE_)?RANK$|"
    r"(LOCAL_|ROLE_)?WORLD_SIZE$|RUN_FOLDER$"
)
"""What a trainer would take for an order to join other processes, or is nobody's business but Ray's."""
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemoryError|can(.?t|not) allocate memory", re.IGNORECASE)
_REPORT_SECONDS = 2.0
"""After these a worker reports, whether or not there is something new."""
_POLL_SECONDS = 0.1
"""Between two looks at a run."""


class Order(NamedTuple):
    """What a worker is told; all paths are absolute."""

    name: str
    command: tuple[str, ...]
    cwd: str
    folder: str
    """The run's."""
    log: str
    """What the run prints is added to this file."""
    placements: str
    """Where and when it ran is written to a file in this folder, one for every start."""
    epochs: int
    metric: str
    threads: int
    port: int
    """Where the processes of one run meet, if there are several."""
    grace: float


class _RetryError(Exception):
    """The run ended before it was done, and may do better next time."""


class Worker(tune.Trainable):
    """Starts a run, reports its epochs, and has it write a checkpoint when it is stopped.

    Results have `epoch`, `device`, `host` and what the last validation measured; the last also has `outcome`, complete,
    failed or out of memory, and `why`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self.order = order = Order(**config["order"])
        self.files = RunFolder(Path(order.folder))
        wait_for_lock(self.files.path, order.grace)
        Path(order.log).parent.mkdir(parents=True, exist_ok=True)
        with open(order.log, "ab") as log:
            self.offset = log.tell()
            self.process = subprocess.Popen(
                order.command,
                cwd=order.cwd,
                env=_environment(order),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is for the driver alone
            )
        self.epoch = -1
        self.placement_file = Path(order.placements) / f"{order.name}-{uuid4().hex[:8]}.json"
        self.placement = {
            "name": order.name,
            "device": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "host": socket.gethostname(),
            "node": ray.get_runtime_context().get_node_id(),
            "pid": self.process.pid,
            "began": time.time(),
            "ended": None,
            "why": "",
        }
        self._write_placement()

    def step(self) -> dict[str, Any]:
        """Wait for an epoch, for the end, or for a little while."""
        until, status = time.monotonic() + _REPORT_SECONDS, {}
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return self._last_report()
            status = read_json(self.files.status)
            # The last epoch is not over before the test: a scheduler must not stop the run in between.
            if self.epoch < status.get("epoch", 0) < self.order.epochs and self._owns(status):
                break
            time.sleep(_POLL_SECONDS)
        return self._report(status)

    def cleanup(self) -> None:
        """Stop the run: it writes a checkpoint, and is killed only if that takes longer than it may."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(self.order.grace)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._write_placement()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The run's folder is its checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """The run goes on from its folder."""

    def _owns(self, status: Mapping[str, Any]) -> bool:
        """Whether a status is of this process, and not what an earlier one left."""
        return bool(status.get("sessions")) and status["sessions"][-1].get("pid") == self.process.pid

    def _facts(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """What every report has."""
        return {"epoch": status.get("epoch", 0), "device": self.placement["device"], "host": self.placement["host"]}

    def _report(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a run that goes on."""
        facts = self._facts(status)
        if not self._owns(status):
            return facts
        # What the last epoch measured is for the end, with the best.
        self.epoch = facts["epoch"]
        return facts | (status.get("latest") or {} if self.epoch < self.order.epochs else {})

    def _last_report(self) -> dict[str, Any]:
        """What a run came to. Raises _RetryError if it was killed, or failed for a reason that need not come again."""
        self._write_placement()
        status = read_json(self.files.status)
        facts = self._facts(status) | {"done": True}
        if self.process.returncode == 0 and status.get("status") == "complete":
            best = read_json(self.files.metrics).get(self.order.metric)
            return facts | {"outcome": "complete", "why": "", **({} if best is None else {self.order.metric: best})}
        log = _tail(Path(self.order.log), self.offset)
        why = self.placement["why"] = _failure_reason(self.process.returncode, log)
        self._write_placement()
        if _OUT_OF_MEMORY.search(log):
            return facts | {"outcome": "out of memory", "why": why}
        if re.match("error: ", why):  # of the configuration: it would come again
            return facts | {"outcome": "failed", "why": why}
        raise _RetryError(why)

    def _write_placement(self) -> None:
        """Where the run is and since when; and until when, once it has ended."""
        if self.process.poll() is not None and self.placement["ended"] is None:
            self.placement["ended"] = time.time()
        self.placement_file.parent.mkdir(parents=True, exist_ok=True)
        part = self.placement_file.with_suffix(".part")
        part.write_text(json.dumps(self.placement))
        os.replace(part, self.placement_file)


def _environment(order: Order) -> dict[str, str]:
    """This worker's, without what belongs to another launcher, and with this run's share of the cores."""
    own = {key: value for key, value in os.environ.items() if not _FOREIGN.match(key)}
    threads = {name: str(order.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    run = {RUN_FOLDER: order.folder, "MASTER_PORT": str(order.port), DIE_WITH: str(os.getpid())}
    return own | threads | run | {"PYTHONUNBUFFERED": "1"}


def wait_for_lock(folder: Path, seconds: float) -> None:
    """If a run is being stopped still, as after its driver was killed, wait for its checkpoint."""
    if folder.is_dir():
        with suppress(Timeout), FileLock(RunFolder(folder).lock, timeout=seconds):
            pass  # the run itself says who holds it, if that is too short


def _tail(path: Path, offset: int, most: int = 65_536) -> str:
    """The end of what was written to a file since it had so many bytes."""
    with path.open("rb") as file:
        file.seek(max(offset, path.stat().st_size - most))
        return file.read().decode(errors="replace")


def _failure_reason(code: int, log: str) -> str:
    """Why a process ended: its last line, or the signal that killed it."""
    if code < 0:
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(error: |[A-Za-z_.]*(Error|Exception)\b)", line)]
    return (errors or lines or [f"exit code {code}"])[-1][:500]
