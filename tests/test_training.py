"""A run from its command to its folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_script
from composing import composed
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.runs.checkpoints import AtomicCheckpointIO
from src.runs.identity import run_id
from src.runs.status import Status
from src.training import ConfigError, Result, load_recipe, train
from src.training.recipe import build
from src.training.run import Request

SMALL = [
    "net.hidden_sizes=[4,4,6]",
    "conv.kernel_size=3",
    "dataset.size=16",
    "dataset.limit_train=96",
    "dataset.limit_val=40",
    "dataset.limit_test=48",
    "train.epochs=2",
    # All observers look on, but only once, and at little.
    *(f"observers.equivariance.{key}" for key in ("samples=4", "elements=1", "curve_samples=8", "angles=4")),
    "observers.equivariance.before_training=false",
    "+observers.figures.before_training=false",
]
# Lightning's own, on this version of torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*"),
]


def small(tmp_path: Path, *overrides: str):
    return composed(*SMALL, f"paths.logs={tmp_path}/logs", f"paths.cache={tmp_path}/cache", *overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run's folder."""
    return train(small(tmp_path_factory.mktemp("run"))).folder


def test_a_configuration_is_not_changed(tmp_path: Path) -> None:
    cfg = small(tmp_path, "train.epochs=1")
    before = str(cfg)
    result = train(cfg)
    assert result.folder == next((tmp_path / "logs").glob("*/seed0-*"))
    assert result.metrics == json.loads((result.folder / "metrics.json").read_text())
    assert str(cfg) == before
    np.savez(tmp_path / "data.npz", images=np.zeros((60, 16, 16), np.uint8), labels=np.arange(60) % 3)
    cfg = small(tmp_path, "dataset=npz", f"dataset.path={tmp_path}/data.npz", "dataset.size=null")
    before = str(cfg)
    recipe = build(cfg)
    assert (recipe.cfg.dataset.classes, recipe.cfg.dataset.channels) == (3, 1)
    assert str(cfg) == before, "what it leaves open stays open"


def test_run_folder(finished: Path) -> None:
    assert finished.parent.name == "quickstart"
    assert finished.name == run_id(OmegaConf.load(finished / "config.yaml"), [])
    assert {path.name for path in finished.iterdir()} == {
        ".lock",
        "config.yaml",
        "recipe.yaml",
        "status.json",
        "metrics.json",
        "checkpoints",
        "tensorboard",
    }
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
        "weights.pt",
    }
    status = json.loads((finished / "status.json").read_text())
    assert (status["status"], status["epoch"], status["epochs"], len(status["sessions"])) == ("complete", 2, 2, 1)
    assert status["data"].startswith("digits-")
    assert status["seconds"] > 0
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics) == {"test/acc", "test/loss", "val/acc", "parameters"}
    assert 0 <= metrics["test/acc"] <= 1


def test_checkpoints_hold_plain_data(finished: Path) -> None:
    """Every file that we write, with code in it refused."""
    for path in (finished / "checkpoints").iterdir():
        content = torch.load(path, weights_only=True)
        assert content["weights" if path.name == "weights.pt" else "state_dict"]


def test_a_run_can_be_built_again_from_its_folder(finished: Path) -> None:
    recipe = load_recipe(run=finished)
    best = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in recipe.model.net.state_dict().items():
        assert torch.equal(value, best[f"net.{name}"])
    about = torch.load(finished / "checkpoints" / "weights.pt", weights_only=True)
    assert OmegaConf.create(about["config"]).name == "quickstart"
    assert set(about["versions"]) >= {"torch", "lightning"}
    assert "commit" in about
    finer = load_recipe(run=finished, overrides=["group.elements=[16]", "dataset.size=20"])
    assert finer.model.net.final[0].elements == (16,)
    with pytest.raises(ConfigError, match=r"Did you mean 'group.elements'"):
        load_recipe(run=finished, overrides=["group.element=[16]"])
    with pytest.raises(ConfigError, match="must be the folder of a run"):
        load_recipe(run=finished / "checkpoints")


def test_the_tested_net_is_the_best_checkpoint(finished: Path) -> None:
    recipe = load_recipe("quickstart", [*SMALL])
    recipe.model.load_state_dict(torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"])
    correct = total = 0
    with torch.no_grad():
        for images, labels in recipe.datamodule.test_dataloader():
            correct += int((recipe.model.eval()(images).argmax(1) == labels).sum())
            total += len(labels)
    assert total == 48
    assert correct / total == pytest.approx(json.loads((finished / "metrics.json").read_text())["test/acc"])


def test_tensorboard_has_every_curve(finished: Path) -> None:
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "test/acc"} <= tags
    assert len(events.Scalars("val/acc")) == 2
    assert "hp_metric" not in tags


