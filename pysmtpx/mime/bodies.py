"""Body parts as a transport can carry them (RFC 2045 6, RFC 6152)."""

from __future__ import annotations

from base64 import encodebytes
from quopri import encodestring
from typing import Final

from ..errors import InputError, NotSupportedError
from ..wire.content import Content
from . import parameters, parts, writing
from .parts import Part

_EIGHT_BIT: Final = "8-bit octets"
_SIGNED: Final = "the message is signed and must not be altered"
_GLOBAL: Final = "message/global"
"""A message that may be encoded (RFC 6532 3.7), unlike message/rfc822 (RFC 2046 5.2.1)."""


def fitted(message: Part, *, utf8: bool, seven_bit: bool) -> bytes:
    """The message in octets that DATA can carry, with ``seven_bit`` 7-bit ones; a twin that may be altered.

    A part that DATA cannot carry gets another transfer encoding: one with lines
    over 998 octets, NUL, or the encoding ``binary`` (any line end in it
    counts); with ``seven_bit`` also one with 8-bit octets. Raises
    ``InputError`` or ``NotSupportedError`` for such a part under a signature,
    or of a type that must not be encoded (RFC 2045 6.4).
    """
    signed = writing.is_signed(message)
    if any(parts.encoding(part) == "binary" for part in parts.walk(message)):
        _fit(message, seven_bit=seven_bit, signed=signed)
    octets = writing.serialize(message, utf8=utf8)
    if problem(octets, seven_bit=seven_bit and not utf8):
        _fit(message, seven_bit=seven_bit, signed=signed)
        octets = writing.serialize(message, utf8=utf8)
        if found := problem(octets, seven_bit=seven_bit and not utf8):
            raise _refusal(f"a header field of a part, or a margin, holds {found}, and {_SIGNED}", found)
    return octets


def _fit(message: Part, *, seven_bit: bool, signed: bool) -> None:
    _reencode(message, seven_bit=seven_bit, signed=signed)
    if not parts.field(message, "MIME-Version") and parts.encoding(message):
        parts.put(message, "MIME-Version", "1.0")


def _reencode(part: Part, *, seven_bit: bool, signed: bool) -> None:
    kind = parts.content_type(part)
    if parts.is_leaf(part) or parts.is_sealed(part):
        _reencode_leaf(part, seven_bit=seven_bit, signed=signed)
    elif kind == "message/rfc822" and not signed:
        _reencode_attached(part, seven_bit=seven_bit)
    else:
        for place, child in enumerate(parts.children(part)):
            # Of multipart/signed the first part is signed, the second is the signature (RFC 1847 2.1).
            is_covered = signed or (kind == "multipart/signed" and place == 0)
            _reencode(child, seven_bit=seven_bit, signed=is_covered)
        if not signed:
            _drop_unfit_margins(part, seven_bit=seven_bit)
            _relabel(part, seven_bit=seven_bit)


def _reencode_attached(part: Part, *, seven_bit: bool) -> None:
    """The parts of an attached message; where that is not enough or not allowed, the message as a whole."""
    (message,) = parts.children(part)
    copy = parts.twin(message)
    try:
        _fit(copy, seven_bit=seven_bit, signed=writing.is_signed(copy))
        octets = writing.attached(copy)
    except (InputError, NotSupportedError):
        octets = b""
    if octets and not problem(octets, seven_bit=seven_bit):
        parts.put_below(part, [copy])
        _relabel(part, seven_bit=seven_bit)
        return
    _encode_whole(part, writing.attached(message))


def _encode_whole(part: Part, message: bytes) -> None:
    parts.put_content(part, encodebytes(message))
    _, *given = parameters.split(parts.field(part, "Content-Type"))
    parts.put(part, "Content-Type", "; ".join([_GLOBAL, *filter(None, given)]))
    parts.put(part, "Content-Transfer-Encoding", "base64")


def _reencode_leaf(part: Part, *, seven_bit: bool, signed: bool) -> None:
    if parts.is_sealed(part):
        return  # what an encoding that encodes holds is 7-bit in short lines, or nothing can be done for it
    encoding, sent = parts.encoding(part), parts.text(part)
    found = problem(sent, seven_bit=seven_bit, encoding=encoding)
    if found and not signed and parts.content_type(part) == "message/rfc822" and encoding in parts.PLAIN:
        _encode_whole(part, sent)
    elif found:
        _refuse_if_fixed(part, found, signed)
        content = parts.decoded(part)
        _describe(part, content)
        _encode(part, content, is_text=encoding in ("", "7bit", "8bit"))


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
        reason = _SIGNED
    elif parts.maintype(part) in ("multipart", "message"):
        reason = "its type must not be encoded (RFC 2045 6.4)"
    elif parts.encoding(part) not in (*parts.PLAIN, *parts.ENCODED):
        reason = "its transfer encoding is unknown"
    if reason:
        raise _refusal(f"a {parts.content_type(part)} part holds {problem}, and {reason}", problem)


def _refusal(text: str, problem: str) -> InputError | NotSupportedError:
    if problem == _EIGHT_BIT:
        return NotSupportedError(f"{text}; the server does not offer 8BITMIME (RFC 6152)", keyword="8BITMIME")
    return InputError(text)


def _describe(part: Part, content: bytes) -> None:
    """Name the charset of 8-bit text that came without any MIME field (RFC 1428 3)."""
    if parts.field(part, "Content-Type") or content.isascii():
        return
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        parts.put(part, "Content-Type", "text/plain; charset=unknown-8bit")
    else:
        parts.put(part, "Content-Type", "text/plain; charset=utf-8")


def _encode(part: Part, content: bytes, *, is_text: bool) -> None:
    """Quoted-printable or base64, whichever is shorter; lines of text end in CRLF within (RFC 2045 6.8)."""
    lines = content
    if is_text:
        lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    name, encoded = "base64", encodebytes(lines.replace(b"\n", b"\r\n") if is_text else content)
    if is_text and len(quoted := encodestring(lines)) <= len(encoded):
        name, encoded = "quoted-printable", quoted
    parts.put_content(part, encoded)
    parts.put(part, "Content-Transfer-Encoding", name)


def _relabel(part: Part, *, seven_bit: bool) -> None:
    """The encoding that a multipart names covers what its parts have become (RFC 2045 6.4)."""
    if parts.encoding(part) in ("8bit", "binary"):
        parts.put(part, "Content-Transfer-Encoding", "7bit" if seven_bit else "8bit")


def _drop_unfit_margins(part: Part, *, seven_bit: bool) -> None:
    """Preamble and epilogue mean nothing (RFC 2046 5.1.1)."""
    for margin in ("preamble", "epilogue"):
        text = getattr(part, margin) or ""
        if problem(text.encode("utf-8", "surrogateescape"), seven_bit=seven_bit):
            setattr(part, margin, None)
