"""Where a server is and how its line is secured: hosts, ports and TLS modes, checked, and their defaults."""

from __future__ import annotations

import base64
import os
import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, TypeAlias, get_args

from .embedded import checked, is_embedded
from .errors import InputError
from .extras import needs
from .shortening import shown
from .wire.address import domain_or_literal, domain_to_ascii
from .wire.capabilities import Protocol

TlsMode: TypeAlias = Literal["implicit", "starttls", "opportunistic", "none"]
"""``implicit``: TLS first (RFC 8314 3). ``starttls``: required (RFC 3207), never clear text instead.
``opportunistic``: STARTTLS where offered. ``none``: clear text."""

_URL_SIGNS: Final = frozenset("/:@?#%\\")

_WITH_PORT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:/@?#%\\\[\]\s]+):(?P<port>[0-9]{1,5})")
"""A name or an IPv4 address, or an IPv6 address in brackets, and a port."""

_KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
"""An ehlo-keyword (RFC 5321 4.1.1.1)."""

_HEX: Final = "[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}"
_OF_CERTIFICATE: Final = re.compile(f"(?:sha256(?::| fingerprint=))?({_HEX})", re.IGNORECASE)
"""Also as ``openssl x509 -fingerprint -sha256`` prints it."""
_OF_KEY: Final = re.compile(f"spki:({_HEX})", re.IGNORECASE)
_OF_KEY_BASE64: Final = re.compile("(?:spki:|sha256//)([A-Za-z0-9+/]{43}=)")
"""As ``curl --pinnedpubkey`` takes it."""

_PORTS: Final = {"smtps": 465, "lmtp": 24, "loopback": 25, "submission": 587}


def is_path(host: str) -> bool:
    """Whether a host is the path of a UNIX socket, or the URL of a server of this process."""
    return host[:1] == "/" or ("://" in host and is_embedded(host))


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """True for loopback, UNIX sockets and this process: nobody can listen on the way."""
    if is_path(host) or host == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
        return True
    address = ip_of(host)
    return address is not None and address.is_loopback


def default_tls(port: int | None, *, is_local: bool) -> TlsMode:
    """The TLS mode where none is given: never clear text over a network."""
    if port == _PORTS["smtps"]:
        return "implicit"
    return "none" if is_local else "starttls"


def default_port(host: str, protocol: Protocol, tls: TlsMode, *, is_local: bool) -> int:
    """The port where none is given; 0 for a UNIX socket."""
    if is_path(host):
        return 0
    if protocol is Protocol.LMTP:
        return _PORTS["lmtp"]
    if tls == "implicit":
        return _PORTS["smtps"]
    return _PORTS["loopback" if is_local else "submission"]


def ip_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is, or None for a name."""
    if ":" not in host and not host[-1:].isdigit():
        return None  # to be told so by two parsers takes long
    try:
        return ip_address(host)
    except ValueError:
        return None


def checked_text(name: str, value: object) -> str:
    """The value, where it is printable text."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be text, not {type(value).__name__}")
    # What is not printable would hide in a log, end a command line or cut a C string.
    if not value.isprintable():
        raise InputError(f"{name} holds a control character")
    return value


def checked_keyword(value: object) -> str:
    """The keyword of EHLO in upper case."""
    keyword = checked_text("without", value)
    if not _KEYWORD.fullmatch(keyword):
        raise InputError(f"without takes keywords of EHLO, such as CHUNKING, and not {shown(keyword)}")
    return keyword.upper()


def checked_roots(value: object) -> str:
    """The name of roots, or the path of a file or a directory with them."""
    path = checked_text("roots", os.fspath(value) if isinstance(value, os.PathLike) else value)
    if not path:
        raise InputError("roots is system, certifi, fingerprint, or the path of a file or a directory")
    if path == "system":
        needs("truststore", "truststore")  # said here, and not when the line is there
    return path


