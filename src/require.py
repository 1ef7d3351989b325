"""What is required of arguments, refused in the same words everywhere."""

from __future__ import annotations

from collections.abc import Sequence


def require_positive(**numbers: int) -> None:
    """Raises ValueError, with the argument's name, unless every number is a positive integer."""
    for name, number in numbers.items():
        if not (isinstance(number, int) and number >= 1):
            raise ValueError(f"`{name}` must be a positive integer, but got {number!r}.")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, but got {value!r}.")


def require_fraction(name: str, value: float) -> None:
    """Raises ValueError unless a number is at least 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number of at least 0 and below 1, but got {value!r}.")
