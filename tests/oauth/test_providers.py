"""What providers ask of a token server over real HTTPS, and what they make of its answers."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support import certs
from support.patience import LONG
from support.tokens import (
    REFRESH_TOKEN,
    SECRET,
    TokenServer,
    drips,
    hangs_up,
    held,
    reply,
    says,
    token_server,
)
from support.traces import frames_shown

from pysmtpx import CredentialsUnavailable, InputError, SmtpError
from pysmtpx.oauth import Google, Microsoft, OAuth2, TokenProvider

SCOPE = "mail.send offline"
SECRETS = (SECRET, REFRESH_TOKEN, "BEGIN PRIVATE KEY")


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as running:
        yield running


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def account_file(server: TokenServer, tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    told = {
        "type": "service_account",
        "client_email": "robot@project.example",
        "private_key": pem_of(key),
        "private_key_id": "1",
        "token_uri": server.url,
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(told), "utf-8")
    return path


@pytest.fixture
def certificate_file(tmp_path: Path) -> Path:
    issued = certs.authority().issue_cert("client.example", key_type=_rsa())
    path = tmp_path / "client.pem"
    path.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes())
    return path


def _rsa() -> Any:
    import trustme

    return trustme.KeyType.RSA


def client_credentials(server: TokenServer, **options: Any) -> OAuth2:
    given = {"client_secret": SECRET, "scope": SCOPE, "ssl_context": certs.client_context(), **options}
    return OAuth2(server.url, "the client", **given)


def refresh_token(server: TokenServer, **options: Any) -> OAuth2:
    return client_credentials(server, refresh_token=REFRESH_TOKEN, **options)


def microsoft(server: TokenServer, **options: Any) -> Microsoft:
    given = {"authority": server.base, "ssl_context": certs.client_context(), **options}
    return Microsoft("tenant.example", "the client", **given)


def microsoft_secret(server: TokenServer, **options: Any) -> Microsoft:
    return microsoft(server, client_secret=SECRET, **options)


def microsoft_user(server: TokenServer, **options: Any) -> Microsoft:
    return microsoft(server, refresh_token=REFRESH_TOKEN, **options)


def google_user(server: TokenServer, **options: Any) -> Google:
    given = {"token_url": server.url, "ssl_context": certs.client_context(), **options}
    return Google(client_id="the client", client_secret=SECRET, refresh_token=REFRESH_TOKEN, **given)


KINDS: dict[str, Callable[..., TokenProvider]] = {
    "client credentials": client_credentials,
    "refresh token": refresh_token,
    "Microsoft, secret": microsoft_secret,
    "Microsoft, user": microsoft_user,
    "Google, user": google_user,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def shows_no_secret(error: BaseException, *others: str) -> None:
    text = "\n".join([str(error), repr(error), frames_shown(error), repr(pickle.loads(pickle.dumps(error)))])
    text = "\n".join([text, *others])
    for secret in SECRETS:
        assert secret not in text


def failure(provider: TokenProvider) -> CredentialsUnavailable:
    with pytest.raises(CredentialsUnavailable) as caught:
        provider.current(timeout=LONG)
    shows_no_secret(caught.value)
    return caught.value


# What is asked.


@every_kind
def test_a_token_is_asked_for_once(server: TokenServer, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = KINDS[kind](server)
    assert [provider.current(timeout=LONG) for _ in range(3)] == ["token-1"] * 3
    assert server.tokens_asked == 1
    told = f"{caplog.text} {provider!r} {provider._renewal!r}"
    assert not [secret for secret in (*SECRETS, "token-1") if secret in told]


@every_kind
def test_equal_values_share_a_token_and_another_secret_does_not(server: TokenServer, kind: str) -> None:
    context = certs.client_context()
    one, same = (KINDS[kind](server, ssl_context=context) for _ in range(2))
    other = KINDS[kind](server, ssl_context=context, timeout=19)
    assert one == same != other
    assert [each.current(timeout=LONG) for each in (one, same, other)] == ["token-1", "token-1", "token-2"]


def test_client_credentials_by_the_header(server: TokenServer) -> None:
    client_credentials(server, parameters={"audience": "a b"}).current(timeout=LONG)
    (asked,) = server.asked
    assert asked.basic == ("the client", SECRET)
    assert asked.form == {"grant_type": "client_credentials", "scope": SCOPE, "audience": "a b"}


def test_client_credentials_in_the_body(server: TokenServer) -> None:
    client_credentials(server, client_auth="body", scope=None).current(timeout=LONG)
    (asked,) = server.asked
    assert "authorization" not in asked.headers
    assert asked.form == {
        "grant_type": "client_credentials",
        "client_id": "the client",
        "client_secret": SECRET,
    }


def test_a_public_client_with_a_refresh_token(server: TokenServer) -> None:
    refresh_token(server, client_secret=None, scope=None).current(timeout=LONG)
    (asked,) = server.asked
    assert asked.form == {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH_TOKEN,
        "client_id": "the client",
    }


def test_secrets_may_be_functions_and_are_asked_for_at_each_renewal(server: TokenServer) -> None:
    secrets = iter(["first", "second"])
    provider = client_credentials(server, client_secret=lambda: next(secrets))
    provider.renewed(provider.current(timeout=LONG), timeout=LONG)
    assert [each.basic[1] for each in server.asked] == ["first", "second"]


@pytest.mark.parametrize("kind", ["refresh token", "Microsoft, user"])
def test_a_refresh_token_that_is_replaced(server: TokenServer, kind: str) -> None:
    """RFC 6749 6: the new one is used from then on, and told to whoever keeps it."""
    kept: list[str] = []
    server.more = {"refresh_token": "another"}
    provider = KINDS[kind](server, on_refresh_token=kept.append)
    provider.renewed(provider.current(timeout=LONG), timeout=LONG)
    used = [each.form["refresh_token"] for each in server.asked if each.method == "POST"]
    assert used == [REFRESH_TOKEN, "another"]
    assert kept == ["another"]


@pytest.mark.parametrize("make", [client_credentials, microsoft])
def test_a_function_that_gives_another_refresh_token_is_heard(
    server: TokenServer, make: Callable[..., TokenProvider]
) -> None:
    """Somebody consented anew, or another process keeps the one that took its place."""
    stored = [REFRESH_TOKEN]
    server.more = {"refresh_token": "another"}
    provider = make(server, refresh_token=lambda: stored[0])
    provider.renewed(provider.current(timeout=LONG), timeout=LONG)
    stored[0] = "consented anew"
    provider.renewed(provider.current(timeout=LONG), timeout=LONG)
    used = [each.form["refresh_token"] for each in server.asked if each.method == "POST"]
    assert used == [REFRESH_TOKEN, "another", "consented anew"]


def test_who_fails_to_keep_a_refresh_token_still_gets_his_token(
    server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(text: str) -> None:
        raise ValueError(text)

    server.more = {"refresh_token": "another-secret"}
    assert refresh_token(server, on_refresh_token=failing).current(timeout=LONG) == "token-1"
    assert "on_refresh_token of OAuth2 raised ValueError" in caplog.text
    assert "another-secret" not in caplog.text


def test_microsoft_as_the_application(server: TokenServer) -> None:
    microsoft_secret(server).current(timeout=LONG)
    discovery, asked = server.asked
    assert discovery.path == "/tenant.example/v2.0/.well-known/openid-configuration"
    assert asked.path == "/tenant.example/oauth2/v2.0/token"
    assert asked.form["grant_type"] == "client_credentials"
    assert asked.form["client_secret"] == SECRET
    assert asked.form["scope"] == "https://outlook.office365.com/.default"


def test_microsoft_for_a_user(server: TokenServer) -> None:
    microsoft_user(server).current(timeout=LONG)
    asked = server.asked[-1]
    assert asked.form["grant_type"] == "refresh_token"
    assert asked.form["refresh_token"] == REFRESH_TOKEN
    assert set(asked.form["scope"].split()) >= {"https://outlook.office.com/SMTP.Send", "offline_access"}
    assert "client_secret" not in asked.form


def test_microsoft_by_a_certificate(server: TokenServer, certificate_file: Path) -> None:
    provider = microsoft(server, certificate=certificate_file)
    assert provider.current(timeout=LONG) == "token-1"
    form = server.asked[-1].form
    pem = certificate_file.read_bytes()
    public = serialization.load_pem_private_key(pem, None).public_key()
    claims = jwt.decode(form["client_assertion"], public, algorithms=["PS256"], options={"verify_aud": False})
    assert claims["iss"] == claims["sub"] == "the client"
    assert str(certificate_file) in repr(provider)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_certificate_that_is_none(server: TokenServer, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "client.pem"
    if content is not None:
        path.write_bytes(content)
    error = failure(microsoft(server, certificate=path))
    assert "certificate" in str(error)
    assert server.asked == []


def test_google_by_a_service_account(server: TokenServer, account_file: Path, key: rsa.RSAPrivateKey) -> None:
    provider = Google(account_file, "ann@corp.example", ssl_context=certs.client_context())
    assert provider.current(timeout=LONG) == "token-1"
    (asked,) = server.asked
    assert asked.form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    audience = "https://oauth2.googleapis.com/token"
    claims = jwt.decode(asked.form["assertion"], key.public_key(), algorithms=["RS256"], audience=audience)
    assert claims["sub"] == "ann@corp.example"
    assert claims["scope"] == "https://mail.google.com/"
    assert claims["iss"] == "robot@project.example"


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"private_key": "BEGIN PRIVATE KEY"}'])
def test_a_file_that_is_no_service_account(server: TokenServer, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content, "utf-8")
    assert "service account" in str(failure(Google(path, "ann@corp.example")))


def test_google_for_a_user(server: TokenServer) -> None:
    google_user(server).current(timeout=LONG)
    assert server.asked[-1].form == {
        "grant_type": "refresh_token",
        "client_id": "the client",
        "client_secret": SECRET,
        "refresh_token": REFRESH_TOKEN,
    }


# What comes instead.

ANSWERS: dict[str, tuple[Any, bool, str]] = {
    "wrong secret": (
        says(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."}),
        False,
        "HTTP 401): invalid_client: AADSTS7000215: Invalid client secret.",
    ),
    "refresh token ended": (says(400, {"error": "invalid_grant"}), False, "consent anew"),
    "busy": (says(429, {"error": "slow"}, Retry_After="7"), True, "HTTP 429"),
    "down": (says(503, b"<html>sorry</html>"), True, "HTTP 503"),
    "for now": (says(400, {"error": "temporarily_unavailable"}), True, "temporarily_unavailable"),
    "hangs up": (hangs_up, True, "no answer from localhost"),
    "not JSON": (says(200, b"<html>" + SECRET.encode()), False, "gave no token"),
    "not UTF-8": (says(200, b"\xff\xfe\x00"), False, "gave no token"),
    "nested": (says(200, b"[" * 200_000), False, "gave no token"),
    "a huge number": (says(200, b"9" * 200_000), False, "gave no token"),
    "an array": (says(200, ["access_token"]), False, "gave no token"),
    "null": (says(200, None), False, "gave no token"),
    "no token": (says(200, {"token_type": "Bearer"}), False, "gave no token"),
    "a token that is a number": (says(200, {"access_token": 7}), False, "a token that is none"),
    "an empty token": (says(200, {"access_token": ""}), False, "a token that is none"),
    "a token that ends a line": (says(200, {"access_token": "a\r\nQUIT"}), False, "a token that is none"),
    "another kind": (says(200, {"access_token": "a", "token_type": "mac"}), False, "no bearer token"),
    "a kind that is none": (says(200, {"access_token": "a", "token_type": {}}), False, "no bearer token"),
    "an error of wrong types": (says(400, {"error": {"a": 1}, "error_description": 7}), False, "HTTP 400"),
    "huge": (says(200, b" " * 300_000), False, "larger than"),
    "endless header": (
        lambda server, asked, handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000),
        True,
        "malformed",
    ),
    "no HTTP": (lambda server, asked, handler: handler.wfile.write(b"220 mail\r\n\r\n"), True, "malformed"),
    "a redirection": (says(307, {}, Location="https://attacker.example/"), False, "redirects (307)"),
    "another redirection": (says(302, {}, Location="/elsewhere"), False, "redirects (302)"),
    "echoes the secret": (
        says(400, {"error": "no", "error_description": f"you sent {SECRET} {REFRESH_TOKEN}"}),
        False,
        "HTTP 400",
    ),
    "writes to a terminal": (
        says(400, {"error": "\x1b[2J\r\nFrom: x", "error_description": "a" * 100_000}),
        False,
        r"\x1b[2J\r\nFrom: x",
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
@every_kind
def test_an_answer_that_is_no_token(
    server: TokenServer, kind: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same by the standard library, msal and google-auth; and nobody asks again by himself."""
    caplog.set_level(logging.DEBUG)
    what, is_temporary, told = ANSWERS[answer]
    provider = KINDS[kind](server)
    if isinstance(provider, Microsoft):
        server.answers.append(
            lambda tokens, asked, handler: reply(handler, 200, tokens.discovery(asked.path))
        )
    server.answers.append(what)
    error = failure(provider)
    assert error.temporary is is_temporary
    assert told in str(error)
    assert len(str(error)) < 800
    assert str(error).isprintable()
    assert server.tokens_asked == 1
    shows_no_secret(error, caplog.text)


