"""What a sweep runs over: axes in Hydra's override grammar, and points of the space that they span."""

from __future__ import annotations

import math
import random
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from src.config.targets import ConfigError

_GRAMMAR = (
    "key=a,b,c or key=choice(a,b,c), key=range(start,stop,step), or, for a random or an Optuna search, "
    "key=interval(low,high), key=int(interval(low,high)) or key=tag(log,interval(low,high))"
)
_DIGITS = 4
"""Of a number from an interval: enough for a hyperparameter, and short enough for a name."""

Point = tuple[str, ...]
"""Overrides, as they are written on the command line."""


@dataclass(frozen=True)
class Interval:
    """Numbers from low to high, both among them if only whole ones are; uniform, or uniform in the logarithm."""

    low: float
    high: float
    whole: bool = False
    logarithmic: bool = False

    def draw(self, source: random.Random) -> float:
        """A number, uniformly."""
        if self.logarithmic:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
            return min(max(round(value), int(self.low)), int(self.high)) if self.whole else value
        return source.randint(int(self.low), int(self.high)) if self.whole else source.uniform(self.low, self.high)


@dataclass(frozen=True)
class Axis:
    """One key, and what it takes: values as they are written in an override, or an interval.

    The representation is part of what names the folder of a sweep: other names here lose the sweeps that there are.
    """

    key: str
    values: tuple[str, ...] = ()
    interval: Interval | None = None

    def override(self, value: str | float) -> str:
        """`key=value`, a number of an interval to four digits."""
        return f"{self.key}={value if isinstance(value, str) else _written(value)}"

    def draw(self, source: random.Random) -> str:
        """An override, uniformly."""
        return self.override(self.interval.draw(source) if self.interval else source.choice(self.values))


def _written(value: float) -> str:
    """A number as it is written in an override.

    >>> _written(0.00123456), _written(12)
    ('0.001235', '12')
    """
    return str(value) if isinstance(value, int) else f"{value:.{_DIGITS}g}"


def parse_override(override: str) -> Override:
    """Read an override. Raises ConfigError if it is none."""
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(
            f"{override!r} is not an override or an axis of a sweep; write {_GRAMMAR}. ({str(error).splitlines()[0]})"
        ) from error


def parse_axis(override: str) -> Axis:
    """Read an axis. Raises ConfigError if it is none, or an empty one."""
    parsed = parse_override(override)
    key, value = parsed.get_key_element(), parsed.value()
    if isinstance(value, IntervalSweep):
        return Axis(key, interval=_interval(key, value))
    if not parsed.is_discrete_sweep() or type(value).__name__ == "Glob":
        raise ConfigError(f"`{key}` of a sweep must have several values, but got {override!r}; write {_GRAMMAR}.")
    values = tuple(dict.fromkeys(parsed.sweep_string_iterator()))
    if not values:
        raise ConfigError(f"`{key}` of a sweep must have one value or more, but {override!r} has none.")
    return Axis(key, values)


def _interval(key: str, value: IntervalSweep) -> Interval:
    """An interval. Raises ConfigError if it is empty, or is to have a logarithm and is not positive."""
    result = Interval(
        value.start, value.end, isinstance(value.start, int) and isinstance(value.end, int), "log" in value.tags
    )
    if unknown := value.tags - {"log"}:
        raise ConfigError(f"`{key}` of a sweep may have the tag log, but got {', '.join(sorted(unknown))}.")
    if not result.low < result.high or (result.logarithmic and result.low <= 0):
        positive = "positive and " if result.logarithmic else ""
        raise ConfigError(
            f"`{key}` of a sweep must be an interval, {positive}not empty, but got [{result.low}, {result.high}]."
        )
    return result


def listed_points(texts: Iterable[str]) -> list[Point]:
    """Read points, each some overrides separated by spaces. Raises ConfigError if one is empty, or sweeps itself."""
    result = []
    for text in texts:
        overrides = tuple(shlex.split(text))
        if not overrides or any(parse_override(override).is_sweep_override() for override in overrides):
            raise ConfigError(f"`sweep.list` must have overrides with one value each, but got {text!r}.")
        result.append(overrides)
    return result


def grid_points(axes: Sequence[Axis], sets: Sequence[Point]) -> list[Point]:
    """Every combination of all axes, for every set of overrides. Raises ConfigError if an axis is an interval."""
    for each in axes:
        if each.interval:
            raise ConfigError(
                f"`{each.key}` must have single values in a grid, but is an interval; choose sweep.search=random or "
                "optuna, or write the values."
            )
    choices = product(*([each.override(value) for value in each.values] for each in axes))
    return [(*own, *chosen) for chosen in choices for own in (sets or [()])]


def random_points(axes: Sequence[Axis], sets: Sequence[Point], trials: int, seed: int) -> list[Point]:
    """Random points: the first of more are the same ones."""
    source = random.Random(seed)
    return [(*source.choice(sets or [()]), *(each.draw(source) for each in axes)) for _ in range(trials)]
