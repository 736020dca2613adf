"""Providers where they are used: connections, pools, the face of smtplib, URLs, Django and Flask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMessage
from flask import Flask
from support import certs
from support.daemon import CLOSED_PORT, wait_until
from support.django_site import Site, site
from support.patience import LONG
from support.scripted import Peer, ScriptedServer, ehlo
from support.tokens import REFRESH_TOKEN, SECRET, TokenServer, held, says, token_server
from support.traces import frames_shown

import pysmtpx
from pysmtpx import (
    AuthenticationError,
    CredentialsUnavailable,
    InputError,
    RetryPolicy,
    Server,
    SmtpPool,
    Timeout,
    connect,
    smtplib,
)
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.contrib.pools import close_pools
from pysmtpx.net.deadline import Deadline
from pysmtpx.oauth import Cached, Google, Microsoft, OAuth2, by_name
from pysmtpx.opening import Attempt, open_channel
from pysmtpx.testing import Event, MailServer

__all__ = ["site"]

ANN = "ann@x.example"
OCTETS = b"Subject: x\r\n\r\nhello\r\n"
ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as running:
        yield running


class Mailbox:
    """A mail server that takes the newest token alone, and notes each AUTH."""

    def __init__(self, mechanisms: list[str] | None = None, **options: Any) -> None:
        self.valid: dict[str, str] = {ANN: "token-1"}
        self.auths: list[str] = []
        # A mapping that is looked into at each log-in.
        self.server = MailServer(
            tokens=self.valid,
            mechanisms=mechanisms or ["XOAUTH2", "OAUTHBEARER"],
            require_auth=True,
            verdict=self._note,
            **options,
        )

    def _note(self, event: Event) -> None:
        if event.verb == "AUTH":
            self.auths.append(event.address)

    def __enter__(self) -> Mailbox:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def at(self, token: Any, **options: Any) -> Server:
        return Server("127.0.0.1", self.server.port, username=ANN, token=token, **options)


def provider(tokens: TokenServer, **options: Any) -> OAuth2:
    return OAuth2(tokens.url, "the client", client_secret=SECRET, ssl_context=tokens.context, **options)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_provider_logs_in(tokens: TokenServer, mechanism: str) -> None:
    with Mailbox([mechanism]) as mailbox:
        server = mailbox.at(provider(tokens))
        for _ in range(3):
            with connect(server) as smtp:
                smtp.send(ANN, ["bob@x.example"], OCTETS)
    assert tokens.tokens_asked == 1
    assert mailbox.auths == [mechanism] * 3


def test_six_connections_of_a_pool_at_once_are_one_renewal(tokens: TokenServer) -> None:
    tokens.answers.append(held)
    with Mailbox() as mailbox:
        everybody = threading.Barrier(6)

        def take() -> None:
            with pool.connection() as smtp:
                everybody.wait(LONG)  # so that there are six of them
                smtp.noop()

        with SmtpPool(mailbox.at(provider(tokens)), max_connections=6) as pool, ThreadPoolExecutor(6) as six:
            futures = [six.submit(take) for _ in range(6)]
            tokens.gate.set()
            for future in futures:
                future.result(LONG)
    assert tokens.tokens_asked == 1
    assert len(mailbox.auths) == 6


def test_several_pools_and_connections_share_one_provider(tokens: TokenServer) -> None:
    tokens.answers.append(held)

    def send(number: int) -> None:
        # Equal values, as those of URLs are, and not even the same object.
        each = OAuth2(tokens.url, "the client", client_secret=SECRET, ssl_context=tokens.context)
        with SmtpPool(mailbox.at(each)) as pool:
            pool.send(ANN, ["bob@x.example"], OCTETS)

    with Mailbox() as mailbox, ThreadPoolExecutor(6) as six:
        futures = [six.submit(send, number) for number in range(6)]
        tokens.gate.set()
        for future in futures:
            future.result(LONG)
    assert tokens.tokens_asked == 1
    assert len(mailbox.server.messages) == 6


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_token_that_the_server_refuses_is_renewed_once(tokens: TokenServer, mechanism: str) -> None:
    with Mailbox([mechanism]) as mailbox:
        server = mailbox.at(provider(tokens))
        connect(server).quit()
        mailbox.valid[ANN] = "token-2"
        connect(server).quit()
        connect(server).quit()
    assert tokens.tokens_asked == 2
    assert len(mailbox.auths) == 3 + 2  # the error in a challenge is answered


def test_six_that_are_refused_at_once_are_one_renewal(tokens: TokenServer) -> None:
    with Mailbox() as mailbox, ThreadPoolExecutor(6) as six:
        server = mailbox.at(provider(tokens))
        connect(server).quit()
        mailbox.valid[ANN] = "token-2"
        for future in [six.submit(lambda: connect(server).quit()) for _ in range(6)]:
            future.result(LONG)
    assert tokens.tokens_asked == 2


def test_what_is_refused_for_another_reason_is_no_flood(tokens: TokenServer) -> None:
    """A mailbox that the application may not use: two log-ins a connection, then one."""
    with Mailbox() as mailbox:
        mailbox.valid[ANN] = "never"
        server = mailbox.at(provider(tokens))
        for _ in range(10):
            with pytest.raises(AuthenticationError) as caught:
                connect(server)
            assert not caught.value.temporary
            assert "status 'invalid_token', scope 'mail', schemes 'bearer'" in str(caught.value)
            assert "token-" not in f"{caught.value!s} {frames_shown(caught.value)}"
    assert tokens.tokens_asked == 1 + 3
    assert len(mailbox.auths) == 2 * (10 + 3)  # the error in a challenge is answered


@pytest.mark.parametrize("code", [b"535", b"554", b"550", b"501"])
def test_an_error_in_a_challenge_renews_whatever_code_follows(tokens: TokenServer, code: bytes) -> None:
    """Google and Microsoft tell of a token in a 334; what follows differs from server to server."""
    lines: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.say(b"220 mail.example ESMTP\r\n")
        peer.line()
        peer.say(ehlo("AUTH XOAUTH2"))
        lines.append(peer.line())
        peer.say(b"334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIn0=\r\n")
        assert peer.line() == b""
        peer.say(code + b" 5.7.8 no\r\n")
        lines.append(peer.line())
        peer.say(b"235 2.7.0 yes\r\n")
        peer.rest()

    with ScriptedServer(script) as server:
        server.connect(username=ANN, token=provider(tokens)).close()
    assert tokens.tokens_asked == 2
    assert lines[0] != lines[1]


def by_pool(server: Server) -> None:
    with SmtpPool(server, retry=ONCE) as pool:
        pool.send(ANN, ["bob@x.example"], OCTETS)


def by_smtplib(server: Server) -> None:
    with smtplib.SMTP(server.host, server.port) as smtp:
        smtp.login(ANN, server.token)


BY: dict[str, Callable[[Server], object]] = {"connect": connect, "pool": by_pool, "smtplib": by_smtplib}
FAILURES = {
    "down": (says(503, {}, Retry_After="1000"), True),
    "refused": (says(401, {"error": "invalid_client", "error_description": "expired"}), False),
}


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("failure", FAILURES)
def test_without_a_token_there_is_no_log_in(tokens: TokenServer, failure: str, by: str) -> None:
    """No account is locked, and no server is dialled; nobody asks the provider again at once."""
    answer, is_temporary = FAILURES[failure]
    tokens.answers += [answer] * 9
    with Mailbox() as mailbox:
        server = mailbox.at(provider(tokens))
        for _ in range(3):
            with pytest.raises((AuthenticationError, smtplib.SMTPException)) as caught:
                BY[by](server)
            assert SECRET not in f"{caught.value!s} {frames_shown(caught.value)}"
            if by != "smtplib":
                assert isinstance(caught.value, CredentialsUnavailable)
                assert caught.value.temporary is is_temporary
        assert mailbox.auths == []
    assert tokens.tokens_asked == 1


@pytest.mark.parametrize("failure", FAILURES)
def test_the_next_server_has_what_the_first_has_no_token_for(tokens: TokenServer, failure: str) -> None:
    tokens.answers += [FAILURES[failure][0]] * 9
    with Mailbox() as first, Mailbox() as second:
        servers = [first.at(provider(tokens)), second.at("token-1")]
        with SmtpPool(servers, balance="failover") as pool:
            for _ in range(3):
                pool.send(ANN, ["bob@x.example"], OCTETS)
        assert (len(first.server.messages), len(second.server.messages)) == (0, 3)
        assert first.auths == []
    assert tokens.tokens_asked == 1


def test_a_pool_tries_again_once_the_provider_is_back(tokens: TokenServer) -> None:
    tokens.answers += [says(503, {})]
    retry = RetryPolicy(attempts=1000, backoff=0.05, max_backoff=0.1)
    with Mailbox() as mailbox, SmtpPool(mailbox.at(provider(tokens)), retry=retry) as pool:
        pool.send(ANN, ["bob@x.example"], OCTETS)
        assert len(mailbox.server.messages) == 1
    assert tokens.tokens_asked == 2


def test_a_provider_that_fails_after_a_refusal_is_what_is_told(tokens: TokenServer) -> None:
    with Mailbox() as mailbox:
        server = mailbox.at(provider(tokens))
        connect(server).quit()
        mailbox.valid[ANN] = "token-2"
        tokens.answers.append(says(503, {}))
        with pytest.raises(CredentialsUnavailable) as caught:
            connect(server)
    assert caught.value.temporary
    assert caught.value.__notes__ == ["OAUTHBEARER was refused with the token that was there: 535"]


def test_the_time_of_a_connection_holds_for_its_token(tokens: TokenServer) -> None:
    tokens.answers.append(held)
    with Mailbox() as mailbox:
        server = mailbox.at(provider(tokens), connect_timeout=0.2)
        with pytest.raises(Timeout) as caught:
            connect(server)
        assert caught.value.stage == "auth"
        tokens.gate.set()
        connect(server.replace(connect_timeout=LONG)).quit()
    assert tokens.tokens_asked == 1


@pytest.mark.parametrize("what", ["token", "password"])
def test_a_plain_function_that_takes_too_long_is_what_is_told(what: str) -> None:
    """It cannot be stopped; but no server is blamed for it, and none is dialled."""
    given: Any = {what: lambda: str(threading.Event().wait(0.15)), "connect_timeout": 0.1}
    with pytest.raises(Timeout, match=f"the function for the {what} took longer than it had") as caught:
        connect("127.0.0.1", CLOSED_PORT, username=ANN, insecure_auth=True, tls="none", **given)
    assert caught.value.stage == "auth"


def test_whoever_waits_for_a_token_can_be_stopped(tokens: TokenServer) -> None:
    """As by a pool that closes; the renewal goes on for others."""
    tokens.answers.append(held)
    errors: list[BaseException] = []
    with Mailbox() as mailbox:
        server = mailbox.at(provider(tokens, timeout=100))
        deadline = Deadline.after(100)
        attempt = Attempt(deadline)

        def dial() -> None:
            try:
                open_channel(server, deadline, attempt)
            except pysmtpx.SmtpError as error:
                errors.append(error)

        thread = threading.Thread(target=dial)
        thread.start()
        wait_until(lambda: tokens.tokens_asked == 1, LONG, "the request for a token")
        attempt.stop()
        thread.join(LONG)
        assert isinstance(errors[0], Timeout)
        tokens.gate.set()
        connect(server).quit()
    assert tokens.tokens_asked == 1


def test_a_password_may_be_a_function_or_a_provider() -> None:
    users = {ANN: "first"}
    passwords = ["first"]
    cached = Cached(lambda: passwords[-1], 3600)
    with MailServer(users=users) as mail:
        for source in (lambda: passwords[-1], cached):
            users[ANN] = passwords[-1]
            server = Server("127.0.0.1", mail.port, username=ANN, password=source)
            connect(server).quit()
            passwords.append(f"{passwords[-1]}+")  # it rotates
            users[ANN] = passwords[-1]
            connect(server).quit()
        assert cached.current() == passwords[-1]
    assert "first" not in repr(server)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"])
def test_a_refused_password_is_asked_for_once_more_and_tried_if_it_is_another(mechanism: str) -> None:
    """It may have been rotated between the two; the same again would only count as an attack."""
    auths: list[str] = []

    def note(event: Event) -> None:
        if event.verb == "AUTH":
            auths.append(event.address)

    with MailServer(users={ANN: "right"}, mechanisms=[mechanism], verdict=note) as mail:
        server = Server("127.0.0.1", mail.port, username=ANN, password="x")
        given = iter(["wrong", "right"])
        connect(server.replace(password=lambda: next(given))).quit()
        count = len(auths)
        with pytest.raises(AuthenticationError) as caught:
            connect(server.replace(password=lambda: "wrong"))
        assert len(auths) < 2 * count
        assert "wrong" not in f"{caught.value!s} {frames_shown(caught.value)}"


@pytest.mark.parametrize("password", ["", "a\r\nQUIT", "a\0", None, b"octets", 7])
def test_a_function_that_returns_no_password_is_refused_before_the_dial(password: Any) -> None:
    with pytest.raises(InputError):
        connect(Server("192.0.2.1", username=ANN, password=lambda: password))


def test_the_face_of_smtplib_takes_a_provider_for_the_password(tokens: TokenServer) -> None:
    with Mailbox() as mailbox:
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", mailbox.server.port) as smtp:
                assert smtp.login(ANN, provider(tokens))[0] == 235
                smtp.sendmail(ANN, ["bob@x.example"], OCTETS)
        mailbox.valid[ANN] = "never"
        with smtplib.SMTP("127.0.0.1", mailbox.server.port) as smtp:
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                smtp.login(ANN, provider(tokens))
            assert caught.value.smtp_code == 535
    with (
        MailServer(users={ANN: "x"}) as mail,
        smtplib.SMTP("127.0.0.1", mail.port) as smtp,
        pytest.raises(smtplib.SMTPException, match="No suitable"),
    ):
        smtp.login(ANN, provider(tokens))


# By name.

ENVIRONMENT = {"PYSMTPX_CLIENT_SECRET": SECRET, "BILLING_REFRESH_TOKEN": REFRESH_TOKEN}
URLS: dict[str, Callable[[], object]] = {
    "preset://ann%40x.example@microsoft365?oauth=microsoft&tenant=t&client_id=i": lambda: Microsoft(
        "t", "i", client_secret=SECRET
    ),
    "smtps://ann%40x.example@mail.example?oauth=microsoft&tenant=t&client_id=i": lambda: Microsoft(
        "t", "i", client_secret=SECRET
    ),
    "smtps://ann%40x.example@mail.example?oauth=microsoft&tenant=t&client_id=i&certificate=%2Fa.pem": (
        lambda: Microsoft("t", "i", certificate="/a.pem")
    ),
    "smtps://ann%40x.example@mail.example?oauth=microsoft&tenant=t&client_id=i&env=BILLING": lambda: (
        Microsoft("t", "i", refresh_token=REFRESH_TOKEN)
    ),
    "smtps://ann%40x.example@mail.example?oauth=google&service_account_file=a.json": lambda: Google(
        "a.json", ANN
    ),
    "smtps://ann%40x.example@mail.example?oauth=google&service_account_file=a.json&subject=bob%40x.example": (
        lambda: Google("a.json", "bob@x.example")
    ),
    "smtp://ann%40x.example@mail.example?oauth=oauth2&token_url=https%3A%2F%2Flogin.example%2Ft"
    "&client_id=i&scope=a%20b&client_auth=body&auth=XOAUTH2": lambda: OAuth2(
        "https://login.example/t", "i", client_secret=SECRET, scope="a b", client_auth="body"
    ),
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_names_a_provider_and_the_environment_has_its_secrets(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server = Server.from_url(url)
    assert server.token == URLS[url]()
    assert server == Server.from_url(url)
    assert hash(server) == hash(Server.from_url(url))
    assert server.username == ANN
    for shown in (repr(server), server.url, repr(server.token)):
        assert SECRET not in shown
        assert REFRESH_TOKEN not in shown
    assert Server.from_url(url, token="another").token == "another"
    assert Server.from_url(url, password="another", auth=None).token is None
    assert Server.from_url(url, token=None, username=None, auth=None).token is None


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("oauth=microsoft&tenant=t&client_id=i&client_secret=" + SECRET, "PYSMTPX_CLIENT_SECRET"),
        ("oauth=google&refresh_token=" + SECRET, "PYSMTPX_REFRESH_TOKEN"),
        ("oauth=microsoft&tenant=t&client_id=i", "PYSMTPX_…"),
        ("oauth=microsoft&tenant=t&client_id=i&env=MAIL", "MAIL_…"),
        ("oauth=microsoft&tenant=t&client_id=i&env=a%20b", "env is"),
        ("oauth=microsft&tenant=t", "no such provider for oauth: 'microsft'"),
        ("oauth=", "no such provider"),
        ("oauth=google&tenant=t", "oauth=google has an unknown argument; there are client_id"),
        ("oauth=microsoft&tenant=t", "needs client_id: give it, or set $PYSMTPX_CLIENT_ID"),
        (
            "oauth=oauth2&env=MAIL",
            "token_url and client_id: give it, or set $MAIL_TOKEN_URL and $MAIL_",
        ),
        ("oauth=microsoft&tenant=t&client_id=i", "as in $PYSMTPX_CLIENT_SECRET"),
        ("oauth=oauth2&token_url=http%3A%2F%2Fx%2F&client_id=i&env=OTHER", "https://"),
        ("oauth=microsoft&oauth=google", "twice"),
        ("tenant=t&client_id=i", "names none: oauth="),
        ("client_secret=" + SECRET, "names none: oauth="),
        ("oauth=microsoft&nonsense=" + SECRET, "unknown option"),
    ],
)
def test_a_url_that_names_none_is_told_so_and_never_repeated(
    query: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_CLIENT_SECRET", SECRET)
    with pytest.raises(InputError) as caught:
        Server.from_url(f"smtps://ann@mail.example?{query}")
    assert told in str(caught.value)
    assert SECRET not in f"{caught.value!s} {frames_shown(caught.value)}"


def test_a_slip_in_a_setting_names_what_was_meant() -> None:
    with pytest.raises(InputError, match=r"unknown argument; did you mean tenant\?") as caught:
        by_name("microsoft", tenat="t", client_id="i", client_secret=SECRET)
    assert SECRET not in f"{caught.value!s} {frames_shown(caught.value)}"


def test_all_of_it_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TENANT": "t", "CLIENT_ID": "i", "CLIENT_SECRET": SECRET}.items():
        monkeypatch.setenv(f"PYSMTPX_{name}", value)
    assert by_name("microsoft") == Microsoft("t", "i", client_secret=SECRET)
    assert by_name("microsoft", certificate="a.pem") == Microsoft("t", "i", certificate="a.pem")
    assert by_name("google", service_account_file="a.json", username=ANN) == Google("a.json", ANN)


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' authority is one that everybody trusts."""
    certs.authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    monkeypatch.setenv("PYSMTPX_CLIENT_SECRET", SECRET)


