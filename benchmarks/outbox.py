"""What it costs to hand a message in, and to take one, by how many there are: in a journal, and by Django."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pysmtpx
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import fates_of
from pysmtpx.payload import make_submission, pack
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import SendResult

from .contestants import RECIPIENT, SENDER, message
from .many import MILLION
from .peak import peak
from .report import Goal, Report

RESULTS = Path(__file__).parent / "results"
STORES = {"journal": "a journal (SQLite)", "django": "Django's outbox (SQLite)"}
_FIRST = 1000
_EACH = 64
"""Messages by which a cost is measured."""
_TABLES = ("pysmtpx_outbox_message", "pysmtpx_outbox_recipient")
_BATCH = 16
"""Messages that a pool takes at a time."""


class Cost(NamedTuple):
    """Of one message where there are so many, in milliseconds; and the most memory, in megabytes."""

    there: int
    add: float
    take: float
    memory: float


def outbox(count: int = MILLION, rounds: int = 3) -> Report:
    """From a thousand messages to a million, half of them over: each level in a process of its own."""
    costs = _costs(sorted({_FIRST, count // 100, count // 10, count}), rounds)
    report = Report(f"An outbox of {count:,} messages")
    report.parts += [_plot(costs), _table(costs)]
    for each, told in STORES.items():
        first, *_, last = costs[each]
        report.goals += [
            Goal(f"{told}: to add, full beside empty", 2, last.add / first.add, at_most=True),
            Goal(f"{told}: to take and settle, full beside empty", 2, last.take / first.take, at_most=True),
            Goal(f"{told}: memory, full beside empty", 1.2, last.memory / first.memory, at_most=True),
        ]
    return report


def _costs(levels: list[int], rounds: int) -> dict[str, list[Cost]]:
    """Of each store and level a file of its own; they take turns, and the medians of the rounds count."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=Path.cwd()) as folder:
        places = [(kind, level, f"{folder}/{kind}-{level}.db") for kind in STORES for level in levels]
        for kind, level, path in places:
            _run("fill", kind, path, str(level))
        os.sync()  # else what is measured waits for what was written before
        found: dict[tuple[str, int], list[list[float]]] = {}
        for _ in range(rounds):
            for kind, level, path in places:
                figures = [float(each) for each in _run("measure", kind, path).split()]
                found.setdefault((kind, level), []).append(figures)
    return {
        kind: [
            Cost(level, *(median(each) for each in zip(*found[kind, level], strict=True))) for level in levels
        ]
        for kind in STORES
    }


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.outbox", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _table(costs: dict[str, list[Cost]]) -> str:
    rows = [
        "| | messages in it | add, ms | take, doubt and settle, ms | memory, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for each, found in costs.items():
        rows += [
            f"| {STORES[each]} | {c.there:,} | {c.add:.2f} | {c.take:.2f} | {c.memory:.0f} |" for c in found
        ]
    return "\n".join(rows)


def _plot(costs: dict[str, list[Cost]]) -> str:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "pysmtpx"
    from matplotlib import pyplot

    title = "What a message costs, by how many are in the outbox"
    figure, axes = pyplot.subplots(figsize=(7.5, 4.5))
    for each, found in costs.items():
        for what, style in (("add", "-"), ("take", "--")):
            told = "add" if what == "add" else "take, doubt and settle"
            places, heights = zip(*((c.there, getattr(c, what)) for c in found), strict=True)
            axes.plot(places, heights, style, marker="o", markersize=4, label=f"{STORES[each]}: {told}")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set(title=title, xlabel="messages in it, half of them over", ylabel="milliseconds a message")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize="small")
    RESULTS.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(RESULTS / "outbox.svg", metadata={"Date": None})
    pyplot.close(figure)
    return f"![{title}](outbox.svg)"


# In a process of its own.


def _payload() -> dict[str, Any]:
    return pack(make_submission(pysmtpx.MailObject(SENDER, RECIPIENT, message(1024))))


@contextmanager
def _journal(path: str) -> Iterator[tuple[Any, Callable[[], object]]]:
    with Journal(path, keep=None) as journal:
        yield journal, partial(journal.add, _payload())


@contextmanager
def _django(path: str) -> Iterator[tuple[Any, Callable[[], object]]]:
    """A project with nothing but the outbox."""
    import django
    from django.conf import settings

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": {"timeout": 60}}
    settings.configure(
        INSTALLED_APPS=["pysmtpx.contrib.django", "pysmtpx.contrib.django.outbox"],
        SECRET_KEY="none",
        USE_TZ=True,
        DATABASES={"default": database},
    )
    django.setup()
    from django.core.management import call_command

    from pysmtpx.contrib.django.outbox import rows
    from pysmtpx.contrib.django.outbox.store import OutboxStore

    call_command("migrate", verbosity=0)
    with OutboxStore() as store:
        yield store, partial(rows.put, _payload(), using=rows.database())


def _fill(kind: str, path: str, level: int) -> None:
    """So many messages, half of them over: copies of one that was added."""
    with (_journal if kind == "journal" else _django)(path) as (_, add):
        add()
    names = {"journal": ("messages", "fates", "number", "owed"), "django": (*_TABLES, "id", "is_owed")}
    table, recipients, number, owed = names[kind]
    message = "message" if kind == "journal" else "message_id"
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")
        _copy(store, table, number, level - 1, {owed: "n % 2"})
        state = "CASE WHEN n % 2 THEN 'queued' ELSE 'accepted' END"
        _copy(store, recipients, message, level - 1, {"state": state})
        if kind == "journal":
            _copy(store, "contents", message, level - 1, {})
        store.execute("COMMIT")


def _copy(store: sqlite3.Connection, table: str, key: str, count: int, changed: dict[str, str]) -> None:
    """Add so many copies of the one row that is there, each with the next key."""
    columns = [name for _, name, *_ in store.execute(f"PRAGMA table_info({table})")]
    if key != "id" and "id" in columns:
        columns.remove("id")
    values = [{key: f"{key} + n", **changed}.get(name, name) for name in columns]
    store.execute(
        f"INSERT INTO {table} ({', '.join(columns)})"
        f" WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {count})"
        f" SELECT {', '.join(values)} FROM counted, (SELECT * FROM {table} LIMIT 1)"
    )


def _measure(kind: str, path: str) -> None:
    with (_journal if kind == "journal" else _django)(path) as (store, add):
        print(_adding(add), _taking(store), peak())


def _adding(add: Callable[[], object]) -> float:
    return median(_seconds(add) for _ in range(_EACH)) * 1000


def _taking(store: Any) -> float:
    return median(_seconds(lambda: _take(store)) / _BATCH for _ in range(_EACH // _BATCH)) * 1000


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _take(store: Any) -> None:
    done = Reply(250, (b"2.0.0 ok",))
    for owed in store.take(_BATCH):
        store.doubt([(owed.number, owed.recipients)])
        result = SendResult(owed.recipients, (), done, (done,))
        store.settle(owed.number, fates_of(result), tries=1)


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        _fill(*sys.argv[2:4], int(sys.argv[4]))
    else:
        _measure(*sys.argv[2:4])
