"""Servers of this process, for development: how they are named. ``development`` is what they do."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final
from urllib.parse import quote

from .errors import InputError
from .shortening import shown

SCHEMES: Final = ("memory", "maildir", "console", "null")

_FORMS: Final = {
    "memory": (re.compile(r"[a-z0-9._-]{0,100}"), "memory://NAME, of letters, digits and -._"),
    "maildir": (re.compile(r"/.*[^/].*"), "maildir:///PATH, from the root"),
    "console": (re.compile(r"(?:stderr)?"), "console:// or console://stderr"),
    "null": (re.compile(r""), "null://"),
}


def is_embedded(host: str) -> bool:
    """Whether a host is the URL of such a server."""
    return "://" in host and host.partition("://")[0] in SCHEMES


def checked(host: str) -> str:
    """The URL, percent-encoding gone. Raises ``InputError``."""
    scheme, _, place = host.partition("://")
    pattern, form = _FORMS[scheme]
    place = place.lower() if scheme == "memory" else place
    if not place.isprintable() or not pattern.fullmatch(place):
        raise InputError(f"a server of this process is {form}, and not {shown(host)}")
    return f"{scheme}://{place}"


def written(host: str) -> str:
    """As it stands in a URL."""
    scheme, _, place = host.partition("://")
    return f"{scheme}://{quote(place)}"


def dial_embedded(host: str, keep: Callable[[socket.socket], object] | None = None) -> socket.socket:
    """A connected, non-blocking socket to it. Raises ``ConnectError``."""
    # What serves stands above whoever dials, and is loaded where somebody uses it.
    development: Any = import_module("pysmtpx.development")
    sock: socket.socket = development.dial(host, keep)
    return sock
