"""Measure every implementation on every group beside a textbook path, in one run, and write docs/benchmarks.md.

What is measured, and how, is said by `_HEADER`, which the page opens with. That both paths give the same numbers is
checked before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.groups import SO2, Dilation, Group, Product
from src.models import Field, GConv, Pointwise, contraction
from src.models.layers import BatchNorm
from src.models.masks import Disc, Mask, SmoothDisc
from src.models.nets import CKGResNet
from src.models.pooling import SpatialPool
from src.runs.checkpoints import write_text
from src.runs.process import keep_freed_memory
from src.runs.tables import markdown_table

_Case = tuple[str, list[str]]
"""A section, and a row of its table."""
_Key, _Row = TypeVar("_Key"), TypeVar("_Row")
_ROOT = Path(__file__).resolve().parents[1]
_FORMS = ("nonseparable", "separable", "gseparable", "dseparable", "dgseparable")
_PART_FORMS = ("separable+2d", "gseparable+2d")
_GROUPS: dict[str, tuple[Group, tuple[int, ...], tuple[str, ...], Mask]] = {
    "se2": (SO2(), (8,), _FORMS, partial(Mask, space=Disc())),
    "r2xrplus": (Dilation(1.74), (3,), _FORMS, partial(Mask, space=SmoothDisc())),
    "sim2": (Product(SO2(), Dilation(1.74)), (8, 3), _FORMS + _PART_FORMS, partial(Mask, space=SmoothDisc())),
}
_HEAD = ("training step", "ratio", "evaluation step", "ratio", "peak memory", "ratio")
_BATCH, _SIZE, _KERNEL, _WIDTHS = 16, 28, 7, (32, 32, 64)


class _TextbookConv(GConv):
    """The same layer as straightforward code computes it."""

    def forward(self, field: Field, elements: Tensor | None = None) -> Field:
        a = self.output_elements(field) if elements is None else elements
        b, values = field.elements, field.values.contiguous()
        self.kernel.forget()
        steps = contraction.plan(self.stages, self.group, a, b)
        if len(self.stages) == 1 or steps is None:
            return Field(self._convolve(values, self.weight(a, b) * self._average(b), a, spatial=True), a)
        for n, step in enumerate(steps):
            weight = self.kernel(step.stage.factors, step.a, step.b) * (self._average(b) if n == 0 else 1)
            weight = torch.einsum("abyxoi->oaibyx", weight)
            if step.stage.space:
                values = self._convolve(values, weight, step.a, spatial=True)
            elif step.axes:
                values = self._mix_part(values, weight, step)
            elif step.stage.parts:
                values = self._convolve(values, weight, step.a)
            else:
                values = F.conv2d(values.flatten(2, 3), weight[:, 0, :, 0]).unflatten(2, values.shape[2:4])
        return Field(values, a)

    def _convolve(self, values: Tensor, weight: Tensor, a: Tensor, spatial: bool = False) -> Tensor:
        """By a weight (o, a, i, b, y, x): depthwise where it has one i, 1x1 unless it is spatial."""
        weight = weight.flatten(2, 3).flatten(0, 1)
        groups = values.shape[1] * values.shape[2] // weight.shape[1]
        pixels = {"stride": self.stride, "padding": self.padding} if spatial else {}
        planes = F.conv2d(values.flatten(1, 2), weight, groups=groups, **pixels)
        return planes.unflatten(1, (self.out_channels, len(a)))

    def _mix_part(self, values: Tensor, weight: Tensor, step: contraction.Step) -> Tensor:
        """A 1x1 convolution over channels and one part of the elements, the others beside the pixels."""
        (part,) = step.stage.parts
        values = values.unflatten(2, step.axes).movedim(2 + part, 2)
        others = values.shape[3:-1]
        mixed = self._convolve(values.flatten(3, -2), weight, step.a)
        return mixed.unflatten(3, others).movedim(2, 2 + part).flatten(2, -3)


class _TextbookPool(SpatialPool):
    """The same pool, channels-first."""

    def forward(self, field: Field) -> Field:
        planes = F.max_pool2d(field.values.flatten(1, 2), self.kernel_size, self.stride, self.padding)
        return Field(planes.unflatten(1, field.values.shape[1:3]), field.elements)


def _textbook(net: nn.Module) -> nn.Module:
    """A copy of a net on the textbook path, with the same parameters."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        if isinstance(module, GConv):
            module.__class__ = _TextbookConv
        if isinstance(module, SpatialPool):
            module.__class__ = _TextbookPool
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                norm = nn.BatchNorm3d(child.norm.num_features)
                norm.load_state_dict(child.norm.state_dict())
                setattr(module, name, Pointwise(norm))
    return net


def _build(form: str, group: Group, elements: Sequence[int], mask: Callable) -> nn.Module:
    """The benchmark's net, seeded."""
    torch.manual_seed(0)
    conv = partial(GConv, kernel_size=_KERNEL, group=group, elements=elements, implementation=form, mask=mask)
    return CKGResNet(1, 10, _SIZE, conv, hidden_sizes=_WIDTHS)


