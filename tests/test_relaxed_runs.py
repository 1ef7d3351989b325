"""The recipe of relaxed kernels, trained for seconds, killed, resumed and reported."""

from __future__ import annotations

import signal
from pathlib import Path

import torch
from kills import SMALL, Bomb, execute, only_run, result, unequal
from short_fits import QUIET

from src.models.relaxed import relaxations
from src.reports.loaded_run import LoadedRun, load_run
from src.reports.net_sections import _SHARED
from src.runs.record import read
from src.training import load_recipe

pytestmark = QUIET


def test_a_relaxed_run_goes_on_to_the_bit_and_says_how_far_it_has_relaxed(tmp_path: Path) -> None:
    words = ["experiment=relaxed_se2", "dataset=digits", *(word for word in SMALL if "experiment" not in word)]
    words += ["train.epochs=2", "net.hidden_sizes=[4,4]", "model.penalty.relaxed.alpha=1e-3"]
    whole, killed = tmp_path / "whole" / "logs", tmp_path / "killed" / "logs"
    for logs in (whole, killed):
        logs.parent.mkdir()
    assert execute(words, whole) == [0]
    assert execute(words, killed, Bomb("step", 9)) == [-signal.SIGKILL]
    assert execute(words, killed) == [0]
    found = result(only_run(whole))
    assert unequal(found, result(only_run(killed))) == []
    net = load_recipe(run=only_run(whole)).model.net
    names = set(relaxations(net))
    assert {"lifting.0", "stages.0.0.conv1", "final.0"} <= names
    curves = {tag: values for tag, values in found["points"].items() if tag.startswith("relaxed/")}
    assert {tag.removeprefix("relaxed/") for tag in curves} == names
    assert all(len(values) == 2 and values[-1][1] > 0 for values in curves.values()), "after every epoch"
    assert all(torch.isfinite(own.weight).all() for own in relaxations(net).values())
    loaded = load_run(read(only_run(whole)), 8)
    assert isinstance(loaded, LoadedRun), loaded
    _, items = _SHARED["Equivariance"]({"": loaded})
    rows = [cell for item in items if hasattr(item, "rows") for row in item.rows for cell in row]
    assert {f"spread of weights, {name}" for name in names} <= set(rows)
    assert not any("must commute" in item for item in items if isinstance(item, str)), "relaxed on purpose"
