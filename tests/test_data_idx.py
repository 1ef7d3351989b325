"""The idx format: intact files are read, all others are refused with a reason."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data.io.idx import _parse_idx, read_idx


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_parse_idx() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert torch.equal(_parse_idx(idx(array), 3), torch.from_numpy(array))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx(np.zeros((2, 3), np.uint8)), "magic number must be 00000803, but is 00000802"),
        (b"\0\0\x0d\x03" + idx(np.zeros((1, 1, 1), np.uint8))[4:], "magic number"),
        (idx(np.zeros((2, 2, 2), np.uint8))[:-1], "says 16 [+] 2 x 2 x 2 bytes, but it has 23"),
        (idx(np.zeros((2, 2, 2), np.uint8)) + b"\0", "but it has 25"),
        (b"", "magic number"),
        (b"\0\0\x08\x03\0\0", "but it has 6"),
    ],
)
def test_read_idx_refuses(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.raises(ValueError, match=rf"(?s)file\.gz is not an intact idx file.*{message}"):
        read_idx(path, axes=3)


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"x" * 99, mtime=0)[:-9], b""])
def test_read_idx_refuses_what_is_not_compressed(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"file\.gz is not an intact idx file"):
        read_idx(path, axes=3)
