"""Say whether this machine can train, and what to do if not: python scripts/doctor.py [paths.logs=FOLDER]."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table with a line for each check; 1 if there is a problem, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as in training, such as paths.logs=FOLDER")
    overrides = parser.parse_args(arguments).overrides
    try:
        from src.runs.tables import console, rich_table

        doctor = _load()
    except ImportError as error:
        sys.exit(f"error: {error.name} must be installed, but is not; type make setup.")
    warnings.simplefilter("ignore")  # what they warn of is among what is looked at
    findings = dict(doctor.examine(doctor.all_checks(overrides)))
    states, out = [finding.state for finding in findings.values()], console()
    rows = ((name, finding.state, finding.found, finding.advice) for name, finding in findings.items())
    out.print(rich_table(("check", "state", "found", "what to do"), rows, styles=map(_STYLES.get, states)))
    counts = (f"{n} {noun}{'s' * (n != 1)}" for noun in ("problem", "warning") for n in [states.count(noun)])
    out.print(f"{len(states)} checks: {', '.join(counts)}.")
    return int("problem" in states)


def _load() -> SimpleNamespace:
    """The checks, without the package around them, which cannot be imported where torch or Lightning is broken."""
    return SimpleNamespace(**run_path(str(_ROOT / "src" / "training" / "doctor.py")))


if __name__ == "__main__":
    sys.exit(main())
