"""Say whether this machine can train, and what to do if not: python scripts/doctor.py [paths.logs=FOLDER]."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
_UNBROKEN = 160
"""Columns where the output is no terminal, so that most checks are on a line."""
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table with a line for each check.

    Returns:
        1 if there is a problem, otherwise 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("overrides", nargs="*", metavar="paths.KEY=FOLDER", help="as in training")
    overrides = parser.parse_args(arguments).overrides
    for override in overrides:
        if not override.startswith("paths."):
            sys.exit(f"error: `doctor` takes paths.KEY=FOLDER, but got {override!r}; leave it out.")
    try:
        from rich.console import Console
        from rich.table import Table

        doctor = _load()
    except ImportError as error:
        sys.exit(f"error: {error.name} must be installed, but is not; type make setup.")
    warnings.simplefilter("ignore")  # what they warn of is among what is looked at
    table, states = Table("check", "state", "found", "what to do"), []
    for name, finding in doctor.examine(doctor.all_checks(overrides)):
        table.add_row(name, *finding, style=_STYLES[finding.state])
        states.append(finding.state)
    console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    console.print(table)
    counts = (f"{n} {noun}{'s' * (n != 1)}" for noun in ("problem", "warning") for n in [states.count(noun)])
    console.print(f"{len(states)} checks: {', '.join(counts)}.")
    return int("problem" in states)


def _load() -> ModuleType:
    """The checks, without the package around them, which cannot be imported where torch or Lightning is broken."""
    spec = spec_from_file_location("doctor", _ROOT / "src" / "training" / "doctor.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
