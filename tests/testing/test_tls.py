"""The channel binding of the server's own certificate (RFC 5929 4)."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from support import certs

from pysmtpx.testing.tls import end_point_of, server_certificate


def test_the_certificate_of_a_context_is_found(tmp_path: Path) -> None:
    chain, key = certs.server_files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    expected = ssl.PEM_cert_to_DER_cert(
        chain.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    )
    assert server_certificate(context) == expected


@pytest.mark.parametrize(
    ("version", "is_found"), [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)]
)
def test_also_where_the_server_wants_a_client_certificate(version: ssl.TLSVersion, is_found: bool) -> None:
    context = certs.server_context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    assert (server_certificate(context) is not None) is is_found


def test_a_context_without_certificate_has_none() -> None:
    assert server_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) is None


def certificate(oid: str, tbs: bytes = b"\x30\x03\x02\x01\x01") -> bytes:
    """The outline of a certificate: tbsCertificate, signatureAlgorithm, signatureValue."""
    encoded = bytes.fromhex(oid)
    algorithm = bytes([0x30, len(encoded) + 2, 6, len(encoded)]) + encoded
    content = tbs + algorithm + b"\x03\x02\x00\x01"
    length = bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2, "big")
    return b"\x30" + length + content


@pytest.mark.parametrize(
    ("oid", "name"),
    [
        ("2a864886f70d010104", "sha256"),
        ("2a864886f70d010105", "sha256"),
        ("2a864886f70d01010b", "sha256"),
        ("2a864886f70d01010c", "sha384"),
        ("2a864886f70d01010d", "sha512"),
        ("2a8648ce3d040302", "sha256"),
        ("2a8648ce3d040303", "sha384"),
        ("2a8648ce3d040304", "sha512"),
    ],
)
@pytest.mark.parametrize("size", [3, 300])
def test_the_hash_is_that_of_the_signature(oid: str, name: str, size: int) -> None:
    tbs = b"\x30\x82" + size.to_bytes(2, "big") + bytes(size)
    der = certificate(oid, tbs)
    assert end_point_of(der) == hashlib.new(name, der).digest()


def test_a_signature_without_a_hash_of_its_own_has_no_end_point() -> None:
    assert end_point_of(certificate("2b6570")) is None
