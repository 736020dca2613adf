"""The same calls to the same server by both modules: the same values, exceptions and state after them."""

from __future__ import annotations

import smtplib as standard
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import pysmtpx.smtplib as ours
from pysmtpx.testing import Cut, Garbage, MailServer

pytestmark = pytest.mark.everywhere

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
TEXT = "Subject: hello\n\nHi.\n.dotted\n"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n.dotted\r\n"

STAGES: list[Any] = ["CONNECT", "EHLO", "HELO", ("MAIL", 0), ("RCPT", 0), ("RCPT", 1), "RCPT", ("FINAL", 0)]
REPLIES: list[Any] = [
    "421 4.3.2 bye",
    "451 4.3.0 later",
    "530 5.7.0 who",
    "550-5.7.1 no\n550 5.7.1 never",
    Cut(),
]
FEATURES = {"pipelined": ["SIZE 1000", "8BITMIME", "PIPELINING"], "sequential": ["SIZE 1000"], "bare": []}


def outcome(call: Callable[[], object]) -> object:
    """What a call came to. How a lost connection is put into words is each module's own matter."""
    try:
        return call()
    except standard.SMTPServerDisconnected as error:
        return type(error), error.errno
    except Exception as error:
        return type(error), error.args, vars(error).get("smtp_code"), vars(error).get("recipients")


def session(module: ModuleType, server: MailServer, **options: Any) -> list[object]:
    """Everything that a program sees of a session in which something is refused."""
    kind = module.LMTP if server.config.protocol == "lmtp" else module.SMTP
    made: list[Any] = []
    found = [outcome(lambda: made.append(kind("127.0.0.1", server.port, "me.example", timeout=5)))]
    for smtp in made:
        found += [
            outcome(lambda smtp=smtp: smtp.sendmail(ANN, [BOB, EVE], TEXT, **options)),
            smtp.sock is None,
            smtp.esmtp_features,
            outcome(smtp.noop),
            outcome(lambda smtp=smtp: smtp.sendmail(ANN, EVE, OCTETS, **options)),
            outcome(lambda smtp=smtp: smtp.verify("ann")),
            outcome(smtp.help),
            outcome(smtp.rset),
            outcome(smtp.quit),
            smtp.sock is None,
        ]
        smtp.close()
    found += [[message.delivered for message in server.messages], [m.content for m in server.messages]]
    return found


def compared(**options: Any) -> tuple[list[object], list[object]]:
    results = []
    for module in (standard, ours):
        with MailServer(strict=False, **options) as server:
            results.append(session(module, server))
    return results[0], results[1]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: str(reply)[:3])
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_a_refusal_comes_to_the_same(stage: Any, reply: Any, features: str) -> None:
    options = {"helo_only": True} if stage == "HELO" else {}
    theirs, mine = compared(replies={stage: reply}, extensions=FEATURES[features], **options)
    assert mine == theirs


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("reply", [reply for reply in REPLIES if reply != Cut()], ids=lambda reply: reply[:3])
def test_a_refused_data_is_told_the_same_and_leaves_the_session_in_step(reply: str, features: str) -> None:
    theirs, mine = compared(replies={("DATA", 0): reply}, extensions=FEATURES[features])
    assert mine[1] == theirs[1]
    gone = reply.startswith("421")
    assert mine[2] is gone
    if not gone:
        assert mine[5] == {}
        assert mine[-2] == [[EVE]]


def test_a_session_without_refusals_is_the_same() -> None:
    for features in FEATURES.values():
        theirs, mine = compared(extensions=features)
        assert mine == theirs
        assert mine[-2] == [[BOB, EVE], [EVE]]


def test_lmtp_to_one_recipient_is_the_same() -> None:
    for reply in ("250 2.1.5 delivered", "452 4.2.2 full", "550 5.1.1 none"):
        results = []
        for module in (standard, ours):
            with (
                MailServer(protocol="lmtp", replies={"FINAL": reply}) as server,
                module.LMTP("127.0.0.1", server.port, "me.example") as lmtp,
            ):
                results.append(outcome(lambda lmtp=lmtp: lmtp.sendmail(ANN, BOB, OCTETS)))
        assert results[0] == results[1]


@pytest.mark.parametrize(
    "arguments",
    [
        (ANN, [], OCTETS),
        (ANN, "", OCTETS),
        ("", BOB, OCTETS),
        ("<>", BOB, OCTETS),
        ("Ann <ann@example.org>", ["Bob B. <bob@example.com>"], OCTETS),
        (ANN, (BOB, BOB), OCTETS),
        (ANN, {BOB: 1, EVE: 2}, OCTETS),
        (ANN, BOB, "no line end"),
        (ANN, BOB, ""),
        (ANN, BOB, bytearray(OCTETS)),
        (ANN, BOB, "not ASCII: é"),
        (ANN, "bób@example.com", OCTETS),
        ("änn@example.org", BOB, OCTETS),
        (ANN, BOB, OCTETS, ["BODY=8BITMIME"]),
        (ANN, BOB, OCTETS, ["SMTPUTF8"]),
        (ANN, BOB, OCTETS, ("RET=HDRS", "ENVID=abc"), ("NOTIFY=FAILURE",)),
    ],
    ids=lambda arguments: str(arguments[:4])[:60],
)
@pytest.mark.parametrize("features", [[], ["PIPELINING", "SIZE", "8BITMIME", "DSN"]], ids=["bare", "rich"])
def test_arguments_are_taken_the_same(arguments: tuple[Any, ...], features: list[str]) -> None:
    results: list[Any] = []
    for module in (standard, ours):
        with (
            MailServer(strict=False, extensions=features) as server,
            module.SMTP("127.0.0.1", server.port, "me.example") as smtp,
        ):
            found = outcome(lambda smtp=smtp: smtp.sendmail(*arguments))
            if isinstance(found, tuple) and issubclass(found[0], ValueError):
                found = found[0]
            received = [(m.sender, m.delivered, dict(m.params), m.content) for m in server.messages]
            notify = [dict(r.params) for m in server.messages for r in m.recipients]
            results.append((found, received, notify))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "octets",
    [
        b"what\r\n",
        b"\r\n",
        b"199 odd\r\n",
        b"250\r\n",
        b"250-one\r\n250 two\r\n",
        b"250-one\n250\ttwo \n",
        b"250-one\r\n550 two\r\n",
        b"250-one\r\nwhat\r\n",
        b"250 caf\xc3\xa9 \xff\r\n",
        b"99999 many\r\n",
        b"250 " + b"x" * 20_000 + b"\r\n",
    ],
    ids=lambda octets: ascii(octets[:16]),
)
def test_a_single_command_takes_whatever_comes_the_same(octets: bytes) -> None:
    results = []
    for module in (standard, ours):
        with MailServer(strict=False, replies={"NOOP": Garbage(octets)}) as server:
            smtp = module.SMTP("127.0.0.1", server.port, "me.example", timeout=5)
            results.append((outcome(smtp.noop), smtp.sock is None))
            smtp.close()
    assert results[0] == results[1]
