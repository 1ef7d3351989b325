"""Run a recipe over a space, a run on each GPU: python scripts/sweep.py experiment=NAME sweep=NAME [key=a,b,c ...]."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.config.targets import ConfigError
from src.runs.process import quiet
from src.sweeps.driver import run_sweep
from src.sweeps.results import present
from src.sweeps.sweep import compose_sweep
from src.training.commands import parser, user_errors

_EXIT_CODES = {"failed": 1, "out of memory": 1, "interrupted": 130, "waiting": 130, "running": 130}
"""The exit code where a trial is left in such a state; the first that applies."""


def main() -> None:
    """Run what is left, and say what all trials came to. User errors print as one line."""
    words = parser(__doc__, "of all runs, of the sweep, or axes key=a,b,c").parse_args().overrides
    quiet()
    with user_errors(OSError):
        _require("ray", "optuna")
        sweep = compose_sweep(words)
        store = run_sweep(sweep, words)
        present(sweep, store)
    states = {record.state for record in store.records.values()}
    sys.exit(next((code for state, code in _EXIT_CODES.items() if state in states), 0))


def _require(*packages: str) -> None:
    """Raises ConfigError if one is not installed."""
    if absent := [name for name in packages if find_spec(name) is None]:
        raise ConfigError(
            f"sweeps need {' and '.join(absent)}, not installed here; `make sweep` installs them, or "
            "pip install --requirement requirements-sweep.txt does."
        )


if __name__ == "__main__":
    main()
