"""Errors that name the cure: each mistake, made with a server of its kind, and what the error says."""

from __future__ import annotations

import pickle
import select
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import compat32
from time import monotonic
from typing import Any

import pytest
from support.certs import authority, client_context, common_name_only, server_context, stranger
from support.daemon import CLOSED_PORT
from support.patience import LONG
from support.scripted import CUTS, Peer, ScriptedServer

import pysmtpx
from pysmtpx import (
    AllRecipientsFailed,
    AuthenticationError,
    InputError,
    MechanismUnavailable,
    NotSupportedError,
    SmtpError,
    TlsError,
    tls_failures,
)
from pysmtpx.flow.plan import make_plan
from pysmtpx.net import tls_first
from pysmtpx.shortening import shortened
from pysmtpx.testing import MailServer, Stall
from pysmtpx.wire.capabilities import Capabilities

ACCOUNT: dict[str, Any] = {"username": "ann", "password": "geheim-1"}
MAIL = ("ann@example.org", ["bea@example.com"], b"Subject: x\r\n\r\nhello\r\n")


def failure(call: Any, *arguments: Any, **options: Any) -> SmtpError:
    """What a call fails with; its text ends with the name of its section, and it pickles."""
    with pytest.raises(SmtpError) as caught:
        call(*arguments, **options)
    error = caught.value
    assert str(error).endswith(f" [{error.anchor}]")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "geheim" not in f"{error}{error!r}"
    return error


def connecting(server: MailServer, **options: Any) -> SmtpError:
    """What connecting to it fails with."""
    return failure(pysmtpx.connect, server.host, server.port, **options)


# -- 530 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["MAIL", "DATA", "FINAL"])
@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("Must issue a STARTTLS command first", TlsError, "the server demands TLS first"),
        ("Authentication required", AuthenticationError, "the server demands AUTH"),
        ("no", AuthenticationError, "the server demands a log-in, or TLS"),
    ],
)
def test_530(verb: str, is_tls: bool, said: str, kind: type[SmtpError], told: str) -> None:
    """FAULTS 19: the codes are the same; the text and the line tell what is demanded."""
    tls: dict[str, Any] = {"ssl_context": server_context()} if is_tls else {}
    options: dict[str, Any] = {"tls": "starttls", "ssl_context": client_context()} if is_tls else {}
    with (
        MailServer(replies={verb: f"530 5.7.0 {said}"}, strict=False, **tls) as server,
        pysmtpx.connect(server.host, server.port, **options) as smtp,
    ):
        error = failure(smtp.send, *MAIL)
        assert type(error) is kind
        assert error.text.startswith(f"{told} (RFC")
        assert (error.reply.code, error.temporary, error.safe_to_retry) == (530, False, False)  # type: ignore[union-attr]
        assert (
            "TLS is on" if is_tls and kind is TlsError else "Use tls="
        ) in error.cure or kind is not TlsError
        assert error.rejected_recipients
        assert not smtp.closed


def test_530_to_every_recipient() -> None:
    with (
        MailServer(replies={"RCPT": "530 5.7.0 Authentication required"}) as server,
        pysmtpx.connect(server.url) as smtp,
    ):
        error = failure(smtp.send, *MAIL)
        assert type(error) is AllRecipientsFailed
        assert error.text == (
            "1 of 1 recipients were refused: bea@example.com (530 5.7.0 Authentication required)."
            " Give username and password (or token)."
        )


def test_530_although_we_are_logged_in() -> None:
    """Then it is about the account, or the sender."""
    with (
        MailServer(
            users={"ann": "geheim-1"}, replies={"MAIL": "530 5.7.0 Authentication required"}
        ) as server,
        pysmtpx.connect(server.url, **ACCOUNT) as smtp,
    ):
        assert failure(smtp.send, *MAIL).cure.startswith("A log-in was accepted before")


# -- what is not offered -------------------------------------------------------------------------------------


def test_no_auth_in_clear_but_starttls() -> None:
    """Somebody has switched TLS off, or this machine's port is tried: the option to change is named."""
    context = server_context()
    with MailServer(ssl_context=context, users={"ann": "x"}, extensions=["STARTTLS", "AUTH"]) as server:
        error = connecting(server, tls="none", **ACCOUNT)
    assert type(error) is NotSupportedError
    assert error.text == (
        "the server does not offer AUTH (RFC 4954). AUTH is likely offered only after STARTTLS here:"
        ' use tls="starttls" (it is off or failed).'
    )


