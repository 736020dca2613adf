"""What a certificate says of itself, also where nobody vouches for it (RFC 5280 4.1).

``ssl`` tells what stands in a certificate only after it was verified, and who looks for the reason why that
failed needs it before. What is read here is for people to look at: nothing is trusted because of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from .reply import printable

_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_ALTERNATIVE_NAMES: Final = bytes.fromhex("551d11")
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87
_LABELS: Final = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("550406"): "C",
}
_MOST_NAMES: Final = 1000
_SHOWN: Final = 200
"""Octets of one name: a certificate comes from a stranger."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of one certificate, as it states them."""

    subject: str
    """Such as ``CN=mail.example.org, O=Example``; empty where only ``names`` say whose it is."""
    issuer: str
    names: tuple[str, ...]
    """DNS names and IP addresses that it is for (subjectAltName; a subject does not count, RFC 9525 2)."""
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 over the whole, in hexadecimal."""
    key_fingerprint: str
    """SHA-256 over its SubjectPublicKeyInfo (RFC 5280 4.1): a renewed certificate may have the same key."""

    @property
    def is_self_signed(self) -> bool:
        """It names itself as its issuer."""
        return self.subject == self.issuer

    def days_left(self, now: datetime | None = None) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.not_after - (now or datetime.now(UTC))).days


def read_certificate(der: bytes) -> Certificate | None:
    """The facts of a certificate in DER, or None where it cannot be read; never raises."""
    try:
        return _read(der)
    except (ValueError, IndexError, StopIteration, OverflowError, RuntimeError):
        return None


def fingerprints_of(der: bytes) -> tuple[str, ...]:
    """``sha256:`` over a certificate and ``spki:`` over its public key, as ``Server`` has them; never raises.

    Of what cannot be read the second is missing.
    """
    own = read_certificate(der)
    key = () if own is None else (f"spki:{own.key_fingerprint}",)
    return (f"sha256:{hashlib.sha256(der).hexdigest()}", *key)


def distinguished_name(der: bytes) -> str:
    """A name in DER, such as ``CN=Authority, O=Example``; empty where it cannot be read, never raises."""
    try:
        (_, name), *_ = _elements(der)
        return _name(name)
    except (ValueError, IndexError):
        return ""


def _read(der: bytes) -> Certificate:
    (_, outer), *_ = _elements(der)
    (_, to_be_signed), *_ = _elements(outer)
    fields = [element for element in _elements(to_be_signed) if element[0] != _VERSION]
    _serial, _algorithm, issuer, validity, subject, key, *rest = fields
    not_before, not_after = (_time(tag, value) for tag, value in _elements(validity[1]))
    extensions = next((value for tag, value in rest if tag == _EXTENSIONS), b"")
    return Certificate(
        subject=_name(subject[1]),
        issuer=_name(issuer[1]),
        names=tuple(_names(extensions)),
        not_before=not_before,
        not_after=not_after,
        fingerprint=hashlib.sha256(der).hexdigest(),
        key_fingerprint=hashlib.sha256(_encoded(*key)).hexdigest(),
    )


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and content of each DER element, one after the other (X.690 8.1)."""
    at = 0
    while at < len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(der[start : start + count], "big"), start + count
        if start + length > len(der):
            raise ValueError("an element is longer than what it is in")
        yield tag, der[start : start + length]
        at = start + length


def _encoded(tag: int, content: bytes) -> bytes:
    """The whole of an element again: DER has one spelling of each (X.690 10.1)."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _name(der: bytes) -> str:
    """A distinguished name: the attributes that people know."""
    parts = []
    for _, relative in _elements(der):
        for _, pair in _elements(relative):
            (_, oid), (_, value), *_ = _elements(pair)
            if oid in _LABELS:
                parts.append(f"{_LABELS[oid]}={printable(value[:_SHOWN])}")
    return ", ".join(parts)


def _time(tag: int, value: bytes) -> datetime:
    """UTCTime has two digits of the year, 50 to 99 in the last century (RFC 5280 4.1.2.5.1)."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _names(extensions: bytes) -> list[str]:
    found: list[str] = []
    for _, sequence in _elements(extensions):
        for _, extension in _elements(sequence):
            (_, oid), *values = _elements(extension)
            if oid != _ALTERNATIVE_NAMES or not values:
                continue
            for _, names in _elements(values[-1][1]):
                found += [_alternative(tag, value) for tag, value in _elements(names)]
    return [name for name in found if name][:_MOST_NAMES]


def _alternative(tag: int, value: bytes) -> str:
    if tag == _DNS_NAME:
        return printable(value[:_SHOWN])
    return str(ip_address(value)) if tag == _IP_ADDRESS else ""
