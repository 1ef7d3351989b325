"""Every check finds what it is there for, and says what to do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from scripts import doctor as command
from src.training import doctor
from src.training.doctor import GB, Check

GPU = "GPU 0: NVIDIA H200"


def set_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Pretend that these are installed; underscores are dashes."""
    known = {name.replace("_", "-"): value for name, value in versions.items()}
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: known[name] if name in known else real(name))


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.python().state == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    assert doctor.python().state == "problem"
    assert "3.11 or newer" in doctor.python().advice


def test_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# all\n--index-url https://example.org\n\ntorch==2.13.0  # why\nnumpy>=1.26\nother; python_version<'3'\n"
    )
    set_versions(monkeypatch, torch="2.13.0+cpu", numpy="2.4.6")
    assert doctor.packages(file) == Check("packages", "ok", "2 within the bounds of requirements.txt")
    set_versions(monkeypatch, torch="2.12.1", numpy=None)
    found = doctor.packages(file)
    assert found.state == "problem"
    assert found.found == "torch must be ==2.13.0, but is 2.12.1; numpy is not installed"
    assert found.advice == "make setup"


def test_packages_of_this_project() -> None:
    names = [requirement.name for requirement in doctor.required((doctor.ROOT / "requirements.txt").read_text())]
    assert {"torch", "lightning", "hydra-core", "omegaconf", "rich"} <= set(names)


def test_a_damaged_list_of_packages(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("torch ??\n")
    (found,) = doctor.examine([partial(doctor.packages, file)])
    assert (found.name, found.state) == ("packages", "problem")
    assert "'torch ??', which is no requirement" in found.found


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"lightning": "2.6.2"}, "malicious"),
        ({"lightning": "2.6.3"}, "malicious"),
        ({"omegaconf": "2.4.0.dev3", "hydra_core": "1.3.8"}, "does not work with"),
        ({"lightning": "2.6.6", "omegaconf": "2.4.0", "hydra_core": "1.4.0"}, None),
        ({"lightning": None, "omegaconf": None, "hydra_core": None}, None),
    ],
)
def test_bad_versions(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], words: str | None) -> None:
    set_versions(monkeypatch, **versions)
    found = doctor.known_bad()
    assert found.state == ("problem" if words else "ok")
    assert (words or "none") in found.found


def set_cuda(monkeypatch: pytest.MonkeyPatch, seen: list[str], built: str | None, works: bool, error: str = "") -> None:
    """Pretend that the driver has these GPUs, and that torch is built so and can use them or not."""

    def init() -> None:
        if error:
            raise RuntimeError(f"{error}\nmore")

    monkeypatch.setattr(doctor, "gpus_of_driver", lambda: seen)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, [], None, works=False)
    assert (doctor.torch_build().state, doctor.torch_build().found[-13:]) == ("ok", "for CPUs only")
    set_cuda(monkeypatch, [GPU], None, works=False)
    assert doctor.torch_build().state == "problem"
    assert "for CPUs only, but the driver has GPU 0" in doctor.torch_build().found
    set_cuda(monkeypatch, [], "12.6", works=False)
    assert doctor.torch_build().state == "ok"
    set_cuda(monkeypatch, [GPU], "12.6", works=True)
    assert doctor.torch_build().found.endswith("for CUDA 12.6")
    set_cuda(monkeypatch, [GPU], "12.6", works=False, error="The driver is too old")
    assert doctor.torch_build().state == "problem"
    assert doctor.torch_build().found.endswith("cannot use GPU 0: NVIDIA H200: The driver is too old")
    set_cuda(monkeypatch, [GPU], "12.6", works=False, error="No GPUs")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor.torch_build().state == "warning"
    assert "unset CUDA_VISIBLE_DEVICES" in doctor.torch_build().advice


def test_torch_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, [GPU], "12.6", works=False)

    def fails() -> bool:
        raise RuntimeError("unknown error")

    monkeypatch.setattr(torch.cuda, "is_available", fails)
    assert doctor.torch_build().state == "problem"
    assert "unknown error" in doctor.torch_build().found
    assert doctor.gpus().found.startswith("none")


def test_torch_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert (doctor.torch_build().state, doctor.torch_build().advice) == ("problem", "make setup")
    assert [check.state for check in doctor.examine([doctor.gpus, doctor.cores, doctor.trains])] == ["problem"] * 3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo '  MIG'", [GPU]),
        ("echo 'No devices were found'; exit 6", []),
        ("echo 'No devices were found'", []),
        (None, []),
    ],
)
def test_gpus_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None, expected: list[str]
) -> None:
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.gpus_of_driver() == expected


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, [GPU], "12.6", works=False, error="none")
    assert doctor.gpus().state == "ok"
    set_cuda(monkeypatch, [GPU], "12.6", works=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (10 * GB, 140 * GB))
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda n, device: ones(n))
    assert doctor.gpus() == Check("GPUs", "ok", "NVIDIA H200, 10.0 GB of 140.0 GB free")

    def fails(n: int, device: str) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", fails)
    assert doctor.gpus().state == "problem"
    assert doctor.gpus().found == "NVIDIA H200: no kernel image is available"