def test_no_auth_at_all() -> None:
    with MailServer() as server:
        error = connecting(server, **ACCOUNT)
    assert "This port takes no log-in: use port 587 or 465" in error.cure


def test_no_starttls() -> None:
    with MailServer() as server:
        error = connecting(server, tls="starttls")
    assert type(error) is TlsError
    assert error.text == (
        "the server does not offer STARTTLS (RFC 3207). Try port 465 (smtps://) or 587. Only on a line that"
        ' nobody can listen to: tls="none" (?tls=none in a URL).'
    )


def test_a_wrong_password() -> None:
    with MailServer(users={"ann": "other"}) as server:
        error = connecting(server, **ACCOUNT)
    assert type(error) is AuthenticationError
    assert "want an app password or OAuth" in error.cure


def test_no_mechanism_in_common() -> None:
    with MailServer(tokens={"ann": "token"}) as server:
        error = connecting(server, **ACCOUNT)
    assert type(error) is MechanismUnavailable
    assert "a token takes the password's place" in error.cure


# -- TLS first, and clear text first -----------------------------------------------------------------------

IMPLICIT: dict[str, Any] = {"tls": "implicit", "ssl_context": client_context()}


@pytest.mark.parametrize("tls", ["none", "starttls", "opportunistic"])
def test_clear_text_to_a_port_of_tls(tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a ClientHello and says nothing: FAULTS 16. The call's time is far longer."""
    if tls != "none":
        monkeypatch.setattr(tls_first, "LOOK_AFTER", 0.2)
    with MailServer(ssl_context=server_context(), tls="implicit", strict=False) as server:
        begun = monotonic()
        error = connecting(server, tls=tls, connect_timeout=60)
        seconds = monotonic() - begun
        place = f"{server.host}:{server.port}"
    assert seconds < 5
    assert type(error) is TlsError
    assert error.text == (
        "the server says nothing in clear, and answers TLS from the first octet."
        f' Use smtps://{place}, or tls="implicit".'
    )
    assert (error.stage, error.temporary) == ("greeting", False)


def test_a_pool_dials_a_port_of_tls_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks once by a second dial: what is a mistake today is one in a second."""
    monkeypatch.setattr(tls_first, "LOOK_AFTER", 0.2)
    with (
        MailServer(ssl_context=server_context(), tls="implicit", strict=False) as server,
        pysmtpx.SmtpPool(server.host, port=server.port) as pool,
    ):
        begun = monotonic()
        error = failure(pool.send, *MAIL)
        assert monotonic() - begun < 5
    assert "answers TLS from the first octet" in error.text
    assert error.unsent_recipients == ("bea@example.com",)
    assert len(server.ledger.connections) <= 2


def _late(peer: Peer) -> None:
    """Greets by and by, as servers do that look up our name first, and judges who speaks before that."""
    if select.select([peer.sock], [], [], 0.5)[0]:
        peer.say(b"220 too early\r\n")
        return
    peer.greet()
    peer.rest()


@pytest.mark.parametrize("cut", CUTS)
def test_a_server_that_greets_late_is_waited_for(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second dial, which it answers in clear or not at all, changes nothing."""
    monkeypatch.setattr(tls_first, "LOOK_AFTER", 0.1)
    with ScriptedServer(_late, cut=cut) as server:
        server.connect().close()
    assert len(server.peers) == 2


def test_a_call_of_little_time_looks_earlier() -> None:
    with MailServer(replies={"CONNECT": Stall()}, strict=False) as server:
        begun = monotonic()
        error = connecting(server, connect_timeout=2.2)
        assert type(error) is pysmtpx.Timeout
        assert 2.2 <= monotonic() - begun < 5
        assert len(server.ledger.connections) == 2


def test_nobody_speaks_first_on_the_port_between_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does is taken for a robot there (postscreen), and nobody speaks TLS first on port 25."""
    monkeypatch.setattr(tls_first, "LOOK_AFTER", 0.1)
    with ScriptedServer(_late) as server:
        monkeypatch.setattr(tls_first, "_RELAY", server.port)
        server.connect().close()
    assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"220 mail.example.org ESMTP\r\n", "220 mail.example.org ESMTP"),
        (b"220-mail.example.org\r\n220 ready\r\n", "220 mail.example.org / ready"),
        (b"220 \x1b[2Jgeh\xff\r\n", r"220 \x1b[2Jgeh\xff"),
        (b"220 " + b"x" * 500 + b"\r\n", "xxx…"),
    ],
)
@pytest.mark.parametrize("cut", CUTS)
def test_tls_to_a_port_in_clear(said: bytes, shown: str, cut: str) -> None:
    """FAULTS 16: with the first line that it said."""

    def script(peer: Peer) -> None:
        peer.say(said)
        peer.rest()

    with ScriptedServer(script, cut=cut) as server:
        error = failure(server.connect, **IMPLICIT)
        place = f"127.0.0.1:{server.port}"
    assert type(error) is TlsError
    assert error.text.startswith("the server speaks in clear first, and not TLS: 220 ")
    assert f'{shown}. Use smtp://{place}, or tls="starttls".' in error.text
    assert isinstance(error.__cause__, ssl.SSLError)


@pytest.mark.parametrize("code", [421, 554])
def test_a_refusal_in_clear_on_a_port_of_tls(code: int) -> None:
    """It is the server's answer, and no sign of a wrong port."""

    def script(peer: Peer) -> None:
        peer.say(b"%d 4.7.0 too many connections\r\n" % code)
        peer.rest()

    with ScriptedServer(script) as server:
        error = failure(server.connect, **IMPLICIT)
    assert (error.reply.code, error.temporary) == (code, code == 421)  # type: ignore[union-attr]
    assert not error.cure


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"+OK POP3\r\n", b"HTTP/1.1 400 Bad Request\r\n"]
)
def test_tls_to_another_service(said: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.say(said)
        peer.rest()

    with ScriptedServer(script) as server:
        error = failure(server.connect, **IMPLICIT)
        assert f"Port {server.port} seems to be for something else" in error.cure
    assert "the server speaks neither TLS nor SMTP" in error.text


def test_clear_text_behind_the_answer_to_starttls() -> None:
    """The same without the wrong cure: the port is right."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.expect("STARTTLS")
        peer.say(b"220 go\r\n")
        peer.take(5)
        peer.say(b"500 what was that?\r\n")
        peer.rest()

    with ScriptedServer(script) as server:
        error = failure(server.connect, tls="starttls", ssl_context=client_context())
    assert "What came is not TLS" in error.text


# -- certificates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["implicit", "starttls", "opportunistic"])
def test_a_private_authority(tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subject, issuer, dates and names, the roots that were used, and what can be done."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    mode: Any = "implicit" if tls == "implicit" else "starttls"
    with MailServer(ssl_context=server_context(), tls=mode, strict=False) as server:
        error = connecting(server, tls=tls)
        said = [line for connection in server.ledger.commands for line in connection]
    assert type(error) is TlsError
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    own = error.certificate
    assert own is not None
    assert own.names[:2] == ("localhost", "127.0.0.1")
    assert f"its subject is {own.subject}, issued by {own.issuer}, valid from " in error.text
    assert (
        f"{own.not_before:%Y-%m-%d} to {own.not_after:%Y-%m-%d}, for localhost, 127.0.0.1, ::1 and 1 more;"
        in error.text
    )
    assert error.roots.startswith("certifi's roots (/")
    assert f"checked against {error.roots}" in error.text
    for way in ("SSL_CERT_FILE=", 'roots="authority.pem"', 'roots="system"'):
        assert way in error.cure
    assert said == ([] if tls == "implicit" else ["EHLO", "STARTTLS"])
    assert pickle.loads(pickle.dumps(error)).certificate == own


def test_roots_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    stranger().cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with MailServer(ssl_context=server_context(), strict=False) as server:
        error = connecting(server, tls="starttls")
    assert error.roots == f"SSL_CERT_FILE={tmp_path}/roots.pem"  # type: ignore[attr-defined]


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_another_name(tls: str) -> None:
    """The names that it is for are told."""
    context = server_context("mail.example.org", "smtp.example.org")
    mode: Any = tls
    with MailServer(ssl_context=context, tls=mode, strict=False) as server:
        error = connecting(server, tls=tls, ssl_context=client_context())
    assert "mismatch" in error.text
    assert error.cure == (
        "Use a name that it is for as host (mail.example.org, smtp.example.org), or server_hostname=…"
        " if you know that this is the server."
    )
    assert error.roots == "the roots of the given ssl_context"  # type: ignore[attr-defined]


def test_a_certificate_that_has_run_out() -> None:
    issued = authority().issue_cert("127.0.0.1", not_after=datetime(2020, 2, 3, tzinfo=UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with MailServer(ssl_context=context, strict=False) as server:
        error = connecting(server, tls="starttls", ssl_context=client_context())
    assert "certificate has expired" in error.text
    assert "to 2020-02-03" in error.text
    assert "must renew it" in error.cure
    assert "the clock of this machine" in error.cure


def test_one_that_is_signed_by_itself(tmp_path: Any) -> None:
    context, _ = common_name_only(tmp_path, "mail.example.org")
    with MailServer(ssl_context=context, strict=False) as server:
        error = connecting(server, tls="starttls")
    assert "its subject is CN=mail.example.org, signed by itself, valid from" in error.text
    assert "for no name (subjectAltName)" in error.text
    assert "SSL_CERT_FILE" in error.cure


# -- a certificate of ours -----------------------------------------------------------------------------------


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look may take as long as a busy machine needs."""
    monkeypatch.setattr(tls_failures, "_SECONDS", LONG)


def _demanding(version: str) -> ssl.SSLContext:
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    if version == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("ours", [None, "stranger's"])
def test_a_certificate_of_ours_is_demanded(
    version: str, tls: Any, ours: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 121: final, tried once, and which of ours was not taken."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    options: dict[str, Any] = {"tls": tls}
    if ours:
        issued = stranger().issue_cert("ann@example.org")
        for blob in (issued.private_key_pem, *issued.cert_chain_pems):
            blob.write_to_path(tmp_path / "own.pem", append=True)
        options["client_certificate"] = str(tmp_path / "own.pem")
    with (
        MailServer(ssl_context=_demanding(version), tls=tls, strict=False) as server,
        pysmtpx.SmtpPool(server.host, port=server.port, **options) as pool,
    ):
        error = failure(pool.send, *MAIL)
        # The second asks whose it takes, and ends before the handshake does.
        tried, looked = server.ledger.connections
        assert not {"MAIL", "AUTH"} & {*tried.commands, *looked.commands}
    assert type(error) is TlsError
    assert (error.temporary, error.safe_to_retry) == (False, False)
    if ours:
        named = shortened(f"{tmp_path}/own.pem", 80)
        assert f"it does not take our certificate ({named}: its subject is O=trustme" in error.text
        assert "issued by O=trustme" in error.text
        assert "which authority it must come from" in error.cure
    else:
        assert "it demands a certificate of ours (it names no authority), and was given none" in error.text
        assert error.cure == "Give yours: client_certificate=(file, key_file), in PEM."


def _handshake(kind: int, body: bytes) -> bytes:
    return bytes([kind, *len(body).to_bytes(3, "big")]) + body


def _nested(value: bytes, *tags: int) -> bytes:
    """DER: each tag around the one before."""
    for tag in tags:
        value = bytes([tag, len(value)]) + value
    return value


def _request(*organizations: str) -> bytes:
    """How a server of TLS 1.2 asks for a certificate (RFC 5246 7.4.4), a message across two records."""
    oid = _nested(b"\x55\x04\x0a", 0x06)
    names = [_nested(oid + _nested(each.encode(), 0x0C), 0x30, 0x31, 0x30) for each in organizations]
    listed = b"".join(len(der).to_bytes(2, "big") + der for der in names)
    body = b"\x01\x40" + b"\x00\x02\x04\x01" + len(listed).to_bytes(2, "big") + listed
    messages = [(2, bytes(38)), (11, bytes(40)), (13, body), (14, b"")]
    octets = b"".join(_handshake(*each) for each in messages)
    halves = octets[:50], octets[50:]
    return b"".join(b"\x16\x03\x03" + len(half).to_bytes(2, "big") + half for half in halves)


_REQUIRED = b"\x15\x03\x03\x00\x02\x02\x74"
"""The alert certificate_required (RFC 8446 6.2)."""


def _answering(tls: str, answer: bytes) -> Any:
    """What to do with each of the connections: the first is refused, and the next gets this answer."""

    def script(peer: Peer) -> None:
        if tls == "starttls":
            peer.say(b"220 mail.test\r\n")
            peer.expect("EHLO")
            peer.say(b"250-mail.test\r\n250 STARTTLS\r\n")
            peer.expect("STARTTLS")
            peer.say(b"220 go\r\n")
        head = peer.take(5)
        peer.take(int.from_bytes(head[3:], "big"))
        seen.append(peer)
        peer.say(_REQUIRED if len(seen) == 1 else answer)
        if len(seen) == 1 or answer:
            peer.rest()

    seen: list[Peer] = []
    return script


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Example"], "(it takes those issued by O=Example)"),
        (["A", "B", "C", "D", "E"], "(it takes those issued by O=A or O=B or O=C or 2 more)"),
        (["x\x1b[1m"], "O=x\\x1b[1m)"),
    ],
)
def test_the_error_names_whose_certificates_are_taken(
    tls: Any, cut: str, names: list[str], said: str
) -> None:
    """``ssl`` does not tell: another dial hears it in clear."""
    with ScriptedServer(_answering(tls, _request(*names)), cut=cut) as server:
        error = failure(pysmtpx.connect, "127.0.0.1", server.port, tls=tls)
    assert type(error) is TlsError
    assert not error.safe_to_retry
    assert "it demands a certificate of ours" in error.text
    assert said in error.text
    assert "\x1b" not in str(error)
    assert error.cure == "Give yours: client_certificate=(file, key_file), in PEM."


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x15\x03\x03\x00\x02\x02\x46", b"HTTP/1.1 400\r\n\r\n", b"\x16\x03\x03\xff\xff" * 60_000],
    ids=["gone", "protocol_version", "HTTP", "endless"],
)
@pytest.mark.parametrize(("tls", "starttls"), [("implicit", ""), ("starttls", " -starttls smtp")])
def test_where_whose_is_not_told_the_error_says_what_tells_it(tls: Any, starttls: str, answer: bytes) -> None:
    """A server with TLS 1.3 alone asks under its cover; for what is no handshake nobody waits."""
    with ScriptedServer(_answering(tls, answer)) as server:
        error = failure(pysmtpx.connect, "127.0.0.1", server.port, tls=tls)
        look = f"openssl s_client -connect 127.0.0.1:{server.port}{starttls} </dev/null"
    assert "it demands a certificate of ours, and was given none" in error.text
    assert error.cure.endswith(f'. "Acceptable client certificate CA names" of this tells whose: {look}')