def settings_of(tokens: TokenServer, kind: str) -> dict[str, Any]:
    if kind == "oauth2":
        return {"provider": "oauth2", "token_url": tokens.url, "client_id": "i"}
    return {"provider": "microsoft", "tenant": "t", "client_id": "i", "authority": tokens.base}


@pytest.mark.usefixtures("roots")
@pytest.mark.parametrize("kind", ["microsoft", "oauth2"])
def test_django_by_name(tokens: TokenServer, site: Site, kind: str) -> None:
    with Mailbox() as mailbox:
        for _ in range(2):
            site.use(mailbox.server, username=ANN, oauth=settings_of(tokens, kind))
            EmailMessage("x", "x", ANN, ["bob@x.example"]).send()
            close_pools(0)
        assert len(mailbox.server.messages) == 2
    assert tokens.tokens_asked == 1


@pytest.mark.usefixtures("roots")
def test_each_server_of_a_setting_has_its_own_provider(tokens: TokenServer, site: Site) -> None:
    with Mailbox() as mailbox:
        place = f"127.0.0.1:{mailbox.server.port}"
        one = {"host": place, "username": ANN, "oauth": settings_of(tokens, "oauth2")}
        site.use(servers=[one], host="mail.example", port=25)
        EmailMessage("x", "x", ANN, ["bob@x.example"]).send()
        close_pools(0)
        app = Flask(__name__)
        app.config["MAIL_URL"] = [one]
        with app.app_context():
            Mail(app).send(Message("x", ["bob@x.example"], body="x", sender=ANN))
        close_pools(0)
        assert len(mailbox.server.messages) == 2
        site.use(servers=[{**one, "token": "x"}], host="mail.example", port=25)
        with pytest.raises(Exception, match="which one is meant"):
            EmailMessage("x", "x", ANN, ["bob@x.example"]).send()
    assert tokens.tokens_asked == 1


