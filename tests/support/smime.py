"""Certificates for S/MIME, with an authority between them and the root, and OpenSSL that verifies."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PASSWORD = "p@ss"


class Authority:
    """A root, an authority under it, and whom that one certifies."""

    def __init__(self) -> None:
        self._root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._root = _issue("root", self._root_key, "root", self._root_key, is_authority=True)
        self._middle = _issue("middle", self._key, "root", self._root_key, is_authority=True)

    def write(self, folder: Path) -> Path:
        """Write ``root.pem``, and for RSA and EC ``*-certificate.pem``, ``*-key.pem``, ``*-locked.pem``."""
        (folder / "root.pem").write_bytes(self._root.public_bytes(Encoding.PEM))
        for name in ("rsa", "ec"):
            key = (
                rsa.generate_private_key(65537, 2048)
                if name == "rsa"
                else ec.generate_private_key(ec.SECP256R1())
            )
            for kind, days in (("certificate", 30), ("expired", -1)):
                leaf = _issue("alice@mail.test", key, "middle", self._key, days=days)
                chain = [leaf.public_bytes(Encoding.PEM), self._middle.public_bytes(Encoding.PEM)]
                (folder / f"{name}-{kind}.pem").write_bytes(b"".join(chain))
            form = Encoding.PEM, PrivateFormat.PKCS8
            (folder / f"{name}-key.pem").write_bytes(key.private_bytes(*form, NoEncryption()))
            locked = key.private_bytes(*form, BestAvailableEncryption(PASSWORD.encode()))
            (folder / f"{name}-locked.pem").write_bytes(locked)
        return folder


def _issue(
    name: str, key: Any, issuer: str, issuer_key: Any, *, is_authority: bool = False, days: int = 30
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(named(issuer), named(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=False)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def verified(octets: bytes, folder: Path, command: str = "cms") -> bytes | None:
    """The content that OpenSSL finds rightly signed; None where it is not."""
    (folder / "message").write_bytes(octets)
    told = subprocess.run(
        ["openssl", command, "-verify", "-in", folder / "message", "-CAfile", folder / "root.pem"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return None if told.returncode else told.stdout
