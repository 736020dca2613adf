"""Certificates of the tests' own authority."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import trustme

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
