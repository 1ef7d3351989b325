"""Which state of the project runs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str | None:
    """The project's commit, with + where files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parents[2]
    try:
        done = [
            subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True, timeout=10).stdout
            for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return done[0].strip() + ("+" if done[1].strip() else "")
