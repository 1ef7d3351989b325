"""Keys of a configuration against what reads them, so that a misspelled one is an error before anything is built.

A node with a `_target_` may have the keys that its target can be called with. Where that target takes `**options`, they
are followed to where its source hands them on: to `super().__init__`, to a function or class, or to one that is itself
named in the configuration. Where the source does not say, every key is accepted.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from src.config.instantiate import ALLOWED, ConfigError, check
from src.data import Augmentation

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")
ARGUMENTS: dict[str, Callable[..., Any]] = {
    "trainer": Trainer,
    "augment": Augmentation,
    "dataset.augment": Augmentation,
}
"""Nodes without a target whose values are arguments of these."""
BY_THE_RUN = {
    "trainer.max_epochs": "`train.epochs`; set that",
    "trainer.default_root_dir": "`paths.logs`; set that",
    "trainer.callbacks": "`callbacks`; add to those",
    "trainer.logger": "`logger`; choose one with logger=NAME",
    "trainer.plugins": "the run itself; leave it out",
    "trainer.use_distributed_sampler": "the run itself, as its loaders deal batches out; leave it out",
}
"""Arguments of the trainer that a run gives itself, and what it has them from."""
KEPT: dict[type, frozenset[str]] = {
    TensorBoardLogger: frozenset({"comment", "purge_step", "max_queue", "flush_secs", "filename_suffix"}),
}
"""Classes that keep their options for a later call, and what that accepts: here, the writer of the event files."""
REFERRED = ("group", "implementation")
"""Groups of configs/ that are read through interpolations alone: what none of them names has no effect."""
DEPTH = 20
"""Calls that options are followed through."""


@dataclass(frozen=True)
class Accepted:
    """The arguments that can be given by name."""

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    anything: bool = False
    """Whether others are accepted too."""
    by: tuple[str, ...] = ()
    """Targets of the configuration that options are handed on to."""

    def without(self, names: Collection[str]) -> Accepted:
        """What is left when these are given already."""
        return replace(self, names=self.names.difference(names), required=self.required.difference(names))

    def __or__(self, other: Accepted) -> Accepted:
        """What both can be given, as for two branches: only what both require is required."""
        by = (*self.by, *(name for name in other.by if name not in self.by))
        return Accepted(self.names | other.names, self.required & other.required, self.anything or other.anything, by)


ANYTHING = Accepted(anything=True)


class Problem(NamedTuple):
    """What is wrong with a key."""

    key: str
    message: str


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
        # Hydra logs what it cannot find, so that is looked for first; importing others might do harm.
        if (target := str(node["_target_"])).startswith(ALLOWED):
            locate(target)
        check(target)
    problems = [problem for key, node in nodes(resolved) for problem in of_node(key, node)]
    problems += [problem for key, function in ARGUMENTS.items() for problem in of_arguments(resolved, key, function)]
    problems += unread(OmegaConf.to_container(cfg, resolve=False))
    if problems:
        # A node that is referred to is there several times: where it is written, its key is shortest.
        raise ConfigError(min(problems, key=lambda problem: len(split(problem.key))).message)


def nodes(value: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node that has a target, with its full key."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value
        for name, child in value.items():
            yield from nodes(child, join(key, name))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from nodes(child, f"{key}[{i}]")


def of_node(key: str, node: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the keys of a node that has a target."""
    accepted = accepted_by(locate(node["_target_"]), node, len(node.get("_args_") or ()))
    given = [str(name) for name in node if name not in HYDRA]
    owner = " or ".join((node["_target_"], *accepted.by))
    for name in given:
        if name not in accepted.names and not accepted.anything:
            yield unknown(join(key, name), f"is not an argument of {owner}", [join(key, n) for n in accepted.names])
    if not node.get("_partial_"):
        for name in sorted(accepted.required.difference(given)):
            full = join(key, name)
            later = f"+{join(key, '_partial_')}=true if it is given later"
            yield Problem(full, f"`{full}` must be given, as {owner} requires it; add +{full}=..., or {later}.")


def of_arguments(resolved: Mapping[str, Any], key: str, function: Callable[..., Any]) -> Iterator[Problem]:
    """What is wrong with the keys of a node of arguments."""
    node: Any = resolved
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping):
        return
    names = {f"{key}.{name}" for name in accepted_by(function, node).names} - BY_THE_RUN.keys()
    for full in (f"{key}.{name}" for name in node if name not in HYDRA):
        if full in BY_THE_RUN:
            yield Problem(full, f"`{full}` is given by {BY_THE_RUN[full]}.")
        elif full not in names:
            yield unknown(full, f"is not an argument of {function.__name__}", names)


