"""Which folder a run has: the same command finds the same run again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from src.config.compose import COMBINED, flattened, is_group, plain
from src.config.targets import ConfigError
from src.data.io import store
from src.runs.folder import RunFolder
from src.runs.upgrade import load_config

NOT_PART_OF_IDENTITY = (
    "paths",
    "logger",
    "observers",
    "callbacks.checkpoint.folder",
    "callbacks.checkpoint.every_minutes",
    "callbacks.checkpoint.every_steps",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.profiler",
    "trainer.log_every_n_steps",
    "dataset.num_workers",
    "dataset.on_device",
    "dataset.cache",
    "dataset.mirrors",
)
"""Where a run is placed and what it shows on the way: a run is the same run with others of these."""
_LONGEST = 80
"""Characters of what was changed, in the name of a folder."""


def identifying(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the result of a whole configuration, resolved or not, depends on, by dotted key."""
    flat = dict(flattened(config))
    # Published files are the same wherever they are.
    ignored = NOT_PART_OF_IDENTITY + (("dataset.path",) if "dataset.mirrors" in flat else ())
    return {key: value for key, value in flat.items() if not is_within(key, ignored)}


def digest(cfg: DictConfig) -> str:
    """Eight characters for all that the result depends on."""
    return store.digest(identifying(plain(cfg)), 8)


def key_of(override: str) -> str:
    """What an override changes: `optimizer.lr` of `optimizer.lr=0.01`."""
    return override.partition("=")[0].lstrip("+~")


def is_within(key: str, nodes: Collection[str]) -> bool:
    """Whether a dotted key is one of some nodes, or in one."""
    return any(f"{key}.".startswith(f"{node}.") for node in nodes)


def run_id(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """What was changed, the seed, and the digest: `lr-0.01_seed1-3f2a9c01`."""
    unnamed = (*NOT_PART_OF_IDENTITY, "experiment", *COMBINED, "seed", "debug")
    words = [_short(word) for word in overrides if not is_within(key_of(word), unnamed)]
    while len("_".join(words)) > _LONGEST:
        words.pop()
    return f"{'_'.join([*words, f'seed{cfg.seed}'])}-{digest(cfg)}"


def existing(cfg: DictConfig) -> Path | None:
    """The newest run of this configuration, whatever it was called."""
    parent, tail = Path(cfg.paths.logs) / cfg.name, re.compile(rf"-{digest(cfg)}(?:-(\d+))?$")
    found = {folder: match for folder in parent.glob("*") if (match := tail.search(folder.name)) and folder.is_dir()}
    return max(found, key=lambda folder: int(found[folder][1] or 1), default=None)


def numbered(folder: Path) -> Path:
    """The folder of another run of the same configuration: the first of `-2`, `-3`, ... that is free."""
    stem = re.sub(r"(-[0-9a-f]{8})-\d+$", r"\1", folder.name)
    return next(path for n in range(2, 1_000_000) if not (path := folder.with_name(f"{stem}-{n}")).exists())


def changes(folder: Path, cfg: DictConfig) -> list[str]:
    """What a configuration has otherwise than the run in a folder, a line each; nothing if there is no run."""
    path = RunFolder(folder).config
    if not path.exists():
        return []
    before, after = identifying(plain(load_config(path))), identifying(plain(cfg))
    absent = "(not there)"
    values = {key: (before.get(key, absent), after.get(key, absent)) for key in sorted(before.keys() | after.keys())}
    return [f"{key}: {old} -> {new}" for key, (old, new) in values.items() if old != new]


@contextmanager
def locked(folder: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """Hold a folder's lock, which ends with this process. Raises ConfigError, the refusal, if another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(RunFolder(folder).lock).acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(refusal()) from error
    with held:
        yield


def _short(override: str) -> str:
    """`optimizer.lr=0.01` as `lr-0.01`, `group=p4m` as `p4m`, in characters that need no quotes in any shell."""
    key, _, value = override.lstrip("+~").partition("=")
    text = value if is_group(override) else f"{key.rpartition('.')[2]}-{value}"
    return re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-")
