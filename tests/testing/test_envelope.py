"""Envelopes as the pure server judges them: MAIL and RCPT, their paths, parameters and order."""

from __future__ import annotations

import pytest
from support.talk import Talk, codes

from pysmtpx.testing import EXTENSIONS

MAIL = b"MAIL FROM:<ann@x.example>"
RCPT = b"RCPT TO:<bob@y.example>"
OTHER = b"RCPT TO:<cid@y.example>"
EVERY = [
    *EXTENSIONS, "REQUIRETLS", "MT-PRIORITY MIXER", "FUTURERELEASE 9 9", "DELIVERBY", "RRVS", "AUTH PLAIN",
    "XLORE",
]  # fmt: skip

GOOD = [
    b"MAIL FROM:<>", b"MAIL FROM:<\"a b\"@x.example>", b"MAIL FROM:<a@[192.0.2.1]>",
    b"MAIL FROM:<a@[IPv6:::1]>",
    MAIL + b" SIZE=0", MAIL + b" size=10 body=8bitmime", MAIL + b" BODY=7BIT", MAIL + b" BODY=BINARYMIME",
    MAIL + b" RET=HDRS ENVID=a+2Bb", MAIL + b" AUTH=<>", MAIL + b" AUTH=a+2Bb@x.example",
    MAIL + b" MT-PRIORITY=-3", MAIL + b" HOLDFOR=10", MAIL + b" HOLDUNTIL=2030-01-01T00:00:00Z",
    MAIL + b" BY=-120;NT", MAIL + b" XLORE=1", MAIL + b" XLORE", "MAIL FROM:<ä@ö.example> SMTPUTF8".encode(),
]  # fmt: skip
BAD = {
    "MAIL needs FROM:<path>": [
        b"MAIL", b"MAIL FROM", b"MAIL FROM: <a@x.example>", b"MAIL TO:<a@x.example>",
        b"MAIL FROM:a@x.example",
        b"MAIL FROM:<a b@x.example>", b"MAIL FROM:<a@x.example", b"MAIL FROM:<<a@x.example>>",
    ],
    "<a> is not a path": [b"MAIL FROM:<a>"],
    "<postmaster> is not a path": [b"MAIL FROM:<postmaster>"],
    "<@r:a@x> is not a path": [b"MAIL FROM:<@r:a@x>"],
    "<a..b@x> is not a path": [b"MAIL FROM:<a..b@x>"],
    "<a@-x> is not a path": [b"MAIL FROM:<a@-x>"],
    "<" + "a" * 65 + "@x> is too long": [b"MAIL FROM:<" + b"a" * 65 + b"@x>"],
    "<a@" + "x" * 255 + "> is too long": [b"MAIL FROM:<a@" + b"x" * 255 + b">"],
    "'x' is not a list of parameters": [b"MAIL FROM:<a@x>x"],
    "' <b>' is not a list of parameters": [b"MAIL FROM:<a@x> <b>"],
    "' SIZE=' is not a list": [MAIL + b" SIZE="],
    "' =1' is not a list": [MAIL + b" =1"],
    "SIZE is given twice": [MAIL + b" SIZE=1 size=1"],
    "MAIL with SIZE='x': not a value": [MAIL + b" SIZE=x"],
    "MAIL with SIZE=None: not a value": [MAIL + b" SIZE"],
    "MAIL with SMTPUTF8='1': not a value": [MAIL + b" SMTPUTF8=1"],
    "MAIL with BODY='9BIT'": [MAIL + b" BODY=9BIT"],
    "MAIL with RET='ALL'": [MAIL + b" RET=ALL"],
    "MAIL with ENVID='a+b'": [MAIL + b" ENVID=a+b"],
    "MAIL with NOTIFY, NOTIFY is not offered": [MAIL + b" NOTIFY=NEVER"],
    "MAIL with BY='1;X'": [MAIL + b" BY=1;X"],
    "REQUIRETLS without TLS": [MAIL + b" REQUIRETLS"],
    "HOLDFOR and HOLDUNTIL together": [MAIL + b" HOLDFOR=1 HOLDUNTIL=2030-01-01T00:00:00Z"],
    "MAIL is not ASCII, SMTPUTF8 is not stated": ["MAIL FROM:<ä@x.example>".encode()],
}  # fmt: skip


@pytest.mark.parametrize("line", GOOD, ids=repr)
def test_a_good_mail(line: bytes) -> None:
    talk = Talk(extensions=EVERY)
    assert (talk.codes(line), talk.breaches) == ([250], [])


@pytest.mark.parametrize(
    ("breach", "line"), [(breach, line) for breach, lines in BAD.items() for line in lines]
)
def test_a_bad_mail(breach: str, line: bytes) -> None:
    talk = Talk(extensions=EVERY)
    assert talk.codes(line) == [501]
    assert talk.breaches[0].startswith(breach)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (b"SIZE=1", "SIZE"),
        (b"BODY=8BITMIME", "8BITMIME"),
        (b"BODY=BINARYMIME", "BINARYMIME"),
        (b"SMTPUTF8", "SMTPUTF8"),
        (b"RET=FULL", "DSN"),
        (b"ENVID=x", "DSN"),
        (b"AUTH=<>", "AUTH"),
        (b"REQUIRETLS", "REQUIRETLS"),
        (b"MT-PRIORITY=1", "MT-PRIORITY"),
        (b"HOLDFOR=1", "FUTURERELEASE"),
        (b"BY=1;R", "DELIVERBY"),
        (b"XLORE", "XLORE"),
    ],
)
def test_a_parameter_needs_its_extension(words: bytes, missing: str) -> None:
    talk = Talk(extensions=[line for line in EVERY if not line.startswith(missing)])
    talk.say(MAIL + b" " + words)
    keyword = words.decode().partition("=")[0]
    assert talk.breaches[0] == f"MAIL with {keyword}, {missing} is not offered"


