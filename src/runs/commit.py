"""Which state of the project runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def git(*words: str, root: Path = _ROOT) -> list[str] | None:
    """The lines that a command of git's prints; None outside a repository, or where there is no git."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()


def commit() -> str | None:
    """The project's commit, with + where files differ from it; None outside a repository."""
    head, changed = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return None if head is None or changed is None else head[0] + "+" * bool(changed)
