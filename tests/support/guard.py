"""Keeps the suite on this machine: nothing but loopback and UNIX sockets, no look-up of another's name."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest

violations: list[str] = []
"""What was tried since the last test; `tests/conftest.py` fails the test that did it."""

_LOCAL_NAMES = {"", "localhost", "ip6-localhost", "localhost.localdomain"}


def is_loopback(host: object) -> bool:
    """True for a loopback address, "localhost" and no host at all."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    if text.lower() in _LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or text in ("0.0.0.0", "::")


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return True


def _refuse(what: str) -> None:
    violations.append(what)
    pytest.fail(f"a test must stay on this machine: {what}")


def _guard_address(name: str) -> None:
    """Wrap a method of `socket.socket` whose last positional argument is an address."""
    real = getattr(socket.socket, name)

    def guarded(self: socket.socket, *args: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(args[-1][0]):
            _refuse(f"{name}({args[-1]!r})")
        return real(self, *args)

    setattr(socket.socket, name, guarded)


def _guard_name(name: str, answer: Callable[[str], Any] | None = None) -> None:
    """Wrap a resolver function whose first argument is a host name."""
    real = getattr(socket, name)

    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        if is_loopback(host) or _is_address(host):
            return real(host, *args, **kwargs)
        if host == socket.gethostname():
            # The machine's own name, without asking anybody: it may not be in /etc/hosts.
            return answer(host) if answer else real("127.0.0.1", *args, **kwargs)
        _refuse(f"{name}({host!r})")

    setattr(socket, name, guarded)


def install() -> None:
    """Put the guard in place for the whole process."""
    for method in ("connect", "connect_ex", "sendto"):
        _guard_address(method)
    for function in ("getaddrinfo", "gethostbyname"):
        _guard_name(function)
    for function in ("gethostbyname_ex", "gethostbyaddr"):
        _guard_name(function, lambda host: (host, [], ["127.0.0.1"]))