def checked_fingerprint(value: object) -> str:
    """``sha256:`` or ``spki:`` and 64 hexadecimal digits in lower case."""
    text = checked_text("fingerprint", value)
    for kind, pattern in (("sha256", _OF_CERTIFICATE), ("spki", _OF_KEY)):
        if match := pattern.fullmatch(text):
            return f"{kind}:{match[1].replace(':', '').lower()}"
    if match := _OF_KEY_BASE64.fullmatch(text):
        return f"spki:{base64.b64decode(match[1]).hex()}"
    raise InputError(
        f"a fingerprint is sha256: (of a certificate) or spki: (of its public key) with 64 hex digits,"
        f" and not {shown(text)}"
    )


def host_and_port(host: str, port: int | None) -> tuple[str, int | None]:
    """Of a host with its port behind it, as people write it, both; anything else as it is."""
    match = _WITH_PORT.fullmatch(host)
    if match is None:
        return host, port
    written = int(match["port"])
    if port not in (None, written):
        raise InputError(f"the host names port {written}, and port is {shown(str(port))}: which is meant?")
    return match["host"], written


def checked_host(value: object) -> str:
    """A path as it is, or a name or address in the form that is looked up."""
    host = checked_text("host", value)
    if "/" not in host:
        return _name(host)
    if is_embedded(host):
        return checked(host)
    if not is_path(host):
        return _name(host)
    userinfo, at, _ = host.rpartition("@")
    if at and (":" in userinfo or userinfo.startswith("//")):
        # A path is shown in errors and logs, and a password must not be.
        raise InputError("a URL has a scheme: smtp://…; and the path of a socket has no : in front of an @")
    return host


def checked_name(value: object, what: str = "host") -> str:
    """A host as it is looked up: A-labels (RFC 5891), or an IP address in its one spelling."""
    name = checked_text(what, value)
    try:
        return _name(name)
    except InputError as error:
        raise error.at(what) from None


@lru_cache(maxsize=1024)
def _name(text: str) -> str:
    name = text.lower()
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    address = ip_of(bare)
    if address is not None and (bare is name or address.version == 6):
        return str(address)
    if not _URL_SIGNS.isdisjoint(name):  # it may be a URL with a password, so it is not shown
        raise InputError(
            "a host is a name or address, or one with :port; a URL has a scheme and goes to Server.from_url"
        )
    return domain_to_ascii(name)


def checked_own_name(value: object) -> str:
    """Our name in EHLO: a domain, or an address as the literal that it has to be (RFC 5321 4.1.3)."""
    name = checked_text("local_hostname", value)
    try:
        return _own_name(name)
    except InputError as error:
        raise error.at("local_hostname") from None


@lru_cache(maxsize=64)
def _own_name(name: str) -> str:
    return domain_or_literal(f"[{name}]" if ip_of(name) is not None else name)


def checked_protocol(value: object) -> Protocol:
    """The protocol of that name."""
    if type(value) is Protocol:
        return value
    for protocol in Protocol:
        if value == protocol:
            return protocol
    raise InputError("protocol must be 'smtp' or 'lmtp'")


def checked_tls(value: object) -> TlsMode:
    """The TLS mode of that name."""
    for mode in get_args(TlsMode):
        if value == mode:
            return mode  # type: ignore[no-any-return]
    raise InputError(f"tls must be one of {', '.join(get_args(TlsMode))}")


def checked_port(host: str, value: object, *, lowest: int = 1) -> int:
    """The port, where it is a number in range."""
    if "/" in host and is_path(host):
        if value != 0:
            raise InputError(
                f"{'a server of this process' if is_embedded(host) else 'a UNIX socket'} has no port"
            )
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= 65535:
        raise InputError(f"a port is a number from {lowest} to 65535")
    return value


def checked_source(value: object) -> tuple[str, int]:
    """An IP address of ours and a port, 0 for any."""
    pair = (value, 0) if isinstance(value, str) else value
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise InputError("source_address must be an IP address, or a pair of one and a port")
    host, port = pair
    address = ip_of(checked_text("source_address", host)) if host else ""
    if address is None:
        raise InputError("source_address must be an IP address of this machine")
    return str(address), checked_port("", port, lowest=0)
