"""Sending from Flask applications: what arrives, over which connections, and what is told of it."""

from __future__ import annotations

import email
import os
import smtplib
import ssl
import sys
from collections.abc import Callable
from email import policy
from pathlib import Path
from typing import Any

import flask_mail
import pytest
from flask import Flask
from support import certs
from support.daemon import CLOSED_PORT
from support.leftovers import log_as_before
from support.places import resolve_to
from support.pools import in_threads
from support.ticket import Ticket, Tickets

from pysmtpx import (
    AllRecipientsFailed,
    AuthenticationError,
    ConnectError,
    DeliveryUnknown,
    ForwardPath,
    InputError,
    MechanismUnavailable,
    NotSupportedError,
    RetryPolicy,
    Server,
    SmtpPool,
    Timeout,
    TlsError,
)
from pysmtpx.contrib.flask import Connection, Mail, Message, email_dispatched
from pysmtpx.contrib.pools import shared_pool
from pysmtpx.mime import raw
from pysmtpx.testing import Cut, MailServer

MakeApp = Callable[..., Flask]
TO = "ann@example.com"
ONCE = {"attempts": 1}


def message(*recipients: str, **more: Any) -> Message:
    return Message("Hello", list(recipients or (TO,)), body="Hi.", **more)


def pool_of(app: Flask) -> SmtpPool:
    return app.extensions["mail"].pool()


# What arrives.


@pytest.mark.parametrize("way", ["extension", "mail", "connection", "message"])
def test_a_message_of_flask_mails_own_arrives(app: Flask, server: MailServer, mail: Mail, way: str) -> None:
    """Extensions make their own, and send them by what the application has."""
    one: Any = flask_mail.Message("Grüße", [TO, "nobody@example.com"], body="Hi.", html="<b>Hi.</b>")
    one.attach("a.txt", "text/plain", b"file", headers={"X-Part": "1"})
    with mail.record_messages() as outbox, mail.connect() as connection:
        if way == "message":
            one.send(connection)
        else:
            {"extension": app.extensions["mail"], "mail": mail, "connection": connection}[way].send(one)
    assert outbox == [one]
    assert one.send_result.accepted_recipients == (TO,)
    assert [each.recipient for each in one.send_result.rejected_recipients] == ["nobody@example.com"]
    (arrived,) = server.messages
    assert arrived.sender == "robot@example.org"
    written = email.message_from_bytes(arrived.content, policy=policy.default)
    assert (written["Subject"], written["Message-ID"]) == ("Grüße", one.msgId)
    assert written.get_body(("html",)).get_content() == "<b>Hi.</b>"
    (part,) = written.iter_attachments()
    assert (part.get_filename(), part["X-Part"], part.get_content()) == ("a.txt", "1", "file")


def test_a_bad_message_of_flask_mails_own_is_refused(app: Flask, server: MailServer, mail: Mail) -> None:
    one: Any = flask_mail.Message("x", [TO], body="Hi.", cc=["a@example.com\nX: y"])
    with pytest.raises(flask_mail.BadHeaderError):
        mail.send(one)
    refused: Any = flask_mail.Message("x", ["nobody@example.com"], body="Hi.")
    with pytest.raises(AllRecipientsFailed) as caught:
        mail.send(refused)
    assert refused.send_error is caught.value
    assert server.messages == []


def test_a_message_arrives(server: MailServer, mail: Mail) -> None:
    one = Message(
        "Grüße",
        [TO, ("Bob", "bob@example.com")],
        body="Schöne Grüße",
        cc=["cy@example.com"],
        bcc=["eve@example.com"],
        sender=("Ro Böt", "robot@example.org"),
    )
    one.attach("a.txt", "text/plain", "attached")
    mail.send(one)
    (got,) = server.messages
    assert got.sender == "robot@example.org"
    assert got.addresses == [TO, "bob@example.com", "cy@example.com", "eve@example.com"]
    assert "Schöne Grüße\r\n".encode() in got.content
    assert b"eve" not in got.content
    assert one.msgId.encode() in got.content
    assert one.date is not None
    assert one.send_result is not None
    assert one.send_result.accepted_recipients == tuple(got.addresses)
    assert one.send_error is None