@pytest.mark.parametrize(
    "answer", ["down", "not JSON", "nested", "an array", "huge", "a redirection", "hangs up"]
)
def test_a_tenant_that_cannot_be_found_out_about(server: TokenServer, answer: str) -> None:
    what, is_temporary, _ = ANSWERS[answer]
    server.answers.append(what)
    assert failure(microsoft_secret(server)).temporary is is_temporary
    assert server.tokens_asked == 0


@pytest.mark.parametrize("endpoint", ["http://localhost/token", "ftp://x/", 7, None, "https://a@b/"])
def test_a_tenant_whose_tokens_come_over_no_tls(server: TokenServer, endpoint: object) -> None:
    told = {"authorization_endpoint": "https://localhost/a", "token_endpoint": endpoint}
    server.answers.append(says(200, told))
    failure(microsoft_secret(server))
    assert server.tokens_asked == 0


@every_kind
def test_who_is_busy_says_for_how_long(server: TokenServer, kind: str) -> None:
    provider = KINDS[kind](server)
    server.answers += [says(429, {}, Retry_After="7")]
    assert failure(provider).retry_after == 7.0


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("in 3000 s", 2000, 3000),
        ("in -100 s", 0, 0),
        ("9" * 30, 1, 1e10),
        ("soon", None, None),
        ("-5", None, None),
        ("", None, None),
        ("Wed, 99 Xxx 9999 99:99:99 GMT", None, None),
    ],
)
def test_retry_after_in_whatever_form(
    server: TokenServer, text: str, least: float | None, most: float | None
) -> None:
    if text.startswith("in "):  # as a date
        text = formatdate(time.time() + int(text.split()[1]), usegmt=True)
    server.answers.append(says(503, {}, Retry_After=text))
    seconds = failure(client_credentials(server)).retry_after
    assert (
        seconds is None if least is None or most is None else seconds is not None and least <= seconds <= most
    )


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [
        (3600, 3600.0),
        ("3599", 3599.0),
        (12.5, 12.5),
        (0, 0.0),
        (-1, -1.0),
        (None, None),
        ("soon", None),
        (True, None),
        ([], None),
        ({}, None),
        (10**400, None),
        (float("inf"), None),
        ("9" * 100, 999999999999.0),
    ],
)
def test_the_lifetime_in_whatever_form(server: TokenServer, lifetime: object, seconds: float | None) -> None:
    server.lifetime = lifetime
    secret = client_credentials(server).fetch()
    assert (secret.text, secret.lifetime) == ("token-1", seconds)


