"""Data modules that are Lightning's and nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composing import composed
from lightning.pytorch import LightningDataModule
from omegaconf import open_dict
from short_fits import QUIET, points
from torch.utils.data import DataLoader, TensorDataset

from src import data
from src.config import targets
from src.config.compose import CONFIGS
from src.reports.report import report
from src.runs.record import read
from src.training import train
from src.training.dry_run import describe
from src.training.evaluate import evaluate
from src.training.recipe import build
from src.training.run import Request
from src.training.trainer import make_trainer

pytestmark = QUIET
SMALL = (
    *("net.hidden_sizes=[4,4,4]", "conv.kernel_size=3", "net.exact=off", "train.epochs=2", "observers=brief"),
    *(f"observers.equivariance.{key}" for key in ("samples=4", "elements=1", "curve_samples=8", "angles=4")),
    "+observers.figures.before_training=false",
)
FACTS = ("net.in_channels=1", "net.classes=2", "net.size=16", "task.classes=2")


class Plain(LightningDataModule):
    """Bright and dark images of noise."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def _loader(self) -> DataLoader:
        labels = torch.arange(32) % 2
        images = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + labels[:, None, None, None]
        return DataLoader(TensorDataset(images, labels), self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = _loader


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A configuration with such data."""
    monkeypatch.setattr(Plain, "__module__", "src.data.plain")
    monkeypatch.setattr(data, "Plain", Plain, raising=False)
    named = targets._named(CONFIGS) | {"src.data.Plain"}
    monkeypatch.setattr(targets, "_named", lambda _: named)
    cfg = composed(*SMALL, *FACTS, f"paths.logs={tmp_path}/logs", "trainer.log_every_n_steps=1")
    with open_dict(cfg):
        cfg.dataset = {"_target_": "src.data.Plain", "batch_size": "${train.batch_size}"}
    return cfg


def test_a_run(cfg, capsys: pytest.CaptureFixture[str]) -> None:
    cfg.train.batch_size = 8
    describe(cfg, Request())
    assert "images" not in capsys.readouterr().out.partition("Nothing was trained")[2]
    result = train(cfg)
    run = read(result.folder)
    assert (run.status, run.data, run.epoch) == ("complete", None, 2)
    tags = {tag.partition("/")[0] for tag in points(result.folder)}
    assert {"train", "val", "equivariance", "robustness", "redundancy", "lr-AdamW"} <= tags, "observers look on"
    assert report([result.folder]).exists()
    assert evaluate(result.folder)["metrics"]["test/acc"] == result.metrics["test/acc"]


def test_a_debugging_run(cfg) -> None:
    cfg.debug = True
    assert "test/acc" in train(cfg).metrics


@pytest.mark.parametrize(("batches", "steps"), [(None, 10), (3, 3), (30, 10)])
def test_logging_at_least_once_an_epoch(cfg, monkeypatch: pytest.MonkeyPatch, batches: int | None, steps: int) -> None:
    cfg.trainer.log_every_n_steps, cfg.logger = 10, None
    if batches is not None:
        monkeypatch.setattr(Plain, "train_batches", batches, raising=False)
    assert make_trainer(build(cfg)).log_every_n_steps == steps