# -- addresses -----------------------------------------------------------------------------------------------

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
TWO = "bea@example.com, eve@example.com"


def _message(**fields: str) -> EmailMessage:
    message = EmailMessage(policy=compat32)  # type: ignore[arg-type]
    for name, value in {"From": "ann@example.org", "To": "bea@example.com", **fields}.items():
        message[name] = value
    message.set_payload("hello\n")
    return message


@pytest.mark.parametrize("recipients", [TWO, [TWO], ["bea@example.com", TWO], [TWO.replace(",", ";")]])
def test_several_addresses_in_one_text(recipients: Any) -> None:
    place = len(recipients) if isinstance(recipients, list) else 1
    with MailServer() as server, pysmtpx.connect(server.url) as smtp, pysmtpx.SmtpPool(server.url) as pool:
        calls = [
            lambda: smtp.send("ann@example.org", recipients, CONTENT),
            lambda: smtp.send_message(_message(), recipients=recipients),
            lambda: pool.send("ann@example.org", recipients, CONTENT),
            lambda: pool.submit(_message(), recipients=recipients).result(30),
            lambda: pysmtpx.MailObject("ann@example.org", recipients, CONTENT),
        ]
        for call in calls:
            error = failure(call)
            assert type(error) is InputError
            assert error.text.startswith(
                f"recipient {place}: not a mailbox (it looks like several): 'bea@exam"
            )
            assert error.cure == (
                'These look like 2 addresses: give a list, as in ["a@example.org", "b@example.org"].'
            )
    assert server.ledger.messages == []


