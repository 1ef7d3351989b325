"""The page that compares runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

from matplotlib.figure import Figure

from src.analysis.drawing import COLOURS, figure
from src.analysis.equivariance import LOGITS
from src.analysis.equivariance_figures import draw_curves
from src.analysis.redundancy import LINES, MEASURES, numbers
from src.reports import facts
from src.reports.curves import draw_lines, lines, scalars
from src.reports.loaded_run import Subject
from src.reports.page import Code, Note, Section, Table, picture
from src.reports.single import LIE, TITLES
from src.runs import compare
from src.runs.record import Run

CURVES = {"training loss": "train/loss", "validation loss": "val/loss", "validation accuracy": "val/acc"}
UNITS = {"training loss": "nats", "validation loss": "nats", "validation accuracy": "share of images"}

COLUMNS = ("test accuracy", "best validation score", "parameters", "training time")
"""Of the results, those in the table of runs."""


class Entry(NamedTuple):
    """A run of the comparison."""

    name: str
    """By which it is called on the page."""
    run: Run
    subject: Subject | str
    """Its net, or why there is none."""


def sections(runs: Sequence[Run], subjects: Sequence[Subject | str]) -> list[Section]:
    """All of them, in their order.

    Args:
        runs: in any state.
        subjects: their nets, or why there are none.
    """
    entries = [Entry(f"run {n}", run, own) for n, (run, own) in enumerate(zip(runs, subjects, strict=True), 1)]
    there = [entry for entry in entries if isinstance(entry.subject, Subject)]
    return [
        overview(entries),
        curves(entries),
        *(make(there) for make in (robustness, equivariance, redundancy) if there),
        costs(entries),
        reproduction(entries),
    ]


def overview(entries: Sequence[Entry]) -> Section:
    """A row for each run."""
    head = ("", "recipe", "run", "status", "differs in", *COLUMNS, "data")
    rows = []
    for entry, differs in zip(entries, differences([entry.run for entry in entries]), strict=True):
        run, result = entry.run, facts.results(entry.run, entry.subject)
        scores = [result[key] for key in COLUMNS]
        rows.append([entry.name, run.experiment, run.id, run.state, differs, *scores, run.data or facts.UNKNOWN])
    says = (
        "What the runs came to, as their own files have it, and the keys of the configuration in which they differ, "
        "apart from where they were placed."
    )
    return Section("Runs", says, [Table(rows, head), *map(Note, remarks(entries))])


def remarks(entries: Sequence[Entry]) -> list[str]:
    """What keeps runs from being compared."""
    found = [f"{entry.name} is left out below: {entry.subject}" for entry in entries if isinstance(entry.subject, str)]
    if len({entry.run.data for entry in entries}) > 1:
        found.append("The runs have not the same data, so that their accuracies are of different images.")
    counts = {own.data.classes for own in (entry.subject for entry in entries) if isinstance(own, Subject)}
    if len(counts) > 1:
        found.append(f"They have not as many classes ({', '.join(map(str, sorted(counts)))}): chance differs as well.")
    return found


def differences(runs: Sequence[Run]) -> list[str]:
    """In what each run differs from the others, as it is written on the command line."""
    return [label or facts.UNKNOWN for label in compare.differences(runs)]


def curves(entries: Sequence[Entry]) -> Section:
    """What was logged in training."""
    title = "Training"
    logged = {entry.name: there for entry in entries if (there := lines(scalars(entry.run)))}
    if not logged:
        return Section(title, "There are no curves: no run has TensorBoard files with an epoch that is over.")
    panels = {panel: {name: own[tag] for name, own in logged.items() if tag in own} for panel, tag in CURVES.items()}
    absent = [entry.name for entry in entries if entry.name not in logged]
    says = "Loss and accuracy over epochs, read from the TensorBoard files of the runs"
    says += f"; without files, or an epoch that is over: {', '.join(absent)}." if absent else "."
    drawn = draw_lines({panel: own for panel, own in panels.items() if own}, UNITS)
    return Section(title, says, [picture("training", "Loss and accuracy of all runs over epochs.", drawn)])


def robustness(entries: Sequence[Entry]) -> Section:
    """Accuracy by angle and by scale."""
    measured = {entry.name: entry.subject.measured for entry in entries}
    rotations = {name: own.rotation for name, own in measured.items()}
    scales = {name: own.scale for name, own in measured.items()}
    looked_at = "; ".join(f"{entry.name}: {entry.subject.shown}, {entry.subject.weights}" for entry in entries)
    says = f"Accuracy on test images that are further turned about their centre or scaled ({looked_at})."
    rows = [
        [
            name,
            facts.percent(float(own.rotation.accuracy[0])),
            facts.percent(float(own.rotation.accuracy.mean())),
            facts.percent(float(own.rotation.accuracy.min())),
            facts.percent(float(own.scale.accuracy.mean())),
        ]
        for name, own in measured.items()
    ]
    head = ("", "as they are", "mean over angles", "worst angle", "mean over scales")
    drawn = draw_curves(rotations, scales)
    shown = picture("robustness", "Accuracy by angle and by scale, all runs.", drawn)
    return Section("Robustness", says, [shown, Table(rows, head)])


def equivariance(entries: Sequence[Entry]) -> Section:
    """Errors of predictions by kind of group element."""
    measured = {entry.name: entry.subject.measured for entry in entries}
    errors = {name: {kind: layers[LOGITS] for kind, layers in own.errors.items()} for name, own in measured.items()}
    kinds = list(dict.fromkeys(kind for own in errors.values() for kind in own))
    says = (
        "How far logits are from not changing under group elements, || f(g x) - f(x) || / || f(x) || over up to 32 "
        "test images; each run with the group of its own net, and a net without one with turns by 45°. Of quarter "
        "turns and flips that a group has (lattice), only rounding is allowed."
    )
    rows = [
        [name, *(f"{own[kind]:.2e}" if kind in own else facts.UNKNOWN for kind in kinds)]
        + [f"{measured[name].lie[kind]:.3f}" for kind in LIE]
        for name, own in errors.items()
    ]
    head = ("", *kinds, *(f"Lie derivative, {kind}" for kind in LIE))
    shown = picture("equivariance", "Error of logits by kind of element.", draw_errors(errors, kinds))
    return Section("Equivariance", says, [shown, Table(rows, head)])


def draw_errors(errors: Mapping[str, Mapping[str, float]], kinds: Sequence[str]) -> Figure:
    """Points on a logarithmic axis.

    Args:
        errors: by run and kind.
        kinds: in the order in which they are drawn.
    """
    drawn = figure(max(5.0, 2.5 + 1.2 * len(kinds)), 3.8)
    axes = drawn.subplots()
    for (name, own), colour, marker in zip(errors.items(), cycle(COLOURS), cycle("osD^v")):
        heights = [max(error, 1e-17) for error in own.values()]  # zero has no place on a logarithmic axis
        at = [kinds.index(kind) for kind in own]
        axes.semilogy(at, heights, marker, color=colour, label=name, fillstyle="none", markersize=9)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set(xlim=(-0.5, len(kinds) - 0.5), xlabel="group elements", ylabel="relative error of logits")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return drawn


def redundancy(entries: Sequence[Entry]) -> Section:
    """Overall measures of kernels, beside their controls."""
    title = "Redundancy"
    found = {
        entry.name: numbers(own.trained, own.initial, own.random)
        for entry in entries
        if any((own := entry.subject).trained.values())
    }
    if not found:
        return Section(title, "No run has a layer with a group axis along which kernels could repeat themselves.")
    values = {measure: {name: controls(own, measure) for name, own in found.items()} for measure in MEASURES}
    absent = [entry.name for entry in entries if entry.name not in found]
    says = (
        "How much of a kernel is copies of itself along the group, as means over the layers whose form does not decide "
        "it, or over all if it does of all: trained, as the run began, and of white noise under the same windows"
        + (f"; no layer with a group axis: {', '.join(absent)}." if absent else ".")
    )
    rows = [
        [name, kind, *(f"{values[measure][name][kind]:.3f}" for measure in MEASURES)]
        for name in found
        for kind in values[MEASURES[0]][name]
    ]
    head = ("", "kernels", *(TITLES[measure] for measure in MEASURES))
    shown = picture("redundancy", "Measures of all runs.", draw_measures(values))
    return Section(title, says, [shown, Table(rows, head)])


def controls(found: Mapping[str, float], measure: str) -> dict[str, float]:
    """One overall measure of the trained kernels and of the controls that there are."""
    tags = {kind: f"redundancy/{measure}/overall" + ("" if kind == "trained" else f"/{kind}") for kind in LINES}
    return {kind: found[tag] for kind, tag in tags.items() if tag in found}


def draw_measures(values: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """A panel for each measure, runs beside each other, a bar for each kind of kernels.

    Args:
        values: by measure, run and kind.
    """
    drawn = figure(3.2 * len(values), 3.4)
    panels = drawn.subplots(1, len(values), squeeze=False)[0]
    for ax, (measure, runs) in zip(panels, values.items(), strict=True):
        for n, (kind, style) in enumerate(LINES.items()):
            at = {run + (n - 1) * 0.27: own[kind] for run, own in enumerate(runs.values()) if kind in own}
            ax.bar(list(at), list(at.values()), width=0.25, color=style["color"], label=kind)
        ax.set_xticks(range(len(runs)), list(runs), rotation=40, ha="right", rotation_mode="anchor")
        ax.set_title(TITLES[measure], fontsize=10)
    panels[0].legend(fontsize=8)
    return drawn


def costs(entries: Sequence[Entry]) -> Section:
    """Parameters, multiply-adds and time of an epoch."""
    says = (
        "Parameters, multiply-adds of matrix products and convolutions in a forward pass of one image and in "
        "assembling its kernels, and times as the files of the runs have them, an epoch with its validation and all "
        "looks at the net; they depend on the machines."
    )
    speeds = [facts.speed(entry.run, entry.subject) for entry in entries]
    keys = list(dict.fromkeys(key for own in speeds for key in own))
    rows = [
        [entry.name, *counts(entry.subject), *(own.get(key, facts.UNKNOWN) for key in keys)]
        for entry, own in zip(entries, speeds, strict=True)
    ]
    head = ("", "parameters", "multiply-adds of one image", "multiply-adds of the kernels", *keys)
    return Section("Costs", says, [Table(rows, head)])


def counts(subject: Subject | str) -> list[str]:
    """Parameters and multiply-adds."""
    if not isinstance(subject, Subject):
        return [facts.UNKNOWN] * 3
    total = subject.costs.total
    adds = (total.multiply_adds, subject.costs.assembly)
    return [facts.count(total.parameters), *map(facts.millions, adds)]


def reproduction(entries: Sequence[Entry]) -> Section:
    """The commands."""
    says = "The commands of the first sessions; the report of each run alone has its configuration."
    rows = [f"{facts.command(entry.run) or facts.UNKNOWN}  # {entry.name}" for entry in entries]
    return Section("Reproduction", says, [Code("\n".join(rows))])
