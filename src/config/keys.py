"""Keys of a configuration against what reads them, so that a misspelled one is an error before anything is built.

A node with a `_target_` may have the arguments of its target: those of a function's signature, or those of the
`__init__`s of a class, from its own up to one that takes no `**options`. Options of a target that is given a
`_partial_` target go on to that one, as those of a data module go to its reader. Every other key must be in a file of
configs/, or be read by an interpolation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from src.config.arguments import Accepted, accepted_by, has_target, signature
from src.config.compose import CONFIGS, flattened, nearest
from src.config.instantiate import nodes
from src.config.targets import ConfigError, check, locate
from src.config.values import not_finite, wrong_values
from src.data import Augmentation

_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")
_BEFORE_BUILDING = ("net.match", "model.net.match")
"""Keys that are read, and taken away, before a target is built; the second refers to the first."""
_ARGUMENTS: dict[str, Callable[..., Any]] = {
    "trainer": Trainer,
    "augment": Augmentation,
    "dataset.augment": Augmentation,
}
"""Nodes without a target whose values are arguments of these."""
_BY_THE_RUN = {
    "trainer.max_epochs": "`train.epochs`; set that",
    "trainer.default_root_dir": "`paths.logs`; set that",
    "trainer.callbacks": "`callbacks`; add to those",
    "trainer.logger": "`logger`; choose one with logger=NAME",
    "trainer.plugins": "the run itself; leave it out",
    "trainer.use_distributed_sampler": "the run itself, as its loaders deal batches out; leave it out",
}
"""Arguments of the trainer that a run gives itself, and what it has them from."""
_NODES = ("callbacks", "observers")
"""Groups of configs/ whose keys are names of nodes that have a target."""
_Problem = tuple[str, str]
"""A key, and what is wrong with it."""


def check_keys(cfg: DictConfig) -> None:
    """Check every key of a composed configuration; nothing is built.

    Interpolations say which keys without a target are read, so those are not checked in a configuration that has been
    resolved, such as a run's config.yaml.

    Args:
        cfg: the whole configuration. Values that are null, and arguments that have defaults, are fine.

    Raises:
        ConfigError: if a target is not allowed or does not exist; if a key is not an argument of its target, or is read
            by nothing, with its full name and the nearest that is there; or if a required argument is not given.
        OmegaConfBaseException: if an interpolation leads nowhere.
    """
    resolved = OmegaConf.to_container(cfg, resolve=True)
    for _, node in nodes(resolved):
        check(str(node["_target_"]))
    problems: list[_Problem] = []
    values: list[_Problem] = []
    for key, node in nodes(resolved):
        target = locate(node["_target_"])
        problems += _of_node(key, node, accepted_by(target, node), node["_target_"])
        values += wrong_values(key, node, target)
    for key, target in _ARGUMENTS.items():
        if isinstance(node := OmegaConf.select(cfg, key), Mapping):
            problems += _of_node(key, node, signature(target), target.__name__)
            values += wrong_values(key, OmegaConf.to_container(node, resolve=True), target)
    problems += _unread(OmegaConf.to_container(cfg, resolve=False))
    problems = problems or [*values, *not_finite(resolved)]
    if problems:
        # A node that is referred to is there several times: where it is written, its key is shortest.
        raise ConfigError(min(problems, key=lambda problem: len(re.split(r"[.\[]", problem[0])))[1])


def _of_node(key: str, node: Mapping[str, Any], accepted: Accepted, target: str) -> Iterator[_Problem]:
    """What is wrong with the keys of a node of arguments of a target."""
    given = [str(name) for name in node if name not in _HYDRA and _join(key, name) not in _BEFORE_BUILDING]
    owner = " or ".join((target, *accepted.by))
    names = {_join(key, name) for name in accepted.names} - _BY_THE_RUN.keys()
    for full in (_join(key, name) for name in given):
        if full in _BY_THE_RUN:
            yield full, f"`{full}` is given by {_BY_THE_RUN[full]}."
        elif full not in names and not accepted.anything:
            yield _unknown(full, f"is not an argument of {owner}", names)
    if not node.get("_partial_"):
        for full in sorted(_join(key, name) for name in accepted.required.difference(given)):
            later = f"+{_join(key, '_partial_')}=true if it is given later"
            yield full, f"`{full}` must be given, as {owner} requires it; add +{full}=..., or {later}."


def _unread(raw: Mapping[str, Any]) -> Iterator[_Problem]:
    """Keys without a target that nothing reads; none are known where there are no interpolations."""
    text = "".join(re.findall(r"\$\{[^}]*", str(raw)))
    if not (references := set(re.findall(r"\.*\w[\w.]*", text))):
        return
    declared = set(_file(CONFIGS / "train.yaml")).union(*(_declared(name, value) for name, value in raw.items()))

    def has_effect(key: str) -> bool:
        relative = (name.lstrip(".") for name in references if name[0] == ".")
        return _overlaps(key, references | declared) or any(f".{key}".endswith(f".{name}") for name in relative)

    for key, siblings in _plain_keys(raw, declared):
        if not has_effect(key):
            yield _unknown(key, "is not a key that anything reads", filter(has_effect, siblings), declared)


def _plain_keys(raw: Mapping[str, Any], declared: Collection[str]) -> Iterator[tuple[str, Iterable[str]]]:
    """Every key that is neither in a node with a target nor in one of arguments, and those beside it."""
    for name, value in raw.items():
        if name in _NODES and isinstance(value, Mapping):
            known = {".".join(key.split(".")[:2]) for key in declared if key.startswith(f"{name}.")}
            yield from ((_join(name, child), known) for child in value if not has_target(value[child]))
        elif name not in _ARGUMENTS:
            yield from _leaves({name: value}, "", raw)


def _leaves(node: Mapping[str, Any], key: str, siblings: Iterable[str]) -> Iterator[tuple[str, Iterable[str]]]:
    """Every key in a node that is not inside of a target, and those beside it."""
    for name, value in node.items():
        full = _join(key, name)
        if isinstance(value, Mapping) and value and not has_target(value):
            yield from _leaves(value, full, [_join(full, child) for child in value])
        else:
            yield full, siblings


def _declared(group: str, node: Any) -> set[str]:
    """The keys in the files of a group: of those that may have been chosen, as all their keys and targets are there."""
    files = [_file(path) for path in sorted((CONFIGS / group).glob("*.yaml"))]
    given = dict(flattened(node))

    def fits(file: Mapping[str, Any]) -> bool:
        return all(key in given and (given[key] == file[key] or not key.endswith("_target_")) for key in file)

    return {_join(group, key) for file in list(filter(fits, files)) or files for key in file}


@cache
def _file(path: Path) -> dict[str, Any]:
    """The values in a file of configs/, and in those of its folder that it begins with, by their keys."""
    content = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    content.pop("hydra", None)
    bases = (path.with_name(f"{name}.yaml") for name in content.pop("defaults", []) if isinstance(name, str))
    inherited = {key: value for base in bases if base.exists() for key, value in _file(base).items()}
    return inherited | dict(flattened(content))


def _overlaps(key: str, names: Collection[str]) -> bool:
    """Whether a key, or something around it or in it, is among names."""
    return any(f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.") for name in names)


def _unknown(key: str, what: str, names: Iterable[str], elsewhere: Iterable[str] = ()) -> _Problem:
    """A key that is not among others, with the nearest that is."""
    hint = nearest(key, sorted(names), sorted(elsewhere))
    return key, f"`{key}` {what}. {hint}" if hint else f"`{key}` {what}; leave it out."


def _join(key: str, name: Any) -> str:
    """A key in a node."""
    return f"{key}.{name}" if key else str(name)
