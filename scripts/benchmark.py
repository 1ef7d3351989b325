"""Measure every implementation on every group beside a textbook path, in one run, and write docs/benchmarks.md.

The textbook path has the same parameters and gives the same numbers (checked before anything is timed). It does what
straightforward code does: every kernel is assembled anew in every forward pass, tensors lie channels-first, and a
separable convolution is a 1x1 convolution followed by a depthwise one. The two take turns, step by step, so that a
machine that drifts drifts for both; the figures are medians, and ratios are textbook / ours.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.groups import SO2, Dilation, Group, Product
from src.models import Field, GConv, Pointwise, contraction
from src.models.blocks import BatchNorm, SpatialPool
from src.models.masks import Disc, Mask, SmoothDisc
from src.models.nets import CKGResNet
from src.runs.checkpoints import write_text
from src.runs.process import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
FORMS = ("nonseparable", "separable", "gseparable", "dseparable", "dgseparable")
PART_FORMS = ("separable+2d", "gseparable+2d")
GROUPS: dict[str, tuple[Group, tuple[int, ...], tuple[str, ...], Mask]] = {
    "se2": (SO2(), (8,), FORMS, partial(Mask, space=Disc())),
    "r2xrplus": (Dilation(1.74), (3,), FORMS, partial(Mask, space=SmoothDisc())),
    "sim2": (Product(SO2(), Dilation(1.74)), (8, 3), FORMS + PART_FORMS, partial(Mask, space=SmoothDisc())),
}
BATCH, SIZE, KERNEL, WIDTHS = 16, 28, 7, (32, 32, 64)


class TextbookConv(GConv):
    """The same layer as straightforward code computes it."""

    def forward(self, field: Field, elements: Tensor | None = None) -> Field:
        a = self.output_elements(field) if elements is None else elements
        b, values = field.elements, field.values.contiguous()
        self.kernel.forget()
        steps = contraction.plan(self.stages, self.group, a, b)
        if len(self.stages) == 1 or steps is None:
            weight = self.weight(a, b).flatten(2, 3).flatten(0, 1) * self._average(b)
            planes = F.conv2d(values.flatten(1, 2), weight, stride=self.stride, padding=self.padding)
            return Field(planes.unflatten(1, (self.out_channels, len(a))), a)
        for n, step in enumerate(steps):
            weight = self.kernel(step.stage.factors, step.a, step.b) * (self._average(b) if n == 0 else 1)
            values = self._space(values, weight, step) if step.stage.space else self._mix(values, weight, step)
        return Field(values, a)

    def _mix(self, values: Tensor, weight: Tensor, step: contraction.Step) -> Tensor:
        """A 1x1 convolution over channels and elements, (n, i, b, y, x) to (n, o, a, y, x)."""
        weight, (b, y) = torch.einsum("abyxoi->oaibyx", weight)[..., 0, 0], values.shape[2:4]
        if step.axes:
            (part,) = step.stage.parts
            values = values.unflatten(2, step.axes).movedim(2 + part, 2)
            rest = values.shape[3:-2]
            mixed = self._mix_flat(values.flatten(3, -2), weight, step)
            return mixed.unflatten(3, (*rest, y)).movedim(2, 2 + part).flatten(2, -3)
        if not step.stage.parts:
            return F.conv2d(values.flatten(2, 3), weight[:, 0, :, 0, None, None]).unflatten(2, (b, y))
        return self._mix_flat(values, weight, step)

    def _mix_flat(self, values: Tensor, weight: Tensor, step: contraction.Step) -> Tensor:
        groups = 1 if step.stage.input else self.out_channels
        weight = weight.flatten(2, 3).flatten(0, 1)[..., None, None]
        return F.conv2d(values.flatten(1, 2), weight, groups=groups).unflatten(1, (self.out_channels, len(step.a)))

    def _space(self, values: Tensor, weight: Tensor, step: contraction.Step) -> Tensor:
        """A depthwise convolution, or one of the group's elements within each channel."""
        weight = torch.einsum("abyxoi->oaibyx", weight).flatten(2, 3).flatten(0, 1)
        groups = values.shape[1] * values.shape[2] // weight.shape[1]
        planes = F.conv2d(values.flatten(1, 2), weight, stride=self.stride, padding=self.padding, groups=groups)
        return planes.unflatten(1, (self.out_channels, len(step.a)))


class TextbookPool(SpatialPool):
    """The same pool, channels-first."""

    def forward(self, field: Field) -> Field:
        planes = F.max_pool2d(field.values.flatten(1, 2), self.kernel_size, self.stride, self.padding)
        return Field(planes.unflatten(1, field.values.shape[1:3]), field.elements)