@pytest.mark.usefixtures("roots")
@pytest.mark.parametrize("kind", ["microsoft", "oauth2", "url", "url and setting", "urls and setting"])
def test_flask_by_name(tokens: TokenServer, kind: str) -> None:
    app = Flask(__name__)
    with Mailbox() as mailbox:
        port = mailbox.server.port
        if kind == "url":
            base = tokens.base.replace(":", "%3A").replace("/", "%2F")
            app.config["MAIL_URL"] = (
                f"smtp://ann%40x.example@127.0.0.1:{port}?oauth=microsoft&tenant=t&client_id=i&authority={base}"
            )
        elif kind.endswith("and setting"):
            url = f"smtp://ann%40x.example@127.0.0.1:{port}"
            app.config["MAIL_URL"] = url if kind.startswith("url ") else [url, url]
            app.config["MAIL_OAUTH"] = settings_of(tokens, "oauth2")
        else:
            app.config.update(MAIL_PORT=port, MAIL_USERNAME=ANN, MAIL_OAUTH=settings_of(tokens, kind))
        mail = Mail(app)
        for _ in range(2):
            with app.app_context():
                mail.send(Message("x", ["bob@x.example"], body="x", sender=ANN))
            close_pools(0)
        assert len(mailbox.server.messages) == 2
    assert tokens.tokens_asked == 1


