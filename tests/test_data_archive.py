"""Members of archives: those that are asked for and no others; hostile and damaged archives are refused."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pytest

from src.data.io import archive
from src.data.io.archive import gunzip, members

CONTENT = {"set/a.bin": b"a" * 1000, "set/b.bin": bytes(range(256)) * 40, "set/c.bin": b""}
KINDS = ("data.tar.gz", "data.tgz", "data.tar", "data.zip")
KIND = pytest.mark.parametrize("kind", KINDS)
LINKS = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE,
}


def pack(path: Path, content: Mapping[str, bytes] | Sequence[tuple[str, bytes]] = CONTENT) -> Path:
    """An archive of regular files, in this order; names may be hostile and may be there twice."""
    items = content.items() if isinstance(content, Mapping) else content
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in items:
                file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as file:
            for name, data in items:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return path


def pack_special(path: Path, name: str, kind: bytes) -> Path:
    """An archive whose member `name` is no regular file."""
    if path.suffix == ".zip":
        modes = {tarfile.SYMTYPE: stat.S_IFLNK, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.FIFOTYPE: stat.S_IFIFO}
        info = zipfile.ZipInfo(name)
        info.external_attr = (modes[kind] | 0o777) << 16
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(info, "/etc/passwd")
    else:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as file:
            file.addfile(info)
    return path


def refused(path: Path, names: Sequence[str], *texts: str) -> None:
    """Reading ends in an error that names the archive and the texts, and writes nothing."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ValueError, match="replace it by the original") as error:
        members(path, names)
    for text in (str(path), *texts):
        assert text in str(error.value)
    assert sorted(path.parent.rglob("*")) == before


@KIND
@pytest.mark.parametrize("names", [[*CONTENT], ["set/b.bin"], ["set/c.bin", "set/a.bin"], []])
def test_reads_what_is_asked_for(tmp_path: Path, kind: str, names: list[str]) -> None:
    found = members(pack(tmp_path / kind), names)
    assert list(found.items()) == [(name, CONTENT[name]) for name in names]
    assert list(tmp_path.iterdir()) == [tmp_path / kind]


@KIND
def test_leading_dot_is_no_part_of_a_name(tmp_path: Path, kind: str) -> None:
    assert members(pack(tmp_path / kind, {"./set/a": b"a"}), ["set/a"]) == {"set/a": b"a"}


def test_tar_is_read_no_further_than_needed(tmp_path: Path) -> None:
    path = pack(tmp_path / "data.tar.gz", CONTENT | {"set/noise": bytes(10**6)})
    path.write_bytes(path.read_bytes()[:-100])
    assert members(path, [*CONTENT]) == CONTENT
    refused(path, ["set/noise"])


@KIND
@pytest.mark.parametrize("name", ["/etc/x", "../x", "set/../../x", "..", "C:/x", "c:x", "set\\x", "..\\x"])
@pytest.mark.parametrize("wanted", [True, False])
def test_names_that_lead_elsewhere(tmp_path: Path, kind: str, name: str, wanted: bool) -> None:
    path = pack(tmp_path / kind, {name: b"hostile"} | CONTENT)
    refused(path, [name] if wanted else ["set/a.bin"], repr(name), "must have a relative name")


@pytest.mark.parametrize("name", ["a..b", "..a", "set/a:b", "ü"])
@KIND
def test_harmless_names(tmp_path: Path, kind: str, name: str) -> None:
    assert members(pack(tmp_path / kind, {name: b"good"}), [name]) == {name: b"good"}


@pytest.mark.parametrize(("kind", "special"), [x for x in product(KINDS, LINKS) if x != ("data.zip", "hard link")])
def test_links_and_devices(tmp_path: Path, kind: str, special: str) -> None:
    path = pack_special(tmp_path / kind, "set/a.bin", LINKS[special])
    refused(path, ["set/a.bin"], "'set/a.bin'", "must be a regular file")


@KIND
def test_folder_in_place_of_a_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "data.zip":
        pack(path, {"set/": b""})
    else:
        pack_special(path, "set", tarfile.DIRTYPE)
    refused(path, ["set"], "must be a regular file")