def unread(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys without a target that nothing reads; none are known where there are no interpolations."""
    references = set(referred(raw))
    if not references:
        return
    for key, siblings in plain_keys(raw):
        if not has_effect(key, references):
            names = [name for name in siblings if has_effect(name, references)]
            elsewhere = [*of_train(), *chain(*map(keys_of, groups()))]
            yield unknown(key, "is not a key that anything reads", names, elsewhere)


def has_effect(key: str, references: Collection[str]) -> bool:
    """Whether something reads a key: an interpolation, or the program, as it is in a file of configs/."""
    group, dot, _ = key.partition(".")
    if is_read(key, references) or within(key, of_train()):
        return True
    return group in groups() and (not dot or within(key, keys_of(group)))


def plain_keys(raw: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Every key that is not inside of a target or of arguments, and those beside it.

    Groups of keys are looked into; those that have a target, and callbacks that are or should be one, are not.
    """
    for name, value in raw.items():
        if name in ARGUMENTS:
            continue
        if not isinstance(value, Mapping) or "_target_" in value or not value:
            yield name, list(raw)
        elif name in ("callbacks", "observers"):
            yield from ((join(name, n), keys_of(name)) for n, v in value.items() if not has_target(v))
        else:
            yield from leaves(value, name)


def leaves(node: Mapping[str, Any], key: str) -> Iterator[tuple[str, list[str]]]:
    """Every key below, and those beside it."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value and "_target_" not in value:
            yield from leaves(value, join(key, name))
        else:
            yield join(key, name), [join(key, n) for n in node]


def has_target(value: Any) -> bool:
    """Whether it is a node that has a target."""
    return isinstance(value, Mapping) and "_target_" in value


@cache
def groups() -> list[str]:
    """The folders of configs/."""
    return sorted(path.name for path in CONFIGS.iterdir() if path.is_dir())


@cache
def of_train() -> list[str]:
    """The keys of configs/train.yaml."""
    return [".".join(key) for key in flat(read(CONFIGS / "train.yaml")) if key[0] not in ("defaults", "hydra")]


@cache
def keys_of(group: str) -> list[str]:
    """The keys that the files of a group begin with and the program reads."""
    if group in REFERRED:
        return []
    names = (name for path in sorted((CONFIGS / group).glob("*.yaml")) for name in read(path) if name != "defaults")
    return [join(group, name) for name in dict.fromkeys(names)]


def read(path: Path) -> dict[str, Any]:
    """The content of a file of configs/."""
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def flat(node: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of all values."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from flat(value, (*key, str(name)))
    else:
        yield key


def referred(value: Any) -> Iterator[str]:
    """All names in values that have interpolations: their keys, and others that do no harm."""
    if isinstance(value, Mapping):
        for child in value.values():
            yield from referred(child)
    elif isinstance(value, list):
        for child in value:
            yield from referred(child)
    elif isinstance(value, str) and "${" in value:
        yield from re.findall(r"\.*\w[\w.]*", value)


def is_read(key: str, references: Collection[str]) -> bool:
    """Whether a key, or something around it or in it, is referred to."""
    for reference in references:
        if reference.startswith("."):
            if f".{key}".endswith(f".{reference.lstrip('.')}"):
                return True
        elif within(key, [reference.rstrip(".")]) or within(reference, [key]):
            return True
    return False


def within(key: str, keys: Collection[str]) -> bool:
    """Whether a key, or one around it, is among others."""
    parts = key.split(".")
    return any(".".join(parts[: n + 1]) in keys for n in range(len(parts)))


def accepted_by(target: Any, given: Mapping[str, Any], positional: int = 0, depth: int = DEPTH) -> Accepted:
    """What can be given to a class or function by name.

    Args:
        target: the class or function.
        given: the configuration's arguments, among them targets that options may be handed on to.
        positional: how many arguments are given by position.
        depth: calls that options are still followed through.
    """
    if inspect.isclass(target):
        result = accepted_by_init(target.__mro__, given, positional, depth)
        return replace(result, names=result.names | KEPT[target], anything=False) if target in KEPT else result
    return accepted_by_function(target, given, positional, depth)


def accepted_by_init(mro: Sequence[type], given: Mapping[str, Any], positional: int, depth: int) -> Accepted:
    """What the first `__init__` of a list of classes can be given, `self` apart."""
    for i, owner in enumerate(mro):
        if owner is object:
            return Accepted()
        if "__init__" in vars(owner):
            return accepted_by_function(vars(owner)["__init__"], given, positional + 1, depth, mro[i + 1 :])
        if "__new__" in vars(owner):
            return accepted_by_function(vars(owner)["__new__"], given, positional + 1, depth)
    return Accepted()


def accepted_by_function(
    function: Any, given: Mapping[str, Any], positional: int, depth: int, mro: Sequence[type] = ()
) -> Accepted:
    """What a function can be given by name; `mro` is where `super()` looks, in an `__init__`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ANYTHING
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:positional]
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p not in by_position]
    names = frozenset(p.name for p in by_name)
    required = frozenset(p.name for p in by_name if p.default is p.empty)
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = Options(inspect.unwrap(function), parameter.name, given, depth, mro).accepted()
            rest = rest.without([p.name for p in parameters])
            return Accepted(names | rest.names, required | rest.required, rest.anything, rest.by)
    return Accepted(names, required)


