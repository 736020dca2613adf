"""URLs of servers: read into arguments, and written without a secret (RFC 3986)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from string import hexdigits
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlencode, urlsplit

from . import cures, presets
from .embedded import SCHEMES, checked, is_embedded, written
from .errors import InputError

_SCHEMES: Final = ("smtp", "smtps", "lmtp", "lmtp+unix", "smtp+unix", "preset")
_PROXY_PORTS: Final = {"socks5": 1080, "socks4a": 1080, "http": 80, "https": 443}
_PROXY_ALIASES: Final = {"socks5h": "socks5"}
"""As other programs say that the proxy looks names up, which it always does here."""


def parse(url: str) -> dict[str, Any]:
    """The arguments of ``Server`` that a URL holds, not yet validated.

    Raises ``InputError``. No text of the URL may reach its message: an
    unencoded ``/``, ``?`` or ``#`` makes the rest of a password look like a
    path, an option or a fragment.
    """
    parts, port = _split(url)
    if parts.scheme in SCHEMES:
        return {**_query(parts.query), "host": _embedded(parts, url)}
    if parts.scheme not in _SCHEMES:
        raise InputError(f"the scheme of the URL must be one of {', '.join((*_SCHEMES, *SCHEMES))}")
    if "#" in url:
        raise InputError("the URL has a fragment; write # as %23")
    given = _userinfo(parts)
    if parts.scheme == "preset":
        given.update(_preset(parts, port))
    else:
        given["protocol"] = parts.scheme.removesuffix("+unix").removesuffix("s")
        given.update(_place(parts, port))
    if parts.scheme == "smtps":
        given["tls"] = "implicit"
    for name, value in _query(parts.query).items():
        if given.get(name, value) != value:
            raise InputError(f"the URL's option {name} contradicts its scheme")
        given[name] = value
    return given


def build(protocol: str, username: str | None, host: str, port: int, options: Mapping[str, str]) -> str:
    """The URL that ``parse`` reads back into these. It has no place for a password."""
    if is_embedded(host):
        query = urlencode(options, quote_via=quote, safe=",:[]")
        return f"{written(host)}?{query}" if query else written(host)
    user = f"{quote(username, safe='')}@" if username else ""
    if host.startswith("/"):
        place = f"{protocol}+unix://{user}{quote(host)}"
    else:
        name = f"[{quote(host, safe=':')}]" if ":" in host else host
        place = f"{protocol}://{user}{name}:{port}"
    query = urlencode(options, quote_via=quote, safe=",:[]")
    return f"{place}?{query}" if query else place


def preset_limits(url: str) -> Mapping[str, Any]:
    """What the preset allows that a URL names; nothing for any other URL. Raises ``InputError``."""
    if not url.lower().startswith("preset://"):
        return {}
    return _found(_split(url)[0]).limits


class ProxyParts(NamedTuple):
    """What the URL of a proxy holds."""

    scheme: str
    host: str
    port: int
    username: str | None
    password: str | None


def proxy_parts(url: object) -> ProxyParts:
    """What the URL of a proxy holds, not yet validated.

    Raises ``InputError``, which never repeats the URL.
    """
    parts, port = _split(url)
    scheme = _PROXY_ALIASES.get(parts.scheme, parts.scheme)
    if scheme not in _PROXY_PORTS:
        raise InputError(f"the scheme of a proxy's URL must be one of {', '.join(_PROXY_PORTS)}")
    if parts.path not in ("", "/") or "?" in str(url) or "#" in str(url):
        raise InputError(
            "the URL of a proxy has nothing behind its port; in a password / is %2F, ? is %3F, # is %23"
        )
    who = _userinfo(parts)
    host = _decode(parts.hostname or "")
    return ProxyParts(
        scheme, host, _PROXY_PORTS[scheme] if port is None else port, who.get("username"), who.get("password")
    )


def proxy_url(parts: ProxyParts) -> str:
    """The URL that ``proxy_parts`` reads back into these. It has no place for a password."""
    user = f"{quote(parts.username, safe='')}@" if parts.username else ""
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    return f"{parts.scheme}://{user}{host}:{parts.port}"


def _split(url: object) -> tuple[SplitResult, int | None]:
    if not isinstance(url, str):
        raise InputError(f"a URL is text, not {type(url).__name__}")
    # urlsplit() would drop line ends and tabs silently.
    if not url.isprintable() or " " in url:
        raise InputError("the URL holds a control character or a space")
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        pass  # its text quotes the URL
    raise InputError("the URL's host or port is malformed; in a password / is %2F, ? is %3F, # is %23")


def _decode(text: str) -> str:
    pieces = text.split("%")[1:]
    if not all(len(piece) > 1 and piece[0] in hexdigits and piece[1] in hexdigits for piece in pieces):
        raise InputError("the URL has a % that begins no %XX; write it as %25")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        pass  # its text quotes the octets
    raise InputError("the URL's percent-encoded octets are not UTF-8")


def _userinfo(parts: SplitResult) -> dict[str, Any]:
    given = {"username": parts.username or None, "password": parts.password}
    return {name: _decode(text) for name, text in given.items() if text is not None}


def _place(parts: SplitResult, port: int | None) -> dict[str, Any]:
    host = _decode(parts.hostname or "")
    if parts.scheme.endswith("+unix"):
        if host or port is not None or not parts.path.startswith("/"):
            raise InputError("the URL of a UNIX socket has a path and no host: lmtp+unix:///path")
        return {"host": _decode(parts.path)}
    if parts.path not in ("", "/"):
        raise InputError("the URL of a TCP server has no path")
    if host.startswith("/"):
        raise InputError("the URL's host is a path; the scheme of a UNIX socket ends in +unix")
    return {"host": host, "port": port}


def _embedded(parts: SplitResult, url: str) -> str:
    if "#" in url or "@" in parts.netloc or ":" in parts.netloc:
        raise InputError(f"{parts.scheme}:// is a server of this process: it has no user, port or fragment")
    return checked(f"{parts.scheme}://{_decode(parts.netloc + parts.path)}")


def _preset(parts: SplitResult, port: int | None) -> dict[str, Any]:
    if port is not None or parts.path not in ("", "/"):
        raise InputError("the URL of a preset has a name, and neither port nor path: preset://name")
    found = _found(parts)
    return {"protocol": "smtp", "host": found.host, "port": found.port, "tls": found.tls}


def _found(parts: SplitResult) -> presets.Preset:
    return presets.find(_decode(parts.hostname or ""))


def _query(query: str) -> dict[str, Any]:
    # A plus stands for itself (RFC 3986), not for the space of an HTML form.
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise InputError("the URL gives an option twice")
    if names & (_OAUTH - {"oauth"}) and "oauth" not in names:
        raise InputError("the URL has options of a provider of tokens and names none: oauth=microsoft, …")
    if "oauth" in names:
        options = dict(pairs)
        return {**_read({name: options.pop(name) for name in names - _OAUTH}), "oauth": _oauth(options)}
    return _read(dict(pairs))


def _read(options: Mapping[str, str]) -> dict[str, Any]:
    names = options.keys()
    if names & _OF_POOL:
        raise InputError(f"{min(names & _OF_POOL)} in a URL is for SmtpPool and Route: leave it out here")
    if unknown := names - _OPTIONS.keys():
        known = {*_OPTIONS, *_OF_POOL, *_OAUTH}
        raise InputError(f"the URL has an unknown option; {cures.unknown_secret_name(unknown, known)}")
    return {name: _OPTIONS[name](value) for name, value in options.items()}


def _oauth(options: dict[str, str]) -> dict[str, str]:
    """The name and the arguments of a provider of tokens."""
    if "client_secret" in options or "refresh_token" in options:
        raise InputError(
            "a URL is no place for client_secret and refresh_token: they come from the environment,"
            " as PYSMTPX_CLIENT_SECRET and PYSMTPX_REFRESH_TOKEN (or with what env=… says in front)"
        )
    return {"name": options.pop("oauth"), **options}


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise InputError("insecure_auth and overlap in a URL are true or false")
    return text == "true"


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which Server refuses


def _address(text: str) -> tuple[str, int]:
    """``192.0.2.1``, ``192.0.2.1:25``, ``2001:db8::1``, ``[2001:db8::1]:25``."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, "0"
    if not (port.isascii() and port.isdecimal()):
        raise InputError("the port of source_address is not a number")
    return host.removeprefix("[").removesuffix("]"), int(port[:6])


