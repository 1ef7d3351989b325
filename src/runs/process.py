"""The process that trains: its settings, its signals, and the others that it trains with."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment

from src.callbacks.interruption import Interrupted, heeded
from src.runs.folder import DIE_WITH

_Value = TypeVar("_Value")

# Parameters of mallopt, from glibc's malloc.h, and of prctl, from Linux.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_PR_SET_PDEATHSIG = 1


def quiet() -> None:
    """Leave out what Lightning says of itself: advertisements, hardware that is absent, and its own deprecations."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Batches are cut from memory, so there is nothing for workers to do.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # What the model logs of an epoch has been summed over processes.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*not supported by the model summary.*")


def keep_freed_memory() -> None:
    """On Linux, reuse freed memory rather than give it back to the system after every step.

    Activations above 32 MiB are otherwise mapped and zeroed anew each time they are made: a training step of Sim(2)
    with 8 x 3 elements on two cores takes 630 ms in place of 840. The process holds on to its peak until it ends.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def die_with_parent() -> None:
    """On Linux, end with the process that started this one, so that no GPU is kept busy for nobody.

    A rank is killed. The run of a sweep is sent SIGHUP, on which it writes a checkpoint.
    """
    if sys.platform != "linux":
        return
    if rank() > 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    elif parent := os.environ.get(DIE_WITH):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
        if os.getppid() != int(parent):  # it was gone before this could be said
            signal.raise_signal(signal.SIGHUP)


def rank() -> int:
    """Which of the processes of a run this is, from what its launcher says; 0 if there is one."""
    environment = cluster()
    return environment.global_rank() if environment else int(os.environ.get("LOCAL_RANK", 0))


def cluster() -> ClusterEnvironment | None:
    """The launcher that started all processes of this run at once, torchrun or SLURM; None if there is one process."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        return SLURMEnvironment(auto_requeue=False)
    return None


def from_first(value: _Value) -> _Value:
    """The value of the first process, in all processes that were started at once.

    They meet here for the first time; the trainer finds the process group that is made here.
    """
    environment = cluster()
    if environment is None or environment.world_size() == 1:
        return value
    if not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(environment.local_rank())
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=f"tcp://{environment.main_address}:{environment.main_port}",
            rank=environment.global_rank(),
            world_size=environment.world_size(),
            timeout=timedelta(minutes=30),
        )
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def signals() -> AbstractContextManager[None]:
    """Outside training, SIGTERM, SIGINT, SIGHUP and SIGUSR1 end the run at once, with its status written."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number))

    return handling(heeded(), stop)


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have signals handled so for a while."""
    with ExitStack() as after:
        for number in numbers:
            after.callback(signal.signal, number, signal.signal(number, handler))
        yield
