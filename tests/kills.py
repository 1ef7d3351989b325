"""Runs in processes of their own that end at chosen moments, and what is left of them."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

CONTEXT = get_context("forkserver")  # imports PyTorch once, and forks before any of its threads is there
CONTEXT.set_forkserver_preload(["tests.forked", "src.training.run", "sklearn.datasets"])  # runs read its digits

SMALL = (
    "experiment=quickstart",
    "dataset.size=20",
    "dataset.limit_train=100",
    "dataset.limit_val=40",
    "dataset.limit_test=40",
    "train.batch_size=16",
    "dataset.eval_batch_size=16",
    "train.epochs=3",
    "net.hidden_sizes=[4,4,4]",
    "conv.kernel_size=3",
    "group.elements=[4]",
    "kernel.hidden_size=4",
    "net.head.hidden=16",
    "callbacks.checkpoint.every_steps=2",
    "observers.progress=null",
    "observers.summary=null",
    "observers.throughput=null",
    "observers.redundancy=null",
    "observers.equivariance=null",
    "observers.figures=null",
    "observers.dashboard=null",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
)
"""A run of three epochs of seven steps that takes a second, and saves within epochs."""


LAUNCHERS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "torchrun": lambda rank, ranks: {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "GROUP_RANK": 0,
        "TORCHELASTIC_RUN_ID": "tests",
    },
    "slurm": lambda rank, ranks: {
        "SLURM_JOB_ID": 1,
        "SLURM_JOB_NAME": "tests",
        "SLURM_NTASKS": ranks,
        "SLURM_NTASKS_PER_NODE": ranks,
        "SLURM_NNODES": 1,
        "SLURM_NODELIST": "localhost",
        "SLURM_NODEID": 0,
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": rank,
    },
}
"""What launchers of several processes say in the environment of each."""


class Bomb(NamedTuple):
    """Ends a process by SIGKILL, or by another signal, at the nth time that something happens in it."""

    event: str
    """step, validation, test, save (half-way through a file), rename, link, or time (in hundredths of a second)."""
    nth: int = 1
    rank: int = 0
    number: int = signal.SIGKILL


def execute(overrides: Sequence[str], logs: Path, bomb: Bomb | None = None, ranks: int = 1, **flags: Any) -> list[int]:
    """Train in processes of their own.

    Returns:
        Their exit codes; what a signal ended has its number, negative.
    """
    port = free_port()
    arguments = [(list(overrides), str(logs), bomb, rank, ranks, port, flags) for rank in range(ranks)]
    processes = [CONTEXT.Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    processes[bomb.rank if bomb else 0].join(120)
    for process in processes:  # the others wait for the one that was killed
        process.join(None if bomb is None else 20 if bomb.number != signal.SIGKILL else 0)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def work(
    overrides: list[str], logs: str, bomb: Bomb | None, rank: int, ranks: int, port: int, flags: dict[str, Any]
) -> None:
    """What such a process does; with several ranks, as torchrun would have started it."""
    import torch
    from composing import composed

    from src.config.targets import ConfigError
    from src.runs.process import quiet
    from src.training.recipe import of_run
    from src.training.run import Request, train

    quiet()
    sys.stdout = sys.stderr = (Path(logs).parent / f"out-{rank}.txt").open("a")
    for number in (1, 2):  # of processes that this one starts
        os.dup2(sys.stdout.fileno(), number)
    torch.set_num_threads(1)
    if ranks > 1:
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            **LAUNCHERS[flags.pop("launcher", "torchrun")](rank, ranks),
        }
        os.environ.update({key: str(value) for key, value in place.items()})
        overrides = [*overrides, f"trainer.devices={ranks}"]
    if bomb is not None and bomb.rank == rank:
        arm(bomb)
    request = Request(overrides, **flags)
    cfg = of_run(request.folder, overrides) if request.folder else composed(*overrides, f"paths.logs={logs}")
    try:
        train(cfg, request)
    except ConfigError as error:
        print(f"error: {error}", flush=True)
        os._exit(2)


def arm(bomb: Bomb) -> None:
    """Make the process end itself."""
    import torch

    from src.callbacks import checkpoints
    from src.models.learner import Learner

    def explode(*_: Any) -> None:
        os.kill(os.getpid(), bomb.number)

    if bomb.event == "time":
        threading.Timer(bomb.nth / 100, explode).start()
        return
    if bomb.event == "save":
        torch.save = counted(torch.save, bomb.nth, half)
        return
    owner, name = {
        "step": (Learner, "training_step"),
        "validation": (Learner, "validation_step"),
        "test": (Learner, "test_step"),
        "rename": (os, "replace"),
        "link": (checkpoints, "link"),
    }[bomb.event]
    setattr(owner, name, counted(getattr(owner, name), bomb.nth, explode))


def counted(function: Callable[..., Any], nth: int, instead: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but something else happens before its nth call."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            instead(*args)
        return function(*args, **kwargs)

    return call


def half(content: Any, file: Any) -> None:
    """Write the first half of a file, and end."""
    import io
    import pickle  # of the tests' own content, to have bytes at all

    buffer = io.BytesIO(pickle.dumps(str(content)[:100_000]))
    file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def only_run(logs: Path) -> Path:
    """The folder of the one run that is there."""
    (status,) = logs.glob("*/*/status.json")
    return status.parent


def result(folder: Path) -> dict[str, Any]:
    """All that a run came to, and that must not depend on how often it was stopped."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    points = {tag: [(x.step, x.value) for x in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return {
        "weights": checkpoint["state_dict"],
        "best weights": best["state_dict"],
        "optimiser": checkpoint["optimizer_states"],
        "schedule": checkpoint["lr_schedulers"],
        "random": [process["random"] for process in checkpoint["callbacks"]["ExactState"]["processes"]],
        "metrics": (folder / "metrics.json").read_text(),
        "points": points,
    }


