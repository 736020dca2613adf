"""Keywords that a server wrongly offers, and that count as not offered: ``without``."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.certs import client_context, server_context

from pysmtpx import InputError, MailFromParams, MailObject, NotSupportedError, Server, SmtpPool, connect
from pysmtpx.testing import MailServer

ANN, BOB = "ann@example.org", "bob@example.org"
CONTENT = b"Subject: hello\r\n\r\nHi.\r\n"


def wire(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Who spoke, in order, from MAIL on."""
    said = [record.getMessage() for record in caplog.records if record.name == "pysmtpx.wire"]
    first = next(index for index, text in enumerate(said) if "MAIL FROM" in text)
    return [text[:2] for text in said[first:]]


def test_without_pipelining_each_command_waits_for_its_reply(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pysmtpx.wire")
    with MailServer() as server, connect(server.url, without=("PIPELINING", "chunking")) as smtp:
        assert not smtp.capabilities.pipelining
        assert "CHUNKING" not in smtp.capabilities
        smtp.send(ANN, [BOB], CONTENT)
        spoken = wire(caplog)
        with pytest.raises(NotSupportedError):
            smtp.send_bdat(ANN, [BOB], CONTENT)
    assert spoken == ["C:", "S:"] * (len(spoken) // 2)
    assert len(server.messages) == 1


@pytest.mark.parametrize("tls", ["implicit", "starttls", "opportunistic"])
def test_it_counts_before_and_after_tls(tls: str) -> None:
    options: dict[str, Any] = {"tls": "implicit"} if tls == "implicit" else {}
    with (
        MailServer(ssl_context=server_context(), **options) as server,
        connect(
            server.host, server.port, tls=tls, ssl_context=client_context(), without="8BITMIME, SIZE"
        ) as smtp,
    ):
        assert smtp.is_tls
        assert smtp.capabilities.size_limit is None
        assert not smtp.capabilities.eightbitmime
        smtp.send(ANN, [BOB], CONTENT)
    (message,) = server.messages
    assert "SIZE" not in message.params


def test_a_pool_with_several_in_flight_sends_by_data_where_chunking_is_left_out() -> None:
    with (
        MailServer(replies={"BDAT": "550 5.5.1 broken"}) as server,
        SmtpPool(server.url + "?without=CHUNKING", in_flight=8, max_connections=1) as pool,
    ):
        sent = pool.send_many(MailObject(ANN, [BOB], CONTENT) for _ in range(20))
        assert [outcome.status for outcome in sent] == ["accepted"] * 20


def test_dsn_can_be_left_out() -> None:
    with MailServer() as server, connect(server.url, without=["DSN"]) as smtp:
        with pytest.raises(NotSupportedError):
            smtp.send_with_params(ANN, [BOB], CONTENT, MailFromParams(ret="HDRS"))
        smtp.send(ANN, [BOB], CONTENT)


@pytest.mark.parametrize("tls", ["starttls", "opportunistic"])
@pytest.mark.parametrize("spelling", ["STARTTLS", "starttls", ("PIPELINING", "StartTLS")])
def test_starttls_cannot_be_left_out_where_it_would_end_in_clear_text(tls: Any, spelling: Any) -> None:
    """Before anything is dialled; where TLS is off, or on from the first octet, it changes nothing."""
    with pytest.raises(InputError, match=r'without STARTTLS.*tls="implicit".*tls="none"'):
        Server("mail.example.org", tls=tls, without=spelling)
    with pytest.raises(InputError, match="without STARTTLS"):
        Server("mail.example.org", 465, without=spelling).replace(tls=tls)
    with pytest.raises(InputError, match="without STARTTLS"):
        Server("mail.example.org", without=spelling)
    assert "STARTTLS" in Server("mail.example.org", tls="none", without=spelling).without
    assert "STARTTLS" in Server("mail.example.org", 465, without=spelling).without


@pytest.mark.parametrize("asked", [{"username": "ann", "password": "x"}, {"auth": "EXTERNAL"}])
def test_auth_cannot_be_left_out_where_somebody_is_to_log_in(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="without AUTH there is no log-in"):
        Server("mail.example.org", without="PIPELINING,auth", **asked)
    with pytest.raises(InputError, match="without AUTH"):
        Server("mail.example.org", without="AUTH").replace(**asked)
    assert Server("mail.example.org", without="AUTH").without == ("AUTH",)


@pytest.mark.parametrize("wrong", ["", "a b", "X\r\nQUIT", ("PIPELINING", ""), "-A", (5,), "é"])
def test_what_is_no_keyword_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="without"):
        Server("mail.example.org", without=wrong)


def test_it_is_part_of_the_value_and_of_its_url() -> None:
    server = Server("mail.example.org", without=("pipelining", "Chunking", "PIPELINING"))
    assert server.without == ("PIPELINING", "CHUNKING")
    assert server.url == "smtp://mail.example.org:587?without=PIPELINING,CHUNKING"
    assert Server.from_url(server.url) == server
    assert "without=('PIPELINING', 'CHUNKING')" in repr(server)
    assert Server("mail.example.org", without=[]) == Server("mail.example.org")
