"""What is added to the loss to keep a net as it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn

from src.models.kernel import GroupKernel
from src.models.relaxed import relaxations
from src.require import require, require_at_least


@dataclass(frozen=True)
class AliasPenalty:
    """factor sum_k (f_k / f_max - 1)^2 over kernels whose frequencies f exceed what their taps can tell apart, f_max.

    A net without such kernels means the same on finer images. Kernel nets that can say how fast they are, with
    `highest_frequencies`, are counted; others are not.

    Args:
        factor: on the penalty; 0 is none.

    Raises:
        ValueError: if the factor is negative.

    Reference: FlexConv: Continuous Kernel Convolutions with Differentiable Kernel Sizes (Romero et al., ICLR 2022),
    section 3.3; https://arxiv.org/abs/2110.08059
    """

    factor: float = 0.1

    def __post_init__(self) -> None:
        require_at_least(0, **{"model.penalty.factor": self.factor})

    def __call__(self, net: nn.Module) -> Tensor:
        """The penalty of a net, ()."""
        found = [
            torch.relu(frequencies * kernel.whole.pitch / pi - 1).square().sum()
            for kernel in net.modules()
            if isinstance(kernel, GroupKernel)
            for frequencies in kernel.highest_frequencies()
        ]
        return self.factor * torch.stack(found).sum() if found else torch.zeros(())


@dataclass(frozen=True)
class RelaxedPenalty:
    """alpha sum_l sum_{g < h} |w_l(g) - w_l(h)| over relaxed layers: 0 exactly where no layer has relaxed.

    The sum runs over pairs of elements, and is added to the loss as it is: the public reproduction of the paper,
    https://github.com/dgcnz/relaxed-equivariance-dynamics, squares it with its alpha, which leaves next to nothing.

    Args:
        alpha: on the penalty; 0 is none.

    Raises:
        ValueError: if it is negative.

    Reference: Approximately Equivariant Networks for Imperfectly Symmetric Dynamics (Wang, Walters, Yu, ICML 2022),
    https://arxiv.org/abs/2201.11969
    """

    alpha: float = 1e-5

    def __post_init__(self) -> None:
        require_at_least(0, **{"model.penalty.alpha": self.alpha})

    def __call__(self, net: nn.Module) -> Tensor:
        """The penalty of a net, ()."""
        weights = [own.weight for own in relaxations(net).values()]
        pairs = [(weight[:, None] - weight).abs().sum() / 2 for weight in weights]
        return self.alpha * torch.stack(pairs).sum() if pairs else torch.zeros(())


@dataclass(frozen=True)
class _Penalties:
    """The sum of several.

    Args:
        members: penalties by name; None is left out.

    Raises:
        ValueError: if one is no penalty.
    """

    members: Mapping[str, Callable[[nn.Module], Tensor] | None]

    def __post_init__(self) -> None:
        for name, member in self.members.items():
            require(f"model.penalty.{name}", member, member is None or callable(member), "a penalty or null")

    def __call__(self, net: nn.Module) -> Tensor:
        """The penalty of a net, ()."""
        return sum((member(net) for member in self.members.values() if member is not None), torch.zeros(()))


def penalty_of(
    given: Callable[[nn.Module], Tensor] | Mapping[str, Callable[[nn.Module], Tensor] | None] | None,
) -> Callable[[nn.Module], Tensor] | None:
    """What `model.penalty` says: none, one, or the sum of several by name.

    Raises:
        ValueError: if one of several is no penalty.

    Example:
        >>> penalty_of({"relaxed": RelaxedPenalty(), "alias": None})(nn.Identity())
        tensor(0.)
    """
    return _Penalties(given) if isinstance(given, Mapping) else given
