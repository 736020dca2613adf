"""GSSAPI against a real KDC and a real Dovecot behind Postfix."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import send_mail
from flask import Flask
from support import certs, corpus
from support.daemon import CLOSED_PORT, wait_until
from support.django_site import site as site
from support.kerberos import REALM, KerberosDovecot, Realm
from support.patience import LONG
from support.pools import shared_pools_end
from support.postfix import PostfixServer

import pysmtpx
from pysmtpx import Gssapi, Server, SmtpPool
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.smtplib import SMTP

SENDER, BOB = "sender@elsewhere.test", "bob@mail.test"
ANN = f"ann@{REALM}"
KNOWN = "ann@mail.test"
"""Dovecot writes the realm as it writes every domain."""


@pytest.fixture(scope="module")
def _realm() -> Iterator[Realm]:
    running = Realm()
    yield running
    running.stop()


@pytest.fixture
def realm(_realm: Realm, monkeypatch: pytest.MonkeyPatch) -> Realm:
    """The realm, and ann's ticket in the environment."""
    for name, value in _realm.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("KRB5_KTNAME", "KRB5_CLIENT_KTNAME", "KRB5_TRACE"):
        monkeypatch.delenv(name, raising=False)
    return _realm


@pytest.fixture(scope="module")
def _postfix(_realm: Realm) -> Iterator[PostfixServer]:
    """In place of the session's: one whose Dovecot has GSSAPI."""
    dovecot = KerberosDovecot(_realm)
    try:
        server = PostfixServer(dovecot)
        yield server
        server.stop()
    finally:
        dovecot.stop()


_pools_end = pytest.fixture(autouse=True)(shared_pools_end)


def described(server: PostfixServer, host: str = "mail.test", **options: Any) -> Server:
    """The server by a name that no DNS knows: nothing but the name itself can make the principal."""

    def dial(_host: str, port: int, seconds: float) -> socket.socket:
        return socket.create_connection((server.host, port), seconds)

    options = {"auth": "GSSAPI", "tls": "starttls", "ssl_context": certs.client_context(), **options}
    return Server(host, server.port, dial=dial, **options)


def proves(server: PostfixServer, user: str) -> None:
    said = f"sasl_method=GSSAPI, sasl_username={user}"
    wait_until(lambda: said in server.log_text(), 60, said)


def refused(server: Server, **kinds: Any) -> pysmtpx.AuthenticationError:
    with pytest.raises(pysmtpx.AuthenticationError) as caught:
        pysmtpx.connect(server)
    assert type(caught.value) is kinds.get("kind", pysmtpx.CredentialsUnavailable)
    return caught.value


