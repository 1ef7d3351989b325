"""What runs that differ in the seed alone have come to, and in what the others differ."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.config.targets import ConfigError, check, locate
from src.runs.identity import identifying
from src.runs.record import STATUSES, Run, timestamp
from src.runs.tables import state_counts

_MISSING = object()
"""Where a configuration has no such key."""


class _Target(str):
    """A `_target_`, under the key of its node."""

    __slots__ = ()


@dataclass(frozen=True)
class Group:
    """Complete runs that differ in the seed alone, or are the only one of their kind."""

    experiment: str
    label: str
    """The keys in which groups of this experiment differ, with this one's values, as on the command line."""
    metric: str
    runs: tuple[Run, ...]
    """One for each seed, by seed."""
    repeated: tuple[Run, ...] = ()
    """Older runs of the same seeds, which are not counted."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(run.metrics[self.metric] for run in self.runs)

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def std(self) -> float | None:
        """Of the sample, with n - 1; None for one seed."""
        if len(self.runs) < 2:
            return None
        return statistics.stdev(self.values) if all(map(math.isfinite, self.values)) else math.nan


def compare(all_runs: Sequence[Run], metric: str, mode: str | None = None) -> list[Group]:
    """Group complete runs that differ in the seed alone.

    Two runs are of one group if their recipes are equal but for the seed and where they are placed: what is a copy of
    the seed is an interpolation in both. Of several runs of one seed the newest counts.

    Args:
        all_runs: of one experiment or several; those that `excluded` names are passed over.
        metric: a key of metrics.json, such as `primary_metric` of the runs.
        mode: "max" or "min", which means are better; None is what the task of the runs says, or else "max".

    Returns:
        The groups, by experiment and then by mean, the best first.

    Raises:
        ConfigError: if no run has the metric, with those that there are.
    """
    complete = [run for run in all_runs if run.status == "complete"]
    if not complete:
        found = state_counts((run.status for run in all_runs), STATUSES) or "none"
        raise ConfigError(f"`compare` needs complete runs, but there are {found}; `make train` makes one.")
    known = {key for run in complete for key in run.metrics}
    if metric not in known:
        hint = f"There are: {', '.join(sorted(known))}." if known else "No metrics.json can be read."
        raise ConfigError(f"`--metric` {metric!r} is in no metrics.json. {hint}")
    comparable = [run for run in complete if not _obstacle(run, metric)]
    groups = []
    for experiment in {run.experiment for run in comparable}:
        alike: dict[Any, list[Run]] = defaultdict(list)
        for run in (run for run in comparable if run.experiment == experiment):
            alike[_frozen(_settings(run))].append(run)
        labels = _labels([_settings(members[0]) for members in alike.values()])
        groups += [_group(members, metric, label) for members, label in zip(alike.values(), labels, strict=True)]
    sign = 1 if (mode or direction((run.config or {} for run in comparable), metric)) == "min" else -1
    return sorted(groups, key=lambda group: (group.experiment, math.isnan(group.mean), sign * group.mean))


def primary_metric(all_runs: Iterable[Run]) -> str:
    """The metric of the test set that most runs are judged by, as a key of metrics.json."""
    counts = Counter(run.primary for run in all_runs if run.status == "complete")
    return f"test/{counts.most_common(1)[0][0]}" if counts else ""


def excluded(all_runs: Iterable[Run], metric: str) -> list[tuple[Run, str]]:
    """Runs that cannot be compared, and why."""
    return [(run, why) for run in all_runs if (why := _obstacle(run, metric))]


def differences(all_runs: Sequence[Run]) -> list[str]:
    """In what each run differs from the others, the seed among it; nothing is known of one without a configuration."""
    return _labels([{**_settings(run), "seed": run.seed} for run in all_runs])


def direction(configs: Iterable[Mapping[str, Any]], metric: str) -> str | None:
    """Which values of a metric are better, "max" or "min", as the task of a configuration says; None if none does."""
    short = metric.rpartition("/")[2]
    if short == "loss":
        return "min"
    for config in configs:
        known = (config.get("task") or {}).get("known") or {}
        try:
            check(target := known[short]["_target_"])
            return "min" if locate(target).higher_is_better is False else "max"
        except (KeyError, TypeError, AttributeError, ImportError, ConfigError):  # a metric of another time or task
            continue
    return None


def _group(members: Sequence[Run], metric: str, label: str) -> Group:
    """A group of runs: the newest of each seed, and the others."""
    newest = {run.seed: run for run in sorted(members, key=lambda run: (timestamp(run), str(run.folder)))}
    counted = tuple(newest[seed] for seed in sorted(newest))
    return Group(members[0].experiment, label, metric, counted, tuple(run for run in members if run not in counted))


def _obstacle(run: Run, metric: str) -> str:
    """Why a run cannot be compared; nothing if it can."""
    if run.status != "complete":
        return run.state
    if metric not in run.metrics:
        return f"its metrics.json has no {metric}"
    if type(run.seed) is not int:
        return "neither its recipe.yaml nor its config.yaml can be read"
    return ""


def _settings(run: Run) -> dict[str, Any]:
    """What a result depends on apart from the seed, by dotted key; `_target_` is under the key of its node."""
    flat = identifying(run.recipe or {})
    return {
        key.removesuffix("._target_"): _Target(value) if key.endswith("._target_") else value
        for key, value in flat.items()
        if key not in ("name", "seed")
    }


def _labels(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few keys as it takes to tell configurations apart, with the values of each; the order is that of the keys."""
    keys = list(dict.fromkeys(key for own in configurations for key in own))
    columns = {key: {_frozen(own.get(key, _MISSING)) for own in configurations} for key in keys}
    differing = [key for key in keys if len(columns[key]) > 1]

    def follows(key: str) -> bool:
        """Whether a key is there or not because a node around it is another, and otherwise the same."""
        owners = {key[:i] for i, character in enumerate(key) if character == "."}
        return len(columns[key] - {_MISSING}) == 1 and not owners.isdisjoint(differing)

    told = [key for key in differing if not follows(key)]
    return [" ".join(f"{key}={_written(own[key])}" for key in told if key in own) for own in configurations]


def _frozen(value: Any) -> Any:
    """As a key of a dictionary: equal if and only if the values are."""
    if isinstance(value, dict):
        return frozenset((key, _frozen(child)) for key, child in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _written(value: Any) -> str:
    """A value as it is written on the command line, a target by its last name."""
    if isinstance(value, _Target):
        return value.rpartition(".")[2]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str, separators=(",", ":"))
