"""What this machine grants a process: cores, memory and GPUs. It can be imported where torch is broken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> float:
    """The cores that the system and the container grant this process; a container may grant a part of one."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _granted("cpu.max")
    return min(allowed, quota[0] / quota[1]) if quota else allowed


def memory() -> tuple[int, int]:
    """Bytes that are free, and all; of the container where it has a limit."""
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    if limit := _granted("memory.max"):
        free, total = min(free, limit[0] - sum(_granted("memory.current"))), min(total, limit[0])
    return free, total


def driver_gpus() -> list[str]:
    """The GPUs that nvidia-smi lists; none where there is no nvidia-smi, or it has no GPU."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.partition(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU ")]


def cuda_obstacle() -> str:
    """Why torch cannot use a GPU, in its own words; nothing if it can."""
    import torch

    try:
        if torch.cuda.is_available():
            return ""
        torch.cuda.init()
    except Exception as error:
        return first_line(error)
    return "torch.cuda is not available"


def first_line(error: Exception) -> str:
    """What an error says, in a line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _granted(name: str) -> list[int]:
    """The numbers in a file of this process's container; none where it has no limit."""
    try:
        return [int(word) for word in (_CGROUP / name).read_text().split()]
    except (OSError, ValueError):
        return []
