"""TensorBoard made for this: charts side by side, a table of runs, where a run comes from, and histograms."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as summaries

from src.analysis.actions import LATTICE, RANDOM, acting, kinds
from src.analysis.redundancy import MEASURES, group_convolutions
from src.callbacks.checkpoints import Checkpoints
from src.callbacks.probe import Probe, log, writers
from src.models.relaxed import relaxations
from src.models.tasks import Task
from src.require import is_number

_Scalar = str | int | float | bool
_Value = _Scalar | Sequence[_Scalar] | None


class Dashboard(Probe):
    """Arranges TensorBoard's pages, in the first process; without that logger it does nothing.

    - CUSTOM SCALARS: charts of all that is logged of the net;
    - HPARAMS: chosen parameters of the run, and the last values of the task's metrics and of `best/<monitor>`, which is
      logged at the end of every epoch from what `Checkpoints` keeps. A run that has ended is marked as a success;
    - TEXT: the configuration, and the command, host, commit and versions that the run was begun with;
    - HISTOGRAMS: every parameter of the net, before training, every few epochs and after the last, and its gradient in
      the last step, as the optimiser got it.

    All but the curves is written once, when a run begins: one that goes on keeps what its first process has written.

    Args:
        hparams: keys of the configuration, by the names of the table's columns. What the configuration of a run does
            not have, or has as null, is left out, so that one table serves all nets and optimisers.
        every_epochs: between two histograms.

    Raises:
        ValueError: if `hparams` does not map names to keys, or `every_epochs` is not a positive integer.
    """

    def __init__(self, hparams: Mapping[str, str] | None = None, every_epochs: int = 10) -> None:
        super().__init__(every_epochs)
        self.hparams = dict(hparams or {})
        for name, key in self.hparams.items():
            if not isinstance(key, str):
                raise ValueError(f"`hparams` must map names to keys such as optimizer.lr, but {name} is {key!r}.")
        self.about: dict[str, Any] = {}
        """Where the run comes from: `config` as YAML, `commit`, and `versions` by package."""
        self._gradients: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0 and trainer.is_global_zero:
            for writer in writers(trainer):
                charts = _charts_of(pl_module.net, pl_module.task).items()
                multiline = {title: {name: ("Multiline", tags) for name, tags in own.items()} for title, own in charts}
                writer.add_custom_scalars(multiline)
                best = [f"best/{keeper.monitor}"] if (keeper := _checkpoints(trainer)) else []
                columns, begun, _ = _session(self._parameters(), [*best, *_metrics_of(pl_module.task)])
                for summary in (columns, begun):
                    writer.file_writer.add_summary(summary)
                for tag, text in _texts(self.about).items():
                    writer.add_text(tag, text, 0)
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.is_last_batch:  # kept by reference: they are gone when the epoch ends
            self._gradients = {
                name: weight.grad for name, weight in pl_module.net.named_parameters() if weight.grad is not None
            }

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (keeper := _checkpoints(trainer)) and (best := keeper.better(trainer)) is not None:
            log(trainer, {f"best/{keeper.monitor}": best}, trainer.global_step - 1)
        super().on_train_epoch_end(trainer, pl_module)
        self._gradients = {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for writer in writers(trainer) if trainer.is_global_zero else ():
            *_, ended = _session(self._parameters(), ())
            writer.file_writer.add_summary(ended)

    def report(self, trainer: Trainer, module: LightningModule, results: Sequence[Any], step: int) -> None:
        for writer in writers(trainer):
            for name, weight in module.net.named_parameters():
                _add_histogram(writer, f"weights/{name}", weight, step)
            for name, gradient in self._gradients.items():
                _add_histogram(writer, f"gradients/{name}", gradient, step)

    def _parameters(self) -> dict[str, _Scalar]:
        """The run's row of the table."""
        config = OmegaConf.create(self.about.get("config", ""))
        return _declared({name: OmegaConf.select(config, key) for name, key in self.hparams.items()})


