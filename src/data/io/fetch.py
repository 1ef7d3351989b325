"""Original files: found, verified, or downloaded; never overwritten and never deleted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from typing import NamedTuple

import requests
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.exceptions import HTTPError, IncompleteRead

from src.data.io.files import locked

_TIMEOUT = 30  # seconds to connect, and between two arrivals
_REQUESTS = 20  # at most so many for one file from one address, each continuing the last
_CHUNK = 2**16  # bytes read at once; a connection that is cut loses fewer than that
_ELSEWHERE = "name another folder with paths.data=... or paths.cache=..."


class ChecksumError(ValueError):
    """A file is there, but it is not the original."""


class DownloadError(RuntimeError):
    """Files are missing and could not be downloaded."""


class File(NamedTuple):
    """An original file, and where it is published."""

    name: str
    sum: str
    """sha256:<hex> or md5:<hex>."""
    size: int | None
    """Bytes; an address that offers another number is refused."""
    urls: tuple[str, ...]
    """Full addresses, tried in this order."""

    @classmethod
    def below(cls, folders: Sequence[str], name: str, checksum: str, size: int | None) -> File:
        """One that is published under its name, below these addresses."""
        return cls(name, checksum, size, tuple(f"{folder.rstrip('/')}/{name}" for folder in folders))


def locate(files: Sequence[File], folders: Sequence[Path], mirrors: Sequence[str] | None = None) -> dict[str, Path]:
    """Find every file in the first folder that has it, verified; download those that no folder has.

    Processes that miss the same file at once wait for the one that downloads it. What an interrupted download leaves,
    `.<name>.part`, is continued by the next, from whichever address.

    Args:
        files: names, sums and addresses.
        folders: where to look, in this order; downloads go to the first of them that can be written to.
        mirrors: addresses that a file's name is appended to, instead of those of `files`.

    Returns:
        The path of every file, by name.

    Raises:
        ChecksumError: if a file that is there has another sum.
        DownloadError: if files are missing and could not be downloaded.
    """
    found = {file.name: path for file in files if (path := _find(file, folders))}
    missing = [file for file in files if file.name not in found]
    target = next(filter(_writable, folders), None) if missing else None
    if missing and target is None:
        nowhere = f"no folder can be written to, neither {' nor '.join(map(str, folders))}"
        raise DownloadError(_explain(missing, folders[0], [nowhere]))
    for done, file in enumerate(missing):
        wanted = file if mirrors is None else File.below(mirrors, *file[:3])
        if failures := _download(wanted, target):
            raise DownloadError(_explain(missing[done:], target, failures))
        found[file.name] = target / file.name
    return found


def _find(file: File, folders: Sequence[Path]) -> Path | None:
    path = next((folder / file.name for folder in folders if (folder / file.name).exists()), None)
    if path and (actual := _sum(path, file)) != file.sum:
        raise ChecksumError(
            f"{path} must have the sum {file.sum}, but has {actual}: it is damaged or another file. It was left as it "
            "is; move it away to have it downloaded again, or put the original in its place."
        )
    return path


def _sum(path: Path, file: File) -> str:
    """The sum of what is at `path`, of the kind that `file` states."""
    kind = file.sum.partition(":")[0]
    with path.open("rb") as opened:  # md5 is no security here, and some systems allow it on no other terms
        return f"{kind}:{hashlib.file_digest(opened, partial(hashlib.new, kind, usedforsecurity=False)).hexdigest()}"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _download(file: File, folder: Path) -> list[str]:
    """What went wrong, address by address; nothing if the file is there.

    Raises:
        ChecksumError: if another process put a file there that has another sum.
        DownloadError: if the folder cannot take the file; then no other address would help.
    """
    part, failures = folder / f".{file.name}.part", []
    try:
        with locked(folder / file.name):
            if _find(file, [folder]):  # another process has downloaded it meanwhile
                return []
            if file.size is not None and shutil.disk_usage(folder).free < file.size - _length(part):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            for url in file.urls:
                try:
                    _retrieve(file, url, part)
                    return []
                except (requests.RequestException, HTTPError, ValueError) as error:
                    failures.append(f"{url}: {' '.join(str(error).split())}")
    except OSError as error:  # those of the network are caught above
        raise DownloadError(_refused(file, part, error)) from error
    return failures or ["no address was given"]


def _retrieve(file: File, url: str, part: Path) -> None:
    """Download from one address, verify, and rename.

    Raises:
        requests.RequestException, urllib3.exceptions.HTTPError: if the address does not give the whole file.
        ValueError: if it gives another.
        OSError: if it cannot be written.
    """
    size = "" if file.size is None else f" ({decimal(file.size)})"
    print(f"downloading {file.name}{size} from {url} to {part.parent}", file=sys.stderr, flush=True)
    for last in (False, True):
        continued = _receive(file, url, part)
        if (actual := _sum(part, file)) == file.sum:
            os.replace(part, part.with_name(file.name))
            return
        part.unlink()  # if it was continued, what was there before may be to blame: once more, from zero
        if last or not continued:
            raise ChecksumError(f"the sum must be {file.sum}, but is {actual}")


def _receive(file: File, url: str, part: Path) -> bool:
    """Fill `part`, continuing at once where the connection is cut; whether the last request continued anything."""
    for _ in range(_REQUESTS):
        before = _length(part)
        try:
            return _request(file, url, part)
        except HTTPError:
            if _length(part) <= before:
                raise
    raise ValueError(f"the connection was cut {_REQUESTS} times, at last after {_length(part)} bytes")


def _request(file: File, url: str, part: Path) -> bool:
    """Append to `part` what one request gives; whether it was begun before."""
    begun = _length(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if begun and response.status_code == requests.codes.requested_range_not_satisfiable:
            return True  # nothing follows: `part` is complete, or too long; its sum tells
        response.raise_for_status()
        start, total = _extent(response, begun)
        if None not in (file.size, total) and file.size != total:
            raise ValueError(f"the file must have {file.size} bytes, but there it has {total}")
        total = file.size if total is None else total
        # A bar on a terminal, nothing elsewhere.
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty())
        with part.open("ab" if start else "wb") as out, bars:
            bar = bars.add_task(file.name, total=total, completed=start)
            # Not decoded: a server may call the .gz of a file its encoding, but the sum is that of the .gz.
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                out.write(chunk)
                bars.advance(bar, len(chunk))
            out.flush()
            os.fsync(out.fileno())
    if total is not None and _length(part) < total:  # an answer may also end early without an error
        raise IncompleteRead(_length(part), total - _length(part))
    return start > 0


def _extent(response: requests.Response, begun: int) -> tuple[int, int | None]:
    """Where the answer starts in the file, `begun` or 0, and how long the file is, if stated."""
    if response.status_code != requests.codes.partial_content:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    stated = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated)
    if not match or int(match[1]) != begun:
        raise ValueError(f"the answer must start at byte {begun}, but its Content-Range is {stated!r}")
    return begun, None if match[2] == "*" else int(match[2])


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refused(file: File, part: Path, error: OSError) -> str:
    """Why a folder cannot take `file`, and what to do."""
    if error.errno not in (ENOSPC, EDQUOT):
        return f"{file.name} could not be downloaded to {part.parent}: {error}. Mend that, or {_ELSEWHERE}."
    needed = "more" if file.size is None else f"{decimal(file.size - _length(part))} more"
    return (
        f"{part.parent} is full: {file.name} needs {needed}, but {decimal(shutil.disk_usage(part.parent).free)} are "
        f"free there. Make room, or {_ELSEWHERE}. {decimal(_length(part))} have arrived and are kept in {part}."
    )


def _explain(missing: Sequence[File], folder: Path, failures: Sequence[str]) -> str:
    lines = (
        f"these files are missing and could not be downloaded: {', '.join(file.name for file in missing)}.",
        "Tried:",
        *(f"  {failure}" for failure in failures),
        f"Download them by hand into {folder}; each must have the sum given here:",
        *(f"  {file.name} ({file.sum}) from {' or '.join(file.urls) or 'its publisher'}" for file in missing),
        "dataset=digits needs no download.",
    )
    return "\n".join(lines)
