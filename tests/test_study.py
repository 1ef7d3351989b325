"""Studies: what a file of configs/study says is trained, tested on moved images, and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from short_fits import QUIET

from scripts import study as script
from src.config.instantiate import ConfigError
from src.reports.study import Study, load_study, run_study

TINY = [
    "dataset=digits",
    "dataset.counts=[64,32,48]",
    "dataset.size=16",
    "conv.kernel_size=3",
    "net.hidden_sizes=[4,4]",
    "train.epochs=2",
    "train.batch_size=16",
    *(f"observers.{name}=null" for name in ("equivariance", "figures", "redundancy", "progress", "summary")),
]
pytestmark = QUIET


def test_every_study_of_the_project_can_be_loaded() -> None:
    for name in ("alias", "learning"):
        found = load_study(name)
        assert len(found.variants) > 1
        assert found.seeds == [0, 1, 2]


def test_what_is_trained_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, f"paths.logs={tmp_path / 'logs'}", f"paths.cache={tmp_path}", "dataset.rotate=false"]
    options = ["--study", "alias", "--variants", "now", "square border", "--seeds", "0", "1", "--output", str(tmp_path)]
    script.main([*words, *options])
    numbers = json.loads((tmp_path / "study.json").read_text())
    assert list(numbers["outcomes"]) == ["now", "square border"]
    for outcomes in numbers["outcomes"].values():
        assert len(outcomes) == 2
        assert outcomes[0]["run"] != outcomes[1]["run"]
        for own in outcomes:
            assert len(own["angles"]) == 18
            assert own["angles"][0] == own["unmoved"]
            assert len(own["losses"]) == 2
            assert own["change"] > 0
    table = (tmp_path / "study.md").read_text().splitlines()
    assert table[0].startswith("|  | unmoved | best | worst |")
    assert [line.split("|")[1].strip() for line in table[2:]] == ["now", "square border"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "logs").rglob("weights.pt")}
    script.main([*words, *options])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "logs").rglob("weights.pt")} == before
    capsys.readouterr()


def test_quarter_turns_and_sizes_are_measured(tmp_path: Path) -> None:
    words = [*TINY, f"paths.logs={tmp_path / 'logs'}", f"paths.cache={tmp_path}", "dataset.rotate=false"]
    study = Study("t", ["experiment=se2_separable"], {"a": []}, [0], angles=[0, 90, 270], scales=[0.1, 1])
    (own,) = run_study(study, words)["a"]
    assert own.angles[0] == own.angles[1] == own.angles[2] == own.unmoved == own.scales[1]
    assert own.scales[0] != own.unmoved


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`study` must be a file .* but got 'alais'.* 'alias'"):
        load_study("alais")
    with pytest.raises(ConfigError, match=r"`variants` must be .* but got 'nov'.* 'now'"):
        load_study("alias").restricted(None, ["nov"])
