"""Measure convolutions by the Fourier transform beside direct ones: python scripts/benchmark_fft.py.

Forward and backward, each in turn, the best of several. `chosen` is what `conv.fft=auto` takes, and `loses` how much
longer that is than the faster one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from scripts.benchmark import hardware
from src.models.depthwise import depthwise
from src.models.fft import fft_conv, fft_pays
from src.models.torch_functions import functions_for
from src.runs.process import keep_freed_memory
from src.runs.tables import console, rich_table
from src.training.commands import parser

_CASES = (
    *(("depthwise", 1, 16, 32, n, k) for n in (64, 256, 1024, 4096) for k in (5, 9, 17, 65, n - 1)),
    *(("all channels", 1, 16, 30, n, k) for n in (64, 256, 784) for k in (9, 33, 65, n - 1)),
    *(("depthwise", 2, 16, 32, n, k) for n in (16, 32) for k in (5, 9, n - 1)),
    *(("all channels", 2, 16, 24, 32, k) for k in (7, 13, 17, 31)),
    *(("depthwise", 3, 8, 32, 16, k) for k in (3, 5, 7, 9)),
    *(("all channels", 3, 8, 16, 16, k) for k in (3, 5, 7)),
)
"""Which convolution, dimension, batch, channels, pixels and taps along an axis."""
_HEAD = ("convolution", "d", "pixels", "taps", "direct, ms", "Fourier, ms", "ratio", "chosen", "loses")
_REPEATS = 7


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser(__doc__).parse_args(arguments)
    keep_freed_memory()
    print(f"{hardware('cpu')}; PyTorch {torch.__version__}")
    console().print(rich_table(_HEAD, [_row(*case) for case in _CASES], right=_HEAD[1:]))


def _row(kind: str, d: int, n: int, c: int, size: int, k: int) -> tuple[str, ...]:
    generator = torch.Generator().manual_seed(0)
    groups = c if kind == "depthwise" else 1
    planes = torch.randn(n, *(size,) * d, c, generator=generator).movedim(-1, 1).requires_grad_()
    weight = torch.randn(c, c // groups, *(k,) * d, generator=generator).requires_grad_()
    before, after = k // 2, (k - 1) // 2
    padded = torch.nn.functional.pad(planes, (before, after) * d) if before != after else planes
    padding = before if before == after else 0

    def direct() -> Tensor:
        if groups > 1:
            return depthwise(padded, weight, 1, padding)
        return functions_for(planes).conv(padded, weight, padding=padding)

    def fourier() -> Tensor:
        return fft_conv(planes, weight, before, after, groups)

    assert torch.allclose(direct(), fourier(), atol=1e-2 * k ** (d / 2)), "they differ"
    times = _seconds(direct), _seconds(fourier)
    chosen = fft_pays(planes, weight, before, after)
    loses = times[chosen] / min(times) - 1
    shown = (f"{1e3 * own:.1f}" for own in times)
    return (
        kind,
        str(d),
        str(size),
        str(k),
        *shown,
        f"{times[0] / times[1]:.2f}",
        "Fourier" if chosen else "direct",
        f"{loses:.0%}",
    )


def _seconds(run: Callable[[], Tensor]) -> float:
    """Forward and backward, the best of some, or one that takes more than a second."""
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        values = run()
        values.backward(torch.ones_like(values), retain_graph=True)
        best = min(best, time.perf_counter() - start)
        if best > 1:
            break
    return best


if __name__ == "__main__":
    main()
