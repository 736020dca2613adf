"""The Python of the README and the pages in docs/, and the world in which it is run.

A page is run as somebody reads it: from top to bottom, in one namespace, in a folder of its own. Its hosts
are those of the real world. Here each of them resolves to an embedded server, by the port: TLS, the names in
certificates and the passwords are real.
"""

from __future__ import annotations

import contextlib
import re
import socket
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pysmtpx.testing import MailServer

from .certs import authority, server_context

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.S | re.M)

HOSTS = (
    "mail.example.org",
    "mail.corp.example",
    "smtp.gmail.com",
    "smtp.office365.com",
    "email-smtp.eu-west-1.amazonaws.com",
    "smtp.sendgrid.net",
    "smtp.mailgun.org",
    "smtp.postmarkapp.com",
)
"""The hosts of the pages. A server for all of them answers at 465 (TLS first), 587 (STARTTLS) and 25."""

USERS = {
    "user": "password",
    "robot": "password",
    "AKIAEXAMPLE": "password",
    "apikey": "password",
    "postmaster@mg.example.org": "password",
    "server-token": "server-token",
}
TOKENS = {"robot@example.org": "token-1", "robot@gmail.com": "token-1"}
REFUSED = {
    "bob@example.com": "550 5.1.1 unknown",
    "gone@example.com": "550 5.1.1 no such user",
    "full@example.com": "452 4.2.2 mailbox full",
}


@dataclass(frozen=True)
class Snippet:
    """A piece of Python, and the output that the page shows right behind it."""

    line: int
    source: str
    printed: str | None

    @property
    def is_test(self) -> bool:
        """Whether it is a file of a project with tests, named in its first line."""
        return re.match(r"# \w+\.py\n", self.source) is not None


def snippets_of(text: str) -> list[Snippet]:
    """The Python of a page, in order. A ``text`` block that follows is what it prints."""
    fences = list(_FENCE.finditer(text))
    found = []
    for index, fence in enumerate(fences):
        if fence[2] != "python":
            continue
        after = fences[index + 1] if index + 1 < len(fences) else None
        follows = after is not None and after[2] == "text" and not text[fence.end() : after.start()].strip()
        printed = textwrap.dedent(after[3]) if after is not None and follows else None
        found.append(Snippet(text.count("\n", 0, fence.start()) + 2, textwrap.dedent(fence[3]), printed))
    return found


def sources_of(page: Path) -> list[str]:
    """The Python of a page, without its output."""
    return [each.source for each in snippets_of(page.read_text("utf-8"))]


def run(snippet: Snippet, page: str, names: dict[str, Any], folder: Path) -> None:
    """Run one in the namespace of its page; an error names the line of the page."""
    # The path of a socket is the one address that no resolver can move.
    source = snippet.source.replace("/run/dovecot/lmtp", str(folder / "lmtp"))
    exec(compile("\n" * (snippet.line - 1) + source, page, "exec"), names)


@dataclass(frozen=True)
class World:
    """The embedded servers, by what they are."""

    implicit: MailServer
    starttls: MailServer
    clear: MailServer
    lmtp: MailServer
    unix: MailServer

    @property
    def count(self) -> int:
        """Messages that arrived anywhere."""
        return sum(len(server.messages) for server in vars(self).values())


@contextlib.contextmanager
def world(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[World]:
    """Put the servers where the pages look for them, and go to a folder with the files that they read."""
    monkeypatch.chdir(folder)
    authority().cert_pem.write_to_path(folder / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
    common: dict[str, Any] = {"refuse": REFUSED, "users": USERS, "tokens": TOKENS}
    full = {("FINAL", "full@example.com"): "452 4.2.2 mailbox full"}
    with (
        MailServer(ssl_context=server_context(*HOSTS), tls="implicit", **common) as implicit,
        MailServer(ssl_context=server_context(*HOSTS), **common) as starttls,
        MailServer(**common) as clear,
        MailServer(protocol="lmtp", replies=full) as lmtp,
        MailServer(protocol="lmtp", replies=full, path=folder / "lmtp") as unix,
    ):
        ports = {465: implicit.port, 587: starttls.port, 25: clear.port, 24: lmtp.port}
        monkeypatch.setattr(socket, "getaddrinfo", _nearby(socket.getaddrinfo, ports))
        yield World(implicit, starttls, clear, lmtp, unix)


def _nearby(real: Callable[..., Any], ports: dict[int, int]) -> Callable[..., Any]:
    """A resolver to which each host of the pages is this machine, and each port that of a server in it."""

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in HOSTS or host == "localhost":
            return real("127.0.0.1", ports.get(port, port), *args, **kwargs)
        return real(host, port, *args, **kwargs)

    return look_up
