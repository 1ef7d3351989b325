"""How much of a group-convolution kernel is copies of itself along the group, beside two controls."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from math import prod
from statistics import fmean
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from src.analysis.drawing import COLOURS, figure
from src.groups import Group
from src.models import GConv
from src.models.factorisation import parts_of
from src.models.gconv import convolutions

WHOLE = "all"
"""The name of the spectrum along the whole group, beside those of its parts."""
LINES: dict[str, dict[str, Any]] = {
    "initial": {"color": COLOURS[4], "linewidth": 5},
    "trained": {"color": COLOURS[0], "marker": "o"},
    "random": {"color": COLOURS[2], "marker": "^", "linestyle": ":"},
}
"""How each is drawn; the first is wide, for in the first look it lies under the second."""
_ROUNDING = 1e-12
"""A share of the energy below which what is left of a float32 kernel is rounding."""


class Spectrum(NamedTuple):
    """The singular values s of matrices (elements, pixels), as means over kernels."""

    first: float
    """Share of the first component, s_1^2 / sum s^2; the mean over the elements is not removed."""
    first_centred: float
    """The same after the mean over the elements is removed; 1 for a kernel that is constant along the group."""
    effective_rank: float
    """exp of the entropy of s / sum s, not centred: between 1 and the number of singular values."""
    components95: float
    """The smallest number of components that hold 95 % of the energy, not centred."""
    shares: tuple[float, ...]
    """Every component's share of the energy, descending, not centred."""
    forced: bool = False
    """Whether all matrices have rank 1 by the form of the kernel, whatever is learned."""


MEASURES = ("first", "first_centred", "effective_rank", "components95")

Spectra = Mapping[str, Spectrum]
"""A layer's, along the whole group and along each part."""


def group_convolutions(net: nn.Module) -> dict[str, GConv]:
    """The layers that have a group axis and pixels to speak of, by their names in the net.

    Left out are kernels of one element, kernels that do not depend on the group, such as lifting's, and those of which
    the mask leaves one pixel.
    """
    return {name: conv for name, conv in convolutions(net).items() if _measurable(conv)}


def _measurable(conv: GConv) -> bool:
    """Whether matrices (elements, pixels) of a layer's kernels have more than one row, and columns that differ."""
    if not conv.kernel.carried or len(conv.kernel.grid) == 1:
        return False
    return int((_identity_envelope(conv) != 0).any(0).sum()) > 1


def spectra(conv: GConv) -> dict[str, Spectrum]:
    """Of a layer's kernels for the identity as output element, where all input elements share one spatial frame.

    Returns:
        `all` for the whole group, and, for a product, one for each part of more than one element, named by what it
        counts, such as `rotations`: over all kernels and all elements of the other parts. Nothing if all kernels are
        zero or not finite.
    """
    with torch.no_grad():
        kernels = conv.weight(conv.group.identity, conv.kernel.grid)
    return _spectra_of(torch.einsum("oaib...->aoib...", kernels).flatten(0, 2), conv)


def random_spectra(conv: GConv, draws: int = 256) -> dict[str, Spectrum]:
    """`spectra` of kernels that are white noise under the layer's masks: of no structure but what these impose.

    Args:
        conv: the layer.
        draws: how many kernels; always the same ones.
    """
    envelope = _identity_envelope(conv)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(draws, *envelope.shape, dtype=torch.float64, generator=generator)
    found = _spectra_of(noise.to(envelope.device) * envelope, conv)
    return {name: spectrum._replace(forced=False) for name, spectrum in found.items()}


@torch.no_grad()
def _identity_envelope(conv: GConv) -> Tensor:
    """What multiplies the kernel nets' values for the identity as output element: (b, *taps), float64."""
    envelope = conv.kernel.envelope(conv.group.identity, conv.kernel.grid)[0].double()
    return envelope.expand(len(conv.kernel.grid), *conv.kernel.window.taps)


def _spectra_of(kernels: Tensor, conv: GConv) -> dict[str, Spectrum]:
    """Of kernels (n, b, *taps) on the elements of a layer, along all of the group and along its parts."""
    sizes = [prod(own) for _, own in conv.group.part_sizes(conv.elements)]
    found = {WHOLE: _spectrum(kernels, _forced(conv))}
    for part, name in enumerate(_part_names(conv.group)) if len(sizes) > 1 else ():
        if sizes[part] > 1:
            others = kernels.flatten(2).unflatten(1, sizes)
            slices = others.movedim(1 + part, -2).flatten(0, -3)
            found[name] = _spectrum(slices, _forced(conv, part))
    return {name: of for name, of in found.items() if of is not None}


def _part_names(group: Group) -> list[str]:
    """What each part counts, as one word; with its place in the product where two parts count the same."""
    words = ["_".join(part.counts).replace(" ", "_") for part in group.parts]
    return [word if words.count(word) == 1 else f"{word}_h{n}" for n, word in enumerate(words)]


def _forced(conv: GConv, part: int | None = None) -> bool:
    """Whether the form of a kernel leaves matrices of rank 1: no factor joins pixels with the group, or with a part.

    Masks are functions of one coordinate each and join nothing; a sum over ranks joins all that they are part of.
    """
    count = len(conv.group.parts)
    along = frozenset(range(count) if part is None else [part])
    form = conv.kernel.factorisation
    joint = [factor.coordinates for factor in form.factors if "x" in factor.coordinates]
    if conv.relaxed > 1 and any("x" in form.factors[n].coordinates for n in form.ranked):
        joint += [form.factors[n].coordinates for n in form.ranked]
    return not any(parts_of(word, count) & along for coordinates in joint for word in coordinates)


