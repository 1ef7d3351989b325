"""Where and when the runs of a sweep were, as their workers wrote it down."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def placements(folder: Path) -> list[dict[str, Any]]:
    """Where and when every run of a sweep was, one for every time that it was started."""
    return [json.loads(path.read_text()) for path in sorted((folder / "placements").glob("*.json"))]


def clashes(placed: Sequence[dict[str, Any]]) -> list[str]:
    """Runs that were on one device at the same time, unless they were to share it."""
    found = []
    for i, one in enumerate(placed):
        for other in placed[:i]:
            shared = set(re.findall(r"\d+", one["device"])) & set(re.findall(r"\d+", other["device"]))
            if (
                shared
                and one["node"] == other["node"]
                and one["began"] < other["ended"]
                and other["began"] < one["ended"]
            ):
                found.append(f"{one['name']} and {other['name']} on {one['node'][:8]}:{','.join(sorted(shared))}")
    return found


def busy(placed: Sequence[dict[str, Any]], places: int) -> float:
    """The share of the time from the first start to the last end in which places had a run."""
    over = [place for place in placed if place["ended"] is not None]
    if not over:
        return 0.0
    span = max(place["ended"] for place in over) - min(place["began"] for place in over)
    return sum(place["ended"] - place["began"] for place in over) / (places * span)
