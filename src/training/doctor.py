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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)
GB = 2**30
LITTLE_DISK = 5 * GB
LITTLE_MEMORY = 2 * GB
FEW_FILES = 1024
INSTALL = "make setup"
UNEXPECTED = "solve the problems above first; if there are none, report this"
STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
CGROUP = Path("/sys/fs/cgroup")

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """What a check has found."""

    name: str
    state: State
    found: str
    advice: str = ""
    """What to do, unless all is well."""


def examine(checks: Sequence[Callable[[], Check]]) -> Iterator[Check]:
    """Run the checks; one that breaks is a problem itself, and does not keep others from running."""
    for check in checks:
        try:
            yield check()
        except Exception as error:
            name = getattr(check, "func", check).__name__
            yield Check(name, "problem", f"{type(error).__name__}: {first_line(error)}", UNEXPECTED)


def all_checks(overrides: Sequence[str] = ()) -> list[Callable[[], Check]]:
    """Every check, in the order of the table; cheap ones and causes come first.

    Args:
        overrides: as on the command line; `paths` are looked at.
    """
    configured, paths = configuration(overrides)
    return [
        python,
        partial(packages, ROOT / "requirements.txt"),
        known_bad,
        torch_build,
        gpus,
        cores,
        memory,
        open_files,
        lambda: configured,
        *(partial(disk, name, paths[name]) for name in ("logs", "cache")),
        *(partial(writable, name, paths[name]) for name in ("logs", "cache", "data")),
        trains,
        partial(repository, ROOT),
    ]


def table(checks: Sequence[Check]) -> Table:
    """A line for each check."""
    result = Table("check", "state", "found", "what to do")
    for check in checks:
        result.add_row(check.name, check.state, check.found, check.advice, style=STYLES[check.state])
    return result


# The installation.