def _addresses(text: str) -> list[str]:
    """Addresses with commas between them; a quoted local part may hold one (RFC 5321 4.1.2)."""
    found = [""]
    is_quoted = is_escaped = False
    for letter in text:
        if letter == "," and not is_quoted:
            found.append("")
            continue
        found[-1] += letter
        is_quoted ^= letter == '"' and not is_escaped
        is_escaped = letter == "\\" and is_quoted and not is_escaped
    return found


_OAUTH: Final = frozenset(
    (
        *("oauth", "env", "tenant", "client_id", "certificate", "authority", "scope", "token_url"),
        *("client_auth", "service_account_file", "subject", "client_secret", "refresh_token"),
    )
)
"""Options of ``oauth=``, which names a provider of tokens."""
_OF_POOL: Final = frozenset(("weight", "max_connections", "max_messages", "rate", "recipient_rate"))
"""What ``Route`` takes out of a URL."""
_OPTIONS: Final[dict[str, Callable[[str], object]]] = {
    "tls": str,
    "auth": lambda text: tuple(text.split(",")),
    "authzid": str,
    "insecure_auth": _flag,
    "server_hostname": str,
    "roots": str,
    "fingerprint": str,
    "local_hostname": str,
    "source_address": _address,
    "proxy": str,
    "connect_timeout": _seconds,
    "overlap": _flag,
    "without": str,
    "redirect_to": _addresses,
    "allow_recipients": lambda text: _addresses(text) if text else [],
}
