"""``connect``: the next address of a server, where the first does not let us in (RFC 5321 5.1)."""

from __future__ import annotations

import smtplib as standard
import ssl
import time
from typing import Any

import pytest
from support import certs
from support.places import BAD_GREETINGS, places, resolve_to
from support.scripted import Peer

import pysmtpx.smtplib as smtplib


def well(peer: Peer) -> None:
    peer.say(b"220 mail.example ESMTP\r\n")
    while peer.line().lower() != b"quit":
        peer.say(b"250 ok\r\n")
    peer.say(b"221 bye\r\n")


COUNTS = pytest.mark.parametrize("count", [1, 2, 3])


@COUNTS
@pytest.mark.parametrize("case", BAD_GREETINGS)
def test_the_next_address_is_tried(case: str, count: int, monkeypatch: Any) -> None:
    """FAULTS 115."""
    with places(monkeypatch, *[BAD_GREETINGS[case]] * count, well) as servers:
        with smtplib.SMTP("mail.test", servers[0].port, "me.example", timeout=5) as smtp:
            assert smtp.noop() == (250, b"ok")
            assert smtp.sock is not None
            assert smtp.sock.gettimeout() == 5
        assert [len(server.peers) for server in servers] == [1] * (count + 1)


@COUNTS
def test_who_says_nothing_has_a_fair_share_of_the_time(count: int, monkeypatch: Any) -> None:
    """FAULTS 115."""
    with places(monkeypatch, *[Peer.hold] * count, well) as servers:
        start = time.monotonic()
        with smtplib.SMTP("mail.test", servers[0].port, "me.example", timeout=3) as smtp:
            assert 3.0 * count / (count + 1) - 0.1 <= time.monotonic() - start < 3.0
            assert smtp.noop() == (250, b"ok")


def test_without_a_timeout_too(monkeypatch: Any) -> None:
    with (
        places(monkeypatch, BAD_GREETINGS["421"], well) as servers,
        smtplib.SMTP("mail.test", servers[0].port, "me.example") as smtp,
    ):
        assert smtp.noop() == (250, b"ok")
        assert smtp.sock is not None
        assert smtp.sock.gettimeout() is None


@COUNTS
def test_the_last_answer_is_that_of_the_call(count: int, monkeypatch: Any) -> None:
    with places(monkeypatch, *[BAD_GREETINGS["554"]] * count, BAD_GREETINGS["421"]) as servers:
        smtp = smtplib.SMTP(local_hostname="me.example", timeout=5)
        assert smtp.connect("mail.test", servers[0].port) == (421, b"4.3.2 busy")
        smtp.close()
        with pytest.raises(standard.SMTPConnectError) as caught:
            smtplib.SMTP("mail.test", servers[0].port, "me.example", timeout=5)
        assert caught.value.smtp_code == 421
        assert [len(server.peers) for server in servers] == [2] * (count + 1)


@pytest.mark.parametrize(
    "case", [case for case in BAD_GREETINGS if case != "resets"]
)  # while we dial, or later
def test_an_answer_says_more_than_an_address_where_nobody_listens(case: str, monkeypatch: Any) -> None:
    """As "localhost" has two, and a server often one."""
    told = []
    for hosts in (("127.0.0.1",), ("127.0.0.1", "::1")):
        with places(monkeypatch, BAD_GREETINGS[case]) as servers:
            resolve_to(monkeypatch, *hosts)
            smtp = smtplib.SMTP(local_hostname="me.example", timeout=5)
            try:
                told.append(repr(smtp.connect("mail.test", servers[0].port)))
            except standard.SMTPException as error:
                told.append(repr(error))
            smtp.close()
    assert told[0] == told[1]


def test_the_deadline_holds_for_all(monkeypatch: Any) -> None:
    with places(monkeypatch, *[Peer.hold] * 4) as servers:
        start = time.monotonic()
        with pytest.raises(standard.SMTPServerDisconnected):
            smtplib.SMTP("mail.test", servers[0].port, "me.example", timeout=0.8)
        assert 0.7 < time.monotonic() - start < 2.4  # and not the time of each of four


def test_a_second_connect_begins_anew(monkeypatch: Any) -> None:
    with places(monkeypatch, BAD_GREETINGS["421"], well) as servers:
        smtp = smtplib.SMTP(local_hostname="me.example", timeout=5)
        for _ in range(2):
            assert smtp.connect("mail.test", servers[0].port)[0] == 220
            assert smtp.quit()[0] == 221
        assert [len(server.peers) for server in servers] == [2, 2]


def test_a_handshake_that_breaks_leads_to_the_next_address(monkeypatch: Any) -> None:
    """FAULTS 115; one by a stranger's certificate leads nowhere (FAULTS 69)."""
    good, bad = certs.server_context("mail.test"), certs.server_context("other.test")

    def secure(peer: Peer) -> None:
        peer.tls(good)
        well(peer)

    context = certs.client_context()
    with (
        places(monkeypatch, lambda peer: peer.sock.recv(1), lambda peer: None, secure) as servers,
        smtplib.SMTP_SSL("mail.test", servers[0].port, "me.example", timeout=5, context=context) as smtp,
    ):
        assert smtp.noop() == (250, b"ok")
    with places(monkeypatch, lambda peer: peer.tls(bad), secure) as servers:
        with pytest.raises(ssl.SSLCertVerificationError):
            smtplib.SMTP_SSL("mail.test", servers[0].port, "me.example", timeout=5, context=context)
        assert not servers[1].peers


def test_lmtp_too(monkeypatch: Any) -> None:
    with (
        places(monkeypatch, BAD_GREETINGS["421"], well) as servers,
        smtplib.LMTP("mail.test", servers[0].port, "me.example", timeout=5) as lmtp,
    ):
        assert lmtp.noop() == (250, b"ok")