def test_a_complete_run_is_printed_and_left_alone(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stamps() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in finished.rglob("*")}

    before, metrics = stamps(), json.loads((finished / "metrics.json").read_text())
    assert train(small(finished.parents[2])) == Result(finished, metrics)
    assert "test accuracy" in capsys.readouterr().out
    assert stamps() == before


def test_a_fresh_run_beside_it_comes_to_the_same(finished: Path) -> None:
    again = train(small(finished.parents[2], "observers.figures=null"), Request(fresh=True)).folder
    assert again.name == f"{finished.name}-2", "an earlier run is left alone"
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (finished, again))
    assert all(torch.equal(one["state_dict"][key], two["state_dict"][key]) for key in one["state_dict"])
    assert (finished / "metrics.json").read_bytes() == (again / "metrics.json").read_bytes()


def test_run_ids_depend_on_what_decides_results(tmp_path: Path) -> None:
    base = run_id(small(tmp_path), [])
    assert re.fullmatch("seed0-[0-9a-f]{8}", base)
    placed = ["paths.data=elsewhere", "trainer.accelerator=cpu", "trainer.devices=4", "logger=none"]
    placed += ["dataset.num_workers=2", "observers.progress=null"]
    assert run_id(small(tmp_path, *placed), placed) == base
    assert run_id(small(tmp_path, "seed=1"), ["seed=1"]).startswith("seed1-")
    changed = ["group=p4m", "optimizer.lr=0.1", "experiment=quickstart", "net.hidden_sizes=[4,4]"]
    assert run_id(small(tmp_path, *changed), changed).startswith("p4m_lr-0.1_hidden-sizes-4-4_seed0-")
    assert run_id(small(tmp_path, *changed), [])[-8:] == run_id(small(tmp_path, *changed), changed)[-8:] != base[-8:]


def test_debug_leaves_nothing_behind(tmp_path: Path) -> None:
    cfg = small(tmp_path, "debug=true", "train.epochs=50", "dataset.limit_train=null")
    before = str(cfg)
    result = train(cfg)
    assert result.metrics["test/acc"] >= 0
    assert not (tmp_path / "logs").exists()
    assert not result.folder.exists()
    assert str(cfg) == before, "a short run is of a copy"


def test_random_sampling_and_low_precision_train(tmp_path: Path) -> None:
    cfg = small(tmp_path, "group.sampling=random", "train.precision=bf16-mixed", "train.epochs=1", "logger=none")
    assert train(cfg).metrics["test/acc"] >= 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epochs=0"], "`train.epochs` must be a positive integer, but got 0"),
        (["seed=-1"], "`seed` must be an integer from 0"),
        (["callbacks.checkpoint=null"], "`callbacks.checkpoint` must be there"),
        (["dataset=mnist", "dataset.mirrors=[http://127.0.0.1:9/]"], "dataset=digits"),
        (["dataset.limit_train=9999"], "`limit_train` must be at most 1197"),
    ],
)
def test_wrong_input_leaves_no_folder(tmp_path: Path, overrides: list[str], message: str) -> None:
    cfg = small(tmp_path, f"paths.data={tmp_path}/data", *overrides)
    with pytest.raises(ConfigError, match=message):
        train(cfg)
    assert not (tmp_path / "logs").exists()


def test_a_damaged_mnist_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(b"not the original")
    with pytest.raises(ConfigError, match=r"(?s)ubyte.gz.*sha256"):
        train(small(tmp_path, "dataset=mnist", f"paths.data={tmp_path}/data"))


@pytest.mark.parametrize(("error", "outcome"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_status_says_how_a_run_ended(tmp_path: Path, error: type[BaseException], outcome: str) -> None:
    def record() -> dict:
        return json.loads((tmp_path / "status.json").read_text())

    def work() -> None:
        with Status(tmp_path).recording():
            assert record()["status"] == "running"
            raise error("of a test")

    for sessions in (1, 2):
        with pytest.raises(error):
            work()
        assert record()["status"] == record()["sessions"][-1]["status"] == outcome
        assert len(record()["sessions"]) == sessions
    assert (tmp_path / "error.log").exists() == (outcome == "failed")
    assert outcome != "failed" or "ValueError: of a test" in (tmp_path / "error.log").read_text()


def test_checkpoints_are_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def full(checkpoint, file) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_the_script_exits_as_it_should(tmp_path: Path) -> None:
    wrong = run_script("train", "trian.epochs=3", cwd=tmp_path)
    assert wrong.returncode == 1
    assert (
        wrong.stderr.strip() == "error: `trian.epochs` is not a key of the configuration. Did you mean 'train.epochs'?"
    )
    right = run_script("train", *SMALL, "train.epochs=1", cwd=tmp_path)
    assert right.returncode == 0, right.stderr
    assert "test accuracy" in right.stdout
    assert "Traceback" not in right.stderr
    assert (tmp_path / "logs" / "quickstart").is_dir(), "runs go to the folder that the command is typed in"
    assert {path.name for path in tmp_path.iterdir()} <= {"logs", ".cache"}, "nothing else is written"
