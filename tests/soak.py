"""A soak of the pool: many messages, faults at any octet, and two accounts that must be the same.

``python tests/soak.py [messages]`` sends 200,000 by default. The server is
``pysmtpx.testing.MailServer`` in a process of its own; what it delivered comes
back as three octets a message, and so is kept what the pool said here.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from pysmtpx import MailObject, Outcome, RetryPolicy  # noqa: E402
from pysmtpx.pool import SmtpPool  # noqa: E402
from pysmtpx.pooling import backoff, connection  # noqa: E402
from pysmtpx.testing import Cut, Drip, Event, Garbage, MailServer, ReceivedMessage  # noqa: E402
from pysmtpx.testing.ledger import Connection, Ledger  # noqa: E402

MESSAGES: Final = 200_000
RECIPIENTS: Final = 3
CONNECTIONS: Final = 8
FAULTS: Final = 0.05
"""The share of transactions, and of connections' openings, that meet one."""
GROWTH: Final = 8.0
"""MiB that memory may grow from the first quarter to the end: what the allocator does, and no leak."""

FATES: Final = ("accepted", "rejected", "unknown", "unsent")
_NUMBER: Final = re.compile(r"(\d+)(?:\.(\d))?@")
_HEADER: Final = b"Subject: soak\r\n\r\n"
_LINE: Final = b"All is well that ends well, and this line ends by CRLF.\r\n"


def size_of(number: int) -> int:
    """Lines of a message: mostly few, now and then more than a socket buffer takes."""
    return 2000 if number % 199 == 0 else number % 40


def mail(number: int) -> MailObject:
    """The message of that number; it stands in every address."""
    paths = [f"{number}.{position}@x.example" for position in range(RECIPIENTS)]
    return MailObject(f"{number}@x.example", paths, _HEADER + _LINE * size_of(number))


# -- the server's side ------------------------------------------------------------------


class Books(Ledger):
    """What was delivered: a counter for each recipient and nothing else."""

    def __init__(self, messages: int, faults: Faults) -> None:
        super().__init__(keep=False)
        self.delivered = bytearray(messages * RECIPIENTS)
        self._faults = faults

    def breach(self, connection: Connection, text: str) -> None:
        """Enter a breach, with the last fault that the connection met."""
        super().breach(connection, f"{text}, after {self._faults.last.get(connection.number)}")

    def message(self, message: ReceivedMessage) -> None:
        """Count it for each recipient that it was delivered to."""
        with self._changed:
            for path in message.delivered:
                number, position = _parts(path)
                self.delivered[number * RECIPIENTS + position] += 1
        super().message(message)


class Faults:
    """A verdict: which fault a message meets depends on the seed, its number and the try, not on threads."""

    def __init__(self, messages: int, seed: int, share: float) -> None:
        self._seed = seed
        self._share = share
        self._tries = bytearray(messages)
        self._due: dict[int, tuple[str, int, Any]] = {}
        """By connection: verb, index, answer."""
        self.last: dict[int, tuple[str, Any]] = {}
        """By connection: verb, answer."""
        self.met: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> Any:
        """The answer, if this is where its fault comes."""
        if event.verb == "CONNECT":
            self._due[event.connection] = self._opening(event.connection)
        elif event.verb == "MAIL":
            self._due[event.connection] = self._transaction(_parts(event.address)[0])
        verb, index, answer = self._due.get(event.connection, ("", 0, None))
        if answer is None or verb != event.verb or event.index < index:
            return None
        del self._due[event.connection]
        self.last[event.connection] = verb, answer
        with self._lock:
            self.met[verb] += 1
        return answer

    def _opening(self, connection: int) -> tuple[str, int, Any]:
        chance = random.Random(f"{self._seed} connection {connection}")
        if chance.random() >= self._share:
            return "", 0, None
        # No 5xx: in a greeting it refuses all that is queued, and rightly.
        after = chance.choice([0, chance.randrange(1, 12), None])
        cut = Cut(after, reset=after is None or chance.random() < 0.5)
        answer = chance.choice([cut, cut, cut, "421 4.3.2 come back later", Garbage(b"SSH-2.0-x\r\n")])
        return chance.choice(["CONNECT", "EHLO"]), 0, answer

    def _transaction(self, number: int) -> tuple[str, int, Any]:
        with self._lock:
            attempt = self._tries[number] = min(self._tries[number] + 1, 255)
        chance = random.Random(f"{self._seed} message {number} try {attempt}")
        if chance.random() >= self._share:
            return "", 0, None
        verb = chance.choice(["MAIL", "RCPT", "RCPT", "DATA", "BODY", "BODY", "FINAL", "FINAL"])
        octets = len(_HEADER) + len(_LINE) * size_of(number)
        index = {"RCPT": chance.randrange(RECIPIENTS), "BODY": chance.randrange(octets)}.get(verb, 0)
        return verb, index, self._answer(chance, verb)

    def _answer(self, chance: random.Random, verb: str) -> Any:
        """Cuts most of all: before, within and after the reply."""
        reset = chance.random() < 0.5
        # After a whole 354 and a FIN the client may go on: the server would call that a breach.
        whole = Cut(None, reset=reset or verb == "DATA")
        cuts = [Cut(0, reset=reset), Cut(chance.randrange(1, 12), reset=reset), whole]
        refusal = chance.choice(["550 5.7.1 no", "554-5.6.0 no\n554 5.6.0 never", "450 4.2.0 later"])
        if verb == "BODY":
            return chance.choice([cuts[0], cuts[0], cuts[0], Cut(None, refusal)])
        slower = chance.choice(["421 4.3.2 going down", "451 4.3.0 not now"])
        others = [slower, refusal, refusal, Garbage(b"HTTP/1.1 400 Bad Request\r\n"), Drip(0.0)]
        return chance.choice([*cuts, *cuts, *others])