def python() -> Check:
    """The version of Python."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= PYTHON:
        return Check("python", "ok", found)
    needed = ".".join(map(str, PYTHON))
    return Check("python", "problem", found, f"use {needed} or newer: make setup PYTHON=python{needed}")


def packages(requirements: Path) -> Check:
    """The installed packages against the bounds of requirements.txt."""
    wanted = list(required(requirements.read_text()))
    wrong = [line for requirement in wanted if (line := unmet(requirement))]
    if wrong:
        return Check("packages", "problem", "; ".join(wrong), INSTALL)
    return Check("packages", "ok", f"{len(wanted)} within the bounds of {requirements.name}")


def required(text: str) -> Iterator[Requirement]:
    """The requirements of a file that apply to this machine.

    Raises:
        ValueError: with a line that is none.
    """
    for line in text.splitlines():
        if (stripped := line.partition("#")[0].strip()) and not stripped.startswith("-"):
            try:
                requirement = Requirement(stripped)
            except InvalidRequirement as error:
                raise ValueError(f"requirements.txt has the line {stripped!r}, which is no requirement") from error
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def unmet(requirement: Requirement) -> str:
    """What is wrong with an installed package; nothing if it is as required."""
    found = version(requirement.name)
    if found is None:
        return f"{requirement.name} is not installed"
    # A build of one's own, such as 2.13.0+cpu, meets ==2.13.0.
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} must be {requirement.specifier}, but is {found}"


def version(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def known_bad() -> Check:
    """Versions that must not be there, whatever requirements.txt says."""
    versions = {name: version(name) or "" for name in ("lightning", "omegaconf", "hydra-core")}
    if versions["lightning"] in ("2.6.2", "2.6.3"):
        found = f"lightning {versions['lightning']}, a release with malicious code"
        advice = f"remove the environment, change every password and key that this machine holds, then {INSTALL}"
        return Check("bad versions", "problem", found, advice)
    if versions["omegaconf"].startswith("2.4") and versions["hydra-core"].startswith("1.3"):
        found = f"omegaconf {versions['omegaconf']}, which hydra {versions['hydra-core']} does not work with"
        return Check("bad versions", "problem", found, INSTALL)
    return Check("bad versions", "ok", "none")


def torch_build() -> Check:
    """The build of torch, and whether it can use the GPUs that the driver sees."""
    try:
        import torch
    except Exception as error:
        return Check("torch", "problem", f"cannot be imported: {first_line(error)}", INSTALL)
    seen = gpus_of_driver()
    if torch.version.cuda is None and torch.version.hip is None:
        found = f"{torch.__version__}, for CPUs only"
        if seen:
            advice = "install a build with CUDA: https://pytorch.org/get-started/locally/ says how"
            return Check("torch", "problem", f"{found}, but the driver has {listed(seen)}", advice)
        return Check("torch", "ok", found)
    found = f"{torch.__version__}, for {'CUDA' if torch.version.cuda else 'ROCm'}"
    found = f"{found} {torch.version.cuda or torch.version.hip}"
    hidden, obstacle = os.environ.get("CUDA_VISIBLE_DEVICES"), no_cuda()
    if not seen or not obstacle:
        return Check("torch", "ok", found)
    found = f"{found}, but cannot use {listed(seen)}: {obstacle}"
    if hidden is not None:
        return Check(
            "torch", "warning", found, f"unset CUDA_VISIBLE_DEVICES, which is {hidden!r}, unless that is meant"
        )
    return Check("torch", "problem", found, "update the driver, or install a build of torch for its CUDA")


def no_cuda() -> str:
    """Why torch cannot use a GPU, in its own words; nothing if it can."""
    import torch

    try:
        if torch.cuda.is_available():
            return ""
        torch.cuda.init()
    except Exception as error:
        return first_line(error)
    return "torch.cuda is not available"


def gpus_of_driver() -> list[str]:
    """The GPUs that nvidia-smi lists; none where there is no nvidia-smi, or it has no GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.partition(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU ")]


def gpus() -> Check:
    """The GPUs, their memory, and whether each can add."""
    import torch

    if no_cuda():
        return Check("GPUs", "ok", "none that torch can use; training runs on the CPU")
    found, broken = [], []
    for i in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(i)
        try:
            free, total = torch.cuda.mem_get_info(i)
            (torch.ones(8, device=f"cuda:{i}") + 1).sum().item()
            found.append(f"{name}, {size(free)} of {size(total)} free")
        except Exception as error:
            found.append(f"{name}: {first_line(error)}")
            broken.append(i)
    if broken:
        advice = "free its memory, update the driver, or install a build of torch for this GPU"
        return Check("GPUs", "problem", listed(found), advice)
    return Check("GPUs", "ok", listed(found))


# The machine.


def cores() -> Check:
    """The cores that this process may use, and the threads that torch uses."""
    import torch

    usable, threads = usable_cores(), torch.get_num_threads()
    found = f"{usable:g} of {os.cpu_count()} cores usable, {threads} threads"
    if threads > max(1, usable):
        advice = f"export OMP_NUM_THREADS={max(1, int(usable))}: threads that share a core wait for each other"
        return Check("cores", "warning", found, advice)
    if threads == 1 and usable >= 2:
        return Check("cores", "warning", found, "unset OMP_NUM_THREADS, or set it to the number of cores")
    return Check("cores", "ok", found)


def usable_cores() -> float:
    """Cores that the system and the container grant."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


def memory() -> Check:
    """Memory that is free."""
    free, total = free_memory()
    if free is None:
        return Check("memory", "ok", "not said by this system")
    found = f"{size(free)} free" + ("" if total is None else f" of {size(total)}")
    if free < LITTLE_MEMORY:
        return Check("memory", "warning", found, "close other programs; data sets are held in memory")
    return Check("memory", "ok", found)


def free_memory() -> tuple[int | None, int | None]:
    """(free, all) in bytes, of the container where it has a limit."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
        free, total = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, ValueError, KeyError):
        return None, None
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(free, limit - used), min(total, limit)
    except (OSError, ValueError):
        return free, total


