"""What is required of arguments, refused in the same words everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def require(name: str, value: Any, holds: bool, what: str) -> None:
    """Raises ValueError, with the argument's name, what it must be and what it is, unless that holds."""
    if not holds:
        raise ValueError(f"`{name}` must be {what}, but got {value!r}.")


def require_positive(**numbers: Any) -> None:
    """Raises ValueError unless every number is a positive integer."""
    for name, number in numbers.items():
        require(name, number, _is_integer(number) and number > 0, "a positive integer")


def require_positive_number(**numbers: Any) -> None:
    """Raises ValueError unless every number is above 0."""
    for name, number in numbers.items():
        require(name, number, is_number(number) and number > 0, "a positive number")


def require_whole(**numbers: Any) -> None:
    """Raises ValueError unless every number is an integer of at least 0."""
    for name, number in numbers.items():
        require(name, number, _is_integer(number) and number >= 0, "a whole number, 0 or more")


def require_at_least(low: float, **numbers: Any) -> None:
    """Raises ValueError if a number is below `low`."""
    for name, number in numbers.items():
        require(name, number, is_number(number) and number >= low, f"at least {low}")


def require_above(low: float, **numbers: Any) -> None:
    """Raises ValueError unless every number is above `low`."""
    for name, number in numbers.items():
        require(name, number, is_number(number) and number > low, f"above {low}")


def require_fraction(**numbers: Any) -> None:
    """Raises ValueError unless every number is in (0, 1)."""
    for name, number in numbers.items():
        require(name, number, is_number(number) and 0 < number < 1, "a number between 0 and 1")


def require_probability(**numbers: Any) -> None:
    """Raises ValueError unless every number is in [0, 1)."""
    for name, number in numbers.items():
        require(name, number, is_number(number) and 0 <= number < 1, "a probability in [0, 1)")


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises ValueError unless the value is one of the choices."""
    require(name, value, value in choices, f"one of {', '.join(map(str, choices))}")


def is_number(value: Any) -> bool:
    """Whole or not; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    """A whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
