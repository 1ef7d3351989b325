r"""Which numbers of a group-convolution kernel depend on which coordinates: a line of text.

`"oi h, o x"` reads k_oi(x, h) = k_oi(h) k_o(x): a product of factors, each with its own kernel net. The first word of a
factor names the channels it depends on, `o`utput and `i`nput; the others name coordinates relative to the output
element h_a, for an input element h_b and a pixel offset u:

    x           h_a^-1 u
    h           h_a^-1 h_b
    h0, h1      the parts of h_a^-1 h_b in a direct product of groups
    a           h_a itself: such a kernel is not equivariant, on purpose

A letter `l` before the channels counts ranks, and the product is summed over them: `"loi h, lo x, l a"` is the sum over
l of w_l(h_a) k_loi(h) k_lo(x), a relaxed kernel (`src/models/relaxed.py`), which is equivariant at initialisation.

The names are those of "Exploiting Redundancy: Separable Group Convolutional Networks on Lie Groups" (Knigge, Romero,
Bekkers, 2022), https://arxiv.org/abs/2110.13059, as its code computes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from src.groups import Group

IMPLEMENTATIONS = {
    "lifting": "oi x",
    "nonseparable": "oi x h",
    "separable": "oi h, o x",
    "gseparable": "oi h, oi x",
    "dseparable": "oi, o x h",
    "dgseparable": "oi, o h, o x",
    "separable+2d": "oi h0, o h1, o x",
    "gseparable+2d": "oi h0, oi h1, oi x",
}
"""The forms that have names. `make docs` copies their formulas to configs/implementation."""


class _Factor(NamedTuple):
    """One factor: the channels and the coordinates that it depends on."""

    channels: str
    """Letters among `l`, `o` and `i`, in the order in which values lie."""
    coordinates: tuple[str, ...]

    @property
    def is_relaxation(self) -> bool:
        """Whether it is `l a`, the weights of ranks on absolute elements."""
        return self.channels == "l" and self.coordinates == ("a",)


class Stage(NamedTuple):
    """Factors that share a summed index, and the indices that their sum runs over: `i`, `x` and parts of the group."""

    factors: tuple[int, ...]
    input: bool
    space: bool
    parts: frozenset[int]


@dataclass(frozen=True)
class Factorisation:
    """A formula, or the name of one, and what follows from it.

    Args:
        formula: a name in `IMPLEMENTATIONS`, or a formula.

    Raises:
        ValueError: if the formula has an unknown word, repeats one, or lacks output or input channels.

    Example:
        >>> Factorisation("separable").formula
        'oi h, o x'
        >>> Factorisation("o x")
        Traceback (most recent call last):
        ...
        ValueError: `implementation` must depend on output channels `o` and input channels `i`, but 'o x' lacks `i`; ...
    """

    formula: str
    factors: tuple[_Factor, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "formula", IMPLEMENTATIONS.get(self.formula, self.formula))
        object.__setattr__(self, "factors", tuple(map(self._factor, self.formula.split(","))))
        if self.ranked and (sum(f.is_relaxation for f in self.factors) != 1 or len(self.ranked) == 1):
            raise ValueError(
                "`implementation` with ranks `l` must have their weights, `l a`, once, and another factor with `l`, "
                f"but got {self.formula!r}; write for instance 'loi h, lo x, l a'."
            )
        lacking = [letter for letter in "oi" if not any(letter in factor.channels for factor in self.factors)]
        if lacking:
            raise ValueError(
                "`implementation` must depend on output channels `o` and input channels `i`, but "
                f"{self.formula!r} lacks {' and '.join(f'`{letter}`' for letter in lacking)}; write for instance "
                f"'oi h, o x', or one of {', '.join(IMPLEMENTATIONS)}."
            )

    def _factor(self, text: str) -> _Factor:
        channels, *coordinates = text.split() or [""]
        unknown = [word for word in coordinates if not re.fullmatch(r"x|a|h\d?", word)]
        if not re.fullmatch(r"l?(o|i|oi|io)|l", channels) or unknown or len(set(coordinates)) < len(coordinates):
            raise ValueError(
                f"`implementation` must be one of {', '.join(IMPLEMENTATIONS)}, or factors such as 'oi h, o x' "
                "(channels among `o`, `i`, after `l` if there are ranks, then coordinates among `x`, `h`, `h0`, `h1`, "
                f"`a`, each once), but {self.formula!r} has the factor {text.strip()!r}."
            )
        if "h" in coordinates and any(len(word) > 1 for word in coordinates):
            raise ValueError(
                f"a factor depends on all of the group, `h`, or on parts of it, but {text.strip()!r} in "
                f"{self.formula!r} names both; keep one."
            )
        return _Factor(channels, tuple(coordinates))

    def check(self, group: Group) -> None:
        """Raises ValueError if the formula refers to a part that the group does not have."""
        for factor in self.factors:
            for word in factor.coordinates:
                if word[0] == "h" and any(part >= len(group.parts) for part in parts_of(word, len(group.parts))):
                    raise ValueError(
                        f"`implementation` {self.formula!r} names the part `{word}` of a product, but {group} has "
                        f"{len(group.parts)} part(s); use a product group such as sim2, or a form in `h`: "
                        "'separable' for 'separable+2d', 'gseparable' for 'gseparable+2d'."
                    )

    @property
    def ranked(self) -> frozenset[int]:
        """The factors that depend on the rank `l`."""
        return frozenset(n for n, factor in enumerate(self.factors) if "l" in factor.channels)

    def relaxed(self, ranks: int) -> Factorisation:
        """The sum over ranks of this product, with weights on absolute elements; itself if it is one, or for 0 ranks.

        Raises:
            ValueError: if it is a sum over ranks and there are none.

        >>> Factorisation("separable").relaxed(2).formula
        'loi h, lo x, l a'
        """
        if self.ranked and not ranks:
            raise ValueError(
                f"`relaxed` must say how many ranks `l` the `implementation` {self.formula!r} is a sum over, but got "
                f"{ranks}; set it to 1 or more, or leave `l` out of the formula."
            )
        if self.ranked or not ranks:
            return self
        return Factorisation(f"{', '.join(f'l{factor.strip()}' for factor in self.formula.split(','))}, l a")

    def ranks_apart(self, parts: int) -> bool:
        """Whether sums that are taken in turn, with `parts` parts of the group, carry ranks from one to the next."""
        return sum(not self.ranked.isdisjoint(stage.factors) for stage in self.stages(parts)) > 1

    @property
    def masked(self) -> set[str]:
        """The coordinates that get a mask: all relative ones, but parts of the group only if it has none itself."""
        words = {word for factor in self.factors for word in factor.coordinates} - {"a"}
        return {word for word in words if word in ("x", "h") or "h" not in words}

    def first_words(self, n: int) -> list[str]:
        """The coordinates that factor n is the first to carry."""
        earlier = {word for factor in self.factors[:n] for word in factor.coordinates}
        return [word for word in self.factors[n].coordinates if word not in earlier]

    def carried(self, parts: int) -> frozenset[int]:
        """The parts of the group, out of `parts`, that some factor depends on."""
        return frozenset().union(*(self._parts(factor, parts) for factor in self.factors))

    def stages(self, parts: int) -> tuple[Stage, ...]:
        """The sums that can be taken one after the other, in order; a single one if they cannot.

        Factors that share no summed index can be summed in turn. Each stage but the first must find its inputs summed
        already, and space comes last, since its coordinates depend on all of the output element. So do weights of
        ranks, which are part of that stage; ranks are further output channels until then.
        """
        stages: list[Stage] = []
        weights = [n for n, factor in enumerate(self.factors) if factor.is_relaxation]
        for n, factor in enumerate(self.factors):
            if n in weights:
                continue
            stage = Stage((n,), "i" in factor.channels, "x" in factor.coordinates, self._parts(factor, parts))
            for other in [s for s in stages if _share(stage, s)]:
                stages.remove(other)
                stage = merge(other, stage)
            stages.append(stage)
        stages.sort(key=lambda stage: (not stage.input, stage.space))
        complete = any(s.space for s in stages) and self.carried(parts) == frozenset(range(parts))
        in_turn = (
            complete
            and not stages[0].space
            and len(stages[-1].parts) in (0, parts)
            and all(s.input or s.space or s.parts for s in stages)
            and not any("a" in factor.coordinates for n, factor in enumerate(self.factors) if n not in weights)
        )
        stages[-1] = stages[-1]._replace(factors=(*stages[-1].factors, *weights))
        if not in_turn:
            first, *rest = stages
            for stage in rest:
                first = merge(first, stage)
            return (first,)
        return tuple(stages)

    def _parts(self, factor: _Factor, parts: int) -> frozenset[int]:
        return frozenset().union(*(parts_of(word, parts) for word in factor.coordinates))


def parts_of(word: str, parts: int) -> frozenset[int]:
    """Which of `parts` parts of a group a coordinate refers to: all for `h`, one for `h0`, none for `x`."""
    if word == "h":
        return frozenset(range(parts))
    return frozenset({int(word[1:])}) if word[0] == "h" else frozenset()


def _share(one: Stage, other: Stage) -> bool:
    """Whether two stages share a summed index."""
    return (one.input and other.input) or (one.space and other.space) or bool(one.parts & other.parts)


def merge(one: Stage, other: Stage) -> Stage:
    """The stage that takes both sums at once."""
    return Stage(
        (*one.factors, *other.factors), one.input or other.input, one.space or other.space, one.parts | other.parts
    )