def test_a_ticket_by_dovecot(realm: Realm, postfix: PostfixServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pysmtpx.connect(described(postfix)) as smtp:
        assert smtp.mechanism == "GSSAPI"
        smtp.send(SENDER, [BOB], corpus.SEVEN_BIT["plain"])
    proves(postfix, KNOWN)
    assert "smtp/mail.test@" in realm.log_text()
    assert "YII" not in caplog.text  # a token in base64 begins so


def test_six_of_a_pool(realm: Realm, postfix: PostfixServer) -> None:
    with SmtpPool(described(postfix), max_connections=6) as pool, ThreadPoolExecutor(6) as six:
        for future in [six.submit(pool.send, SENDER, [BOB], corpus.SEVEN_BIT["plain"]) for _ in range(12)]:
            future.result(LONG)
    proves(postfix, KNOWN)


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_service_has_a_keytab_in_place_of_kinit(
    realm: Realm, postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    keytab = f"FILE:{realm.client_keytab}"
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{realm.base}/robot-{by}")
    auth: Any = "GSSAPI"
    if by == "argument":
        auth = Gssapi(keytab=keytab, cache="MEMORY:robot")
    else:
        monkeypatch.setenv("KRB5_CLIENT_KTNAME", keytab)
    with pysmtpx.connect(described(postfix, auth=auth)) as smtp:
        smtp.send(SENDER, [BOB], corpus.SEVEN_BIT["plain"])
    proves(postfix, "robot@mail.test")


@pytest.mark.parametrize("username", ["ann", ANN])
def test_the_user_name_is_the_principal(realm: Realm, postfix: PostfixServer, username: str) -> None:
    with pysmtpx.connect(described(postfix, username=username)):
        pass


def test_another_principal_than_that_of_the_cache(realm: Realm, postfix: PostfixServer) -> None:
    error = refused(described(postfix, username="bob"))
    assert "bob@MAIL.TEST" in str(error)
    assert "kinit" in error.cure


def test_whom_to_act_as(realm: Realm, postfix: PostfixServer) -> None:
    """Dovecot asks whether ann may, and nobody said so."""
    error = refused(described(postfix, authzid="carol@mail.test"), kind=pysmtpx.AuthenticationError)
    assert error.reply is not None
    assert "keytab" in error.cure


def test_no_ticket(realm: Realm, postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{realm.base}/none")
    error = refused(described(postfix))
    assert not error.temporary
    assert not error.safe_to_retry
    assert "kinit" in error.cure
    assert "KRB5_CLIENT_KTNAME" in error.cure


def test_an_expired_ticket(realm: Realm, postfix: PostfixServer) -> None:
    cache = realm.kinit("-l", "1s", cache="short")
    said: list[str] = []

    def is_over() -> bool:
        try:
            pysmtpx.connect(described(postfix, auth=Gssapi(cache=cache))).close()
        except pysmtpx.CredentialsUnavailable as error:
            said.append(f"{error} {error.cure}")
        except pysmtpx.AuthenticationError:
            pass  # it ended between ticket and server
        return bool(said)

    wait_until(is_over, 60, "the end of the ticket")
    assert "expired" in said[0]
    assert "Get a new one: kinit" in said[0]


def test_a_server_that_the_kdc_does_not_know(realm: Realm, postfix: PostfixServer) -> None:
    error = refused(described(postfix, "other.test", server_hostname="other.test"))
    assert "no Kerberos ticket for smtp/other.test" in str(error)
    assert "Gssapi(service=" in error.cure
    # by the principal that it has, nevertheless
    auth = Gssapi(service=f"smtp/localhost@{REALM}")
    pysmtpx.connect(described(postfix, "other.test", server_hostname="localhost", auth=auth)).close()


def test_a_server_without_the_key_of_its_principal(realm: Realm, postfix: PostfixServer) -> None:
    auth = Gssapi(service="smtp/rekeyed.test")
    error = refused(described(postfix, auth=auth), kind=pysmtpx.AuthenticationError)
    assert "GSSAPI was refused" in str(error)
    assert "present key of smtp/rekeyed.test" in error.cure


def test_no_kdc(
    realm: Realm, postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Told apart from what is refused for good; a ticket that is there needs no KDC."""
    config = tmp_path / "krb5.conf"
    config.write_text(realm.config.read_text().replace(str(realm.port), str(CLOSED_PORT)))
    monkeypatch.setenv("KRB5_CONFIG", str(config))
    error = refused(described(postfix, auth=Gssapi(service="smtp/never.test")))
    assert error.temporary
    assert error.safe_to_retry
    assert "KDC" in error.cure


def test_without_a_ticket_the_next_one_that_is_named(
    realm: Realm, postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{realm.base}/none")
    account = {"username": "alice@mail.test", "password": postfix.users["alice@mail.test"]}
    with pysmtpx.connect(described(postfix, auth=["GSSAPI", "PLAIN"], **account)) as smtp:
        assert smtp.mechanism == "PLAIN"


def test_it_is_never_chosen_unasked(realm: Realm, postfix: PostfixServer) -> None:
    account = {"username": "alice@mail.test", "password": postfix.users["alice@mail.test"]}
    with pysmtpx.connect(described(postfix, auth=None, **account)) as smtp:
        assert smtp.mechanism == "PLAIN"


def test_the_face_of_smtplib(realm: Realm, postfix: PostfixServer) -> None:
    with SMTP("localhost", postfix.port) as smtp:
        smtp.starttls(context=certs.client_context())
        assert smtp.login("", Gssapi())[0] == 235
        smtp.sendmail(SENDER, [BOB], corpus.SEVEN_BIT["plain"])
    proves(postfix, KNOWN)


def test_a_url(realm: Realm, postfix: PostfixServer) -> None:
    url = f"smtp://localhost:{postfix.plain_port}?auth=GSSAPI"
    with pysmtpx.connect(Server.from_url(url)) as smtp:
        assert smtp.mechanism == "GSSAPI"
    assert Server.from_url(url).url.endswith("?auth=GSSAPI")


def test_check_names_it_and_logs_in(realm: Realm, postfix: PostfixServer) -> None:
    seen = described(postfix).check()
    assert (seen.mechanism, seen.logged_in) == ("GSSAPI", True)


def test_django(realm: Realm, postfix: PostfixServer, site: Any) -> None:
    site.use(
        host="localhost",
        port=postfix.port,
        use_tls=True,
        ssl_context="support.certs.client_context",
        auth="GSSAPI",
    )
    assert send_mail("Hello", "Hello.", SENDER, [BOB]) == 1
    postfix.mailbox(BOB).take()
    proves(postfix, KNOWN)


def test_flask(realm: Realm, postfix: PostfixServer) -> None:
    app = Flask("kerberos")
    app.config.update(
        MAIL_SERVER="localhost",
        MAIL_PORT=postfix.port,
        MAIL_USE_TLS=True,
        MAIL_AUTH="GSSAPI",
        MAIL_SSL_CONTEXT=certs.client_context(),
    )
    mail = Mail(app)
    with app.app_context():
        mail.send(Message("Hello", [BOB], "Hello.", sender=SENDER))
    postfix.mailbox(BOB).take()
    proves(postfix, KNOWN)
