"""What the sections of a configuration that no class reads may hold: types by annotation, then ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, ValidationError

from src.config.compose import plain
from src.config.targets import ConfigError
from src.require import (
    require,
    require_above,
    require_at_least,
    require_choice,
    require_fraction,
    require_positive,
    require_positive_number,
    require_whole,
)

_KINDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "keys with values",
    NoneType: "null",
    Any: "anything",
}


@dataclass
class _Top:
    """Keys of configs/train.yaml outside its sections."""

    seed: int
    debug: bool

    def __post_init__(self) -> None:
        holds = type(self.seed) is int and 0 <= self.seed < 2**32
        require("seed", self.seed, holds, "an integer from 0 to 2^32 - 1")


@dataclass
class _Train:
    """The section `train` of configs/train.yaml."""

    do: bool
    epochs: int
    batch_size: int
    precision: int | str | None
    gradient_clip: float | None
    accumulate: int
    deterministic: bool | str | None
    shared_statistics: bool
    ema: float | None
    patience: int | None

    def __post_init__(self) -> None:
        require_positive(epochs=self.epochs, batch_size=self.batch_size, accumulate=self.accumulate)
        require_choice("deterministic", self.deterministic, (True, False, "warn", None))
        require_at_least(0, **_given(gradient_clip=self.gradient_clip))
        require_fraction(**_given(ema=self.ema))
        require_positive(**_given(patience=self.patience))


@dataclass
class _Pretrained:
    """The section `pretrained` of configs/train.yaml."""

    path: str | None
    strict: bool
    project: bool
    fit_steps: int

    def __post_init__(self) -> None:
        require_whole(fit_steps=self.fit_steps)
        if self.project is True and self.path is None:
            raise ValueError("`path` must be the folder of a run with pretrained.project=true, but got null.")
        if self.project is True and self.strict is False:
            raise ValueError("`strict` must be true with pretrained.project=true: all but kernels is carried over.")


@dataclass
class _Sweep:
    """configs/sweep/_base.yaml."""

    axes: dict[str, Any]
    list: list[Any]
    search: str
    trials: int | None
    seed: int
    early_stopping: Any
    gpus: int | None
    gpus_per_trial: float
    cpus_per_trial: int | None
    max_concurrent: int | None
    retries: int
    grace: float
    nodes: int
    token: str

    def __post_init__(self) -> None:
        require_choice("search", self.search, ("grid", "random", "optuna"))
        if self.search != "grid":
            require_positive(trials=self.trials)
        elif self.trials is not None:
            raise ValueError(
                "`trials` must be null with sweep.search=grid, which has as many as there are combinations."
            )
        require_positive_number(gpus_per_trial=self.gpus_per_trial, grace=self.grace)
        gpus = self.gpus_per_trial
        require("gpus_per_trial", gpus, gpus < 1 or gpus == int(gpus), "a whole number where it is above 1")
        counts = {"gpus": self.gpus, "cpus_per_trial": self.cpus_per_trial, "max_concurrent": self.max_concurrent}
        require_positive(nodes=self.nodes, **_given(**counts))
        require_whole(retries=self.retries)
        require_choice("token", self.token, ("required", "none"))
        if (stop := self.early_stopping) is not None:
            complete = isinstance(stop, Mapping) and stop.keys() == {"grace", "reduction"}
            require("early_stopping", stop, complete, "null or {grace: epochs, reduction: factor}")
            require_positive(**{"early_stopping.grace": stop["grace"]})
            require_above(1, **{"early_stopping.reduction": stop["reduction"]})


def check_run(cfg: DictConfig) -> None:
    """Raises ConfigError, with the full key, if a value of the run itself is of another type or out of its range."""
    _check(_Top, cfg, "")
    _check(_Train, cfg.train, "train.")
    _check(_Pretrained, cfg.pretrained, "pretrained.")


def check_sweep(cfg: DictConfig) -> None:
    """Raises ConfigError, with the full key, if a value of `sweep` is of another type or out of its range."""
    _check(_Sweep, cfg, "sweep.")


def _check(schema: type, section: DictConfig, prefix: str) -> None:
    """Raises ConfigError unless a section has the types and ranges of a schema; its other keys are not looked at."""
    if not OmegaConf.is_dict(section):
        raise ConfigError(f"`{prefix.rstrip('.')}` must be keys with values, but got {section!r}.")
    hints = get_type_hints(schema)
    if missing := [name for name in hints if name not in section]:
        raise ConfigError(f"`{prefix}{missing[0]}` must be given, but is missing.")
    values = {name: plain(value) if OmegaConf.is_config(value := section[name]) else value for name in hints}
    try:
        typed = OmegaConf.structured(schema(**values))
        for name, value in values.items():
            # OmegaConf takes "3" for a number and "no" for false, but the program reads what is written.
            same = typed[name] == value and isinstance(typed[name], bool) == isinstance(value, bool)
            require(name, value, same, _kind(hints[name]))
    except ValidationError as error:
        what = f"must be {_kind(hints[error.key])}, but got {values[error.key]!r}."
        raise ConfigError(f"`{prefix}{error.key}` {what}") from error
    except ValueError as error:
        raise ConfigError(str(error).replace("`", f"`{prefix}", 1)) from error


def _kind(hint: Any) -> str:
    """A type in words."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else [get_origin(hint) or hint]
    return " or ".join(_KINDS[kind] for kind in kinds)


def _given(**values: Any) -> dict[str, Any]:
    """Those that are not null."""
    return {name: value for name, value in values.items() if value is not None}
