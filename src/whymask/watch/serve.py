"""`whymask watch`: a page that renews itself, for this machine alone, and for who knows its address."""

import hmac
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from whymask.errors import WhymaskError
from whymask.watch.page import REPORT, part_now, whole_page

HOST = "127.0.0.1"
HTML = "text/html; charset=utf-8"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Watcher(ThreadingHTTPServer):
    """Answers three addresses below a random token, and no other: the page, the part of it that changes, and a
    finished study's own page. No name of a file is taken from who asks."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.token, self.drawing = folder, secrets.token_urlsafe(16), Lock()
        super().__init__((HOST, port), Asked)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # who asked has gone
            super().handle_error(request, client_address)

    def answer(self, path: str) -> bytes | None:
        """None for what is no address here."""
        _, token, *rest = path.split("/") if path.count("/") >= 2 else ("", "", "")
        if not hmac.compare_digest(token.encode(), self.token.encode()) or len(rest) != 1:
            return None
        with self.drawing:  # figures are drawn one at a time
            if rest == [""]:
                return whole_page(self.folder)
            if rest == ["now"]:
                return part_now(self.folder).encode("utf-8", "replace")
        if rest == [REPORT] and (report := self.folder / REPORT).is_file():
            return report.read_bytes()
        return None


class Asked(BaseHTTPRequestHandler):
    server: Watcher
    server_version, sys_version = "whymask", ""
    timeout = 30

    def do_GET(self) -> None:
        found = self.server.answer(self.path.partition("?")[0])
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        for name, value in (HEADERS | {"Content-Type": HTML, "Content-Length": str(len(found))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the address has the token."""


@contextmanager
def watching(folder: Path, port: int = 0) -> Iterator[Watcher]:
    """A watcher of `folder`, which need not be there yet, at a `port` of this machine, 0 for any that is free.

    Raises WhymaskError for a file, and for a port that cannot be had."""
    if folder.is_file():
        raise WhymaskError(f"{folder} is a file; the folder of a run or a study was expected, there or to come")
    try:
        watcher = Watcher(folder, port)
    except (OSError, OverflowError) as error:
        raise WhymaskError(f"--port {port}: {error}; give another one, or leave it out for any that is free") from error
    with watcher:
        yield watcher
