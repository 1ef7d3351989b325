"""A sweep as it was asked for: which runs it has, and where they and its own files are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from src.config.compose import compose_config, plain
from src.config.schema import check_sweep
from src.config.targets import ConfigError
from src.data.io.store import digest
from src.runs import identity
from src.runs.compare import direction
from src.sweeps.space import Axis, Point, grid_points, listed_points, parse_axis, parse_override, random_points
from src.training.run import Request, check_train, folder_of

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

    @cached_property
    def mode(self) -> str | None:
        """Which values of it are better, "max" or "min"; None if neither the configuration nor its task says."""
        return self.base.callbacks.checkpoint.mode or direction([plain(self.base)], self.metric)

    @property
    def folder(self) -> Path:
        """The same for the same sweep, wherever it is run and however many trials it has."""
        decisive = {key: value for key, value in plain(self.cfg).items() if key not in _PLACEMENT}
        content = [identity.digest(self.base), decisive, [repr(each) for each in self.axes], self.sets]
        return Path(self.base.paths.logs) / "sweeps" / f"{self.base.name}-{self.name}-{digest(content, 8)}"

    @property
    def keys(self) -> list[str]:
        """All that differs between runs, as the command line has it."""
        own = [override.partition("=")[0] for point in self.sets for override in point]
        return list(dict.fromkeys([*own, *(each.key for each in self.axes)]))

    def trial(self, point: Point) -> Trial:
        """The run at a point. Raises ConfigError if it cannot be."""
        cfg = compose_config([*self.fixed, *point])
        check_train(cfg)
        # What is swept first: a name too long loses its end.
        changed = [override for override in (*point, *self.fixed) if not override.startswith("experiment=")]
        folder = folder_of(cfg, Request(changed))
        return Trial(folder.name, folder, point, cfg.train.epochs, cfg)

    def trials(self) -> list[Trial]:
        """Those known before anything has run: none of a search by Optuna; of equal runs the first."""
        if self.cfg.search == "optuna":
            return []
        chosen = (
            grid_points(self.axes, self.sets)
            if self.cfg.search == "grid"
            else random_points(self.axes, self.sets, self.cfg.trials, self.cfg.seed)
        )
        found = [self.trial(point) for point in dict.fromkeys(chosen)]  # random ones may come again
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
    if set(experiment) & set(swept):
        raise ConfigError(f"`experiment` must be one recipe, but got {experiment[0]!r}; sweep each on its own.")
    rest = [word for word in rest if word not in (*swept, *experiment)]
    fixed = (*(experiment or ["experiment=quickstart"]), *rest)
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
    check_sweep(cfg)
    if not axes and not sweep.sets:
        raise ConfigError(
            f"`sweep` must run over something, but sweep={sweep.name} has no axes and the command has none; give one, "
            'such as ARGS="seed=0,1,2", or choose a sweep that has, such as SWEEP=seeds.'
        )
    if cfg.search == "optuna" and (sweep.sets or "seed" in {each.key for each in axes}):
        raise ConfigError(
            "`sweep.list` and an axis `seed` cannot be searched by Optuna; use sweep.search=random or grid."
        )
    if sweep.mode is None:
        raise ConfigError(
            f"`callbacks.checkpoint.mode` must be max or min, as the task does not say which {sweep.metric} is better, "
            "but got null; set it."
        )
    for key in ("trainer.devices", "trainer.num_nodes"):
        if key in {override.partition("=")[0] for override in (*sweep.fixed, *sweep.keys)}:
            raise ConfigError(f"`{key}` is set by `sweep.gpus_per_trial`; set that.")
