"""What TensorBoard is told besides curves."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed
from kills import SMALL, Bomb
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from short_fits import QUIET, events, fit, points, whole_and_killed
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from src.callbacks import Checkpoints
from src.callbacks.dashboard import Dashboard, _add_histogram, _charts_of, _declared, _metrics_of, _texts
from src.models.tasks import Classification
from src.training.recipe import build

pytestmark = QUIET
TASK = Classification(10)
VALUES = {"lr": 0.1, "elements": [8, 3], "net": "ckgresnet", "augmented": True, "clip": None}
CONFIG = f"a: {{b: 1}}\nc: ${{a.b}}\nchosen: {json.dumps(VALUES)}\n"
HPARAMS = {name: f"chosen.{name}" for name in [*VALUES, "what_the_net_lacks"]}
ADDED = (
    "++observers.dashboard={_target_: src.callbacks.dashboard.Dashboard, every_epochs: 2, "
    "hparams: {elements: group.elements}}"
)
PROMISED = {
    "train/loss": ("training", "loss"),
    "val/loss": ("training", "loss"),
    "train/acc": ("training", "accuracy"),
    "val/acc": ("training", "accuracy"),
    "lr-Adam/kernels": ("training", "learning rate"),
    "train/gradient_norm": ("training", "gradient norm"),
    "train/update_ratio": ("training", "update to weight ratio"),
    "train/update_ratio/kernels": ("training", "update to weight ratio"),
    "redundancy/first/stages.0.0.conv1": ("redundancy along the group", "first"),
    "redundancy/first/stages.0.0.conv1/random": ("redundancy along the group", "first"),
    "redundancy/first_centred/final.0/scales/initial": ("redundancy along the group", "first_centred"),
    "redundancy/effective_rank/overall": ("redundancy along the group", "effective_rank"),
    "redundancy/components95/overall/random": ("redundancy along the group", "components95"),
    "equivariance/rotation/lifting.0": ("equivariance error", "rotation"),
    "equivariance/scale/lifting.0": ("equivariance error", "scale"),
    "equivariance/reflection/stages.0.0.conv1": ("equivariance error", "reflection"),
    "equivariance/random/logits": ("equivariance error", "random"),
    "equivariance/lattice/logits": ("equivariance error", "lattice"),
    "time/samples_per_second": ("throughput", "samples per second"),
    "time/epoch/samples_per_second": ("throughput", "samples per second"),
    "time/data_share": ("throughput", "share of time waiting for data"),
    "time/step": ("throughput", "seconds of a step"),
    "time/memory_gib": ("throughput", "memory in GiB"),
}
"""Tags of all callbacks, and the chart that shows them."""


class Witness(Callback):
    """Keeps the gradients of the last step of every epoch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.gradients = {name: weight.grad.clone() for name, weight in pl_module.net.named_parameters()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Witness, Trainer]:
    """A run with a dashboard, clipped, of three epochs."""
    folder = tmp_path_factory.mktemp("run")
    dashboard, witness = Dashboard(HPARAMS, every_epochs=2), Witness()
    dashboard.about = {
        "config": f"a: {{b: 1}}\nc: ${{a.b}}\nchosen: {json.dumps(VALUES)}\n",
        "commit": "0123abc",
        "versions": {"torch": "2.0"},
    }
    callbacks = [dashboard, witness, Checkpoints(folder / "checkpoints", monitor="val/loss", mode="min")]
    return folder, witness, fit(folder, callbacks, gradient_clip_val=0.05, enable_checkpointing=True)


def plugin_data(folder: Path) -> dict[str, plugin_data_pb2.HParamsPluginData]:
    """What the table of runs is made of, by tag."""
    found = events(folder).PluginTagToContent("hparams")
    return {tag: plugin_data_pb2.HParamsPluginData.FromString(content) for tag, content in found.items()}


def shown(charts: dict[str, dict[str, list[str]]], tag: str) -> list[tuple[str, str]]:
    """The charts that show a tag, as TensorBoard matches it."""
    return [
        (category, title)
        for category, own in charts.items()
        for title, tags in own.items()
        if any(re.match(regex, tag) for regex in tags)
    ]


def written_charts(folder: Path) -> dict[str, dict[str, list[str]]]:
    (event,) = events(folder).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {each.title: {chart.title: list(chart.multiline.tag) for chart in each.chart} for each in layout.category}


