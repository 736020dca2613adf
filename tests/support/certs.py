"""Certificates of the tests' own authority."""

from __future__ import annotations

import datetime
import functools
import ssl
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1", "::1", "mail.test")


@functools.cache
def authority() -> trustme.CA:
    """Return the one authority that the servers' certificates come from."""
    return trustme.CA()


@functools.cache
def stranger() -> trustme.CA:
    """Return another authority, which no client trusts."""
    return trustme.CA()


def server_files(folder: Path, *names: str) -> tuple[Path, Path]:
    """Write a certificate for the names (NAMES by default) and its key; return both paths."""
    issued = authority().issue_cert(*(names or NAMES))
    chain, key = folder / "server.pem", folder / "server.key"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return chain, key


def client_context(ca: trustme.CA | None = None) -> ssl.SSLContext:
    """Return a verifying client context that trusts the given authority (`authority()` by default) alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (ca or authority()).configure_trust(context)
    return context


def server_context(*names: str) -> ssl.SSLContext:
    """Return a server's context with a certificate for the names (NAMES by default)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert(*(names or NAMES)).configure_cert(context)
    return context


def demanding_context(*names: str) -> ssl.SSLContext:
    """The same, of a server that wants a certificate of the tests' authority from its client, too."""
    context = server_context(*names)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    return context


def common_name_only(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context whose certificate has the name in its subject alone, and a file to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "cn.pem", folder / "cn.key"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context, chain
