"""Whether this machine can train: one small check for each thing that has been seen to go wrong.

Nothing but the standard library, packaging and rich is imported before a check needs it, so that a broken installation
is found by a check and does not break them.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from rich.filesize import decimal

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = (3, 11)
_LITTLE_DISK, _LITTLE_MEMORY = 5 * 10**9, 2 * 10**9
_FEW_FILES = 1024
_INSTALL = "make setup"
_AFTER_MALICE = f"remove the environment, change every password and key that this machine holds, then {_INSTALL}"
_CGROUP = Path("/sys/fs/cgroup")


_State = Literal["ok", "warning", "problem"]


class _Finding(NamedTuple):
    """What a check has found, and what to do unless all is well."""

    state: _State
    found: str
    advice: str = ""


def _judge(otherwise: _State, found: str, advice: str) -> _Finding:
    """All is well where there is nothing to advise."""
    return _Finding(otherwise if advice else "ok", found, advice)


def examine(checks: Mapping[str, Callable[[], _Finding]]) -> Iterator[tuple[str, _Finding]]:
    """Run checks by name; one that breaks is a problem itself, and does not keep others from running."""
    for name, check in checks.items():
        try:
            yield name, check()
        except Exception as error:
            found = f"{type(error).__name__}: {_first_line(error)}"
            yield name, _Finding("problem", found, "solve the problems above first; if there are none, try make test")


def all_checks(overrides: Sequence[str] = ()) -> dict[str, Callable[[], _Finding]]:
    """Every check by its name, in the order of the table, causes first; overrides say which folders are looked at."""
    configured, paths = _configuration(overrides)
    return {
        "python": _python,
        "packages": partial(_packages, _ROOT / "requirements.txt"),
        "torch": _torch,
        "GPUs": _gpus,
        "cores": _cores,
        "memory": _memory,
        "open files": _open_files,
        "configuration": lambda: configured,
        **{f"paths.{name}": partial(_folder, name, folder) for name, folder in paths.items()},
        "training step": _trains,
        "git": partial(_git, _ROOT),
    }


def _python() -> _Finding:
    needed = ".".join(map(str, _PYTHON))
    advice = f"use {needed} or newer: make setup PYTHON=python{needed}" if sys.version_info[:2] < _PYTHON else ""
    return _judge("problem", f"{platform.python_version()} at {sys.executable}", advice)


def _packages(requirements: Path) -> _Finding:
    """The installed packages against the bounds of requirements.txt."""
    wanted = [(requirement, _version(requirement.name)) for requirement in _required(requirements.read_text())]
    wrong = [
        f"{requirement.name} must be {requirement.specifier or 'there'}, but is {found or 'not installed'}"
        for requirement, found in wanted
        # A build of one's own, such as 2.13.0+cpu, meets ==2.13.0.
        if not found or not requirement.specifier.contains(found, prereleases=True)
    ]
    found = "; ".join(wrong) or f"{len(wanted)} within the bounds of {requirements.name}"
    malicious = _version("lightning") in ("2.6.2", "2.6.3")
    return _judge("problem", found, "" if not wrong else _AFTER_MALICE if malicious else _INSTALL)


def _required(text: str) -> list[Requirement]:
    """The requirements of a file that apply to this machine."""
    found = [Requirement(line.partition("#")[0]) for line in text.splitlines() if line[:1].isalnum()]
    return [requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()]


def _version(name: str) -> str:
    """The version of an installed package; empty if it is not there."""
    return next((found.version for found in metadata.distributions(name=name)), "")


def _torch() -> _Finding:
    """The build of torch, and whether it can use the GPUs that the driver sees."""
    try:
        import torch
    except Exception as error:
        return _Finding("problem", f"cannot be imported: {_first_line(error)}", _INSTALL)
    seen, built = "; ".join(_gpus_of_driver()), torch.version.cuda or torch.version.hip
    kind = f"{'CUDA' if torch.version.cuda else 'ROCm'} {built}" if built else "CPUs only"
    found = f"{torch.__version__}, for {kind}"
    if seen and not built:
        advice = "install a build with CUDA: https://pytorch.org/get-started/locally/ says how"
        return _Finding("problem", f"{found}, but the driver has {seen}", advice)
    if not seen or not (obstacle := _no_cuda()):
        return _Finding("ok", found)
    found = f"{found}, but cannot use {seen}: {obstacle}"
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return _Finding("warning", found, f"unset CUDA_VISIBLE_DEVICES, which is {hidden!r}, unless that is meant")
    return _Finding("problem", found, "update the driver, or install a build of torch for its CUDA")


def _no_cuda() -> str:
    """Why torch cannot use a GPU, in its own words; nothing if it can."""
    import torch

    try:
        if torch.cuda.is_available():
            return ""
        torch.cuda.init()
    except Exception as error:
        return _first_line(error)
    return "torch.cuda is not available"


def _gpus_of_driver() -> list[str]:
    """The GPUs that nvidia-smi lists; none where there is no nvidia-smi, or it has no GPU."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.partition(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU ")]


