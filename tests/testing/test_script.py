"""Scripted answers: where they apply, which wins, and what each fault makes of a reply."""

from __future__ import annotations

import pytest
from support.talk import Talk, codes

from pysmtpx.testing import (
    Action,
    Close,
    Cut,
    Drip,
    Event,
    Garbage,
    ServerSession,
    Stall,
    Wait,
    Write,
    WriteSlowly,
)

MAIL = b"MAIL FROM:<ann@x.example>"
RCPT = b"RCPT TO:<bob@y.example>"
OK = b"250 2.0.0 ok\r\n"


def actions_of(talk: Talk, line: bytes) -> list[Action]:
    return talk.session.receive(line + b"\r\n", unread=False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("251 fine", [Write(b"251 fine\r\n")]),
        ("250-a\n250 b", [Write(b"250-a\r\n250 b\r\n")]),
        ("250 ok\n250 again", [Write(b"250 ok\r\n250 again\r\n")]),
        ("250 gr\u00fc\u00df", [Write(b"250 gr\xc3\xbc\xc3\x9f\r\n")]),
        (b"250 \xff\n", [Write(b"250 \xff\n")]),
        (b"", []),
        ("421 bye", [Write(b"421 bye\r\n"), Close()]),
        (Garbage(b"\x16\x03\x01"), [Write(b"\x16\x03\x01")]),
        (Cut(), [Close(orderly=False)]),
        (Cut(after=4), [Write(b"250 "), Close(orderly=False)]),
        (Cut(after=None, reset=True), [Write(OK), Close(reset=True, orderly=False)]),
        (Cut(after=3, reply="554 no"), [Write(b"554"), Close(orderly=False)]),
        (Stall(), [Wait(None)]),
        (Stall(after=2), [Write(b"25"), Wait(None)]),
        (Stall(seconds=3.0), [Wait(3.0), Write(OK)]),
        (Stall(seconds=3.0, after=2, reply="451 x"), [Write(b"45"), Wait(3.0), Write(b"1 x\r\n")]),
        (Drip(0.5), [WriteSlowly(OK, 0.5)]),
        (Drip(0.5, reply="421 x"), [WriteSlowly(b"421 x\r\n", 0.5), Close()]),
        (Stall(seconds=1.0, reply="421 x"), [Wait(1.0), Write(b"421 x\r\n"), Close()]),
    ],
    ids=repr,
)
def test_each_kind_of_answer(answer: str, expected: list[Action]) -> None:
    talk = Talk(replies={"NOOP": answer})
    assert actions_of(talk, b"NOOP") == expected


@pytest.mark.parametrize(
    "line", [b"NOOP", b"RSET", b"VRFY x", b"EXPN x", b"HELP", b"QUIT", b"HELO c.example", MAIL]
)
def test_every_verb_can_be_scripted(line: bytes) -> None:
    talk = Talk(replies={line.split()[0].decode(): "451 4.3.0 scripted"})
    assert talk.say(line) == b"451 4.3.0 scripted\r\n"


def test_greeting_and_ehlo_can_be_scripted() -> None:
    talk = Talk(replies={"CONNECT": "220-a\n220 b", "EHLO": "250-c\n250-SIZE 7\n250 PIPELINING"})
    assert talk.greeting == b"220-a\r\n220 b\r\n"
    assert talk.codes(MAIL + b" SIZE=8", MAIL + b" BODY=7BIT") == [552, 501]
    assert talk.breaches == ["MAIL with BODY, 8BITMIME is not offered"]


def test_a_refused_starttls_starts_nothing() -> None:
    talk = Talk(extensions=["STARTTLS"], replies={"STARTTLS": "454 4.7.0 not now"})
    assert talk.codes(b"STARTTLS", MAIL) == [454, 250]


def test_the_most_exact_entry_wins() -> None:
    talk = Talk(
        verdict=lambda event: "251 verdict" if event.address == "a@x" else None,
        refuse={"a@x": "550 refuse", "b@x": "550 refuse", "c@x": "550 refuse", "d@x": "550 refuse"},
        replies={
            ("RCPT", "a@x"): "551 address",
            ("RCPT", "b@x"): "551 address",
            ("RCPT", 1): "552 index",
            ("RCPT", 2): "552 index",
        },
    )
    talk.say(MAIL)
    replies = talk.say(*(b"RCPT TO:<%s@x>" % name for name in (b"a", b"b", b"c", b"d", b"e")))
    assert codes(replies) == [251, 551, 552, 550, 250]


def test_a_verb_alone_outranks_refuse() -> None:
    talk = Talk(refuse={"bob@y.example": "550 no"}, replies={"RCPT": "450 later"})
    assert talk.codes(MAIL, RCPT) == [250, 450]


