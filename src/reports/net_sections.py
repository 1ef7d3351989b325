"""Sections of what nets do: robustness, equivariance, redundancy of kernels, features and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from matplotlib.figure import Figure

from src.analysis.drawing import figure
from src.analysis.equivariance import LOGITS, Curve, Measured
from src.analysis.equivariance_figures import capital, draw_curves, draw_errors, draw_layers, explain
from src.analysis.moving import predict
from src.analysis.outcomes import draw_predictions
from src.analysis.pictures import TURNS, draw_features, draw_filters
from src.analysis.redundancy import LINES, MEASURES, WHOLE, Spectra, Spectrum, draw_redundancy, overall
from src.models.gconv import convolutions
from src.models.relaxed import relaxations
from src.reports.loaded_run import Entry, LoadedRun
from src.reports.page import Item, Section, Table, picture, table

_Runs = Mapping[str, LoadedRun]
"""By name; a run that is alone has none."""
_Kinds = Mapping[str, Mapping[str, Spectra]]
"""`LoadedRun.spectra`."""

_FILTERS = 6
"""Layers of which filters are shown; of more, so many from the first to the last."""
_MEASURES = {
    "first": "share of the first component",
    "first_centred": "the same, mean removed",
    "effective_rank": "effective rank",
    "components95": "components for 95 %",
}
"""What `MEASURES` are called."""
_OUTSIDE = {"edge": "its outermost pixels", "reflect": "its mirror image"}
"""What an image is continued by."""
_LIE = {"rotation": "radian", "scale": "unit of log scale"}
"""What derivatives are taken by."""
_PREDICTIONS = {
    "confusion": "Confusion matrix: labels in rows, predictions in columns.",
    "labels": "Recall and precision of every label.",
    "values": "Predictions against what is right, a panel for each value.",
    "worst": "Images of the largest loss.",
    "samples": "The first of the images.",
}
"""What `draw_predictions` shows."""
_RELAXED = (
    "Kernels of relaxed layers may differ between group elements. The spread of their weights on elements, relative to "
    "the root mean square, is 0 where a layer is equivariant as it was at initialisation."
)
_NO_GROUP = (
    "No layer has more than one group element and more than one pixel, so there is no group axis along which kernels "
    "could repeat themselves: so it is in a plain CNN (group=r2) and in nets without group convolutions."
)


def of_nets(entries: Sequence[Entry]) -> list[Section]:
    """All of them: of a run that is alone it is said why there is no net, of others those without are left out."""
    makers = {**_SHARED, **(_ALONE if len(entries) == 1 else {})}
    if runs := {entry.name: entry.loaded for entry in entries if isinstance(entry.loaded, LoadedRun)}:
        return [Section(title, *make(runs)) for title, make in makers.items()]
    why = f"Nothing can be shown here without the net and its data: {entries[0].loaded}"
    return [Section(title, why) for title in makers] if len(entries) == 1 else []


def _robustness(runs: _Runs) -> tuple[str, list[Item]]:
    """The metric by angle and by scale."""
    scores = list(dict.fromkeys(run.task.score for run in runs.values()))
    titles = capital(" or ".join(score.title for score in scores))
    says = f"{titles} on test images that are further turned about their centre or scaled; new pixels are interpolated."
    items: list[Item] = []
    for n, score in enumerate(scores):
        own = {name: run.measured for name, run in runs.items() if run.task.score == score}
        curves = ({name: each.rotation for name, each in own.items()}, {name: each.scale for name, each in own.items()})
        name = f"robustness-{n}" if n else "robustness"
        items.append(picture(name, f"{capital(score.title)} by angle and by scale.", draw_curves(*curves, score)))
    return says, [*items, table({name: _levels(run) for name, run in runs.items()})]


def _levels(run: LoadedRun) -> dict[str, str]:
    """The metric where images are, on average, and where it is worst."""
    measured, written = run.measured, partial(run.task.written, run.task.primary)
    levels = {"as they are": written(float(measured.rotation.score[0]))}
    curves: Mapping[str, tuple[Curve, str]] = {"angle": (measured.rotation, "°"), "scale": (measured.scale, " times")}
    for name, (curve, unit) in curves.items():
        n = measured.worst(curve)
        levels[f"mean over all {name}s"] = written(float(curve.score.mean()))
        levels[f"worst {name}"] = f"{written(float(curve.score[n]))} at {float(curve.at[n]):.3g}{unit}"
    border = _OUTSIDE[run.samples.border]
    return {**levels, "images": run.shown, "weights": run.weights, "an image is continued by": border}


def _equivariance(runs: _Runs) -> tuple[str, list[Item]]:
    """Errors of logits, and of layers if there is one net."""
    measured = {name: run.measured for name, run in runs.items()}
    says = (
        "How far each layer is from commuting with the group of its net, or with turns by 45° if that has none: "
        "|| f(g x) - g f(x) || / || g f(x) || over up to 32 test images that fade to zero at their rim, on group "
        "elements that move along; `logits` must not change at all. On quarter turns and flips (lattice) only rounding "
        "is allowed, elsewhere interpolated pixels add to it. Lie derivatives are in units of the logits' deviation."
    )
    if "" in runs:
        drawn = picture("equivariance", "Relative equivariance error by layer.", draw_layers(measured[""].errors))
    else:
        errors = {name: {kind: own[LOGITS] for kind, own in found.errors.items()} for name, found in measured.items()}
        drawn = picture("equivariance", "Relative error of logits by kind of group element.", draw_errors(errors))
    relaxed = {name: _relaxed(run) for name, run in runs.items()}
    relaxed = [_RELAXED, table(relaxed)] if any(relaxed.values()) else []
    flaws = [f"{name} {explain(own.flaw)}".strip() for name, own in measured.items() if own.flaw]
    return says, [drawn, table({name: _changes(own) for name, own in measured.items()}), *relaxed, *flaws]


def _changes(measured: Measured) -> dict[str, str]:
    """How logits and predictions change, by kind of element."""
    shares = {f"predictions that stay, {kind}": f"{100 * own:.2f} %" for kind, own in measured.agreement.items()}
    slopes = {f"Lie derivative, {kind}, per {unit}": f"{measured.lie[kind]:.3f}" for kind, unit in _LIE.items()}
    return {f"error of logits, {kind}": f"{own[LOGITS]:.2e}" for kind, own in measured.errors.items()} | shares | slopes


def _relaxed(run: LoadedRun) -> dict[str, str]:
    """How far layers have relaxed."""
    return {f"spread of weights, {name}": f"{own.spread():.2e}" for name, own in relaxations(run.net).items()}


def _redundancy(runs: _Runs) -> tuple[str, list[Item]]:
    """Spectra of kernels along the group."""
    found = {name: run.spectra for name, run in runs.items() if any(run.spectra["trained"].values())}
    if not found:
        return _NO_GROUP, []
    absent = [name for name in runs if name not in found]
    says = (
        "How much of a kernel is copies of itself along the group: singular values of every kernel as a matrix "
        "(elements, pixels), as means over a layer, beside two controls, the weights that the run began with, built "
        "anew (left out if they are gone), and white noise under the same windows. A layer of rank 1 by its form has "
        "that rank whatever it learns, and says nothing about training; overall means leave it out, unless all are so."
        + (f" Runs that have no layer with a group axis: {', '.join(absent)}." if absent else "")
    )
    if "" in found:
        drawn, rows, head = draw_redundancy(**found[""]), _spectrum_rows(found[""]), ("layer", "rank by its form")
    else:
        means = {name: overall(kinds) for name, kinds in found.items()}
        rows = [[name, *_row(kind, own)] for name, kinds in means.items() for kind, own in kinds.items()]
        drawn = _draw_means(means)
        head = ("",)
    shown = picture("redundancy", "What is shared along the group, beside both controls.", drawn)
    return says, [shown, Table(rows, (*head, "kernels", *_MEASURES.values()))]


def _spectrum_rows(kinds: _Kinds) -> list[list[str]]:
    """A row for each layer, part and kind, and then the means."""
    rows = []
    for layer, measured in kinds["trained"].items():
        for part, own in measured.items():
            name = (layer if part == WHOLE else f"{layer}, {part}", "1" if own.forced else "any")
            there = {kind: found[layer][part] for kind, found in kinds.items() if part in found.get(layer, {})}
            rows += [[*name, *_row(kind, spectrum)] for kind, spectrum in there.items()]
    return rows + [["mean", "", *_row(kind, own)] for kind, own in overall(kinds).items()]


def _row(kind: str, spectrum: Spectrum) -> list[str]:
    """Of a table, `MEASURES` to three places."""
    return [kind, *(f"{getattr(spectrum, measure):.3f}" for measure in MEASURES)]


def _draw_means(runs: Mapping[str, Mapping[str, Spectrum]]) -> Figure:
    """A panel for each of `MEASURES`, runs beside each other, a bar for each kind of kernels; see `overall`."""
    drawn = figure(3.2 * len(MEASURES), 3.4)
    panels = drawn.subplots(1, len(MEASURES))
    for ax, (measure, title) in zip(panels, _MEASURES.items(), strict=True):
        for n, (kind, style) in enumerate(LINES.items()):
            there = {run: own[kind] for run, own in enumerate(runs.values()) if kind in own}
            at = {run + (n - 1) * 0.27: getattr(own, measure) for run, own in there.items()}
            ax.bar(list(at), list(at.values()), width=0.25, color=style["color"], label=kind)
        ax.set_xticks(range(len(runs)), list(runs), rotation=40, ha="right", rotation_mode="anchor")
        ax.set_title(title, fontsize=10)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LINES))
    return drawn


def _kernels(runs: _Runs) -> tuple[str, list[Item]]:
    """Filters of layers with a window."""
    (run,) = runs.values()
    layers = {name: conv for name, conv in convolutions(run.net).items() if conv.kernel_size > 1}
    if not layers:
        return "The net has no group convolution with a window, so there are no filters to draw.", []
    names, last = list(layers), len(layers) - 1
    chosen = names if last < _FILTERS else [names[n * last // (_FILTERS - 1)] for n in range(_FILTERS)]
    says = (
        f"Kernels as they are convolved with, of {len(chosen)} of the {len(names)} layers with a window and a few "
        "pairs of channels; of lifting along output elements, where they are turned or scaled copies of one, of all "
        "others along the input elements of the first output element. Colours are shares of a pair's largest weight."
    )
    return says, [
        picture(f"filters-{n}", f"{name}: filters along the group.", draw_filters(layers[name]))
        for n, name in enumerate(chosen, 1)
    ]


def _features(runs: _Runs) -> tuple[str, list[Item]]:
    """Feature maps of a turned image."""
    (run,) = runs.values()
    layers = convolutions(run.net)
    if not layers:
        return "The net has no group convolution, so there are no features on a group to draw.", []
    name = next(iter(layers))
    says = (
        f"The first of the test images under turns of {360 // TURNS}°, and one channel of the first layer, `{name}`: "
        "maps turn with the image, and with a group of rotations they also move along its elements."
    )
    with torch.no_grad():
        drawn = draw_features(run.samples, layers[name], name, partial(predict, run.net))
    return says, [picture("features", "Feature maps of a turned test image.", drawn)]


def _predictions(runs: _Runs) -> tuple[str, list[Item]]:
    """What the net gets right and wrong."""
    (run,) = runs.values()
    says = (
        f"What is predicted, on {run.shown}; the first of them, and those of the largest loss, each with what is right "
        "and, after an arrow, what was predicted where that is something else; of classes also with the probability "
        "that the net gives to its prediction."
    )
    figures = draw_predictions(run.task, run.samples, run.outputs)
    return says, [picture(name, _PREDICTIONS[name], drawn) for name, drawn in figures.items()]


_SHARED: Mapping[str, Callable[[_Runs], tuple[str, list[Item]]]] = {
    "Robustness": _robustness,
    "Equivariance": _equivariance,
    "Redundancy": _redundancy,
}
"""What is shown of one net and of several beside each other, by title."""
_ALONE: Mapping[str, Callable[[_Runs], tuple[str, list[Item]]]] = {
    "Kernels": _kernels,
    "Features": _features,
    "Predictions": _predictions,
}
"""What is shown of a net that is alone."""
