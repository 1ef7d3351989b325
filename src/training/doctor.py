"""Whether this machine can train: one small check for each thing that has been seen to go wrong.

Nothing but the standard library, packaging, rich and the facts of the machine is imported before a check needs it, so
that a broken installation is found by a check and does not break them.
"""

from __future__ import annotations

import os
import platform
import shutil
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

from src.runs.commit import git
from src.runs.machine import cuda_obstacle, driver_gpus, first_line, memory, usable_cores

_ROOT = Path(__file__).resolve().parents[2]
_LITTLE_DISK, _LITTLE_MEMORY = 5 * 10**9, 2 * 10**9
_AFTER_MALICE = "remove the environment, change every password and key that this machine holds, then make setup"


class _Finding(NamedTuple):
    """What a check has found, and what to do unless all is well."""

    found: str
    advice: str = ""
    otherwise: Literal["warning", "problem"] = "problem"

    @property
    def state(self) -> Literal["ok", "warning", "problem"]:
        """All is well where there is nothing to advise."""
        return self.otherwise if self.advice else "ok"


def examine(checks: Mapping[str, Callable[[], _Finding]]) -> Iterator[tuple[str, _Finding]]:
    """Run checks by name; one that breaks is a problem itself, and does not keep others from running."""
    for name, check in checks.items():
        try:
            yield name, check()
        except Exception as error:
            found = f"{type(error).__name__}: {first_line(error)}"
            yield name, _Finding(found, "solve the problems above first; if there are none, make setup, then make test")


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
        "configuration": lambda: configured,
        **{f"paths.{name}": partial(_folder, name, folder) for name, folder in paths.items()},
        "training step": _trains,
        "git": partial(_git, _ROOT),
    }


def _python() -> _Finding:
    advice = "" if sys.version_info >= (3, 11) else "use 3.11 or newer: make setup PYTHON=python3.11"
    return _Finding(f"{platform.python_version()} at {sys.executable}", advice)


def _packages(requirements: Path) -> _Finding:
    """The installed packages against the bounds of requirements.txt."""
    wanted = _required(requirements.read_text())
    wrong = [
        f"{each.name} must be {each.specifier or 'there'}, but is {found or 'not installed'}"
        for each, found in ((each, _version(each.name)) for each in wanted)
        # A build of one's own, such as 2.13.0+cpu, meets ==2.13.0.
        if not found or not each.specifier.contains(found, prereleases=True)
    ]
    advice = _AFTER_MALICE if _version("lightning") in ("2.6.2", "2.6.3") else "make setup"
    good = f"{len(wanted)} within the bounds of {requirements.name}"
    return _Finding("; ".join(wrong), advice) if wrong else _Finding(good)


def _required(text: str) -> list[Requirement]:
    """The requirements of a file that apply to this machine."""
    found = [Requirement(line.partition("#")[0]) for line in text.splitlines() if line[:1].isalnum()]
    return [requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()]


def _version(name: str) -> str:
    """The version of an installed package; empty if it is not there."""
    return next((found.version for found in metadata.distributions(name=name)), "")


def _torch() -> _Finding:
    """The build of torch, and whether it can use the GPUs that the driver sees."""
    import torch

    seen, built = "; ".join(driver_gpus()), torch.version.cuda or torch.version.hip
    kind = f"{'CUDA' if torch.version.cuda else 'ROCm'} {built}" if built else "CPUs only"
    found = f"{torch.__version__}, for {kind}"
    if not seen or not (obstacle := cuda_obstacle()):
        return _Finding(found)
    found += f", but cannot use {seen}: {obstacle}"
    if not built:
        return _Finding(found, "install a build with CUDA: https://pytorch.org/get-started/locally/ says how")
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return _Finding(found, f"unset CUDA_VISIBLE_DEVICES, which is {hidden!r}, unless that is meant", "warning")
    return _Finding(found, "update the driver, or install a build of torch for its CUDA")