def test_an_index_counts_the_verb_within_its_connection() -> None:
    talk = Talk(replies={("MAIL", 1): "451 later", ("NOOP", 2): "500 x"})
    assert talk.codes(MAIL, b"RSET", MAIL, MAIL) == [250, 250, 451, 250]
    assert talk.codes(b"NOOP", b"NOOP", b"NOOP", b"NOOP") == [250, 250, 500, 250]


def test_connections_are_numbered_by_their_ledger() -> None:
    first = Talk(replies={("CONNECT", 1): "421 busy"})
    second = ServerSession(first.session.config, first.ledger)
    assert second.greeting() == [Write(b"421 busy\r\n"), Close()]
    assert [connection.ending for connection in first.ledger.connections] == ["", "421"]


@pytest.mark.parametrize(
    ("reply", "next_code"),
    [("250 odd", 503), ("354 go", 250), ("251 fine", 503), (b"junk\r\n", 503), ("550 x", 503)],
)
def test_the_state_follows_the_reply_that_was_given(reply: str, next_code: int) -> None:
    """FAULTS 26: whoever sends content after another reply than 354 sends commands."""
    talk = Talk(replies={"DATA": reply})
    talk.say(MAIL, RCPT, b"DATA")
    talk.ledger.breaches.clear()
    assert codes(talk.say(b"MAIL FROM:<x@y>", b"."))[-1] == (500 if next_code == 503 else 250)


def test_mail_by_a_scripted_2xx_opens_a_transaction() -> None:
    talk = Talk(replies={"MAIL": "259 odd", ("RCPT", 1): "252 odd"})
    assert talk.codes(MAIL, RCPT, b"RCPT TO:<c@x>", b"DATA", b"x\r\n.") == [259, 250, 252, 354, 250]
    assert talk.ledger.messages[0].addresses == ["bob@y.example", "c@x"]


def test_a_stall_for_good_says_nothing_more() -> None:
    talk = Talk(replies={"NOOP": Stall()})
    assert talk.say(b"NOOP", b"NOOP", b"QUIT") == b""
    assert talk.session.closed
    assert talk.breaches == []


@pytest.mark.parametrize("slices", [1, 7, 1000])
def test_an_answer_amid_the_content(slices: int) -> None:
    """FAULTS 27, 28: the reply comes early and takes the place of the last one."""
    talk = Talk(replies={("BODY", 20): "452 4.3.1 full"})
    talk.say(MAIL, RCPT, b"DATA")
    content = b"0123456789\r\n" * 4 + b".\r\n"
    replies = [talk.send(content[start : start + slices]) for start in range(0, len(content), slices)]
    assert b"".join(replies) == b"452 4.3.1 full\r\n"
    assert replies[19 // slices] == b"452 4.3.1 full\r\n"
    assert talk.ledger.messages == []
    assert talk.codes(MAIL) == [250]
    assert talk.breaches == []


@pytest.mark.parametrize("content", [b".\r\n", b"a\r\n.\r\n"])
def test_the_end_of_data_is_no_content(content: bytes) -> None:
    talk = Talk(replies={("BODY", 4): "452 x"})
    talk.say(MAIL, RCPT, b"DATA")
    replies = b"".join(talk.send(content[index : index + 1]) for index in range(len(content)))
    assert codes(replies) == [250]


def test_an_answer_at_octet_0_comes_with_354() -> None:
    """FAULTS 9."""
    talk = Talk(replies={("BODY", 0): "250 early"})
    assert codes(talk.say(MAIL, RCPT, b"DATA"))[2:] == [354, 250]


def test_a_cut_amid_a_chunk() -> None:
    """FAULTS 51."""
    talk = Talk(replies={("BODY", 5): Cut(reset=True)})
    talk.say(MAIL, RCPT)
    assert actions_of(talk, b"BDAT 10 LAST\r\nabcdef") == [Close(reset=True, orderly=False)]
    assert talk.ledger.messages == []
    talk.send(b"gh", unread=None)
    assert talk.breaches == []


def test_a_verdict_may_answer_amid_the_content() -> None:
    def verdict(event: Event) -> str | None:
        return "452 full" if event.verb == "BODY" and event.index >= 9 else None

    talk = Talk(verdict=verdict)
    talk.say(MAIL, RCPT, b"DATA")
    assert talk.send(b"12345678") == b""
    assert talk.send(b"9") == b"452 full\r\n"


def test_a_verdict_sees_what_would_be_said_and_may_alter_it() -> None:
    talk = Talk(verdict=lambda event: event.reply.replace(b"ok", b"OK"))
    assert talk.say(b"NOOP") == b"250 2.0.0 OK\r\n"
