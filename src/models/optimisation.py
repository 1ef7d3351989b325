"""Which parameters are trained how: groups by kind, and learning rates by epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

from torch import nn
from torch.optim import Optimizer

from src.models.kernel import GroupKernel
from src.require import require_at_least


@dataclass(frozen=True)
class ParameterGroups:
    """Three groups, in this order, each in the order of `net.named_parameters()`.

    - `kernels`: weights of kernel nets, which can have a learning rate and a weight decay of their own;
    - `weights`: all other weights;
    - `no_decay`: biases, and scales and shifts of norms. The phases of a SIREN are biases.

    Args:
        kernel_lr: factor on the learning rate of `kernels`.
        kernel_decay: factor on their weight decay; the paper's code decays them as all others, 1.
    """

    kernel_lr: float = 1.0
    kernel_decay: float = 1.0

    def optimiser(self, net: nn.Module, make: Callable[[list[dict[str, Any]]], Optimizer]) -> Optimizer:
        """What `make` makes of the groups, with the factors applied to its learning rate and weight decay."""
        optimiser = make([{"name": name, "params": members} for name, members in self.split(net).items()])
        rates, decays = {"kernels": self.kernel_lr}, {"kernels": self.kernel_decay, "no_decay": 0.0}
        for group in optimiser.param_groups:
            group["lr"] *= rates.get(group["name"], 1.0)
            if "weight_decay" in group:  # not every optimiser has one
                group["weight_decay"] *= decays.get(group["name"], 1.0)
        return optimiser

    def split(self, net: nn.Module) -> dict[str, list[nn.Parameter]]:
        """The groups that have members."""
        kernels = {
            id(parameter)
            for module in net.modules()
            if isinstance(module, GroupKernel)
            for parameter in module.nets.parameters()
        }
        groups: dict[str, list[nn.Parameter]] = {"kernels": [], "weights": [], "no_decay": []}
        for name, parameter in net.named_parameters():
            # A kernel without coordinates has weights of one axis, as norms have.
            weight = parameter.dim() > 1 or (id(parameter) in kernels and name.endswith("weight"))
            groups["no_decay" if not weight else "kernels" if id(parameter) in kernels else "weights"].append(parameter)
        return {name: members for name, members in groups.items() if members}


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
