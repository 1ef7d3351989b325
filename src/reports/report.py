"""From folders of runs to a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from src.config.instantiate import ConfigError
from src.reports import several, single
from src.reports.loaded_run import subject
from src.reports.page import write
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
    runs = [run_of(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    if len(runs) == 1:
        (run,) = runs
        title, sections = f"{run.experiment}: {run.id}", single.sections(run, subject(run, images))
        return write(output or run.folder / "report", title, sections)
    sections = several.sections(runs, [subject(run, images) for run in runs])
    return write(output or shared_folder(runs), f"{len(runs)} runs compared", sections)


def run_of(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        ConfigError: if there is none.
    """
    if not (file := RunFolder(folder).status).exists():
        raise ConfigError(
            f"{folder} must be the folder of a run, with a {file.name}, but there is none; `make runs` lists them."
        )
    return read(folder)


def shared_folder(runs: Sequence[Run]) -> Path:
    """Where a page about several belongs: the same for the same runs in the same order."""
    name = "+".join(sorted({run.folder.parent.name for run in runs}))
    readable = re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip("-")[:60]
    digest = sha256("\n".join(str(run.folder) for run in runs).encode()).hexdigest()[:8]
    return runs[0].folder.parents[1] / "reports" / f"{readable}-{digest}"
