"""Through real proxies to a real Postfix, whose name only the proxies know."""

from __future__ import annotations

import pickle
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support import certs, corpus
from support.daemon import CLOSED_PORT
from support.django_site import site as site
from support.mailbox import behind_trace
from support.patience import ENOUGH, LONG
from support.postfix import PostfixServer
from support.proxies import (
    BLOCKED,
    BLOCKED_PORT,
    PASSWORD,
    USER,
    DanteServer,
    MicrosocksServer,
    ProxyServer,
    SshServer,
    TinyproxyServer,
    TlsProxyServer,
)

import pysmtpx.smtplib as smtplib
from pysmtpx import (
    InputError,
    MailObject,
    ProxyError,
    Server,
    SmtpError,
    SmtpPool,
    Timeout,
    TlsError,
    connect,
)
from pysmtpx.checking import check
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.contrib.pools import close_pools

SENDER, ALICE = "sender@elsewhere.test", "alice@mail.test"
MAIL = corpus.SEVEN_BIT["lines of dots"]
KINDS = (MicrosocksServer, DanteServer, SshServer, TinyproxyServer, TlsProxyServer)
WAYS = [(kind, scheme) for kind in KINDS for scheme in kind.schemes]


@pytest.fixture(scope="session")
def _proxies() -> Iterator[dict[type[ProxyServer], ProxyServer]]:
    running: dict[type[ProxyServer], ProxyServer] = {}
    try:
        for kind in KINDS:
            running[kind] = kind()
        yield running
    finally:
        for each in running.values():
            each.stop()


@pytest.fixture(params=WAYS, ids=[f"{kind.__name__}-{scheme}" for kind, scheme in WAYS])
def proxy(request: pytest.FixtureRequest, _proxies: Any, monkeypatch: Any, tmp_path: Any) -> str:
    """Return the URL of a proxy; what its TLS shows is from an authority that the environment names."""
    trust(monkeypatch, tmp_path)
    kind, scheme = request.param
    return str(_proxies[kind].url(scheme))


@pytest.fixture
def of(_proxies: Any, monkeypatch: Any, tmp_path: Any) -> Any:
    """Return the running proxy of a kind."""
    trust(monkeypatch, tmp_path)
    return _proxies.__getitem__


