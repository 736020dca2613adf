"""FAULTS 69 and 70: whose certificate is taken, and whose is not."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import certs
from support.fates import attempt, send
from support.scripted import Peer, ScriptedServer
from support.transports import resolve_all

from pysmtpx import (
    ConnectionLost,
    RetryPolicy,
    SendResult,
    SmtpConnection,
    SmtpPool,
    TlsError,
    connect,
)
from pysmtpx.net.stream import Stream
from pysmtpx.net.tls import client_context, default_context
from pysmtpx.testing import MailServer

pytestmark = pytest.mark.everywhere

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
    resolve_all(monkeypatch)
    with MailServer(ssl_context=certs.demanding_context("mail.test"), tls=tls) as server:  # type: ignore[arg-type]
        options = {"tls": tls, "ssl_context": client_context(str(pem)), "auth": "EXTERNAL"}
        with connect("mail.test", server.port, **options) as conn:
            assert isinstance(send(conn), SendResult)
        assert server.messages[0].user == "robot@client.test"


def _demanding(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = certs.demanding_context("mail.test", "127.0.0.1")
    context.minimum_version = context.maximum_version = version
    return context


def _of_a_stranger(context: ssl.SSLContext) -> None:
    certs.stranger().issue_cert("robot@client.test").configure_cert(context)


def _expired(context: ssl.SSLContext) -> None:
    own = certs.authority().issue_cert("robot@client.test", not_before=_ago(20), not_after=_ago(10))
    own.configure_cert(context)


REFUSED = {"none": lambda context: None, "of another CA": _of_a_stranger, "expired": _expired}


def _pooled(*target: Any, **options: Any) -> None:
    url = "smtp://{}:{}".format(*target)
    with SmtpPool(url, retry=RetryPolicy(backoff=0.01), **options) as pool:
        pool.send("s@x.example", "a@x.example", b"Subject: x\r\n\r\n")


@MODES
@pytest.mark.parametrize("reach", [connect, _pooled])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("certificate", REFUSED)
def test_a_client_certificate_that_is_refused(
    certificate: str, version: ssl.TLSVersion, reach: Any, tls: str
) -> None:
    """FAULTS 121: under TLS 1.3 the refusal comes after our side of the handshake is over."""
    context = certs.client_context()
    REFUSED[certificate](context)

    def script(peer: Peer) -> None:
        if tls == "starttls":
            peer.starttls()
        peer.tls(_demanding(version))
        raise AssertionError("the server took it")

    with ScriptedServer(script) as server:
        with pytest.raises(TlsError) as caught:
            reach("127.0.0.1", server.port, tls=tls, ssl_context=context)
        tried, *looked = server.peers
        assert len(looked) <= 1, "it was tried once; a second dial asks whose certificates the server takes"
        assert not any(verb in peer.received for verb in (b"MAIL", b"AUTH") for peer in (tried, *looked))
    assert not caught.value.temporary
    assert not caught.value.safe_to_retry
    assert caught.value.stage == "starttls"


@pytest.mark.parametrize("reads", [True, False])
def test_a_refusal_that_comes_to_light_when_we_write(reads: bool) -> None:
    """FAULTS 121: the server is gone by the time when we write; its alert says why."""
    refused = threading.Event()

    def script(peer: Peer) -> None:
        peer.starttls()
        try:
            peer.tls(_demanding(ssl.TLSVersion.TLSv1_3))
        finally:
            refused.set()

    context = certs.client_context()
    with ScriptedServer(script) as server, pytest.MonkeyPatch.context() as patch:
        real = Stream.check_idle

        def later(stream: Stream) -> None:
            if stream.is_tls:
                assert refused.wait(10)
            if reads:
                real(stream)

        patch.setattr(Stream, "check_idle", later)
        with pytest.raises(TlsError, match="refused the TLS handshake"):
            connect("127.0.0.1", server.port, tls="starttls", ssl_context=context)


def test_an_alert_in_mid_session_is_a_loss() -> None:
    """Once the server has said something the handshake is over: it may be tried again."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.line()
        raw = socket.socket(fileno=os.dup(peer.sock.fileno()))
        with raw:
            raw.sendall(b"\x15\x03\x03\x00\x02\x02\x50")  # not encrypted: a record that nobody can read

    context = certs.server_context()
    with ScriptedServer(script, tls=context) as server:
        conn = server.connect(tls="implicit", ssl_context=certs.client_context())
        with conn, pytest.raises(ConnectionLost):
            conn.noop()
