"""Members of archives, read in memory: nothing is unpacked to disk, so nothing can be written where it should not."""

from __future__ import annotations

import gzip
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from src.data.io.files import replacing

_LIMIT = 2**30  # bytes that a member may have at most, as it is held in memory
# RuntimeError is that of encrypted and otherwise unreadable members, OSError that of places outside the file.
DAMAGE = (EOFError, OSError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


class _Member(NamedTuple):
    name: str
    size: int
    regular: bool
    read: Callable[[], bytes]


def members(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read members of a .tar.gz, .tgz, .tar or .zip in one pass.

    A tar is read up to the last wanted member: what follows is neither looked at nor verified, nor is the sum at the
    end of a .gz, so pass an archive that `locate` has verified.

    Args:
        path: the archive.
        names: the members, without a leading "./".

    Returns:
        The content of every member by name, in the order of `names`.

    Raises:
        ValueError: if the archive is damaged or of another kind; if a member that is passed has a name that leads
            elsewhere; if a wanted one is missing, there twice, not a regular file, or larger than `_LIMIT`.
        OSError: if the archive cannot be opened.
    """
    found: dict[str, bytes] = {}
    with path.open("rb") as file:
        try:
            for member in _walk(path.name, file):
                _check_name(member.name)
                name = PurePosixPath(member.name).as_posix()
                if name in names:
                    _check_wanted(member, name in found)
                    found[name] = member.read()
                # The directory of a zip costs nothing to read to its end, the rest of a tar does.
                if len(found) == len(names) and path.suffix != ".zip":
                    break
            if lacking := [name for name in names if name not in found]:
                raise ValueError(f"it has no member {', '.join(lacking)}")
        except (ValueError, *DAMAGE) as error:
            raise ValueError(f"{path} cannot be used: {error}; replace it by the original.") from error
    return {name: found[name] for name in names}


def gunzip(source: Path, target: Path) -> Path:
    """Decompress a .gz, unless `target` is there already.

    Returns:
        `target`.

    Raises:
        ValueError: if `source` is damaged; there is no target then.
        OSError: if `source` is not there, or `target` cannot be written.
    """
    if not target.exists():
        try:
            with gzip.open(source) as compressed, replacing(target) as file:
                shutil.copyfileobj(compressed, file, 2**20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{source} cannot be decompressed: {error}; replace it by the original.") from error
    return target


def _walk(name: str, file: BinaryIO) -> Iterator[_Member]:
    if name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
                regular = kind in (0, stat.S_IFREG) and not info.orig_filename.endswith("/")
                yield _Member(info.orig_filename, info.file_size, regular, partial(archive.read, info))
    elif name.endswith((".tar.gz", ".tgz", ".tar")):
        # Not mode "r|gz": its reader answers some truncated headers with a TypeError.
        raw = file if name.endswith(".tar") else gzip.GzipFile(fileobj=file)
        with raw, tarfile.open(fileobj=raw, mode="r|") as archive:
            for info in archive:
                yield _Member(info.name, info.size, info.isreg(), lambda info=info: archive.extractfile(info).read())
    else:
        raise ValueError("its name must end in .tar.gz, .tgz, .tar or .zip")


def _check_name(name: str) -> None:
    """Refuse names that would lead elsewhere if they were unpacked: no original has them.

    Raises:
        ValueError: if the name is absolute, has a drive letter or a backslash, or goes up.
    """
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        raise ValueError(f"its member {name!r} must have a relative name without .., drive and backslash")


def _check_wanted(member: _Member, twice: bool) -> None:
    if twice:
        raise ValueError(f"its member {member.name!r} must be there once, but is there twice")
    if not member.regular:
        raise ValueError(f"its member {member.name!r} must be a regular file, but is a link, a device or a folder")
    if member.size > _LIMIT:
        raise ValueError(f"its member {member.name!r} must have at most {_LIMIT} bytes, but states {member.size}")
