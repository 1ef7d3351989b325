"""A server of files on the loopback interface that can be told to behave badly."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PIECE = 2**16
"""Bytes sent at once."""


class Server(ThreadingHTTPServer):
    """Serves the files of a folder while its `with` block lasts; proxies are not asked meanwhile.

    Args:
        folder: what is served.
        cuts: after so many bytes the connection is cut: in the first answer, in the second, and so on; the answers that
            follow are whole.
        ranges: whether Range is honoured; otherwise every answer is the whole file.
        sized: whether answers state their length; otherwise they end where the connection does.
        status: answered to everything, 404 say.
        pause: seconds between two pieces.
        shift: added to the first byte in Content-Range, which is a lie.
        redirect: an address everything is redirected to.
        headers: added to answers.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cuts: Iterable[int] = (),
        ranges: bool = True,
        sized: bool = True,
        status: int | None = None,
        pause: float = 0.0,
        shift: int = 0,
        redirect: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.cuts, self.ranges, self.sized = folder, iter(cuts), ranges, sized
        self.status, self.pause, self.shift, self.redirect = status, pause, shift, redirect
        self.headers = headers or {}
        self.asked: list[str | None] = []
        """The Range header of every request."""
        self.served = 0
        """Bytes of content sent."""
        self.closing = threading.Event()
        self.environment = pytest.MonkeyPatch()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> Server:
        for name in ("NO_PROXY", "no_proxy"):
            self.environment.setenv(name, "127.0.0.1")
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        self.environment.undo()


@contextmanager
def serving() -> Iterator[Callable[..., Server]]:
    """Servers that last as long as this: a function with the arguments of `Server`."""
    with ExitStack() as stack:
        yield lambda folder, **options: stack.enter_context(Server(folder, **options))


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        path = self.server.folder / self.path.lstrip("/")
        if self.server.redirect:
            self._head(HTTPStatus.FOUND, Location=self.server.redirect + self.path.lstrip("/"))
        elif self.server.status or not path.is_file():
            self._head(self.server.status or HTTPStatus.NOT_FOUND)
        else:
            self._answer(path.read_bytes())

    def _answer(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "") if self.server.ranges else None
        start, size = int(wanted[1]) if wanted else 0, len(content)
        if wanted and start >= size:
            return self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, **{"Content-Range": f"bytes */{size}"})
        headers = {"Content-Length": str(size - start)} if self.server.sized else {}
        if wanted:
            headers["Content-Range"] = f"bytes {start + self.server.shift}-{size - 1}/{size}"
        self._head(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, **headers, **self.server.headers)
        end = min(size, start + next(self.server.cuts, size))
        for first in range(start, end, PIECE):
            if first > start and self.server.closing.wait(self.server.pause):
                return None
            piece = content[first : min(first + PIECE, end)]
            self.server.served += len(piece)  # before they arrive, so that who waits for them sees the count
            try:
                self.wfile.write(piece)
            except ConnectionError:  # the client has gone
                return None
        return None

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing to the terminal."""
