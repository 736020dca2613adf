"""`pysmtpx.checking` against servers of each kind of trouble: the cure must be named."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support.certs import authority, client_context, server_context, stranger
from support.daemon import CLOSED_PORT

import pysmtpx
from pysmtpx.checking import Check, check, looking
from pysmtpx.testing import Event, MailServer
from pysmtpx.wire.certificate import read_certificate

ACCOUNT = {"username": "ann", "password": "s3cret-word"}


@pytest.fixture(autouse=True)
def _trusting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setattr(looking, "LOOK_TIMEOUT", 2.0)


def problem(seen: Check) -> tuple[str, str]:
    (first, *others) = [each for each in seen.findings if each.level == "problem"]
    assert not others, others
    assert not seen.ok
    return first.what, first.cure


def test_a_proxy_or_a_function_that_fails_is_what_is_wrong() -> None:
    seen = check("mail.example.org", 465, proxy=f"http://127.0.0.1:{CLOSED_PORT}")
    what, cure = problem(seen)
    assert what.count("cannot be reached") == 1
    assert "[" not in what
    assert cure == "Check the host and port of proxy=…, and that the proxy runs."
    assert isinstance(seen.error, pysmtpx.ProxyError)

    def shut(host: str, port: int, seconds: float) -> socket.socket:
        raise OSError("the tunnel is shut")

    what, cure = problem(check("mail.example.org", 465, dial=shut))
    assert what == "the function dial could not connect: the tunnel is shut"
    assert "Look at what the function dial does" in cure


def test_a_server_in_order() -> None:
    with MailServer(ssl_context=server_context("localhost"), users={"ann": "s3cret-word"}) as server:
        seen = check(
            "localhost",
            server.port,
            tls="starttls",
            sender="ann@example.org",
            recipients=["bob@example.com"],
            **ACCOUNT,
        )
        assert server.ledger.count == 0
    assert seen.ok, seen.findings
    assert seen.addresses[0].seconds is not None
    assert seen.before_tls is not None
    assert seen.before_tls.starttls
    assert seen.after_tls is not None
    assert not seen.after_tls.starttls
    assert seen.tls is not None
    assert seen.tls.version == "TLSv1.3"
    assert seen.verified
    assert seen.tls.certificate is not None
    assert seen.tls.certificate.names == ("localhost",)
    assert seen.mechanism == "SCRAM-SHA-512-PLUS"
    assert seen.logged_in
    assert [each.accepted for each in seen.envelope] == [True, True]


def test_it_is_plain_values_without_a_secret() -> None:
    with MailServer(users={"ann": "s3cret-word"}) as server:
        seen = check(server.url, **ACCOUNT)
    text = json.dumps(seen.as_dict())
    assert "s3cret" not in text
    assert "s3cret" not in repr(seen)
    assert json.loads(text)["ok"] is True


def test_the_certificate_reads_as_openssl_reads_it() -> None:
    with MailServer(ssl_context=server_context("localhost", "127.0.0.1", "::1"), tls="implicit") as server:
        seen = check("localhost", server.port, tls="implicit")
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            client_context().wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            said = secure.getpeercert()
    assert said is not None
    assert seen.tls is not None
    own = seen.tls.certificate
    assert own is not None
    assert own.not_after.timestamp() == ssl.cert_time_to_seconds(str(said["notAfter"]))
    assert own.not_before.timestamp() == ssl.cert_time_to_seconds(str(said["notBefore"]))
    assert set(own.names) == {"localhost", "127.0.0.1", "::1"}
    assert "O=trustme" in own.subject


@pytest.mark.parametrize("tls", ["starttls", "none"])
def test_clear_text_to_a_port_that_speaks_tls(tls: str) -> None:
    with MailServer(ssl_context=server_context("localhost"), tls="implicit") as server:
        port = server.port
        what, cure = problem(check("localhost", port, tls=tls))
    assert "speaks TLS from the first octet" in what
    assert f"smtps://localhost:{port}" in cure


def test_tls_to_a_port_that_speaks_in_clear() -> None:
    with MailServer(strict=False) as server:
        port = server.port
        what, cure = problem(check("localhost", port, tls="implicit"))
    assert "speaks SMTP in clear first" in what
    assert f"smtp://localhost:{port}" in cure


def test_a_certificate_from_a_stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stranger().cert_pem.write_to_path(tmp_path / "stranger.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "stranger.pem"))
    with MailServer(ssl_context=server_context("localhost"), users={"ann": "s3cret-word"}) as server:
        seen = check("localhost", server.port, tls="starttls", **ACCOUNT)
        assert not any("AUTH" in verbs for verbs in server.ledger.commands)
    what, cure = problem(seen)
    assert "authority that is not trusted" in what
    assert "localhost" in what
    assert str(tmp_path / "stranger.pem") in what
    assert "SSL_CERT_FILE" in cure
    assert not seen.verified
    assert seen.after_tls is not None


def test_a_certificate_for_another_name() -> None:
    with MailServer(ssl_context=server_context("mail.test")) as server:
        what, cure = problem(check("localhost", server.port, tls="starttls"))
    assert "not for localhost" in what
    assert "mail.test" in what
    assert "server_hostname" in cure


def test_no_starttls() -> None:
    with MailServer() as server:
        what, cure = problem(check("localhost", server.port, tls="starttls"))
    assert "does not offer STARTTLS" in what
    assert "465" in cure


def test_a_wrong_password() -> None:
    with MailServer(users={"ann": "another"}) as server:
        seen = check(server.url, **ACCOUNT)
    _, cure = problem(seen)
    assert "app password" in cure
    assert seen.logged_in is False


def test_auth_is_offered_under_tls_only() -> None:
    extensions = ["PIPELINING"]
    with MailServer(
        ssl_context=server_context("localhost"),
        extensions=[*extensions, "STARTTLS"],
        mechanisms=[],
        tls_extensions=[*extensions, "AUTH PLAIN"],
    ) as server:
        what, cure = problem(check("localhost", server.port, tls="none", **ACCOUNT))
    assert "no AUTH" in what
    assert 'tls="starttls"' in cure


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        what, cure = problem(check("127.0.0.1", sock.getsockname()[1]))
    assert "refused" in what
    assert "Nothing listens" in cure


def test_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(looking.socket, "getaddrinfo", fail)
    what, cure = problem(check("mail.nowhere.example"))
    assert "cannot be looked up" in what
    assert "spelling" in cure


@pytest.mark.parametrize(
    ("options", "address", "cure"),
    [
        ({"require_auth": True}, "bob@example.com", "username and password"),
        ({"refuse": {"bob@example.com": "550 5.1.1 unknown"}}, "bob@example.com", "no such mailbox"),
        ({"refuse": {"bob@example.com": "451 4.7.1 greylisted"}}, "bob@example.com", "refused for now"),
        ({"refuse": {"bob@example.com": "554 5.7.1 relay denied"}}, "bob@example.com", "log in"),
    ],
)
def test_an_envelope_that_is_refused(options: dict[str, object], address: str, cure: str) -> None:
    with MailServer(**options) as server:  # type: ignore[arg-type]
        seen = check(server.url, sender="ann@example.org", recipients=address)
        assert server.ledger.count == 0
    assert cure in problem(seen)[1]


def test_an_address_of_another_script_needs_a_server_that_takes_it() -> None:
    with MailServer() as server:
        assert check(server.url, recipients="jürgen@example.com").ok
    with MailServer(extensions=["PIPELINING"]) as server:
        what, cure = problem(check(server.url, recipients="jürgen@example.com"))
        assert server.ledger.commands[-1] == ["EHLO", "QUIT"]
    assert "SMTPUTF8" in what
    assert "ASCII address" in cure


def test_a_server_that_takes_one_connection_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not know yet that the session before has ended."""
    monkeypatch.setattr(looking, "BUSY_PAUSE", 0.05)

    def verdict(event: Event) -> str | None:
        is_busy = event.verb == "CONNECT" and event.connection % 2
        return "421 4.7.0 too many concurrent connections" if is_busy else None

    with MailServer(verdict=verdict) as server:
        seen = check(server.url, recipients="bob@example.com")
    assert seen.ok, seen.findings
    assert seen.before_tls is not None
    assert [each.accepted for each in seen.envelope] == [True, True]


