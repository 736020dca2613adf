"""DKIM (RFC 6376, RFC 8463): a function for ``before_send`` that signs what leaves, by ``dkimpy``."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from .errors import InputError
from .extras import needs
from .frames import conceals
from .private_keys import octets_of
from .wire.address import domain_to_ascii
from .wire.envelope import MailObject

OVERSIGNED: Final = ("from", "reply-to", "subject", "date", "message-id", "to", "cc")
"""Signed once more than they are there, so that nobody can add another one (RFC 6376 8.15)."""
PRESENT: Final = (
    "sender",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
)
"""The same where there is one."""
SIGNED: Final = (
    "in-reply-to",
    "references",
    "auto-submitted",
    "feedback-id",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "resent-date",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-message-id",
)
"""Signed as often as they are there: a forwarder may add one in front."""

_ED25519: Final = bytes.fromhex("302e020100300506032b657004220420")
"""How the key stands in PKCS #8 (RFC 8410 7): 32 octets follow."""
_SEED: Final = 32
_LEAST_BITS: Final = 1024
"""Of RSA: with fewer a verifier must not accept it (RFC 8301 3.2)."""
_MOST_OF_A_HEADER: Final = 1024 * 1024
_SELECTOR: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9_-]+)*")
_BLANKS: Final = re.compile(rb"[\t ]+")


class Signer:
    """Signs each message for one domain by one key; for ``before_send``.

    The public key stands in DNS at ``selector._domainkey.domain``. The private
    one is a PEM file (``key_file``), its text or octets (``key``), or in a
    variable of the environment (``key_variable``): RSA, of 1,024 bits at least
    (2,048 are usual), or Ed25519, for which ``dknewkey`` writes base64 instead.
    It is read once, never shown, and never pickled. For two signatures give
    ``before_send`` two signers: not every receiver knows Ed25519.

    Header section and body are canonicalized "relaxed". ``oversign`` are fields
    that nobody may add to; ``sign`` are others that are signed where they are
    there; the usual ones without being told. ``identity`` is the i= tag.

    Safe in any thread. Raises ``InputError`` for what cannot be right, and
    ``MissingExtra`` where ``pysmtpx[dkim]`` is not installed.
    """

    @conceals
    def __init__(
        self,
        domain: str,
        selector: str,
        *,
        key_file: str | os.PathLike[str] | None = None,
        key: str | bytes | None = None,
        key_variable: str | None = None,
        oversign: Iterable[str] = (),
        sign: Iterable[str] = (),
        identity: str | None = None,
    ) -> None:
        self.domain = domain_to_ascii(domain).lower()
        if not isinstance(selector, str) or not _SELECTOR.fullmatch(selector):
            raise InputError("a selector is letters, digits and hyphens, with dots perhaps")
        self.selector = selector
        self._dkim = needs("dkim", "dkim")
        self.algorithm, self._key = _private(octets_of(key_file, key, key_variable), self._dkim)
        self._oversigned = (*OVERSIGNED, *_names("oversign", oversign))
        self._signed = (*SIGNED, *_names("sign", sign))
        self._identity = None if identity is None else _identity(identity, self.domain)

    @conceals
    def __call__(self, octets: bytes, mail: MailObject) -> bytes:
        """The octets behind a DKIM-Signature of them.

        Raises ``InputError`` for what has no From, and for content by BINARYMIME,
        whose lines have no end that a verifier would know.
        """
        if mail.mail_params is not None and mail.mail_params.body == "BINARYMIME":
            raise InputError("content by BINARYMIME cannot be signed by DKIM")
        head, between, body = octets.partition(b"\r\n\r\n")
        if not between:
            head = head.removesuffix(b"\r\n")
        if len(head) > _MOST_OF_A_HEADER:
            raise InputError("the header section is too long to be signed")
        # The signature is of the canonical body, and dkimpy's way to that is quadratic in runs of blanks.
        canonical = _BLANKS.sub(b" ", body).replace(b" \r\n", b"\r\n")
        message = self._dkim.DKIM(head + b"\r\n\r\n" + canonical, signature_algorithm=self.algorithm)
        signature: bytes = message.sign(
            self.selector.encode(),
            self.domain.encode(),
            self._key,
            identity=self._identity,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=self._fields(message.headers),
        )
        return signature + octets

    def _fields(self, headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """The names of h=, one as often as it is covered."""
        there = [name.lower() for name, _ in headers]
        if b"from" not in there:
            raise InputError("a message without From cannot be signed by DKIM (RFC 6376 5.4)")
        names: list[bytes] = []
        for name in dict.fromkeys(self._oversigned):
            names += [name.encode()] * (there.count(name.encode()) + 1)
        for name in PRESENT:
            if (count := there.count(name.encode())) and name not in self._oversigned:
                names += [name.encode()] * (count + 1)
        for name in dict.fromkeys(self._signed):
            if name not in (*self._oversigned, *PRESENT):
                names += [name.encode()] * there.count(name.encode())
        return names

    def __repr__(self) -> str:
        return f"<Signer {self.selector}._domainkey.{self.domain} {self.algorithm.decode()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("signers are not pickled: they hold a key")


def _names(what: str, given: Iterable[str]) -> tuple[str, ...]:
    names = tuple(given)
    if isinstance(given, str) or not all(isinstance(each, str) and each.isascii() for each in names):
        raise InputError(f"{what} is a list of names of header fields")
    found = tuple(each.lower() for each in names)
    if any(not each.replace("-", "").isalnum() for each in found):
        raise InputError(f"{what} is a list of names of header fields")
    return found


def _identity(identity: str, domain: str) -> bytes:
    _, at, of = identity.rpartition("@")
    if not at or not identity.isascii() or not f".{of.lower()}".endswith(f".{domain}"):
        raise InputError("identity is an address in the domain, or in one below it (RFC 6376 3.5)")
    return identity.encode()


# Keys. No error tells of what is in them.


@conceals
def _private(octets: bytes, dkim: Any) -> tuple[bytes, bytes]:
    """The algorithm, and the key as dkimpy wants it."""
    if b"ENCRYPTED" in octets:
        raise InputError("the key is encrypted: decrypt it (openssl pkey), and guard the file instead")
    is_pem = b"-----BEGIN" in octets
    lines = [line.strip() for line in octets.splitlines()]
    try:
        der = base64.b64decode(b"".join(line for line in lines if b"-" not in line), validate=True)
    except binascii.Error:
        der = b""
    seed = der.removeprefix(_ED25519) if is_pem and der.startswith(_ED25519) else der
    if len(seed) == _SEED:
        needs("dkim", "nacl.signing")
        return b"ed25519-sha256", base64.b64encode(seed)
    bits = _bits(octets, dkim) if is_pem else None
    if bits is None:
        raise InputError(f"not a private key of RSA or Ed25519 in PEM{_instead(octets)}")
    if bits < _LEAST_BITS:
        raise InputError(f"an RSA key of {bits} bits is too short: no verifier may accept it (RFC 8301 3.2)")
    return b"rsa-sha256", octets


@conceals
def _instead(octets: bytes) -> str:
    """What seems to have been given in the place of the key; nothing of it."""
    if b"PUBLIC KEY-----" in octets:
        return ": this is the public one, for DNS"
    return "" if b"-----BEGIN" in octets else ": it begins with -----BEGIN; a path goes into key_file"


@conceals
def _bits(octets: bytes, dkim: Any) -> int | None:
    try:
        return int(dkim.parse_pem_private_key(octets)["modulus"].bit_length())
    except Exception:  # of its parser anything may come
        return None