@pytest.mark.parametrize(
    ("words", "breach"),
    [
        (b" NOTIFY=NEVER", ""),
        (b" NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@x", ""),
        (b" RRVS=2014-04-03T23:01:00Z;C", ""),
        (b" NOTIFY=NEVER,DELAY", "RCPT with NOTIFY="),
        (b" ORCPT=x", "RCPT with ORCPT="),
        (b" SIZE=1", ""),
    ],
)
def test_parameters_of_rcpt(words: bytes, breach: str) -> None:
    talk = Talk(extensions=EVERY)
    talk.say(MAIL)
    talk.say(RCPT + words)
    assert [text[: len(breach)] for text in talk.breaches] == ([breach] if breach else [])


def test_a_parameter_of_rcpt_needs_its_extension() -> None:
    talk = Talk(extensions=[])
    assert talk.codes(MAIL, RCPT + b" NOTIFY=NEVER") == [250, 501]
    assert talk.breaches == ["RCPT with NOTIFY, DSN is not offered"]


def test_line_limits_grow_with_what_is_offered() -> None:
    long = RCPT + b" ORCPT=rfc822;" + b"x" * 490
    assert Talk().codes(MAIL, long) == [250, 250]
    talk = Talk(extensions=["XLORE"])
    assert talk.codes(MAIL, long) == [250, 500]
    assert talk.breaches == [f"RCPT has {len(long) + 2} octets, 512 are allowed"]


def test_non_ascii_recipients_need_smtputf8_on_mail() -> None:
    recipient = "RCPT TO:<ä@x.example>".encode()
    assert Talk().codes(MAIL + b" SMTPUTF8", recipient) == [250, 250]
    assert Talk().codes(MAIL, recipient) == [250, 501]


def test_orders_of_commands() -> None:
    talk = Talk()
    assert talk.codes(RCPT, b"DATA", b"BDAT 0 LAST", MAIL, MAIL, b"DATA") == [503, 503, 503, 250, 503, 554]
    assert talk.breaches == [
        "RCPT without an accepted MAIL (RFC 5321 4.1.4)",
        "DATA without an accepted MAIL (RFC 5321 4.1.4)",
        "BDAT without an accepted MAIL (RFC 5321 4.1.4)",
        "MAIL within a transaction (RFC 5321 4.1.4)",
        "DATA without an accepted recipient (RFC 5321 3.3)",
    ]


@pytest.mark.parametrize("verb", [b"RSET", b"EHLO c.example", b"HELO c.example"])
def test_what_ends_a_transaction(verb: bytes) -> None:
    talk = Talk()
    talk.say(MAIL, RCPT, verb)
    assert talk.codes(MAIL, b"DATA")[0] == 250


@pytest.mark.parametrize(("grouped", "breaches"), [(True, 0), (False, 2)])
def test_commands_behind_a_refusal_are_judged_by_what_the_client_knew(grouped: bool, breaches: int) -> None:
    talk = Talk(replies={"MAIL": "451 4.3.0 later"})
    replies = (talk.group if grouped else talk.say)(MAIL, RCPT, b"DATA")
    assert codes(replies) == [451, 503, 503]
    assert len(talk.breaches) == breaches


@pytest.mark.parametrize(("grouped", "breaches"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("end", [b"DATA", b"BDAT 3 LAST\r\nx"])
def test_data_behind_refused_recipients(grouped: bool, breaches: int, end: bytes) -> None:
    talk = Talk(refuse={"bob@y.example": "550 5.1.1 unknown"})
    assert codes((talk.group if grouped else talk.say)(MAIL, RCPT, end)) == [250, 550, 554]
    assert len(talk.breaches) == breaches


def test_size_over_the_limit_is_refused_and_no_breach() -> None:
    talk = Talk(extensions=["SIZE 10"])
    assert talk.codes(MAIL + b" SIZE=11", MAIL, RCPT, b"DATA", b"0123456789\r\n.") == [
        552,
        250,
        250,
        354,
        552,
    ]
    assert talk.breaches == []
    assert (len(talk.ledger.messages), len(talk.ledger.refused)) == (0, 1)


def test_limits_of_rfc_9422() -> None:
    talk = Talk(extensions=["LIMITS MAILMAX=1 RCPTMAX=2 RCPTDOMAINMAX=1"])
    talk.say(MAIL, RCPT, b"RCPT TO:<a@z.example>", OTHER, b"RSET", MAIL)
    assert talk.breaches == [
        "RCPTDOMAINMAX=1 is exceeded (RFC 9422 3)",
        "RCPTMAX=2 is exceeded (RFC 9422 3)",
        "RCPTDOMAINMAX=1 is exceeded (RFC 9422 3)",
        "MAILMAX=1 is exceeded (RFC 9422 3)",
    ]
