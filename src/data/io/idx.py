"""The idx format of MNIST: a magic number, the sizes of the axes, then bytes."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

_UINT8 = 8
"""The format's code of unsigned bytes, the third byte of a file."""


def read_idx(path: Path, axes: int) -> Tensor:
    """Read a gzip-compressed idx file of unsigned bytes.

    Args:
        path: the file.
        axes: how many axes it must have, 1 for labels and 3 for images.

    Returns:
        uint8, with the shape that the file states.

    Raises:
        ValueError: if the file is not compressed as it should be, or not such an idx file, or too short or long.
    """
    try:
        return _parse_idx(gzip.decompress(path.read_bytes()), axes)
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not an intact idx file: {error}; replace it by the original.") from error


def _parse_idx(data: bytes, axes: int) -> Tensor:
    """As `read_idx`, from the uncompressed bytes.

    Raises:
        ValueError: if the magic number is another, or the number of bytes is not what the sizes say.
    """
    expected = bytes([0, 0, _UINT8, axes])
    if data[:4] != expected:
        raise ValueError(f"its magic number must be {expected.hex()}, but is {data[:4].hex()}")
    start = 4 + 4 * axes
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
    if len(data) != start + prod(shape):
        raise ValueError(f"its header says {start} + {' x '.join(map(str, shape))} bytes, but it has {len(data)}")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)[start:].clone().unflatten(0, shape)
