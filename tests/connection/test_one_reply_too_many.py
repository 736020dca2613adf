"""One reply too many, at each place of a transaction: nobody is told what was said of another.

FAULTS 9, 43, 54. The server keeps its own account of whom it refused, and to whom it delivered;
what the client tells is held against that.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support.fates import attempt, fates
from support.scripted import Peer, ScriptedServer

import pysmtpx

BODY = b"Subject: x\r\n\r\nhello\r\n"
SENDER = "s@x.example"
PATHS = ("a@x.example", "b@x.example")
OK, NO, LARGE = b"250 2.0.0 ok\r\n", b"550 5.1.1 no such\r\n", b"552 5.2.3 too large\r\n"
SURPLUS = (b"250 one more\r\n", b"550 5.7.1 no\r\n", b"451 later\r\n", b"354 go\r\n", b"garbage\r\n")


class Other(Exception):
    """The client says something else than is due: this line."""


@dataclass
class Server:
    """What it answers, where one reply too many stands, and what it did."""

    lmtp: bool
    bdat: bool
    pipelined: bool
    place: str
    extra: bytes
    is_before: bool
    mail: bytes = OK
    rcpts: tuple[bytes, ...] = (OK, OK)
    finals: tuple[bytes, ...] = (OK, OK)
    refused_at: dict[str, str] = field(default_factory=dict)
    """The stage at which a recipient was refused in truth."""
    delivered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for path, line in zip(PATHS, self.rcpts, strict=True):
            if self.mail is not OK:
                self.refused_at[path] = "mail"
            elif line is not OK:
                self.refused_at[path] = "rcpt"

    def __call__(self, peer: Peer) -> None:
        keywords = ("CHUNKING", "PIPELINING") if self.pipelined else ("CHUNKING",)
        peer.greet(*keywords, verb="LHLO" if self.lmtp else "EHLO")
        with contextlib.suppress(EOFError):
            try:
                self._transaction(peer)
                line = peer.line()
            except Other as other:
                line = other.args[0]
            while line:
                peer.say(OK if line in (b"RSET", b"NOOP") else b"503 5.5.1 out of order\r\n")
                line = peer.line()

    def _transaction(self, peer: Peer) -> None:
        held = []
        for place, verb, line in self._envelope():
            _expect(peer, verb)
            held.append(self._reply(place, line))
            if not self.pipelined:
                peer.say(*held)
                held.clear()
        peer.say(*held)
        there = [path for path in PATHS if path not in self.refused_at]
        if self.bdat:
            peer.take(int(_expect(peer, "BDAT").split()[1]))
        elif there:
            peer.content()
        if there:
            self._deliver(peer, there)
        elif self.bdat:
            peer.say(b"503 5.5.1 nobody\r\n")

    def _envelope(self) -> Iterator[tuple[str, str, bytes]]:
        yield "mail", "MAIL", self.mail
        for place, line in enumerate(self.rcpts):
            yield f"rcpt {place}", "RCPT", line if self.mail is OK else b"503 5.5.1 no MAIL\r\n"
        if not self.bdat:
            nobody = len(self.refused_at) == len(PATHS)
            yield "data", "DATA", b"503 5.5.1 nobody\r\n" if nobody else b"354 go\r\n"

    def _deliver(self, peer: Peer, there: list[str]) -> None:
        finals = self.finals[: len(there)] if self.lmtp else self.finals[:1]
        told = finals if self.lmtp else finals * len(there)
        for path, final in zip(there, told, strict=True):
            if final is OK:
                self.delivered.add(path)
            else:
                self.refused_at[path] = "final"
        peer.say(*(self._reply(f"final {place}", final) for place, final in enumerate(finals)))

    def _reply(self, place: str, line: bytes) -> bytes:
        if place != self.place:
            return line
        return self.extra + line if self.is_before else line + self.extra


def _expect(peer: Peer, verb: str) -> bytes:
    line = peer.line()
    if not line.startswith(verb.encode()):
        raise Other(line)
    return line


REPLIES = (
    {},
    {"mail": NO},
    {"rcpts": (NO, OK)},
    {"rcpts": (OK, NO)},
    {"rcpts": (NO, NO)},
    {"finals": (LARGE, OK)},
    {"finals": (OK, LARGE)},
    {"finals": (LARGE, LARGE)},
)


def servers(lmtp: bool, bdat: bool, pipelined: bool) -> Iterator[Server]:
    """Every place, reply, and side of the true one."""
    places = ["mail", "rcpt 0", "rcpt 1", *([] if bdat else ["data"]), "final 0", *(["final 1"] * lmtp)]
    for replies, place, extra, is_before in itertools.product(REPLIES, places, SURPLUS, (False, True)):
        yield Server(lmtp, bdat, pipelined, place, extra, is_before, **replies)


def lies(told: dict[str, str], server: Server) -> list[str]:
    """What was told that is not so."""
    found = []
    for path in PATHS:
        fate = told.get(path, "nothing")
        kind, _, how = fate.partition(" ")
        has_it = path in server.delivered
        is_true = {
            "accepted": has_it,
            "unknown": True,
            "unsent": not has_it,
            "rejected": not has_it and server.refused_at.get(path) == how.partition(" ")[2],
        }
        if not is_true.get(kind, False):
            found.append(f"{path}: {fate}")
    return found


@pytest.mark.parametrize("pipelined", [True, False], ids=["pipelined", "sequential"])
@pytest.mark.parametrize("bdat", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_nobody_is_told_what_is_not_so(protocol: str, bdat: bool, pipelined: bool) -> None:
    is_lmtp = protocol == "lmtp"
    wrong = []
    for server in servers(is_lmtp, bdat, pipelined):
        with ScriptedServer(server) as scripted, scripted.connect(protocol=protocol) as conn:
            call = getattr(conn, "send" + "_lmtp" * is_lmtp + "_bdat" * bdat)
            outcome = attempt(call, SENDER, PATHS, BODY, timeout=2.0)
        if found := lies(fates(outcome), server):
            wrong.append(f"{server}: {outcome!r}: {found}")
    assert wrong == []


@pytest.mark.parametrize("surplus", [b"550 5.7.1 no\r\n", b"451 later\r\n"])
def test_what_passes_for_the_answer_to_data_is_no_refusal(surplus: bytes) -> None:
    """The true answer comes when RSET is answered: 354, which answers DATA alone."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.envelope(data=False)
        peer.expect("DATA")
        peer.say(surplus)
        peer.expect("RSET")
        peer.say(b"354 go\r\n")
        peer.rest()

    for overlap in (False, True):
        mails = [pysmtpx.MailObject(SENDER, path, BODY) for path in PATHS]
        with ScriptedServer(script) as server, server.connect() as conn:
            outcomes = list(conn.send_many(mails, overlap=overlap))
        assert [each.status for each in outcomes] == ["unsent"] * len(outcomes)
        assert isinstance(outcomes[0].error, pysmtpx.ProtocolError)
        assert conn.closed


