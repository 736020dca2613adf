"""The pure server: what it answers, what it enters as a breach, and that slicing changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.talk import Talk, codes, written

from pysmtpx.testing import Close, Config, Cut, Ledger, ServerSession, StartTls

MAIL = b"MAIL FROM:<ann@x.example>"
RCPT = b"RCPT TO:<bob@y.example>"
NO_PIPELINING = {"extensions": ["8BITMIME"]}
STARTTLS = {"extensions": ["PIPELINING", "STARTTLS", "ENHANCEDSTATUSCODES"], "tls_extensions": ["SIZE 9"]}
OPEN_LINE = {"hello": False}


def test_a_whole_session_is_clean() -> None:
    talk = Talk()
    assert codes(talk.greeting + talk.hello) == [220, 250]
    assert talk.codes(MAIL, RCPT, b"DATA", b"Subject: x\r\n\r\nhello\r\n.", b"NOOP", b"QUIT") == [
        250, 250, 354, 250, 250, 221,
    ]  # fmt: skip
    assert talk.breaches == []
    (message,) = talk.ledger.messages
    assert (message.sender, message.addresses, message.content) == (
        "ann@x.example",
        ["bob@y.example"],
        b"Subject: x\r\n\r\nhello\r\n",
    )
    assert talk.ledger.commands == [["EHLO", "MAIL", "RCPT", "DATA", "NOOP", "QUIT"]]
    assert talk.ledger.connections[0].ending == "QUIT"


def test_the_ehlo_reply_has_the_extensions_as_configured() -> None:
    talk = Talk(name="mx.test", extensions=["SIZE 12", "XLORE=1 b", "auth=LOGIN"])
    assert talk.hello == b"250-mx.test\r\n250-SIZE 12\r\n250-XLORE=1 b\r\n250 auth=LOGIN\r\n"


def test_without_extensions_the_ehlo_reply_has_one_line_and_no_enhanced_codes() -> None:
    talk = Talk(extensions=[])
    assert talk.hello == b"250 mail.example\r\n"
    assert talk.say(MAIL) == b"250 sender ok\r\n"


def test_enhanced_codes_where_they_are_offered() -> None:
    assert Talk().say(MAIL) == b"250 2.1.0 sender ok\r\n"


def test_a_helo_only_server_refuses_ehlo_and_is_content_with_helo() -> None:
    talk = Talk(helo_only=True)
    assert codes(talk.hello) == [502]
    assert talk.codes(b"HELO client.example", MAIL, RCPT) == [250, 250, 250]
    assert talk.breaches == []


def test_helo_takes_the_extensions_away() -> None:
    talk = Talk()
    talk.say(b"HELO client.example")
    assert talk.codes(MAIL + b" SIZE=1") == [501]
    assert talk.breaches == ["MAIL with SIZE, SIZE is not offered"]


@pytest.mark.parametrize("verb", [b"VRFY ann", b"EXPN list", b"HELP", b"HELP MAIL", b"NOOP", b"NOOP x y"])
def test_single_commands(verb: bytes) -> None:
    talk = Talk()
    assert codes(talk.say(verb))[0] // 100 == 2
    assert talk.breaches == []


def test_verbs_are_read_in_any_case() -> None:
    talk = Talk(hello=False)
    assert (
        talk.codes(b"ehlo client.example", b"mail from:<a@x.example>", b"rcpt to:<Postmaster>") == [250] * 3
    )
    assert talk.breaches == []


def test_require_tls_refuses_without_a_breach() -> None:
    talk = Talk(**STARTTLS, require_tls=True)
    assert talk.codes(MAIL, b"NOOP") == [530, 250]
    talk.start_tls()
    assert talk.codes(MAIL) == [250]
    assert talk.breaches == []


def test_require_auth_refuses_mail_without_a_breach() -> None:
    talk = Talk(require_auth=True, users={"ann": "pw"})
    assert talk.codes(MAIL, b"AUTH PLAIN AGFubgBwdw==", MAIL) == [530, 235, 250]
    assert talk.breaches == []


def test_starttls_forgets_what_was_said_in_clear() -> None:
    talk = Talk(**STARTTLS)
    talk.say(MAIL)
    assert (
        written(actions := talk.session.receive(b"STARTTLS\r\n", unread=False)) == b"220 2.0.0 go ahead\r\n"
    )
    assert actions[-1] == StartTls()
    talk.session.tls_started()
    assert talk.say(b"EHLO client.example") == b"250-mail.example\r\n250 SIZE 9\r\n"
    assert talk.codes(MAIL) == [250]
    assert talk.breaches == []
    assert talk.ledger.connections[0].tls


def test_a_refusing_greeting_admits_only_quit() -> None:
    talk = Talk(hello=False, replies={"CONNECT": "554 no service"})
    assert talk.greeting == b"554 no service\r\n"
    assert talk.codes(b"EHLO client.example", b"QUIT") == [503, 221]
    assert talk.breaches == ["EHLO after a greeting that refuses (RFC 5321 3.1)"]


BREACHES: list[tuple[str, dict[str, Any], list[bytes], int]] = [
    # What the ledger must say, options of the server, groups of lines, code of the last reply.
    ("'FOO' is not a command", {}, [b"FOO"], 500),
    ("'' is not a command", {}, [b""], 500),
    ("LHLO on SMTP", OPEN_LINE, [b"LHLO client.example"], 500),
    ("EHLO on LMTP", {"protocol": "lmtp", "hello": False}, [b"EHLO client.example"], 500),
    ("HELO on LMTP", {"protocol": "lmtp", "hello": False}, [b"HELO client.example"], 500),
    ("'a b' is not a domain or literal", OPEN_LINE, [b"EHLO a b"], 501),
    ("'' is not a domain or literal", OPEN_LINE, [b"EHLO"], 501),
    ("'[x' is not a domain", OPEN_LINE, [b"HELO [x"], 501),
    ("MAIL before EHLO (RFC 5321 4.1.4)", OPEN_LINE, [MAIL], 503),
    ("RCPT before EHLO", OPEN_LINE, [RCPT], 503),
    ("DATA before EHLO", OPEN_LINE, [b"DATA"], 503),
    ("AUTH before EHLO", OPEN_LINE, [b"AUTH PLAIN"], 503),
    ("a line ends in a bare LF", {}, [b"NOOP\nNOOP"], 250),
    ("a command line has a control character", {}, [b"NOOP \rx"], 500),
    ("a command line has a control character", {}, [b"NOOP\tx"], 500),
    ("a command line has a control character", {}, [b"NOOP \x00"], 500),
    ("NOOP has a space too many", {}, [b"NOOP "], 501),
    ("MAIL has a space too many", {}, [b"MAIL  FROM:<a@x.example>"], 501),
    ("NOOP has 513 octets, 512 are allowed", {}, [b"NOOP " + b"x" * 506], 500),
    ("RSET takes no argument", {}, [b"RSET now"], 501),
    ("QUIT takes no argument", {}, [b"QUIT now"], 501),
    ("DATA takes no argument", {}, [MAIL, RCPT, b"DATA now"], 501),
    ("VRFY needs a name", {}, [b"VRFY"], 501),
    ("STARTTLS is not offered", {}, [b"STARTTLS"], 502),
    ("STARTTLS takes no argument", STARTTLS, [b"STARTTLS now"], 501),
    ("octets after STARTTLS before the handshake", STARTTLS, [b"STARTTLS\r\nNOOP"], 220),
    ("octets after QUIT", {}, [b"QUIT", b"NOOP"], 0),
    ("octets after QUIT", {}, [b"QUIT\r\nNOOP"], 221),
    ("octets after 421", {"replies": {"NOOP": "421 bye"}}, [b"NOOP", b"NOOP"], 0),
    ("octets after cut", {"replies": {"NOOP": Cut()}}, [b"NOOP", b"NOOP"], 0),
    ("NOOP was sent before the reply to EHLO was read", {}, [b"EHLO x.example\r\nNOOP"], 250),
    ("NOOP was sent before the reply to HELO was read", {}, [b"HELO x.example\r\nNOOP"], 250),
    ("NOOP was sent before the reply to NOOP was read", {}, [b"NOOP\r\nNOOP"], 250),
    ("NOOP was sent before the reply to VRFY was read", {}, [b"VRFY x\r\nNOOP"], 250),
    ("NOOP was sent before the reply to EXPN was read", {}, [b"EXPN x\r\nNOOP"], 250),
    ("NOOP was sent before the reply to HELP was read", {}, [b"HELP\r\nNOOP"], 250),
    ("QUIT was sent before the reply to DATA was read", {}, [b"MAIL FROM:<>", b"DATA\r\nQUIT"], 221),
    ("AUTH was sent before the reply to AUTH was read", {"users": {"a": "b"}}, [b"AUTH PLAIN\r\n*"], 501),
    ("content was sent before the reply to DATA was read", {}, [MAIL, RCPT, b"DATA\r\nx\r\n."], 250),
    ("NOOP is pipelined behind MAIL, PIPELINING is not offered", NO_PIPELINING, [MAIL + b"\r\nNOOP"], 250),
    ("RCPT is pipelined behind MAIL, PIPELINING is not", NO_PIPELINING, [MAIL + b"\r\n" + RCPT], 250),
]


@pytest.mark.parametrize(("breach", "options", "groups", "code"), BREACHES)
def test_each_breach_is_entered_and_answered(
    breach: str, options: dict[str, Any], groups: list[bytes], code: int
) -> None:
    talk = Talk(**options)
    replies = [talk.say(group) for group in groups]
    assert any(text.startswith(breach) for text in talk.breaches), talk.breaches
    assert (codes(replies[-1]) or [0])[-1] == code


def test_ehlo_must_follow_starttls() -> None:
    talk = Talk(**STARTTLS)
    talk.say(b"STARTTLS")
    talk.session.tls_started()
    assert talk.codes(MAIL, b"STARTTLS") == [503, 503]
    assert talk.breaches == [
        "MAIL before EHLO after STARTTLS (RFC 3207 4.2)",
        "STARTTLS under TLS (RFC 3207 4)",
    ]


def test_octets_before_the_greeting_are_a_breach() -> None:
    talk = Talk(hello=False)
    talk.send(b"EHLO x.example\r\n", unread=True)
    assert talk.breaches == ["EHLO was sent before the reply to CONNECT was read (RFC 2920 3.1)"]


def test_a_line_without_end_ends_the_connection() -> None:
    talk = Talk()
    actions = talk.session.receive(b"x" * 70_000)
    assert written(actions).startswith(b"421")
    assert actions[-1] == Close()
    assert talk.breaches == ["a line has no end"]


@pytest.mark.parametrize("verb", [MAIL, RCPT, b"RSET", b"BDAT 0"])
def test_what_may_be_grouped_is_no_breach(verb: bytes) -> None:
    talk = Talk()
    talk.group(MAIL, RCPT, RCPT)
    talk.ledger.breaches.clear()
    talk.group(b"RSET", MAIL, RCPT, verb)
    assert [text for text in talk.breaches if "pipelined" in text or "was read" in text] == []


def test_content_may_be_followed_by_the_next_transaction() -> None:
    talk = Talk()
    talk.group(MAIL, RCPT, b"DATA")
    assert codes(talk.group(b"one", b".", MAIL, RCPT, b"DATA")) == [250, 250, 250, 354]
    assert codes(talk.group(b"two", b".", b"QUIT")) == [250, 221]
    assert [message.content for message in talk.ledger.messages] == [b"one\r\n", b"two\r\n"]
    assert talk.breaches == []


@pytest.mark.parametrize(
    ("unread", "breaches"), [(True, []), (None, []), (False, ["octets after 421"])], ids=str
)
def test_octets_after_421_are_judged_by_what_the_client_could_know(
    unread: bool | None, breaches: list[str]
) -> None:
    talk = Talk(replies={"MAIL": "421 bye"})
    talk.say(MAIL)
    talk.send(RCPT + b"\r\n", unread=unread)
    assert talk.breaches == breaches


def test_without_pipelining_octets_after_421_are_a_breach_also_on_a_network() -> None:
    talk = Talk(extensions=[], replies={"MAIL": "421 bye"})
    talk.say(MAIL)
    talk.send(RCPT + b"\r\n", unread=None)
    assert talk.breaches == ["octets after 421"]


def test_an_end_of_file_is_no_breach() -> None:
    talk = Talk()
    talk.say(MAIL, RCPT, b"DATA")
    talk.send(b"half a li")
    talk.session.eof()
    assert (talk.breaches, talk.ledger.messages) == ([], [])
    assert talk.ledger.connections[0].ending == "eof"
    assert talk.send(b"ne\r\n.\r\n") == b""


# Slicing.

LINES = [
    MAIL, MAIL + b" SIZE=5", MAIL + b" BODY=8BITMIME", MAIL + b" BODY=BINARYMIME", MAIL + b" FOO=1",
    b"MAIL x", RCPT, b"RCPT TO:<eve@z.example>", b"RCPT TO:<bad>", b"DATA", b"DATA", b"abc", b".",
    b"..dot", b".dot", b"BDAT 5 LAST\r\nab\r\n", b"BDAT 3\r\nabc", b"BDAT 0 LAST", b"BDAT 4\r\n\xff\r\n\x00",
    b"RSET", b"NOOP", b"QUIT", b"EHLO c.example", b"LHLO c.example", b"HELO c.example", b"STARTTLS",
    b"AUTH PLAIN AGEAYg==", b"AUTH LOGIN", b"YQ==", b"*", b"bare\nlf", b"bare\rcr", b"x" * 1200,
    b"\xc3\xa9", b"",
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {"users": {"a": "b"}, "refuse": {"eve@z.example": "550 no"}},
    {"protocol": "lmtp", "replies": {("FINAL", 1): "452 full", ("RCPT", 2): Cut(after=3)}},
    {"extensions": ["STARTTLS", "SIZE 4"], "replies": {("NOOP", 1): "421 bye"}},
    {"replies": {"DATA": "354 whatever", ("MAIL", 0): "451 later"}},
]


def outcome(octets: bytes, cuts: list[int], options: dict[str, Any]) -> tuple[Any, ...]:
    ledger = Ledger()
    session = ServerSession(Config(**options), ledger)
    actions = session.greeting()
    answered = False
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        new = session.receive(octets[start:end], unread=answered)
        answered = answered or bool(new)
        actions += new
    session.eof()
    return actions, ledger.breaches, ledger.messages, ledger.refused, ledger.commands, ledger.connections


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=14),
    hello=st.sampled_from([b"EHLO c.example\r\n", b"LHLO c.example\r\n", b""]),
    options=st.sampled_from(OPTIONS),
    data=st.data(),
)
def test_slices_change_nothing(
    lines: list[bytes], hello: bytes, options: dict[str, Any], data: st.DataObject
) -> None:
    octets = hello + b"".join(line + b"\r\n" for line in lines)
    cuts = data.draw(st.lists(st.integers(0, len(octets)), max_size=8).map(sorted))
    whole = outcome(octets, [], options)
    assert outcome(octets, cuts, options) == whole
    assert outcome(octets, list(range(1, len(octets))), options) == whole


@given(st.binary(max_size=300))
def test_no_octets_upset_it(octets: bytes) -> None:
    talk = Talk(users={"a": "b"})
    talk.send(octets)
    talk.send(b"\r\n.\r\n")
    assert all(400 <= code < 600 for code in codes(talk.send(b"\x00\r\n")))
