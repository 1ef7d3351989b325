"""What is derived from original files: made once, kept, and made again where it is missing or damaged."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.io.files import locked, replacing

_Tensors = dict[str, Tensor]


def digest(about: Any, length: int = 12) -> str:
    """A short name for a description in plain containers."""
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:length]


def stored(file: Path | None, make: Callable[[], Mapping[str, Tensor]]) -> _Tensors:
    """Read tensors from a file; make and write them if it is missing or damaged.

    Processes that want the same file at once wait for the one that makes it. Where it cannot be written, a warning says
    so and the tensors are used all the same.

    Args:
        file: .npz; its name must say all that decides its content. None keeps nothing.
        make: makes the tensors; what it raises is passed on.
    """
    if file is None:
        return dict(make())
    if (tensors := _read(file)) is not None:
        return tensors
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(file))
        except OSError as error:
            _unwritten(file, error)
            return dict(make())
        if (tensors := _read(file)) is None:  # another process may have made it meanwhile
            tensors = dict(make())
            try:
                with replacing(file) as opened:
                    np.savez(opened, **{name: tensor.numpy() for name, tensor in tensors.items()})
            except OSError as error:
                _unwritten(file, error)
        return tensors


def _read(file: Path) -> _Tensors | None:
    """What was written; the zip container checks a sum of every array."""
    if not file.exists():
        return None
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"{file} is damaged ({error}) and is made again.", RuntimeWarning, stacklevel=3)
        return None


def _unwritten(file: Path, error: OSError) -> None:
    warnings.warn(
        f"{file} cannot be written ({error}), so it will be made again next time; make room, or set paths.cache to a "
        "folder that can be written to.",
        RuntimeWarning,
        stacklevel=3,
    )
