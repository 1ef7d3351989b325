"""Originals are found, verified and downloaded, whatever the network, the disk and other processes do."""

import errno
import gzip
import hashlib
import io
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import PIECE, Server, serving

from src.data.io import fetch
from src.data.io.fetch import ChecksumError, DownloadError, File, locate
from src.data.io.files import locked, replacing

Serve = Callable[..., Server]

NAME = "original.bin"
CONTENT = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(3 * PIECE // 32))
ROOT = Path(__file__).parents[1]
# Without src/data/__init__.py, which imports torch and takes seconds.
CHILD = """
import sys, types
package = types.ModuleType("src.data")
package.__path__ = ["src/data"]
sys.modules["src.data"] = package
from pathlib import Path
from src.data.io.fetch import File, locate
name, sum, size, url, folder = sys.argv[1:]
print(locate([File(name, sum, int(size), (url,))], [Path(folder)])[name])
"""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Servers of `NAME`, of its true content or of another."""
    with serving() as start:

        def started(content: bytes = CONTENT, **options: object) -> Server:
            folder = tmp_path / "served" / hashlib.sha256(content).hexdigest()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / NAME).write_bytes(content)
            return start(folder, **options)

        yield started


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def original(*servers: Server, kind: str = "sha256", size: int | None = len(CONTENT)) -> File:
    urls = tuple(server.url + NAME for server in servers)
    return File(NAME, f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}", size, urls)


def part_of(folder: Path) -> Path:
    return folder / f".{NAME}.part"


def fails(file: File, folder: Path, part: bytes | None = None) -> str:
    """The message with which the download fails, leaving nothing under the final name, and `part` of it."""
    with pytest.raises(DownloadError) as error:
        locate([file], [folder])
    left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    assert left <= {f".{NAME}.lock"} | ({f".{NAME}.part"} if part is not None else set())
    assert (part_of(folder).read_bytes() if part_of(folder).exists() else None) == part
    return str(error.value)


def succeeds(file: File, folder: Path) -> None:
    """The download ends with the whole file and no part of it."""
    assert locate([file], [folder]) == {NAME: folder / NAME}
    assert (folder / NAME).read_bytes() == CONTENT
    assert not part_of(folder).exists()


def child(file: File, folder: Path) -> subprocess.Popen[str]:
    arguments = [file.name, file.sum, str(file.size), *file.urls, str(folder)]
    command = [sys.executable, "-W", "error", "-c", CHILD, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_downloads_once(data: Path, serve: Serve, kind: str, size: int | None) -> None:
    server = serve()
    succeeds(original(server, kind=kind, size=size), data)
    succeeds(original(server, kind=kind, size=size), data)
    assert server.asked == [None]
    assert (data / NAME).stat().st_mode & 0o777 == (server.folder / NAME).stat().st_mode & 0o777


def test_says_one_line_where_there_is_no_terminal(data: Path, serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    server = serve()
    succeeds(original(server), data)
    output = capfd.readouterr()
    assert output.err == f"downloading {NAME} (196.6 kB) from {server.url}{NAME} to {data}\n"
    assert output.out == ""


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_shows_a_bar_on_a_terminal(data: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    succeeds(original(serve(cuts=[PIECE]), size=size), data)
    assert "65.5/196.6 kB" in terminal.getvalue()
    assert "196.6/196.6 kB" in terminal.getvalue()


def test_takes_the_first_folder_that_has_it(tmp_path: Path, data: Path, serve: Serve) -> None:
    server = serve()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / NAME).write_bytes(CONTENT)
    folders = [data, tmp_path / "second", tmp_path / "third"]
    assert locate([original(server)], folders) == {NAME: tmp_path / "second" / NAME}
    assert not server.asked
    assert not list(data.iterdir())
    assert not (tmp_path / "third").exists()


def test_mirrors_replace_the_addresses(data: Path, serve: Serve) -> None:
    server, mirror = serve(), serve()
    locate([original(server)], [data], mirrors=[mirror.url.rstrip("/")])
    assert (len(server.asked), len(mirror.asked)) == (0, 1)
    (data / NAME).unlink()
    with pytest.raises(DownloadError, match="no address was given") as error:
        locate([original(server)], [data], mirrors=[])
    assert f"({original().sum}) from {server.url}{NAME}" in str(error.value)
    assert (len(server.asked), len(mirror.asked)) == (0, 1)


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_wrong_content_is_refused(data: Path, serve: Serve, size: int | None) -> None:
    wrong = bytes(len(CONTENT))
    bad, good = serve(wrong), serve()
    message = fails(original(bad, size=size), data)
    assert original().sum in message
    assert hashlib.sha256(wrong).hexdigest() in message
    assert bad.asked == [None]
    succeeds(original(bad, good, size=size), data)
    assert good.asked == [None]


def test_truncated_file_is_refused(data: Path, serve: Serve) -> None:
    short, good = serve(CONTENT[:PIECE]), serve()
    message = fails(original(short), data)
    assert f"must have {len(CONTENT)} bytes, but there it has {PIECE}" in message
    assert "the sum must be" in fails(original(short, size=None), data)
    succeeds(original(short, good), data)


def test_refused_page_costs_no_part(data: Path, serve: Serve) -> None:
    """A page that says "log in" in place of the file must not replace what has arrived."""
    part_of(data).write_bytes(CONTENT[:PIECE])
    fails(original(serve(b"log in", ranges=False)), data, part=CONTENT[:PIECE])


def test_second_address_helps(data: Path, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    missing, good = serve(status=404), serve()
    succeeds(original(missing, good), data)
    assert capsys.readouterr().err.count("downloading") == 2
    assert (len(missing.asked), good.asked) == (1, [None])


def test_cut_connection_is_continued(data: Path, serve: Serve) -> None:
    server = serve(cuts=[70_000, 50_000])
    succeeds(original(server), data)
    assert server.asked == [None, "bytes=70000-", "bytes=120000-"]
    assert server.served == len(CONTENT)


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_cut_is_noticed_where_no_length_is_stated(data: Path, serve: Serve, size: int | None) -> None:
    server = serve(cuts=[70_000], sized=False)
    if size is None:  # then only the sum can tell, and nothing says that it would help to continue
        fails(original(server, size=None), data)
        assert server.asked == [None]
    else:
        succeeds(original(server), data)
        assert server.asked == [None, "bytes=70000-"]


def test_stalled_connection_is_continued(data: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.2)
    server = serve(pause=60)
    succeeds(original(server), data)
    assert server.asked == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"]


def test_gives_up_without_progress(data: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = serve(cuts=[100] + [0] * 100)
    fails(original(stuck), data, part=CONTENT[:100])
    assert len(stuck.asked) == 2
    crawling = serve(cuts=[1] * 100)
    message = fails(original(crawling), data, part=CONTENT[: 100 + fetch._REQUESTS])
    assert len(crawling.asked) == fetch._REQUESTS
    assert f"cut {fetch._REQUESTS} times" in message


def test_next_address_continues(data: Path, serve: Serve) -> None:
    first, second = serve(cuts=[70_000, 0]), serve()
    succeeds(original(first, second), data)
    assert second.asked == ["bytes=70000-"]
    assert first.served + second.served == len(CONTENT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_next_run_continues(data: Path, serve: Serve, number: signal.Signals) -> None:
    server = serve(pause=60)
    with child(original(server), data) as process:
        eventually(lambda: part_of(data).exists() and part_of(data).stat().st_size > 0)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (data / NAME).exists()
    length = part_of(data).stat().st_size
    server.pause, server.served = 0.0, 0
    succeeds(original(server), data)
    assert server.asked == [None, f"bytes={length}-"]
    assert server.served == len(CONTENT) - length


def test_server_without_ranges_starts_again(data: Path, serve: Serve) -> None:
    server = serve(cuts=[70_000], ranges=False)
    succeeds(original(server), data)
    assert server.asked == [None, "bytes=70000-"]
    assert server.served == 70_000 + len(CONTENT)


PARTS = {
    "wrong": (b"wrong", [f"bytes={len(b'wrong')}-", None]),
    "wrong and whole": (bytes(len(CONTENT)), [f"bytes={len(CONTENT)}-", None]),
    "too long": (CONTENT + b"more", [f"bytes={len(CONTENT) + 4}-", None]),
    "empty": (b"", [None]),
    "right and whole": (CONTENT, [f"bytes={len(CONTENT)}-"]),
}


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("part", PARTS)
def test_any_part_is_recovered(data: Path, serve: Serve, part: str, size: int | None) -> None:
    content, asked = PARTS[part]
    part_of(data).write_bytes(content)
    server = serve()
    succeeds(original(server, size=size), data)
    assert server.asked == asked


def test_starts_again_only_once(data: Path, serve: Serve) -> None:
    bad, good = serve(bytes(len(CONTENT)), cuts=[100, 70_000, 60_000, 50_000]), serve()
    succeeds(original(bad, good), data)
    assert [asked is None for asked in bad.asked].count(True) == 2
    assert good.asked == [None]


def test_answer_that_starts_elsewhere_is_refused(data: Path, serve: Serve) -> None:
    part_of(data).write_bytes(CONTENT[:1000])
    liar, good = serve(shift=-1000), serve()
    message = fails(original(liar), data, part=CONTENT[:1000])
    assert "must start at byte 1000, but its Content-Range is 'bytes 0-" in message
    succeeds(original(liar, good), data)
    assert good.asked == ["bytes=1000-"]


def test_redirects_keep_the_range(data: Path, serve: Serve) -> None:
    good = serve()
    part_of(data).write_bytes(CONTENT[:1000])
    succeeds(original(serve(redirect=good.url)), data)
    assert good.asked == ["bytes=1000-"]


def test_only_http(data: Path, serve: Serve) -> None:
    local = serve().folder.as_uri() + "/"
    assert "No connection adapters" in fails(original()._replace(urls=(local + NAME,)), data)
    assert "No connection adapters" in fails(original(serve(redirect=local)), data)


def test_encoding_is_left_alone(data: Path, serve: Serve) -> None:
    """Some servers call a .gz file its encoding; decoded, it would have another sum."""
    content = gzip.compress(CONTENT, mtime=0)
    file = File(NAME, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), ())
    server = serve(content, headers={"Content-Encoding": "gzip"})
    locate([file._replace(urls=(server.url + NAME,))], [data])
    assert (data / NAME).read_bytes() == content


def test_two_processes_download_once(data: Path, serve: Serve) -> None:
    server = serve(pause=0.8)
    with child(original(server), data) as one, child(original(server), data) as other:
        results = [process.communicate(timeout=60) for process in (one, other)]
    assert [out for out, _ in results] == [f"{data / NAME}\n"] * 2
    errors = "".join(err for _, err in results)
    assert errors.count("downloading") == 1
    assert errors.count(f"waiting for another process that prepares {data / NAME}") == 1
    assert server.asked == [None]
    assert (data / NAME).read_bytes() == CONTENT


def test_file_that_appears_while_waiting_is_verified(data: Path, serve: Serve) -> None:
    server = serve()
    errors: list[Exception] = []
    thread = threading.Thread(target=lambda: errors.append(wrong_sum(original(server), data)))
    with locked(data / NAME):
        thread.start()
        time.sleep(0.1)  # the thread has looked and waits; were it late, it would find the file at once
        (data / NAME).write_bytes(b"another")
    thread.join(timeout=10)
    assert str(data / NAME) in str(errors[0])
    assert not server.asked


def wrong_sum(file: File, folder: Path) -> Exception:
    with pytest.raises(ChecksumError) as error:
        locate([file], [folder])
    return error.value


def test_full_disk_ends_the_download(data: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BufferedWriter):
        def write(self, content: bytes) -> int:
            if self.tell() + len(content) > 2 * PIECE:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    unlimited = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(
            Path,
            "open",
            lambda self, mode="r", *rest: (
                Full(io.FileIO(self, mode)) if self.suffix == ".part" and mode != "rb" else unlimited(self, mode, *rest)
            ),
        )
        first, second = serve(), serve()
        message = fails(original(first, second), data, part=CONTENT[: 2 * PIECE])
    for text in (f"{data} is full", "needs 65.5 kB more", "Make room", "paths.data", "131.1 kB have arrived"):
        assert text in message
    assert not second.asked
    succeeds(original(first, second), data)
    assert first.asked == [None, f"bytes={2 * PIECE}-"]


def test_too_little_room_is_seen_before(data: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: usage(len(CONTENT) - 1))
    message = fails(original(server), data)
    for text in (f"{data} is full", "needs 196.6 kB more", "196.6 kB are free", "Make room", "paths.data"):
        assert text in message
    assert not server.asked
    part_of(data).write_bytes(CONTENT[:1])
    succeeds(original(server), data)


def test_goes_to_the_first_folder_that_can_be_written_to(tmp_path: Path, data: Path, serve: Serve) -> None:
    (tmp_path / "file").touch()
    server = serve()
    assert locate([original(server)], [tmp_path / "file" / "x", data]) == {NAME: data / NAME}


def test_nowhere_to_go(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "file").touch()
    server = serve()
    folders = [tmp_path / "file" / "x", tmp_path / "file"]
    with pytest.raises(DownloadError, match="no folder can be written to, neither") as error:
        locate([original(server)], folders)
    assert all(str(folder) in str(error.value) for folder in folders)
    assert not server.asked


def test_folder_without_locks_is_refused(data: Path, serve: Serve) -> None:
    (data / f".{NAME}.lock").mkdir()
    server = serve()
    with pytest.raises(DownloadError, match=rf"{NAME} could not be downloaded to {data}.*paths.cache"):
        locate([original(server)], [data])
    assert not server.asked


def test_another_file_is_an_error_and_stays(data: Path, serve: Serve) -> None:
    server = serve()
    (data / NAME).write_bytes(b"another")
    message = str(wrong_sum(original(server), data))
    for text in (str(data / NAME), original().sum, hashlib.sha256(b"another").hexdigest(), "move it away"):
        assert text in message
    assert (data / NAME).read_bytes() == b"another"
    assert not server.asked


def test_message_without_a_network(data: Path, serve: Serve) -> None:
    server = serve()
    there = original(server)
    absent = [there._replace(name=name, urls=(f"http://127.0.0.1:9/{name}", server.url + name)) for name in "ab"]
    with pytest.raises(DownloadError) as error:
        locate([there, *absent], [data])
    lines = str(error.value).splitlines()
    assert lines[0] == "these files are missing and could not be downloaded: a, b."
    assert lines[1] == "Tried:"
    assert lines[2].startswith("  http://127.0.0.1:9/a: ")
    assert "refused" in lines[2]
    assert lines[3].startswith(f"  {server.url}a: 404")
    assert lines[4] == f"Download them by hand into {data}; each must have the sum given here:"
    assert lines[5:7] == [f"  {x.name} ({x.sum}) from {x.urls[0]} or {x.urls[1]}" for x in absent]
    assert lines[7:] == ["dataset=digits needs no download."]
    assert (data / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_replacing_is_all_or_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "new" / "file"
    with pytest.raises(error):
        replace(target, b"half", error)
    assert not list(target.parent.iterdir())
    replace(target, b"whole")
    with pytest.raises(error):
        replace(target, b"half", error)
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def replace(target: Path, content: bytes, error: type[BaseException] | None = None) -> None:
    before = target.exists()
    with replacing(target) as file:
        file.write(content)
        assert target.exists() == before
        if error:
            raise error


def test_two_may_replace_at_once(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as other:
        one.write(b"first")
        other.write(b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_lock_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "x"):
        pass