def open_files() -> Check:
    """How many files a process may have open."""
    try:
        import resource
    except ImportError:
        return Check("open files", "ok", "no limit on this system")
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= FEW_FILES:
        return Check("open files", "ok", "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit:,}")
    advice = (
        f"ulimit -n {FEW_FILES}"
        if highest >= FEW_FILES or highest == resource.RLIM_INFINITY
        else "have the limit raised"
    )
    return Check("open files", "warning", f"at most {limit:,}", f"{advice}: processes that read have many files open")


# The folders.


def configuration(overrides: Sequence[str]) -> tuple[Check, dict[str, Path]]:
    """Whether the configuration composes, and its folders; those of a plain one if it does not."""
    paths = {"data": Path("data"), "cache": Path(".cache"), "logs": Path("logs")}
    try:
        from src.config.compose import compose_config

        cfg = compose_config(overrides)
        paths = {name: Path(cfg.paths[name]) for name in paths}
    except Exception as error:
        return Check("configuration", "problem", first_line(error), "correct configs/, or what was given"), paths
    return Check("configuration", "ok", f"composes; recipe {cfg.name}"), paths


def disk(name: str, folder: Path) -> Check:
    """Free space where a folder is, or will be."""
    title = f"disk of paths.{name}"
    there = nearest_folder(folder)
    free = shutil.disk_usage(there).free
    found = f"{size(free)} free at {there}"
    if free < LITTLE_DISK:
        return Check(title, "warning", found, f"make room, or name another folder with paths.{name}=...")
    return Check(title, "ok", found)


def writable(name: str, folder: Path) -> Check:
    """Whether a folder can be written to, or made; nothing is left behind. Original data may be read-only."""
    title = f"paths.{name}"
    there = nearest_folder(folder)
    found = f"{folder} can be written to" if there == folder.absolute() else f"{folder} is made when it is needed"
    try:
        if not there.is_dir():
            raise NotADirectoryError(f"{there} is a file")
        with tempfile.TemporaryFile(dir=there):
            return Check(title, "ok", found)
    except OSError as error:
        reason = error.strerror or str(error)
    if name == "data":
        return Check(title, "ok", f"{folder} is read-only ({reason}): downloads go to paths.cache")
    advice = f"make it writable, or name another folder with paths.{name}=..."
    return Check(title, "problem", f"{folder} cannot be written to: {reason}", advice)


def nearest_folder(folder: Path) -> Path:
    """A folder, or the first above it that is there."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


# The project.


def trains() -> Check:
    """The quickstart forward and backward, on a batch of noise."""
    import torch

    from src.training.recipe import load_recipe

    start = time.perf_counter()
    try:
        recipe = load_recipe("quickstart")
        device = torch.device("cpu" if no_cuda() else "cuda")
        model = recipe.model.to(device)
        images = torch.randn(4, recipe.datamodule.channels, *recipe.datamodule.size, device=device)
        model(images).square().mean().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        finite = bool(gradients) and all(bool(gradient.isfinite().all()) for gradient in gradients)
    except Exception as error:
        advice = (
            "solve the problems above first; make test says more, and on a GPU try CUDA_VISIBLE_DEVICES= make doctor"
        )
        return Check("training step", "problem", f"{type(error).__name__}: {first_line(error)}", advice)
    if not finite:
        return Check("training step", "problem", "gradients are not finite numbers", "make test says where")
    return Check("training step", "ok", f"quickstart on {device}, {time.perf_counter() - start:.1f} s")


def repository(root: Path) -> Check:
    """The commit that runs will name, and whether files differ from it."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=20).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        advice = "git init, and commit: then every run says which code it ran"
        return Check("git", "warning", "no commit that runs could name", advice)
    if changes.strip():
        n = len(changes.splitlines())
        found = f"{commit.strip()}, and {n} changed file{'' if n == 1 else 's'}"
        return Check("git", "warning", found, "commit before runs that are to be repeated")
    return Check("git", "ok", f"{commit.strip()}, clean")


def first_line(error: BaseException) -> str:
    """The message of an error, without what follows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def size(n: int) -> str:
    """Bytes, in GB."""
    return f"{n / GB:.1f} GB"


def listed(names: Sequence[str]) -> str:
    """Names in a row."""
    return "; ".join(names)