def test_a_server_that_takes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "BUSY_PAUSE", 0.05)
    with MailServer(replies={"CONNECT": "554 5.7.1 no"}) as server:
        what, _ = problem(check(server.url))
    assert "554 5.7.1 no" in what


def test_lmtp_and_a_socket(tmp_path: Path) -> None:
    with MailServer(protocol="lmtp", path=tmp_path / "lmtp") as server:
        seen = check(server.url, recipients=["ann@example.org"])
    assert seen.ok, seen.findings
    assert seen.server.startswith("lmtp+unix:///")


def test_arguments_that_cannot_be_right_are_refused_before_anything_is_dialled() -> None:
    with MailServer() as server:
        with pytest.raises(pysmtpx.InputError):
            check(server.url, recipients=["a b@example.com"])
        assert server.ledger.connections == []


@pytest.mark.parametrize("octets", [b"", b"0", b"0\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", bytes(1000)])
def test_a_hostile_certificate_is_none(octets: bytes) -> None:
    assert read_certificate(octets) is None


def test_server_and_pool_give_the_same() -> None:
    with MailServer() as first, MailServer(refuse={"bob@example.com": "550 5.1.1 unknown"}) as second:
        seen = pysmtpx.Server.from_url(first.url).check(recipients="bob@example.com")
        with pysmtpx.SmtpPool([first.url, second.url]) as pool:
            of_each = pool.check(recipients="bob@example.com")
    assert isinstance(seen, Check)
    assert seen.ok
    assert [each.ok for each in of_each] == [True, False]


def test_the_import_of_pysmtpx_does_not_pay_for_it() -> None:
    code = "import sys, pysmtpx; pysmtpx.SmtpPool; sys.exit('pysmtpx.checking' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
