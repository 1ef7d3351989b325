r"""The only convolution: every group, every kernel net, every factorisation.

f'(x, h_a) = sum_b sum_u k(h_a^-1 u, h_a^-1 h_b) / |det h_a| f(x + u, h_b)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis, Group
from src.models import contraction
from src.models.baking import plain_convolution
from src.models.contraction import Step
from src.models.factorisation import Factorisation
from src.models.field import Field, check_field, check_size
from src.models.kernel import GroupKernel
from src.models.kernels import Fourier
from src.models.relaxed import sum_folded
from src.models.sampling import same_values
from src.models.seam import SeamPad, seam_of
from src.models.seeded_generator import SeededGenerator
from src.models.window import padding_of
from src.require import require_choice, require_positive, require_positive_number, require_whole


class GConv(nn.Module):
    r"""Group convolution on R^d x H, and lifting to it.

    The assembled kernel, `weight`, is the slow truth. The `dense` path convolves with it, which is always right; the
    `sequential` path takes the sums of a separable kernel in turn, which is equal and cheaper. The sum over input
    elements is an average, so that a trained layer can be evaluated on more or on other elements.

    In evaluation, without gradients, assembled weights are kept until a parameter or an element changes.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        kernel_size: pixels k of the window of k^d taps; the largest dilation of the group fills it.
        group: the group H.
        elements: how many elements, one number for each of `group.counts`.
        implementation: a name or formula of `Factorisation`.
        kernel: makes a kernel net from (axes, channels).
        mask: makes a mask from (axes), or none.
        low_pass: standard deviation in pixels of the Gaussian that smooths kernels before they are sampled; 0 for none.
        antialias: these pixels are those of the output: a stride widens the low-pass by itself, and blocks smooth what
            their skips subsample; with a low-pass of 0, neither.
        init: `unit`, which preserves variance, or `paper`; see `GroupKernel`.
        resolution: by how much images are finer than those that the weights were trained on, such as 2 with a kernel of
            twice the size.
        relaxed: ranks of a relaxed kernel, which may differ between output elements as far as data ask for it; 0 for
            none. See `Relaxation`.
        stride: of the output pixels.
        padding: zeros on each side; none keeps the image size and needs an odd kernel. `causal`, for sequences, puts
            them all before the first pixel: no output depends on a later input.
        boundary: of the last axis: `zeros`; or `circular` or `moebius`, whose ends are glued, so that it is as long
            after the layer as before whatever the padding, less the stride; see `seam_of`.
        bias: add a trained bias per output channel.
        sampling: `grid`; `random` for a new random coset of the grid in every forward pass of training; or `shared` for
            one that the whole net has, drawn where images are lifted.
        path: `dense`, `sequential`, or `auto` for the cheaper one.
        fft: convolve by the fast Fourier transform: `auto` where it is faster, `always` (at stride 1) or `never`.

    Raises:
        ValueError: naming the argument, if one cannot be honoured.

    Example:
        >>> from src.groups import SO2
        >>> lift = GConv(1, 4, 5, group=SO2(), elements=(8,), implementation="lifting")
        >>> conv = GConv(4, 6, 5, group=SO2(), elements=(8,), implementation="separable")
        >>> conv(lift(Field.of_images(torch.randn(2, 1, 28, 28), SO2()))).values.shape
        torch.Size([2, 6, 8, 28, 28])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        group: Group,
        elements: Sequence[int],
        implementation: str | Factorisation,
        kernel: Callable[[Sequence[Axis], int], nn.Module] = Fourier,
        mask: Callable[[Sequence[Axis]], nn.Module] | None = None,
        low_pass: float = 0.0,
        antialias: bool = True,
        init: str = "unit",
        resolution: float = 1.0,
        relaxed: int = 0,
        stride: int = 1,
        padding: int | str | None = None,
        bias: bool = False,
        sampling: str = "grid",
        path: str = "auto",
        fft: str = "auto",
        boundary: str = "zeros",
    ) -> None:
        super().__init__()
        require_positive_number(resolution=resolution)
        require_whole(relaxed=relaxed)
        require_positive(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride)
        require_choice("sampling", sampling, ("grid", "random", "shared"))
        require_choice("init", init, ("unit", "paper"))
        require_choice("fft", fft, ("auto", "always", "never"))
        is_parsed = isinstance(implementation, Factorisation)
        factorisation = (implementation if is_parsed else Factorisation(implementation)).relaxed(relaxed)
        factorisation.check(group)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.group, self.stride, self.sampling, self.path = group, stride, sampling, path
        self.fft, self.relaxed, causal = fft, relaxed, padding == "causal"
        self.smooths = antialias and low_pass > 0 and stride > 1
        self.padding = padding_of(kernel_size, padding)
        self.stages = factorisation.stages(len(group.parts))
        if path == "sequential" and len(self.stages) == 1:
            raise ValueError(
                f"`path` sequential needs a kernel whose sums can be taken in turn, but {factorisation.formula!r} is "
                "not separable in that way; use 'dense' or 'auto'."
            )
        self.kernel = GroupKernel(
            in_channels,
            out_channels,
            kernel_size,
            group,
            elements,
            factorisation,
            kernel,
            mask,
            low_pass * stride if antialias else low_pass,
            init,
            causal,
            resolution,
            relaxed,
        )
        drawn = [] if sampling == "grid" else [group.random(16, torch.Generator().manual_seed(0))]
        self.seam = seam_of(boundary, group, torch.cat([self.kernel.grid, *drawn]), (kernel_size, stride, padding))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.draws = SeededGenerator() if sampling != "grid" else None

    def forget(self) -> None:
        """Drop what is kept from one forward pass to the next: the plan, and in evaluation the weights."""
        self._planned: tuple[Tensor, Tensor, list[Step]] | None = None
        self._kept: tuple[tuple[Tensor, ...], list[tuple[Step, Tensor]]] | None = None

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, group={self.group}, "
            f"elements={self.elements}, implementation={self.kernel.factorisation.formula!r}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}, sampling={self.sampling}, path={self.path}"
            + (f", relaxed={self.relaxed}" if self.relaxed else "")
            + (f", boundary={self.seam}" if self.seam else "")
        )

    @property
    def path(self) -> str:
        """`auto`, `dense` or `sequential`; can be set at any time."""
        return self._path

    @path.setter
    def path(self, path: str) -> None:
        require_choice("path", path, ("auto", "dense", "sequential"))
        self._path = path
        self.forget()

    @property
    def elements(self) -> tuple[int, ...]:
        """How many elements the layer samples, one number for each of `group.counts`; can be set after training."""
        return self.kernel.elements

    @elements.setter
    def elements(self, elements: Sequence[int]) -> None:
        self.kernel.elements = elements

    @property
    def keeps_size(self) -> bool:
        """Whether at stride 1 the output has as many pixels as the input."""
        return sum(self.kernel.whole.padding(self.padding)) == self.kernel_size - 1

    def output_elements(self, field: Field) -> Float[Tensor, "a dim"]:
        """Where the output is sampled by default, (a, dim).

        A new random coset in training with `sampling="random"`, and where images are lifted with `shared`; else the
        field's own elements if they are as many as the layer's; else the layer's grid, as in lifting.
        """
        lifted = len(field.elements) == len(self.kernel.grid)
        if self.training and (self.sampling == "random" or (self.sampling == "shared" and not lifted)):
            return self.group.sample(self.elements, self.draws.generator)
        return field.elements if lifted else self.kernel.grid

    def forward(self, field: Field, elements: Float[Tensor, "a dim"] | None = None) -> Field:
        """Convolve (n, i, b, *space) to (n, o, a, *outputs).

        Args:
            field: the input.
            elements: output elements (a, dim); none for `output_elements`.

        Raises:
            ValueError: if the field has other channels than the layer, or is smaller than the kernel.
        """
        check_field(field, self.in_channels, self.group.space)
        check_size(field, self.kernel_size, sum(self.kernel.whole.padding(self.padding)))
        a = self.output_elements(field) if elements is None else elements
        pixels = field.pixels() if self.seam is None else self.seam.extend(field, *self._around())
        for step, weight in self._operators(a, field.elements):
            if step.stage.space:
                pixels = contraction.convolve(pixels, weight, step, self._geometry())
            else:
                pixels = contraction.mix(pixels, weight, step)
        pixels = sum_folded(pixels, self.out_channels)
        return Field.from_pixels(pixels if self.bias is None else pixels + self.bias, a)

    def weight(
        self, a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"], u: Float[Tensor, "*taps d"] | None = None
    ) -> Float[Tensor, "o a i b *taps"]:
        """The whole kernel.

        Args:
            a: output elements (a, dim).
            b: input elements (b, dim).
            u: kernel coordinates (*taps, d); none for those of the window.

        Returns:
            (o, a, i, b, *taps)
        """
        weight = self.kernel(range(len(self.kernel.nets)), a, b, u)
        taps = self.kernel.window.taps if u is None else u.shape[:-1]
        weight = weight.expand(len(a), len(b), prod(taps), self.out_channels, self.in_channels)
        return torch.einsum("abuoi->oaibu", weight).unflatten(-1, taps)

    @torch.no_grad()
    def bake(
        self, a: Float[Tensor, "a dim"] | None = None, b: Float[Tensor, "b dim"] | None = None
    ) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Sequential:
        """A plain convolution with the kernel frozen in, from (n, i b, *space) to (n, o a, *outputs).

        It comes after zeros in a layer of its own where these are not the same on both sides, as in causal ones.

        Args:
            a: output elements (a, dim); none for the layer's grid.
            b: input elements (b, dim); none for the layer's grid, or for {e} if the kernel does not depend on them.
        """
        a = self.kernel.grid if a is None else a
        if b is None:
            b = self.kernel.grid if self.kernel.carried else self.group.identity
        weight = (self.weight(a, b) * self._average(b)).flatten(2, 3).flatten(0, 1)
        bias = None if self.bias is None else self.bias.repeat_interleave(len(a))
        first = None if self.seam is None else SeamPad(self.seam, b, *self._around())
        return plain_convolution(weight, bias, self.stride, self._geometry().padding, first)

    def _geometry(self) -> contraction.Geometry:
        """How the window is moved over the image; around a seam, what it sees there is put beforehand."""
        padding = self.kernel.window.padding(self.padding) if self.seam is None else (0, 0)
        return contraction.Geometry(self.stride, padding, self.fft)

    def _around(self) -> tuple[int, int, bool]:
        """What `seam.extend` adds: half of the window from the other end, and zeros at both ends of the other axes."""
        columns, zeros = (self.kernel.window.padding(n)[0] for n in (self.kernel_size // 2, self.padding))
        return columns, zeros, bool(self.kernel.carried)

    def _average(self, b: Tensor) -> float:
        """The weight of an input element: 1 where they are as many as on the grid that the kernel is scaled for."""
        return self.kernel.summed / len(b)

    def _steps(self, a: Tensor, b: Tensor) -> list[Step]:
        """The path that `path` asks for, or the cheaper one."""
        on_cpu = self.kernel.gain.device.type == "cpu"
        sizes = (self.out_channels, self.in_channels, len(b), prod(self.kernel.window.taps))
        ranks = self.kernel.carried_ranks
        return contraction.choose(self.stages, self.group, a, b, self.path, sizes, ranks, halves=on_cpu)

    def _operators(self, a: Tensor, b: Tensor) -> list[tuple[Step, Tensor]]:
        """The steps and their weights, assembled anew or kept from the last evaluation."""
        if self.training or torch.is_grad_enabled():
            return self._assemble(a, b)
        # Compared by value: parameters can change in ways that leave no other trace, such as through `.data`.
        key = (torch.cat([x.flatten() for x in chain(self.parameters(), self.buffers())]), a, b)
        if self._kept is None or not all(map(same_values, self._kept[0], key)):
            self._kept = (key, self._assemble(a, b))
        return self._kept[1]

    def _assemble(self, a: Tensor, b: Tensor) -> list[tuple[Step, Tensor]]:
        if self._planned is None or self._planned[0] is not a or self._planned[1] is not b:
            self._planned = (a, b, self._steps(a, b))
        steps = self._planned[2]
        weights = [self.kernel(step.stage.factors, step.a, step.b) for step in steps]
        if (average := self._average(b)) != 1:
            weights[0] = weights[0] * average
        outputs = self.out_channels * (self.kernel.carried_ranks if len(steps) > 1 else 1)
        sizes = (outputs, self.in_channels, self.kernel.window.taps)
        return [(step, contraction.arrange(step, weight, *sizes)) for step, weight in zip(steps, weights, strict=True)]


def convolutions(net: nn.Module) -> dict[str, GConv]:
    """The group convolutions of a net, by their names in it."""
    return {name: module for name, module in net.named_modules() if isinstance(module, GConv)}
