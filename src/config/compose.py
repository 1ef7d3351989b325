"""Configurations composed by name, with the nearest name where one does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from src.config.targets import CONFIGS, ConfigError

COMBINED = ("protocol", "method")
"""Config groups that a recipe is a choice of: each overrides others, and has no keys of its own."""
_Choices = Mapping[str, str | None]
"""Which file each config group has."""


def change(cfg: DictConfig, override: str) -> None:
    """Apply an override to a composed configuration; a group's choice replaces it. Raises ConfigError if it fails."""
    if is_group(override):
        group = override.split("=")[0]
        if group in ("experiment", *COMBINED):
            raise ConfigError(
                f"`{group}` chooses what a new run is made of, and cannot be changed in one that is there; change "
                f"single keys, or start another run with make train ARGS={override!r}."
            )
        there = (CONFIGS / "experiment" / f"{cfg.name}.yaml").exists()  # not for a combination of protocol and method
        cfg[group] = compose_config([f"experiment={cfg.name}" if there else "~experiment", override])[group]
        return
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(f"{override!r} is not an override key=value.") from error
    if parsed.key_or_group not in (keys := _keys(cfg)):
        raise ConfigError(
            f"`{parsed.key_or_group}` is not a key of the configuration. {nearest(parsed.key_or_group, keys)}"
        )
    OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), force_add=True)


def compose_config(overrides: Sequence[str], name: str = "train") -> DictConfig:
    """A whole configuration from a file at the top of configs/. Raises ConfigError, with the nearest names."""
    return compose_with_choices(overrides, name)[0]


def compose_with_choices(overrides: Sequence[str], name: str = "train") -> tuple[DictConfig, _Choices]:
    """A whole configuration, as `compose_config` has it, and which file each config group has."""
    try:
        cfg, choices = _compose(name, overrides)
        name_combination(cfg, overrides, choices)
        return cfg, choices
    except MissingConfigException as error:
        group, _, got = (error.missing_cfg_file or "").rpartition("/")
        there = [name for name in error.options or [] if not name.startswith("_")]  # those are parts of others
        raise ConfigError(f"`{group}` has no {got!r}. {nearest(got, there)}") from error
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override!r} is not an override key=value; in a shell, a value with spaces or commas needs two "
            "kinds of quotes, \"implementation.formula='oi h, o x'\"."
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, name)) from error
    except ValueError as error:  # Hydra's own, for instance where a group is set to null
        raise ConfigError(f"{' '.join(overrides)} cannot be composed: {error}") from error


def _compose(name: str, overrides: Sequence[str]) -> tuple[DictConfig, _Choices]:
    """As Hydra's; its own node, which it always composes, says what was chosen, and is taken away."""
    with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
        cfg = compose(name, list(overrides), return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    if type(elements := OmegaConf.select(cfg, "group.elements")) is int:
        cfg.group.elements = [elements]  # of groups that have one part
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def name_combination(cfg: DictConfig, overrides: Sequence[str], choices: _Choices) -> None:
    """Name runs `<protocol>_<method>` where one of both is chosen otherwise than by a recipe, unless a name is given.

    Args:
        cfg: composed of the overrides.
        overrides: as on the command line.
        choices: which file each config group has with them.
    """
    given = {override.partition("=")[0] for override in overrides}
    if given.intersection(COMBINED) and "name" not in given:
        cfg.name = "_".join(choices[group] for group in COMBINED if choices[group])


def _explain(error: Exception, overrides: Sequence[str], name: str) -> str:
    """Hydra's message, or that a key does not exist and which do, or where several runs are started."""
    several = next((override for override in overrides if name == "train" and re.match(r"sweep[.=]", override)), None)
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'( requires|\n|$)", str(error)):
        several = found[1]
    if several:
        return (
            f"{several!r} is for several runs, which `make sweep` starts; `make train` starts one. In a shell, one "
            "value with commas needs two kinds of quotes, \"implementation.formula='oi h, o x'\"."
        )
    keys = _keys(_compose(name, [word for word in overrides if re.match(r"[a-z_/]+=", word) and is_group(word)])[0])
    for override in overrides:
        key = override.split("=")[0]
        if key not in keys and not is_group(override) and not key.startswith(("+", "~", "hydra.")):
            return f"`{key}` is not a key of the configuration. {nearest(key, keys)}"
    return root_cause(error)


def is_group(override: str) -> bool:
    """Whether an override chooses a file of a config group."""
    return (CONFIGS / override.split("=")[0]).is_dir()


def nearest(got: str, names: Collection[str], elsewhere: Collection[str] = ()) -> str:
    """A hint: the nearest names, or those that end alike, or all; nothing if there are none.

    Args:
        got: a name or key. If it is in the same node as all names, what follows that is compared.
        names: what it may be.
        elsewhere: keys that are only named if they end as it does.
    """
    node = got[: got.rfind(".") + 1]
    node = node if all(name.startswith(node) for name in names) else ""
    short = {name.removeprefix(node): name for name in names}
    last = got.removeprefix(node)
    close = difflib.get_close_matches(last, short, n=3, cutoff=0.6)
    # Only those that are about as near as the nearest.
    ratios = {name: difflib.SequenceMatcher(None, name, last).ratio() for name in close}
    close = [short[name] for name in close if ratios[name] > max(ratios.values()) - 0.1]
    if not close and "." not in last:
        close = [name for name in (*names, *elsewhere) if name.rpartition(".")[2] == last]
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    there = [short[name] for name in sorted(short) if "." not in name]
    return f"There are: {', '.join(there)}." if there else ""


def _keys(cfg: DictConfig) -> list[str]:
    """Every key, and every node of keys, with dots."""
    flat = dict(flattened(OmegaConf.to_container(cfg, resolve=False)))
    return sorted({f"{key}."[:i] for key in flat for i, character in enumerate(f"{key}.") if character == "."})


def flattened(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dictionaries, by dotted key; lists and empty dictionaries are values."""
    if isinstance(node, Mapping) and node:
        for name, child in node.items():
            yield from flattened(child, f"{key}.{name}" if key else str(name))
    elif key:
        yield key, node


def root_cause(error: BaseException) -> str:
    """The message of the error that started it all, with the key at which Hydra met it."""
    key = getattr(error, "full_key", None)
    while error.__cause__ is not None:
        error = error.__cause__
    message = f"{error}".strip().splitlines()[0] if isinstance(error, OmegaConfBaseException) else f"{error}"
    return f"{message} (at {key!r})" if key and key not in message else message


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as plain containers, resolved."""
    return OmegaConf.to_container(cfg, resolve=True)
