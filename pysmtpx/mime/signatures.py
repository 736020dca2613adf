"""Which of several ways to write a part is the one that was signed (RFC 1847).

Nothing is verified here, that takes keys. But a signature shows the digest of
what it covers: S/MIME whole, in its signed attributes (RFC 5652 11.2), OpenPGP
the first two octets (RFC 9580 5.2.3).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import Final, NamedTuple

_MESSAGE_DIGEST: Final = re.compile(
    rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04\x31[\x16-\x42]\x04([\x14\x1c\x20\x30\x40])", re.DOTALL
)
"""The attribute messageDigest in DER, up to the length of its value: a digest of 20 to 64 octets."""
_BY_SIZE: Final = {
    20: ("sha1",),
    28: ("sha224", "sha3_224"),
    32: ("sha256", "sha3_256"),
    48: ("sha384", "sha3_384"),
    64: ("sha512", "sha3_512"),
}
_OPENPGP: Final = {
    2: "sha1",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3_256",
    14: "sha3_512",
}
"""Hash algorithms by number (RFC 9580 9.5)."""
_OF_TEXT: Final = 1
"""The type of a signature of a canonical text document (RFC 9580 5.2.1)."""
_DKIM: Final = re.compile(rb"\r\ndkim-signature[ \t]*:((?:[^\r]|\r\n[ \t])*)", re.IGNORECASE)
_ARMOR: Final = re.compile(rb"-----BEGIN PGP SIGNATURE-----(.*?)-----END", re.DOTALL)


class _Packet(NamedTuple):
    """What of an OpenPGP signature of version 4 is hashed, and what the digest begins with."""

    hash_name: str
    hashed: bytes
    start: bytes


def covers(signature: bytes, content: bytes) -> bool | None:
    """Whether a signature, in binary or armored, was made of this content; None where it does not show."""
    if (packet := _packet(signature)) is not None:
        trailer = b"\x04\xff" + len(packet.hashed).to_bytes(4, "big")
        made = hashlib.new(packet.hash_name, content + packet.hashed + trailer, usedforsecurity=False)
        if made.digest()[:2] == packet.start:
            return True
        # Of a signature of text some hash lines without the blanks at their end.
        return None if packet.hashed[1] == _OF_TEXT else False
    shown = [
        signature[match.end() : match.end() + match[1][0]] for match in _MESSAGE_DIGEST.finditer(signature)
    ]
    names = {name for digest in shown for name in _BY_SIZE.get(len(digest), ())}
    if not names:
        return None
    return any(hashlib.new(name, content, usedforsecurity=False).digest() in shown for name in names)


def covers_body(message: bytes) -> bool | None:
    """Whether the first DKIM-Signature was made of this body (RFC 6376 3.7); None where it does not show."""
    head, _, body = message.partition(b"\r\n\r\n")
    if (found := _DKIM.search(b"\r\n" + head + b"\r\n")) is None:
        return None
    tags = _tags(found[1])
    shown, made = tags.get(b"bh", b""), hashlib.sha1 if tags.get(b"a") == b"rsa-sha1" else hashlib.sha256
    if b"l" in tags or not shown:
        return None
    if tags.get(b"c", b"").partition(b"/")[2] == b"relaxed":
        body = re.sub(rb"[ \t]+", b" ", body).replace(b" \r\n", b"\r\n")
    body = body.rstrip(b"\r\n") + b"\r\n"
    if tags.get(b"c", b"").endswith(b"/relaxed") and body == b"\r\n":
        body = b""
    return binascii.b2a_base64(made(body, usedforsecurity=False).digest(), newline=False) == shown


def _tags(field: bytes) -> dict[bytes, bytes]:
    """The tags of a DKIM-Signature, without white space (RFC 6376 3.2)."""
    pairs = (tag.partition(b"=") for tag in b"".join(field.split()).split(b";"))
    return {name: value for name, _, value in pairs}


def _packet(signature: bytes) -> _Packet | None:
    armored = _ARMOR.search(signature)
    try:
        octets = _unarmored(armored[1]) if armored else signature
        return _read(octets)
    except (IndexError, KeyError, binascii.Error):
        return None


def _unarmored(armor: bytes) -> bytes:
    """The octets behind the armor's own fields, without its checksum (RFC 9580 6.2)."""
    lines = armor.strip().splitlines()
    start = max((place for place, line in enumerate(lines) if b":" in line or not line.strip()), default=-1)
    return binascii.a2b_base64(b"".join(line for line in lines[start + 1 :] if not line.startswith(b"=")))


def _read(octets: bytes) -> _Packet | None:
    """The signature packet at the beginning (RFC 9580 4.2, 5.2.3)."""
    tag, length = octets[0], octets[1]
    if tag & 0xC0 == 0xC0 and tag & 0x3F == 2:
        start = 2 if length < 192 else 3 if length < 224 else 6
    elif tag & 0xC0 == 0x80 and tag >> 2 & 0xF == 2:
        start = 1 + (1, 2, 4, 0)[tag & 3]
    else:
        return None
    body = octets[start:]
    if body[0] != 4:
        return None
    end = 6 + int.from_bytes(body[4:6], "big")
    after = end + 2 + int.from_bytes(body[end : end + 2], "big")
    _ = body[after + 1]
    return _Packet(_OPENPGP[body[3]], body[:end], body[after : after + 2])
