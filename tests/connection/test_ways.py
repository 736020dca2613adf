"""``proxy=`` and ``dial=``: what a server is reached by, without a real proxy (these are in tests/real)."""

from __future__ import annotations

import pickle
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.certs import client_context, server_context
from support.daemon import CLOSED_PORT
from support.patience import ENOUGH
from support.scripted import Peer, ScriptedServer

import pysmtpx.smtplib as smtplib
from pysmtpx import ConnectError, InputError, ProxyError, Server, SmtpPool, Timeout, connect
from pysmtpx.testing import MailServer

SECRET = "s3cr3t-Zeta"
ANN, BOB, CONTENT = "ann@example.org", ["bob@example.org"], b"Subject: hello\r\n\r\nHi.\r\n"


@contextmanager
def http_proxy(*answer: bytes, cut: str = "whole", session: bool = True) -> Iterator[str]:
    """A proxy that answers so, and the server behind it in the same octets."""

    def script(peer: Peer) -> None:
        while peer.line():
            pass
        peer.say(*answer)
        if session:
            peer.hello()
            peer.quit()
        peer.rest()

    with ScriptedServer(script, cut) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("cut", ["whole", "line", "octet"])
def test_the_greeting_that_comes_with_the_answer_of_an_http_proxy_is_not_lost(cut: str) -> None:
    """The server speaks first, so both may be in one segment."""
    answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n", b"220 mail.example ESMTP\r\n"
    with http_proxy(*answer, cut=cut) as proxy, connect("mail.test", 25, tls="none", proxy=proxy) as smtp:
        assert not smtp.is_tls


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 " + SECRET.encode() + b"\r\n\r\n", "refused"),
        (b"HTTP/1.1 502 " + b"x" * 10_000 + b"\r\n\r\n", "target"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "broken"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "broken"),
        (b"220 mail.example ESMTP\r\n\r\n", "broken"),
        (b"\r\n\r\n", "broken"),
        (b"HTTP/1.1 999999999999999999999999 \x1b[2J\r\n\r\n", "broken"),
    ],
)
def test_what_a_hostile_http_proxy_says_is_not_repeated(answer: bytes, reason: str) -> None:
    with http_proxy(answer, session=False) as proxy, pytest.raises(ProxyError) as caught:
        connect("mail.test", 587, proxy=proxy.replace("//", f"//ann:{SECRET}@"))
    assert caught.value.reason == reason
    shown = str(caught.value)
    assert SECRET not in shown
    assert shown.isprintable()
    assert len(shown) < 1000


def test_a_proxy_that_hangs_up() -> None:
    for scheme in ("socks5", "socks4a", "http"):
        with (
            ScriptedServer(lambda peer: (peer.take(1), peer.reset())) as server,
            pytest.raises(ProxyError) as caught,
        ):
            connect("mail.test", 587, proxy=f"{scheme}://127.0.0.1:{server.port}")
        assert caught.value.reason == "broken"


def test_a_proxy_that_drips_does_not_outlive_the_deadline() -> None:
    """One deadline for the dial, the answer and the session."""
    stop = threading.Event()

    def script(peer: Peer) -> None:
        while not stop.wait(0.02):
            peer.say(b"x")

    with ScriptedServer(script) as server:
        with pytest.raises(Timeout, match=r"the proxy http://127\.0\.0\.1:\d+ did not bring"):
            connect("mail.test", 587, proxy=f"http://127.0.0.1:{server.port}", connect_timeout=ENOUGH)
        stop.set()


# -- values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("socks5://proxy.test", "socks5://proxy.test:1080"),
        ("SOCKS5H://Proxy.Test:9", "socks5://proxy.test:9"),
        ("socks4a://ann@[2001:DB8::0:1]", "socks4a://ann@[2001:db8::1]:1080"),
        ("http://proxy.test/", "http://proxy.test:80"),
        ("https://bücher.test:8443", "https://xn--bcher-kva.test:8443"),
    ],
)
def test_one_spelling(given: str, kept: str) -> None:
    server = Server("mail.test", proxy=given)
    assert (server.proxy, server.proxy_password) == (kept, None)
    assert Server.from_url(server.url) == server