def _gpus() -> _Finding:
    """The GPUs, their memory, and whether each can add."""
    import torch

    if cuda_obstacle():
        return _Finding("none that torch can use; training runs on the CPU")
    found, advice = [], ""
    for i in range(torch.cuda.device_count()):
        try:
            (torch.ones(8, device=f"cuda:{i}") + 1).sum().item()
            what = "{} of {} free".format(*map(decimal, torch.cuda.mem_get_info(i)))
        except Exception as error:
            what = first_line(error)
            advice = "free its memory, update the driver, or install a build of torch for this GPU"
        found.append(f"{torch.cuda.get_device_name(i)}: {what}")
    return _Finding("; ".join(found), advice)


def _cores() -> _Finding:
    """The cores that this process may use, and the threads that torch uses."""
    import torch

    usable, threads, advice = usable_cores(), torch.get_num_threads(), ""
    if threads > max(1, usable):
        advice = f"export OMP_NUM_THREADS={max(1, int(usable))}: threads that share a core wait for each other"
    elif threads == 1 and usable >= 2:
        advice = "unset OMP_NUM_THREADS, or set it to the number of cores"
    return _Finding(f"{usable:g} of {os.cpu_count()} cores usable, {threads} threads", advice, "warning")


def _memory() -> _Finding:
    free, total = memory()
    advice = "" if free >= _LITTLE_MEMORY else "close other programs; data sets are held in memory"
    return _Finding(f"{decimal(free)} free of {decimal(total)}", advice, "warning")


def _configuration(overrides: Sequence[str]) -> tuple[_Finding, dict[str, Path]]:
    """Whether the configuration composes, and its folders; those of a plain one if it does not."""
    paths = {"logs": Path("logs"), "cache": Path(".cache"), "data": Path("data")}
    try:
        from src.config.compose import compose_config

        cfg = compose_config(overrides)
    except Exception as error:
        return _Finding(first_line(error), "correct configs/, or what was given"), paths
    return _Finding(f"composes; recipe {cfg.name}"), {name: Path(cfg.paths[name]) for name in paths}


def _folder(name: str, folder: Path) -> _Finding:
    """Whether a folder can be written to, or made, and has space; nothing is left behind. Data may be read-only."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    elsewhere = f"name another folder with paths.{name}=..."
    try:
        with tempfile.TemporaryFile(dir=there):
            made = "can be written to" if there == folder.absolute() else "is made when it is needed"
    except OSError as error:
        if name == "data":
            return _Finding(f"{folder} is read-only ({error.strerror}): downloads go to paths.cache")
        return _Finding(f"{folder} cannot be written to: {error.strerror}", f"make it writable, or {elsewhere}")
    free = shutil.disk_usage(there).free
    advice = f"make room, or {elsewhere}" if name != "data" and free < _LITTLE_DISK else ""
    return _Finding(f"{folder} {made}; {decimal(free)} free at {there}", advice, "warning")


def _trains() -> _Finding:
    """The quickstart forward and backward, on a batch of noise."""
    import torch

    from src.training.recipe import load_recipe

    start, recipe = time.perf_counter(), load_recipe("quickstart")
    device = torch.device("cpu" if cuda_obstacle() else "cuda")
    model = recipe.model.to(device)
    images = torch.randn(4, recipe.datamodule.channels, *recipe.datamodule.size, device=device)
    model(images).square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not gradients or not all(gradient.isfinite().all() for gradient in gradients):
        return _Finding("gradients are not finite numbers", "make test says where")
    return _Finding(f"quickstart on {device}, {time.perf_counter() - start:.1f} s")


def _git(root: Path) -> _Finding:
    """The commit that runs will name, and whether files differ from it."""
    head, changed = git("rev-parse", "--short=12", "HEAD", root=root), git("status", "--porcelain", root=root)
    if head is None or changed is None:
        advice = "git init, and commit: then every run says which code it ran"
        return _Finding("no commit that runs could name", advice, "warning")
    advice = "commit before runs that are to be repeated" if changed else ""
    return _Finding(f"{head[0]}, changed files: {len(changed)}", advice, "warning")