@pytest.mark.parametrize(
    ("quota", "threads", "state", "words"),
    [
        ("max 100000", 8, "ok", "8 of"),
        ("400000 100000", 4, "ok", "4 of"),
        ("150000 100000", 8, "warning", "export OMP_NUM_THREADS=1"),
        ("max 100000", 1, "warning", "unset OMP_NUM_THREADS"),
        ("nonsense", 16, "warning", "OMP_NUM_THREADS=8"),
    ],
)
def test_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, threads: int, state: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (tmp_path / "cpu.max").write_text(quota)
    found = doctor.cores()
    assert found.state == state
    assert words in found.found + found.advice


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.memory().state in ("ok", "warning")
    monkeypatch.setattr(doctor, "free_memory", lambda: (GB, 8 * GB))
    assert (doctor.memory().state, doctor.memory().found) == ("warning", "1.0 GB free of 8.0 GB")
    monkeypatch.setattr(doctor, "free_memory", lambda: (None, None))
    assert doctor.memory().state == "ok"


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux")
def test_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    free, total = doctor.free_memory()
    assert 0 < free <= total
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert doctor.free_memory() == (600, 1000)
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.free_memory()[1] == total


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for limits, state, words in (
        ((256, 4096), "warning", "ulimit -n 1024"),
        ((256, 256), "warning", "have the limit raised"),
        ((4096, 4096), "ok", "at most 4,096"),
        ((resource.RLIM_INFINITY,) * 2, "ok", "no limit"),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda which, limits=limits: limits)
        found = doctor.open_files()
        assert found.state == state
        assert words in found.found + found.advice


def test_configuration(tmp_path: Path) -> None:
    found, paths = doctor.configuration([f"paths.logs={tmp_path}"])
    assert (found.state, paths["logs"]) == ("ok", tmp_path)
    found, paths = doctor.configuration(["paths.lgos=x"])
    assert found.state == "problem"
    assert "paths.logs" in found.found
    assert paths["logs"] == Path("logs")


def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(0, 0, 6 * GB))
    assert doctor.disk("logs", tmp_path / "a" / "b").found == f"6.0 GB free at {tmp_path}"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(0, 0, 4 * GB))
    found = doctor.disk("cache", tmp_path)
    assert (found.name, found.state) == ("disk of paths.cache", "warning")
    assert "paths.cache=..." in found.advice


def test_writable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.writable("logs", tmp_path).found == f"{tmp_path} can be written to"
    assert doctor.writable("logs", tmp_path / "a" / "b").found.endswith("is made when it is needed")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    (tmp_path / "file").touch()
    found = doctor.writable("cache", tmp_path / "file" / "b")
    assert found.state == "problem"
    assert "is a file" in found.found

    def refused(dir: Path) -> None:  # noqa: A002
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    assert doctor.writable("logs", tmp_path).state == "problem"
    assert doctor.writable("logs", tmp_path).found.endswith("cannot be written to: Permission denied")
    found = doctor.writable("data", tmp_path)
    assert found.state == "ok"
    assert "read-only (Permission denied): downloads go to paths.cache" in found.found


def test_a_step_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.trains().state == "ok"

    def broken(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel\nmore")

    from src.models.learner import Learner

    forward = Learner.forward
    monkeypatch.setattr(Learner, "forward", lambda self, images: broken(images))
    assert doctor.trains().state == "problem"
    assert doctor.trains().found == "RuntimeError: no such kernel"
    monkeypatch.setattr(Learner, "forward", lambda self, images: forward(self, images) * torch.nan)
    assert doctor.trains().found == "gradients are not finite numbers"


def test_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert doctor.repository(tmp_path).state == "warning"
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    assert doctor.repository(tmp_path).state == "ok"
    assert doctor.repository(tmp_path).found.endswith(", clean")
    (tmp_path / "new").touch()
    assert doctor.repository(tmp_path).found.endswith("and 1 changed file")
    monkeypatch.setenv("PATH", "")
    assert doctor.repository(tmp_path).found == "no commit that runs could name"


# All of them.


def of(*states: str) -> list[Callable[[], Check]]:
    """Checks that find this."""
    return [partial(Check, f"check {i}", state, "found [it]", "advice") for i, state in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "code", "text"),
    [
        (["ok", "ok"], 0, "2 checks: 0 problems, 0 warnings."),
        (["ok", "warning"], 0, "2 checks: 0 problems, 1 warning."),
        (["problem", "warning"], 1, "2 checks: 1 problem, 1 warning."),
    ],
)
def test_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], states: list[str], code: int, text: str
) -> None:
    monkeypatch.setattr(doctor, "all_checks", lambda overrides: of(*states))
    monkeypatch.setattr(command, "load", lambda: doctor)
    assert command.main([]) == code
    assert text in (printed := capsys.readouterr().out)
    assert "found [it]" in printed, "brackets are no markup"


def test_a_check_that_breaks_is_a_problem_and_others_run() -> None:
    def breaks() -> Check:
        raise KeyError("key")

    first, second = doctor.examine([breaks, *of("ok")])
    assert (first.name, first.state, first.found) == ("breaks", "problem", "KeyError: 'key'")
    assert second.state == "ok"


def test_all_checks(tmp_path: Path) -> None:
    checks = list(doctor.examine(doctor.all_checks([f"paths.logs={tmp_path}/logs"])))
    assert len({check.name for check in checks}) == len(checks) == 16
    assert all(check.state == "ok" or check.advice for check in checks)
    Console(file=io.StringIO()).print(doctor.table(checks))
    assert not (tmp_path / "logs").exists()


def test_other_overrides_are_refused() -> None:
    with pytest.raises(SystemExit, match=r"error: `doctor` takes paths.KEY=FOLDER, but got 'seed=1'"):
        command.main(["seed=1"])


def test_it_runs_where_torch_is_broken(tmp_path: Path) -> None:
    """The checks are loaded without the package around them."""
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')\n")
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(doctor.ROOT / "scripts" / "doctor.py"), f"paths.logs={tmp_path}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "libtorch.so: cannot open" in done.stdout
    assert "python" in done.stdout