@dataclass(frozen=True)
class Options:
    """The `**options` of a function, and where its source hands them on to."""

    function: Any
    name: str
    given: Mapping[str, Any]
    depth: int
    mro: Sequence[type]

    def accepted(self) -> Accepted:
        """What can be given through them: all that one of the calls accepts, or anything if they are used otherwise."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(self.function)))
        except (OSError, TypeError, SyntaxError):
            return ANYTHING
        calls = {call: value for call in ast.walk(tree) if isinstance(call, ast.Call) and (value := self.handed(call))}
        understood = [node for value in calls.values() for node in ast.walk(value)]
        understood += [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "get"]
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == self.name]
        if not calls or not self.depth or any(all(use is not node for node in understood) for use in uses):
            return ANYTHING
        names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
        assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        return reduce(Accepted.__or__, (self.by_call(call, value, assigned) for call, value in calls.items()))

    def handed(self, call: ast.Call) -> ast.expr | None:
        """The options in a call, as `**options` or `**options | others`."""
        return next((word.value for word in call.keywords if word.arg is None and self.whole(word.value)), None)

    def whole(self, value: ast.expr) -> bool:
        """Whether all options are in a dictionary."""
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
            return self.whole(value.left) or self.whole(value.right)
        return isinstance(value, ast.Name) and value.id == self.name

    def by_call(self, call: ast.Call, value: ast.expr, assigned: Collection[str]) -> Accepted:
        """What a call still accepts beside what it is given there."""
        if any(isinstance(argument, ast.Starred) for argument in call.args):
            return ANYTHING
        result = self.by_callee(call.func, len(call.args), assigned)
        result = result.without([word.arg for word in call.keywords if word.arg])
        # What is joined to the options may bring what is required.
        return result if isinstance(value, ast.Name) else replace(result, required=frozenset())

    def by_callee(self, callee: ast.expr, positional: int, assigned: Collection[str]) -> Accepted:
        """What is called: `super().__init__`, a target that is an argument, or a global."""
        name = ast.unparse(callee)
        if name == "super().__init__":
            return accepted_by_init(self.mro, self.given, positional, self.depth - 1) if self.mro else ANYTHING
        first, *rest = name.split(".")
        if first in assigned or not all(part.isidentifier() for part in (first, *rest)):
            return ANYTHING
        if first in inspect.signature(self.function).parameters:
            return ANYTHING if rest else self.by_argument(self.given.get(first), positional)
        found = self.function.__globals__.get(first)
        for part in rest:
            found = getattr(found, part, None)
        return accepted_by(found, self.given, positional, self.depth - 1) if callable(found) else ANYTHING

    def by_argument(self, node: Any, positional: int) -> Accepted:
        """What a target that is itself an argument accepts beside its own."""
        if not (has_target(node) and node.get("_partial_")):
            return ANYTHING
        positional += len(node.get("_args_") or ())
        result = accepted_by(locate(node["_target_"]), node, positional, self.depth - 1)
        result = replace(result, required=result.required.difference(node))
        return replace(result, by=(*result.by, node["_target_"]))


def locate(target: str) -> Any:
    """What a target names; to be called with allowed ones only, as it imports.

    Raises:
        ConfigError: if there is no such thing, with the nearest that is there.
    """
    first, *rest = target.split(".")
    found, path = import_module(first), first
    for part in rest:
        if isinstance(found, ModuleType) and not hasattr(found, part):
            try:
                import_module(f"{path}.{part}")
            except ModuleNotFoundError as error:
                if error.name != f"{path}.{part}":
                    raise ConfigError(f"`_target_` {target} cannot be imported: {error}; install it.") from error
        if not hasattr(found, part):
            names = [f"{path}.{name}" for name in dir(found) if not name.startswith("_")]
            close = difflib.get_close_matches(f"{path}.{part}", names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"`_target_` must name a class or function, but there is no {target}.{hint}")
        found, path = getattr(found, part), f"{path}.{part}"
    return found


def unknown(key: str, what: str, names: Collection[str], elsewhere: Collection[str] = ()) -> Problem:
    """A key that is not among others: the nearest, or the same elsewhere, or all."""
    last = key.rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in sorted(names)}
    close = [by_last[name] for name in difflib.get_close_matches(last, by_last, n=3)]
    close = close or sorted(name for name in elsewhere if "." in name and name.rpartition(".")[2] == last)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"There are: {', '.join(sorted(names))}."
    return Problem(key, f"`{key}` {what}. {hint}" if names or close else f"`{key}` {what}; leave it out.")


def join(key: str, name: Any) -> str:
    """A key in a node."""
    return f"{key}.{name}" if key else str(name)


def split(key: str) -> list[str]:
    """The parts of a key."""
    return re.split(r"[.\[]", key)