def _parts(path: str) -> tuple[int, int]:
    match = _NUMBER.match(path)
    assert match is not None, path
    return int(match[1]), int(match[2] or 0)


def serve(messages: int, seed: int, share: float) -> None:
    """Be the server until standard input ends, then tell: a line of JSON, and the counters."""
    faults = Faults(messages, seed, share)
    books = Books(messages, faults)
    server = MailServer(verdict=faults, strict=False, receive_buffer=16 * 1024)
    server.ledger = books
    out = sys.stdout.buffer
    with server:
        out.write(server.url.encode() + b"\n")
        out.flush()
        sys.stdin.buffer.read()
    told = {"breaches": books.breaches[:20], "connections": len(books.connections), "faults": faults.met}
    out.write(json.dumps(told).encode() + b"\n" + books.delivered)
    out.flush()


class Server:
    """The server in its process."""

    def __init__(self, messages: int, seed: int, share: float) -> None:
        words = [
            sys.executable,
            __file__,
            str(messages),
            "--seed",
            str(seed),
            "--faults",
            str(share),
            "--serve",
        ]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def stop(self) -> tuple[dict[str, Any], bytes]:
        """End it; its account."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process:
            self._process.stdin.close()
            told = json.loads(self._line() or "{}")
            return told, self._process.stdout.read()

    def kill(self) -> None:
        """End it without a word, if it still runs."""
        with self._process:
            self._process.kill()


# -- the pool's side --------------------------------------------------------------------


@dataclass
class Account:
    """What the pool said: one octet for each recipient, 0 where nothing was said."""

    messages: int
    fates: bytearray = field(init=False)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fates = bytearray(self.messages * RECIPIENTS)

    def enter(self, outcome: Outcome) -> None:
        """Enter what became of one message; a second word on a recipient is wrong."""
        assert isinstance(outcome.mail, MailObject)
        number = _parts(outcome.mail.sender)[0]
        self.outcomes[outcome.status] += 1
        named = (
            outcome.accepted_recipients,
            tuple(each.recipient for each in outcome.rejected_recipients),
            outcome.unknown_recipients,
            outcome.unsent_recipients,
        )
        for code, paths in enumerate(named, 1):
            for path in paths:
                whose, position = _parts(path)
                if whose != number or self.fates[number * RECIPIENTS + position]:
                    self._complain(f"message {number}: {path} has a second fate, {FATES[code - 1]}")
                self.fates[number * RECIPIENTS + position] = code

    def compare(self, delivered: bytes) -> list[str]:
        """Everything in which the server's account differs from this one."""
        if len(delivered) != len(self.fates):
            return [*self.wrong, f"the server told of {len(delivered)} recipients, not {len(self.fates)}"]
        for (code, count), cases in Counter(zip(self.fates, delivered, strict=True)).items():
            if code == 0 or count not in _ALLOWED[code]:
                fate = FATES[code - 1] if code else "without a fate"
                self._complain(f"{cases} recipients are {fate} here and were delivered {count} times")
        if (told := self.outcomes.total()) != self.messages:
            self._complain(f"{told} outcomes for {self.messages} messages")
        return self.wrong

    def _complain(self, text: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(text)


_ALLOWED: Final = {1: (1,), 2: (0,), 3: (0, 1), 4: (0,)}
"""How often a recipient may have been delivered to, by the fate that it has here."""


def _learn_nothing(*_: object, **__: object) -> None:
    pass


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Let the pool rest for milliseconds and never learn to overlap less: all connections stay busy."""
    rests = {
        "QUIET": 0.02,
        "FIRST_REST": 0.001,
        "LONGEST_REST": 0.01,
        "FIRST_DIAL_REST": 0.001,
    }
    learn = mock.patch.object(connection.PooledServer, "learn", _learn_nothing)
    with mock.patch.multiple(backoff, **rests), learn:
        yield


class Traces:
    """Descriptors, threads and memory of this process."""

    def __init__(self) -> None:
        self._before = self._now()
        self.memory: list[float] = []
        """MiB resident, at each quarter."""

    def sample(self) -> None:
        """Take down what memory is in use."""
        gc.collect()
        status = Path("/proc/self/status")
        found = re.search(r"VmRSS:\s*(\d+)", status.read_text()) if status.exists() else None
        self.memory.append(int(found[1]) / 1024 if found else 0.0)

    def left(self) -> list[str]:
        """What is there now and was not before, and memory that grew.

        What another test left behind may end meanwhile, so there may be less.
        """
        gc.collect()
        before, now = self._before, self._now()
        names = ("descriptors", "threads")
        found = [f"{b} {n} before, {a} after" for n, b, a in zip(names, before, now, strict=True) if a > b]
        if self.grown > GROWTH:
            found.append(f"memory grew by {self.grown:.1f} MiB")
        return found

    @property
    def grown(self) -> float:
        """MiB from the first quarter to the end."""
        return self.memory[-1] - self.memory[0]

    @staticmethod
    def _now() -> tuple[int, int]:
        descriptors = Path("/proc/self/fd")
        return (len(os.listdir(descriptors)) if descriptors.exists() else 0, threading.active_count())


@dataclass(frozen=True)
class Verdict:
    """What a soak came to."""

    seconds: float
    account: Account
    told: dict[str, Any]
    memory: list[float]
    retried: int
    wrong: list[str]

    def __str__(self) -> str:
        total = self.account.messages
        outcomes = ", ".join(f"{self.account.outcomes[name]:,} {name}" for name in FATES)
        memory = " ".join(f"{each:.1f}" for each in self.memory)
        met = sum(self.told.get("faults", {}).values())
        return (
            f"{total:,} messages to {RECIPIENTS} recipients each in {self.seconds:.1f} s "
            f"({total / self.seconds:,.0f} a second): {outcomes}\n"
            f"{met:,} faults, {self.retried:,} further tries, "
            f"{self.told.get('connections', 0):,} connections; MiB resident at each quarter: {memory}"
        )


def soak(
    messages: int,
    *,
    seed: int = 1,
    share: float = FAULTS,
    progress: Callable[[Iterable[Outcome]], Iterable[Outcome]] = iter,
    **options: Any,
) -> Verdict:
    """Send so many, and compare both accounts; ``options`` are those of the pool."""
    traces, account, server = Traces(), Account(messages), Server(messages, seed, share)
    try:
        began = time.monotonic()
        policy = RetryPolicy(backoff=0.005)
        options |= {"max_connections": CONNECTIONS, "max_reconnect_delay": 0.01, "retry": policy}
        with hurried(), SmtpPool(server.url, **options) as pool:
            quarters = {messages * part // 4 for part in (1, 2, 3, 4)}
            outcomes = progress(pool.send_many(mail(number) for number in range(messages)))
            for count, outcome in enumerate(outcomes, 1):
                account.enter(outcome)
                if count in quarters:
                    traces.sample()
            stats = pool.stats()
        seconds = time.monotonic() - began
        told, delivered = server.stop()
    finally:
        server.kill()
    wrong = [*account.compare(delivered), *told["breaches"], *traces.left()]
    if stats.queued or stats.under_way or stats.connections > CONNECTIONS:
        wrong.append(f"the pool is not at rest: {stats}")
    return Verdict(seconds, account, told, traces.memory, stats.retried, wrong)


# -- from the command line --------------------------------------------------------------


def _bar(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    """Pass outcomes on, and show how far it is: a bar by rich, else lines."""
    with contextlib.suppress(ImportError):
        from rich.progress import track

        return iter(track(outcomes, total=total, description="soak"))
    return _lines(outcomes, total)


def _lines(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    for count, outcome in zip(itertools.count(1), outcomes, strict=False):
        yield outcome
        if count % 10_000 == 0:
            print(f"{count:,} of {total:,}", flush=True)


def main() -> int:
    """Soak, say what came of it, and fail where the accounts differ."""
    parser = argparse.ArgumentParser(description="A soak of the pool against a faulty server.")
    parser.add_argument("messages", nargs="?", type=int, default=MESSAGES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=float, default=FAULTS, help="the share of messages that meet one")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.messages, args.seed, args.faults)
        return 0
    progress = lambda outcomes: _bar(outcomes, args.messages)  # noqa: E731
    verdict = soak(args.messages, seed=args.seed, share=args.faults, progress=progress)
    print(verdict)
    for each in verdict.wrong:
        print(f"wrong: {each}")
    print("The accounts differ." if verdict.wrong else "Both accounts are the same; no duplicate.")
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