BAD = {
    "bob@exa mple.com": r"not a domain name: 'exa mple.com'",
    "bob@": "nothing behind the at sign",
    "bob smith@example.com": "a character that needs a quoted local part",
    "bob@example.com\r\nRCPT": "not a domain name",
    "": "empty",
    "mailto:bob@example.com": "a URL: leave out mailto:",
    "Bob <bob@example.com>": "without angle brackets or a display name",
    "bob@" + "x" * 5000: "longer than 256 octets",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda text: text[:20])
def test_a_refused_address_of_an_envelope(bad: str) -> None:
    """What it is (short, its controls escaped), why not, and which one it is."""
    shown = repr(bad if len(bad) < 80 else f"{bad[:80]}…")
    for sender, recipients, place in [
        ("ann@example.org", ["bea@example.com", bad], "recipient 2"),
        (bad or "bob@@", ["bea@example.com"], "sender"),
    ]:
        error = failure(pysmtpx.MailObject, sender, recipients, CONTENT)
        assert error.text.startswith(f"{place}: not a mailbox (")
        if bad or place != "sender":
            assert BAD[bad] in error.text
            assert shown in error.text


@pytest.mark.parametrize("name", ["To", "Cc", "Bcc"])
@pytest.mark.parametrize(
    ("value", "text", "place"),
    [
        ("bea@example.com, bob@exa_mple..com", "'bob@exa_mple..com'", "address 2"),
        ("bea@example.com, Bob <bob@-x.com>", "'bob@-x.com'", "address 2"),
        ("bob smith@example.com", "'bob smith@example.com'", "address 1"),
        ("bea@example.com, eve@example.com, bob@", "'bob@'", "address 3"),
    ],
)
def test_a_refused_address_of_a_header(name: str, value: str, text: str, place: str) -> None:
    with MailServer() as server, pysmtpx.connect(server.url) as smtp:
        message = _message()
        del message[name]
        message[name] = value
        error = failure(smtp.send_message, message)
    assert type(error) is InputError
    assert error.text.lower().startswith(name.lower())
    assert text in error.text
    assert place in error.text