def test_the_password_is_kept_apart_and_never_shown() -> None:
    server = Server("mail.test", proxy=f"socks5://ann%40x:{SECRET}%2F@proxy.test")
    assert (server.proxy, server.proxy_password) == ("socks5://ann%40x@proxy.test:1080", SECRET + "/")
    assert server == Server("mail.test", proxy="socks5://ann%40x@proxy.test", proxy_password=SECRET + "/")
    assert SECRET not in repr(server) + server.url
    assert "proxy_password='***'" in repr(server)
    assert Server.from_url(server.url, proxy_password=SECRET + "/") == server
    assert server.replace(port=25).proxy_password == SECRET + "/"
    assert server.replace(proxy=None, proxy_password=None) == Server("mail.test")
    assert pickle.loads(pickle.dumps(server)) == server


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "proxy.test:1080"},
        {"proxy": "ftp://proxy.test"},
        {"proxy": "socks4://proxy.test"},
        {"proxy": "socks5://"},
        {"proxy": "socks5://proxy.test:0"},
        {"proxy": "socks5://proxy.test/path"},
        {"proxy": "socks5://proxy.test?x=y"},
        {"proxy": "socks5://proxy.test#x"},
        {"proxy": "socks5://a\r\nb"},
        {"proxy": f"socks4a://ann:{SECRET}@proxy.test"},
        {"proxy": f"socks5://:{SECRET}@proxy.test"},
        {"proxy": f"socks5://ann:{SECRET}ä@proxy.test"},
        {"proxy": f"socks5://ann:{SECRET * 30}@proxy.test"},
        {"proxy": f"http://a%3Ab:{SECRET}@proxy.test"},
        {"proxy": f"http://ann:{SECRET}%0d%0aX: y@proxy.test"},
        {"proxy": f"socks5://ann:{SECRET}@proxy.test", "proxy_password": "another"},
        {"proxy": "socks5://ann@proxy.test"},
        {"proxy": "socks5://ann@proxy.test", "proxy_password": 5},
        {"proxy": 5},
        {"proxy_password": SECRET},
        {"dial": "a.b"},
        {"dial": print, "proxy": "socks5://proxy.test"},
        {"dial": print, "source_address": "127.0.0.1"},
    ],
)
def test_what_cannot_be_right_is_refused_and_not_repeated(options: Any) -> None:
    with pytest.raises(InputError) as caught:
        Server("mail.test", **options)
    assert SECRET not in str(caught.value) + repr(caught.value.__context__)
    for host in ("/run/smtp",):
        with pytest.raises(InputError):
            Server(host, **options)


@pytest.mark.parametrize("way", [{"proxy": "socks5://127.0.0.1"}, {"dial": print}])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_the_loopback_at_the_other_end_is_not_ours(host: str, way: Any) -> None:
    """Nothing goes in clear to it by default, and no password at all."""
    server = Server(host, **way)
    assert (server.tls, server.port, server.is_local) == ("starttls", 587, False)
    assert server.replace(proxy=None, dial=None).tls == "none"
    with pytest.raises(InputError):
        Server("/run/smtp", **way)


# -- dial --------------------------------------------------------------------------------


class Dialled:
    """A function for ``dial`` that keeps what it was given, and what it brought."""

    def __init__(self, server: Any, wrap: Any = None) -> None:
        self.server, self.wrap = server, wrap
        self.given: list[tuple[str, int, float]] = []
        self.sockets: list[socket.socket] = []

    def __call__(self, host: str, port: int, seconds: float) -> socket.socket:
        self.given.append((host, port, seconds))
        if self.server.path is not None:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.server.path)
        else:
            sock = socket.create_connection((self.server.host, self.server.port))
        self.sockets.append(sock if self.wrap is None else self.wrap(sock))
        return self.sockets[-1]


def test_it_gets_host_port_and_seconds_and_what_it_brings_is_ours_to_close() -> None:
    with MailServer() as server:
        dialled = Dialled(server)
        with connect("Bücher.test", 26, tls="none", dial=dialled, connect_timeout=9) as smtp:
            smtp.send(ANN, BOB, CONTENT)
        ((host, port, seconds),) = dialled.given
        assert (host, port) == ("xn--bcher-kva.test", 26)
        assert 0 < seconds <= 9
        assert dialled.sockets[0].fileno() == -1
        assert len(server.messages) == 1


