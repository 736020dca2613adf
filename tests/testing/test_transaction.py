"""Transactions as the pure server judges them: content by DATA and BDAT, the end of data, LMTP."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.talk import Talk, codes

from pysmtpx.testing import Cut, Event, Garbage

MAIL = b"MAIL FROM:<ann@x.example>"
RCPT = b"RCPT TO:<bob@y.example>"
OTHER = b"RCPT TO:<cid@y.example>"
LMTP: dict[str, Any] = {"protocol": "lmtp"}


def send(*envelope: bytes, content: bytes = b"x\r\n", **options: Any) -> Talk:
    """Send one message by DATA, a command at a time."""
    talk = Talk(**options)
    talk.say(*envelope, b"DATA")
    talk.send(content + b".\r\n")
    return talk


# Content.

FORM = [
    (b"a\rb\r\n", "content has a bare CR (RFC 5321 2.3.8)"),
    (b"a\nb\r\n", "content has a bare LF (RFC 5321 2.3.8)"),
    (b"a\n.\nb\r\n", "content has a bare LF (RFC 5321 2.3.8)"),
    (b"a\r\n.\nb\r\n", "content has a bare LF (RFC 5321 2.3.8)"),
    (b"a\r\n.b\r\n", "a content line begins with a dot that is not doubled (RFC 5321 4.5.2)"),
    (b".b\r\n", "a content line begins with a dot that is not doubled (RFC 5321 4.5.2)"),
    (b"x" * 999 + b"\r\n", "a content line is longer than 998 octets (RFC 5322 2.1.1)"),
    (b"\xff\r\n", "content is 8-bit, BODY=8BITMIME is not stated (RFC 6152 3)"),
    (b"a\r\n\r\n\xff\r\n", "content is 8-bit, BODY=8BITMIME is not stated (RFC 6152 3)"),
]


@pytest.mark.parametrize(("content", "breach"), FORM)
def test_the_form_of_content(content: bytes, breach: str) -> None:
    assert breach in send(MAIL, RCPT, content=content).breaches


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"..\r\n", b"....\r\n..x\r\n", b".." + b"x" * 997 + b"\r\n", b"a\r\n\r\n..\r\n"]
)
def test_well_formed_content_is_unstuffed(content: bytes) -> None:
    talk = send(MAIL, RCPT, content=content)
    (message,) = talk.ledger.messages
    assert message.content == b"".join(line.removeprefix(b".") for line in content.splitlines(keepends=True))
    assert (message.wire_size, message.size) == (len(content), len(message.content))
    assert talk.breaches == []


def test_size_counts_the_content_unstuffed() -> None:
    assert send(MAIL + b" SIZE=4", RCPT, content=b"..x\r\n").breaches == []
    assert send(MAIL + b" SIZE=5", RCPT, content=b"..x\r\n").breaches == [
        "SIZE=5, the content has 4 octets (RFC 1870 6)"
    ]


def test_long_lines_are_allowed_on_request() -> None:
    assert send(MAIL, RCPT, content=b"x" * 5000 + b"\r\n", text_line_limit=None).breaches == []


@pytest.mark.parametrize(
    ("params", "content", "strict", "count"),
    [
        (b" BODY=8BITMIME", b"A: \xc3\xa4\r\n\r\n\xff\r\n", False, 0),
        (b" BODY=8BITMIME", b"A: \xc3\xa4\r\n\r\n\xff\r\n", True, 1),
        (b" SMTPUTF8", b"A: \xc3\xa4\r\n\r\nx\r\n", True, 0),
        (b" SMTPUTF8", b"A: x\r\n\r\n\xff\r\n", True, 1),
        (b" SMTPUTF8 BODY=8BITMIME", b"A: \xc3\xa4\r\n\r\n\xff\r\n", True, 0),
        (b"", b"A: \xc3\xa4\r\n\r\nx\r\n", False, 1),
    ],
)
def test_8_bit_header_and_body(params: bytes, content: bytes, strict: bool, count: int) -> None:
    talk = send(MAIL + params, RCPT, content=content, strict_headers=strict)
    assert len(talk.breaches) == count


def test_content_without_an_accepted_recipient_must_be_empty() -> None:
    """FAULTS 37."""
    for content, count in ((b"", 0), (b"x\r\n", 1)):
        talk = Talk(refuse={"bob@y.example": "550 no"}, replies={"DATA": "354 go"})
        talk.group(MAIL, RCPT, b"DATA")
        assert codes(talk.send(content + b".\r\n")) == [554]
        assert len(talk.breaches) == count
        assert talk.ledger.messages == talk.ledger.refused == []


def test_ending_a_message_whose_mail_was_refused_is_a_breach() -> None:
    """FAULTS 39: the empty message could be delivered."""
    talk = Talk(replies={"MAIL": "451 no", "RCPT": "250 ok", "DATA": "354 go"})
    talk.group(MAIL, RCPT, b"DATA")
    talk.send(b".\r\n")
    assert talk.breaches == ["a message was ended, MAIL is refused (RFC 2920 3.1)"]
    assert talk.ledger.messages == []


@given(
    lines=st.lists(st.sampled_from([b"", b".", b"..", b"x", b".x", b"\xff", b"y" * 70]), max_size=12),
    data=st.data(),
)
def test_any_content_comes_out_as_it_went_in(lines: list[bytes], data: st.DataObject) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    stuffed = (
        b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"
    )
    talk = Talk()
    talk.say(MAIL + b" BODY=8BITMIME SIZE=%d" % len(content), RCPT, b"DATA")
    for start, end in _slices(len(stuffed), data):
        talk.send(stuffed[start:end])
    assert talk.breaches == []
    assert talk.ledger.messages[0].content == content


@given(content=st.binary(max_size=60), data=st.data())
def test_any_octets_come_out_of_bdat_as_they_went_in(content: bytes, data: st.DataObject) -> None:
    talk = Talk()
    talk.say(MAIL + b" BODY=BINARYMIME SIZE=%d" % len(content), RCPT)
    for start, end in _slices(len(content), data):
        last = b" LAST" if end == len(content) else b""
        talk.send(b"BDAT %d%s\r\n%s" % (end - start, last, content[start:end]))
        if last:
            break
    else:
        talk.send(b"BDAT 0 LAST\r\n")
    assert talk.breaches == []
    assert talk.ledger.messages[0].content == content


def _slices(length: int, data: st.DataObject) -> list[tuple[int, int]]:
    cuts = data.draw(st.lists(st.integers(0, length), max_size=6).map(sorted))
    return list(zip([0, *cuts], [*cuts, length], strict=True))


# BDAT.


def test_bdat_in_chunks() -> None:
    talk = Talk()
    talk.say(MAIL + b" SIZE=8", RCPT)
    assert talk.send(b"BDAT 3\r\n.\r\n") == b"250 2.0.0 3 octets so far\r\n"
    assert codes(talk.send(b"BDAT 5 LAST\r\nabc\r\n")) == [250]
    (message,) = talk.ledger.messages
    assert (message.content, message.via) == (b".\r\nabc\r\n", "BDAT")
    assert talk.breaches == []


@pytest.mark.parametrize(
    "line", [b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 1 FIRST", b"BDAT 1 LAST x", b"BDAT \xc2\xb2"]
)
def test_a_bad_bdat(line: bytes) -> None:
    talk = Talk()
    assert talk.codes(MAIL, RCPT, line) == [250, 250, 501]
    assert len(talk.breaches) == 1


@pytest.mark.parametrize(
    ("lines", "breach"),
    [
        ([b"BDAT 0", b"DATA"], "DATA after BDAT (RFC 3030 2)"),
        ([b"BDAT 0", OTHER], "RCPT after BDAT (RFC 3030 2)"),
        ([b"BDAT 2 LAST\r\na\n"], "content has a bare LF (RFC 5321 2.3.8)"),
        ([b"BDAT 2 LAST\r\na\r"], "content has a bare CR (RFC 5321 2.3.8)"),
        ([b"BDAT 1 LAST\r\n\xff"], "content is 8-bit, BODY=8BITMIME is not stated (RFC 6152 3)"),
        ([b"BDAT 0 LAST", b"BDAT 0 LAST"], "BDAT without an accepted MAIL (RFC 5321 4.1.4)"),
    ],
)
def test_breaches_of_bdat(lines: list[bytes], breach: str) -> None:
    talk = Talk()
    talk.say(MAIL, RCPT)
    for line in lines:
        # A chunk has no line end of its own.
        talk.send(line if b"\r\n" in line else line + b"\r\n")
    assert talk.breaches == [breach]


def test_binarymime_must_not_go_by_data() -> None:
    talk = Talk()
    assert talk.codes(MAIL + b" BODY=BINARYMIME", RCPT, b"DATA") == [250, 250, 503]
    assert talk.breaches == ["DATA for BODY=BINARYMIME (RFC 3030 3)"]


def test_bdat_that_is_not_offered_is_swallowed_and_refused() -> None:
    talk = Talk(extensions=[])
    talk.say(MAIL, RCPT)
    assert codes(talk.send(b"BDAT 6 LAST\r\nQUIT\r\n")) == [502]
    assert talk.breaches == ["BDAT, CHUNKING is not offered"]


@pytest.mark.parametrize(
    ("grouped", "breaches"), [(True, []), (False, ["BDAT after a refused BDAT (RFC 3030 2)"])]
)
def test_chunks_behind_a_refused_one(grouped: bool, breaches: list[str]) -> None:
    """FAULTS 47."""
    talk = Talk(replies={("BDAT", 0): "452 4.3.1 full"})
    talk.say(MAIL, RCPT)
    replies = talk.send(b"BDAT 1\r\na") + talk.send(b"BDAT 1 LAST\r\nb", unread=grouped)
    assert codes(replies) == [452, 503]
    assert (talk.breaches, talk.ledger.messages) == (breaches, [])


# LMTP.


def test_lmtp_answers_for_each_accepted_recipient() -> None:
    """FAULTS 54."""
    talk = Talk(
        **LMTP, replies={("FINAL", "cid@y.example"): "452 4.2.2 full"}, refuse={"eve@y.example": "550 no"}
    )
    talk.say(MAIL, RCPT, b"RCPT TO:<eve@y.example>", OTHER, RCPT, b"DATA")
    assert codes(talk.send(b"x\r\n.\r\n")) == [250, 452, 250]
    (message,) = talk.ledger.messages
    assert message.addresses == ["bob@y.example", "cid@y.example", "bob@y.example"]
    assert message.delivered == ["bob@y.example", "bob@y.example"]
    assert message.recipients[1].reply == "452 4.2.2 full"
    assert talk.breaches == []


def test_lmtp_by_bdat_answers_once_for_a_chunk_and_each_at_the_end() -> None:
    talk = Talk(**LMTP)
    talk.say(MAIL, RCPT, OTHER)
    assert codes(talk.send(b"BDAT 3\r\nabc")) == [250]
    assert codes(talk.send(b"BDAT 2 LAST\r\n\r\n")) == [250, 250]


def test_lmtp_without_a_recipient_has_no_reply_after_the_end() -> None:
    """FAULTS 57."""
    talk = Talk(**LMTP, replies={"DATA": "354 go", "RCPT": "550 no"})
    talk.group(MAIL, RCPT, b"DATA")
    assert talk.send(b".\r\n") == b""


def test_lmtp_cut_half_way_leaves_the_rest_undelivered() -> None:
    """FAULTS 55."""
    talk = Talk(**LMTP, replies={("FINAL", 1): Cut(reply="452 x")})
    talk.say(MAIL, RCPT, OTHER, b"RCPT TO:<dan@y.example>", b"DATA")
    assert codes(talk.send(b"x\r\n.\r\n")) == [250]
    (message,) = talk.ledger.messages
    assert [recipient.reply[:3] for recipient in message.recipients] == ["250", "452", ""]


# Verdicts.


def test_the_ledger_takes_what_was_answered() -> None:
    assert send(MAIL, RCPT, replies={"FINAL": "554 no"}).ledger.messages == []
    assert send(MAIL, RCPT, replies={"FINAL": Garbage(b"???\r\n")}).ledger.messages == []
    assert len(send(MAIL, RCPT, replies={"FINAL": Cut()}).ledger.messages) == 1
    assert send(MAIL, RCPT, replies={"FINAL": Cut(reply="451 no")}).ledger.messages == []


def test_without_keep_messages_are_counted() -> None:
    talk = Talk(keep=False)
    talk.say(MAIL + b" SIZE=3", RCPT, b"DATA", b"x\r\n.", b"QUIT")
    assert (talk.ledger.count, talk.ledger.messages, talk.ledger.commands) == (1, [], [[]])
    assert talk.breaches == []


def test_events_tell_where_the_conversation_stands() -> None:
    events: list[Event] = []
    talk = Talk(**LMTP, verdict=lambda event: events.append(event))
    talk.say(MAIL, RCPT, OTHER, b"BDAT 0", b"BDAT 0 LAST", MAIL, b"RSET", b"QUIT")
    assert [(event.verb, event.index, event.address, event.transaction) for event in events] == [
        ("CONNECT", 0, "", 0),
        ("LHLO", 0, "client.example", 0),
        ("MAIL", 0, "ann@x.example", 0),
        ("RCPT", 0, "bob@y.example", 0),
        ("RCPT", 1, "cid@y.example", 0),
        ("BDAT", 0, "", 0),
        ("FINAL", 0, "bob@y.example", 0),
        ("FINAL", 1, "cid@y.example", 0),
        ("MAIL", 1, "ann@x.example", 1),
        ("RSET", 0, "", 1),
        ("QUIT", 0, "", 1),
    ]
    assert events[2].reply == b"250 2.1.0 sender ok\r\n"