def _spectrum(kernels: Tensor, forced: bool = False) -> Spectrum | None:
    """Of kernels (n, b, *taps) as n matrices (b, y x), in float64.

    Args:
        kernels: those that are zero or not finite are left out.
        forced: see `Spectrum`.

    Returns:
        None if no kernel is left.

    Reference:
        The effective rank: a measure of effective dimensionality (Roy, Vetterli, 2007)
        https://ieeexplore.ieee.org/document/7098875
    """
    matrices = kernels.double().flatten(2)
    norms = torch.linalg.matrix_norm(matrices)
    kept = (norms > 0) & norms.isfinite()
    if not kept.any():
        return None
    matrices = matrices[kept] / norms[kept, None, None]
    energies = _component_energies(matrices)
    shares = energies / energies.sum(-1, keepdim=True)
    weights = energies.sqrt() / energies.sqrt().sum(-1, keepdim=True)
    # A sum that is 95 % up to rounding is 95 %.
    components95 = 1 + (shares.cumsum(-1) < 0.95 - _ROUNDING).sum(-1).double()
    varying = _component_energies(matrices - matrices.mean(1, keepdim=True))
    left = varying.sum(-1)
    first_centred = torch.where(left > _ROUNDING, varying[:, 0] / left, 1.0)
    effective_rank = torch.special.entr(weights).sum(-1).exp()
    each = (shares[:, 0], first_centred, effective_rank, components95)
    return Spectrum(*(float(values.mean()) for values in each), tuple(shares.mean(0).tolist()), forced)


def _component_energies(matrices: Tensor) -> Tensor:
    """Squared singular values, descending: (n, b, u) -> (n, min(b, u))."""
    _, b, u = matrices.shape
    gram = torch.einsum("nbu,ncu->nbc" if b <= u else "nbu,nbv->nuv", matrices, matrices)
    energies = torch.linalg.eigvalsh(gram).flip(-1)
    # Below this an eigenvalue is rounding, and its root, which the effective rank takes, would not be small.
    rounding = gram.shape[-1] * torch.finfo(gram.dtype).eps * energies[:, :1]
    return torch.where(energies > rounding, energies, 0.0)


def numbers(
    trained: Mapping[str, Spectra], initial: Mapping[str, Spectra], random: Mapping[str, Spectra]
) -> dict[str, float]:
    """The measures of all layers and their overall means, by tag; the arguments are those of `draw_redundancy`."""
    found, kinds = {}, {"trained": trained, "initial": initial, "random": random}
    means = overall(kinds)
    for kind, layers in kinds.items():
        control = "" if kind == "trained" else f"/{kind}"
        named = {"overall": means[kind]} if kind in means else {}
        for layer, parts in layers.items():
            named |= {layer if part == WHOLE else f"{layer}/{part}": spectrum for part, spectrum in parts.items()}
        for name, spectrum in named.items():
            found |= {f"redundancy/{measure}/{name}{control}": getattr(spectrum, measure) for measure in MEASURES}
    return found


def overall(kinds: Mapping[str, Mapping[str, Spectra]]) -> dict[str, Spectrum]:
    """Means over the layers whose form does not decide their rank, or over all if there are none, without shares.

    Args:
        kinds: spectra by layer of "trained" kernels, and of controls.
    """
    found, trained = {}, kinds["trained"]
    free = [layer for layer, measured in trained.items() if WHOLE in measured and not measured[WHOLE].forced]
    for kind, layers in kinds.items():
        if chosen := [layers[layer][WHOLE] for layer in free or trained if WHOLE in layers.get(layer, {})]:
            means = [fmean(getattr(spectrum, measure) for spectrum in chosen) for measure in MEASURES]
            found[kind] = Spectrum(*means, shares=())
    return found


def draw_redundancy(
    trained: Mapping[str, Spectra],
    initial: Mapping[str, Spectra],
    random: Mapping[str, Spectra],
    columns: int = 3,
) -> Figure:
    """Cumulative shares of energy against the number of components, a panel for every layer and part.

    Args:
        trained: spectra by layer.
        initial: of the same layers at the start of training; those that are missing are not drawn.
        random: of random kernels under the same masks; likewise.
        columns: panels in a row.

    Raises:
        ValueError: if there are no spectra.
    """
    panels = [(layer, name) for layer, measured in trained.items() for name in measured]
    if not panels:
        raise ValueError("`trained` must have the spectra of a layer, but got none; see `group_convolutions`.")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    drawn = figure(3.4 * columns, 2.6 * rows)
    axes = drawn.subplots(rows, columns, squeeze=False).flatten()
    for ax, (layer, name) in zip(axes, panels, strict=False):
        for label, layers in {"initial": initial, "trained": trained, "random": random}.items():
            if name in layers.get(layer, {}):
                shares = list(accumulate(layers[layer][name].shares))
                ax.plot(range(1, len(shares) + 1), shares, label=label, markersize=3, **LINES[label])
        ax.set(xlabel="components", ylabel="share of energy", ylim=(0, 1.05))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = layer if name == WHOLE else f"{layer}, {name}"
        ax.set_title(title + ("\nrank 1 by its form" if trained[layer][name].forced else ""), fontsize=9)
    axes[0].legend(fontsize=8, loc="lower right")
    for ax in axes[len(panels) :]:
        ax.remove()
    return drawn