def trust(monkeypatch: Any, folder: Any) -> None:
    certs.authority().cert_pem.write_to_path(folder / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_connection(postfix: PostfixServer, proxy: str, tls: Any) -> None:
    """TLS, the certificate's name and the log-in are the server's, whatever is in between."""
    port = postfix.smtps_port if tls == "implicit" else postfix.port
    account = {"username": ALICE, "password": postfix.users[ALICE]}
    with connect("mail.test", port, tls=tls, proxy=proxy, **account) as smtp:  # type: ignore[arg-type]
        assert smtp.is_tls
        smtp.send(SENDER, [ALICE], MAIL)
    (stored,) = postfix.mailbox(ALICE).take()
    assert behind_trace(stored) == MAIL


def test_another_name_is_refused_through_it_too(postfix: PostfixServer, proxy: str) -> None:
    with pytest.raises(TlsError):
        connect("localhost.", postfix.smtps_port, tls="implicit", proxy=proxy, server_hostname="other.test")


def test_a_pool(postfix: PostfixServer, proxy: str) -> None:
    with SmtpPool(
        "mail.test", port=postfix.smtps_port, tls="implicit", proxy=proxy, max_connections=3
    ) as pool:
        sent = pool.send_many(MailObject(SENDER, [ALICE], MAIL) for _ in range(30))
        assert [outcome.status for outcome in sent] == ["accepted"] * 30
    assert len(postfix.mailbox(ALICE).take(30)) == 30


def test_content_larger_than_any_buffer(postfix: PostfixServer, proxy: str) -> None:
    content = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 200_000
    with connect("mail.test", postfix.port, proxy=proxy) as smtp:
        smtp.send(SENDER, [ALICE], content)
    (stored,) = postfix.mailbox(ALICE).take()
    assert behind_trace(stored) == content


def test_a_url_with_the_password_from_elsewhere(postfix: PostfixServer, of: Any) -> None:
    place = of(MicrosocksServer).url(account=USER)
    url = f"smtp://mail.test:{postfix.smtps_port}?tls=implicit&proxy={place}"
    with connect(url, proxy_password=PASSWORD) as smtp:
        smtp.send(SENDER, [ALICE], MAIL)
    with pytest.raises(InputError, match="proxy_password"):
        Server.from_url(url)
    server = Server.from_url(url, proxy_password=PASSWORD)
    assert Server.from_url(server.url, proxy_password=PASSWORD) == server
    assert PASSWORD not in server.url + repr(server)


@pytest.mark.parametrize("kind", [MicrosocksServer, TlsProxyServer])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_the_face_of_smtplib(postfix: PostfixServer, of: Any, kind: Any, tls: str) -> None:
    class Base(smtplib.SMTP_SSL if tls == "implicit" else smtplib.SMTP):  # type: ignore[misc]
        proxy = of(kind).url()

    port = postfix.smtps_port if tls == "implicit" else postfix.port
    with Base("mail.test", port, timeout=LONG) as smtp:
        if tls == "starttls":
            smtp.starttls()
        smtp.login(ALICE, postfix.users[ALICE])
        smtp.sendmail(SENDER, [ALICE], MAIL)
    assert len(postfix.mailbox(ALICE).take()) == 1


def test_the_face_of_smtplib_fails_as_the_standard_library_does(of: Any) -> None:
    smtp = smtplib.SMTP(timeout=LONG)
    smtp.proxy = f"socks5://127.0.0.1:{CLOSED_PORT}"
    with pytest.raises(ConnectionRefusedError, match=r"the proxy .* cannot be reached"):
        smtp.connect("mail.test", 25)
    smtp.proxy = of(DanteServer).url()
    with pytest.raises(OSError, match="does not reach"):
        smtp.connect("mail.test", CLOSED_PORT)


def test_django(postfix: PostfixServer, of: Any, site: Any) -> None:
    from django.core.mail import send_mail

    place = {"host": "mail.test", "port": postfix.smtps_port, "use_ssl": True, "timeout": LONG}
    site.use(**place, proxy=of(TinyproxyServer).url(account=USER), proxy_password=PASSWORD)
    assert send_mail("hello", "Hi.", SENDER, [ALICE]) == 1
    site.use(**place, dial=f"{__name__}.never")
    with pytest.raises(SmtpError, match="not today"):
        send_mail("hello", "Hi.", SENDER, [ALICE])
    assert len(postfix.mailbox(ALICE).take()) == 1


def never(host: str, port: int, seconds: float) -> socket.socket:
    raise ConnectionRefusedError(f"not today: {host}")


def test_flask(postfix: PostfixServer, of: Any) -> None:
    app = Flask(__name__)
    app.config.update(
        MAIL_SERVER="mail.test",
        MAIL_PORT=postfix.smtps_port,
        MAIL_USE_SSL=True,
        MAIL_PROXY=of(MicrosocksServer).url(account=USER),
        MAIL_PROXY_PASSWORD=PASSWORD,
    )
    mail = Mail(app)
    try:
        with app.app_context():
            mail.send(Message("hello", recipients=[ALICE], body="Hi.", sender=SENDER))
    finally:
        close_pools(0)
    assert len(postfix.mailbox(ALICE).take()) == 1


def test_check_goes_the_same_way(postfix: PostfixServer, of: Any) -> None:
    seen = check("mail.test", postfix.smtps_port, tls="implicit", proxy=of(MicrosocksServer).url())
    assert seen.ok, seen.findings
    assert [each.address for each in seen.addresses] == ["mail.test"]
    assert PASSWORD not in repr(seen) + str(seen.as_dict())


# -- what goes wrong ---------------------------------------------------------------------


def failure(*target: Any, **options: Any) -> SmtpError:
    """The error of connect(); neither it nor a frame below it has the password."""
    with pytest.raises(SmtpError) as caught:
        connect(*target, **{"connect_timeout": LONG, **options})
    error = caught.value
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = list(report.stack)[1:]  # without our own
    shown = "".join(f"{frame.locals}" for frame in frames) + str(error) + repr(error)
    assert PASSWORD not in shown
    assert error.__cause__ is None or error.__cause__.__traceback__ is None or PASSWORD not in shown
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return error


@pytest.mark.parametrize("scheme", ["socks5", "socks4a", "http", "https"])
def test_a_proxy_that_is_not_there(scheme: str, of: Any) -> None:
    who = "" if scheme == "socks4a" else f"{USER}:{PASSWORD}@"
    error = failure("mail.test", 587, proxy=f"{scheme}://{who}127.0.0.1:{CLOSED_PORT}")
    assert isinstance(error, ProxyError)
    assert (error.reason, error.temporary) == ("unreachable", True)
    assert f"the proxy {scheme}://127.0.0.1:{CLOSED_PORT} cannot be reached" in str(error)
    assert isinstance(error.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("kind", [MicrosocksServer, TinyproxyServer, TlsProxyServer])
@pytest.mark.parametrize("account", ["", f"{USER}:wrong"])
def test_a_proxy_that_does_not_take_our_log_in(kind: Any, account: str, of: Any) -> None:
    error = failure("mail.test", 587, proxy=of(kind).url(account=account))
    assert isinstance(error, ProxyError)
    assert (error.reason, error.temporary) == ("refused", False)
    assert "proxy_password" in error.cure
    assert error.proxy in str(error)


def test_a_pool_that_a_proxy_refuses_says_so_at_once(of: Any) -> None:
    """And does not try it again and again: accounts are locked by that."""
    url = of(MicrosocksServer).url(account=f"{USER}:wrong")
    with SmtpPool("mail.test", proxy=url, connect_timeout=LONG) as pool:
        for _ in range(2):
            with pytest.raises(ProxyError, match="did not take our log-in"):
                pool.send(SENDER, [ALICE], MAIL)


def test_a_proxy_that_does_not_allow_the_place(of: Any) -> None:
    for error in (
        failure("mail.test", BLOCKED_PORT, proxy=of(DanteServer).url()),
        failure(BLOCKED, 587, proxy=of(TinyproxyServer).url()),
    ):
        assert isinstance(error, ProxyError)
        assert (error.reason, error.temporary) == ("refused", False)
        assert "allow" in error.cure


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not SshServer])
def test_a_server_that_the_proxy_does_not_reach(kind: Any, of: Any) -> None:
    for target in (("mail.test", CLOSED_PORT), ("nowhere.test", 587)):
        error = failure(*target, proxy=of(kind).url())
        assert isinstance(error, ProxyError)
        assert (error.reason, error.temporary) == ("target", True)
        assert f"does not reach {target[0]}:{target[1]}" in str(error)
        assert "the proxy looks the name up" in error.cure