def test_a_server_without_8bitmime(make_app: MakeApp) -> None:
    with MailServer(extensions=["PIPELINING"]) as server, make_app(server).app_context():
        Mail().send_message("Grüße", [TO], body="Schöne Grüße")
        assert server.messages[0].content.isascii()


def test_a_local_part_of_unicode_goes_by_smtputf8(server: MailServer, mail: Mail) -> None:
    mail.send(message("jürgen@bücher.example", "Ann <ann@bücher.example>"))
    (got,) = server.messages
    assert "SMTPUTF8" in got.params
    assert got.addresses == ["jürgen@xn--bcher-kva.example", "ann@xn--bcher-kva.example"]
    assert "jürgen@".encode() in got.content
    assert "jürgen@" in message("jürgen@bücher.example").as_string()


def test_a_server_without_smtputf8(make_app: MakeApp) -> None:
    with MailServer(extensions=["PIPELINING"]) as server, make_app(server).app_context():
        Mail().send(message("ann@bücher.example"))
        with pytest.raises(smtplib.SMTPNotSupportedError) as caught:
            Mail().send(message("jürgen@example.com"))
        assert isinstance(caught.value, NotSupportedError)
        assert len(server.messages) == 1


def test_esmtp_parameters(server: MailServer, mail: Mail) -> None:
    mail.send(
        message(
            TO,
            "bob@example.com",
            mail_options=["BODY=8BITMIME", "ret=hdrs", "ENVID=a+2Bb"],
            rcpt_options=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;ann+2Bx@example.com"],
        )
    )
    (got,) = server.messages
    wanted = {"BODY": "8BITMIME", "RET": "HDRS", "ENVID": "a+2Bb"}
    assert {name: got.params[name] for name in wanted} == wanted
    for recipient in got.recipients:
        assert recipient.params == {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;ann+2Bx@example.com"}


@pytest.mark.parametrize(("given", "sent"), [("<>", ""), ("Bounce <b@example.org>", "b@example.org")])
def test_another_reverse_path(server: MailServer, mail: Mail, given: str, sent: str) -> None:
    with mail.connect() as connection:
        connection.send(message(), envelope_from=given)
    assert server.messages[0].sender == sent
    assert b"From: robot@example.org\r\n" in server.messages[0].content


# What is refused before anything is written.


def test_no_recipients(server: MailServer, mail: Mail) -> None:
    with pytest.raises(AssertionError, match="recipients"):
        mail.send(Message("x", body="x"))


def test_no_sender(server: MailServer, make_app: MakeApp) -> None:
    with (
        make_app(server, MAIL_DEFAULT_SENDER=None).app_context(),
        pytest.raises(AssertionError, match="sender"),
    ):
        Mail().send(message())
    assert server.ledger.commands == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"recipients": ["no address"]},
        {"recipients": ["a@example.com, b@example.com"]},
        {"sender": "a@example.org, b@example.org"},
        {"mail_options": ["BODY=9BIT"]},
        {"mail_options": ["SIZE=x"]},
        {"mail_options": ["SIZE=1", "SIZE=2"]},
        {"mail_options": ["X Y"]},
        {"mail_options": [7]},
        {"mail_options": "SMTPUTF8"},
        {"mail_options": ["SMTPUTF8=1"]},
        {"mail_options": ["BY=x"]},
        {"rcpt_options": ["NOTIFY=NEVER,SUCCESS"]},
        {"rcpt_options": ["RRVS=yesterday"]},
        {"rcpt_options": ["X=\r\nDATA"]},
    ],
)
def test_what_cannot_be_right(server: MailServer, mail: Mail, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        mail.send(Message(**{"recipients": [TO], "body": "x"} | arguments))
    assert isinstance(caught.value, smtplib.SMTPException | ValueError)
    assert not any("MAIL" in commands for commands in server.ledger.commands)


# What is told.


def test_one_of_two_refused(server: MailServer, mail: Mail) -> None:
    one = message(TO, "nobody@example.com")
    mail.send(one)
    assert one.send_result is not None
    assert one.send_result.accepted_recipients == (TO,)
    (refused,) = one.send_result.rejected_recipients
    assert (refused.recipient, refused.reply.code) == ("nobody@example.com", 550)


def test_all_refused(server: MailServer, mail: Mail) -> None:
    one = message("nobody@example.com")
    with mail.record_messages() as outbox, pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        mail.send(one)
    assert isinstance(caught.value, AllRecipientsFailed)
    assert caught.value.recipients == {"nobody@example.com": (550, b"5.1.1 unknown")}
    assert one.send_error is caught.value
    assert one.send_result is None
    assert outbox == []
    one.recipients = [TO]
    mail.send(one)  # and once more, to another
    assert one.send_error is None
    assert one.send_result is not None


def test_a_refused_sender_and_content(make_app: MakeApp) -> None:
    replies: Any = {("MAIL", 0): "553 5.1.8 not you", ("FINAL", 0): "554 5.6.0 no"}
    with MailServer(replies=replies) as server, make_app(server).app_context():
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            Mail().send(message())
        assert (refused.value.smtp_code, refused.value.sender) == (553, "robot@example.org")
        with pytest.raises(smtplib.SMTPDataError, match="554"):
            Mail().send(message())


def test_in_doubt_is_not_sent_again(make_app: MakeApp) -> None:
    with MailServer(replies={("FINAL", 0): Cut()}) as server, make_app(server).app_context():
        one = message()
        with pytest.raises(smtplib.SMTPException) as caught:
            Mail().send(one)
        assert isinstance(caught.value, DeliveryUnknown)
        assert one.send_error is caught.value
        assert sum(commands.count("MAIL") for commands in server.ledger.commands) == 1


def test_nobody_listens(make_app: MakeApp) -> None:
    app = make_app(MAIL_PORT=CLOSED_PORT, MAIL_RETRY=RetryPolicy(attempts=1))
    with app.app_context(), pytest.raises(ConnectionError) as caught:
        Mail().send(message())
    assert isinstance(caught.value, ConnectError)
    assert isinstance(caught.value, smtplib.SMTPException)


def test_a_silent_server_is_given_up(make_app: MakeApp) -> None:
    def slow(event: Any) -> Any:
        if event.verb == "MAIL":
            waiting.wait(20)
        return None

    import threading

    waiting = threading.Event()
    with MailServer(verdict=slow) as server:
        with make_app(server, MAIL_TIMEOUT=0.2).app_context(), pytest.raises(TimeoutError) as caught:
            Mail().send(message())
        waiting.set()
    assert isinstance(caught.value, Timeout)


# One pool.


def test_a_warm_message_costs_two_round_trips(server: MailServer, app: Flask, mail: Mail) -> None:
    mail.send(message())
    with pool_of(app).connection() as connection:
        before = connection.round_trips
    for _ in range(5):
        mail.send(message())
    with pool_of(app).connection() as connection:
        assert connection.round_trips - before == 10
    assert server.ledger.commands == [["EHLO", *["MAIL", "RCPT", "DATA"] * 6]]


def test_requests_in_threads_share_a_pool(server: MailServer, make_app: MakeApp) -> None:
    mail = Mail()
    app = make_app(server, mail, MAIL_MAX_CONNECTIONS=2)

    @app.get("/<number>")
    def view(number: str) -> str:
        mail.send_message(number, [f"{number}@example.com"], body="x")
        return "sent"

    assert [each.text for each in in_threads(8, lambda n: app.test_client().get(f"/{n}"))] == ["sent"] * 8
    assert sorted(each.addresses[0] for each in server.messages) == [f"{n}@example.com" for n in range(8)]
    assert len(server.ledger.connections) <= 2


def test_applications_of_the_same_settings_share_a_pool(server: MailServer, make_app: MakeApp) -> None:
    one, other = make_app(server), make_app(server)
    assert pool_of(one) is pool_of(other)
    assert pool_of(make_app(server, MAIL_POOL={"max_idle": 5})) is not pool_of(one)
    assert pool_of(make_app(server, MAIL_USERNAME="a", MAIL_PASSWORD="x")) is not pool_of(
        make_app(server, MAIL_USERNAME="a", MAIL_PASSWORD="y")
    )


def test_two_applications_and_one_mail(make_app: MakeApp) -> None:
    mail = Mail()
    with MailServer() as first, MailServer() as second:
        apps = [make_app(first, mail), make_app(second, mail, MAIL_DEFAULT_SENDER="two@example.org")]
        for app in apps:
            with app.app_context():
                mail.send(message())
        assert [each.messages[0].sender for each in (first, second)] == [
            "robot@example.org",
            "two@example.org",
        ]


def test_a_mail_of_its_own_application(make_app: MakeApp) -> None:
    with MailServer() as first, MailServer() as second:
        app = make_app(first)
        mail = Mail(app)
        with make_app(second).app_context():
            mail.send(message())
        mail.send(message(sender="none@example.org"))  # in no context at all
        assert (len(first.messages), len(second.messages)) == (2, 0)
        assert (mail.suppress, mail.port, mail.no_such_thing) == (False, first.port, None)
        assert Mail().suppress is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_connections_of_its_own(server: MailServer, mail: Mail) -> None:
    mail.send(message())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            mail.send(message("child@example.com"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    mail.send(message())
    assert sorted((each.connection, each.addresses[0]) for each in server.messages) == [
        (0, TO),
        (0, TO),
        (1, "child@example.com"),
    ]


# connect().


def test_several_in_a_block(server: MailServer, make_app: MakeApp) -> None:
    mail = Mail()
    with make_app(server, mail, MAIL_MAX_EMAILS="2").app_context():
        mail.init_app(make_app(server, MAIL_MAX_EMAILS=2))
        with mail.connect() as connection:
            assert isinstance(connection.host, SmtpPool)
            counts = []
            for _ in range(5):
                connection.send_message("x", [TO], body="x")
                counts.append(connection.num_emails)
    assert len(server.messages) == 5
    assert [each.transactions for each in server.ledger.connections] == [2, 2, 1]


def test_the_count_begins_anew(server: MailServer, make_app: MakeApp) -> None:
    with make_app(server, MAIL_MAX_EMAILS=2).app_context(), Mail().connect() as connection:
        counts = []
        for _ in range(3):
            message().send(connection)
            counts.append(connection.num_emails)
        assert counts == [1, 0, 1]


def test_a_refusal_does_not_end_the_block(server: MailServer, mail: Mail) -> None:
    with mail.connect() as connection:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            connection.send(message("nobody@example.com"))
        connection.send(message())
    assert len(server.messages) == 1


def test_a_connection_outside_of_a_block_sends_too(server: MailServer, mail: Mail) -> None:
    mail.connect().send(message())
    assert len(server.messages) == 1


def test_a_pool_that_was_closed_in_the_meantime(server: MailServer, app: Flask, mail: Mail) -> None:
    with mail.connect() as connection:
        connection.send(message())
        pool_of(app).close()
        connection.send(message())
    assert [each.transactions for each in server.ledger.connections] == [1, 1]


def test_a_connection_of_another_pool(server: MailServer, app: Flask) -> None:
    class Mine(Connection):
        def configure_host(self) -> SmtpPool:
            return shared_pool("mine", lambda: SmtpPool(server.url))

    with Mine(app.extensions["mail"]) as connection:
        connection.send(message())
        assert connection.host is not pool_of(app)
    assert len(server.messages) == 1


def test_an_application_without_mail() -> None:
    with Flask(__name__).app_context(), pytest.raises(RuntimeError, match="init_app"):
        Mail().connect()
    with pytest.raises(RuntimeError, match="context"):
        Mail().connect()


# Tests of applications.


@pytest.mark.parametrize("config", [{"TESTING": True}, {"MAIL_SUPPRESS_SEND": True}])
def test_nothing_is_sent_and_all_is_told(server: MailServer, make_app: MakeApp, config: Any) -> None:
    mail = Mail()
    app = make_app(server, mail, **config)
    with app.app_context(), mail.record_messages() as outbox:
        one = message()
        mail.send(one)
        with mail.connect() as connection:
            assert connection.host is None
            connection.send(message())
            assert connection.num_emails == 1
    assert [each.subject for each in outbox] == ["Hello", "Hello"]
    assert outbox[0] is one
    assert one.send_result is None
    assert server.ledger.commands == []


def test_a_wrong_setting_does_not_trouble_a_test(make_app: MakeApp) -> None:
    app = make_app(TESTING=True, MAIL_SERVER=None, MAIL_PORT="x", MAIL_USE_TLS=True, MAIL_USE_SSL=True)
    with app.app_context(), Mail().record_messages() as outbox:
        Mail().send(message())
    assert len(outbox) == 1


def test_sent_in_a_test_where_asked_for(server: MailServer, make_app: MakeApp) -> None:
    mail = Mail()
    app = make_app(server, mail, TESTING=True, MAIL_SUPPRESS_SEND=False)
    with app.app_context(), mail.record_messages() as outbox:
        mail.send(message())
        app.extensions["mail"].suppress = True
        mail.send(message())
    assert len(outbox) == 2
    assert len(server.messages) == 1


def test_the_signal(server: MailServer, app: Flask, mail: Mail) -> None:
    told: list[Any] = []

    def on_dispatch(sender: Flask, message: Message) -> None:
        told.append((sender, message, message.send_result is not None))

    one = message()
    with email_dispatched.connected_to(on_dispatch, app):
        mail.send(one)
    mail.send(message())
    assert told == [(app, one, True)]


# Settings.


@pytest.mark.parametrize(
    ("transport", "setting"), [("starttls", "MAIL_USE_TLS"), ("implicit", "MAIL_USE_SSL")]
)
def test_tls_is_verified_and_required(make_app: MakeApp, transport: Any, setting: str) -> None:
    account: dict[str, Any] = {"users": {"ann": "s3cret"}, "require_auth": True}
    own: dict[str, Any] = {"MAIL_USERNAME": "ann", "MAIL_PASSWORD": "s3cret", setting: True}
    with MailServer(ssl_context=certs.server_context(), tls=transport, **account) as server:
        app = make_app(server, MAIL_SSL_CONTEXT=certs.client_context(), **own)
        with app.app_context():
            Mail().send(message())
        assert server.messages[0].tls
        assert server.messages[0].user == "ann"
        assert "s3cret" not in repr(pool_of(app)) + repr(app.extensions["mail"])
        with make_app(server, MAIL_RETRY=ONCE, **own).app_context(), pytest.raises(TlsError) as caught:
            Mail().send(message())  # of an authority that certifi does not know
        assert isinstance(caught.value, smtplib.SMTPException)
    with MailServer() as clear, make_app(clear, MAIL_RETRY=ONCE, MAIL_USE_TLS=True).app_context():
        with pytest.raises(smtplib.SMTPException, match="STARTTLS"):
            Mail().send(message())
        assert clear.messages == []


def test_no_password_in_clear(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "is_local", property(lambda self: False))  # as if far away
    account: Any = {"MAIL_USERNAME": "ann", "MAIL_PASSWORD": "s3cret", "MAIL_RETRY": ONCE}
    with MailServer(users={"ann": "s3cret"}, mechanisms=["PLAIN"]) as server:
        with make_app(server, **account).app_context(), pytest.raises(smtplib.SMTPException) as caught:
            Mail().send(message())
        assert isinstance(caught.value, MechanismUnavailable)
        assert "MAIL_INSECURE_AUTH" in "".join(caught.value.__notes__)
        assert server.messages == []
        with make_app(server, MAIL_INSECURE_AUTH=True, **account).app_context():
            Mail().send(message())
        assert server.messages[0].user == "ann"


def test_a_wrong_password(make_app: MakeApp) -> None:
    account: Any = {"MAIL_USERNAME": "ann", "MAIL_PASSWORD": "wr0ng"}
    with MailServer(users={"ann": "s3cret"}) as server, make_app(server, **account).app_context():
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            Mail().send(message())
        assert isinstance(caught.value, AuthenticationError)
        assert caught.value.smtp_code == 535
        assert "wr0ng" not in str(caught.value) + repr(caught.value) + str(caught.value.transcript)


@pytest.mark.parametrize("half", [{"MAIL_USERNAME": "ann"}, {"MAIL_PASSWORD": "x"}, {"MAIL_USERNAME": ""}])
def test_half_an_account_is_none(server: MailServer, make_app: MakeApp, half: Any) -> None:
    with make_app(server, **half).app_context():
        Mail().send(message())
    assert server.messages[0].user is None


def test_a_token(make_app: MakeApp) -> None:
    calls: list[int] = []

    def token() -> str:
        calls.append(1)
        return "t0ken"

    with MailServer(tokens={"ann": "t0ken"}, require_auth=True) as server:
        with make_app(server, MAIL_USERNAME="ann", MAIL_TOKEN=token).app_context():
            Mail().send(message())
        assert server.messages[0].user == "ann"
        assert calls


@pytest.mark.parametrize("own", ["support.ticket.Ticket", Ticket, Ticket()], ids=["path", "class", "object"])
def test_a_mechanism_of_ones_own(make_app: MakeApp, own: Any) -> None:
    tickets = Tickets()
    with MailServer(mechanisms=["X-TICKET"], verdict=tickets, require_auth=True) as server:
        with make_app(server, MAIL_USERNAME="ann", MAIL_AUTH=own).app_context():
            Mail().send(message())
            Mail().send(message())
        assert (len(server.messages), tickets.count) == (2, 1)


def test_a_path_that_leads_nowhere_is_told(make_app: MakeApp) -> None:
    with pytest.raises(InputError, match="auth: No module named 'no'"):
        pool_of(make_app(MAIL_AUTH="no.such.Mechanism"))


def test_a_url(make_app: MakeApp) -> None:
    with MailServer(users={"ann": "s3cret"}, require_auth=True) as server, MailServer() as other:
        url = server.url.replace("://", "://ann:s3cret@")
        app = make_app(MAIL_URL=url)
        with app.app_context():
            Mail().send(message())
        assert (len(server.messages), len(other.messages)) == (1, 0)
        assert pool_of(make_app(MAIL_URL=[server.url, other.url])).servers == (
            Server.from_url(server.url),
            Server.from_url(other.url),
        )


@pytest.mark.parametrize(
    ("config", "port", "tls"),
    [
        ({}, 25, "none"),
        ({"MAIL_PORT": None}, 25, "none"),
        ({"MAIL_PORT": "2525"}, 2525, "none"),
        ({"MAIL_USE_SSL": True}, 465, "implicit"),
        ({"MAIL_PORT": 465}, 465, "implicit"),
        ({"MAIL_USE_SSL": True, "MAIL_PORT": 2465}, 2465, "implicit"),
        ({"MAIL_USE_TLS": True, "MAIL_PORT": 587}, 587, "starttls"),
        ({"MAIL_USE_TLS": "1"}, 25, "starttls"),
    ],
)
def test_ports_and_tls(make_app: MakeApp, config: Any, port: int, tls: str) -> None:
    (server,) = pool_of(make_app(**{"MAIL_SERVER": "mail.example"} | config)).servers
    assert (server.host, server.port, server.tls) == ("mail.example", port, tls)
    (server,) = pool_of(make_app(**config)).servers
    assert server.host == "127.0.0.1"


def test_a_unix_socket(make_app: MakeApp, tmp_path: Path) -> None:
    with MailServer(path=tmp_path / "smtp") as server:
        with make_app(MAIL_SERVER=server.path).app_context():
            Mail().send(message())
        assert len(server.messages) == 1


def test_roots_and_fingerprint(make_app: MakeApp, tmp_path: Path) -> None:
    roots, pin = tmp_path / "roots.pem", "sha256:" + "ab" * 32
    app = make_app(MAIL_USE_TLS=True, MAIL_ROOTS=roots, MAIL_FINGERPRINT=f"{pin},{'cd' * 32}")
    (server,) = pool_of(app).servers
    assert (server.roots, server.fingerprint) == (str(roots), (pin, "sha256:" + "cd" * 32))


@pytest.mark.parametrize(
    ("module", "setting", "extra"),
    [
        ("truststore", {"MAIL_USE_TLS": True, "MAIL_ROOTS": "system"}, "truststore"),
        ("python_socks", {"MAIL_PROXY": "socks5://127.0.0.1:9"}, "proxy"),
        ("gssapi", {"MAIL_AUTH": "GSSAPI"}, "gssapi"),
    ],
)
def test_a_missing_extra(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, module: str, setting: dict[str, Any], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        make_app(MAIL_SERVER="mail.invalid", **setting).app_context(),
        pytest.raises(smtplib.SMTPException, match=rf"pip install 'pysmtpx\[{extra}\]'"),
    ):
        Mail().send(message())


def test_settings_of_the_pool(make_app: MakeApp) -> None:
    context = ssl.create_default_context()
    app = make_app(
        MAIL_USE_TLS=True,
        MAIL_SSL_CONTEXT=context,
        MAIL_CONNECT_TIMEOUT=7,
        MAIL_RATE=9.5,
        MAIL_OVERLAP=True,
        MAIL_WITHOUT="PIPELINING,chunking",
        MAIL_RETRY={"attempts": 5, "temporary": True},
        MAIL_POOL={"server_hostname": "mail.example", "auth": ["PLAIN"], "max_idle": None, "in_flight": 2}
        | {"username": "ann", "password": "s3cret"},
    )
    (server,) = pool_of(app).servers
    assert server.ssl_context is context
    assert server.overlap
    assert server.without == ("PIPELINING", "CHUNKING")
    assert (server.connect_timeout, server.server_hostname, server.auth) == (7.0, "mail.example", ("PLAIN",))
    assert pool_of(app) is pool_of(app)


@pytest.mark.parametrize(
    "config",
    [
        {"MAIL_SERVER": None},
        {"MAIL_SERVER": ""},
        {"MAIL_SERVER": "smtp://localhost"},
        {"MAIL_PORT": "smtp"},
        {"MAIL_PORT": 70000},
        {"MAIL_PORT": True},
        {"MAIL_USE_TLS": True, "MAIL_USE_SSL": True},
        {"MAIL_USE_TLS": True, "MAIL_PORT": 465},
        {"MAIL_MAX_EMAILS": "many"},
        {"MAIL_SSL_CONTEXT": ssl.create_default_context()},
        {"MAIL_MAX_CONNECTIONS": 0},
        {"MAIL_RATE": -1},
        {"MAIL_RETRY": 3},
        {"MAIL_RETRY": {"attempts": 0}},
        {"MAIL_RETRY": {"no_such": 1}},
        {"MAIL_POOL": {"no_such": 1}},
        {"MAIL_POOL": {"client_certificate": {"a", "b"}}},
        {"MAIL_URL": "http://x"},
        {"MAIL_CELERY": True},
    ],
)
def test_settings_that_cannot_be_right(make_app: MakeApp, config: Any) -> None:
    with make_app(**config).app_context(), pytest.raises(InputError) as caught:
        Mail().send(message())
    assert isinstance(caught.value, smtplib.SMTPException)


def test_debug_shows_the_wire_without_secrets(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    account: Any = {"MAIL_USERNAME": "ann", "MAIL_PASSWORD": "s3cret", "MAIL_DEBUG": 1}
    with (
        log_as_before("pysmtpx.wire"),
        MailServer(users={"ann": "s3cret"}) as server,
        make_app(server, **account).app_context(),
    ):
        Mail().send(message())
    assert "MAIL FROM:<robot@example.org>" in caplog.text
    assert "s3cret" not in caplog.text


# Who gets it.


@pytest.mark.parametrize("host", ["127.0.0.1", "mail.test"])
def test_the_server_judges_what_is_no_full_mailbox(make_app: MakeApp, host: str, monkeypatch: Any) -> None:
    """As with Flask-Mail."""
    resolve_to(monkeypatch, "127.0.0.1")
    long = f"{'x' * 100}@y.example"
    with MailServer(local_mailboxes=True) as server:
        app = make_app(server, MAIL_SERVER=host, MAIL_POOL={} if host == "127.0.0.1" else {"tls": "none"})
        with app.app_context():
            sent = message("root", ("Cron", "daemon"), "a..b@y.example", sender="tester", cc=[long])
            Mail().send(sent)
            with Mail().connect() as connection:
                connection.send(message("user.@docomo.ne.jp"), envelope_from="Bounces <bounces>")
    first, second = server.messages
    assert (first.sender, first.addresses) == ("tester", ["root", "daemon", '"a..b"@y.example', long])
    assert b"\r\nTo: root, Cron <daemon>, a..b@y.example\r\n" in first.content
    assert (second.sender, second.addresses) == ("bounces", ['"user."@docomo.ne.jp'])


@pytest.mark.parametrize(
    "domain", ["faß.example", "βόλος.example", "straße.münchen.example", "BÜCHER.example"]
)
@pytest.mark.parametrize("form", ["a@{}", "Ann <a@{}>", "Änn <a@{}>", "ä@{}"])
@pytest.mark.parametrize("field", ["recipients", "cc", "sender", "reply_to"])
def test_header_and_envelope_name_the_same_domain(
    server: MailServer, mail: Mail, field: str, domain: str, form: str
) -> None:
    address = form.format(domain)
    given = {"recipients": [TO], "sender": "me@x.example"}
    mail.send(
        Message("x", body="y", **given | {field: [address] if field in ("recipients", "cc") else address})
    )
    expected = ForwardPath(f"a@{domain}").domain
    got = server.messages[0]
    if field != "reply_to":
        assert f"@{expected}" in " ".join([got.sender, *got.addresses])
    header = {"recipients": "To", "sender": "From", "reply_to": "Reply-To"}.get(field, field)
    (written,) = [field.text for field in raw.section(got.content).fields if field.name == header.lower()]
    # Beside a local part that needs UTF-8 the domain may be in letters too.
    domain = written.rpartition("@")[2].strip(">")
    assert (domain if form.endswith(("a@{}", "a@{}>")) else ForwardPath(f"a@{domain}").domain) == expected


def test_servers_with_weights_and_credentials_of_their_own(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pysmtpx.pooling.selection._STALLED", 600.0)  # the machine may be slow
    users = {"ann": "s3cret"}
    with MailServer(users=users, require_auth=True) as first, MailServer() as second:
        entry = {"url": f"smtp://127.0.0.1:{first.port}?weight=3", "username": "ann", "password": "s3cret"}
        listed = [{**entry, "insecure_auth": True}, f"{second.url}?max_connections=1"]
        mail = Mail()
        app = make_app(mail=mail, MAIL_URL=listed, MAIL_POOL={"balance": "weighted"})
        with app.app_context():
            for _ in range(8):
                mail.send(message())
        assert (len(first.messages), len(second.messages)) == (6, 2)
        assert [each.weight for each in pool_of(app).routes] == [3, 1]
        assert pool_of(make_app(MAIL_URL=listed, MAIL_POOL={"balance": "weighted"})) is pool_of(app)


def test_a_quota_moves_on_to_the_next_url(make_app: MakeApp) -> None:
    with MailServer(replies={"MAIL": "452 4.7.1 too much"}) as first, MailServer() as second:
        mail = Mail()
        app = make_app(mail=mail, MAIL_URL=[first.url, second.url])
        with app.app_context():
            mail.send(message())
        assert len(second.messages) == 1
        assert pool_of(app).stats().servers[0].state == "resting"


@pytest.mark.parametrize(
    "wrong", [[{"weight": 1}], ["smtp://h.example?weight=s3cret"], [{"url": "smtp://h", "x": 1}]]
)
def test_what_is_no_list_of_servers(make_app: MakeApp, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"MAIL_URL\[0\]: ") as caught:
        pool_of(make_app(MAIL_URL=wrong))
    assert "s3cret" not in str(caught.value)