def test_a_pool_calls_it_for_each_connection() -> None:
    with MailServer() as server:
        dialled = Dialled(server)
        with SmtpPool("mail.test", tls="none", dial=dialled, max_messages=1) as pool:
            for _ in range(3):
                pool.send(ANN, BOB, CONTENT)
        assert len(dialled.given) == 3
        assert {sock.fileno() for sock in dialled.sockets} == {-1}


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_tls_is_done_here_and_for_the_host_that_was_asked_for(tls: Any) -> None:
    with MailServer(ssl_context=server_context("mail.test"), tls=tls) as server:
        options = {"tls": tls, "dial": Dialled(server), "ssl_context": client_context()}
        with connect("mail.test", **options) as smtp:
            assert smtp.is_tls


def test_a_unix_socket(tmp_path: Any) -> None:
    with MailServer(path=tmp_path / "smtp") as server:
        with connect("mail.test", tls="none", dial=Dialled(server)) as smtp:
            smtp.send(ANN, BOB, CONTENT)
        assert len(server.messages) == 1


@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_a_tls_socket_is_a_tunnel_for_what_is_said_as_if_in_clear(tls: Any) -> None:
    """A server of the caller's own TLS; ``tls`` is about what goes through it."""

    def wrap(sock: socket.socket) -> ssl.SSLSocket:
        return client_context().wrap_socket(sock, server_hostname="mail.test")

    with MailServer(ssl_context=server_context("mail.test"), tls="implicit") as server:
        dialled = Dialled(server, wrap)
        if tls == "starttls":  # the server has its TLS already, and offers no other
            with pytest.raises(Exception, match="STARTTLS"):
                connect("mail.test", tls=tls, dial=dialled)
        else:
            content = CONTENT + b"0123456789abcde\r\n" * 100_000
            with connect("mail.test", tls=tls, dial=dialled) as smtp:
                assert not smtp.is_tls
                smtp.send(ANN, BOB, content)
            assert server.messages[0].content == content


def fails(error: BaseException) -> Any:
    def function(host: str, port: int, seconds: float) -> socket.socket:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(113, "No route to host"), ConnectError),
        (ConnectionRefusedError("no"), ConnectError),
        (TimeoutError("timed out"), Timeout),
        (ProxyError("mine", reason="refused"), ProxyError),
        (InputError("mine"), InputError),
        (LookupError("mine"), LookupError),
    ],
)
def test_what_it_raises(error: Any, kind: Any) -> None:
    with pytest.raises(kind) as caught:
        connect("mail.test", dial=fails(error))
    assert type(caught.value) is kind
    assert caught.value is error or caught.value.__cause__ is error
    with SmtpPool("mail.test", dial=fails(error), connect_timeout=5) as pool, pytest.raises(kind):
        pool.send(ANN, BOB, CONTENT)


@pytest.mark.parametrize("brought", [None, 5, "closed", "unconnected", "datagram"])
def test_what_it_must_not_bring(brought: Any) -> None:
    made: list[socket.socket] = []

    def function(*_: Any) -> Any:
        if not isinstance(brought, str):
            return brought
        kind = socket.SOCK_DGRAM if brought == "datagram" else socket.SOCK_STREAM
        made.append(socket.socket(type=kind))
        if brought == "closed":
            made[0].close()
        return made[0]

    with pytest.raises(InputError, match="dial"):
        connect("mail.test", dial=function)
    assert all(sock.fileno() == -1 for sock in made)


def test_one_that_takes_longer_than_it_has() -> None:
    with MailServer(strict=False) as server:
        dialled = Dialled(server)

        def late(host: str, port: int, seconds: float) -> socket.socket:
            assert not threading.Event().wait(seconds + 0.05)
            return dialled(host, port, seconds)

        with pytest.raises(Timeout, match="longer than it had"):
            connect("mail.test", dial=late, connect_timeout=0.1)
        assert dialled.sockets[0].fileno() == -1


def test_the_face_of_smtplib() -> None:
    with MailServer() as server:
        dialled = Dialled(server)

        class Ours(smtplib.SMTP):
            dial = staticmethod(dialled)

        with Ours("mail.test", 2525) as smtp:
            smtp.sendmail(ANN, BOB, CONTENT)
        assert dialled.given[0][:2] == ("mail.test", 2525)
        assert len(server.messages) == 1
    smtp = smtplib.SMTP()
    smtp.dial = fails(OSError(113, "No route to host"))
    with pytest.raises(OSError, match="No route to host"):
        smtp.connect("mail.test")
    smtp.proxy, smtp.dial = f"http://127.0.0.1:{CLOSED_PORT}", None
    with pytest.raises(ConnectionRefusedError, match="the proxy"):
        smtp.connect("mail.test")
