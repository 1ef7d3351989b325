"""A sweep as it was asked for: which runs it has, and where they and its own files are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config.compose import compose_config, plain
from src.config.instantiate import ConfigError
from src.runs import identity
from src.sweeps.space import Axis, Point, grid_points, listed_points, parse_axis, parse_override, random_points
from src.training.run import check_train

_PLACEMENT = (
    "trials",
    "gpus",
    "gpus_per_trial",
    "cpus_per_trial",
    "max_concurrent",
    "retries",
    "grace",
    "nodes",
    "token",
)
"""What of a sweep's configuration does not make it another one."""
_SEARCHES = ("grid", "random", "optuna")


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    name: str
    """The run's id."""
    folder: Path
    """The run's."""
    point: Point
    """What it has otherwise than the recipe."""
    epochs: int
    cfg: DictConfig


@dataclass(frozen=True)
class Sweep:
    """What to run.

    Args:
        cfg: `configs/sweep` with overrides.
        fixed: overrides of all runs, the experiment first.
        axes: what is swept.
        sets: points that are combined with the axes.
        base: the configuration of a run with nothing swept.
        name: of the file in `configs/sweep`.
    """

    cfg: DictConfig
    fixed: Point
    axes: tuple[Axis, ...]
    sets: tuple[Point, ...]
    base: DictConfig
    name: str

    @property
    def logs(self) -> Path:
        return Path(self.base.paths.logs)

    @property
    def metric(self) -> str:
        """By which runs are compared: that of the checkpoints, which the best one is chosen by."""
        return self.base.callbacks.checkpoint.monitor

    @property
    def quantity(self) -> str:
        """What the metric measures, whatever of: `acc` of `val/acc`."""
        return self.metric.removeprefix("val/")

    @property
    def test_metric(self) -> str:
        """The same of the test set."""
        return f"test/{self.quantity}"

    @property
    def mode(self) -> str:
        """ "max" or "min"."""
        return self.base.callbacks.checkpoint.mode

    @property
    def folder(self) -> Path:
        """The same for the same sweep, wherever it is run and however many trials it has."""
        decisive = {key: value for key, value in plain(self.cfg).items() if key not in _PLACEMENT}
        content = [identity.digest(self.base), decisive, [repr(each) for each in self.axes], self.sets]
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return self.logs / "sweeps" / f"{self.base.name}-{self.name}-{key}"

    @property
    def keys(self) -> list[str]:
        """All that differs between runs, as the command line has it."""
        own = [override.partition("=")[0] for point in self.sets for override in point]
        return list(dict.fromkeys([*own, *(each.key for each in self.axes)]))

    def trial(self, point: Point) -> Trial:
        """The run at a point.

        Raises:
            ConfigError: if it cannot be.
        """
        cfg = compose_config([*self.fixed, *point])
        check_train(cfg)
        there = identity.existing(cfg)
        # What is swept first: a name too long loses its end.
        changed = [override for override in (*point, *self.fixed) if not override.startswith("experiment=")]
        folder = there or self.logs / cfg.name / identity.run_id(cfg, changed)
        return Trial(folder.name, folder, point, cfg.train.epochs, cfg)

    def trials(self) -> list[Trial]:
        """Those that are known before anything has run: all, but for a search by Optuna; of equal runs the first.

        Raises:
            ConfigError: if one cannot be.
        """
        if self.cfg.search == "optuna":
            return []
        chosen = (
            grid_points(self.axes, self.sets)
            if self.cfg.search == "grid"
            else random_points(self.axes, self.sets, self.cfg.trials, self.cfg.seed)
        )
        found = [self.trial(point) for point in chosen]
        return list({trial.folder: trial for trial in reversed(found)}.values())[::-1]


