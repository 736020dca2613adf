"""Errors that name the cure: the mistakes of newcomers, made with real servers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.certs import authority, client_context, server_files, stranger
from support.chasquid import ChasquidServer
from support.dovecot import USERS, DovecotServer
from support.exim import EximServer
from support.opensmtpd import OpensmtpdServer
from support.patience import LONG
from support.postfix import PostfixServer
from support.realserver import RealServer, on

import pysmtpx
from pysmtpx import SmtpError, TlsError, tls_failures

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
SENDER, ALICE = "sender@elsewhere.test", "alice@mail.test"
ACCOUNT: dict[str, Any] = {"username": ALICE, "password": USERS[ALICE]}
TRUSTING: dict[str, Any] = {"ssl_context": client_context()}


def failure(call: Any, *arguments: Any, **options: Any) -> SmtpError:
    """What a call fails with; its text ends with the name of its section."""
    with pytest.raises(SmtpError) as caught:
        call(*arguments, **options)
    error = caught.value
    assert str(error).endswith(f"[{type(error).__name__.lower()}]")
    print(error)
    return error


@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_clear_text_to_a_port_of_tls(postfix: PostfixServer, tls: str) -> None:
    begun = monotonic()
    error = failure(pysmtpx.connect, postfix.host, postfix.smtps_port, tls=tls)
    assert monotonic() - begun < 5
    assert type(error) is TlsError
    assert f"Use smtps://127.0.0.1:{postfix.smtps_port}, or tls=" in error.text


def tls_to_a_port_in_clear(host: str, port: int) -> None:
    error = failure(pysmtpx.connect, host, port, tls="implicit", **TRUSTING)
    assert type(error) is TlsError
    assert error.text.startswith("the server speaks in clear first, and not TLS: 220 ")
    assert f"Use smtp://{host}:{port}, or tls=" in error.text


@on(EximServer, OpensmtpdServer, ChasquidServer)
def test_tls_to_a_port_in_clear(server: RealServer) -> None:
    tls_to_a_port_in_clear(server.host, server.port)


def test_tls_to_a_port_in_clear_of_postfix_and_dovecot(
    postfix: PostfixServer, dovecot: DovecotServer
) -> None:
    for server in (postfix, dovecot):
        tls_to_a_port_in_clear(server.host, server.port)


def test_530_for_want_of_starttls(postfix: PostfixServer) -> None:
    with pysmtpx.connect(postfix.host, postfix.strict_port) as smtp:
        error = failure(smtp.send, SENDER, [ALICE], CONTENT)
    assert type(error) is TlsError
    assert error.text == (
        "the server demands TLS first (RFC 3207 4): 530 5.7.0 Must issue a STARTTLS command first."
        ' Use tls="starttls" in place of "none"; or port 465 with smtps://.'
    )


def test_no_auth_in_clear_but_starttls(postfix: PostfixServer) -> None:
    error = failure(pysmtpx.connect, postfix.host, postfix.port, tls="none", **ACCOUNT)
    assert 'AUTH is likely offered only after STARTTLS here: use tls="starttls"' in error.cure


@on(EximServer, OpensmtpdServer)
def test_no_starttls(server: RealServer) -> None:
    error = failure(pysmtpx.connect, server.host, server.port, tls="starttls", **TRUSTING)
    assert type(error) is TlsError
    assert "does not offer STARTTLS (RFC 3207). Try port 465 (smtps://) or 587." in error.text


def test_a_private_authority(postfix: PostfixServer) -> None:
    for port, tls in ((postfix.port, "starttls"), (postfix.smtps_port, "implicit")):
        error = failure(pysmtpx.connect, postfix.host, port, tls=tls)
        assert isinstance(error, TlsError)
        assert error.certificate is not None
        assert "127.0.0.1" in error.certificate.names
        assert "SSL_CERT_FILE" in error.cure


def test_another_name(postfix: PostfixServer) -> None:
    error = failure(
        pysmtpx.connect, postfix.host, postfix.port, tls="starttls", server_hostname="other.test", **TRUSTING
    )
    assert "Use a name that it is for as host (localhost, 127.0.0.1, ::1, mail.test)" in error.cure


@pytest.mark.parametrize("ours", [None, "stranger's"])
def test_a_certificate_of_ours_is_demanded(
    postfix: PostfixServer, ours: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postfix shakes hands, and then refuses by a reply."""
    monkeypatch.setenv("SSL_CERT_FILE", str(postfix.base / "ca.pem"))
    options: dict[str, Any] = {}
    if ours:
        issued = stranger().issue_cert("ann@example.org")
        for blob in (issued.private_key_pem, *issued.cert_chain_pems):
            blob.write_to_path(tmp_path / "own.pem", append=True)
        options["client_certificate"] = str(tmp_path / "own.pem")
    error = failure(pysmtpx.connect, postfix.host, postfix.certificate_port, tls="implicit", **options)
    assert "client_certificate=(file, key_file)" in error.cure


def test_who_was_refused(postfix: PostfixServer) -> None:
    with pysmtpx.connect(postfix.host, postfix.port) as smtp:
        error = failure(smtp.send, SENDER, [f"nobody{n}@mail.test" for n in range(5)], CONTENT)
    assert error.text.startswith("5 of 5 recipients were refused: nobody0@mail.test (550 5.1.1 <nobody0@")
    assert error.text.endswith(" and 2 more")


def test_a_wrong_password(postfix: PostfixServer) -> None:
    options = {**TRUSTING, **ACCOUNT, "password": "wrong"}
    error = failure(pysmtpx.connect, postfix.host, postfix.port, tls="starttls", **options)
    assert "want an app password or OAuth" in error.cure


@pytest.fixture
def demanding(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """OpenSSL's own server, which demands a certificate, by the versions of TLS that the test names."""
    openssl = shutil.which("openssl") or pytest.skip("Missing here: openssl")
    chain, key = server_files(tmp_path, "localhost", "127.0.0.1")
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    options = f"-accept 127.0.0.1:0 -cert {chain} -key {key} -CAfile {tmp_path}/ca.pem -Verify 1"
    command = [openssl, "s_server", "-verify_return_error", *options.split(), *request.param]
    pipe = subprocess.PIPE  # with an input that has ended it hangs up
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith(b"ACCEPT"))
        yield int(line.rpartition(b":")[2])
        server.kill()


@pytest.mark.parametrize(
    ("demanding", "told"), [([], True), (["-tls1_2"], True), (["-tls1_3"], False)], indirect=["demanding"]
)
@pytest.mark.parametrize("ours", [None, "stranger's"])
def test_openssl_tells_whose_certificates_it_takes(
    demanding: int, told: bool, ours: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under TLS 1.3 alone it tells only whom it has shaken hands with."""
    monkeypatch.setattr(tls_failures, "_SECONDS", LONG)
    options: dict[str, Any] = {"ssl_context": client_context()}
    if ours:
        issued = stranger().issue_cert("ann@example.org")
        for blob in (issued.private_key_pem, *issued.cert_chain_pems):
            blob.write_to_path(tmp_path / "own.pem", append=True)
        options["ssl_context"].load_cert_chain(tmp_path / "own.pem")
    error = failure(pysmtpx.connect, "localhost", demanding, tls="implicit", **options)
    assert isinstance(error, TlsError)
    assert not error.safe_to_retry
    named = "(it takes those issued by O=trustme" in error.text
    assert named is told
    assert ("openssl s_client -connect localhost:" in error.cure) is not told
    assert ("does not take our certificate" if ours else "demands a certificate of ours") in error.text
