"""What the target of a node can be given by name, as signatures say it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning.pytorch.callbacks import RichModelSummary
from lightning.pytorch.loggers import TensorBoardLogger
from torchmetrics import Metric

from src.config.targets import locate

_KEPT: dict[type, frozenset[str]] = {
    TensorBoardLogger: frozenset({"comment", "purge_step", "max_queue", "flush_secs", "filename_suffix"}),
    RichModelSummary: frozenset({"header_style"}),
    Metric: frozenset({"compute_on_cpu", "compute_with_cache", "dist_sync_fn", "dist_sync_on_step"})
    | {"distributed_available_fn", "process_group", "sync_on_compute"},
}
"""Classes that keep their options for a later call, and what that call reads."""


class Accepted(NamedTuple):
    """The arguments that can be given by name."""

    names: frozenset[str]
    required: frozenset[str] = frozenset()
    options: bool = False
    """Whether there are `**options` as well."""
    anything: bool = False
    """Whether no signature says where the options end, so that every name is accepted."""
    by: tuple[str, ...] = ()
    """Targets in the node that the options go to."""


def accepted_by(target: Any, node: Mapping[str, Any]) -> Accepted:
    """The arguments of a target; and if it takes `**options`, those of the `_partial_` targets it is given in the node.

    Args:
        target: a function; or a class, whose arguments are those of the `__init__`s in the order of its bases, up to
            one that takes no `**options`.
        node: the configuration of the target.
    """
    result = signature(target, len(node.get("_args_") or ()))
    partials = [child for child in node.values() if has_target(child) and child.get("_partial_")]
    if not (result.options and partials):
        return result
    result = result._replace(anything=False)
    for child in partials:
        other = accepted_by(locate(child["_target_"]), child)
        result = result._replace(
            names=result.names | other.names,
            required=result.required | (other.required - child.keys() - result.names),
            anything=result.anything or other.anything,
            by=(*result.by, child["_target_"], *other.by),
        )
    return result


def signature(target: Any, positional: int = 0) -> Accepted:
    """The arguments of a function or class, after some that are given by position.

    Of a class, only those that the first `__init__` requires are required: it may itself give the next one its own.
    """
    owners = target.__mro__[:-1] if inspect.isclass(target) else ()
    inits = [(owner, vars(owner).get("__init__", vars(owner).get("__new__"))) for owner in owners]
    result: Accepted | None = None
    for owner, function in [each for each in inits if each[1]] or [(None, target)]:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return Accepted(frozenset(), anything=True)
        given = (owner is not None) + (0 if result else positional)
        named = [p for p in parameters[given:] if p.kind is p.POSITIONAL_OR_KEYWORD]
        named += [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        options = any(p.kind is p.VAR_KEYWORD for p in parameters)
        names = frozenset(p.name for p in named) | _KEPT.get(owner, frozenset())
        result = result or Accepted(names, frozenset(p.name for p in named if p.default is p.empty), options)
        result = result._replace(names=result.names | names, anything=options and owner not in _KEPT)
        if not result.anything:
            break
    return result


def has_target(value: Any) -> bool:
    """Whether it is a node that has a target."""
    return isinstance(value, Mapping) and "_target_" in value
