"""A message as octets with CRLF line ends (RFC 5322 2.1, RFC 2046 5.1.1).

The generator of ``email`` reads fields in quadratic time, and writes a part
that was signed in another way than its signer did.
"""

from __future__ import annotations

import secrets
from email.policy import SMTP, Policy
from typing import Final, NamedTuple

from ..errors import InputError
from . import headers, parameters, signatures
from .headers import Field
from .parts import PLAIN, Part

_DELIVERY_STATUS: Final = ("message/delivery-status", "message/global-delivery-status")


class Style(NamedTuple):
    """How a part is written."""

    utf8: bool = False
    """Text in fields goes as UTF-8 (RFC 6532)."""
    attached: bool = False
    """Within an attached message, which somebody else wrote."""
    signed: bool = False
    """Under a signature: every field as its signer wrote it."""
    policy: Policy = SMTP
    """By which that was."""
    refolded: bool = False
    """Fields that came from elsewhere went through the policy, too."""
    is_open: bool = False
    """A multipart without epilogue ends with its last delimiter, and not with a line end behind that."""

    def fields(self, part: Part) -> list[bytes]:
        """The header section of a part."""
        if self.signed:
            return [self._signed_field(field) for field in part.fields]
        if self.attached:
            return [headers.write_attached(field) for field in part.fields]
        return [field.written(utf8=self.utf8) for field in part.fields]

    def _signed_field(self, field: Field) -> bytes:
        try:
            return headers.write_signed(field, self.policy, refolded=self.refolded)
        except InputError:
            if not self.attached:
                raise
            return headers.as_it_came(field)

    def of_attached(self, message: Part) -> Style:
        """For a message within the message."""
        return self if self.signed else Style(attached=True, signed=message.is_signed, policy=message.policy)


def serialize(message: Part, *, utf8: bool = False) -> bytes:
    """The message; fills in boundaries that are missing.

    What is signed is written as it was when it was signed. Raises
    ``InputError`` for what cannot be written, or not in that way.
    """
    return _whole(message, Style(utf8=utf8, signed=message.is_signed, policy=message.policy))


def attached(message: Part) -> bytes:
    """A message within another one."""
    return _whole(message, Style().of_attached(message))


def _whole(message: Part, style: Style) -> bytes:
    first = _octets(message, style)
    if style.signed and signatures.covers_body(first) is False:
        others = (_octets(message, each) for each in _styles(message, style)[1:])
        return next(filter(signatures.covers_body, others), first)
    return first


def _is_open_to_doubt(part: Part) -> bool:
    """True for a multipart below whose last delimiter may have had no line end of its own."""
    return any(not each.epilogue and each.maintype == "multipart" for each in part.walk())


def _octets(part: Part, style: Style) -> bytes:
    body = _body(part, style)  # first, for it may need another boundary
    return b"".join([*style.fields(part), b"\r\n", body])


def _body(part: Part, style: Style) -> bytes:
    if part.is_leaf:
        return _lines(part.octets)
    below = part.children
    kind = part.content_type
    if kind == "multipart/signed" and len(below) > 1:
        signed = _as_signed(below[0], below[1], style)
        return _multipart(part, [signed, *(_octets(child, style) for child in below[1:])], style)
    if kind.startswith("multipart/"):
        return _multipart(part, [_octets(child, style) for child in below], style)
    if kind in _DELIVERY_STATUS:
        return b"\r\n".join(_block(block, style.of_attached(block)) for block in below)
    if kind.startswith("message/") and len(below) == 1:
        return _attached(part, below[0], style)
    raise InputError(f"a {kind} part cannot hold {len(below)} parts")


def _block(part: Part, style: Style) -> bytes:
    """A block of a delivery status: fields (RFC 3464 2.1), and lines that ``email`` found to be none."""
    lines = _lines(part.octets)
    ended = lines if not lines or lines.endswith(b"\r\n") else lines + b"\r\n"
    return b"".join([*style.fields(part), ended])


def _attached(part: Part, message: Part, style: Style) -> bytes:
    encoding = part.encoding
    if encoding in PLAIN:
        octets = _whole(message, style.of_attached(message))
        if encoding in ("", "7bit") and not style.signed and not octets.isascii():
            part.put("Content-Transfer-Encoding", "8bit")
        return octets
    # RFC 2046 5.2.1 forbids to encode a message; some do it, and ``email`` takes the code for a message.
    octets = _octets(message, Style(attached=True, signed=True))
    return octets if message.fields else octets.removeprefix(b"\r\n")


def _lines(text: bytes) -> bytes:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text.replace(b"\n", b"\r\n")


# multipart


def _multipart(part: Part, below: list[bytes], style: Style) -> bytes:
    delimiter = b"--" + _boundary(part, below, style).encode("ascii")
    pieces = [] if part.preamble is None else [_lines(_margin(part.preamble)), b"\r\n"]
    pieces += [delimiter, b"\r\n", (b"\r\n" + delimiter + b"\r\n").join(below), b"\r\n", delimiter, b"--"]
    if part.epilogue or not style.is_open:
        pieces += [b"\r\n", _lines(_margin(part.epilogue or ""))]
    return b"".join(pieces)


def _margin(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _boundary(part: Part, below: list[bytes], style: Style) -> str:
    """The part's own boundary, or a new one that is in none of its parts."""
    found = part.boundary
    while not found or _stands_in(found, below):
        if found and style.signed:
            raise InputError("a multipart under a signature has a boundary that stands in its parts")
        found = f"==============={secrets.randbelow(10**19):019d}=="
        part.put("Content-Type", parameters.replaced(part.field("Content-Type"), "boundary", found))
    return found


def _stands_in(boundary: str, below: list[bytes]) -> bool:
    """Whether a line would be taken for the delimiter, or for the last one (RFC 2046 5.1.1)."""
    delimiter = b"--" + boundary.encode("ascii")
    lines = [
        line.removesuffix(b"\r").removeprefix(delimiter)
        for octets in below
        if delimiter in octets
        for line in octets.split(b"\n")
        if line.startswith(delimiter)
    ]
    return not all(end.removeprefix(b"--").strip(b" \t") for end in lines)


# multipart/signed


def _as_signed(part: Part, signature: Part, style: Style) -> bytes:
    """The part as its signature covers it (RFC 1847 2.1); as it most likely was where that does not show."""
    first = _octets(part, style._replace(signed=True, policy=part.policy))
    shown = signature.decoded
    if signatures.covers(shown, first) is not False:
        return first
    others = (_octets(part, each) for each in _styles(part, style)[1:])
    if found := next((octets for octets in others if signatures.covers(shown, octets)), b""):
        return found
    if style.attached or style.signed:
        return first  # as it came, and what it is worth is its sender's matter
    raise InputError(
        "a part of multipart/signed can only be written in a way that its signature does not cover: "
        "give the octets that were signed, or the whole message as octets"
    )


def _styles(part: Part, style: Style) -> list[Style]:
    """How ``as_bytes`` may have written the part for its signer, the most likely first, each different."""
    own = style._replace(signed=True)
    policy = part.policy
    found: dict[object, Style] = {}
    flat = policy.clone(max_line_length=0)
    for by, refolded in ((policy, False), (policy, True), (SMTP, True), (flat, True)):
        way = own._replace(policy=by, refolded=refolded)
        try:
            key = tuple(b"".join(way.fields(each)) for each in part.walk())
        except InputError:
            if not found:
                raise
            continue
        found.setdefault((key, False), way)
        if _is_open_to_doubt(part):
            found.setdefault((key, True), way._replace(is_open=True))
    return list(found.values())
