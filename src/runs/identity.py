"""Which folder a run has: the same command finds the same run again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from src.config.compose import COMBINED, is_group, plain
from src.config.instantiate import ConfigError

PLACEMENT = (
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
LONGEST = 80
"""Characters of what was changed, in the name of a folder."""


def decisive(cfg: DictConfig) -> dict[str, Any]:
    """Everything that the result depends on: the configuration without `PLACEMENT`, by dotted key."""
    flat = dict(flattened(plain(cfg)))
    placement = PLACEMENT + (("dataset.path",) if "dataset.mirrors" in flat else ())
    return {key: value for key, value in flat.items() if not any(f"{key}.".startswith(f"{p}.") for p in placement)}


def digest(cfg: DictConfig) -> str:
    """Eight characters for all that is decisive."""
    return hashlib.sha256(json.dumps(decisive(cfg), sort_keys=True).encode()).hexdigest()[:8]


def run_id(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """What was changed, the seed, and the digest: `lr-0.01_seed1-3f2a9c01`."""
    words = [readable(override) for override in overrides if shown(override)]
    while len("_".join(words)) > LONGEST:
        words.pop()
    return f"{'_'.join([*words, f'seed{cfg.seed}'])}-{digest(cfg)}"


def shown(override: str) -> bool:
    """Whether an override is worth a part of a name."""
    key = override.split("=")[0].lstrip("+~")
    named = ("experiment", *COMBINED, "seed", "debug")  # elsewhere in the name
    return key not in named and not any(f"{key}.".startswith(f"{p}.") for p in PLACEMENT)


def readable(override: str) -> str:
    """`optimizer.lr=0.01` as `lr-0.01`, `group=p4m` as `p4m`, in characters that every shell leaves alone."""
    key, _, value = override.lstrip("+~").partition("=")
    text = value if is_group(override) else f"{key.rpartition('.')[2]}-{value}"
    return re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-")


def existing(cfg: DictConfig) -> Path | None:
    """The newest run of this configuration, whatever it was called."""
    parent, tail = Path(cfg.paths.logs) / cfg.name, re.compile(rf"-{digest(cfg)}(?:-(\d+))?$")
    found = {folder: match for folder in parent.glob("*") if (match := tail.search(folder.name)) and folder.is_dir()}
    return max(found, key=lambda folder: int(found[folder][1] or 1), default=None)


def beside(folder: Path) -> Path:
    """A name for a new run of the same configuration: `-2`, `-3`, ... behind it."""
    stem = re.sub(r"(-[0-9a-f]{8})-\d+$", r"\1", folder.name)
    return next(path for n in range(2, 1_000_000) if not (path := folder.with_name(f"{stem}-{n}")).exists())


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changed between two decisive configurations, a line each."""
    keys = sorted(before.keys() | after.keys())
    missing = "(not there)"
    return [
        f"{key}: {before.get(key, missing)} -> {after.get(key, missing)}"
        for key in keys
        if before.get(key, missing) != after.get(key, missing)
    ]


def changes(folder: Path, cfg: DictConfig) -> list[str]:
    """What a configuration has otherwise than the run in a folder; nothing if none is there."""
    path = folder / "config.yaml"
    return differences(decisive(OmegaConf.load(path)), decisive(cfg)) if path.exists() else []


@contextmanager
def locked(folder: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """Hold a folder's lock, which the system lets go whatever happens to this process.

    Args:
        folder: made if it is not there.
        refusal: what to say if another process has it.

    Raises:
        ConfigError: if one has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(refusal()) from error
    try:
        yield
    finally:
        lock.release()


def flattened(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dictionaries, by dotted key; lists are values."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
