"""Runs that are stopped at chosen moments, and go on; runs of several processes; what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run_script
from composing import composed
from kills import SMALL, WAYS, Bomb, execute, only_run, result, unequal
from omegaconf import OmegaConf

from src.callbacks.interruption import _CODES
from src.runs.checkpoints import latest, load, load_weights, read_weights
from src.training import ConfigError
from src.training.run import Request, folder_of, train

# Lightning's own, on this version of torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*"),
]
KILLS = [
    Bomb("step", 4),
    Bomb("save", 1),
    Bomb("validation", 2),
    Bomb("rename", 3),
    Bomb("link", 2),
    Bomb("step", 7),
    Bomb("test", 1),
]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    logs = tmp_path_factory.mktemp("whole") / "logs"
    assert execute(SMALL, logs) == [0]
    return only_run(logs)


@pytest.mark.parametrize("way", [way for way in WAYS if "workers" not in way])
def test_a_run_that_is_killed_comes_to_the_same(tmp_path: Path, way: str) -> None:
    overrides, ranks = [*SMALL, *WAYS[way][0]], WAYS[way][1]
    whole, killed = tmp_path / "whole" / "logs", tmp_path / "killed" / "logs"
    for logs in (whole, killed):
        logs.parent.mkdir()
    assert execute(overrides, whole, ranks=ranks) == [0] * ranks
    expected, seen = result(only_run(whole)), 0
    for bomb in KILLS if ranks == 1 else KILLS[:3]:
        codes = execute(overrides, killed, bomb._replace(rank=seen % ranks), ranks)
        seen += codes[seen % ranks] == -signal.SIGKILL
    assert seen >= 3
    assert execute(overrides, killed, ranks=ranks) == [0] * ranks
    assert unequal(expected, result(only_run(killed))) == []
    assert status(only_run(killed))["status"] == "complete"


def test_a_run_with_metrics_that_keep_what_they_saw_goes_on_to_the_bit(tmp_path: Path) -> None:
    overrides = [*SMALL, "task.metrics=[acc,auroc,ece,nll]", "task.primary=nll", "train.epochs=2"]
    folders = [tmp_path / name / "logs" for name in ("whole", "killed")]
    for logs in folders:
        logs.parent.mkdir()
    assert execute(overrides, folders[0]) == [0]
    assert execute(overrides, folders[1], Bomb("step", 11)) != [0]
    assert execute(overrides, folders[1]) == [0]
    whole, killed = (result(only_run(logs)) for logs in folders)
    assert not unequal(whole, killed)
    values = [value for _, value in whole["points"]["val/nll"]]
    assert f'"val/nll": {min(values)}'[:20] in whole["metrics"], "the best is the lowest"


def test_the_comparison_sees_a_difference(whole: Path, tmp_path: Path) -> None:
    """What it would say of a run that went on with other random numbers, or logged a point twice."""
    expected = result(whole)
    assert unequal(expected, expected) == []
    assert execute([*SMALL, "seed=1"], tmp_path / "logs") == [0]
    other = unequal(expected, result(only_run(tmp_path / "logs")))
    assert {difference.split("/")[1].split(":")[0] for difference in other} >= {
        "weights",
        "optimiser",
        "random",
        "points",
    }
    points = expected["points"] | {"val/acc": [*expected["points"]["val/acc"], (20, 0.0)]}
    assert unequal(expected, expected | {"points": points}) == ["/points/val/acc: 3 against 4"]


@pytest.mark.parametrize(("number", "code"), list(_CODES.items()))
def test_a_signal_stops_a_run_within_a_step(tmp_path: Path, whole: Path, number: int, code: int) -> None:
    logs = tmp_path / "logs"
    overrides = [*SMALL, "callbacks.checkpoint.every_steps=null"]
    assert execute(overrides, logs, Bomb("step", 4, number=number)) == [code]
    folder = only_run(logs)
    assert status(folder)["status"] == "interrupted"
    assert status(folder)["sessions"][-1]["signal"] == signal.Signals(number).name
    assert load(folder / "checkpoints" / "last.ckpt")["global_step"] == 4, "the step that it arrived in is the last"
    assert execute(overrides, logs) == [0]
    assert unequal(result(whole), result(folder)) == []
    assert len(status(folder)["sessions"]) == 2


def test_a_signal_to_one_rank_stops_all(tmp_path: Path) -> None:
    codes = execute(SMALL, tmp_path / "logs", Bomb("step", 4, rank=1, number=signal.SIGTERM), ranks=2)
    assert codes == [143, 143]
    assert status(only_run(tmp_path / "logs"))["status"] == "interrupted"


def test_a_signal_in_validation_waits_for_the_epoch(tmp_path: Path) -> None:
    assert execute(SMALL, tmp_path / "logs", Bomb("validation", 1, number=signal.SIGTERM)) == [143]
    state = load(only_run(tmp_path / "logs") / "checkpoints" / "last.ckpt")
    assert state["global_step"] == 7
    assert state["callbacks"]["Checkpoints"]["best_epoch"] == 0


def test_two_ranks_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    """Curves to 1e-5, for sums are taken in another order; accuracy on the test set exactly.

    In double precision, as training amplifies the rounding of single precision beyond any useful tolerance.
    """
    overrides = [*SMALL, "net.head.dropout=0", "train.shared_statistics=true", "train.precision=64-true"]
    overrides += ["dataset.limit_train=103", "group.sampling=random"]  # 103 = 6 x 16 + 7: unequal shares at the end
    found = []
    for ranks in (1, 2):
        logs = tmp_path / f"{ranks}" / "logs"
        logs.parent.mkdir()
        assert execute(overrides, logs, ranks=ranks) == [0] * ranks
        found.append(result(only_run(logs)))
    one, two = found
    assert one["points"].keys() == two["points"].keys()
    for tag, points in one["points"].items():
        assert torch.tensor(points) == pytest.approx(torch.tensor(two["points"][tag]), abs=1e-5), tag
    metrics = [json.loads(each["metrics"]) for each in found]
    assert metrics[0]["test/acc"] == metrics[1]["test/acc"]
    apart = tmp_path / "apart" / "logs"
    apart.parent.mkdir()
    assert execute([*overrides, "train.shared_statistics=false"], apart, ranks=2) == [0, 0]
    loss = result(only_run(apart))["points"]["train/loss"]
    assert torch.tensor(loss) != pytest.approx(torch.tensor(one["points"]["train/loss"]), abs=1e-5), "without sharing"


def test_processes_that_slurm_starts(tmp_path: Path, whole: Path) -> None:
    assert execute(SMALL, tmp_path / "logs", ranks=2, launcher="slurm", fresh=True) == [0, 0]
    again = execute(SMALL, tmp_path / "logs", ranks=2, launcher="slurm", fresh=True)
    assert again == [0, 0]
    names = sorted(path.name for path in (tmp_path / "logs" / "quickstart").iterdir())
    assert names == [names[0], f"{names[0]}-2"], "one folder for both processes, and a fresh one beside it"
    assert names[0][-8:] == whole.name[-8:], "the number of processes is placement"


def test_processes_that_the_trainer_starts_share_the_folder(tmp_path: Path) -> None:
    done = run_script("train", *SMALL, "trainer.devices=2", "train.epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "over 2 processes, 8 each" in done.stdout
    assert done.stdout.count("test accuracy") == 1
    assert status(only_run(tmp_path / "logs"))["status"] == "complete"


def test_another_process_has_the_run(tmp_path: Path) -> None:
    cfg = composed(*SMALL, f"paths.logs={tmp_path}/logs")
    folder = folder_of(cfg, Request())
    folder.mkdir(parents=True)
    lock = f"lock = filelock.FileLock({str(folder / '.lock')!r})"
    holder = f"import filelock, time; {lock}; lock.acquire(); print(1); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-uc", holder], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(ConfigError, match="is being trained by process"):
            train(cfg)
        process.kill()


def test_a_changed_run_is_refused_unless_forced(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "logs" / "quickstart" / whole.name
    shutil.copytree(whole, folder)
    (folder / "status.json").write_text(json.dumps(status(whole) | {"status": "interrupted"}))
    flags = {"folder": folder}
    assert execute(["optimizer.lr=0.5", "train.epochs=4"], tmp_path / "logs", **flags) == [2]
    said = (tmp_path / "out-0.txt").read_text()
    assert "was begun with another configuration" in said
    assert "optimizer.lr: 0.001 -> 0.5" in said
    assert "train.epochs: 3 -> 4" in said
    assert OmegaConf.load(folder / "config.yaml").train.epochs == 3
    assert execute(["train.epochs=4"], tmp_path / "logs", **flags, force=True) == [0]
    assert OmegaConf.load(folder / "config.yaml").train.epochs == 4
    assert status(folder)["sessions"][-1]["changes"] == ["train.epochs: 3 -> 4"]


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole / "checkpoints", folder)
    last, previous = folder / "last.ckpt", folder / "previous.ckpt"
    assert latest(folder)[0] == last
    content = last.read_bytes()
    for damage in (b"", content[:1000], content[:5000] + b"\x00\x01" + content[5002:]):
        last.unlink()  # it may be a second name of best.ckpt
        last.write_bytes(damage)
        with pytest.warns(RuntimeWarning, match=r"last\.ckpt is not an intact checkpoint .*the checkpoint before it"):
            assert latest(folder)[0] == previous
    previous.unlink()
    previous.write_bytes(b"")
    with pytest.warns(RuntimeWarning), pytest.raises(ConfigError, match="FRESH=1"):
        latest(folder)
    assert latest(tmp_path) is None


def test_a_full_disk_stops_a_run_and_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: Any) -> None:
    cfg = composed(*SMALL, f"paths.logs={tmp_path}/logs", "callbacks.checkpoint.every_steps=null")
    saves, save = [], torch.save

    def full(content: Any, file: Any) -> None:
        saves.append(1)
        if len(saves) == 4:  # best, weights, then the second epoch
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train(cfg)
    folder = only_run(tmp_path / "logs")
    assert status(folder)["status"] == "failed"
    assert "No space left on device" in (folder / "error.log").read_text()
    assert latest(folder / "checkpoints")[1]["global_step"] in (7, 14)
    assert not list((folder / "checkpoints").glob(".*"))
    monkeypatch.setattr(torch, "save", save)
    assert "test/acc" in train(cfg).metrics


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.ckpt"
    torch.save({"state_dict": Malicious()}, path)
    with pytest.raises(ConfigError, match="not an intact checkpoint of tensors and plain containers"):
        load(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ConfigError, match="not an intact checkpoint"):
        load(path)
    cfg = composed(*SMALL, f"paths.logs={tmp_path}/logs", f"pretrained.path={path}")
    with pytest.raises(ConfigError, match="not an intact checkpoint"):
        train(cfg)
    assert not Path("harm").exists()
    pickle.loads(pickle.dumps(Malicious()))
    assert Path("harm").exists(), "it would have"


def test_pretrained_weights(tmp_path: Path, whole: Path) -> None:
    def run(*overrides: str) -> dict[str, float]:
        cfg = composed(*SMALL, f"paths.logs={tmp_path}/logs", f"pretrained.path={whole}", *overrides)
        return train(cfg).metrics

    tested = run("train.do=false")
    expected = json.loads((whole / "metrics.json").read_text())
    assert tested["test/acc"] == expected["test/acc"]
    with pytest.raises(ConfigError, match=r"do not fit the net: .*not in the net"):
        run("train.do=false", "net.hidden_sizes=[4,4]")
    with pytest.raises(ConfigError, match=r"`pretrained.path` must be given with train.do=false"):
        train(composed(*SMALL, f"paths.logs={tmp_path}/logs", "train.do=false"))
    net = torch.nn.Linear(2, 3)
    left = load_weights(net, {"weight": torch.ones(3, 2), "bias": torch.ones(4), "more": torch.ones(1)}, strict=False)
    assert left == ["bias: (4,) in the file, (3,) in the net", "more: not in the net"]
    assert net.weight.eq(1).all()
    assert set(read_weights(whole)) == set(read_weights(whole / "checkpoints" / "last.ckpt"))


def test_a_multirun_with_several_devices_is_refused(tmp_path: Path) -> None:
    done = run_script("train", "-m", "seed=0,1", "trainer.devices=2", f"hydra.sweep.dir={tmp_path}/sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert "a multirun must have trainer.devices=1" in done.stderr
    assert "`make sweep`" in done.stderr


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    done = run_script("train", "--dry-run", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("Nothing was trained", "start", " 982 ", "hidden_sizes"):
        assert part in done.stdout
    assert not (tmp_path / "logs").exists()
