"""Values of `train`, `pretrained`, `seed` and `sweep` are refused by their full key, and arguments by their name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from src import require
from src.config.compose import compose_config
from src.config.schema import _Pretrained, _Sweep, _Train, check_run, check_sweep
from src.training import ConfigError


@cache
def composed(name: str) -> DictConfig:
    """A configuration without overrides."""
    return compose_config([], name)


def changed(name: str, key: str, value: Any) -> DictConfig:
    """A configuration with one value changed."""
    cfg = composed(name).copy()
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    return cfg


def test_schemas_have_the_keys_of_the_configuration() -> None:
    for schema, section in (
        (_Train, composed("train").train),
        (_Pretrained, composed("train").pretrained),
        (_Sweep, composed("sweep").sweep),
    ):
        assert {field.name for field in fields(schema)} == set(section)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2**32 - 1),
        ("train.do", False),
        ("train.precision", 16),
        ("train.precision", None),
        ("train.gradient_clip", 1),
        ("train.deterministic", "warn"),
        ("train.ema", 0.999),
        ("train.patience", 3),
        ("train.epochs", "${train.batch_size}"),
        ("train.mine", "x"),
        ("pretrained.path", "x"),
    ],
)
def test_values_of_a_run_pass(key: str, value: Any) -> None:
    check_run(changed("train", key, value))


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("seed", -1, "an integer from 0 to 2^32 - 1"),
        ("seed", 2**32, "an integer from 0 to 2^32 - 1"),
        ("seed", True, "an integer from 0 to 2^32 - 1"),
        ("seed", None, "an integer from 0 to 2^32 - 1"),
        ("train", None, "keys with values"),
        ("train.do", "no", "true or false"),
        ("train.do", "maybe", "true or false"),
        ("train.do", None, "true or false"),
        ("train.epochs", 0, "a positive integer"),
        ("train.epochs", "x", "a positive integer"),
        ("train.epochs", "3", "a positive integer"),
        ("train.epochs", True, "a positive integer"),
        ("train.batch_size", 1.5, "a positive integer"),
        ("train.accumulate", 0, "a positive integer"),
        ("train.precision", [1], "an integer or a text or null"),
        ("train.gradient_clip", -1, "at least 0"),
        ("train.gradient_clip", "x", "at least 0"),
        ("train.deterministic", "no", "one of True, False, warn, None"),
        ("train.shared_statistics", "no", "true or false"),
        ("train.ema", 1, "a number between 0 and 1"),
        ("train.ema", 0.0, "a number between 0 and 1"),
        ("train.patience", 0, "a positive integer"),
        ("train.patience", 2.5, "a positive integer"),
        ("pretrained.path", 3, "a text or null"),
        ("pretrained.strict", "no", "true or false"),
    ],
)
def test_values_of_a_run_are_refused(key: str, value: Any, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_run(changed("train", key, value))
    assert str(error.value) == f"`{key}` must be {what}, but got {value!r}."


def test_keys_that_are_not_there_are_named() -> None:
    cfg = OmegaConf.create(OmegaConf.to_container(composed("train")))
    del cfg.train.ema
    with pytest.raises(ConfigError, match=r"^`train\.ema` must be given, but is missing\.$"):
        check_run(cfg)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gpus_per_trial", 0.5),
        ("gpus_per_trial", 2),
        ("retries", 0),
        ("gpus", 2),
        ("grace", 0.5),
        ("early_stopping", {"grace": 1, "reduction": 1.5}),
        ("token", "none"),
    ],
)
def test_values_of_a_sweep_pass(key: str, value: Any) -> None:
    check_sweep(changed("sweep", f"sweep.{key}", value).sweep)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("search", "bayes", "one of grid, random, optuna"),
        ("list", 3, "a list"),
        ("seed", "x", "an integer"),
        ("gpus", 0, "a positive integer"),
        ("gpus_per_trial", 0, "a positive number"),
        ("gpus_per_trial", True, "a positive number"),
        ("gpus_per_trial", 1.5, "a whole number where it is above 1"),
        ("cpus_per_trial", -1, "a positive integer"),
        ("max_concurrent", 1.5, "a positive integer"),
        ("retries", -1, "a whole number, 0 or more"),
        ("retries", 1.5, "a whole number, 0 or more"),
        ("grace", 0, "a positive number"),
        ("nodes", 0, "a positive integer"),
        ("token", "maybe", "one of required, none"),
        ("early_stopping", 3, "null or {grace: epochs, reduction: factor}"),
        ("early_stopping", {"grace": 1}, "null or {grace: epochs, reduction: factor}"),
    ],
)
def test_values_of_a_sweep_are_refused(key: str, value: Any, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_sweep(changed("sweep", f"sweep.{key}", value).sweep)
    assert str(error.value) == f"`sweep.{key}` must be {what}, but got {value!r}."


def test_values_of_a_sweep_that_depend_on_others_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^`sweep\.trials` must be null with sweep\.search=grid"):
        check_sweep(changed("sweep", "sweep.trials", 3).sweep)
    with pytest.raises(ConfigError, match=r"^`sweep\.trials` must be a positive integer, but got None\.$"):
        check_sweep(changed("sweep", "sweep.search", "random").sweep)
    for early_stopping, message in (
        ({"grace": 0, "reduction": 2}, r"^`sweep\.early_stopping\.grace` must be a positive integer, but got 0\.$"),
        ({"grace": 1, "reduction": 1}, r"^`sweep\.early_stopping\.reduction` must be above 1, but got 1\.$"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_sweep(changed("sweep", "sweep.early_stopping", early_stopping).sweep)


@pytest.mark.parametrize(
    ("check", "right", "wrong", "what"),
    [
        (require.require_positive, [1, 10**9], [0, -1, 1.0, "1", True, None], "a positive integer"),
        (require.require_positive_number, [1, 0.1], [0, -1.5, "1", True, None, float("nan")], "a positive number"),
        (require.require_whole, [0, 3], [-1, 1.0, "1", False, None], "a whole number, 0 or more"),
        (lambda **x: require.require_at_least(2, **x), [2, 2.5], [1, 1.99, "2", True, None], "at least 2"),
        (lambda **x: require.require_above(1, **x), [1.1, 2], [1, 0.5, "2", True, None], "above 1"),
        (require.require_fraction, [0.5, 1e-9], [0, 1, "0.5", True, None], "a number between 0 and 1"),
        (require.require_probability, [0, 0.5], [1, -0.1, "0", False, None], "a probability in [0, 1)"),
        (lambda x: require.require_choice("x", x, ("a", "b", 3)), ["a", 3], ["c", None, []], "one of a, b, 3"),
    ],
)
def test_arguments_are_refused(check: Callable[..., None], right: list[Any], wrong: list[Any], what: str) -> None:
    for value in right:
        check(x=value)
    for value in wrong:
        with pytest.raises(ValueError, match="must be") as error:
            check(x=value)
        assert str(error.value) == f"`x` must be {what}, but got {value!r}."
