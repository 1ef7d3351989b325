"""The page of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

from src.analysis.equivariance import LOGITS, Measured
from src.analysis.equivariance_figures import draw_curves, draw_layers, explain
from src.analysis.moving import predict
from src.analysis.pictures import (
    COLUMNS,
    ROWS,
    TURNS,
    draw_confusion,
    draw_filters,
    draw_rotation,
    draw_samples,
    outputs,
)
from src.analysis.redundancy import MEASURES, WHOLE, Spectra, Spectrum, averaged, draw_redundancy
from src.data.warp import rotate
from src.models.gconv import convolutions
from src.reports import facts
from src.reports.curves import Line, draw_lines, lines, scalars
from src.reports.loaded_run import Subject
from src.reports.page import Code, Item, Note, Picture, Section, Table, picture
from src.runs.record import Run

FILTERS = 6
"""Layers of which filters are shown; of more, so many from the first to the last."""
TITLES = {
    "first": "share of the first component",
    "first_centred": "the same, mean removed",
    "effective_rank": "effective rank",
    "components95": "components for 95 %",
}
"""What `MEASURES` are called."""
OUTSIDE = {"edge": "its outermost pixels", "reflect": "its mirror image"}
"""What an image is continued by."""
LIE = {"rotation": "radian", "scale": "unit of log scale"}
"""What derivatives are taken by."""
TIMES = "Times and memory as the run's files have them, an epoch with its validation and all looks at the net"
NO_GROUP = (
    "No layer of this net has more than one group element and more than one pixel, so there is no group axis along "
    "which kernels could repeat themselves: so it is in a plain CNN (group=r2) and in nets without group convolutions."
)


def sections(run: Run, subject: Subject | str) -> list[Section]:
    """All of them, in their order.

    Args:
        run: in any state.
        subject: its net, or why there is none.
    """
    return [
        summary(run, subject),
        curves(run),
        *(of_net(title, make, subject) for title, make in OF_NET.items()),
        costs(run, subject),
        reproduction(run),
    ]


def of_net(title: str, make: Callable[[Subject], tuple[str, list[Item]]], subject: Subject | str) -> Section:
    """A section that needs the net and its data."""
    if isinstance(subject, Subject):
        return Section(title, *make(subject))
    return Section(title, f"Nothing can be shown here without the net and its data: {subject}")


def summary(run: Run, subject: Subject | str) -> Section:
    """What a run came to, and where it comes from."""
    says = (
        "What the run came to and where it comes from, as its own files have it: the test set was looked at once, with "
        "the weights of the best epoch by validation."
    )
    head = ("session", "begun", "ended", "status", "host", "commit")
    items: list[Item] = [Table(pairs(facts.results(run, subject))), Table(pairs(facts.origin(run)))]
    visits = facts.visits(run)
    return Section("Result", says, [*items, Table(visits, head)] if visits else items)


def curves(run: Run) -> Section:
    """What was logged in training."""
    title, there = "Training", lines(scalars(run))
    if not there:
        return Section(title, "There are no curves: the run has no TensorBoard files, or no epoch that is over.")
    panels = {
        "loss": {"training": "train/loss", "validation": "val/loss"},
        "accuracy": {"training": "train/acc", "validation": "val/acc"},
        "learning rate": rates(there),
    }
    drawn = {name: {label: there[tag] for label, tag in own.items() if tag in there} for name, own in panels.items()}
    labels = {"loss": "cross-entropy, nats", "accuracy": "share of images", "learning rate": "learning rate"}
    says = (
        "Loss, accuracy and learning rate over epochs, read from the run's TensorBoard files; those of training are "
        "means over an epoch, while the weights change and images are augmented."
    )
    figure = draw_lines({name: own for name, own in drawn.items() if own}, labels)
    return Section(title, says, [picture("training", "Loss, accuracy and learning rate over epochs.", figure)])


def rates(there: Mapping[str, Line]) -> dict[str, str]:
    """The tags of learning rates, once where groups of parameters have the same, by the names of these groups."""
    alike: dict[str, list[str]] = {}
    for tag in (tag for tag in there if tag.startswith("lr-")):
        first = next((other for other in alike if there[other] == there[tag]), tag)
        alike.setdefault(first, []).append(tag.removeprefix("lr-"))
    return {"\n".join(names): tag for tag, names in alike.items()}


def robustness(subject: Subject) -> tuple[str, list[Item]]:
    """Accuracy by angle and by scale."""
    measured = subject.measured
    says = (
        f"Accuracy on {subject.shown}, further turned about their centre or scaled, with the weights of "
        f"{subject.weights}; new pixels are interpolated, and an image is continued by {OUTSIDE[subject.data.border]}."
    )
    rows = {
        "as they are": facts.percent(float(measured.rotation.accuracy[0])),
        "mean over all angles": facts.percent(float(measured.rotation.accuracy.mean())),
        "worst angle": worst(*measured.rotation, "°"),
        "mean over all scales": facts.percent(float(measured.scale.accuracy.mean())),
        "worst scale": worst(*measured.scale, " times"),
    }
    drawn = draw_curves({"": measured.rotation}, {"": measured.scale})
    return says, [picture("robustness", "Accuracy on test images by angle and by scale.", drawn), Table(pairs(rows))]


def equivariance(subject: Subject) -> tuple[str, list[Item]]:
    """Errors of layers and of predictions."""
    measured = subject.measured
    says = (
        "How far each layer is from commuting with the group: || f(g x) - g f(x) || / || g f(x) || over up to 32 test "
        "images that fade to zero at their rim, on group elements that move along; `logits` must not change at all. "
        "On quarter turns and flips (lattice) only rounding is allowed, elsewhere interpolating pixels costs accuracy."
    )
    items = [
        picture("equivariance", "Relative equivariance error by layer.", draw_layers(measured.errors)),
        Table(changes(measured), ("elements", "relative error of logits", "predictions that stay the same")),
        Table(
            [[f"{kind}, per {unit}", f"{measured.lie[kind]:.3f}"] for kind, unit in LIE.items()],
            ("Lie derivative of the logits, in units of their deviation", ""),
        ),
    ]
    return says, [*items, Note(explain(measured.flaw))] if measured.flaw else items


def redundancy(subject: Subject) -> tuple[str, list[Item]]:
    """Spectra of kernels along the group."""
    trained, initial, random = subject.trained, subject.initial, subject.random
    if not any(trained.values()):
        return NO_GROUP, []
    began = "the weights that the run began with, built anew" if initial else "(the weights it began with are gone)"
    says = (
        "How much of a kernel is copies of itself along the group: singular values of every kernel as a matrix "
        f"(elements, pixels), as means over a layer, beside two controls, {began} and white noise under the same "
        "windows. A layer of rank 1 by its form has that rank whatever it learns, and says nothing about training."
    )
    head = ("layer", "rank by its form", "kernels", *(TITLES[measure] for measure in MEASURES))
    drawn = draw_redundancy(trained, initial, random)
    return says, [
        picture("redundancy", "Cumulative share of energy by number of components.", drawn),
        Table(spectrum_rows({"trained": trained, "initial": initial, "random": random}), head),
    ]


def spectrum_rows(kinds: Mapping[str, Mapping[str, Spectra]]) -> list[list[str]]:
    """A row for each layer, part and kind, and the means over the layers that their form leaves free."""
    trained = kinds["trained"]
    rows = []
    for layer, measured in trained.items():
        for part, own in measured.items():
            name = (layer if part == WHOLE else f"{layer}, {part}", "1" if own.forced else "any")
            there = {kind: spectra[layer][part] for kind, spectra in kinds.items() if part in spectra.get(layer, {})}
            rows += [[*name, kind, *measures([spectrum])] for kind, spectrum in there.items()]
    for kind, spectra in kinds.items():
        if chosen := [spectra[layer][WHOLE] for layer in averaged(trained) if WHOLE in spectra.get(layer, {})]:
            rows.append(["mean", "", kind, *measures(chosen)])
    return rows


def measures(spectra: Sequence[Spectrum]) -> list[str]:
    """Means of `MEASURES`."""
    means = [sum(getattr(own, measure) for own in spectra) / len(spectra) for measure in MEASURES]
    return [f"{mean:.3f}" for mean in means]


def kernels(subject: Subject) -> tuple[str, list[Item]]:
    """Filters of layers with a window."""
    layers = {name: conv for name, conv in convolutions(subject.net).items() if conv.kernel_size > 1}
    if not layers:
        return "The net has no group convolution with a window, so there are no filters to draw.", []
    names = list(layers)
    chosen = names if len(names) <= FILTERS else [names[n * (len(names) - 1) // (FILTERS - 1)] for n in range(FILTERS)]
    says = (
        f"Kernels as they are convolved with, of {len(chosen)} of the {len(names)} layers with a window and a few "
        "pairs of channels; of lifting along output elements, where they are turned or scaled copies of one, of all "
        "others along the input elements of the first output element. Colours are shares of a pair's largest weight."
    )
    return says, [
        picture(f"filters-{n}", f"{name}: filters along the group.", draw_filters(layers[name]))
        for n, name in enumerate(chosen, 1)
    ]


def features(subject: Subject) -> tuple[str, list[Item]]:
    """Feature maps of a turned image."""
    layers = convolutions(subject.net)
    if not layers:
        return "The net has no group convolution, so there are no features on a group to draw.", []
    name = next(iter(layers))
    says = (
        f"The first of the test images under turns of {360 // TURNS}°, and one channel of the first layer, `{name}`: "
        "maps turn with the image, and with a group of rotations they also move along its elements."
    )
    turned = turns(subject)
    with torch.no_grad():
        field = outputs(layers[name], lambda: predict(subject.net, subject.test.normalise(turned)))
    drawn = draw_rotation(turned, field, layers[name], name)
    return says, [picture("features", "Feature maps of a turned test image.", drawn)]


def turns(subject: Subject) -> Tensor:
    """An image under `TURNS` turns, (n, c, y, x) in [0, 1]."""
    image = subject.test.denormalise(subject.images[:1]).expand(TURNS, -1, -1, -1)
    angles = 2 * pi * torch.arange(TURNS, dtype=torch.float64, device=image.device) / TURNS
    return rotate(image, angles, border=subject.data.source.border)


def predictions(subject: Subject) -> tuple[str, list[Item]]:
    """What the net gets right and wrong."""
    says = (
        f"What is taken for what, on {subject.shown}; the first of them, and those of the largest loss, each with its "
        "label, what it was taken for if that is wrong, and the probability that the net gives to it."
    )
    losses = functional.cross_entropy(subject.logits, subject.labels, reduction="none")
    worst = losses.argsort(descending=True, stable=True)
    confusion = draw_confusion(subject.labels, subject.logits.argmax(1), subject.data.source.labels)
    return says, [
        picture("confusion", "Confusion matrix: labels in rows, predictions in columns.", confusion),
        samples(subject, "worst", "Images of the largest loss.", worst),
        samples(subject, "samples", "The first of the images.", torch.arange(len(worst), device=worst.device)),
    ]


def samples(subject: Subject, name: str, says: str, order: Tensor) -> Picture:
    """The first images in an order (n,)."""
    rows = order[: COLUMNS * ROWS]
    shown = subject.test.denormalise(subject.images[rows])
    return picture(
        name, says, draw_samples(shown, subject.labels[rows], subject.logits[rows], subject.data.source.labels)
    )


def costs(run: Run, subject: Subject | str) -> Section:
    """Parameters, multiply-adds and time."""
    items: list[Item] = [Table(pairs(facts.speed(run, subject)))]
    if not isinstance(subject, Subject):
        return Section("Costs", f"{TIMES}; nothing more can be said without the net.", items)
    counted = subject.costs
    rows = [
        [name, facts.count(part.parameters), facts.millions(part.multiply_adds)]
        for name, part in {**counted.parts, "all": counted.total}.items()
    ]
    says = (
        f"{TIMES}; parameters, and multiply-adds of a forward pass of one image, "
        "counted while it runs (FlopCounterMode, halved): those of matrix products and convolutions, and of nothing "
        f"else. Kernels are assembled once for all images, for another {facts.millions(counted.assembly)}."
    )
    head = ("part of the net", "parameters", "multiply-adds of one image")
    return Section("Costs", says, [Table(rows, head), *items])


def reproduction(run: Run) -> Section:
    """The command and the configuration."""
    says = (
        "The command of the run's first session, to be typed at the commit above (a + says that files differed from "
        "it), and its whole configuration, resolved."
    )
    typed, configuration = facts.command(run), facts.configuration(run)
    items = [
        Code(typed) if typed else Note("The command is not known: the run's status.json does not have it."),
        Code(configuration) if configuration else Note("There is no config.yaml that can be read."),
    ]
    return Section("Reproduction", says, items)


def changes(measured: Measured) -> list[list[str]]:
    """How logits and predictions change, by kind of element."""
    rows = []
    for kind, errors in measured.errors.items():
        same = measured.agreement.get(kind)
        rows.append([kind, f"{errors[LOGITS]:.2e}", facts.percent(same)])
    return rows


def worst(at: Tensor, accuracy: Tensor, unit: str) -> str:
    """The lowest accuracy, and where it is."""
    n = int(accuracy.argmin())
    return f"{facts.percent(float(accuracy[n]))} at {float(at[n]):.3g}{unit}"


def pairs(rows: Mapping[str, str]) -> list[tuple[str, str]]:
    """A name and its value in each row."""
    return list(rows.items())


OF_NET: Mapping[str, Callable[[Subject], tuple[str, list[Item]]]] = {
    "Robustness": robustness,
    "Equivariance": equivariance,
    "Redundancy": redundancy,
    "Kernels": kernels,
    "Features": features,
    "Predictions": predictions,
}
"""What needs the net and its data, by title."""
