"""Contexts and channel binding."""

from __future__ import annotations

import datetime
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from support import certs

from pysmtpx.net import tls
from pysmtpx.net.tls import client_context, default_context, end_point_binding

pytestmark = pytest.mark.everywhere


@pytest.fixture(autouse=True)
def _no_roots_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


def test_the_default_verifies_everything() -> None:
    context = default_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 50  # certifi's


def test_the_default_is_made_once() -> None:
    assert default_context() is default_context()


def test_the_environment_names_the_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tmp_path / "roots.pem"
    certs.authority().cert_pem.write_to_path(roots)
    before = default_context()
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    assert len(default_context().get_ca_certs()) == 1
    monkeypatch.setenv("SSL_CERT_FILE", "")
    assert default_context() is before or len(default_context().get_ca_certs()) > 50


def test_a_directory_of_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL looks in it when it needs one, so none is loaded at first, certifi's least of all."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert default_context().get_ca_certs() == []


def test_a_client_certificate_leaves_the_default_alone(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    certs.authority().issue_cert("robot@client.test").private_key_and_cert_chain_pem.write_to_path(own)
    context = client_context(str(own))
    assert context is not default_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert client_context(str(own)) is not context


# -- tls-server-end-point ----------------------------------------------------------------


def _certificate(key: Any, algorithm: Any, **options: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        # Long enough for lengths of two octets and three in the DER.
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mail.test")] * 40), critical=False)
    )
    return builder.sign(key, algorithm, **options).public_bytes(serialization.Encoding.DER)


def _rsa() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


CASES: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "rsa sha256": (lambda: _certificate(_rsa(), hashes.SHA256()), "sha256"),
    "rsa sha384": (lambda: _certificate(_rsa(), hashes.SHA384()), "sha384"),
    "rsa sha512": (lambda: _certificate(_rsa(), hashes.SHA512()), "sha512"),
    "rsa sha224": (lambda: _certificate(_rsa(), hashes.SHA224()), "sha224"),
    "ecdsa sha256": (
        lambda: _certificate(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        "sha256",
    ),
    "ecdsa sha384": (
        lambda: _certificate(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        "sha384",
    ),
    "ecdsa sha512": (
        lambda: _certificate(ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        "sha512",
    ),
    "ed25519": (lambda: _certificate(ed25519.Ed25519PrivateKey.generate(), None), None),
    "rsa pss": (
        lambda: _certificate(
            _rsa(), hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        ),
        None,
    ),
}


class _Shows:
    """Stands for a socket whose peer showed this certificate."""

    def __init__(self, certificate: bytes | None) -> None:
        self._certificate = certificate

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._certificate


@pytest.mark.parametrize("case", CASES)
def test_the_binding_hashes_the_certificate_by_its_own_hash(case: str) -> None:
    """FAULTS 83 (RFC 5929 4.1)."""
    make, name = CASES[case]
    certificate = make()
    want = None if name is None else hashlib.new(name, certificate).digest()
    assert end_point_binding(_Shows(certificate)) == want  # type: ignore[arg-type]


@pytest.mark.parametrize("oid", ["2a864886f70d010104", "2a864886f70d010105", "2a8648ce3d0401"])
def test_md5_and_sha_1_are_replaced(oid: str) -> None:
    """RFC 5929 4.1: by SHA-256."""
    algorithm = bytes([6, len(oid) // 2]) + bytes.fromhex(oid) + b"\x05\x00"
    inner = b"\x30\x02\x01\x00" + b"\x30" + bytes([len(algorithm)]) + algorithm
    certificate = b"\x30" + bytes([len(inner)]) + inner
    assert end_point_binding(_Shows(certificate)) == hashlib.sha256(certificate).digest()  # type: ignore[arg-type]


@pytest.mark.parametrize("certificate", [None, b"", b"\x30", b"\x30\x82", b"\x30\x00", b"nonsense"])
def test_no_certificate_no_binding(certificate: bytes | None) -> None:
    assert end_point_binding(_Shows(certificate)) is None  # type: ignore[arg-type]


def test_the_binding_of_a_live_connection_is_what_the_server_hashes() -> None:
    """FAULTS 83: and tls-unique, which Python returns under TLS 1.3 too, is not it."""
    context = certs.server_context()
    left, right = socket.socketpair()
    done: list[Any] = []

    def serve() -> None:
        with context.wrap_socket(left, server_side=True) as sock:
            done.append(sock.recv(1))

    thread = threading.Thread(target=serve)
    thread.start()
    with certs.client_context().wrap_socket(right, server_hostname="mail.test") as sock:
        binding = end_point_binding(sock)
        certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None
        assert binding == hashlib.sha256(certificate).digest()
        sock.sendall(b"x")
        thread.join()
    assert done == [b"x"]


def test_the_table_names_hashes_that_exist() -> None:
    assert set(tls._HASHES.values()) <= hashlib.algorithms_available
