"""Transactions in flight over a real socket: what a server says in the middle of content, and does then.

Each event at each slice of a large content, and to a small one that was written with others,
by position, over SMTP and LMTP. The server keeps its own account of what it delivered.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.fates import fates
from support.scripted import Peer, ScriptedServer

import pysmtpx
from pysmtpx import MailObject, Outcome, SmtpConnection

pytestmark = pytest.mark.slow

PATHS = ("a@x.example", "b@x.example")
SMALL = b"Subject: x\r\n\r\nhello\r\n"
SLICE = 64 * 1024
LARGE = b"Subject: %b\r\n\r\n" % (b"x" * 51) + (b"y" * 62 + b"\r\n") * (6 * SLICE // 64 - 1)
"""Six slices."""
BUFFER = 4096
"""Octets of each socket buffer, as far as the kernel lets us: a server that reads no more is felt at once."""
TIMEOUT = 1.0

EVENTS = {
    "250": b"250 2.6.0 kept\r\n",
    "552": b"552 5.3.4 too large\r\n",
    "451": b"451 4.3.0 later\r\n",
    "421": b"421 4.3.2 bye\r\n",
    "close": b"",
    "silence": b"",
}
THEN = ("reads on", "stops reading", "closes")


@dataclass
class Server:
    """Accepts what comes, but for the message at ``position``: there the event happens."""

    event: str
    then: str
    position: int
    lmtp: bool
    octets: int | None
    """Of that message's content after which it happens; None: at its end, as the answer to it."""
    delivered: set[int] = field(default_factory=set)
    behind: int = 0
    """Octets that came behind the event."""

    def __call__(self, peer: Peer) -> None:
        peer.greet("PIPELINING", "CHUNKING", verb="LHLO" if self.lmtp else "EHLO")
        for number in itertools.count():
            if not self._serve(peer, number):
                return

    def _serve(self, peer: Peer, number: int) -> bool:
        """One transaction; whether the session goes on."""
        while (line := peer.line()).split(b" ")[0] != b"BDAT":
            if line == b"QUIT":
                peer.say(b"221 bye\r\n")
                return False
            peer.say(b"250 ok\r\n")
        size = int(line.split(b" ")[1])
        if number == self.position and self.event != "none":
            return self._happen(peer, size)
        peer.take(size)
        self.delivered.add(number)
        peer.say(b"250 kept\r\n" * (2 if self.lmtp else 1))
        return True

    def _happen(self, peer: Peer, size: int) -> bool:
        peer.take(size if self.octets is None else self.octets)
        said = EVENTS[self.event]
        if self.event == "250" and (self.octets is None or self.octets == size - SLICE):
            self.delivered.add(self.position)  # the last slice may have been on its way
        if self.octets is None and self.lmtp and self.event != "421":
            said *= 2
        peer.say(said)
        if self.event == "close" or self.then == "closes":
            return False
        if self.then == "stops reading":
            peer.hold()
        if self.octets is None and self.event not in ("421", "silence"):
            return True
        self.behind = len(peer.rest())
        return False


def dialled(server: ScriptedServer, lmtp: bool) -> SmtpConnection:
    """A connection with small buffers."""
    conn = server.connect(protocol="lmtp" if lmtp else "smtp")
    sock = conn._channel._driver.stream._sock
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return conn


def told(server: Server, contents: list[bytes]) -> list[Outcome]:
    mails = [MailObject(f"s{n}@x.example", PATHS, content) for n, content in enumerate(contents)]
    with ScriptedServer(server, buffer=BUFFER) as scripted, dialled(scripted, server.lmtp) as conn:
        outcomes = list(conn.send_many(mails, in_flight=8, timeout=TIMEOUT))
        conn.close()
    for number, outcome in enumerate(outcomes):
        if outcome.status == "accepted":
            assert number in server.delivered
        elif outcome.status != "unknown":
            assert number not in server.delivered
    return outcomes


def words(outcome: Outcome) -> set[str]:
    """What its recipients were told."""
    found = outcome.result or outcome.error
    assert found is not None
    return set(fates(found).values())


def large_cells() -> Iterator[Any]:
    for event, then, lmtp in itertools.product(EVENTS, THEN, [False, True]):
        if event == "close" and then != "closes":
            continue
        for slices, position in [(1, 0), (1, 2), (2, 1), (5, 0), (5, 2)]:
            name = f"{event}-{slices}-{then}-{position}-{'lmtp' if lmtp else 'smtp'}"
            yield pytest.param(Server(event, then, position, lmtp, slices * SLICE), slices, id=name)


@pytest.mark.parametrize(("server", "slices"), list(large_cells()))
def test_in_the_middle_of_large_content(server: Server, slices: int) -> None:
    """FAULTS 24, 27, 28, 29, 47, 60: what was said before it ended decides, and nothing goes behind it."""
    outcomes = told(server, [LARGE if n == server.position else SMALL for n in range(4)])
    before, (it, *behind) = outcomes[: server.position], outcomes[server.position :]
    assert {outcome.status for outcome in before} <= {"accepted"}
    is_last = slices == 5  # behind the last slice but one nobody can tell it from an answer to the whole
    taken_for_final = is_last and server.event == "250" and it.status == "accepted"
    assert {outcome.status for outcome in behind} <= (
        {"unsent", "unknown"} if taken_for_final else {"unsent"}
    )
    code = {"552": "552", "451": "451"}.get(server.event)
    if code:
        answers = {f"rejected {code} content", f"rejected {code} final"}
        # LMTP owes two then, and of one 451 nobody knows whether it is for both.
        assert words(it) <= (answers | {"unknown"} if is_last and server.lmtp and code == "451" else answers)
        assert it.error is not None
        assert it.error.safe_to_retry == (code == "451" and "unknown" not in words(it))
    elif server.event == "250":
        assert words(it) == {"unknown"} or taken_for_final or (is_last and server.lmtp)
    else:
        is_read = server.event == "silence" and server.then == "reads on"
        assert words(it) == {"unsent"} or ((is_last or is_read) and words(it) == {"unknown"})
        if server.event == "421":
            assert is_last or isinstance(it.error, pysmtpx.ServiceUnavailable)
    if server.then == "reads on" and EVENTS[server.event] and not is_last:
        assert server.behind < len(LARGE) - (slices + 1) * SLICE


