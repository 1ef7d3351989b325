"""Runs whose loss is no number any more, and weights that are not those of the best epoch."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from composing import composed
from kills import SMALL, Bomb, execute, only_run
from short_fits import QUIET, UNSEEN, fit

from src.callbacks import Divergence, DivergenceError
from src.callbacks.checkpoints import Checkpoints
from src.runs.checkpoints import load, read_weights, write_json
from src.runs.folder import RunFolder
from src.training import ConfigError, load_recipe, train
from src.training.evaluate import evaluate

pytestmark = QUIET
ROOT = Path(__file__).resolve().parents[1]
WILD = "optimizer.lr=1e20"


def test_a_run_that_diverges_says_where_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    words = [*SMALL, WILD, "scheduler=none", f"paths.logs={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "scripts/train.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1
    *_, line = done.stderr.strip().splitlines()
    assert line.startswith("error: the training loss must be finite, but was not in batch ")
    assert ", epoch 1 of 3; " in line
    assert "Lower optimizer.lr" in line
    folder = only_run(tmp_path)
    status = json.loads((folder / "status.json").read_text())
    assert status["status"] == "failed"
    assert not (folder / "metrics.json").exists()
    for file in (folder / "checkpoints").glob("*"):
        weights = load(file)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point()), file


def test_the_first_bad_batch_is_named_before_a_checkpoint(tmp_path: Path) -> None:
    class Poison(Divergence):
        """A loss that is no number from the third batch on."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            loss = torch.tensor(math.nan if batch_idx >= 2 else 1.0)
            super().on_train_batch_end(trainer, pl_module, {"loss": loss}, batch, batch_idx)

    asked = []

    class Saver(Checkpoints):
        def on_train_batch_end(self, trainer, pl_module, *arguments):
            asked.append(trainer.global_step)
            super().on_train_batch_end(trainer, pl_module, *arguments)

    with pytest.raises(DivergenceError, match=r"not in batch 3, epoch 1 of 3; no checkpoint was written before\."):
        fit(tmp_path, [Poison()], log_every_n_steps=4)
    keeper = Saver(tmp_path / "checkpoints", every_steps=3)
    with pytest.raises(DivergenceError, match="not in batch 3, "):
        fit(tmp_path, [Poison(), keeper], log_every_n_steps=7, enable_checkpointing=True)
    assert asked == [1, 2, 3], "asked where it is saved, and not in every step"
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    fit(tmp_path, [Divergence()], max_epochs=1)


@pytest.mark.parametrize(("value", "loss"), [(math.nan, 1.0), (0.9, math.inf), (0.9, math.nan)])
def test_an_epoch_that_is_not_finite_is_never_best(tmp_path: Path, value: float, loss: float) -> None:
    class Trainer:
        callback_metrics = {"val/acc": torch.tensor(value), "val/loss": torch.tensor(loss)}  # noqa: RUF012

    keeper = Checkpoints(tmp_path, "val/acc", "max")
    assert keeper.better(Trainer()) is None
    keeper.best = 0.5
    assert keeper.better(Trainer()) == 0.5
    Trainer.callback_metrics = {"val/acc": torch.tensor(0.75), "val/loss": torch.tensor(1.0)}
    assert keeper.better(Trainer()) == 0.75


def test_json_has_no_numbers_that_are_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": {"c": math.nan, "d": "NaN"}})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [1.5, None, [None, None]],
        "b": {"c": None, "d": "NaN"},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run."""
    cfg = composed(*SMALL, *UNSEEN, f"paths.logs={tmp_path_factory.mktemp('logs')}")
    return train(cfg).folder


def test_best_weights_are_those_of_the_best_checkpoint(trained: Path, tmp_path: Path) -> None:
    files = RunFolder(trained).checkpoints
    expected = read_weights(trained)
    stale = {name: torch.zeros_like(value) for name, value in expected.items()}
    whole = (files / "weights.pt").read_bytes()
    torch.save({"weights": stale}, files / "weights.pt")
    found = read_weights(trained)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert evaluate(trained)["metrics"]["test/acc"] == json.loads((trained / "metrics.json").read_text())["test/acc"]
    best = (files / "best.ckpt").read_bytes()
    (files / "weights.pt").write_bytes(whole)
    (files / "best.ckpt").write_bytes(best[: len(best) // 2])
    with pytest.warns(RuntimeWarning, match=r"best\.ckpt is not an intact checkpoint .*; the next file is taken"):
        found = read_weights(trained)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    (files / "weights.pt").write_bytes(b"nothing")
    (files / "best.ckpt").write_bytes(best)
    assert load_recipe(run=trained).cfg.name == "quickstart"
    (files / "weights.pt").write_bytes(whole)
    for name in ("best.ckpt", "last.ckpt", "weights.pt"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="is not an intact checkpoint"):
        read_weights(tmp_path / "weights.pt")


def test_a_run_killed_before_its_weights_are_written_has_them_in_the_end(tmp_path: Path) -> None:
    words = [*SMALL, "callbacks.checkpoint.every_steps=null", "train.epochs=1"]
    # The files of an epoch, in order: best.ckpt, status.json, weights.pt; last.ckpt is a link.
    for nth in range(1, 9):
        logs = tmp_path / str(nth)
        if execute(words, logs, Bomb("rename", nth)) == [-signal.SIGKILL] and (
            execute(words, logs) == [0]  # goes on to the end, from wherever it was
        ):
            files = only_run(logs) / "checkpoints"
            best = {name.removeprefix("net."): value for name, value in load(files / "best.ckpt")["state_dict"].items()}
            weights = load(files / "weights.pt")["weights"]
            assert all(torch.equal(value, best[name]) for name, value in weights.items()), nth
            assert weights.keys() <= best.keys()