def _gpus() -> _Finding:
    """The GPUs, their memory, and whether each can add."""
    import torch

    if _no_cuda():
        return _Finding("ok", "none that torch can use; training runs on the CPU")
    found, advice = [], ""
    for i in range(torch.cuda.device_count()):
        found.append(torch.cuda.get_device_name(i))
        try:
            (torch.ones(8, device=f"cuda:{i}") + 1).sum().item()
            found[-1] += ", {} of {} free".format(*map(decimal, torch.cuda.mem_get_info(i)))
        except Exception as error:
            found[-1] += f": {_first_line(error)}"
            advice = "free its memory, update the driver, or install a build of torch for this GPU"
    return _judge("problem", "; ".join(found), advice)


def _cores() -> _Finding:
    """The cores that the system and the container grant this process, and the threads that torch uses."""
    import torch

    usable = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if quota := _granted("cpu.max"):
        usable = min(usable, quota[0] / quota[1])
    threads = torch.get_num_threads()
    advice = ""
    if threads > max(1, usable):
        advice = f"export OMP_NUM_THREADS={max(1, int(usable))}: threads that share a core wait for each other"
    elif threads == 1 and usable >= 2:
        advice = "unset OMP_NUM_THREADS, or set it to the number of cores"
    return _judge("warning", f"{usable:g} of {os.cpu_count()} cores usable, {threads} threads", advice)


def _memory() -> _Finding:
    """Memory that is free, of the container where it has a limit."""
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    if limit := _granted("memory.max"):
        free, total = min(free, limit[0] - sum(_granted("memory.current"))), min(total, limit[0])
    advice = "" if free >= _LITTLE_MEMORY else "close other programs; data sets are held in memory"
    return _judge("warning", f"{decimal(free)} free of {decimal(total)}", advice)


def _open_files() -> _Finding:
    """How many files a process may have open."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _Finding("ok", "no limit")
    advice = f"ulimit -n {_FEW_FILES}, or have the limit raised: processes that read have many files open"
    return _judge("warning", f"at most {limit:,}", advice if limit < _FEW_FILES else "")


def _granted(name: str) -> list[int]:
    """The numbers in a file of this process's container; none where it has no limit."""
    try:
        return [int(word) for word in (_CGROUP / name).read_text().split()]
    except (OSError, ValueError):
        return []


def _configuration(overrides: Sequence[str]) -> tuple[_Finding, dict[str, Path]]:
    """Whether the configuration composes, and its folders; those of a plain one if it does not."""
    paths = {"logs": Path("logs"), "cache": Path(".cache"), "data": Path("data")}
    try:
        from src.config.compose import compose_config

        cfg = compose_config(overrides)
        paths = {name: Path(cfg.paths[name]) for name in paths}
    except Exception as error:
        return _Finding("problem", _first_line(error), "correct configs/, or what was given"), paths
    return _Finding("ok", f"composes; recipe {cfg.name}"), paths


def _folder(name: str, folder: Path) -> _Finding:
    """Whether a folder can be written to, or made, and has space; nothing is left behind. Data may be read-only."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    try:
        if not there.is_dir():
            raise NotADirectoryError(f"{there} is a file")
        with tempfile.TemporaryFile(dir=there):
            made = "can be written to" if there == folder.absolute() else "is made when it is needed"
    except OSError as error:
        reason = error.strerror or str(error)
        if name == "data":
            return _Finding("ok", f"{folder} is read-only ({reason}): downloads go to paths.cache")
        advice = f"make it writable, or name another folder with paths.{name}=..."
        return _Finding("problem", f"{folder} cannot be written to: {reason}", advice)
    full = name != "data" and free < _LITTLE_DISK
    advice = f"make room, or name another folder with paths.{name}=..." if full else ""
    return _judge("warning", f"{folder} {made}; {decimal(free)} free at {there}", advice)


def _trains() -> _Finding:
    """The quickstart forward and backward, on a batch of noise."""
    import torch

    from src.training.recipe import load_recipe

    start, recipe = time.perf_counter(), load_recipe("quickstart")
    device = torch.device("cpu" if _no_cuda() else "cuda")
    model = recipe.model.to(device)
    images = torch.randn(4, recipe.datamodule.channels, *recipe.datamodule.size, device=device)
    model(images).square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not gradients or not all(gradient.isfinite().all() for gradient in gradients):
        return _Finding("problem", "gradients are not finite numbers", "make test says where")
    return _Finding("ok", f"quickstart on {device}, {time.perf_counter() - start:.1f} s")


def _git(root: Path) -> _Finding:
    """The commit that runs will name, and whether files differ from it."""
    from src.runs.commit import git

    head, changed = git("rev-parse", "--short=12", "HEAD", root=root), git("status", "--porcelain", root=root)
    if head is None or changed is None:
        advice = "git init, and commit: then every run says which code it ran"
        return _Finding("warning", "no commit that runs could name", advice)
    if not changed:
        return _Finding("ok", f"{head[0]}, clean")
    found = f"{head[0]}, and {len(changed)} changed file{'s' * (len(changed) != 1)}"
    return _Finding("warning", found, "commit before runs that are to be repeated")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