def textbook(net: nn.Module) -> nn.Module:
    """A copy of a net on the textbook path, with the same parameters."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        if isinstance(module, GConv):
            module.__class__ = TextbookConv
        if isinstance(module, SpatialPool):
            module.__class__ = TextbookPool
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                norm = nn.BatchNorm3d(child.norm.num_features)
                norm.load_state_dict(child.norm.state_dict())
                setattr(module, name, Pointwise(norm))
    return net


class Row(NamedTuple):
    """Milliseconds and MiB of one case; ratios are textbook / ours."""

    name: str
    train: float
    evaluate: float
    memory: float | None
    train_ratio: float
    evaluate_ratio: float
    memory_ratio: float | None


def build(form: str, group: Group, elements: Sequence[int], mask: Callable) -> nn.Module:
    """The benchmark's net, seeded."""
    torch.manual_seed(0)
    conv = partial(GConv, kernel_size=KERNEL, group=group, elements=elements, implementation=form, mask=mask)
    return CKGResNet(1, 10, SIZE, conv, hidden_sizes=WIDTHS)


def measure(name: str, net: nn.Module, device: str, steps: int) -> Row:
    """Both paths of one net, in turn."""
    nets = {"ours": net.to(device), "textbook": textbook(net).to(device)}
    images, labels = torch.randn(BATCH, 1, SIZE, SIZE, device=device), torch.arange(BATCH, device=device) % 10
    check_equal(nets, images)
    optimizers = {path: torch.optim.Adam(own.parameters(), 1e-4) for path, own in nets.items()}

    def train(path: str) -> None:
        optimizers[path].zero_grad()
        F.cross_entropy(nets[path].train()(images), labels).backward()
        optimizers[path].step()

    @torch.no_grad()
    def evaluate(path: str) -> None:
        nets[path].eval()(images)

    memory = {path: peak_memory(partial(train, path), device) for path in nets}
    trained, evaluated = in_turn(train, nets, steps, device), in_turn(evaluate, nets, steps, device)
    ratio = [figures["textbook"] / figures["ours"] for figures in (trained, evaluated)]
    known = None not in memory.values()
    share = memory["textbook"] / memory["ours"] if known else None
    return Row(name, trained["ours"], evaluated["ours"], memory["ours"], *ratio, share)


def check_equal(nets: dict[str, nn.Module], images: Tensor) -> None:
    """Raises RuntimeError if the two paths do not compute the same."""
    with torch.no_grad():
        ours, other = (net.eval()(images) for net in nets.values())
    error = ((ours - other).abs().max() / ours.abs().max()).item()
    if not error < 1e-3:
        raise RuntimeError(f"the textbook path differs from ours by {error:.1e}; nothing was timed.")


def in_turn(work: Callable[[str], None], names: Sequence[str], steps: int, device: str) -> dict[str, float]:
    """Median milliseconds of `work` for each name, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for n in range(steps + 1):
        for name in names:
            start = clock(device)
            work(name)
            if n:
                times[name].append(1e3 * (clock(device) - start))
    return {name: median(own) for name, own in times.items()}


def clock(device: str) -> float:
    """Seconds, once the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(work: Callable[[], None], device: str) -> float | None:
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
    held = resident(status, "VmRSS")
    work()
    return resident(status, "VmHWM") - held


def resident(status: Path, field: str) -> float:
    """A field of Linux' process status, in MiB."""
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def cases(groups: Sequence[str], chosen: Sequence[str], device: str, steps: int) -> Iterator[tuple[str, Row]]:
    """The chosen implementations of every group, then separable and nonseparable on more rotations."""
    for name in groups:
        group, elements, forms, mask = GROUPS[name]
        for form in (form for form in forms if form in chosen):
            yield name, measure(form, build(form, group, elements, mask), device, steps)
    for form in (form for form in ("separable", "nonseparable") if form in chosen):
        for rotations in (4, 8, 16, 32):
            few = min(steps, 2) if form == "nonseparable" and rotations > 8 else steps
            net = build(form, SO2(), (rotations,), GROUPS["se2"][3])
            yield f"{form}, by rotations", measure(str(rotations), net, device, few)


def tables(rows: Sequence[tuple[str, Row]]) -> str:
    """Markdown, one table per section."""
    lines = []
    for section in dict.fromkeys(name for name, _ in rows):
        lines += [f"\n## {section}\n", "| | training step | ratio | evaluation step | ratio | peak memory | ratio |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for _, row in (pair for pair in rows if pair[0] == section):
            memory = "-" if row.memory is None else f"{row.memory:.0f} MiB | {row.memory_ratio:.2f}"
            lines.append(
                f"| {row.name} | {row.train:.0f} ms | {row.train_ratio:.2f} | {row.evaluate:.0f} ms | "
                f"{row.evaluate_ratio:.2f} | {memory} |"
            )
    return "\n".join(lines)


def hardware(device: str) -> str:
    """What the figures were measured on."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    every = FORMS + PART_FORMS
    parser.add_argument("--implementations", nargs="+", default=every, choices=every)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each path")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    rows = []
    for section, row in cases(options.groups, options.implementations, options.device, options.steps):
        print(section, row, flush=True)
        rows.append((section, row))
    write_text(
        options.output, HEADER.format(hardware=hardware(options.device), torch=torch.__version__) + tables(rows) + "\n"
    )
    print(f"written to {options.output}")


HEADER = """# Benchmarks

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