@every_kind
def test_a_slow_one_and_one_that_never_ends(server: TokenServer, kind: str) -> None:
    """The whole takes no longer than it may, however many octets come meanwhile."""
    for answer in (held, drips):
        server.answers[:] = [answer]
        error = failure(KINDS[kind](server, timeout=0.5 if answer is held else 0.6))
        assert error.temporary
        assert "in time" in str(error)


@every_kind
def test_one_that_is_not_there(kind: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(KINDS[kind](TokenServer(port=unused.getsockname()[1])))
    assert error.temporary
    assert "no answer from localhost" in str(error)


@every_kind
def test_one_whose_certificate_is_not_trusted(server: TokenServer, kind: str) -> None:
    error = failure(KINDS[kind](server, ssl_context=certs.client_context(certs.stranger())))
    assert not error.temporary
    assert "certificate of localhost was refused" in str(error)
    assert server.asked == []


def test_one_whose_certificate_is_for_another_name() -> None:
    with token_server(certs.server_context("other.example")) as server:
        assert "certificate of localhost" in str(failure(client_credentials(server)))


def test_the_roots_are_those_of_mail_servers(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certs.authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    assert client_credentials(server, ssl_context=None).current(timeout=LONG) == "token-1"


def test_the_proxy_of_the_environment_is_used(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By CONNECT: the proxy sees the name and the port alone."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_proxy, args=(listener, server.port, seen), daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        assert client_credentials(server).current(timeout=LONG) == "token-1"
        thread.join(LONG)
    (head,) = seen
    assert head.startswith(b"CONNECT localhost:%d " % server.port)
    assert b"Basic dXNlcjpwQHNz" in head  # user:p@ss
    assert SECRET.encode() not in head


def test_a_proxy_that_never_ends_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before TLS counts for the same deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:  # until it is closed
                    client.sendall(b"X-Filler: 1\r\n")
                    threading.Event().wait(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        error = failure(client_credentials(TokenServer(), timeout=0.5))
        thread.join(LONG)
    assert "in time" in str(error)
    assert error.temporary


def test_a_proxy_over_tls_is_told_nothing_in_clear(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    certs.authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    listener = socket.create_server(("127.0.0.1", 0))
    with certs.server_context().wrap_socket(listener, server_side=True) as listener:
        thread = threading.Thread(target=_proxy, args=(listener, server.port, seen), daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"https://user:p%40ss@localhost:{listener.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        assert client_credentials(server).current(timeout=LONG) == "token-1"
        thread.join(LONG)
    assert b"Basic dXNlcjpwQHNz" in seen[0]


def test_a_proxy_of_another_kind_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"socks5://user:{SECRET}@127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        error = failure(client_credentials(TokenServer(port=1)))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert "none of http or https" in str(error)


def _proxy(listener: socket.socket, port: int, seen: list[bytes]) -> None:
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as target:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        seen.append(head)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        def back() -> None:
            while octets := target.recv(65536):
                client.sendall(octets)

        answering = threading.Thread(target=back, daemon=True)
        answering.start()
        while octets := client.recv(65536):
            target.sendall(octets)
        target.shutdown(socket.SHUT_WR)
        answering.join(LONG)


# What is given.

WRONG: dict[str, Callable[[], object]] = {
    "http": lambda: OAuth2("http://localhost/token", "id", client_secret=SECRET),
    "no host": lambda: OAuth2("https:///token", "id", client_secret=SECRET),
    "a user in the URL": lambda: OAuth2(f"https://a:{SECRET}@localhost/", "id", client_secret=SECRET),
    "a bad port": lambda: OAuth2("https://localhost:x/", "id", client_secret=SECRET),
    "a line end": lambda: OAuth2("https://localhost/\r\n", "id", client_secret=SECRET),
    "no secret": lambda: OAuth2("https://localhost/", "id"),
    "an empty secret": lambda: OAuth2("https://localhost/", "id", client_secret=""),
    "a number": lambda: OAuth2("https://localhost/", "id", client_secret=7),  # type: ignore[arg-type]
    "client_auth": lambda: OAuth2("https://localhost/", "id", client_secret=SECRET, client_auth="post"),  # type: ignore[arg-type]
    "timeout": lambda: OAuth2("https://localhost/", "id", client_secret=SECRET, timeout=0),
    "scope": lambda: OAuth2("https://localhost/", "id", client_secret=SECRET, scope="a\nb"),
    "client_id": lambda: OAuth2("https://localhost/", "", client_secret=SECRET),
    "Microsoft: nothing": lambda: Microsoft("t", "id"),
    "Microsoft: both": lambda: Microsoft("t", "id", client_secret=SECRET, certificate="x.pem"),
    "Microsoft: tenant": lambda: Microsoft("", "id", client_secret=SECRET),
    "Microsoft: authority": lambda: Microsoft("t", "id", client_secret=SECRET, authority="http://x"),
    "Google: nothing": lambda: Google(),
    "Google: no subject": lambda: Google("file.json"),
    "Google: no file": lambda: Google(subject="ann@corp.example"),
    "Google: half": lambda: Google(client_id="id", client_secret=SECRET),
    "Google: both": lambda: Google("f", "ann@corp.example", client_id="id", client_secret=SECRET),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_right_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        WRONG[wrong]()
    shows_no_secret(caught.value)


def test_repr_names_the_account_and_no_secret(account_file: Path) -> None:
    assert repr(Microsoft("t", "id", client_secret=SECRET)) == "Microsoft(tenant='t', client_id='id')"
    assert repr(Google("a.json", "ann@x.example")) == (
        "Google(service_account_file='a.json', subject='ann@x.example')"
    )
    shown = repr(OAuth2("https://localhost/", "id", refresh_token=REFRESH_TOKEN))
    assert shown == "OAuth2(token_url='https://localhost/', client_id='id')"


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("msal", "Microsoft('t', 'id', client_secret='s')", "microsoft"),
        ("google.auth", "Google('f', 'ann@x.example')", "google"),
        ("msal", "by_name('microsoft', tenant='t', client_id='id', client_secret='s')", "microsoft"),
        ("google.auth", "by_name('google', service_account_file='f', subject='ann@x.example')", "google"),
    ],
)
def test_a_library_that_is_missing_is_named_by_its_extra(module: str, call: str, extra: str) -> None:
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from pysmtpx.oauth import Google, Microsoft, OAuth2, by_name
OAuth2("https://localhost/", "id", client_secret="s")
try:
    {call}
except ImportError as error:
    print(error)
"""
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert told.strip().endswith(f"pip install 'pysmtpx[{extra}]' [inputerror]")


def test_neither_library_is_loaded_before_the_first_token() -> None:
    program = (
        "import sys; from pysmtpx.oauth import *; Microsoft('t', 'i', client_secret='s');"
        "Google('f', 'ann@x.example'); print(*sys.modules)"
    )
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert not loaded & {"msal", "requests", "google.auth.transport", "google.oauth2", "cryptography"}


def test_every_failure_is_an_error_of_ours() -> None:
    assert issubclass(CredentialsUnavailable, SmtpError)
    assert isinstance(certs.client_context(), ssl.SSLContext)