def test_what_is_no_such_proxy(postfix: PostfixServer, of: Any) -> None:
    places = {
        f"socks5://127.0.0.1:{postfix.port}",
        f"http://127.0.0.1:{of(MicrosocksServer).port}",
        f"https://127.0.0.1:{postfix.port}",
        f"socks4a://127.0.0.1:{postfix.port}",
    }
    for url in places:
        error = failure("mail.test", 587, proxy=url)
        assert isinstance(error, ProxyError), (url, error)
        assert error.reason == "broken", (url, error)


def test_an_https_proxy_whose_certificate_nobody_vouches_for(
    of: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    certs.stranger().cert_pem.write_to_path(tmp_path / "stranger.pem")
    proxy = of(TlsProxyServer).url()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "stranger.pem"))
    error = failure("mail.test", 587, proxy=proxy)
    assert isinstance(error, ProxyError)
    assert error.reason == "broken"
    assert "TLS with the proxy" in str(error)
    assert "roots" in error.cure


@pytest.mark.parametrize("scheme", ["socks5", "socks4a", "http", "https"])
def test_a_proxy_that_says_nothing(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        error = failure("mail.test", 587, proxy=url, connect_timeout=ENOUGH)
    assert isinstance(error, Timeout)
    assert url in str(error)


def test_no_password_where_python_cannot_be_seen_into() -> None:
    assert PASSWORD not in repr(Server("mail.test", proxy=f"socks5://{USER}:{PASSWORD}@p.test"))
    assert "python_socks" in sys.modules