def _measure(net: nn.Module, device: str, steps: int) -> list[str]:
    """Both paths of one net, in turn: time of a training and of an evaluation step and memory, each with its ratio."""
    nets = {"ours": net.to(device), "textbook": _textbook(net).to(device)}
    images, labels = torch.randn(_BATCH, 1, _SIZE, _SIZE, device=device), torch.arange(_BATCH, device=device) % 10
    _check_equal(nets, images)
    optimizers = {path: torch.optim.Adam(own.parameters(), 1e-4) for path, own in nets.items()}

    def train(path: str) -> None:
        optimizers[path].zero_grad()
        F.cross_entropy(nets[path].train()(images), labels).backward()
        optimizers[path].step()

    @torch.no_grad()
    def evaluate(path: str) -> None:
        nets[path].eval()(images)

    memory = {path: _peak_memory(partial(train, path), device) for path in nets}
    times = (in_turn(work, nets, steps, device) for work in (train, evaluate))
    figures = [(own, "ms") for own in times] + ([] if None in memory.values() else [(memory, "MiB")])
    cells = ((f"{own['ours']:.0f} {unit}", f"{own['textbook'] / own['ours']:.2f}") for own, unit in figures)
    return [*chain(*cells), "-", "-"][: len(_HEAD)]


def _check_equal(nets: dict[str, nn.Module], images: Tensor) -> None:
    """Raises RuntimeError if the two paths do not compute the same."""
    with torch.no_grad():
        ours, other = (net.eval()(images) for net in nets.values())
    error = ((ours - other).abs().max() / ours.abs().max()).item()
    if not error < 1e-3:
        raise RuntimeError(f"the textbook path differs from ours by {error:.1e}; nothing was timed.")


def in_turn(work: Callable[[_Key], None], names: Iterable[_Key], steps: int, device: str) -> dict[_Key, float]:
    """Median milliseconds of `work` for each name, after one that is not counted."""
    times: dict[_Key, list[float]] = {name: [] for name in names}
    for n in range(steps + 1):
        for name, own in times.items():
            start = _clock(device)
            work(name)
            if n:
                own.append(1e3 * (_clock(device) - start))
    return {name: median(own) for name, own in times.items()}


def _clock(device: str) -> float:
    """Seconds, once the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_memory(work: Callable[[], None], device: str) -> float | None:
    """MiB that `work` needs beyond what is held before it; None where the system does not tell."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None
    gc.collect()
    # Freed memory that the allocator keeps would hide what is used anew.
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")
    held = _resident(status, "VmRSS")
    work()
    return _resident(status, "VmHWM") - held


def _resident(status: Path, field: str) -> float:
    """A field of Linux' process status, in MiB."""
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _cases(groups: Sequence[str], chosen: Sequence[str], device: str, steps: int) -> Iterator[_Case]:
    """The chosen implementations of every group, then separable and nonseparable on more rotations."""
    for name in groups:
        group, elements, forms, mask = _GROUPS[name]
        for form in (form for form in forms if form in chosen):
            yield name, [form, *_measure(_build(form, group, elements, mask), device, steps)]
    for form in (form for form in ("separable", "nonseparable") if form in chosen):
        for rotations in (4, 8, 16, 32):
            few = min(steps, 2) if form == "nonseparable" and rotations > 8 else steps
            net = _build(form, SO2(), (rotations,), _GROUPS["se2"][3])
            yield f"{form}, by rotations", [str(rotations), *_measure(net, device, few)]


def _tables(rows: Sequence[_Case]) -> str:
    """Markdown, one table per section."""
    sections = {name: [cells for section, cells in rows if section == name] for name, _ in rows}
    tables = {name: markdown_table(("", *_HEAD), cells, _HEAD) for name, cells in sections.items()}
    return "".join(f"\n## {name}\n\n{table}" for name, table in tables.items())


def hardware(device: str) -> str:
    """What the figures were measured on."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def shown(measured: Iterator[_Row]) -> Iterator[_Row]:
    """The same, each printed as soon as it is there."""
    for row in measured:
        print(row, flush=True)
        yield row


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--groups", nargs="+", default=list(_GROUPS), choices=list(_GROUPS))
    every = _FORMS + _PART_FORMS
    parser.add_argument("--implementations", nargs="+", default=every, choices=every)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each path")
    parser.add_argument("--output", type=Path, default=_ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    header = _HEADER.format(hardware=hardware(options.device), torch=torch.__version__)
    measured = _cases(options.groups, options.implementations, options.device, options.steps)
    write_text(options.output, header + _tables(list(shown(measured))))
    print(f"written to {options.output}")


_HEADER = """# Benchmarks

Written by `make bench` (`scripts/benchmark.py`), seed 0, on: {hardware}; PyTorch {torch}.

The net is `ckgresnet` with widths 32, 32, 64 and 7 x 7 kernels on 16 images of 28 x 28. Times are medians of steps in
which our path and a textbook path take turns; peak memory is what one training step needs on top of the net. **Ratios
are textbook / ours: above 1, ours is faster or smaller.** The textbook path has the same parameters and gives the same
numbers; it assembles every kernel in every forward pass, keeps tensors channels-first, and takes a separable
convolution as a 1x1 convolution followed by a depthwise one. `gseparable` forms multiply their factors into a full
kernel, as `nonseparable` does: nothing separates the sums.
"""

if __name__ == "__main__":
    main()
