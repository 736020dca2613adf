"""Body parts as a transport can carry them (RFC 2045 6, RFC 6152)."""

from __future__ import annotations

from base64 import encodebytes
from quopri import encodestring
from typing import Final

from ..errors import InputError, NotSupportedError
from ..wire.content import Content
from . import parameters, writing
from .parts import ENCODED, PLAIN, Part

_EIGHT_BIT: Final = "8-bit octets"
_SIGNED: Final = "the message is signed and must not be altered"
_GLOBAL: Final = "message/global"
"""A message that may be encoded (RFC 6532 3.7), unlike message/rfc822 (RFC 2046 5.2.1)."""


def fitted(message: Part, *, utf8: bool, seven_bit: bool) -> Content:
    """The message in octets that DATA can carry, with ``seven_bit`` 7-bit ones; alters it.

    A part that DATA cannot carry gets another transfer encoding: one with lines
    over 998 octets, NUL, or the encoding ``binary`` (any line end in it
    counts); with ``seven_bit`` also one with 8-bit octets. Raises
    ``InputError`` or ``NotSupportedError`` for such a part under a signature,
    or of a type that must not be encoded (RFC 2045 6.4).
    """
    signed = message.is_signed
    if any(part.encoding == "binary" for part in message.walk()):
        _fit(message, seven_bit=seven_bit, signed=signed)
    content = Content.of(writing.serialize(message, utf8=utf8))
    if _problem(content, seven_bit=seven_bit and not utf8):
        _fit(message, seven_bit=seven_bit, signed=signed)
        content = Content.of(writing.serialize(message, utf8=utf8))
        if found := _problem(content, seven_bit=seven_bit and not utf8):
            raise _refusal(f"a header field of a part, or a margin, holds {found}, and {_SIGNED}", found)
    return content


def _fit(message: Part, *, seven_bit: bool, signed: bool) -> None:
    _reencode(message, seven_bit=seven_bit, signed=signed)
    if not message.field("MIME-Version") and message.encoding:
        message.put("MIME-Version", "1.0")


def _reencode(part: Part, *, seven_bit: bool, signed: bool) -> None:
    kind = part.content_type
    if part.is_leaf or part.is_sealed:
        _reencode_leaf(part, seven_bit=seven_bit, signed=signed)
    elif kind == "message/rfc822" and not signed:
        _reencode_attached(part, seven_bit=seven_bit)
    else:
        for place, child in enumerate(part.children):
            # Of multipart/signed the first part is signed, the second is the signature (RFC 1847 2.1).
            is_covered = signed or (kind == "multipart/signed" and place == 0)
            _reencode(child, seven_bit=seven_bit, signed=is_covered)
        if not signed:
            _drop_unfit_margins(part, seven_bit=seven_bit)
            _relabel(part, seven_bit=seven_bit)


def _reencode_attached(part: Part, *, seven_bit: bool) -> None:
    """The parts of an attached message; where that is not enough or not allowed, the message as a whole."""
    (message,) = part.children
    copy = message.copy()
    try:
        _fit(copy, seven_bit=seven_bit, signed=copy.is_signed)
        octets = writing.attached(copy)
    except (InputError, NotSupportedError):
        octets = b""
    if octets and not _problem(Content.of(octets), seven_bit=seven_bit):
        part.children = [copy]
        _relabel(part, seven_bit=seven_bit)
        return
    _encode_whole(part, writing.attached(message))


def _encode_whole(part: Part, message: bytes) -> None:
    part.become(encodebytes(message))
    _, *given = parameters.split(part.field("Content-Type"))
    part.put("Content-Type", "; ".join([_GLOBAL, *filter(None, given)]))
    part.put("Content-Transfer-Encoding", "base64")


def _reencode_leaf(part: Part, *, seven_bit: bool, signed: bool) -> None:
    if part.is_sealed:
        return  # what an encoding that encodes holds is 7-bit in short lines, or nothing can be done for it
    encoding, sent = part.encoding, part.octets
    found = _problem(Content.of(sent), seven_bit=seven_bit, encoding=encoding)
    if found and not signed and part.content_type == "message/rfc822" and encoding in PLAIN:
        _encode_whole(part, sent)
    elif found:
        _refuse_if_fixed(part, found, signed)
        content = part.decoded
        _describe(part, content)
        _encode(part, content, is_text=encoding in ("", "7bit", "8bit"))


def _problem(sent: Content, *, seven_bit: bool, encoding: str = "") -> str:
    """Why DATA cannot carry these octets; empty where it can."""
    measure = sent.measure
    if measure is None or not measure.raw_size:
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
    elif part.maintype in ("multipart", "message"):
        reason = "its type must not be encoded (RFC 2045 6.4)"
    elif part.encoding not in (*PLAIN, *ENCODED):
        reason = "its transfer encoding is unknown"
    if reason:
        raise _refusal(f"a {part.content_type} part holds {problem}, and {reason}", problem)


def _refusal(text: str, problem: str) -> InputError | NotSupportedError:
    if problem == _EIGHT_BIT:
        return NotSupportedError(f"{text}; the server does not offer 8BITMIME (RFC 6152)", keyword="8BITMIME")
    return InputError(text)


def _describe(part: Part, content: bytes) -> None:
    """Name the charset of 8-bit text that came without any MIME field (RFC 1428 3)."""
    if part.field("Content-Type") or content.isascii():
        return
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        part.put("Content-Type", "text/plain; charset=unknown-8bit")
    else:
        part.put("Content-Type", "text/plain; charset=utf-8")


def _encode(part: Part, content: bytes, *, is_text: bool) -> None:
    """Quoted-printable or base64, whichever is shorter; lines of text end in CRLF within (RFC 2045 6.8)."""
    lines = content
    if is_text:
        lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    name, encoded = "base64", encodebytes(lines.replace(b"\n", b"\r\n") if is_text else content)
    if is_text and len(quoted := encodestring(lines)) <= len(encoded):
        name, encoded = "quoted-printable", quoted
    part.become(encoded)
    part.put("Content-Transfer-Encoding", name)


def _relabel(part: Part, *, seven_bit: bool) -> None:
    """The encoding that a multipart names covers what its parts have become (RFC 2045 6.4)."""
    if part.encoding in ("8bit", "binary"):
        part.put("Content-Transfer-Encoding", "7bit" if seven_bit else "8bit")


def _drop_unfit_margins(part: Part, *, seven_bit: bool) -> None:
    """Preamble and epilogue mean nothing (RFC 2046 5.1.1)."""
    for margin in ("preamble", "epilogue"):
        text = getattr(part, margin) or ""
        if _problem(Content.of(text.encode("utf-8", "surrogateescape")), seven_bit=seven_bit):
            setattr(part, margin, None)