def _declared(hparams: Mapping[str, _Value]) -> dict[str, _Scalar]:
    """Parameters as the table can show them.

    >>> _declared({"lr": 0.1, "elements": [8, 3], "bias": True, "clip": None})
    {'lr': 0.1, 'elements': '[8, 3]', 'bias': 'True'}

    Raises:
        ValueError: for a value that is neither a scalar nor a list.
    """
    shown: dict[str, _Scalar] = {}
    for name, value in hparams.items():
        if isinstance(value, Mapping) or not isinstance(value, _Scalar | Sequence | None):
            raise ValueError(
                f"`hparams` must name keys of scalars or lists, but {name} is {value!r}; name its parts one by one."
            )
        if value is not None:
            shown[name] = value if is_number(value) else str(value)
    return shown


def _session(hparams: Mapping[str, _Scalar], metrics: Sequence[str]) -> tuple[Any, Any, Any]:
    """Summaries of the columns of the table of runs, of the begin of a run, and of its end."""
    return summaries(dict(hparams), dict.fromkeys(metrics, 0))


def _metrics_of(task: Task) -> list[str]:
    """What the table of runs shows besides the best of what is monitored."""
    shown = [f"{stage}/{name}" for name in task.metrics for stage in ("val", "train", "test")]
    return ["val/loss", *shown, "test/loss"]


def _charts_of(net: nn.Module, task: Task) -> dict[str, dict[str, list[str]]]:
    """Charts by category, and the tags that each shows: regular expressions, matched from their beginning."""
    group, sizes, own = acting(net)
    names = [*kinds(group, sizes), RANDOM, *([LATTICE] if own else [])]
    along = {measure: [f"redundancy/{measure}/.*"] for measure in MEASURES} if group_convolutions(net) else {}
    return {
        "training": {
            "loss": ["train/loss$", "val/loss$"],
            **{task.title(name): [f"{stage}/{name}$" for stage in ("train", "val")] for name in task.metrics},
            "gradient norm": ["train/gradient_norm$"],
            "update to weight ratio": ["train/update_ratio"],
            "learning rate": ["lr-"],
        },
        "equivariance error": {name: [f"equivariance/{name}/.*"] for name in names},
        **({"redundancy along the group": along} if along else {}),
        **({"relaxation": {"spread of weights over elements": ["relaxed/.*"]}} if relaxations(net) else {}),
        "throughput": {
            "samples per second": ["time/(epoch/)?samples_per_second$"],
            "share of time waiting for data": ["time/(epoch/)?data_share$"],
            "seconds of a step": ["time/(epoch/)?step$"],
            "memory in GiB": ["time/memory_gib$"],
        },
    }


def _texts(about: Mapping[str, Any]) -> dict[str, str]:
    """Pages of text in Markdown, by tag.

    Args:
        about: see `Dashboard.about`; what is missing is left out.
    """
    rows = {"command": shlex.join(sys.argv), "host": platform.node(), "commit": about.get("commit")}
    rows |= {"python": platform.python_version()} | dict(about.get("versions", {}))
    table = "\n".join(f"| {name} | `{value}` |" for name, value in rows.items() if value)
    pages = {"about/origin": f"| | |\n| --- | --- |\n{table}"}
    if "config" in about:
        resolved = OmegaConf.to_yaml(OmegaConf.create(about["config"]), resolve=True)
        pages["about/config"] = f"```yaml\n{resolved}```"
    return pages


def _checkpoints(trainer: Trainer) -> Checkpoints | None:
    """The callback that knows what is best, if there is one."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)), None)


def _add_histogram(writer: SummaryWriter, tag: str, values: Tensor, step: int) -> None:
    """Write the histogram of what is finite among values; nothing if nothing is."""
    values = values.detach().float()
    finite = values[values.isfinite()]
    if finite.numel():
        writer.add_histogram(tag, finite, step)
