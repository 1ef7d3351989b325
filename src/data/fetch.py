"""Original files: found, verified, or downloaded; never overwritten and never deleted."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pooch


class ChecksumError(ValueError):
    """A file is there, but it is not the original."""


class DownloadError(RuntimeError):
    """Files are missing and no mirror gave them."""


def locate(sums: Mapping[str, str], folders: Sequence[Path], mirrors: Iterable[str]) -> dict[str, Path]:
    """Find every file in the first folder that has it, verified; download those that no folder has.

    Args:
        sums: sha256 of every file, by name.
        folders: where to look, in this order; downloads go to the first of them that can be written to.
        mirrors: addresses that a file's name is appended to, tried in this order.

    Returns:
        The path of every file, by name.

    Raises:
        ChecksumError: if a file that is there has another checksum.
        DownloadError: if files are missing and could not be downloaded.
    """
    found = {name: path for name in sums if (path := _find(name, folders))}
    for name, path in found.items():
        _verify(path, sums[name])
    missing = [name for name in sums if name not in found]
    return found | (_download(missing, sums, folders, list(mirrors)) if missing else {})


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def _verify(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ChecksumError(
            f"{path} must have the sha256 {expected}, but has {actual}: it is damaged or another file. It was left as "
            "it is; move it away to have it downloaded again, or put the original in its place."
        )


def _download(
    missing: Sequence[str], sums: Mapping[str, str], folders: Sequence[Path], mirrors: Sequence[str]
) -> dict[str, Path]:
    folder = next(filter(_writable, folders), None)
    if folder is None:
        nowhere = f"no folder can be written to, neither {' nor '.join(map(str, folders))}"
        raise DownloadError(_explain(missing, folders, mirrors, [nowhere]))
    failures: list[str] = []
    paths = {name: _retrieve(name, sums[name], folder, mirrors, failures) for name in missing}
    got = {name: path for name, path in paths.items() if path}
    if len(got) < len(missing):
        raise DownloadError(_explain([name for name in missing if name not in got], folders, mirrors, failures))
    return got


def _retrieve(name: str, sha256: str, folder: Path, mirrors: Iterable[str], failures: list[str]) -> Path | None:
    """The file from the first mirror that has it; what went wrong with the others is added to `failures`."""
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        downloader = pooch.HTTPDownloader(timeout=30)
        try:
            return Path(pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=downloader))
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {str(error).splitlines()[0]}")
    return None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _explain(missing: Iterable[str], folders: Sequence[Path], mirrors: Iterable[str], failures: Iterable[str]) -> str:
    return (
        f"these files are missing and could not be downloaded: {', '.join(missing)}.\n"
        f"Tried: {'; '.join(failures) or 'no mirror was given'}.\n"
        f"Download them by hand from {' or '.join(mirrors) or 'their publisher'} and put them into {folders[0]}. "
        "dataset=digits needs no download."
    )
