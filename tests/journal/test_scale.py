"""What a message costs does not grow with what waits, and with what is over: in steps of SQLite's machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import Fate
from pysmtpx.payload import make_submission, pack
from pysmtpx.wire.envelope import MailObject

PAYLOAD = pack(make_submission(MailObject("s@x.example", ["a@x.example"], b"Subject: x\r\n\r\nx\r\n")))
DONE = [Fate("a@x.example", "accepted", "250 ok")]


class Steps:
    """How many steps a call takes, by its name; in hundreds."""

    def __init__(self, journal: Journal) -> None:
        self._count = 0
        self.of: dict[str, int] = {}
        journal._disk.write(lambda store: store.set_progress_handler(self._step, 100))

    def _step(self) -> int:
        self._count += 1
        return 0

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        self._count = 0
        result = call()
        self.of[name] = self._count
        return result


def costs(journal: Journal) -> dict[str, int]:
    steps = Steps(journal)
    steps("add", lambda: journal.add(PAYLOAD, key=f"{time.time()}"))
    first, second = steps("take", lambda: journal.take(2))
    steps("renew", lambda: journal.renew([first.number, second.number]))
    steps("doubt", lambda: journal.doubt([(first.number, first.recipients)]))
    steps("settle", lambda: journal.settle(first.number, DONE, tries=1))
    steps("release", lambda: journal.release([second.number]))
    steps("cancel", lambda: journal.cancel(second.number))
    steps("retry", lambda: journal.retry(second.number))
    steps("look for what is old", lambda: journal.purge(1.0))
    return steps.of


def add(journal: Journal, count: int) -> None:
    """Half of them are over."""
    there = sum(journal.counts().values())
    for _ in range(count):
        journal.add(PAYLOAD, durable=False)

    def end(store: Any) -> None:
        store.execute("UPDATE messages SET owed = 0 WHERE number % 2 AND number > ?", (there,))
        store.execute("UPDATE fates SET state = 'accepted' WHERE message % 2 AND message > ?", (there,))

    journal._disk.write(end)


def test_what_a_message_costs_does_not_grow_with_what_is_there(tmp_path: Path) -> None:
    with Journal(tmp_path / "outbox.db", keep=None) as journal:
        add(journal, 10)
        few = costs(journal)
        add(journal, 3000)
        many = costs(journal)
        with Journal(tmp_path / "outbox.db", keep=None) as other:
            (held,) = other.take(1)
            close = Steps(other)
            close("close", other.close)
    more = {name: (few[name], many[name]) for name in few if many[name] > few[name] + 5}
    assert more == {}, "hundreds of steps with 10 messages, and with 3,000"
    assert close.of["close"] < 20
    assert held.number > 0
