"""TLS with a real Postfix: what is trusted, what is refused, and that nothing is sent after a refusal."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from support import certs, corpus
from support.mailbox import behind_trace, trace
from support.postfix import PostfixServer
from support.resumption import watch_handshakes

import pysmtpx
from pysmtpx import Server

SENDER, ALICE = "sender@elsewhere.test", "alice@mail.test"
MAIL = corpus.EIGHT_BIT["utf-8 body"]
MODES = ["starttls", "implicit"]


def server(postfix: PostfixServer, mode: str, **options: Any) -> Server:
    """Describe the port for the mode, trusting the tests' own authority."""
    port = postfix.smtps_port if mode == "implicit" else postfix.port
    options.setdefault("ssl_context", certs.client_context())
    return Server(options.pop("host", postfix.host), port, tls=mode, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [*MODES, "opportunistic"])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
@pytest.mark.parametrize("content", ["utf-8 body", "5 MB of 8-bit"])
def test_mail_arrives_over_tls(postfix: PostfixServer, mode: str, method: str, content: str) -> None:
    with pysmtpx.connect(server(postfix, mode)) as connection:
        assert connection.is_tls
        assert not connection.capabilities.starttls
        for _ in range(2):
            getattr(connection, method)(SENDER, [ALICE], corpus.EIGHT_BIT[content])
    for stored in postfix.mailbox(ALICE).take(2):
        assert behind_trace(stored) == corpus.EIGHT_BIT[content]
        assert re.search(rb"with (UTF8SMTP|ESMTP)S ", trace(stored))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_each_version_of_tls(postfix: PostfixServer, mode: str, version: str) -> None:
    context = certs.client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pysmtpx.connect(server(postfix, mode, ssl_context=context)) as connection:
        connection.send(SENDER, [ALICE], MAIL)
    assert behind_trace(postfix.mailbox(ALICE).take()[0]) == MAIL


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options",
    [
        {"ssl_context": certs.client_context(certs.stranger())},
        {"ssl_context": None},
        {"server_hostname": "other.test"},
        {"server_hostname": "127.0.0.2"},
    ],
    ids=["unknown authority", "the default store", "another name", "another address"],
)
def test_a_certificate_that_does_not_hold(
    postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch, mode: str, options: dict[str, Any]
) -> None:
    """FAULTS 69: refused, with neither AUTH nor MAIL after it."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    account = {"username": ALICE, "password": postfix.users[ALICE]}
    with pytest.raises(pysmtpx.TlsError):
        pysmtpx.connect(server(postfix, mode, **options, **account))
    log = postfix.session()
    assert "auth=" not in log
    assert "mail=" not in log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"host": "localhost"}, {"server_hostname": "mail.test"}])
def test_each_name_in_the_certificate(postfix: PostfixServer, mode: str, options: dict[str, str]) -> None:
    """FAULTS 70."""
    with pysmtpx.connect(server(postfix, mode, **options)) as connection:
        assert connection.is_tls


@pytest.mark.parametrize("mode", MODES)
def test_the_store_that_the_environment_names(
    postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    postfix.ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pysmtpx.connect(server(postfix, mode, ssl_context=None)) as connection:
        assert connection.is_tls


def test_a_client_certificate(postfix: PostfixServer) -> None:
    context = certs.client_context()
    postfix.ca.issue_cert("client@elsewhere.test").configure_cert(context)
    where = Server(postfix.host, postfix.certificate_port, tls="implicit", ssl_context=context)
    with pysmtpx.connect(where) as connection:
        connection.send(SENDER, [ALICE], MAIL)
    assert behind_trace(postfix.mailbox(ALICE).take()[0]) == MAIL


@pytest.mark.parametrize("files", [1, 2])
def test_a_client_certificate_from_files(
    postfix: PostfixServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    issued = postfix.ca.issue_cert("client@elsewhere.test")
    both, certificate, key, roots = (tmp_path / name for name in ("both", "certificate", "key", "roots"))
    issued.private_key_and_cert_chain_pem.write_to_path(both)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    postfix.ca.cert_pem.write_to_path(roots)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    given = str(both) if files == 1 else (str(certificate), str(key))
    where = Server(postfix.host, postfix.certificate_port, tls="implicit", client_certificate=given)
    with pysmtpx.connect(where) as connection:
        connection.send(SENDER, [ALICE], MAIL)
    assert behind_trace(postfix.mailbox(ALICE).take()[0]) == MAIL


def test_a_client_certificate_that_cannot_be_loaded(postfix: PostfixServer, tmp_path: Path) -> None:
    where = Server(
        postfix.host, postfix.certificate_port, tls="implicit", client_certificate=str(tmp_path / "none")
    )
    with pytest.raises(pysmtpx.InputError, match="client certificate cannot be loaded"):
        pysmtpx.connect(where)


def test_a_client_certificate_that_is_missing(postfix: PostfixServer) -> None:
    where = server(postfix, "implicit").replace(port=postfix.certificate_port)
    with pytest.raises(pysmtpx.SmtpError, match="No client certificate presented"):
        pysmtpx.connect(where)
    assert "mail=" not in postfix.session()


def test_starttls_is_required_and_not_offered(postfix: PostfixServer) -> None:
    """FAULTS 67: never in clear text instead."""
    with pytest.raises(pysmtpx.TlsError):
        pysmtpx.connect(Server(postfix.host, postfix.plain_port, tls="starttls"))
    assert "mail=" not in postfix.session()


def test_opportunistic_tls_goes_on_without(postfix: PostfixServer) -> None:
    with pysmtpx.connect(Server(postfix.host, postfix.plain_port, tls="opportunistic")) as connection:
        assert not connection.is_tls
        connection.send(SENDER, [ALICE], corpus.SEVEN_BIT["plain"])
    assert behind_trace(postfix.mailbox(ALICE).take()[0]) == corpus.SEVEN_BIT["plain"]


def test_implicit_tls_on_a_port_that_greets_in_clear(postfix: PostfixServer) -> None:
    with pytest.raises(pysmtpx.TlsError):
        pysmtpx.connect(server(postfix, "implicit").replace(port=postfix.port))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_pool_resumes_sessions(
    postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch, mode: str, version: str
) -> None:
    """And the mail arrives; a ticket of TLS 1.3, of which Postfix gives one a session, counts once."""
    context, resumed = certs.client_context(), watch_handshakes(monkeypatch)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pysmtpx.SmtpPool(server(postfix, mode, ssl_context=context), max_messages=1) as pool:
        for _ in range(3):
            pool.send(SENDER, [ALICE], MAIL)
    assert resumed == [False, True, version == "TLSv1_2"]
    assert [behind_trace(stored) for stored in postfix.mailbox(ALICE).take(3)] == [MAIL] * 3