def test_a_refused_address_of_a_header_that_is_no_recipient() -> None:
    with MailServer() as server, pysmtpx.connect(server.url) as smtp:
        error = failure(smtp.send_message, _message(**{"Reply-To": "ä@b, bob@ü..example"}))
        assert "Reply-To" in error.text
        assert "bob@" in error.text
        error = failure(smtp.send_message, _message(From="bob@-x.com"))
        assert error.text.startswith("From: not a mailbox (not a domain name: '-x.com'): 'bob@-x.com'")


def test_a_mailbox_without_a_domain_has_its_place_too() -> None:
    """It is refused when it is about to go to another machine."""
    mail = pysmtpx.MailObject("ann@example.org", ["bea@example.com", "root"], CONTENT)
    with pytest.raises(InputError, match=r"^recipient 2: a mailbox without a domain: 'root'; if the server"):
        make_plan(mail, Capabilities({}), protocol=pysmtpx.Protocol.SMTP, is_tls=False)


@pytest.mark.parametrize("count", [1, 3, 4, 1000])
def test_who_was_refused(count: int) -> None:
    """The first three, and how many more."""
    recipients = [f"user{number}@example.com" for number in range(count)]
    with (
        MailServer(replies={"RCPT": "550 5.1.1 no such user"}) as server,
        pysmtpx.connect(server.url) as smtp,
        pysmtpx.SmtpPool(server.url) as pool,
    ):
        for sender in (smtp, pool):
            error = failure(sender.send, "ann@example.org", recipients, CONTENT)
            more = f" and {count - 3} more" if count > 3 else ""
            assert error.text == (
                f"{count} of {count} recipients were refused: {', '.join(recipients[:3])}{more}"
                " (550 5.1.1 no such user)"
            )


