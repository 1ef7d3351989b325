"""What runs that differ in the seed alone have come to, and in what the others differ."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.config.instantiate import ConfigError
from src.runs.identity import PLACEMENT
from src.runs.record import Run, timestamp

SEED = "${seed}"
"""What stands for a copy of the seed where runs are compared."""


# What runs have come to, over seeds.


MISSING = object()
"""Where a configuration has no such key."""


class Target(str):
    """A `_target_`, under the key of its node."""

    __slots__ = ()


class Either(int):
    """A value that may be a copy of the seed: it equals both."""

    __slots__ = ()


@dataclass(frozen=True)
class Group:
    """Complete runs that differ in the seed alone, or are the only one of their kind."""

    experiment: str
    differs: Mapping[str, Any]
    """The keys in which groups of this experiment differ, with the values that this one has."""
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

    @property
    def data(self) -> tuple[str, ...]:
        """The names of the splits that were used: one, unless data changed between runs."""
        return tuple(sorted({run.data for run in self.runs if run.data}))

    @property
    def label(self) -> str:
        """The differences, as they are written on the command line."""
        return " ".join(f"{key}={written(value)}" for key, value in self.differs.items())


def compare(all_runs: Sequence[Run], metric: str) -> list[Group]:
    """Group complete runs that differ in the seed alone.

    Two runs are of one group if their resolved configurations are equal but for the seed, copies of it, and where they
    are placed. Of several runs of one seed the newest counts.

    Args:
        all_runs: of one experiment or several; those that `excluded` names are passed over.
        metric: a key of metrics.json.

    Returns:
        The groups, by experiment and then by mean, highest first.

    Raises:
        ConfigError: if no run has the metric, with those that there are.
    """
    complete = [run for run in all_runs if run.status == "complete"]
    if not complete:
        counts = Counter(run.status for run in all_runs)
        there = ", ".join(f"{n} {status}" for status, n in counts.items()) or "none"
        raise ConfigError(f"`compare` needs complete runs, but there are {there}; `make train` makes one.")
    known = {key for run in complete for key in run.metrics}
    if metric not in known:
        hint = f"There are: {', '.join(sorted(known))}." if known else "No metrics.json can be read."
        raise ConfigError(f"`--metric` {metric!r} is in no metrics.json. {hint}")
    grouped = by_configuration([run for run in complete if not obstacle(run, metric)])
    differs = differences([(members[0].experiment, configuration) for configuration, members in grouped])
    groups = [group_of(members, metric, own) for (_, members), own in zip(grouped, differs, strict=True)]
    return sorted(groups, key=lambda group: (group.experiment, math.isnan(group.mean), -group.mean))


def group_of(members: Sequence[Run], metric: str, differs: Mapping[str, Any]) -> Group:
    """A group of runs: the newest of each seed, and the others."""
    newest = {run.seed: run for run in sorted(members, key=lambda run: (timestamp(run), str(run.folder)))}
    kept = tuple(newest[seed] for seed in sorted(newest))
    return Group(members[0].experiment, differs, metric, kept, tuple(run for run in members if run not in kept))


def excluded(all_runs: Iterable[Run], metric: str) -> list[tuple[Run, str]]:
    """Runs that cannot be compared, and why."""
    return [(run, why) for run in all_runs if (why := obstacle(run, metric))]


def obstacle(run: Run, metric: str) -> str:
    """Why a run cannot be compared; nothing if it can."""
    if run.status != "complete":
        return run.state
    if metric not in run.metrics:
        return f"its metrics.json has no {metric}"
    if type(run.seed) is not int:
        return "its config.yaml cannot be read"
    return ""


def by_configuration(all_runs: Sequence[Run]) -> list[tuple[dict[str, Any], list[Run]]]:
    """Runs whose experiments and configurations are equal but for the seed, and that configuration."""
    alike: dict[Any, list[tuple[dict[str, Any], Run]]] = defaultdict(list)
    for run in all_runs:
        flat = comparable(run.config)
        rest = {key: value for key, value in flat.items() if not key.endswith("seed")}
        alike[run.experiment, frozen(rest)].append((flat, run))
    result: dict[Any, tuple[dict[str, Any], list[Run]]] = {}
    for (experiment, _), members in alike.items():
        mark_copies(members)
        for flat, run in members:
            result.setdefault((experiment, frozen(flat)), (flat, []))[1].append(run)
    return list(result.values())


def mark_copies(members: Sequence[tuple[dict[str, Any], Run]]) -> None:
    """Replace copies of the seed in configurations that are equal otherwise, such as `dataset.order_seed`.

    A value that equals the seed in runs of two seeds is a copy. In those of one seed it is a constant if runs of others
    have the same value, as they usually have of `dataset.seed`; otherwise it cannot be told.
    """
    for key in {key for flat, _ in members for key in flat if key.endswith("seed")}:
        pairs = [(flat, frozen(flat.get(key)), run.seed) for flat, run in members]
        copied = {seed for _, value, seed in pairs if value == seed}
        constant = {value for _, value, seed in pairs if value != seed}
        for flat, value, seed in pairs:
            if value == seed and len(copied) > 1:
                flat[key] = SEED
            elif value == seed and value not in constant:
                flat[key] = Either(value)


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a result depends on apart from the seed, by dotted key; folders are named by the key of `paths`."""
    there = config.get("paths")
    paths = {key: value for key, value in there.items() if isinstance(value, str)} if isinstance(there, dict) else {}
    result = {key: without_folder(value, paths) for key, value in flattened(config)}
    # Original files are the same wherever they are.
    placement = ("seed", *PLACEMENT, *(["dataset.path"] if "dataset.mirrors" in result else []))
    return {key: value for key, value in result.items() if not any(f"{key}.".startswith(f"{p}.") for p in placement)}


