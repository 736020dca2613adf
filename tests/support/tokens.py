"""A token server of the tests' own, over real HTTPS: it gives tokens, refuses, is slow, down or hostile."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest

from . import certs

SECRET = "s3cr3t-of-the-client"
REFRESH_TOKEN = "r3fr3sh-me-please"


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    form: dict[str, str]
    headers: Mapping[str, str]

    @property
    def basic(self) -> tuple[str, str]:
        """Name and secret in the header."""
        name, _, secret = b64decode(self.headers["authorization"].split()[1]).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)


Answer = Callable[["TokenServer", Asked, BaseHTTPRequestHandler], None]


@dataclass
class TokenServer:
    """Gives ``token-1``, ``token-2`` and so on, unless ``answers`` has something else for what comes next."""

    lifetime: Any = 3600
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    """Held answers wait for it."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further members of the JSON."""
    mint: Callable[[int], str] = "token-{}".format
    """Makes a token from its number."""
    port: int = 0
    context: ssl.SSLContext = field(default_factory=certs.client_context, repr=False)
    """One that trusts it."""

    @property
    def base(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/token"

    @property
    def tokens_asked(self) -> int:
        return sum(each.method == "POST" for each in self.asked)

    def give(self, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        """A token."""
        self.given.append(self.mint(len(self.given) + 1))
        told = {"access_token": self.given[-1], "token_type": "Bearer", "expires_in": self.lifetime}
        reply(handler, 200, {**told, **self.more})

    def discovery(self, path: str) -> dict[str, str]:
        """What is public of a tenant."""
        tenant = path.split("/")[1]
        return {
            "issuer": f"{self.base}/{tenant}/v2.0",
            "authorization_endpoint": f"{self.base}/{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{self.base}/{tenant}/oauth2/v2.0/token",
        }


def reply(handler: BaseHTTPRequestHandler, status: int, told: Any, **headers: str) -> None:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def says(status: int, told: Any, **headers: str) -> Answer:
    """This answer."""
    return lambda server, asked, handler: reply(handler, status, told, **headers)


def held(server: TokenServer, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """A token, once the gate is open."""
    assert server.gate.wait(60)
    server.give(asked, handler)


def hangs_up(server: TokenServer, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """No answer at all."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def drips(server: TokenServer, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """An answer without end, some octets at a time."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while not server.gate.wait(0.05):
            handler.wfile.write(b" ")
    except OSError:
        handler.close_connection = True


class _Handler(BaseHTTPRequestHandler):
    tokens: TokenServer

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        form = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, form, headers)
        self.tokens.asked.append(asked)
        try:
            if self.tokens.answers:
                self.tokens.answers.pop(0)(self.tokens, asked, self)
            elif self.command == "GET":
                reply(self, 200, self.tokens.discovery(self.path))
            else:
                self.tokens.give(asked, self)
        except OSError:
            self.close_connection = True  # whoever asked is gone

    do_GET = do_POST = _serve

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[_Handler], context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake belongs to the thread of the connection.
        try:
            wrapped = self._context.wrap_socket(request, server_side=True)
        except OSError:
            return
        with wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone."""


def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no proxy of this machine's environment stand in the way."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def token_server(context: ssl.SSLContext | None = None, **options: Any) -> Iterator[TokenServer]:
    """A running one."""
    tokens = TokenServer(**options)
    handler = type("Handler", (_Handler,), {"tokens": tokens})
    server = _Server(handler, context or certs.server_context())
    tokens.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        tokens.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
