r"""Group-convolution kernels: a product of kernel nets on relative coordinates.

Letters, here and in the whole project: n batch, o i output and input channels, a b output and input elements, (z) y x
pixels, u taps of the kernel's window, one after the other, d the dimension of the space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis, Group
from src.models.factorisation import Factorisation
from src.models.kernels import Constant
from src.models.low_pass import LowPass
from src.models.relaxed import Relaxation, fold_ranks, sum_ranks
from src.models.sampling import Sampling, by_letters, join, same_kind
from src.models.window import Window, check_causal


class GroupKernel(nn.Module):
    r"""k(h_a^-1 u, h_a^-1 h_b) / |det h_a|, as the product of a factorisation's factors and of their masks.

    Kernel nets have unit second moment at initialisation; here they are scaled by (fan-in)^-1/2, so that a convolution
    preserves variance whatever the factorisation. The fan-in counts input channels, and the energy of masks and
    determinants over the taps and input elements, on average over the output elements of the grid.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: pixels k of the window of k^d taps; the largest dilation of the group fills it.
        group: the group H.
        elements: how many elements, one number for each of `group.counts`; can be set anew after training.
        factorisation: which channels and coordinates each kernel net depends on.
        kernel: makes a kernel net from (axes, channels).
        mask: makes a mask from (axes), or none. One that has parameters is trained with the kernel, and one that says
            where it ends, `reach`, has the window cut there.
        low_pass: standard deviation in pixels, those of an undilated kernel, of the Gaussian that smooths it; or 0.
        init: `unit`, as said above; or `paper`, as in its code: the last layers of kernel nets are divided by the root
            of i k^d instead, and elements are summed.
        causal: the last tap of the window is the present, and the others lie before it.
        resolution: by how much images are finer than those that the weights were trained on. A sum over so many times
            as many taps along each axis is scaled to come to the same, and the low-pass is as wide as it was.
        ranks: how many the letter `l` of the factorisation counts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: Group,
        elements: Sequence[int],
        factorisation: Factorisation,
        kernel: Callable[[Sequence[Axis], int], nn.Module],
        mask: Callable[[Sequence[Axis]], nn.Module] | None,
        low_pass: float = 0.0,
        init: str = "unit",
        causal: bool = False,
        resolution: float = 1.0,
        ranks: int = 0,
    ) -> None:
        super().__init__()
        self.channels = {"l": ranks, "o": out_channels, "i": in_channels}
        self.kernel_size, self.group, self.elements, self.factorisation = kernel_size, group, elements, factorisation
        self.whole, self.density = Window(kernel_size, group.space, group.extent, causal), resolution**group.space
        # By how much sums that are taken in turn have more output channels.
        self.carried_ranks = ranks if factorisation.ranks_apart(len(group.parts)) else 1
        if causal:
            check_causal(group, self.grid)
        self.nets = nn.ModuleList()
        for factor in factorisation.factors:
            axes = [axis for word in factor.coordinates for axis in self._axes(word)]
            values = prod(self.channels[letter] for letter in factor.channels)
            if factor.is_relaxation:
                self.nets.append(Relaxation(values, group.chart(self.grid)))
            else:
                self.nets.append(kernel(axes, values) if axes else Constant(values))
        self.masks = nn.ModuleDict({word: mask(self._axes(word)) for word in factorisation.masked} if mask else {})
        # Part of what a trained kernel means, hence in the state: setting other elements must not rescale it.
        self.register_buffer("gain", torch.tensor(1.0))
        self.gain.fill_(self.summed / (in_channels * self._energy()) ** 0.5)
        self.low_pass = LowPass(low_pass * resolution * self.whole.pitch) if low_pass and kernel_size > 1 else None
        self.forget()
        if self.low_pass is not None:
            self.gain.mul_(self._loss())
        if init == "paper":
            self._scale_as_paper()

    def forget(self) -> None:
        """Drop the coordinates that are kept from one forward pass to the next."""
        self._known: list[tuple[tuple[tuple[int, ...], Window], Tensor, Tensor, list[Sampling]]] = []

    @property
    def elements(self) -> tuple[int, ...]:
        return self._elements

    @elements.setter
    def elements(self, elements: Sequence[int]) -> None:
        self._elements = self.group.sizes(elements)
        self.grid = self.group.grid(*self._elements)

    @property
    def carried(self) -> frozenset[int]:
        """The parts of the group that the kernel depends on."""
        return self.factorisation.carried(len(self.group.parts))

    @property
    def summed(self) -> int:
        """How many input elements the kernel is scaled for: the grid's, or that of an image if it depends on none."""
        return prod(self.elements) if self.carried else 1

    def forward(
        self,
        factors: Iterable[int],
        a: Float[Tensor, "a dim"],
        b: Float[Tensor, "b dim"],
        u: Float[Tensor, "*taps d"] | None = None,
    ) -> Float[Tensor, "#a #b #u #o #i"]:
        """The product of some of the factors, with their masks and scales, summed over ranks if all of these are there.

        Args:
            factors: which.
            a: output elements (a, dim).
            b: input elements (b, dim).
            u: kernel coordinates (*taps, d); none for those of the window.

        Returns:
            (a, b, u, o, i) with the taps one after the other, of size 1 where it does not depend on an index; or, of
            a sum that leaves ranks to a later one, (a, b, u, l o, i)
        """
        factors = tuple(factors)
        samplings = self._window(factors, a, b) if u is None else self._samplings(factors, a, b, u)
        with torch.autocast(self.gain.device.type, enabled=False):
            values = list(map(self._factor, factors, samplings))
            if not self.factorisation.ranked:
                return reduce(torch.mul, values)
            if self.factorisation.ranked.issubset(factors):
                return sum_ranks(values)
            return fold_ranks(reduce(torch.mul, values), self.carried_ranks, self.channels["o"])

    def envelope(self, a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]) -> Float[Tensor, "#a #b *#taps"]:
        """What multiplies the product of all kernel nets: every mask, 1/|det h_a| and the gain.

        Args:
            a: output elements (a, dim).
            b: input elements (b, dim).

        Returns:
            (a, b, *taps), of size 1 where it does not depend on an index
        """
        coordinates = self._coordinates(a, b, self.offsets())
        scales = [self._factor_envelope(n, coordinates).to(self.gain) for n in range(len(self.nets))]
        trained = [
            self.masks[word](coordinates[word].to(self.gain))[..., None]
            for n in range(len(self.nets))
            for word in self.factorisation.first_words(n)
            if self._is_trained(word)
        ]
        whole = reduce(torch.mul, scales + trained)[..., 0] * (self.gain / self.summed / self.density)
        taps = self.window.taps
        return whole.unflatten(-1, taps if whole.shape[-1] > 1 else (1,) * len(taps))

    def highest_frequencies(self) -> list[Tensor]:
        """Of each kernel net along each axis of the space, in radians per unit, where it says so: (d,)."""
        return [
            net.highest_frequencies(self._space_of(n))
            for n, (net, factor) in enumerate(zip(self.nets, self.factorisation.factors, strict=True))
            if hasattr(net, "highest_frequencies") and "x" in factor.coordinates and self.kernel_size > 1
        ]

    def _space_of(self, n: int) -> slice:
        """Which columns of factor n are those of the space."""
        words = self.factorisation.factors[n].coordinates
        before = sum(axis.columns for word in words[: words.index("x")] for axis in self._axes(word))
        return slice(before, before + self.group.space)

    @property
    def window(self) -> Window:
        """What is sampled: the whole, or what a learned mask leaves of it."""
        reach = self.masks["x"].reach() if hasattr(getattr(self.masks, "x", None), "reach") else None
        return self.whole if reach is None else replace(self.whole, cut=self.whole.beyond(reach * self.whole.extent))

    def offsets(self) -> Float[Tensor, "*taps d"]:
        """The window's coordinates (*taps, d); see `Window`."""
        return self.window.offsets()

    def _factor(self, n: int, sampling: Sampling) -> Tensor:
        """The values of factor n, (a, b, u, o, i), evaluated once for each of its distinct coordinates."""
        factor = self.factorisation.factors[n]
        values = self._values(n, sampling.rows)
        if n == 0:
            values = values * (self.gain / self.summed / self.density)
        # The last row is for where the mask is zero.
        values = F.embedding(sampling.index, F.pad(values, (0, 0, 0, 1)), len(values)) * sampling.envelope
        for word, coordinates in sampling.trained:
            values = values * self.masks[word](coordinates)[..., None]
        values = values.unflatten(-1, [self.channels[letter] for letter in factor.channels])
        return by_letters(values, factor.channels, "loi" if self.factorisation.ranked else "oi")

    def _values(self, n: int, rows: Tensor) -> Tensor:
        """Of kernel net n at coordinates, (p, columns) -> (p, values)."""
        if self.low_pass is None or "x" not in self.factorisation.factors[n].coordinates:
            return self.nets[n](rows)
        return self.low_pass(self.nets[n], rows, self._space_of(n))

    @torch.no_grad()
    def _scale_as_paper(self) -> None:
        """Leave the scale to the weights, which makes steps of a given learning rate larger."""
        self.gain.fill_(self.summed)
        for net in (net for net in self.nets if not isinstance(net, Relaxation)):
            last = net.output.weight if hasattr(net, "output") else net.weight
            last.div_((self.channels["i"] * prod(self.whole.taps)) ** 0.5)

    @torch.no_grad()
    def _loss(self) -> float:
        """By how much the low-pass shrinks the values of all kernel nets together: their ratio without and with it."""
        ratio = 1.0
        factors = range(len(self.nets))
        for n, sampling in zip(factors, self._samplings(factors, self.grid, self.grid, self.offsets()), strict=True):
            plain, smooth = self.nets[n](sampling.rows), self._values(n, sampling.rows)
            ratio *= float(plain.square().mean() / smooth.square().mean()) ** 0.5
        return ratio

    def _factor_envelope(self, n: int, coordinates: dict[str, Tensor]) -> Tensor:
        """What multiplies the values of factor n, (a, b, u, 1): each fixed mask once, by the first that carries it."""
        scales = [torch.ones_like(coordinates["1/det"][:1])]
        for word in self.factorisation.first_words(n):
            if word in self.masks and not self._is_trained(word):
                scales.append(self.masks[word](coordinates[word])[..., None])
            if word == "x":
                scales.append(coordinates["1/det"])
        return reduce(torch.mul, scales)

    def _is_trained(self, word: str) -> bool:
        """Whether the mask of a coordinate has parameters, so that it is evaluated anew in every step."""
        return word in self.masks and next(self.masks[word].parameters(), None) is not None

    def _energy(self) -> float:
        """Sum of the squared envelope over taps and summed input elements, averaged over output elements."""
        envelope = self.envelope(self.grid, self.grid) * self.summed
        shape = (len(self.grid), len(self.grid), *self.window.taps)
        return float(envelope.detach().double().square().expand(shape).mean((0, 1)).sum() * self.summed)

    def _axes(self, word: str) -> tuple[Axis, ...]:
        if word == "x":
            # The one offset of a window of one tap is the origin: nothing to depend on.
            return (Axis("space", self.kernel_size),) * (self.group.space if self.kernel_size > 1 else 0)
        if word in ("h", "a"):
            return self.group.axes(*self.elements)
        part, own = self.group.part_sizes(self.elements)[int(word[1:])]
        return part.axes(*own)

    def _coordinates(self, a: Tensor, b: Tensor, u: Tensor) -> dict[str, Tensor]:
        """What kernels are functions of: (a, b, u, columns), of size 1 where it does not depend on an index."""
        a, b, u = (x.detach().to("cpu", torch.float64) for x in (a, b, u.flatten(0, -2)))
        relative = self.group.relative(a, b)[:, :, None]
        coordinates = {
            "x": self.group.act(self.group.inverse(a)[:, None], u)[:, None, :, : len(self._axes("x"))],
            "h": self.group.chart(relative),
            "a": self.group.chart(a)[:, None, None],
            "1/det": (1 / self.group.det(a))[:, None, None, None],
        }
        for n, (part, own) in enumerate(zip(self.group.parts, self.group.split(relative), strict=True)):
            coordinates[f"h{n}"] = part.chart(own)
        return coordinates

    @torch.inference_mode(False)
    def _samplings(self, factors: Iterable[int], a: Tensor, b: Tensor, u: Tensor) -> list[Sampling]:
        """Where each of some factors is evaluated.

        They may be kept from an evaluation to a training step, for which tensors of inference mode would not do.
        """
        coordinates = self._coordinates(a, b, u)
        samplings = []
        for n in factors:
            words, first = self.factorisation.factors[n].coordinates, self.factorisation.first_words(n)
            # A factor of no coordinates still wants a tensor (1, 1, 1, 0) of them.
            own = join([coordinates[word] for word in words] or [coordinates["1/det"][:1, ..., :0]])
            trained = [(word, coordinates[word].to(self.gain)) for word in first if self._is_trained(word)]
            samplings.append(Sampling.of(own, self._factor_envelope(n, coordinates), self.gain, trained))
        return samplings

    def _window(self, factors: tuple[int, ...], a: Tensor, b: Tensor) -> list[Sampling]:
        """Of the window, kept while the elements are the same tensors, as they are on a grid."""
        key = (factors, self.window)
        for known, known_a, known_b, samplings in self._known:
            if known == key and known_a is a and known_b is b and same_kind(samplings[0].envelope, self.gain):
                return samplings
        samplings = self._samplings(factors, a, b, self.offsets())
        self._known = [(key, a, b, samplings), *self._known[: len(self.nets)]]
        return samplings