def compose_sweep(words: Sequence[str]) -> Sweep:
    """Read the overrides of a command: `sweep=`, `sweep.key=`, axes, and what is the same in all runs.

    Raises:
        ConfigError: if a key does not exist or a value cannot be honoured.
    """
    own = [word for word in words if re.match(r"sweep[.=]", word)]
    cfg = compose_config(own, "sweep").sweep
    rest = [word for word in words if word not in own]
    swept = [word for word in rest if parse_override(word).is_sweep_override()]
    experiment = [word for word in rest if word.startswith("experiment=")]
    fixed = tuple(word for word in rest if word not in (*swept, *experiment))
    if set(experiment) & set(swept):
        raise ConfigError(f"`experiment` must be one recipe, but got {experiment[0]!r}; sweep each on its own.")
    fixed = (*(experiment or ["experiment=quickstart"]), *fixed)
    axes = {key: parse_axis(f"{key}={value}") for key, value in plain(cfg).pop("axes").items()}
    axes |= {(found := parse_axis(word)).key: found for word in swept}
    sets = tuple(listed_points(cfg.list))
    name = next((word.partition("=")[2] for word in own if word.startswith("sweep=")), "grid")
    sweep = Sweep(cfg, fixed, tuple(axes.values()), sets, compose_config(fixed), name)
    _check(sweep)
    return sweep


def _check(sweep: Sweep) -> None:
    """Raises ConfigError if a value of the sweep's own cannot be honoured."""
    cfg, axes = sweep.cfg, sweep.axes
    if cfg.search not in _SEARCHES:
        raise ConfigError(f"`sweep.search` must be one of {', '.join(_SEARCHES)}, but got {cfg.search!r}.")
    if not axes and not sweep.sets:
        raise ConfigError(
            f"`sweep` must run over something, but sweep={sweep.name} has no axes and the command has none; give one, "
            'such as ARGS="seed=0,1,2", or choose a sweep that has, such as SWEEP=seeds.'
        )
    if cfg.search != "grid":
        _check_positive("trials", cfg.trials, whole=True)
    elif cfg.trials is not None:
        raise ConfigError(
            "`sweep.trials` must be null with sweep.search=grid, which has as many as there are combinations."
        )
    if cfg.search == "optuna" and (sweep.sets or "seed" in {each.key for each in axes}):
        raise ConfigError(
            "`sweep.list` and an axis `seed` cannot be searched by Optuna; use sweep.search=random or grid."
        )
    _check_positive("gpus_per_trial", cfg.gpus_per_trial)
    if cfg.gpus_per_trial > 1 and cfg.gpus_per_trial != int(cfg.gpus_per_trial):
        raise ConfigError(f"`sweep.gpus_per_trial` above 1 must be a whole number, but got {cfg.gpus_per_trial}.")
    for key in ("gpus", "cpus_per_trial", "max_concurrent"):
        if cfg[key] is not None:
            _check_positive(key, cfg[key], whole=True)
    _check_positive("grace", cfg.grace)
    _check_positive("nodes", cfg.nodes, whole=True)
    if type(cfg.retries) is not int or cfg.retries < 0:
        raise ConfigError(f"`sweep.retries` must be 0 or more, but got {cfg.retries!r}.")
    if cfg.token not in ("required", "none"):
        raise ConfigError(f"`sweep.token` must be required or none, but got {cfg.token!r}.")
    _check_early_stopping(cfg.early_stopping)
    for key in ("trainer.devices", "trainer.num_nodes"):
        if key in {override.partition("=")[0] for override in (*sweep.fixed, *sweep.keys)}:
            raise ConfigError(f"`{key}` is set by `sweep.gpus_per_trial`; set that.")


def _check_early_stopping(value: Any) -> None:
    """Raises ConfigError unless it is null or complete."""
    if value is None:
        return
    if not hasattr(value, "keys") or set(value) != {"grace", "reduction"}:
        raise ConfigError(
            f"`sweep.early_stopping` must be null or {{grace: epochs, reduction: factor}}, but got {value!r}."
        )
    _check_positive("early_stopping.grace", value.grace, whole=True)
    if not isinstance(value.reduction, int | float) or value.reduction <= 1:
        raise ConfigError(f"`sweep.early_stopping.reduction` must be above 1, but got {value.reduction!r}.")


def _check_positive(key: str, value: Any, whole: bool = False) -> None:
    """Raises ConfigError unless a number is."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value <= 0:
        kind = "integer" if whole else "number"
        raise ConfigError(f"`sweep.{key}` must be a positive {kind}, but got {value!r}.")