def flattened(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its key; that of a `_target_` is the key of its node. Lists of plain values are values."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            if name == "_target_":
                yield key, Target(value)
            else:
                yield from flattened(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and any(isinstance(value, dict) for value in node):
        for i, value in enumerate(node):
            yield from flattened(value, f"{key}[{i}]")
    else:
        yield key, node


def without_folder(value: Any, paths: Mapping[str, str]) -> Any:
    """A path below one of the folders, from there; the deepest counts."""
    for key, folder in sorted(paths.items(), key=lambda item: -len(item[1])):
        if type(value) is str and value.startswith(f"{folder}/"):
            return f"${{paths.{key}}}{value[len(folder) :]}"
    return value


def frozen(value: Any) -> Any:
    """As a key of a dictionary: equal if and only if the values are."""
    if isinstance(value, dict):
        return frozenset((key, frozen(child)) for key, child in value.items())
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def differences(configurations: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """For each of some configurations, with their experiments: where those of its experiment differ."""
    result = []
    for experiment, own in configurations:
        keys = distinguishing([flat for name, flat in configurations if name == experiment])
        result.append({key: own[key] for key in keys if key in own})
    return result


def distinguishing(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few keys as it takes to tell configurations apart, those on which others depend."""
    position = {key: i for i, key in enumerate(dict.fromkeys(key for flat in flats for key in flat))}
    columns = {key: tuple(frozen(flat[key]) if key in flat else MISSING for flat in flats) for key in position}
    told = {key: {value for value in column if not isinstance(value, Either)} for key, column in columns.items()}
    differing = [key for key, values in told.items() if len(values) > 1]
    differing.sort(key=lambda key: (len(parts(key)), position[key]))
    result: list[str] = []
    for key in differing:
        owners = {key[:i] for i in range(len(key)) if key[i] in ".["}
        follows = len(set(columns[key]) - {MISSING}) == 1 and owners & set(differing)
        if not follows and not any(columns[key] == columns[other] and copy_of(key, other, columns) for other in result):
            result.append(key)
    return sorted(result, key=position.__getitem__)


def copy_of(key: str, other: str, columns: Mapping[str, tuple[Any, ...]]) -> bool:
    """Whether a key that has the same values as another is likely to have them from it, judging by their names."""
    last, names = parts(key)[-1], parts(other)
    alike = last in names or last.endswith(f"_{names[-1]}") or last.startswith(f"{names[-1]}_")
    return alike or any(isinstance(value, Target) for value in columns[key])


def parts(key: str) -> list[str]:
    """The parts of a key."""
    return key.replace("[", ".[").split(".")


def written(value: Any) -> str:
    """A value as it is written on the command line, a target by its last name."""
    if isinstance(value, Target):
        return value.rpartition(".")[2]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str, separators=(",", ":"))
