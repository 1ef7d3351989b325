"""From a run to one of another form: the command, what it leaves behind, and going on where it was stopped."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from commands import run_script
from composing import composed
from kills import SMALL, Bomb, execute, only_run
from short_fits import QUIET

from src.config.targets import ConfigError
from src.runs.checkpoints import load, read_weights
from src.training import train
from src.training.projection import projected_run
from src.training.recipe import build, of_run, with_values
from src.training.run import start_from_pretrained

pytestmark = QUIET
STEPS = ("pretrained.fit_steps=3",)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of full kernels."""
    place = tmp_path_factory.mktemp("origin")
    own = ("implementation=nonseparable", "train.epochs=1", f"paths.logs={place}/logs", f"paths.cache={place}/cache")
    return train(composed(*SMALL, *own)).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_projects_fine_tunes_and_leaves_the_origin_as_it_was(origin: Path, tmp_path: Path) -> None:
    before = contents(origin)
    arguments = (str(origin), "implementation=separable", "train.epochs=2", *STEPS, f"paths.logs={tmp_path}/logs")
    done = run_script("project", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(origin) == before
    folder = only_run(tmp_path / "logs")
    assert re.fullmatch(r"separable_epochs-2_fit-steps-3_project-true_seed0-[0-9a-f]{8}", folder.name)
    cfg, record = of_run(folder), json.loads((folder / "projection.json").read_text())
    assert (cfg.pretrained.path, cfg.implementation.formula, cfg.train.epochs) == (str(origin), "oi h, o x", 2)
    metrics = {where: json.loads((where / "metrics.json").read_text()) for where in (origin, folder)}
    assert record["metrics"]["before"]["test/acc"] == pytest.approx(metrics[origin]["test/acc"])
    assert {name: record["parameters"][stage] for name, stage in ((origin, "before"), (folder, "projected"))} == {
        name: own["parameters"] for name, own in metrics.items()
    }
    assert min(record["seconds_per_step"].values()) > 0
    assert record["layers"].pop("lifting.0")["kept"]
    assert all(0 <= each["form"] - 1e-6 <= each["fitted"] < 1 for each in record["layers"].values())
    final = load(folder / "checkpoints" / "last.ckpt")["state_dict"]
    start = load(folder / "checkpoints" / "projected.pt")["weights"]
    assert any(not torch.equal(final[f"net.{name}"], value) for name, value in start.items()), "it was trained"
    trained = read_weights(origin)
    kept = [name for name in start if ".kernel." not in name and "running" not in name and "num_batches" not in name]
    assert kept
    assert all(torch.equal(start[name], trained[name]) for name in kept)
    assert any(not torch.equal(start[name], trained[name]) for name in start if "running_mean" in name)
    for words in (r"test accuracy +│ +[\d.]+ % │ +[\d.]+ % │ +[\d.]+ %", "before.+projected.+fine-tuned", "oi h, o x"):
        assert re.search(words, done.stdout), done.stdout
    again = run_script("project", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout, "it is complete: its result is printed"
    listed = run_script("runs", f"paths.logs={tmp_path}/logs", cwd=tmp_path)
    assert folder.name in listed.stdout.replace("\n", "")


def test_what_was_measured_of_the_projected_net_is_what_testing_it_finds(origin: Path, tmp_path: Path) -> None:
    words = ["implementation=dseparable", "train.do=false", f"paths.logs={tmp_path}/logs", "pretrained.fit_steps=0"]
    result = train(projected_run(origin, words))
    record = json.loads((result.folder / "projection.json").read_text())
    assert result.metrics["test/acc"] == pytest.approx(record["metrics"]["projected"]["test/acc"])


def test_a_run_that_is_killed_comes_to_the_same(origin: Path, tmp_path: Path) -> None:
    """Before its first checkpoint, and after it; the origin may be gone by then."""
    gone = Path(shutil.copytree(origin, tmp_path / "gone" / "logs" / "quickstart" / origin.name))
    words = (*SMALL, *STEPS, "implementation=separable", "train.epochs=1", "pretrained.project=true")
    words = (*words, f"pretrained.path={gone}")
    whole, killed = tmp_path / "whole" / "logs", tmp_path / "killed" / "logs"
    for logs in (whole, killed):
        logs.parent.mkdir()
    assert execute(words, whole) == [0]
    assert execute(words, killed, Bomb("step", 1)) == [-9]
    shutil.rmtree(gone)
    assert not (only_run(killed) / "checkpoints" / "last.ckpt").exists()
    assert (only_run(killed) / "checkpoints" / "projected.pt").exists()
    assert execute(words, killed, Bomb("step", 5)) == [-9]
    assert (only_run(killed) / "checkpoints" / "last.ckpt").exists()
    assert execute(words, killed) == [0]
    one, other = (load(only_run(logs) / "checkpoints" / "last.ckpt")["state_dict"] for logs in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (only_run(whole) / "metrics.json").read_text() == (only_run(killed) / "metrics.json").read_text()
    recipe = build(with_values(of_run(only_run(killed)), {"paths.run": str(only_run(killed))}))
    start_from_pretrained(recipe)
    start = load(only_run(killed) / "checkpoints" / "projected.pt")["weights"]
    assert all(torch.equal(value, start[name]) for name, value in recipe.model.net.state_dict().items())


def test_what_cannot_be_projected_is_told_in_one_line(origin: Path, tmp_path: Path) -> None:
    untrained = Path(shutil.copytree(origin, tmp_path / "untrained"))
    shutil.rmtree(untrained / "checkpoints")
    for folder, word, message in (
        (
            origin,
            "implementation=nonseparable",
            "`implementation` must be another form than .*'oi x h', but got the same",
        ),
        (origin, "train.epochs=2", "`implementation` must be another form"),
        (origin, "implementation=separable+2d", "names the part `h1` of a product, but .* has 1 part"),
        (origin, "net.hidden_sizes=[4,4,8]", r"cannot be projected: the layer `stages\.1\.0\.conv2` must be the same"),
        (origin, "implementation=none_such", "`implementation` has no 'none_such'"),
        (tmp_path / "nowhere", "implementation=separable", "must be the folder of a run"),
        (untrained, "implementation=separable", "weights.pt is not there"),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            projected_run(folder, [word, f"paths.logs={tmp_path}/logs"])
        assert "\n" not in str(error.value)
    done = run_script("project", str(tmp_path / "nowhere"), "implementation=separable", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(
        r"error: .*nowhere must be the folder of a run, with a recipe.yaml, but there is none\.\n", done.stderr
    )
    assert not (tmp_path / "logs").exists()
    for words, message in (
        (("pretrained.project=true",), "`pretrained.path` must be the folder of a run with pretrained.project=true"),
        (
            ("pretrained.project=true", f"pretrained.path={origin}", "pretrained.strict=false"),
            "`pretrained.strict` must be true with pretrained.project=true",
        ),
        (("pretrained.fit_steps=-1",), "`pretrained.fit_steps` must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(composed(*SMALL, *words, f"paths.logs={tmp_path}/logs"))
