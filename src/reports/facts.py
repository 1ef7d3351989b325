"""What the files of a run's folder say, in the words and numbers of a report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from src.callbacks.checkpoints import WEIGHTS
from src.config.instantiate import ConfigError
from src.reports.curves import MEMORY, SPEED, scalars
from src.reports.loaded_run import Subject
from src.runs.checkpoints import load
from src.runs.record import Run, session
from src.runs.status import read_status

UNKNOWN = "-"


def results(run: Run, subject: Subject | str) -> dict[str, str]:
    """What a run came to."""
    return {
        "test accuracy": percent(run.metrics.get("test/acc")),
        "test loss": number(run.metrics.get("test/loss")),
        "best validation score": number(run.best),
        "parameters": count(subject.costs.total.parameters)
        if isinstance(subject, Subject)
        else count(run.metrics.get("parameters")),
        "training time": seconds(run.seconds),
    }


def origin(run: Run) -> dict[str, str]:
    """Where a run comes from."""
    record = read_status(run.folder)
    first = session(record, 0)
    epochs = f"{UNKNOWN if run.epoch is None else run.epoch} of {UNKNOWN if run.epochs is None else run.epochs}"
    versions = ", ".join(f"{name} {version}" for name, version in kept(run).get("versions", {}).items())
    return {
        "recipe": run.experiment,
        "run": run.id,
        "status": run.state,
        "epochs": epochs,
        "data": run.data or UNKNOWN,
        "seed": UNKNOWN if run.seed is None else str(run.seed),
        "commit": str(first.get("commit") or UNKNOWN),
        "versions": versions or UNKNOWN,
        "host": str(first.get("host") or UNKNOWN),
        "command": command(run) or UNKNOWN,
    }


def visits(run: Run) -> list[list[str]]:
    """The sessions of a run: begin, end, how it ended, host and commit."""
    there = read_status(run.folder).get("sessions")
    known = [own for own in there if isinstance(own, dict)] if isinstance(there, list) else []
    keys = ("started", "ended", "status", "host", "commit")
    return [[str(n), *(str(own.get(key) or UNKNOWN) for key in keys)] for n, own in enumerate(known, 1)]


def command(run: Run) -> str:
    """What was typed to begin a run; nothing if it is not known."""
    words = session(read_status(run.folder), 0).get("command")
    return f"python {shlex.join(map(str, words))}" if isinstance(words, list) and words else ""


def kept(run: Run) -> Mapping[str, Any]:
    """What is kept beside the weights; nothing if there are none."""
    path = run.files.checkpoints / WEIGHTS
    try:
        return load(path) if path.exists() else {}
    except ConfigError:
        return {}


def configuration(run: Run) -> str:
    """The resolved configuration as it was written; nothing if it cannot be read."""
    return OmegaConf.to_yaml(OmegaConf.create(run.config)) if run.config else ""


def speed(run: Run, subject: Subject | str) -> dict[str, str]:
    """How fast training was, and how much memory it took if that was logged."""
    logged = {tag: [value for _, value in points] for tag, points in scalars(run).items()}
    epoch = run.seconds / run.epoch if run.seconds and run.epoch else None
    found = {"seconds of an epoch": number(epoch, ".1f")}
    if epoch and isinstance(subject, Subject):
        images = len(subject.data.datasets["train"])
        found["training images per second, all counted in"] = number(images / epoch, ",.0f")
    if speeds := logged.get(SPEED):
        found["training images per second, steps alone"] = number(sum(speeds) / len(speeds), ",.0f")
    if memory := logged.get(MEMORY):
        found["most memory in GiB"] = number(max(memory), ".2f")
    return found


def percent(share: float | None) -> str:
    """To two places."""
    return UNKNOWN if share is None else f"{100 * share:.2f} %"


def number(value: float | None, form: str = ".4f") -> str:
    """As a format has it."""
    return UNKNOWN if value is None else format(value, form)


def count(value: float | None) -> str:
    """A whole number."""
    return number(value, ",.0f")


def seconds(value: float | None) -> str:
    """With its unit."""
    return UNKNOWN if value is None else f"{value:,.0f} s"


def millions(value: float) -> str:
    """With three figures or more."""
    return f"{value / 1e6:,.2f} million"
