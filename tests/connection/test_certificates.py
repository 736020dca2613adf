"""FAULTS 69 and 70: whose certificate is taken, and whose is not."""

from __future__ import annotations

import datetime
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import certs
from support.fates import attempt, send
from support.transports import resolve_all

from pysmtpx import (
    ConnectionLost,
    SendResult,
    SmtpConnection,
    TlsError,
    connect,
)
from pysmtpx.net.tls import client_context, default_context
from pysmtpx.testing import MailServer

MODES = pytest.mark.parametrize("tls", ["implicit", "starttls"])


def _context(*names: str, ca: trustme.CA | None = None, **dates: datetime.datetime) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    (ca or certs.authority()).issue_cert(*names, **dates).configure_cert(context)
    return context


def _ago(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=days)


def _reach(context: ssl.SSLContext, tls: str, host: str, monkeypatch: Any, **options: Any) -> Any:
    """A message sent to a server of that name with such a certificate, or the error of connect()."""
    resolve_all(monkeypatch)
    options = {"ssl_context": certs.client_context(), **options}
    with MailServer(ssl_context=context, tls=tls, strict=False) as server:  # type: ignore[arg-type]
        conn = attempt(connect, host, server.port, tls=tls, **options)
        if isinstance(conn, SmtpConnection):
            with conn:
                return send(conn)
        assert [c for c in server.ledger.commands if "MAIL" in c or "AUTH" in c] == []
        return conn


BAD = {
    "expired": (lambda: _context("mail.test", not_before=_ago(20), not_after=_ago(10)), "expired"),
    "not yet": (lambda: _context("mail.test", not_before=_ago(-10)), "not yet valid"),
    "wrong name": (lambda: _context("other.test"), "mismatch"),
    "wrong suffix": (lambda: _context("mail.test.example"), "mismatch"),
    "unknown CA": (lambda: _context("mail.test", ca=certs.stranger()), "unable to get local issuer|self"),
}


@MODES
@pytest.mark.parametrize("case", BAD)
def test_a_certificate_that_is_not_to_be_trusted(case: str, tls: str, monkeypatch: Any) -> None:
    """FAULTS 69."""
    make, words = BAD[case]
    error = _reach(make(), tls, "mail.test", monkeypatch)
    assert isinstance(error, TlsError)
    assert not error.temporary
    with pytest.raises(TlsError, match=words):
        raise error


@MODES
@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mail.test", "mail.test"),
        ("MAIL.Test", "mail.test"),
        ("mail.test.", "mail.test"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("a.wild.test", "*.wild.test"),
    ],
)
def test_the_name_is_the_one_that_the_caller_gave(host: str, name: str, tls: str, monkeypatch: Any) -> None:
    """FAULTS 70: as an A-label, without its dot, and an address by its own entry (RFC 6125 6.4)."""
    assert isinstance(_reach(_context(name), tls, host, monkeypatch), SendResult)


@MODES
@pytest.mark.parametrize(
    ("host", "name"), [("127.0.0.1", "localhost"), ("a.b.wild.test", "*.wild.test"), ("::1", "127.0.0.1")]
)
def test_another_name_is_not_enough(host: str, name: str, tls: str, monkeypatch: Any) -> None:
    """FAULTS 70."""
    assert isinstance(_reach(_context(name), tls, host, monkeypatch), TlsError)


@MODES
@pytest.mark.parametrize("client_certificate", [False, True])
@pytest.mark.parametrize("host", ["mail.test", "127.0.0.1"])
def test_a_name_in_the_subject_alone_counts_for_nothing(
    host: str, client_certificate: bool, tls: str, monkeypatch: Any, tmp_path: Path
) -> None:
    """FAULTS 70: subjectAltName alone counts (RFC 9525 2), in every context that is made here."""
    context, roots = certs.common_name_only(tmp_path, host)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    own = tmp_path / "own.pem"
    certs.authority().issue_cert("robot@client.test").private_key_and_cert_chain_pem.write_to_path(own)
    options = {"ssl_context": None, "client_certificate": str(own) if client_certificate else None}
    error = _reach(context, tls, host, monkeypatch, **options)
    assert isinstance(error, TlsError)
    assert "mismatch" in str(error)


@MODES
def test_server_hostname_is_checked_in_place_of_the_host(tls: str, monkeypatch: Any) -> None:
    """FAULTS 70."""
    context = _context("front.test")
    assert isinstance(
        _reach(context, tls, "10.11.12.13", monkeypatch, server_hostname="front.test"), SendResult
    )
    assert isinstance(_reach(context, tls, "front.test", monkeypatch, server_hostname="back.test"), TlsError)


@MODES
def test_ssl_cert_file_names_the_roots(tls: str, monkeypatch: Any, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    certs.authority().cert_pem.write_to_path(roots)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert isinstance(
        _reach(_context("mail.test"), tls, "mail.test", monkeypatch, ssl_context=None), TlsError
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    result = _reach(_context("mail.test"), tls, "mail.test", monkeypatch, ssl_context=None)
    assert isinstance(result, SendResult)


def test_no_version_under_tls_1_2(monkeypatch: Any) -> None:
    old = _context("mail.test")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    context = default_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert isinstance(_reach(old, "implicit", "mail.test", monkeypatch, ssl_context=None), TlsError)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@MODES
def test_both_versions_of_today(version: ssl.TLSVersion, tls: str, monkeypatch: Any) -> None:
    context = _context("mail.test")
    context.minimum_version = context.maximum_version = version
    assert isinstance(_reach(context, tls, "mail.test", monkeypatch), SendResult)


@MODES
def test_a_client_certificate(tls: str, monkeypatch: Any, tmp_path: Path) -> None:
    own = certs.authority().issue_cert("robot@client.test")
    pem = tmp_path / "own.pem"
    own.private_key_and_cert_chain_pem.write_to_path(pem)
    roots = tmp_path / "roots.pem"
    certs.authority().cert_pem.write_to_path(roots)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    context = _context("mail.test")
    context.verify_mode = ssl.CERT_REQUIRED
    certs.authority().configure_trust(context)
    resolve_all(monkeypatch)
    with MailServer(ssl_context=context, tls=tls) as server:  # type: ignore[arg-type]
        options = {"tls": tls, "ssl_context": client_context(str(pem)), "auth": "EXTERNAL"}
        with connect("mail.test", server.port, **options) as conn:
            assert isinstance(send(conn), SendResult)
        assert server.messages[0].user == "robot@client.test"


@MODES
def test_a_server_that_wants_a_certificate_and_gets_none(tls: str, monkeypatch: Any) -> None:
    """FAULTS 69: under TLS 1.3 the refusal comes after our side of the handshake is over."""
    context = _context("mail.test")
    context.verify_mode = ssl.CERT_REQUIRED
    certs.authority().configure_trust(context)
    error = _reach(context, tls, "mail.test", monkeypatch)
    assert isinstance(error, TlsError | ConnectionLost)