@KIND
def test_missing_member(tmp_path: Path, kind: str) -> None:
    refused(pack(tmp_path / kind), ["set/a.bin", "set/d.bin", "a.bin"], "has no member set/d.bin, a.bin")


@KIND
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, [("set/a", b"a"), ("./set/a", b"other"), ("set/b", b"b")])
    refused(path, ["set/a", "set/b"], "'./set/a'", "is there twice")


def test_zip_is_looked_at_to_its_end(tmp_path: Path) -> None:
    path = pack(tmp_path / "data.zip", CONTENT | {"../x": b"hostile"})
    refused(path, ["set/a.bin"], "'../x'")


@KIND
def test_member_that_is_too_large(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LIMIT", 1000)
    path = pack(tmp_path / kind)
    assert members(path, ["set/a.bin"])
    refused(path, ["set/b.bin"], "'set/b.bin'", "at most 1000 bytes, but states 10240")


@KIND
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_truncated_archive(tmp_path: Path, kind: str, share: float) -> None:
    path = pack(tmp_path / kind, {"set/a": bytes(range(256)) * 50})
    content = path.read_bytes()
    content = content[: content.rindex(b"\xff") + 1] if kind == "data.tar" else content  # without its empty end
    path.write_bytes(content[: int(share * len(content))])
    refused(path, ["set/a"])


def test_wrong_sum_in_a_zip(tmp_path: Path) -> None:
    """A member of bytes that cannot be compressed, so that no flipped bit of it breaks the format."""
    path = pack(tmp_path / "data.zip", CONTENT | {"set/noise": noise(5000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(path, ["set/noise"], "CRC")


@KIND
def test_any_damage_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    """Whatever byte is another, there is a ValueError or an answer, and no other error."""
    path = pack(tmp_path / kind, {"set/a": b"a" * 100, "set/b": noise(50)})
    content = path.read_bytes()
    messages = []
    for at in range(0, len(content), max(1, len(content) // 400)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            members(path, ["set/a", "set/b"])
        except ValueError as error:
            messages.append(str(error))
    assert messages
    assert all(str(path) in message for message in messages)


@KIND
def test_not_an_archive(tmp_path: Path, kind: str) -> None:
    (tmp_path / kind).write_text("<html>log in</html>" * 100)
    refused(tmp_path / kind, ["set/a"])


def test_encrypted_member(tmp_path: Path) -> None:
    path = pack(tmp_path / "data.zip", {"set/a": b"a"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    refused(path, ["set/a"], "encrypted")


def test_other_endings(tmp_path: Path) -> None:
    (tmp_path / "data.rar").touch()
    refused(tmp_path / "data.rar", ["set/a"], "must end in .tar.gz, .tgz, .tar or .zip")


@KIND
def test_archive_that_is_not_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FileNotFoundError, match=kind):
        members(tmp_path / kind, ["set/a"])


def test_gunzip(tmp_path: Path) -> None:
    source, target = tmp_path / "data.gz", tmp_path / "new" / "data"
    source.write_bytes(gzip.compress(CONTENT["set/b.bin"]))
    assert gunzip(source, target) == target
    assert target.read_bytes() == CONTENT["set/b.bin"]
    source.unlink()
    assert gunzip(source, target) == target
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "another", "sum"])
def test_gunzip_of_damaged_files(tmp_path: Path, damage: str) -> None:
    whole = gzip.compress(noise(5000))
    flipped, other_sum = bytearray(whole), bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    other_sum[-8] ^= 1
    source, target = tmp_path / "data.gz", tmp_path / "new" / "data"
    source.write_bytes({"truncated": whole[:-9], "flipped": flipped, "another": b"no gz", "sum": other_sum}[damage])
    with pytest.raises(ValueError, match="replace it by the original") as error:
        gunzip(source, target)
    assert str(source) in str(error.value)
    assert not target.parent.exists() or not list(target.parent.iterdir())


def test_gunzip_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gunzip(tmp_path / "data.gz", tmp_path / "data")


def noise(count: int) -> bytes:
    """Bytes that no compressor makes fewer."""
    state, result = 1, bytearray()
    for _ in range(count):
        state = state * 6364136223846793005 + 1442695040888963407 & 2**64 - 1
        result.append(state >> 56)
    return bytes(result)