@pytest.mark.parametrize("first", [NO, b"451 later\r\n"])
@pytest.mark.parametrize("second", [b"500 5.5.1 what?\r\n", b"451 x\r\n"])
@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("MAIL", pysmtpx.SenderRejected),
        ("RCPT", pysmtpx.AllRecipientsFailed),
        ("DATA", pysmtpx.DataRejected),
        ("BDAT", pysmtpx.DataRejected),
    ],
)
def test_a_command_that_is_refused_twice_was_refused(
    verb: str, kind: type[pysmtpx.SmtpError], first: bytes, second: bytes
) -> None:
    """FAULTS 120, wherever one command alone is answered: whichever of both is meant."""

    def script(peer: Peer) -> None:
        peer.greet("CHUNKING")
        for due in ("MAIL", "RCPT", "BDAT" if verb == "BDAT" else "DATA"):
            line = peer.expect(due)
            if due == "BDAT":
                peer.take(int(line.split()[1]))
            if due == verb:
                peer.say(first + second)
                return
            peer.say(OK)

    with ScriptedServer(script) as server, server.connect() as conn:
        call = conn.send_bdat if verb == "BDAT" else conn.send
        with pytest.raises(kind) as caught:
            call(SENDER, PATHS[:1], BODY)
        assert [each.reply.code for each in caught.value.rejected_recipients] == [int(first[:3])]
        assert conn.closed


@pytest.mark.parametrize("second", [b"500 5.5.1 what?\r\n", b"451 x\r\n"])
def test_lmtp_finals_that_are_all_refusals(second: bytes) -> None:
    """FAULTS 120: whichever are meant, nobody has the message."""

    def script(peer: Peer) -> None:
        peer.greet(verb="LHLO")
        peer.envelope(2)
        peer.content()
        peer.say(LARGE, LARGE, second)

    with ScriptedServer(script) as server, server.connect(protocol="lmtp") as conn:
        outcome = attempt(conn.send_lmtp, SENDER, PATHS, BODY)
        assert fates(outcome) == dict.fromkeys(PATHS, "rejected 552 final")
        assert conn.closed


@pytest.mark.parametrize("is_before", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize("extra", SURPLUS)
@pytest.mark.parametrize("final", [OK, LARGE])
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_it_shows_behind_the_next_envelope(lmtp: bool, final: bytes, extra: bytes, is_before: bool) -> None:
    """With overlap: what answers the content is certain once the envelope behind it is answered too."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", verb="LHLO" if lmtp else "EHLO")
        peer.envelope()
        peer.content()
        for verb in ("MAIL", "RCPT", "DATA"):
            peer.expect(verb)
        peer.say(*((extra, final) if is_before else (final, extra)), OK, OK, b"354 go\r\n")
        peer.rest()

    mails = [pysmtpx.MailObject(SENDER, path, BODY) for path in PATHS]
    protocol = "lmtp" if lmtp else "smtp"
    with ScriptedServer(script) as server, server.connect(protocol=protocol) as conn:
        first, second = conn.send_many(mails, overlap=True)
        assert conn.closed
    is_reply = extra[:3].isdigit()
    truth = "accepted" if final is OK else "rejected"
    assert first.status == ("unknown" if is_reply or is_before else truth)
    assert second.status == "unsent"


@pytest.mark.parametrize("way", ["DATA", "BDAT"])
def test_a_farewell_in_front_of_an_acceptance_is_a_doubt(way: str) -> None:
    """421 and 250 in one segment at the end of data: one of both is about the message."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "CHUNKING")
        peer.envelope(data=way == "DATA")
        if way == "DATA":
            peer.content()
        else:
            peer.take(int(peer.expect("BDAT").split()[1]))
        peer.say(b"421 4.3.2 going\r\n", OK)

    with ScriptedServer(script) as server, server.connect() as conn:
        send = conn.send if way == "DATA" else conn.send_bdat
        with pytest.raises(pysmtpx.DeliveryUnknown):
            send(SENDER, PATHS[:1], BODY)
