"""Which parameters are trained how: groups by kind, and learning rates by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.models.kernel import GroupKernel
from src.models.kernels import Constant
from src.models.relaxed import relaxations
from src.require import require, require_at_least


@dataclass(frozen=True)
class ParameterGroups:
    """Groups in this order, each in the order of `net.named_parameters()`.

    - `kernels`: weights of kernel nets, which can have a learning rate and a weight decay of their own. Where kernel
      nets of one net have several factors, there is a group for each, such as `kernels_x3`;
    - `masks`: sizes of kernels that are learned, with the learning rate that their masks say, and no weight decay;
    - `weights`: all other weights;
    - `no_decay`: biases, scales and shifts of norms, and weights on elements of relaxed kernels, which scale their
      ranks. The phases of a SIREN are biases.

    Adam moves every weight by about its learning rate in a step, however large the weight is. Kernel nets start with
    values of unit second moment, so they need a larger rate than the weights of a linear layer, the more the fewer of
    their weights make a value: `lr_factor` of a kernel net says how much larger (docs/alias.md).

    Args:
        kernel_lr: factor on the learning rate of all kernel nets, at least 0, as the others.
        kernel_decay: factor on their weight decay; the paper's code decays them as all others, 1.
        constant_lr: `lr_factor` of kernels that depend on no coordinate, which all kernel nets are replaced by there.
    """

    kernel_lr: float = 1.0
    kernel_decay: float = 1.0
    constant_lr: float = 1.0

    def __post_init__(self) -> None:
        factors = {"kernel_lr": self.kernel_lr, "kernel_decay": self.kernel_decay, "constant_lr": self.constant_lr}
        require_at_least(0, **{f"model.groups.{name}": factor for name, factor in factors.items()})

    def optimiser(self, net: nn.Module, make: Callable[[list[dict[str, Any]]], Optimizer]) -> Optimizer:
        """What `make` makes of the groups, with the factors applied to its learning rate and weight decay."""
        groups = self.split(net)
        optimiser = make([{"name": group.name, "params": group.members} for group in groups])
        for own, group in zip(groups, optimiser.param_groups, strict=True):
            group["lr"] *= own.lr
            if "weight_decay" in group:  # not every optimiser has one
                group["weight_decay"] *= own.decay
        return optimiser

    def split(self, net: nn.Module) -> list[_Group]:
        """The groups that have members."""
        factors, sizes = self._factors(net), _mask_factors(net)
        scales = {id(relaxation.weight) for relaxation in relaxations(net).values()}
        kernels: dict[float, list[nn.Parameter]] = {}
        masks: dict[float, list[nn.Parameter]] = {}
        weights: list[nn.Parameter] = []
        no_decay: list[nn.Parameter] = []
        for name, parameter in net.named_parameters():
            factor = factors.get(id(parameter))
            if (size := sizes.get(id(parameter))) is not None:
                masks.setdefault(size, []).append(parameter)
            # A kernel without coordinates has weights of one axis, as norms have.
            elif id(parameter) in scales or (parameter.dim() < 2 and (factor is None or not name.endswith("weight"))):
                no_decay.append(parameter)
            else:
                (weights if factor is None else kernels.setdefault(factor, [])).append(parameter)
        groups = [_Group(*own, self.kernel_decay, members) for own, members in _named("kernels", kernels)]
        groups += [_Group(*own, 0.0, members) for own, members in _named("masks", masks)]
        groups += [_Group("weights", 1.0, 1.0, weights), _Group("no_decay", 1.0, 0.0, no_decay)]
        return [group for group in groups if group.members]

    def _factors(self, net: nn.Module) -> dict[int, float]:
        """Factors on the learning rate of the weights of kernel nets, by the id of the parameter."""
        return {
            id(parameter): self.kernel_lr * (self.constant_lr if isinstance(own, Constant) else _lr_factor(own))
            for module in net.modules()
            if isinstance(module, GroupKernel)
            for own in module.nets
            for parameter in own.parameters()
        }


class _Group(NamedTuple):
    """Parameters that are trained alike."""

    name: str
    lr: float
    """Factor on the learning rate."""
    decay: float
    """Factor on the weight decay."""
    members: list[nn.Parameter]


def _mask_factors(net: nn.Module) -> dict[int, float]:
    """Factors on the learning rate of masks, by the id of the parameter."""
    return {
        id(parameter): _lr_factor(mask)
        for module in net.modules()
        if isinstance(module, GroupKernel)
        for mask in module.masks.values()
        for parameter in mask.parameters()
        if parameter.requires_grad
    }


def _named(
    kind: str, by_factor: dict[float, list[nn.Parameter]]
) -> Iterator[tuple[tuple[str, float], list[nn.Parameter]]]:
    """Names of groups with their factors: the kind alone where there is one factor."""
    for factor, members in sorted(by_factor.items()):
        yield (f"{kind}_x{factor:g}" if len(by_factor) > 1 else kind, factor), members


def _lr_factor(kernel: nn.Module) -> float:
    """What a kernel net says; it need not say anything."""
    return float(getattr(kernel, "lr_factor", 1.0))


@dataclass(frozen=True)
class Schedule:
    """Constant learning rate after a linear warm-up from a tenth of it.

    Args:
        warmup: epochs of warm-up, possibly a fraction of one.

    Raises:
        ValueError: if negative.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(0, **{"scheduler.warmup": self.warmup})

    def __call__(self, epoch: float, epochs: int) -> float:
        """The factor on the learning rate after `epoch` of `epochs`, a fraction within an epoch."""
        warm = min(1.0, 0.1 + 0.9 * epoch / self.warmup) if self.warmup else 1.0
        return warm * self.decay(epoch, epochs)

    def decay(self, epoch: float, epochs: int) -> float:
        """The factor without warm-up."""
        return 1.0

    def observe(self, value: float) -> None:
        """Told after each epoch what it came to on the validation data, of which less is better."""

    def state_dict(self) -> dict[str, Any]:
        """What it has observed, for checkpoints."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1, at the end of the warm-up, to `floor`, at the end of training."""

    floor: float = 0.0

    def decay(self, epoch: float, epochs: int) -> float:
        progress = max(0.0, epoch - self.warmup) / max(epochs - self.warmup, 1e-9)
        return self.floor + (1 - self.floor) * (1 + cos(pi * min(progress, 1.0))) / 2


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Multiplied by `gamma` at each epoch in `steps`."""

    steps: Sequence[int] = ()
    gamma: float = 0.1

    def decay(self, epoch: float, epochs: int) -> float:
        return self.gamma ** sum(epoch >= step for step in self.steps)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiplied by `factor` when the primary metric of the validation data was not better for over `patience` epochs.

    A step of training follows the epoch before it is.

    Args:
        warmup: as in `Schedule`.
        factor: in (0, 1).
        patience: epochs.

    Raises:
        ValueError: if one of them is out of its range.
    """

    factor: float = 0.2
    patience: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require("scheduler.factor", self.factor, 0 < self.factor < 1, "between 0 and 1")
        require_at_least(0, **{"scheduler.patience": self.patience})
        # PyTorch's, of an optimiser whose learning rate is the factor; the names are those of a class that is frozen.
        rate = SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
        object.__setattr__(
            self, "_rule", ReduceLROnPlateau(rate, "min", self.factor, self.patience, 0.0, "abs", eps=0.0)
        )

    def decay(self, epoch: float, epochs: int) -> float:
        return self._rule.optimizer.param_groups[0]["lr"]

    def observe(self, value: float) -> None:
        self._rule.step(value)

    def state_dict(self) -> dict[str, Any]:
        return {"rule": self._rule.state_dict(), "rate": self.decay(0, 0)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rule.load_state_dict(state["rule"])
        self._rule.optimizer.param_groups[0]["lr"] = state["rate"]
