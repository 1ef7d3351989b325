"""Kernels of one form fitted by those of another: what a trained net loses where its kernels get fewer factors."""

from __future__ import annotations

from copy import deepcopy
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.analysis.best_factors import Assembled, Table, best_tables, double, solve
from src.models import GConv
from src.models.gconv import convolutions
from src.models.kernel import GroupKernel
from src.models.kernels import Constant, Lattice

_EXACT = 1e-6
"""A relative error that is rounding in single precision."""
_RANK = 1e-6
"""Singular values below this share of the largest are left out of least squares: they would make huge weights."""


class _Projection(NamedTuple):
    """What a layer lost: ||K' - K|| / ||K|| of assembled kernels, over all elements of its grid."""

    form: float
    """With the best factors that the form has, as tables of free values: what the form itself costs."""
    fitted: float
    """With the kernel nets that were fitted to them."""
    kept: bool = False
    """Whether the kernel was taken over as it is, having the same form and nets in both."""


def matched(source: nn.Module, target: nn.Module) -> dict[str, tuple[GConv, GConv]]:
    """The group convolutions of two nets, by their names in both.

    Raises:
        ValueError: naming a layer that differs in more than its kernel's form and nets; or if there is none at all.
    """
    ours, theirs = convolutions(source), convolutions(target)
    if not ours:
        raise ValueError(f"the net must have group convolutions, but {type(source).__name__} has none.")
    for name in ours | theirs:
        before, after = _geometry(ours.get(name)), _geometry(theirs.get(name))
        if before != after:
            raise ValueError(
                f"the layer `{name}` must be the same but for its kernel, but was {before}, and is {after}; change "
                "`implementation`, and `kernel` if you like."
            )
    return {name: (conv, theirs[name]) for name, conv in ours.items()}


def _geometry(conv: GConv | None) -> str:
    """All that two layers must have in common."""
    if conv is None:
        return "not there"
    window = f"{conv.kernel_size} taps, stride {conv.stride}, padding {conv.padding}"
    return (
        f"{conv.in_channels} to {conv.out_channels} channels, {window}, {list(conv.elements)} elements of {conv.group}"
    )


def project(source: GConv, target: GConv, steps: int = 100) -> _Projection:
    """Give a layer the kernel that is nearest to another layer's, as far as its form and its kernel nets allow.

    The best factors are found as tables of free values. One after the other, what is linear in their kernel nets, such
    as last layers, is fitted to them by least squares, given the other weights as they are; and then all weights to
    the kernel by L-BFGS. All of it goes by the target's own assembly, so that masks, scales, determinants and the
    low-pass count. Masks that are learned are taken over.

    Args:
        source: the trained layer, which is not changed.
        target: another one of the same geometry (see `matched`), whose kernel is replaced.
        steps: of L-BFGS; 0 leaves it at least squares.

    Returns:
        The relative errors. Where the source's weights mean the same in the target, they are copied.

    Raises:
        ValueError: if the source's kernel is zero or not finite, or the masks differ.

    Example:
        >>> from functools import partial
        >>> from src.groups import SO2
        >>> make = partial(GConv, 2, 3, 3, group=SO2(), elements=(4,), kernel=Lattice)
        >>> project(make(implementation="separable"), make(implementation="nonseparable")).fitted < 1e-6
        True
    """
    own, state = double(target.kernel), source.kernel.state_dict()
    wanted = Assembled.of(source.kernel, own)
    if not 0 < float(wanted.values.abs().sum()) < float("inf"):
        raise ValueError("a kernel must be finite and not zero to be projected; those of this run are not.")
    if source.kernel.factorisation == own.factorisation and _shapes(state) == _shapes(own.state_dict()):
        own.load_state_dict(state)
        if wanted.error(own) < _EXACT:
            target.kernel.load_state_dict(state)
            return _Projection(0.0, 0.0, kept=True)
    _take_over_masks(source.kernel, own)
    tables = best_tables(own, wanted)
    form = wanted.error(tables)
    # The largest first: a table that comes later makes up for what the kernel nets before it cannot be.
    for n in sorted(range(len(own.nets)), key=lambda n: -len(tables.nets[n].weight)):
        with torch.no_grad():
            solve(tables, tables.nets[n], wanted)
        _regress(own.nets[n], tables.nets[n])
        tables.nets[n] = own.nets[n]
    if steps and wanted.error(own) > form + _EXACT:
        _descend(own, wanted, steps)
    target.kernel.load_state_dict(own.state_dict())
    return _Projection(form, wanted.error(double(target.kernel)))


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _take_over_masks(source: GroupKernel, target: GroupKernel) -> None:
    """Those that are learned. Raises ValueError if they are of different kinds."""
    for word, mask in target.masks.items():
        known = source.masks[word].state_dict() if word in source.masks else {}
        if _shapes(known) == _shapes(mask.state_dict()):
            mask.load_state_dict(known)
    if source.window != target.window:
        raise ValueError("`mask` must be the same for both kernels, but they are cut off at different places.")


@torch.no_grad()
def _regress(net: nn.Module, table: Table) -> None:
    """Fit what a kernel net is linear in, its `output` or all of its weights, to a table, if there is such a thing.

    Rows count as much as the kernel depends on them.
    """
    importance = table.energy.sqrt()[:, None]
    if isinstance(output := getattr(net, "output", None), nn.Linear):
        net.output = nn.Identity()
        features = table.evaluate(net)
        net.output = output
        ones = torch.ones_like(features[:, :1]) if output.bias is not None else features[:, :0]
        found = _least_squares(torch.cat([features, ones], -1) * importance, table.weight * importance)
        output.weight.copy_(found[: output.in_features].mT)
        if output.bias is not None:
            output.bias.copy_(found[-1])
    elif isinstance(net, Constant | Lattice):
        weight, sites = net.weight, net.weight.shape[:-1]
        net.weight = nn.Parameter(torch.eye(prod(sites)).to(weight).reshape(*sites, -1))
        basis = table.evaluate(net)
        net.weight = weight
        weight.copy_(_least_squares(basis * importance, table.weight * importance).reshape(weight.shape))


def _least_squares(basis: Float[Tensor, "p k"], values: Float[Tensor, "p v"]) -> Float[Tensor, "k v"]:
    """The smallest solution."""
    return torch.linalg.lstsq(basis, values, rcond=_RANK, driver="gelsd").solution


def _descend(kernel: GroupKernel, wanted: Assembled, steps: int) -> None:
    """Steps of L-BFGS on all weights of the kernel nets, undone if they led away."""
    before, state = wanted.error(kernel), deepcopy(kernel.state_dict())
    parameters = list(kernel.nets.parameters())
    options = {"history_size": 20, "tolerance_grad": 0.0, "tolerance_change": 1e-12}
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe", **options)

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = wanted.loss(kernel)
        found.backward()
        return found

    optimiser.step(loss)
    if not wanted.error(kernel) < before:
        kernel.load_state_dict(state)
