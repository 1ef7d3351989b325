"""Files that are either there and whole, or not there, and the lock that lets one process make them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from filelock import FileLock, Timeout


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its name once it is written and flushed to disk; after an error it is removed.

    Raises:
        OSError: if the folder cannot be made or written to, or is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are closed to other users, and the rename would keep that.
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it that stays; one process or thread at a time, the others wait.

    Raises:
        OSError: if the folder cannot be made or written to, so that there can be no lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        print(f"waiting for another process that prepares {path} ...", file=sys.stderr, flush=True)
        held = lock.acquire(timeout=-1)
    with held:
        yield
