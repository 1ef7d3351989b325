"""Every check finds what it is there for, and says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from scripts import doctor as command
from src.runs import machine
from src.training import doctor
from src.training.doctor import _Finding

GB = 10**9
GPU = "GPU 0: NVIDIA H200"


def set_versions(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Pretend that these are installed; underscores are dashes."""
    known = {name.replace("_", "-"): value for name, value in versions.items()}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: known[name] if name in known else real(name))


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._python().state == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    assert doctor._python().state == "problem"
    assert "3.11 or newer" in doctor._python().advice


def test_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# all\n--index-url https://example.org\n\ntorch==2.13.0  # why\nnumpy>=1.26\nother; python_version<'3'\n"
    )
    set_versions(monkeypatch, torch="2.13.0+cpu", numpy="2.4.6")
    assert doctor._packages(file) == _Finding("2 within the bounds of requirements.txt")
    set_versions(monkeypatch, torch="2.12.1", numpy="")
    found = doctor._packages(file)
    assert found.state == "problem"
    assert found.found == "torch must be ==2.13.0, but is 2.12.1; numpy must be >=1.26, but is not installed"
    assert found.advice == "make setup"


def test_packages_of_this_project() -> None:
    names = [requirement.name for requirement in doctor._required((doctor._ROOT / "requirements.txt").read_text())]
    assert {"torch", "lightning", "hydra-core", "omegaconf", "rich"} <= set(names)


def test_a_damaged_list_of_packages(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("torch ??\n")
    ((name, found),) = doctor.examine({"packages": partial(doctor._packages, file)})
    assert (name, found.state) == ("packages", "problem")
    assert found.found.startswith("InvalidRequirement: ")


@pytest.mark.parametrize(
    ("versions", "found", "advice"),
    [
        ({"lightning": "2.6.2"}, "but is 2.6.2", "change every password"),
        ({"lightning": "2.6.3"}, "but is 2.6.3", "change every password"),
        ({"omegaconf": "2.4.0.dev3", "hydra_core": "1.3.8"}, "but is 2.4.0.dev3", "make setup"),
        ({"omegaconf": "2.4.0", "hydra_core": "1.3.8"}, "but is 2.4.0", "make setup"),
        ({"lightning": "", "omegaconf": "", "hydra_core": ""}, "but is not installed", "make setup"),
    ],
)
def test_bad_versions(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], found: str, advice: str) -> None:
    set_versions(monkeypatch, **versions)
    finding = doctor._packages(doctor._ROOT / "requirements.txt")
    assert finding.state == "problem"
    assert found in finding.found
    assert advice in finding.advice


def set_cuda(monkeypatch: pytest.MonkeyPatch, seen: list[str], built: str | None, works: bool, error: str = "") -> None:
    """Pretend that the driver has these GPUs, and that torch is built so and can use them or not."""

    def init() -> None:
        if error:
            raise RuntimeError(f"{error}\nmore")

    monkeypatch.setattr(doctor, "driver_gpus", lambda: seen)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, [], None, works=False)
    assert (doctor._torch().state, doctor._torch().found[-13:]) == ("ok", "for CPUs only")
    set_cuda(monkeypatch, [GPU], None, works=False)
    assert doctor._torch().state == "problem"
    assert "for CPUs only, but cannot use GPU 0" in doctor._torch().found
    assert "install a build with CUDA" in doctor._torch().advice
    set_cuda(monkeypatch, [], "12.6", works=False)
    assert doctor._torch().state == "ok"
    set_cuda(monkeypatch, [GPU], "12.6", works=True)
    assert doctor._torch().found.endswith("for CUDA 12.6")
    set_cuda(monkeypatch, [GPU], "12.6", works=False, error="The driver is too old")
    assert doctor._torch().state == "problem"
    assert doctor._torch().found.endswith("cannot use GPU 0: NVIDIA H200: The driver is too old")
    set_cuda(monkeypatch, [GPU], "12.6", works=False, error="No GPUs")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor._torch().state == "warning"
    assert "unset CUDA_VISIBLE_DEVICES" in doctor._torch().advice


def test_torch_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, [GPU], "12.6", works=False)

    def fails() -> bool:
        raise RuntimeError("unknown error")

    monkeypatch.setattr(torch.cuda, "is_available", fails)
    assert doctor._torch().state == "problem"
    assert "unknown error" in doctor._torch().found
    assert doctor._gpus().found.startswith("none")


