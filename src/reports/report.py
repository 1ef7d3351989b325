"""From folders of runs to a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from src.config.targets import ConfigError
from src.reports.loaded_run import Entry, LoadedRun, load_run
from src.reports.net_sections import of_nets
from src.reports.page import Section, write
from src.reports.record_sections import costs, overview, reproduction, training
from src.runs.folder import RunFolder
from src.runs.record import Run, read

IMAGES = 1000
"""Of the test set, unless asked for otherwise."""


def report(folders: Sequence[Path], images: int = IMAGES, output: Path | None = None) -> Path:
    """Write a page about a run, or one that compares several.

    The same runs give the same bytes, on the same machine.

    Args:
        folders: of the runs, in any state; those that are named twice count once.
        images: at most so many of the test set are looked at.
        output: the folder of the page; None is `report` in the folder of a run, and `reports/<name>` beside the
            experiments of several, with a name made of these and a hash of the runs.

    Returns:
        The file of the page.

    Raises:
        ConfigError: if there is no run in a folder, or `images` is not positive.
        OSError: if the page cannot be written.
    """
    if images < 1:
        raise ConfigError(f"`--images` must be at least 1, but got {images}.")
    runs = [_run_of(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    content = _sections(runs, [load_run(run, images) for run in runs])
    if len(runs) == 1:
        return write(output or runs[0].folder / "report", f"{runs[0].experiment}: {runs[0].id}", content)
    return write(output or _shared_folder(runs), f"{len(runs)} runs compared", content)


def _sections(runs: Sequence[Run], loaded: Sequence[LoadedRun | str]) -> list[Section]:
    """All of a page, in their order.

    Args:
        runs: in any state; several are compared.
        loaded: with their nets, or why there are none.
    """
    names = [""] if len(runs) == 1 else [f"run {n}" for n in range(1, len(runs) + 1)]
    entries = [Entry(*entry) for entry in zip(names, runs, loaded, strict=True)]
    return [overview(entries), training(entries), *of_nets(entries), costs(entries), reproduction(entries)]


def _run_of(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        ConfigError: if there is none.
    """
    if not (file := RunFolder(folder).status).exists():
        raise ConfigError(
            f"{folder} must be the folder of a run, with a {file.name}, but there is none; `make runs` lists them."
        )
    return read(folder)


def _shared_folder(runs: Sequence[Run]) -> Path:
    """Where a page about several belongs: the same for the same runs in the same order."""
    name = "+".join(sorted({run.folder.parent.name for run in runs}))
    readable = re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip("-")[:60]
    digest = sha256("\n".join(str(run.folder) for run in runs).encode()).hexdigest()[:8]
    return runs[0].folder.parents[1] / "reports" / f"{readable}-{digest}"