def histograms(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    found = events(folder)
    return {tag: [(x.step, x.histogram_value) for x in found.Histograms(tag)] for tag in found.Tags()["histograms"]}


def test_every_promised_tag_is_in_one_chart(run: tuple[Path, Witness, Trainer]) -> None:
    charts = written_charts(run[0])
    assert charts == _charts_of(run[2].lightning_module.net, TASK)
    expected = {tag: place for tag, place in PROMISED.items() if place[1] not in ("scale", "reflection")}
    assert {tag: shown(charts, tag) for tag in expected} == {tag: [place] for tag, place in expected.items()}
    assert set(expected.values()) == {(category, title) for category, own in charts.items() for title in own}


def test_charts_are_those_of_the_group() -> None:
    def charts(*overrides: str) -> dict[str, dict[str, list[str]]]:
        return _charts_of(build(composed(*SMALL, *overrides)).model.net, TASK)

    error = "equivariance error"
    assert charts("group=sim2", "group.elements=[4,2]")[error].keys() == {"rotation", "scale", "random", "lattice"}
    assert charts("group=p4m", "group.elements=[4,2]")[error].keys() == {"rotation", "reflection", "random", "lattice"}
    assert shown(charts("group=sim2", "group.elements=[4,2]"), "equivariance/scale/final.0") == [(error, "scale")]
    plain = charts("group=r2", "group.elements=[1]")
    assert plain.keys() == {"training", error, "throughput"}, "a CNN has no kernels along a group"
    assert "lattice" not in plain[error], "nor does it promise anything"


@pytest.mark.parametrize("tag", ["train/losses", "redundancy/firsts/x", "time/Dashboard_share", "hp_metric", "val/x"])
def test_no_chart_shows_another_tag(tag: str) -> None:
    assert shown(_charts_of(build(composed(*SMALL)).model.net, TASK), tag) == []


def test_the_table_of_runs(run: tuple[Path, Witness, Trainer]) -> None:
    data = plugin_data(run[0])
    parameters = data["_hparams_/session_start_info"].session_start_info.hparams
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in parameters.items()}
    assert values == {"lr": 0.1, "elements": "[8, 3]", "net": "ckgresnet", "augmented": "True"}
    experiment = data["_hparams_/experiment"].experiment
    assert {info.name for info in experiment.hparam_infos} == set(values)
    assert [info.name.tag for info in experiment.metric_infos] == ["best/val/loss", *_metrics_of(TASK)]
    assert data["_hparams_/session_end_info"].session_end_info.status == 1, "STATUS_SUCCESS of its protocol"
    assert "hp_metric" not in points(run[0])


def test_the_best_so_far_is_logged(run: tuple[Path, Witness, Trainer]) -> None:
    curves = points(run[0])
    losses = [value for _, value in curves["val/loss"]]
    assert curves["best/val/loss"] == [(step, min(losses[: n + 1])) for n, step in enumerate((6, 13, 20))]


def test_texts_say_where_a_run_comes_from(run: tuple[Path, Witness, Trainer]) -> None:
    found = events(run[0])
    config, origin = (
        found.Tensors(f"about/{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("config", "origin")
    )
    assert config.startswith("```yaml\na:\n  b: 1\nc: 1\nchosen:\n"), "resolved"
    assert config.endswith("\n```")
    assert "| commit | `0123abc` |" in origin
    assert "| torch | `2.0` |" in origin
    assert sys.argv[0] in origin
    assert "commit" not in _texts({})["about/origin"]


def test_histograms_of_weights_and_gradients(run: tuple[Path, Witness, Trainer]) -> None:
    folder, witness, trainer = run
    found = histograms(folder)
    parameters = dict(trainer.lightning_module.net.named_parameters())
    assert found.keys() == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in parameters}
    for name, weight in parameters.items():
        weights, gradients = found[f"weights/{name}"], found[f"gradients/{name}"]
        assert [step for step, _ in weights] == [0, 13, 20], "at first, every two epochs, and at the end"
        assert [step for step, _ in gradients] == [13, 20]
        for (_, histogram), values in ((weights[-1], weight.detach()), (gradients[-1], witness.gradients[name])):
            assert histogram.num == values.numel()
            assert (histogram.min, histogram.max) == (values.min(), values.max())
        assert (weights[0][1].sum, weights[0][1].min) != (weights[-1][1].sum, weights[-1][1].min), "trained"


def test_weights_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="tensorboard")
    for tag, values in {"some": [1.0, float("nan"), 3.0], "none": [float("inf")]}.items():
        _add_histogram(logger.experiment, tag, torch.tensor(values), 0)
    logger.finalize("success")
    ((_, histogram),) = histograms(tmp_path)["some"]
    assert (histogram.num, histogram.sum) == (2, 4)
    assert "none" not in histograms(tmp_path)


@pytest.mark.parametrize("value", [{"a": 1}, object(), 1j])
def test_a_parameter_that_cannot_be_shown_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="`hparams` must name keys of scalars or lists, but optimizer is"):
        _declared({"lr": 0.1, "optimizer": value})


def test_columns_are_keys() -> None:
    with pytest.raises(ValueError, match=r"`hparams` must map names to keys such as optimizer\.lr, but lr is 0.1"):
        Dashboard({"lr": 0.1})


@pytest.mark.parametrize("logger", [False, None])
def test_without_tensorboard_nothing_happens(tmp_path: Path, logger: bool | None) -> None:
    options = {"logger": False} if logger is False else {}
    fit(tmp_path, [Dashboard(HPARAMS, every_epochs=1)], max_epochs=1, **options)
    assert (tmp_path / "tensorboard").exists() == (logger is None)
    assert logger is False or "best/val/acc" not in points(tmp_path), "nobody keeps what is best"


def test_training_is_the_same_without_it(tmp_path: Path) -> None:
    one, two, other = (
        fit(tmp_path / name, callbacks, **options).lightning_module.state_dict()
        for name, callbacks, options in (
            ("with", [Dashboard(every_epochs=1)], {}),
            ("without", [], {}),
            ("other", [], {"gradient_clip_val": 0.01}),
        )
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_is_killed_writes_the_same(tmp_path: Path) -> None:
    """Over two processes: only the first writes."""
    overrides = [*SMALL, ADDED, "train.epochs=2"]
    one, two = (run / "tensorboard" for run in whole_and_killed(tmp_path, overrides, Bomb("step", 9, rank=1)))
    assert points(one.parent) == points(two.parent)
    assert {"best/val/acc", "val/acc"} < points(one.parent).keys()
    assert histograms(one.parent) == histograms(two.parent)
    assert len(histograms(one.parent)["weights/lifting.0.kernel.nets.0.output.weight"]) == 2
    for folder in (one.parent, two.parent):
        assert written_charts(folder), "once"
        assert len(events(folder).Tensors("about/origin/text_summary")) == 1
        assert plugin_data(folder).keys() == {
            f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info")
        }