def unequal(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two results differ, to the last bit."""
    import torch

    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict):
        keys = sorted(a.keys() ^ b.keys(), key=str)
        missing = [f"{path}/{key} is in one only" for key in keys]
        return missing + [d for key in a.keys() & b.keys() for d in unequal(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: {len(a)} against {len(b)}"]
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in unequal(x, y, f"{path}/{i}")]
    return [] if a == b else [f"{path}: {a} against {b}"]


WAYS: dict[str, tuple[list[str], int]] = {
    "grid": ([], 1),
    "random elements, accumulation, clipping": (
        ["group.sampling=random", "train.accumulate=2", "train.gradient_clip=0.5"],
        1,
    ),
    "averaged weights, early stopping": (["train.ema=0.9", "train.patience=1"], 1),
    "2 workers": (["dataset.num_workers=2"], 1),
    "2 ranks": ([], 2),
    "2 ranks, random elements, 2 workers": (["group.sampling=random", "dataset.num_workers=2"], 2),
}
"""Ways to train; `make test-resume` takes them all."""


def main() -> None:
    """Kill runs of every way again and again, at chosen and at random moments, and compare what they come to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=8, help="for each of the six ways to train")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    draw, differ, total = random.Random(arguments.seed), 0, 0
    for way, (changes, ranks) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            kills, differences = stress([*SMALL, *changes], Path(folder), ranks, arguments.kills, draw)
        total, differ = total + kills, differ + bool(differences)
        print(f"{way}: {kills} kills, {'bit-identical' if not differences else differences[:3]}", flush=True)
    print(f"{total} kills in all; {differ} of {len(WAYS)} ways differ from the run that was never stopped")
    sys.exit(bool(differ))


def stress(overrides: list[str], folder: Path, ranks: int, kills: int, draw: random.Random) -> tuple[int, list[str]]:
    """A run that is never stopped, and one that is killed so many times: how often, and where they differ."""
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    whole, killed = folder / "whole" / "logs", folder / "killed" / "logs"
    assert execute(overrides, whole, ranks=ranks) == [0] * ranks
    seen = 0
    while seen < kills:
        bomb = moment(draw, draw.randrange(ranks))
        codes = execute(overrides, killed, bomb, ranks)
        seen += codes[bomb.rank] == -signal.SIGKILL
        if codes == [0] * ranks:  # complete: what is left of the kills goes to another run
            if differences := unequal(result(only_run(whole)), result(only_run(killed))):
                return seen, differences
            shutil.rmtree(killed)
    assert execute(overrides, killed, ranks=ranks) == [0] * ranks
    return seen, unequal(result(only_run(whole)), result(only_run(killed)))


def moment(draw: random.Random, rank: int) -> Bomb:
    """A chosen moment, or any."""
    if draw.random() < 0.4:
        return Bomb("time", draw.randrange(50, 400), rank)
    event = draw.choice(["step", "step", "validation", "save", "rename", "link", "test"])
    if event in ("save", "rename", "link"):
        rank = 0  # which writes
    return Bomb(event, draw.randrange(1, 7), rank)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    main()
