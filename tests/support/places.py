"""A name with several addresses, all on this machine and on one port, each with a server of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.daemon import free_ports
from support.scripted import Peer, Script, ScriptedServer


def says(text: bytes) -> Script:
    """Says this, and waits until the client is gone."""

    def script(peer: Peer) -> None:
        peer.say(text)
        peer.rest()

    return script


BAD_GREETINGS: dict[str, Script] = {
    "closes": lambda peer: None,
    "resets": Peer.reset,
    "421": says(b"421 4.3.2 busy\r\n"),
    "554": says(b"554 5.3.2 no service\r\n"),
    "450": says(b"450 later\r\n"),
    "half a greeting": lambda peer: peer.say(b"220-mail.example\r\n220 wel"),
    "nonsense": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "354": says(b"354 go\r\n"),
}
"""Servers that let nobody in: the next address may."""
HOSTS = ("127.0.0.1", "::1", "127.0.0.2", "127.0.0.3", "127.0.0.4")


@contextlib.contextmanager
def places(
    monkeypatch: pytest.MonkeyPatch,
    *scripts: Script,
    hosts: Sequence[str] = HOSTS,
    tls: ssl.SSLContext | None = None,
) -> Iterator[list[ScriptedServer]]:
    """Servers for these scripts; "mail.test" has their addresses in this order. The port is ``[0].port``."""
    used = hosts[: len(scripts)]
    with contextlib.ExitStack() as stack:
        servers = _made(list(zip(used, scripts, strict=True)), tls)
        for server in servers:
            stack.enter_context(server)
        resolve_to(monkeypatch, *used)
        yield servers


def _made(served: list[tuple[str, Script]], tls: ssl.SSLContext | None) -> list[ScriptedServer]:
    """Servers at one port; what is free at one address may be taken at another by whoever else runs here."""
    for _ in range(20):
        (port,) = free_ports(1)
        made: list[ScriptedServer] = []
        try:
            for host, script in served:
                made.append(ScriptedServer(script, place=(host, port), tls=tls))
            return made
        except OSError:
            for server in made:
                server.discard()
    raise AssertionError("no port is free at all addresses")


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> list[str]:
    """Let the system's resolver give "mail.test" these addresses; returns what it is asked for."""
    real, asked = socket.getaddrinfo, []

    def look_up(name: Any, port: Any, *args: Any, flags: int = 0, **options: Any) -> Any:
        if name != "mail.test":
            return real(name, port, *args, flags=flags, **options)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        asked.append(name)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked
