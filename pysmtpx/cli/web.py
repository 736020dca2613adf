"""The page on which a sink shows its mail: on loopback only, and for nobody but this machine's browser.

The standard library's server does: one user, a dozen routes that only read, nothing to keep up to date.
What is shown was written by strangers, so everything rests on three rules: text reaches the page as text (the
script has no innerHTML), HTML is shown in a sandboxed frame whose policy lets it run and load nothing, and a
request is answered only where its Host is ours (a name that a stranger points at 127.0.0.1 must not read the
mail).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Final, Self
from urllib.parse import parse_qs, quote, urlsplit

from .inbox import Inbox, Letter

_WAIT: Final = 20.0
"""Seconds that a question for news stays open."""
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LETTER_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
}


class Page:
    """The web server of one sink; a context manager."""

    def __init__(self, inbox: Inbox, port: int) -> None:
        self._inbox = inbox
        self._server = _Server(("127.0.0.1", port), _handler(inbox))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="pysmtpx web")

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.end_waits()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Ends every connection and thread of its own at its end."""

    daemon_threads = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections: a browser keeps some for later."""
        for request in self._open.copy():
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is nothing to tell."""


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    return type("_BoundHandler", (_Handler,), {"inbox": inbox})


class _Handler(BaseHTTPRequestHandler):
    inbox: Inbox
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60
    server_version = "pysmtpx"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is for the mail."""

    def do_GET(self) -> None:
        """Every route only reads, so no other site's form or link can change a thing."""
        if not self._is_ours():
            self._give(b"This page answers to its own name only.\n", "text/plain", HTTPStatus.FORBIDDEN)
            return
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if parts.path in _FILES:
            name, kind = _FILES[parts.path]
            self._give(files("pysmtpx.cli").joinpath("page", name).read_bytes(), kind)
        elif parts.path == "/api/messages":
            self._json(self._list(query.get("q", "")))
        elif parts.path == "/api/news":
            self._json({"taken": self._news(query.get("taken", ""))})
        else:
            self._letter([part for part in parts.path.split("/") if part])

    def _is_ours(self) -> bool:
        """Against DNS rebinding: a browser puts into Host the name that the stranger's page was loaded by."""
        port = self.server.server_address[1]
        host = self.headers.get("Host", "").lower()
        return host in {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    def _list(self, words: str) -> dict[str, Any]:
        taken = self.inbox.taken
        return {"taken": taken, "messages": [each.summary() for each in self.inbox.found(words)]}

    def _news(self, taken: str) -> int:
        known = int(taken) if taken.isascii() and taken.isdigit() and len(taken) < 12 else 0
        return self.inbox.wait_beyond(known, _WAIT)

    def _letter(self, path: list[str]) -> None:
        letter = self.inbox.letter(int(path[1])) if path[0] == "messages" and _is_number(path[1:2]) else None
        match path[2:], letter:
            case [], Letter():
                self._json(letter.details())
            case ["html"], Letter(html=str(html)):
                self._give(html.encode("utf-8", "replace"), "text/html; charset=utf-8", policy=_LETTER_POLICY)
            case ["raw"], Letter():
                self._give(letter.received.content, "text/plain; charset=utf-8", policy=_LETTER_POLICY)
            case ["eml"], Letter():
                self._file(letter.received.content, f"{letter.number}.eml")
            case ["files", index], Letter() if _is_number([index]) and int(index) < len(letter.attachments):
                self._file(letter.attachments[int(index)].content, letter.attachments[int(index)].name)
            case _:
                self._give(b"There is no such page.\n", "text/plain", HTTPStatus.NOT_FOUND)

    def _json(self, value: Any) -> None:
        self._give(json.dumps(value).encode(), "application/json")

    def _file(self, content: bytes, name: str) -> None:
        """To be saved, never to be shown: the kind that a stranger gave it counts for nothing."""
        encoded = quote(name.encode("utf-8", "replace"), safe="")
        disposition = f"attachment; filename*=UTF-8''{encoded}"
        self._give(content, "application/octet-stream", policy=_LETTER_POLICY, disposition=disposition)

    def _give(
        self,
        content: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        policy: str = _PAGE_POLICY,
        disposition: str = "",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        if disposition:
            self.send_header("Content-Disposition", disposition)
        for name, value in _ALWAYS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _is_number(parts: list[str]) -> bool:
    return bool(parts) and parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 12
