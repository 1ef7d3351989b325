"""Values of the wrong kind, or that are no numbers, are refused by their full key before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from src.config.compose import CONFIGS, compose_config
from src.config.keys import check_keys
from src.config.values import _fits, _words
from src.training import ConfigError, load_recipe
from src.training.run import check_train

RECIPES = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
WRONG = {
    "conv.bias=no": "`conv.bias` must be true or false, but got 'no'",
    "conv.bias=1": "`conv.bias` must be true or false, but got 1",
    "conv.antialias=banana": "`conv.antialias` must be true or false",
    "conv.stride=2.5": "`conv.stride` must be an integer",
    "conv.kernel_size=seven": "`conv.kernel_size` must be an integer, but got 'seven'",
    "conv.kernel_size=true": "`conv.kernel_size` must be an integer, but got True",
    "conv.path=3": "`conv.path` must be a text",
    "conv.padding=[1,1]": "`conv.padding` must be an integer or a text or null",
    "net.hidden_sizes=32": r"`net.hidden_sizes` must be a list, each an integer, but got 32",
    "net.hidden_sizes=[a,b]": "`net.hidden_sizes` must be a list, each an integer",
    "net.dropout=high": "`net.dropout` must be a number, but got 'high'",
    "net.head=relu": "`net.head` must be a node whose _target_ makes",
    "optimizer.lr=fast": "`optimizer.lr` must be a number",
    "optimizer.lr=nan": "`optimizer.lr` must be a finite number, but got nan",
    "optimizer.lr=-inf": "`optimizer.lr` must be a finite number, but got -inf",
    "optimizer=sgd optimizer.momentum=nan": "`optimizer.momentum` must be a finite number",
    "kernel.hidden_size=64.5": "`kernel.hidden_size` must be an integer",
    "kernel.omega_0=[1]": "`kernel.omega_0` must be a number",
    "scheduler.warmup=two": "`scheduler.warmup` must be a number",
    "dataset.rotate=sometimes": "`dataset.rotate` must be true or false or keys with values",
    "trainer.log_every_n_steps=often": "`trainer.log_every_n_steps` must be an integer",
    "augment.rotate=always": "`augment.rotate` must be a number",
    "group.low_pass=blurred": "`conv.low_pass` must be a number",
    "net.head.hidden=wide": "`net.head.hidden` must be an integer",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_a_wrong_kind_is_refused_by_its_key(overrides: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[overrides]):
        check_keys(compose_config(["experiment=quickstart", *overrides.split()]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.groups.kernel_lr=-3", "`model.groups.kernel_lr` must be at least 0"),
        ("model.groups.constant_lr=-1", "`model.groups.constant_lr` must be at least 0"),
        ("train.gradient_clip=-3", "`train.gradient_clip` must be at least 0"),
        ("debug=banana", "`debug` must be true or false, but got 'banana'"),
        ("debug=1", "`debug` must be true or false, but got 1"),
        (
            "callbacks.checkpoint.monitor=val/accuracy",
            "`callbacks.checkpoint.monitor` must be one of val/loss, val/acc",
        ),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_its_key(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_train(load_recipe("quickstart", overrides.split()).cfg)


def test_one_number_of_elements_is_a_list_of_one() -> None:
    assert compose_config(["experiment=quickstart", "group.elements=4"]).group.elements == [4]
    assert load_recipe("quickstart", ["group.elements=4"]).cfg.group.elements == [4]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_values_of_the_right_kind(name: str) -> None:
    check_keys(compose_config([f"experiment={name}"]))


class Thing: ...


@pytest.mark.parametrize(
    ("hint", "right", "wrong", "words"),
    [
        (float, [1, 1.5], [True, "1", [1]], "a number"),
        (int | None, [1, None], [1.0, True], "an integer or null"),
        (str | Path, ["x"], [1], "a text"),
        (Sequence[int], [[1, 2], []], [1, ["a"], [1.5]], "a list, each an integer"),
        (tuple[float, float], [[0.9, 0.99]], [[0.9], 0.9, ["a", "b"]], "a list, each a number"),
        (Mapping[str, bool] | bool, [{"train": True}, False], ["no", 1], "keys with values or true or false"),
        (Literal["max", "min"], ["max"], ["most", 1], "max or min"),
        (Callable[..., Any], [{"_target_": "x"}], [], "a node whose _target_ makes"),
        (Thing, [{"_target_": "x"}], [1, "thing"], "a node whose _target_ makes Thing"),
        (Any, [1, "x", [1], None], [], "a node"),
    ],
)
def test_kinds(hint: Any, right: list[Any], wrong: list[Any], words: str) -> None:
    assert all(_fits(value, hint) for value in right)
    assert not any(_fits(value, hint) for value in wrong)
    assert _words(hint).startswith(words)
