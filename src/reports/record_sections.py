"""Sections of what the files of runs say: results, curves, costs, and how to run them again."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from src.callbacks.checkpoints import WEIGHTS
from src.config.targets import ConfigError
from src.models.tasks import Task
from src.reports.curves import MEMORY, SPEED, Line, draw_lines, lines, rates, scalars
from src.reports.loaded_run import Entry, LoadedRun
from src.reports.page import Code, Item, Section, Table, known, picture, table
from src.runs.checkpoints import load
from src.runs.compare import differences
from src.runs.record import Run, session
from src.runs.status import read_status
from src.training.match import written_match

_ORIGIN = ("recipe", "run", "status", "data")
"""What a comparison shows of where its runs come from."""
_MILLIONS = "{:,.2f} million"


def overview(entries: Sequence[Entry]) -> Section:
    """What runs came to, and where they come from."""
    says = (
        "What a run came to and where it comes from, as its own files have it: the test set was looked at once, "
        "with the weights of the best epoch by validation."
    )
    if len(entries) == 1:
        (entry,) = entries
        items = [table({"": _results(entry)}), table({"": _origin(entry.run)}), *_sessions(entry.run)]
        return Section("Result", says, items)
    says += " Runs differ in the keys of the configuration that are named, apart from where they were placed."
    rows = {}
    for entry, differs in zip(entries, differences([entry.run for entry in entries]), strict=True):
        origin = _origin(entry.run)
        rows[entry.name] = (
            {"differs in": known(differs)} | _results(entry) | {title: origin[title] for title in _ORIGIN}
        )
    return Section("Runs", says, [table(rows), *_remarks(entries)])


def training(entries: Sequence[Entry]) -> Section:
    """What was logged in training."""
    logged = {entry.name: there for entry in entries if (there := lines(scalars(entry.run)))}
    if not logged:
        return Section("Training", "There are no curves: there are no TensorBoard files with an epoch that is over.")
    absent = [entry.name for entry in entries if entry.name not in logged]
    says = (
        "What was logged, over epochs, read from TensorBoard files; values of training are means over an epoch, while "
        "the weights change and images are augmented"
        + (f"; without files, or an epoch that is over: {', '.join(absent)}." if absent else ".")
    )
    return Section("Training", says, [picture("training", "Curves over epochs.", draw_lines(_panels(logged, entries)))])


def costs(entries: Sequence[Entry]) -> Section:
    """Parameters, multiply-adds and time."""
    says = (
        "Parameters, and multiply-adds of a forward pass of one image, counted while it runs (FlopCounterMode, "
        "halved): those of matrix products and convolutions, and of nothing else; kernels are assembled once for all "
        "images. Times and memory are as the runs' files have them, an epoch with its validation and all looks at the "
        "net; they depend on the machine."
    )
    rows = {own.name: written_match(own.run.config or {}) | _totals(own.loaded) | _speed(own) for own in entries}
    items: list[Item] = [table(rows)]
    loaded = [entry.loaded for entry in entries if isinstance(entry.loaded, LoadedRun)]
    if len(loaded) < len(entries):
        items.append("Without its net, nothing more can be said of a run.")
    elif len(entries) == 1:
        parts = loaded[0].costs.parts.items()
        rows = [[name, known(own.parameters, "{:,}"), _MILLIONS.format(own.multiply_adds / 1e6)] for name, own in parts]
        items.append(Table(rows, ("part of the net", "parameters", "multiply-adds of one image")))
    return Section("Costs", says, items)


def reproduction(entries: Sequence[Entry]) -> Section:
    """The commands, and the configuration of a run that is alone."""
    says = (
        "The command of a run's first session, to be typed at the commit that its page names (a + says that files "
        "differed from it); its page also has the whole configuration, resolved."
    )
    commands = []
    for entry in entries:
        typed = _command(entry.run) or "# not known: status.json does not have it"
        commands.append(f"{typed}  # {entry.name}" if entry.name else typed)
    items: list[Item] = [Code("\n".join(commands))]
    if len(entries) == 1:
        config = entries[0].run.config
        items.append(Code(OmegaConf.to_yaml(config)) if config else "There is no config.yaml that can be read.")
    return Section("Reproduction", says, items)


def _results(entry: Entry) -> dict[str, str]:
    """What a run came to."""
    run, loaded = entry.run, entry.loaded
    counted = loaded.costs.total.parameters if isinstance(loaded, LoadedRun) else run.metrics.get("parameters")
    task = entry.task
    tests = {name: run.metrics.get(f"test/{name}") for name in _names(task)}
    return {
        **{f"test {task.title(name)}": task.written(name, own) for name, own in tests.items()},
        "best validation score": known(run.best, "{:.4f}"),
        "parameters": known(counted, "{:,.0f}"),
        "training time": known(run.seconds, "{:,.0f} s"),
    }


def _origin(run: Run) -> dict[str, str]:
    """Where a run comes from."""
    first = session(read_status(run.folder), 0)
    return {
        "recipe": run.experiment,
        "run": run.id,
        "status": run.state,
        "epochs": f"{known(run.epoch)} of {known(run.epochs)}",
        "data": known(run.data),
        "seed": known(run.seed),
        "commit": known(first.get("commit")),
        "versions": known(", ".join(f"{name} {version}" for name, version in _versions(run).items())),
        "host": known(first.get("host")),
        "command": known(_command(run)),
    }


def _versions(run: Run) -> Mapping[str, Any]:
    """Of libraries, as they are kept beside the weights; nothing if there are none."""
    path = run.files.checkpoints / WEIGHTS
    try:
        return load(path).get("versions", {}) if path.exists() else {}
    except ConfigError:
        return {}


def _sessions(run: Run) -> list[Item]:
    """A table of them, if they are known."""
    there = read_status(run.folder).get("sessions")
    found = [own for own in there if isinstance(own, dict)] if isinstance(there, list) else []
    keys = ("started", "ended", "status", "host", "commit")
    rows = [[str(n), *(known(own.get(key)) for key in keys)] for n, own in enumerate(found, 1)]
    return [Table(rows, ("session", "begun", "ended", "status", "host", "commit"))] if rows else []


def _command(run: Run) -> str:
    """What was typed to begin a run; nothing if it is not known."""
    words = session(read_status(run.folder), 0).get("command")
    return f"python {shlex.join(map(str, words))}" if isinstance(words, list) and words else ""


def _remarks(entries: Sequence[Entry]) -> list[str]:
    """What keeps runs from being compared."""
    found = [f"{entry.name} is left out below: {entry.loaded}" for entry in entries if isinstance(entry.loaded, str)]
    if len({entry.run.data for entry in entries}) > 1:
        found.append("The runs have not the same data, so that their results are of different images.")
    tasks = {(own.task.targets, own.task.outputs) for own in (e.loaded for e in entries) if isinstance(own, LoadedRun)}
    if len(tasks) > 1:
        several = ", ".join(f"{outputs} of {targets}" for targets, outputs in sorted(tasks))
        found.append(f"They have not the same outputs ({several}): chance differs as well.")
    return found


def _names(task: Task) -> list[str]:
    """What is logged of every split, the primary metric first."""
    return list(dict.fromkeys([task.primary, *task.metrics, "loss"]))


def _panels(
    logged: Mapping[str, Mapping[str, Line]], entries: Sequence[Entry]
) -> dict[tuple[str, str], dict[str, Line]]:
    """Lines by title, unit and label: of a run that is alone both splits in one panel, of others a panel for each."""
    panels: dict[tuple[str, str], dict[str, Line]] = defaultdict(dict)
    tasks = {entry.name: entry.task for entry in entries}
    for run, there in logged.items():
        for metric in _names(tasks[run]):
            title = tasks[run].title(metric)
            for split, words in {"train": "training", "val": "validation"}.items():
                if line := there.get(f"{split}/{metric}"):
                    panel, label = (f"{words} {title}", run) if run else (title, words)
                    panels[panel, title][label] = line
    if learning_rates := rates(logged.get("", {})):
        panels["learning rate", "learning rate"] = learning_rates
    return panels


def _totals(loaded: LoadedRun | str) -> dict[str, str]:
    """Parameters and multiply-adds of a whole net, if there is one."""
    if isinstance(loaded, str):
        return {}
    return {
        "parameters": f"{loaded.costs.total.parameters:,}",
        "multiply-adds of one image": _MILLIONS.format(loaded.costs.total.multiply_adds / 1e6),
        "multiply-adds of the kernels": _MILLIONS.format(loaded.costs.assembly / 1e6),
    }


def _speed(entry: Entry) -> dict[str, str]:
    """How fast training was, and how much memory it took if that was logged."""
    run, loaded = entry.run, entry.loaded
    logged = {tag: [value for _, value in points] for tag, points in scalars(run).items()}
    epoch = run.seconds / run.epoch if run.seconds and run.epoch else None
    found = {"seconds of an epoch": known(epoch, "{:.1f}")}
    if epoch and isinstance(loaded, LoadedRun) and loaded.train_images:
        found["training images per second, all counted in"] = f"{loaded.train_images / epoch:,.0f}"
    if speeds := logged.get(SPEED):
        found["training images per second, steps alone"] = f"{sum(speeds) / len(speeds):,.0f}"
    if memory := logged.get(MEMORY):
        found["most memory in GiB"] = f"{max(memory):.2f}"
    return found
