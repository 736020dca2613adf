"""The one gate that every command line passes (RFC 5321 4.1.1, 4.5.3.1.4)."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import repeat
from typing import Final, Literal

from ..errors import InputError
from .address import ForwardPath, ReversePath, domain_or_literal
from .limits import MAX_COMMAND_LINE
from .params import Body, MailFromParams, Pair, RcptToParams

MAX_AUTH_RESPONSE: Final = 12_288
"""Octets of one line that answers a challenge, CRLF included (RFC 4954 4)."""

_TRANSACTION: Final = ("MAIL", "RCPT", "DATA", "BDAT", "BURL", "SEND", "SOML", "SAML")
NOT_SINGLE: Final = frozenset(
    ("EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "QUIT", "TURN", "ATRN", "XCLIENT", *_TRANSACTION)
)
"""Verbs after which the session is in the middle of something, or another one."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_VERB: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")

_INCREASE: Final = {
    "SIZE": 26,  # RFC 1870 3
    "BODY": 17,  # RFC 6152 2
    "SMTPUTF8": 10,  # RFC 6531 3.1
    "AUTH": 500,  # RFC 4954 3
    "REQUIRETLS": 11,  # RFC 8689 2
    "MT-PRIORITY": 15,  # RFC 6710 3
    "BY": 17,  # RFC 2852 4
    "RET": 9,  # RFC 3461 4.3, at its longest
    "ENVID": 107,  # RFC 3461 4.4, at its longest
    "HOLDFOR": 18,  # RFC 4865 4, at its longest
    "HOLDUNTIL": 31,  # RFC 4865 4, as written here
    "RRVS": 28,  # RFC 7293 3.1, as written here
}
"""Octets by which each parameter lengthens the line that may carry it."""
_DSN_INCREASE: Final = 500
"""RCPT with NOTIFY, ORCPT or both: 1,012 octets (RFC 3461 4)."""


def line(verb: str, argument: str = "", *, limit: int = MAX_COMMAND_LINE, smtputf8: bool = False) -> bytes:
    """A command line with its CRLF.

    Raises ``InputError`` for a control character (C0, DEL, C1), for non-ASCII
    text without ``smtputf8`` (RFC 6531 3.1), and for more than ``limit`` octets,
    CRLF included.
    """
    if not (isinstance(verb, str) and isinstance(argument, str) and _VERB.fullmatch(verb)):
        raise InputError("a command is text, and begins with a verb of letters, digits and hyphens")
    return _gate(f"{verb} {argument}" if argument else verb, limit, smtputf8)


def mail(
    path: ReversePath,
    params: MailFromParams | None = None,
    *,
    size: int | None = None,
    body: Body | None = None,
    smtputf8: bool = False,
) -> bytes:
    """MAIL FROM with its parameters (RFC 5321 4.1.1.2).

    ``size``, ``body`` and ``smtputf8`` are the automatic ones and win over those
    in ``params``. Raises ``InputError`` where the line is longer than its
    parameters grant, and for a path that needs SMTPUTF8 without that parameter
    (RFC 6531 3.2).
    """
    if params is None and body is None and not smtputf8:
        head = _mail_head(path if type(path) is ReversePath else ReversePath.tolerant(path))
        return b"%b\r\n" % head if size is None else b"%b SIZE=%d\r\n" % (head, size)
    pairs: list[Pair] = []
    if size is not None:
        pairs.append(("SIZE", f"{size:d}"))
    if body is not None:
        pairs.append(("BODY", body))
    if smtputf8:
        pairs.append(("SMTPUTF8", None))
    if params is not None:
        automatic = {keyword for keyword, _ in pairs}
        pairs += (pair for pair in params.items() if pair[0] not in automatic)
        smtputf8 = smtputf8 or params.smtputf8
    return _with_parameters(f"MAIL FROM:{ReversePath.tolerant(path).wire}", pairs, smtputf8)


def rcpt(path: ForwardPath, params: RcptToParams | None = None, *, smtputf8: bool = False) -> bytes:
    """RCPT TO with its parameters (RFC 5321 4.1.1.3); ``smtputf8`` says that MAIL had SMTPUTF8.

    Raises ``InputError`` as ``mail`` does.
    """
    if params is None:
        return _plain_rcpt(ForwardPath.tolerant(path), smtputf8)
    return _with_parameters(f"RCPT TO:{ForwardPath.tolerant(path).wire}", params.items(), smtputf8)


