"""FAULTS 85: no secret in an error, its frames, its pickle or the log, whatever a server quotes."""

from __future__ import annotations

import base64
import logging
import smtplib as standard
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from support.accounts import PASSWORD, TOKEN, USER, b64, conceals, shown
from support.fates import attempt
from support.scripted import Peer, ScriptedServer, ehlo
from support.traces import frames_shown

from pysmtpx import (
    AuthenticationError,
    InputError,
    ProtocolError,
    RetryPolicy,
    Server,
    SmtpError,
    SmtpPool,
    connect,
)
from pysmtpx import smtplib as face

PLAIN = b64(f"\0{USER}\0{PASSWORD}".encode())

QUOTES: dict[str, Callable[[bytes], bytes]] = {
    "the line": lambda line: line,
    "the argument": lambda line: line.split()[-1],
    "the password": lambda line: PASSWORD.encode(),
    "the password in capitals": lambda line: PASSWORD.upper().encode(),
    "the password in base64": lambda line: b64(PASSWORD.encode()),
    "the password in hexadecimal": lambda line: PASSWORD.encode().hex().encode(),
    "the password for a URL": lambda line: quote(PASSWORD, safe="").encode(),
    "half of the line": lambda line: line[: len(line) * 3 // 4],
    "half of the password": lambda line: PASSWORD[:10].encode(),
    "what was decoded": lambda line: repr(f"\0{USER}\0{PASSWORD}").encode(),
    "on two lines": lambda line: line[:-9] + b"\r\n" + line[-9:],
}
REPLIES = [b"535", b"501", b"454", b"421", b"250"]


def _refusing(mechanism: str, code: bytes, quote: Callable[[bytes], bytes], behind: bytes = b"") -> Any:
    """A server that quotes in its refusal; LOGIN and SCRAM are refused after their last line."""

    def script(peer: Peer) -> None:
        peer.say(b"220 mail.example ESMTP\r\n")
        peer.line()
        peer.say(ehlo(f"AUTH {mechanism}"))
        line = peer.line()
        if mechanism == "LOGIN":
            for _ in range(2):
                peer.say(b"334 VXNlcm5hbWU6\r\n")
                line = peer.line()
        first, *more = (b"5.7.8 refused: " + quote(line)).split(b"\r\n")
        if more:
            peer.say(code + b"-" + first + b"\r\n" + code + b" " + more[0] + b"\r\n" + behind)
        else:
            peer.say(code + b" " + first + b"\r\n" + behind)
        peer.rest()

    return script


def _hides(error: Any) -> None:
    assert isinstance(error, Exception)
    text = f"{shown(error)}\n{frames_shown(error)}\n{getattr(error, 'reply', '')!r}"
    conceals(text)
    for form in (
        PLAIN.decode(),
        PASSWORD[:10],
        PASSWORD.upper(),
        PASSWORD.encode().hex(),
        quote(PASSWORD, safe=""),
    ):
        assert form not in text, form


def _by_pool(host: str, port: int, **options: Any) -> None:
    with SmtpPool(Server(host, port, **options), retry=RetryPolicy(attempts=1)) as pool:
        pool.send("s@x.example", "a@x.example", b"Subject: x\r\n\r\n")


@pytest.mark.parametrize("reach", [connect, _by_pool])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("code", REPLIES)
@pytest.mark.parametrize("quoted", QUOTES)
def test_a_refusal_that_quotes_what_was_sent(
    quoted: str, code: bytes, mechanism: str, reach: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), ScriptedServer(_refusing(mechanism, code, QUOTES[quoted])) as server:
        error = attempt(reach, "127.0.0.1", server.port, username=USER, password=PASSWORD)
    assert isinstance(error, SmtpError)
    assert error.reply is not None
    assert error.reply.code == int(code)
    _hides(error)
    conceals(caplog.text)
    conceals(repr(error.transcript))
    assert PLAIN.decode() not in caplog.text


@pytest.mark.parametrize("behind", [b"535 more\r\n", b"421 " + PASSWORD.encode() + b"\r\n", b"\x00\r\n"])
@pytest.mark.parametrize("quoted", QUOTES)
def test_octets_behind_a_refusal_that_quotes(quoted: str, behind: bytes) -> None:
    with ScriptedServer(_refusing("PLAIN", b"535", QUOTES[quoted], behind)) as server:
        error = attempt(server.connect, username=USER, password=PASSWORD)
    assert isinstance(error, SmtpError)
    _hides(error)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("challenged", [True, False])
def test_a_token_that_is_quoted(mechanism: str, challenged: bool) -> None:
    """In the status of a challenge, too."""

    def script(peer: Peer) -> None:
        peer.greet(f"AUTH {mechanism}")
        peer.line()
        if challenged:
            peer.say(b"334 " + b64(b'{"status":"401 for ' + TOKEN.encode() + b'"}') + b"\r\n")
            peer.line()
        peer.say(b"535 5.7.8 no such token: " + TOKEN.encode() + b"\r\n")
        peer.rest()

    with ScriptedServer(script) as server:
        error = attempt(server.connect, username=USER, token=TOKEN, auth=mechanism)
    assert isinstance(error, AuthenticationError)
    _hides(error)


@pytest.mark.parametrize(
    "text", [b"5.7.8 Username and Password not accepted", USER.encode(), b"AUTH PLAIN is off"]
)
@pytest.mark.parametrize("password", [PASSWORD, "a", "no"])
def test_what_quotes_nothing_is_shown(text: bytes, password: str) -> None:
    """The server's words tell what to do; a password of one letter is in all of them."""
    with ScriptedServer(_refusing("PLAIN", b"535", lambda line: text)) as server:
        error = attempt(server.connect, username=USER, password=password)
    assert text.decode() in str(error)


def test_a_short_password_that_is_quoted_is_hidden() -> None:
    with ScriptedServer(_refusing("PLAIN", b"535", lambda line: b'the password "hu" is wrong')) as server:
        error = attempt(server.connect, username=USER, password="hu")
    assert "hu" not in str(error)
    assert "535" in str(error)


@pytest.mark.parametrize("code", REPLIES[:3])
@pytest.mark.parametrize("quoted", QUOTES)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_the_smtplib_face(mechanism: str, quoted: str, code: bytes) -> None:
    with (
        ScriptedServer(_refusing(mechanism, code, QUOTES[quoted])) as server,
        face.SMTP("127.0.0.1", server.port, "me.example", timeout=5) as smtp,
    ):
        with pytest.raises(standard.SMTPException) as caught:
            smtp.login(USER, PASSWORD)
        _hides(caught.value)
        smtp.close()


# -- frames --------------------------------------------------------------------------------------


def _closes(peer: Peer) -> None:
    peer.greet("AUTH PLAIN LOGIN")
    peer.line()
    peer.reset()


def _nonsense(peer: Peer) -> None:
    peer.greet("AUTH PLAIN LOGIN")
    peer.line()
    peer.say(b"nonsense\r\n")
    peer.rest()


def _stalls(peer: Peer) -> None:
    peer.greet("AUTH PLAIN LOGIN")
    peer.line()
    peer.hold()


def _no_auth(peer: Peer) -> None:
    peer.greet()
    peer.rest()


def _rude(peer: Peer) -> None:
    peer.say(b"554 go away\r\n")
    peer.rest()


SCRIPTS = [_closes, _nonsense, _stalls, _no_auth, _rude, _refusing("PLAIN", b"535", QUOTES["the line"])]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_frame_shows_a_secret(script: Any) -> None:
    """``connect`` and the pool, by URL, by keywords and by a ``Server``; nobody listens in the last case."""
    word = quote(PASSWORD, safe="")
    with ScriptedServer(script) as server:
        url = f"smtp://{quote(USER)}:{word}@127.0.0.1:{server.port}?connect_timeout=0.5"
        account = {"username": USER, "password": PASSWORD, "connect_timeout": 0.5}
        calls = [
            lambda: connect(url),
            lambda: connect("127.0.0.1", server.port, **account),
            lambda: connect(Server.from_url(url)),
            lambda: _by_pool("127.0.0.1", server.port, **account),
            lambda: SmtpPool(url, retry=RetryPolicy(attempts=1)).send("s@x.example", "a@x.example", b"\r\n"),
        ]
        for call in calls:
            error = attempt(call)
            assert isinstance(error, SmtpError)
            _hides(error)
            assert word not in frames_shown(error)


def _refused(call: Callable[[], object]) -> BaseException:
    """What a call raises; a URL brings its own user, so not all of the changes below are wrong there."""
    try:
        call()
    except (InputError, TypeError) as error:
        return error
    return InputError()


@pytest.mark.parametrize(
    "change",
    [
        {"tls": "bogus"},
        {"port": 70_000},
        {"port": 0},
        {"host": "a b"},
        {"local_hostname": "a b"},
        {"connect_timeout": -1},
        {"token": TOKEN},
        {"password": PASSWORD + "\0"},
        {"password": PASSWORD + "\ud800"},
        {"username": None},
        {"auth": "BOGUS"},
        {"no_such_option": 1},
    ],
    ids=str,
)
def test_no_frame_shows_a_secret_where_an_argument_is_refused(change: dict[str, Any]) -> None:
    given = {"host": "127.0.0.1", "username": USER, "password": PASSWORD} | change
    host = given.pop("host")
    good = Server("127.0.0.1", username=USER, password=PASSWORD)
    url = f"smtp://{quote(USER)}:{quote(PASSWORD, safe='')}@127.0.0.1"
    for call in (
        lambda: Server(host, **given),
        lambda: connect(host, **given),
        lambda: SmtpPool(host, **given),
        lambda: good.replace(host=host, **given),
        lambda: Server.from_url(url, **change),
        lambda: connect(url, **change),
        lambda: SmtpPool(url, **change),
    ):
        error = _refused(call)
        text = f"{error}\n{error!r}\n{frames_shown(error)}"
        conceals(text)
        assert quote(PASSWORD, safe="") not in text


def test_no_frame_shows_a_token_that_its_function_got_wrong() -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH XOAUTH2")
        peer.rest()

    with ScriptedServer(script) as server:
        for token in (TOKEN + "\n", TOKEN * 1000):
            error = attempt(server.connect, username=USER, token=lambda word=token: word)
            assert isinstance(error, InputError)
            _hides(error)


# -- what is no URL ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["s3cr3t-word", "s3c/r3t-word", "s3c#r3t-word", "s3c?r3t@word", "s3cr3t:word", "ß3cr3t"]
)
@pytest.mark.parametrize(
    "form",
    [
        "//user:{}@host.example",
        "/user:{}@host.example",
        "///user:{}@host.example",
        "//user%3A{}@host.example",
        "user:{}@host.example",
        "user:{}",
        "smtp:/user:{}@host.example",
        "smtp:user:{}@host.example",
        "smtp//user:{}@host.example",
        "smtp;//user:{}@host.example",
        "smtp:\\\\user:{}@host.example",
        "://user:{}@host.example",
        "http://user:{}@host.example",
        "smtp ://user:{}@host.example",
        "smtp://user:{}@host.example:port",
        "smtp://user:{}@host.example:99999",
        "smtp://user:{}@ho st.example",
        "smtp://user:{}@host.example/path",
        "smtp://user:{}@[::1",
        "smtp://user:{}@host.example?tls=bogus",
        "smtp://user:{}@host.example?password={}",
        "lmtp+unix://user:{}@host.example/path",
        "smtp://host.example/user:{}@",
    ],
)
def test_what_is_no_url_is_not_quoted_with_its_password(form: str, word: str) -> None:
    text = form.replace("{}", word)
    for call in (connect, SmtpPool, Server, Server.from_url):
        with pytest.raises(InputError) as caught:
            call(text)
        told = f"{caught.value}\n{caught.value!r}\n{frames_shown(caught.value)}"
        for piece in (word, "r3t", base64.b64encode(word.encode()).decode()):
            assert piece not in told, told


def test_a_path_with_an_at_sign_is_one() -> None:
    """As of systemd's templates."""
    assert Server("/run/smtp@1.sock").path == "/run/smtp@1.sock"


def test_a_refusal_is_still_told_by_its_code() -> None:
    with ScriptedServer(_refusing("PLAIN", b"535", QUOTES["the line"])) as server:
        error = attempt(server.connect, username=USER, password=PASSWORD)
    assert str(error.reply.enhanced) == "5.7.8"
    assert "535" in str(error)
    assert not isinstance(error, ProtocolError)