# -- nobody there --------------------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    error = failure(pysmtpx.connect, "127.0.0.1", CLOSED_PORT)
    assert error.text == (
        f"cannot connect to port {CLOSED_PORT}: 127.0.0.1: Connection refused. Nothing listens on port"
        f" {CLOSED_PORT}: check the port (587, 465, 25) and that the server runs."
    )


def test_a_socket_that_is_not_there(tmp_path: Any) -> None:
    error = failure(pysmtpx.connect, str(tmp_path / "lmtp"), protocol="lmtp")
    assert error.cure == "Check that the server runs, and that you may open its socket."


def test_a_name_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure(pysmtpx.connect, "mial.example.org")
    assert error.text == (
        "mial.example.org cannot be looked up: Name or service not known. Check the spelling of the name, and"
        " that this machine's DNS works (try another name)."
    )


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["{0}:{1}", "localhost:{1}"])
def test_a_host_with_its_port(host: str) -> None:
    """As people write it: for a connection, a server, a pool and several servers."""
    with MailServer() as server:
        target = host.format("127.0.0.1", server.port)
        pysmtpx.connect(target).close()
        pysmtpx.connect(pysmtpx.Server(target)).close()
        for servers in (target, [target]):
            with pysmtpx.SmtpPool(servers) as pool:
                pool.send(*MAIL)
        assert len(server.messages) == 2