def rcpts(
    paths: Iterable[ForwardPath], params: Iterable[RcptToParams | None] | None, *, smtputf8: bool
) -> Iterator[bytes]:
    """``rcpt`` for each of several recipients."""
    if params is None:
        return map(_plain_rcpt, paths, repeat(smtputf8))
    return (rcpt(path, each, smtputf8=smtputf8) for path, each in zip(paths, params, strict=True))


def bdat(size: int, last: bool) -> bytes:
    """BDAT for a chunk of ``size`` octets (RFC 3030 2)."""
    if size < 0:
        raise InputError("a chunk has no fewer than 0 octets")
    return _gate(f"BDAT {size:d}{' LAST' if last else ''}", MAX_COMMAND_LINE)


@lru_cache(maxsize=64)
def hello(verb: Literal["EHLO", "HELO", "LHLO"], name: str) -> bytes:
    """EHLO, HELO or LHLO with our domain or address literal (RFC 5321 4.1.1.1).

    Raises ``InputError`` where ``name`` is neither.
    """
    return line(verb, domain_or_literal(name))


def auth(mechanism: str, initial: bytes | None = None) -> bytes | None:
    """AUTH, with the initial response in base64 where there is one (RFC 4954 4).

    None where the line would be too long: the mechanism then goes without its
    initial response, which answers the server's empty challenge. Raises
    ``InputError`` for a name that is no SASL mechanism's (RFC 4422 3.1).
    """
    if not _MECHANISM.fullmatch(mechanism):
        raise InputError("not the name of a SASL mechanism (RFC 4422 3.1)")
    if initial is None:
        return line("AUTH", mechanism)
    argument = f"{mechanism} {b64encode(initial).decode('ascii') or '='}"
    if len("AUTH ") + len(argument) + len("\r\n") > MAX_COMMAND_LINE:
        return None
    return line("AUTH", argument)


def auth_response(data: bytes) -> bytes:
    """The answer to a challenge, in base64 (RFC 4954 4).

    Raises ``InputError`` for a line over 12,288 octets.
    """
    return _gate(b64encode(data).decode("ascii"), MAX_AUTH_RESPONSE)


# Who sends many messages says the same lines again and again: these passed the gate. They are
# remembered by paths of our own only, which nobody can make equal to another.


@lru_cache(maxsize=256)
def _mail_head(path: ReversePath) -> bytes:
    """MAIL FROM without its line end; it has room for SIZE, which RFC 1870 3 grants."""
    return _with_parameters(f"MAIL FROM:{path.wire}", (), False).removesuffix(b"\r\n")


@lru_cache(maxsize=8192)
def _plain_rcpt(path: ForwardPath, smtputf8: bool) -> bytes:
    """RCPT TO without parameters."""
    return _with_parameters(f"RCPT TO:{path.wire}", (), smtputf8)


def _with_parameters(head: str, pairs: Iterable[Pair], smtputf8: bool) -> bytes:
    text = head
    limit = MAX_COMMAND_LINE
    dsn = 0
    for keyword, value in pairs:
        text += f" {keyword}" if value is None else f" {keyword}={value}"
        limit += _INCREASE.get(keyword, 0)
        if keyword == "NOTIFY" or keyword == "ORCPT":
            dsn = _DSN_INCREASE
    return _gate(text, limit + dsn, smtputf8)


def _gate(text: str, limit: int, smtputf8: bool = False) -> bytes:
    # No message shows the text: it may hold a secret.
    if not (text.isascii() and text.isprintable()):
        _refuse_unprintable(text, smtputf8)
    octets = f"{text}\r\n".encode()
    if len(octets) > limit:
        raise InputError(
            f"a command line of {len(octets)} octets where {limit} are granted (RFC 5321 4.5.3.1.4)"
        )
    return octets


def check_controls(text: str) -> None:
    """Raise ``InputError`` for a control character (C0, DEL, C1), without the text: it may hold a secret."""
    # CR or LF would end the line and let its rest through as a command of its own.
    control = _CONTROL.search(text)
    if control is not None:
        raise InputError(f"control character U+{ord(control[0]):04X} in a command line")


def _refuse_unprintable(text: str, smtputf8: bool) -> None:
    check_controls(text)
    if not smtputf8:
        raise InputError("a command line that is not ASCII needs SMTPUTF8 (RFC 6531 3.1)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("a lone surrogate in a command line") from None


DATA: Final = line("DATA")
RSET: Final = line("RSET")
NOOP: Final = line("NOOP")
QUIT: Final = line("QUIT")
STARTTLS: Final = line("STARTTLS")
END_OF_DATA: Final = _gate(".", MAX_COMMAND_LINE)
"""Ends the content that follows DATA (RFC 5321 4.1.1.4)."""