def test_torch_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    checks = {"torch": doctor._torch, "GPUs": doctor._gpus, "cores": doctor._cores, "training step": doctor._trains}
    findings = [finding for _, finding in doctor.examine(checks)]
    assert [finding.state for finding in findings] == ["problem"] * 4
    assert all("make setup" in finding.advice for finding in findings)


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
    assert machine.driver_gpus() == expected


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, [GPU], "12.6", works=False, error="none")
    assert doctor._gpus().state == "ok"
    set_cuda(monkeypatch, [GPU], "12.6", works=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (10 * GB, 140 * GB))
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda n, device: ones(n))
    assert doctor._gpus() == _Finding("NVIDIA H200: 10.0 GB of 140.0 GB free")

    def fails(n: int, device: str) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", fails)
    assert doctor._gpus().state == "problem"
    assert doctor._gpus().found == "NVIDIA H200: no kernel image is available"


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
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (tmp_path / "cpu.max").write_text(quota)
    found = doctor._cores()
    assert found.state == state
    assert words in found.found + found.advice


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._memory().state in ("ok", "warning")
    monkeypatch.setattr(machine, "_CGROUP", Path("nowhere"))
    free = namedtuple("memory", "available total")(GB, 8 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert (doctor._memory().state, doctor._memory().found) == ("warning", "1.0 GB free of 8.0 GB")


def test_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    whole = doctor._memory().found
    total = whole.partition(" of ")[2]
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert doctor._memory().found == "600 bytes free of 1.0 kB"
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor._memory().found.endswith(f" of {total}")


def test_configuration(tmp_path: Path) -> None:
    found, paths = doctor._configuration([f"paths.logs={tmp_path}"])
    assert (found.state, paths["logs"]) == ("ok", tmp_path)
    found, paths = doctor._configuration(["paths.lgos=x"])
    assert found.state == "problem"
    assert "paths.logs" in found.found
    assert paths["logs"] == Path("logs")


def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(0, 0, 6 * GB))
    found = doctor._folder("logs", tmp_path / "a" / "b")
    assert found.state == "ok"
    assert found.found.endswith(f"; 6.0 GB free at {tmp_path}")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(0, 0, 4 * GB))
    found = doctor._folder("cache", tmp_path)
    assert found.state == "warning"
    assert "paths.cache=..." in found.advice
    assert doctor._folder("data", tmp_path).state == "ok", "nothing need be written there"


def test_writable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor._folder("logs", tmp_path).found.startswith(f"{tmp_path} can be written to; ")
    assert "is made when it is needed; " in doctor._folder("logs", tmp_path / "a" / "b").found
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    (tmp_path / "file").touch()
    found = doctor._folder("cache", tmp_path / "file" / "b")
    assert found.state == "problem"
    assert "Not a directory" in found.found

    def refused(dir: Path) -> None:  # noqa: A002
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    assert doctor._folder("logs", tmp_path).state == "problem"
    assert doctor._folder("logs", tmp_path).found.endswith("cannot be written to: Permission denied")
    found = doctor._folder("data", tmp_path)
    assert found.state == "ok"
    assert "read-only (Permission denied): downloads go to paths.cache" in found.found


def test_a_step_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._trains().state == "ok"

    def broken(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel\nmore")

    from src.models.learner import Learner

    forward = Learner.forward
    monkeypatch.setattr(Learner, "forward", lambda self, images: broken(images))
    ((_, found),) = doctor.examine({"training step": doctor._trains})
    assert found.state == "problem"
    assert found.found == "RuntimeError: no such kernel"
    monkeypatch.setattr(Learner, "forward", lambda self, images: forward(self, images) * torch.nan)
    assert doctor._trains().found == "gradients are not finite numbers"


def test_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert doctor._git(tmp_path).state == "warning"
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    assert doctor._git(tmp_path).state == "ok"
    assert doctor._git(tmp_path).found.endswith(", changed files: 0")
    (tmp_path / "new").touch()
    assert doctor._git(tmp_path).found.endswith(", changed files: 1")
    monkeypatch.setenv("PATH", "")
    assert doctor._git(tmp_path).found == "no commit that runs could name"


# All of them.


def of(*states: str) -> dict[str, Callable[[], _Finding]]:
    """Checks that find this."""
    return {
        f"check {i}": partial(_Finding, "found [it]", *([] if state == "ok" else ["advice", state]))
        for i, state in enumerate(states)
    }


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
    monkeypatch.setattr(command, "_load", lambda: doctor)
    assert command.main([]) == code
    assert text in (printed := capsys.readouterr().out)
    assert "found [it]" in printed, "brackets are no markup"


def test_a_check_that_breaks_is_a_problem_and_others_run() -> None:
    def breaks() -> _Finding:
        raise KeyError("key")

    first, second = doctor.examine({"breaks": breaks, **of("ok")})
    assert (first[0], first[1].state, first[1].found) == ("breaks", "problem", "KeyError: 'key'")
    assert second[1].state == "ok"


def test_all_checks(tmp_path: Path) -> None:
    findings = dict(doctor.examine(doctor.all_checks([f"paths.logs={tmp_path}/logs"])))
    assert len(findings) == 12
    assert all(finding.state == "ok" or finding.advice for finding in findings.values())
    assert not (tmp_path / "logs").exists()


def test_overrides_are_those_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["experiment=sim2_separable"])
    assert "composes; recipe sim2_separable" in capsys.readouterr().out
    assert command.main(["sead=1"]) == 1
    assert "`sead` is not a key of the configuration. Did you mean 'seed'" in capsys.readouterr().out


def test_it_runs_where_torch_is_broken(tmp_path: Path) -> None:
    """The checks are loaded without the package around them."""
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')\n")
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(doctor._ROOT / "scripts" / "doctor.py"), f"paths.logs={tmp_path}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "libtorch.so: cannot open" in done.stdout
    assert "python" in done.stdout
