"""Body parts as a transport can carry them (RFC 2045 6, RFC 6152)."""

from __future__ import annotations

import copy
from base64 import encodebytes
from email.generator import BytesGenerator
from email.message import Message
from io import BytesIO
from quopri import encodestring
from typing import Any, Final, TypeAlias, cast

from ..errors import InputError, NotSupportedError
from ..wire.content import Content
from . import headers

Part: TypeAlias = "Message[Any, Any]"

_PLAIN: Final = ("", "7bit", "8bit", "binary")
"""Transfer encodings that encode nothing (RFC 2045 6.2)."""
_ENCODED: Final = ("quoted-printable", "base64")
_EIGHT_BIT: Final = "8-bit octets"


def twin(message: Part) -> Part:
    """A copy to work on: writing a message fills in boundaries, in nested parts too.

    Header values and policies are immutable and shared; so is the text of payloads.
    """
    shared: dict[int, Any] = {}
    for part in message.walk():
        shared[id(part.policy)] = part.policy
        shared.update((id(value), value) for _, value in part.raw_items())
    return copy.deepcopy(message, shared)


def serialize(message: Part, *, utf8: bool, exact: bool) -> bytes:
    """The message with CRLF line ends; fills in boundaries that are missing."""
    file = BytesIO()
    policy = headers.policy(utf8=utf8, exact=exact)
    BytesGenerator(file, mangle_from_=False, policy=policy).flatten(message, linesep="\r\n")
    return file.getvalue()


def has_binary(message: Part) -> bool:
    """True where a part says that it is not made of lines (RFC 2045 6.2)."""
    return any(_encoding(part) == "binary" for part in message.walk())


def fit(message: Part, *, seven_bit: bool, signed: bool) -> None:
    """Give each part that DATA cannot carry another transfer encoding, in place.

    That is a part with lines over 998 octets, NUL, or the encoding ``binary``
    (any line end in it counts); with ``seven_bit`` also one with 8-bit octets.
    Raises ``InputError`` or ``NotSupportedError`` for such a part under a
    signature, or of a type that must not be encoded (RFC 2045 6.4).
    """
    _reencode(message, seven_bit=seven_bit, signed=signed)
    if "MIME-Version" not in message and "Content-Transfer-Encoding" in message:
        message["MIME-Version"] = "1.0"


def _reencode(part: Part, *, seven_bit: bool, signed: bool) -> None:
    signed = signed or part.get_content_type() == "multipart/signed"
    if not part.is_multipart():
        _reencode_leaf(part, seven_bit=seven_bit, signed=signed)
        return
    for child in part.get_payload():
        _reencode(cast(Part, child), seven_bit=seven_bit, signed=signed)
    if not signed:
        _drop_unfit_margins(part, seven_bit=seven_bit)
        _relabel(part, seven_bit=seven_bit)


def _encoding(part: Part) -> str:
    return str(part.get("Content-Transfer-Encoding", "")).strip().lower()


def _reencode_leaf(part: Part, *, seven_bit: bool, signed: bool) -> None:
    encoding = _encoding(part)
    content = _decoded(part)
    sent = content if encoding in _PLAIN else str(part.get_payload() or "").encode("utf-8", "surrogateescape")
    found = problem(sent, seven_bit=seven_bit, encoding=encoding)
    if found:
        _refuse_if_fixed(part, found, signed)
        _describe(part, content)
        _encode(part, content, is_text=encoding in ("", "7bit", "8bit"))


def _decoded(part: Part) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def problem(sent: bytes, *, seven_bit: bool, encoding: str = "") -> str:
    """Why DATA cannot carry these octets; empty where it can."""
    measure = Content.of(sent).measure
    if measure is None or not sent:
        return ""
    if seven_bit and measure.is_8bit:
        return _EIGHT_BIT
    if measure.has_long_line:
        return "a line over 998 octets"
    if measure.has_nul:
        return "NUL"
    return "the transfer encoding 'binary'" if encoding == "binary" else ""


def _refuse_if_fixed(part: Part, problem: str, signed: bool) -> None:
    reason = ""
    if signed:
        reason = "the message is signed and must not be altered"
    elif part.get_content_maintype() in ("multipart", "message"):
        reason = "its type must not be encoded (RFC 2045 6.4)"
    elif _encoding(part) not in (*_PLAIN, *_ENCODED):
        reason = "its transfer encoding is unknown"
    text = f"a {part.get_content_type()} part holds {problem}, and {reason}"
    if reason and problem == _EIGHT_BIT:
        raise NotSupportedError(f"{text}; the server does not offer 8BITMIME (RFC 6152)", keyword="8BITMIME")
    if reason:
        raise InputError(text)


def _describe(part: Part, content: bytes) -> None:
    """Name the charset of 8-bit text that came without any MIME field (RFC 1428 3)."""
    if "Content-Type" in part or content.isascii():
        return
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        part["Content-Type"] = "text/plain; charset=unknown-8bit"
    else:
        part["Content-Type"] = "text/plain; charset=utf-8"


def _encode(part: Part, content: bytes, *, is_text: bool) -> None:
    """Quoted-printable or base64, whichever is shorter; lines of text end in CRLF within (RFC 2045 6.8)."""
    lines = content
    if is_text:
        lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    name, encoded = "base64", encodebytes(lines.replace(b"\n", b"\r\n") if is_text else content)
    if is_text and len(quoted := encodestring(lines)) <= len(encoded):
        name, encoded = "quoted-printable", quoted
    part.set_payload(encoded.decode("ascii"))
    _label(part, name)


def _label(part: Part, encoding: str) -> None:
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = encoding


def _relabel(part: Part, *, seven_bit: bool) -> None:
    """The encoding that a multipart names covers what its parts have become (RFC 2045 6.4)."""
    if _encoding(part) in ("8bit", "binary"):
        _label(part, "7bit" if seven_bit else "8bit")


def _drop_unfit_margins(part: Part, *, seven_bit: bool) -> None:
    """Preamble and epilogue mean nothing (RFC 2046 5.1.1)."""
    for margin in ("preamble", "epilogue"):
        text = getattr(part, margin) or ""
        if problem(text.encode("utf-8", "surrogateescape"), seven_bit=seven_bit):
            setattr(part, margin, None)