@pytest.mark.parametrize("value", [7, {}, {"tenant": SECRET}, "nobody", {"provider": "nobody"}])
def test_a_setting_that_names_none(value: Any, site: Site) -> None:
    site.use(username=ANN, host="mail.example", oauth=value or {"x": SECRET})
    with pytest.raises(Exception, match=r"oauth") as caught:
        EmailMessage("x", "x", ANN, ["bob@x.example"]).send()
    assert SECRET not in str(caught.value)
    app = Flask(__name__)
    app.config.update(MAIL_USERNAME=ANN, MAIL_OAUTH=value or {"x": SECRET})
    with app.app_context(), pytest.raises(InputError, match="oauth"):
        Mail(app).send(Message("x", ["bob@x.example"], body="x", sender=ANN))


def test_oauth_and_a_token_are_one_too_many(site: Site) -> None:
    site.use(username=ANN, host="mail.example", oauth="microsoft", token=lambda: "x")
    with pytest.raises(Exception, match="which one is meant"):
        EmailMessage("x", "x", ANN, ["bob@x.example"]).send()


def test_nothing_secret_is_logged(tokens: TokenServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Mailbox() as mailbox:
        connect(mailbox.at(provider(tokens))).quit()
        tokens.answers.append(says(400, {"error": "invalid_grant", "error_description": SECRET}))
        mailbox.valid[ANN] = "other"
        with pytest.raises(pysmtpx.SmtpError):
            connect(mailbox.at(provider(tokens, timeout=21)))
    assert SECRET not in caplog.text
    assert "token-1" not in caplog.text