@pytest.mark.parametrize(
    ("arguments", "server"),
    [
        (("smtp.gmail.com:587",), ("smtp.gmail.com", 587, "starttls")),
        (("smtp.gmail.com:465",), ("smtp.gmail.com", 465, "implicit")),
        (("h.example:587", 587), ("h.example", 587, "starttls")),
        (("[2001:db8::1]:2525",), ("2001:db8::1", 2525, "starttls")),
        (("2001:db8::1",), ("2001:db8::1", 587, "starttls")),
        (("/run/lmtp:24",), ("/run/lmtp:24", 0, "none")),
    ],
)
def test_what_a_host_with_its_port_is(arguments: Any, server: Any) -> None:
    found = pysmtpx.Server(*arguments)
    assert (found.host, found.port, found.tls) == server


@pytest.mark.parametrize(
    "arguments",
    [("h.example:587", 25), ("h.example:0",), ("h.example:70000",), ("h:geheim",), ("h:1:2",)],
)
def test_what_is_no_host_with_a_port(arguments: Any) -> None:
    assert type(failure(pysmtpx.Server, *arguments)) is InputError


@pytest.mark.parametrize(("name", "meant"), [("timeout", "connect_timeout"), ("overlapp", "overlap")])
def test_a_keyword_that_is_none(name: str, meant: str) -> None:
    """FAULTS 111: the one that was likely meant is named, wherever it was given."""
    calls: list[Any] = [
        lambda **given: pysmtpx.connect("h.example", **given),
        lambda **given: pysmtpx.Server("h.example", **given),
        lambda **given: pysmtpx.Server("h.example").replace(**given),
        lambda **given: pysmtpx.Server.from_url("smtp://h.example", **given),
        lambda **given: pysmtpx.SmtpPool("h.example", **given),
    ]
    for call in calls:
        error = failure(call, **{name: 3})
        assert isinstance(error, InputError)
        assert isinstance(error, TypeError)
        assert f"no such option: '{name}'; did you mean {meant}?" in error.text
    assert f"did you mean {meant}?" in failure(pysmtpx.connect, f"smtp://h.example?{name}=3").text


# -- the pool ------------------------------------------------------------------------------------------------

NOTE = "refused before, and not tried again for now: no password is guessed"


def _raised(outcomes: Iterator[pysmtpx.Outcome]) -> None:
    for outcome in outcomes:
        assert outcome.error is not None
        raise outcome.error


@pytest.mark.parametrize("way", ["send", "submit", "send_many", "connection"])
def test_a_pool_says_that_a_password_is_not_tried_again_only_where_it_was_not(way: str) -> None:
    """FAULTS 86: the first call tries it, and is told its refusal; the next is told that it was not tried."""
    mail = pysmtpx.MailObject(*MAIL)
    with (
        MailServer(users={"ann": "other"}) as server,
        pysmtpx.SmtpPool(server.url, **ACCOUNT) as pool,
    ):
        calls: dict[str, Any] = {
            "send": lambda: pool.send(*MAIL),
            "submit": lambda: pool.submit(mail).result(30),
            "send_many": lambda: _raised(pool.send_many([mail])),
            "connection": lambda: pool.connection().__enter__(),
        }
        for tries in (1, 0, 0):
            before = len(server.ledger.connections)
            error = failure(calls[way])
            assert type(error) is AuthenticationError
            assert len(server.ledger.connections) - before == tries
            assert (NOTE in getattr(error, "__notes__", [])) == (not tries)


def test_several_calls_at_once_with_a_wrong_password() -> None:
    """Whoever has the note was not dialled for."""
    with (
        MailServer(users={"ann": "other"}, delay=0.05) as server,
        pysmtpx.SmtpPool(server.url, **ACCOUNT) as pool,
        ThreadPoolExecutor(8) as threads,
    ):
        errors = [each.result() for each in [threads.submit(failure, pool.send, *MAIL) for _ in range(8)]]
        dialled = len(server.ledger.connections)
    assert sum(NOTE in getattr(error, "__notes__", []) for error in errors) <= len(errors) - dialled