def small_cells() -> Iterator[Any]:
    for event, then, lmtp in itertools.product(EVENTS, THEN, [False, True]):
        if event == "close" and then != "closes":
            continue
        for position in range(3):
            name = f"{event}-{then}-{position}-{'lmtp' if lmtp else 'smtp'}"
            yield pytest.param(Server(event, then, position, lmtp, None), id=name)


@pytest.mark.parametrize("server", list(small_cells()))
def test_at_the_end_of_small_content(server: Server) -> None:
    """FAULTS 31, 41, 47, 55: what was answered stands; what is behind it is told by the commit rule."""
    outcomes = told(server, [SMALL] * 3)
    before, (it, *behind) = outcomes[: server.position], outcomes[server.position :]
    assert {outcome.status for outcome in before} <= {"accepted"}
    expected = {"250": {"accepted"}, "552": {"rejected 552 final"}, "451": {"rejected 451 final"}}
    if server.event == "421":
        assert words(it) == ({"unknown"} if server.lmtp else {"unsent"})
        assert {outcome.status for outcome in behind} <= {"unsent"}
    else:
        assert words(it) == expected.get(server.event, {"unknown"})
        possible = {"unknown", "accepted"} if server.then == "reads on" else {"unknown"}
        assert {outcome.status for outcome in behind} <= possible


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_write_that_blocks_until_the_time_is_over(position: int, lmtp: bool) -> None:
    """FAULTS 60: whose answers were read are accepted, and nobody has what was not written."""
    server = Server("250", "stops reading", position, lmtp, None)
    outcomes = told(server, [*[SMALL] * (position + 1), LARGE[:SLICE], LARGE[:SLICE], SMALL])
    assert [outcome.status for outcome in outcomes[: position + 1]] == ["accepted"] * (position + 1)
    assert {outcome.status for outcome in outcomes[position + 1 :]} <= {"unsent"}
    assert len(outcomes) > position + 1


@pytest.mark.parametrize("lmtp", [False, True])
def test_an_envelope_that_blocks_behind_an_end_of_data(lmtp: bool) -> None:
    """FAULTS 46, 60: overlapped; the answer to the message before came while the envelope was written."""
    delivered: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", verb="LHLO" if lmtp else "EHLO")
        peer.envelope()
        delivered.append(peer.content())
        peer.say(b"250 kept\r\n")
        peer.hold()

    many = [f"r{number}@x.example" for number in range(20_000)]
    mails = [MailObject("s@x.example", paths, SMALL) for paths in ([PATHS[0]], many)]
    with ScriptedServer(script, buffer=BUFFER) as server, dialled(server, lmtp) as conn:
        first, second = conn.send_many(mails, overlap=True, timeout=TIMEOUT)
    assert first.status == "accepted"
    assert second.status == "unsent"
    assert second.error is not None
    assert second.error.safe_to_retry


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("verb", ["RSET", "MAIL", "RCPT"])
@pytest.mark.parametrize("position", [0, 2])
def test_a_shutdown_in_the_envelope_is_told_with_its_stage(position: int, verb: str, lmtp: bool) -> None:
    """FAULTS 24, 41."""

    def script(peer: Peer) -> None:
        server = Server("none", "", -1, lmtp, None)
        peer.greet("PIPELINING", "CHUNKING", verb="LHLO" if lmtp else "EHLO")
        for number in range(position):
            server._serve(peer, number)
        while peer.line().split(b" ")[0] != verb.encode():
            peer.say(b"250 ok\r\n")
        peer.say(b"421 4.3.2 bye\r\n")

    mails = [MailObject(f"s{n}@x.example", PATHS, SMALL) for n in range(4)]
    with ScriptedServer(script) as server, dialled(server, lmtp) as conn:
        outcomes = list(conn.send_many(mails, in_flight=4))
    assert [outcome.status for outcome in outcomes] == ["accepted"] * position + ["unsent"] * (4 - position)
    shut, *behind = (outcome.error for outcome in outcomes[position:])
    assert isinstance(shut, pysmtpx.ServiceUnavailable)
    assert shut.stage == verb.lower()
    assert {error.stage for error in behind if error} <= {"mail", "input"}


def test_the_time_of_an_answer_is_counted_from_its_own_write() -> None:
    """FAULTS 122: a message in flight is not taken for one that the server answered late."""

    def source() -> Iterator[MailObject]:
        for content in (LARGE, SMALL, LARGE):
            yield MailObject("s@x.example", PATHS, content)
            threading.Event().wait(TIMEOUT + 0.1 if content is LARGE else 0)

    server = Server("none", "", -1, False, None)
    with ScriptedServer(server) as scripted, scripted.connect() as conn:
        outcomes = list(conn.send_many(source(), in_flight=4, timeout=TIMEOUT))
    assert [outcome.status for outcome in outcomes] == ["accepted"] * 3
