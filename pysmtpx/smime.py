"""S/MIME (RFC 8551): a function for ``before_send`` that signs what leaves, by ``cryptography``."""

from __future__ import annotations

import base64
import os
import re
import secrets
from datetime import UTC, datetime
from email import message_from_bytes
from typing import Any, Final, NoReturn

from .errors import InputError
from .extras import needs
from .frames import conceals
from .message import NARROW, prepare
from .private_keys import octets_of, of_file
from .wire.envelope import MailObject

_FIELD: Final = re.compile(rb"\r\n(?![ \t])")
"""Where a field ends and another one begins."""
_OF_CONTENT: Final = b"content-"
_PLAIN: Final = b"Content-Type: text/plain; charset=us-ascii"
"""What a message without the field is (RFC 2045 5.2)."""
_VERSION: Final = b"MIME-Version: 1.0"
_WIDTH: Final = 76


class Signer:
    """Signs each message by one certificate, detached (multipart/signed); for ``before_send``.

    ``certificate_file`` is a PEM file (``certificate`` its octets or text) with
    the certificate, and behind it those of the authorities between it and a
    root, which go along. The key, of RSA or an elliptic curve (P-256, say), is
    ``key_file``, ``key`` or ``key_variable``; ``key_password`` opens one that is
    encrypted. Both are read once; the key is never shown, and never pickled.

    What is signed is in 7 bits, whatever the server takes: somebody behind it
    might have to alter it else (RFC 8551 3.1.3). From, Subject and other fields
    that are not of the content are not signed: DKIM does that.

    Safe in any thread. Raises ``InputError`` for what cannot be right, such as
    a key of another certificate, and ``MissingExtra`` where ``pysmtpx[smime]`` is
    not installed.
    """

    @conceals
    def __init__(
        self,
        *,
        certificate_file: str | os.PathLike[str] | None = None,
        certificate: str | bytes | None = None,
        key_file: str | os.PathLike[str] | None = None,
        key: str | bytes | None = None,
        key_variable: str | None = None,
        key_password: str | bytes | None = None,
    ) -> None:
        needs("smime", "cryptography")
        self._pkcs7 = needs("smime", "cryptography.hazmat.primitives.serialization.pkcs7")
        self._hash = needs("smime", "cryptography.hazmat.primitives.hashes").SHA256
        first, *others = _certificates(certificate_file, certificate)
        self._certificate, self._others = first, others
        self._key = _private(octets_of(key_file, key, key_variable), key_password)
        _check(first, self._key)

    @conceals
    def __call__(self, octets: bytes, mail: MailObject) -> bytes:
        """The octets of a message whose content is signed.

        Raises ``InputError`` for content by BINARYMIME, and for what cannot be
        written in 7 bits.
        """
        if mail.mail_params is not None and mail.mail_params.body == "BINARYMIME":
            raise InputError("content by BINARYMIME cannot be signed by S/MIME")
        fields, entity = _parted(octets)
        boundary = secrets.token_hex(24).encode()
        signature = base64.b64encode(self._signature(entity))
        lines = [signature[start : start + _WIDTH] for start in range(0, len(signature), _WIDTH)]
        return b"\r\n".join(
            [
                *fields,
                b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";',
                b' micalg=sha-256; boundary="' + boundary + b'"',
                b"",
                b"This is an S/MIME signed message (RFC 8551).",
                b"--" + boundary,
                entity,
                b"--" + boundary,
                b'Content-Type: application/pkcs7-signature; name="smime.p7s"',
                b"Content-Transfer-Encoding: base64",
                b'Content-Disposition: attachment; filename="smime.p7s"',
                b"",
                *lines,
                b"--" + boundary + b"--",
                b"",
            ]
        )

    def _signature(self, entity: bytes) -> bytes:
        pkcs7 = self._pkcs7
        builder = pkcs7.PKCS7SignatureBuilder().set_data(entity)
        builder = builder.add_signer(self._certificate, self._key, self._hash())
        for each in self._others:
            builder = builder.add_certificate(each)
        # Its lines end in CRLF already, and must not be looked at again.
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
        encoding = needs("smime", "cryptography.hazmat.primitives.serialization").Encoding.DER
        signature: bytes = builder.sign(encoding, options)
        return signature

    def __repr__(self) -> str:
        return f"<Signer {self._certificate.subject.rfc4514_string()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("signers are not pickled: they hold a key")


# What is signed.


def _parted(octets: bytes) -> tuple[list[bytes], bytes]:
    """The fields that stay outside, and the content as a MIME entity of 7 bits."""
    head, between, body = (b"", b"", octets[2:]) if octets[:2] == b"\r\n" else octets.partition(b"\r\n\r\n")
    if not between:
        head = head.removesuffix(b"\r\n")
    fields = [field for field in _FIELD.split(head) if field]
    inner = [field for field in fields if _name(field).startswith(_OF_CONTENT)]
    outer = [field for field in fields if not _name(field).startswith(_OF_CONTENT)]
    if b"mime-version" not in map(_name, outer):
        outer.append(_VERSION)
    if b"content-type" not in map(_name, inner):
        inner.insert(0, _PLAIN)
    entity = b"\r\n".join([*inner, b"", body])
    return outer, entity if entity.isascii() else _in_seven_bits(entity)


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()


def _in_seven_bits(entity: bytes) -> bytes:
    """As it would go to a server without 8BITMIME."""
    mail = prepare(message_from_bytes(entity), NARROW, sender="", recipients=["postmaster"], complete=False)
    return b"".join(mail.content.for_bdat())


# Certificates and keys.


def _certificates(file: str | os.PathLike[str] | None, given: str | bytes | None) -> list[Any]:
    if (file is None) is (given is None):
        raise InputError("give one of certificate_file and certificate")
    octets = given.encode() if isinstance(given, str) else given
    if file is not None:
        octets = of_file("certificate_file", file)
    x509 = needs("smime", "cryptography.x509")
    try:
        found: list[Any] = x509.load_pem_x509_certificates(octets)
    except (ValueError, TypeError):
        raise InputError("the certificate is not one in PEM") from None
    return found


@conceals
def _private(octets: bytes, password: str | bytes | None) -> Any:
    if isinstance(password, str):
        password = password.encode()
    serialization = needs("smime", "cryptography.hazmat.primitives.serialization")
    try:
        return serialization.load_pem_private_key(octets, password)
    except (ValueError, TypeError, needs("smime", "cryptography.exceptions").UnsupportedAlgorithm):
        pass  # its text is for nobody: it may quote what it read
    raise InputError("the key is not one in PEM, or key_password does not open it")


def _check(certificate: Any, key: Any) -> None:
    serialization = needs("smime", "cryptography.hazmat.primitives.serialization")
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise InputError("the key is not that of the first certificate")
    rsa = needs("smime", "cryptography.hazmat.primitives.asymmetric.rsa")
    ec = needs("smime", "cryptography.hazmat.primitives.asymmetric.ec")
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise InputError("the key is neither of RSA nor of an elliptic curve such as P-256")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise InputError(f"the certificate has run out, on {certificate.not_valid_after_utc:%Y-%m-%d}")
