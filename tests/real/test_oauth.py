"""Providers of tokens before a real Dovecot behind Postfix, which checks the signature and end of each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import certs, corpus
from support.daemon import wait_until
from support.dovecot import token
from support.patience import LONG
from support.postfix import PostfixServer
from support.tokens import SECRET, TokenServer, token_server, without_proxy

import pysmtpx
from pysmtpx import Server, SmtpPool, smtplib
from pysmtpx.oauth import OAuth2

SENDER, ALICE, BOB = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test"
MECHANISMS = ["OAUTHBEARER", "XOAUTH2"]


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    without_proxy(monkeypatch)
    with token_server(mint=lambda number: token(ALICE, lifetime=3600 + number)) as running:
        yield running


def server(postfix: PostfixServer, tokens: TokenServer, mechanism: str) -> Server:
    provider = OAuth2(tokens.url, "id", client_secret=SECRET, ssl_context=tokens.context)
    return Server(
        postfix.host,
        postfix.port,
        tls="starttls",
        username=ALICE,
        token=provider,
        auth=mechanism,
        ssl_context=certs.client_context(),
    )


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_pool_of_six_logs_in_by_one_token(
    postfix: PostfixServer, tokens: TokenServer, mechanism: str
) -> None:
    everybody = threading.Barrier(6)
    where = server(postfix, tokens, mechanism)

    def send() -> None:
        with pool.connection() as smtp:
            everybody.wait(LONG)
            smtp.send(SENDER, [BOB], corpus.SEVEN_BIT["plain"])

    with SmtpPool(where, max_connections=6) as pool, ThreadPoolExecutor(6) as six:
        for future in [six.submit(send) for _ in range(6)]:
            future.result(LONG)
    said = f"sasl_method={mechanism}, sasl_username={ALICE}\n"
    wait_until(lambda: postfix.log_text().count(said) == 6, 30, said)
    assert tokens.tokens_asked == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_token_that_has_ended_for_the_server_is_renewed(
    postfix: PostfixServer, tokens: TokenServer, mechanism: str
) -> None:
    """The provider took it for good for another hour."""
    tokens.mint = lambda number: token(ALICE, lifetime=-3600 if number == 1 else 3600)
    with pysmtpx.connect(server(postfix, tokens, mechanism)) as smtp:
        smtp.send(SENDER, [BOB], corpus.SEVEN_BIT["plain"])
    assert tokens.tokens_asked == 2


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_token_that_the_server_never_takes(
    postfix: PostfixServer, tokens: TokenServer, mechanism: str
) -> None:
    tokens.mint = lambda number: token(ALICE, lifetime=-3600 - number)
    with pytest.raises(pysmtpx.AuthenticationError, match="status '") as caught:
        pysmtpx.connect(server(postfix, tokens, mechanism))
    assert not caught.value.temporary
    assert not [each for each in tokens.given if each in f"{caught.value!s}{caught.value.transcript}"]
    assert tokens.tokens_asked == 2


def test_the_face_of_smtplib(postfix: PostfixServer, tokens: TokenServer) -> None:
    with smtplib.SMTP(postfix.host, postfix.port) as smtp:
        smtp.starttls(context=certs.client_context())
        assert smtp.login(ALICE, server(postfix, tokens, "XOAUTH2").token)[0] == 235
        smtp.sendmail(SENDER, [BOB], corpus.SEVEN_BIT["plain"])
