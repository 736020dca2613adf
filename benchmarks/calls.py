"""How much code a message runs through: calls counted, which no busy machine can blur.

Calls of Python functions and of C functions in the calling thread, warm, over loopback; waits (``poll``) are
left out, since their number is the clock's. Also the files of our own code (for ``smtplib`` of the standard
library), the moves (a function is entered that stands in another file than the one entered before), and the
deepest stack of frames. ``python -m benchmarks.calls`` prints the table alone, and
``python -m benchmarks.calls README.md`` writes it between the marks in that file.
"""

from __future__ import annotations

import os
import smtplib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

import pysmtpx
import pysmtpx.smtplib
from pysmtpx import MailObject, SmtpConnection, SmtpPool
from pysmtpx.testing import MailServer

from .report import Goal, Report

_OWN: Final = os.path.join(os.path.dirname(pysmtpx.__file__), "")
_OTHERS: Final = os.path.join(_OWN, "testing", "")
_SENDER, _RECIPIENTS = "ann@mail.test", ["bob@mail.test"]
_HEAD: Final = b"Subject: a message\r\n\r\n"
_BODY: Final = b"x" * 70 + b"\r\n"
"""Joined for each message, so that none is known from the one before."""
BEGIN: Final = "<!-- calls: written by .venv/bin/python -m benchmarks.calls README.md -->"
END: Final = "<!-- end of calls -->"
_WARM: Final = 5
_REPEATS: Final = 5
_MESSAGES: Final = 40
"""Of a stream, by which its calls are divided."""


@dataclass(slots=True)
class Count:
    """What one call ran through."""

    is_own: Callable[[str], bool]
    calls: float = 0
    files: set[str] = field(default_factory=set)
    moves: int = 0
    deepest: int = 0
    is_one: bool = True
    """Of one message; in a stream files and moves belong to no one of them."""
    _depth: int = 0
    _last: str = ""

    def event(self, frame: FrameType, event: str, argument: Any) -> None:
        """One event of ``sys.setprofile``."""
        if event == "c_call":
            self.calls += getattr(argument, "__name__", "") != "poll"
        elif event == "call":
            self.calls += 1
            if self.is_own(frame.f_code.co_filename):
                self._enter(frame.f_code.co_filename)
        elif event == "return" and self.is_own(frame.f_code.co_filename):
            self._depth -= 1

    def _enter(self, file: str) -> None:
        self._depth += 1
        self.deepest = max(self.deepest, self._depth)
        self.files.add(file)
        self.moves += self._last not in ("", file)
        self._last = file


def of_ours(file: str) -> bool:
    """Whether it is a file of the package, the embedded server left out."""
    return file.startswith(_OWN) and not file.startswith(_OTHERS)


def of_anybody(file: str) -> bool:
    """Whether it is a file of Python, this one left out."""
    return file != __file__


def count(call: Callable[[], object], is_own: Callable[[str], bool] = of_ours) -> Count:
    """One call, counted; the fewest of a few, after some that warm up."""
    for _ in range(_WARM):
        call()
    return min((_counted(call, is_own) for _ in range(_REPEATS)), key=lambda found: found.calls)


def _counted(call: Callable[[], object], is_own: Callable[[str], bool]) -> Count:
    found = Count(is_own)
    before = sys.getprofile()
    sys.setprofile(found.event)
    try:
        call()
    finally:
        sys.setprofile(before)
    found.calls -= 1  # that of sys.setprofile itself
    return found


def _plain() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann <ann@mail.test>"
    message["To"] = "bob@mail.test"
    message["Subject"] = "A message"
    message.set_content("Hello Bob,\nthis is plain text.\n")
    return message


def _html() -> EmailMessage:
    message = _plain()
    message.add_alternative("<p>Hello Bob, this is <b>not</b>.</p>\n", subtype="html")
    return message


def _utf8() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Jürgen Müller <ann@mail.test>"
    message["To"] = "Žofie <bob@mail.test>"
    message["Subject"] = "Grüße aus Köln"
    message.set_content("Schöne Grüße\nvon hier.\n")
    return message


def _attachment() -> EmailMessage:
    message = _plain()
    message.add_attachment(
        bytes(range(256)) * 30, maintype="application", subtype="octet-stream", filename="data.bin"
    )
    return message


KINDS: Final[dict[str, Callable[[], EmailMessage]]] = {
    "plain text": _plain,
    "text and HTML": _html,
    "UTF-8": _utf8,
    "10 KB attachment": _attachment,
}


def _sent_by_connection(connection: SmtpConnection, overlap: bool) -> Callable[[], object]:
    mails = [MailObject(_SENDER, _RECIPIENTS, _HEAD + _BODY)] * _MESSAGES
    return lambda: all(connection.send_many(mails, overlap=overlap))


def _leased(pool: SmtpPool) -> None:
    with pool.connection():
        pass


def _by_connection(server: MailServer) -> None:
    with pysmtpx.connect(server.host, server.port, local_hostname="bench.example") as connection:
        connection.send(_SENDER, _RECIPIENTS, _HEAD + _BODY)


def _by_module(module: ModuleType, server: MailServer) -> None:
    with module.SMTP(server.host, server.port, "bench.example") as smtp:
        smtp.sendmail(_SENDER, _RECIPIENTS, _HEAD + _BODY)


def measured() -> Iterator[tuple[str, Count, Count | None]]:
    """A row for each way to send: its name, what it ran through, and what the like of ``smtplib`` does."""
    with ExitStack() as stack:
        server = stack.enter_context(MailServer(strict=False, keep=False))
        standard = stack.enter_context(smtplib.SMTP(server.host, server.port))
        standard.ehlo()
        connection = stack.enter_context(pysmtpx.connect(server.url))
        pool = stack.enter_context(SmtpPool(server.url))
        theirs = count(lambda: standard.sendmail(_SENDER, _RECIPIENTS, _HEAD + _BODY), of_anybody)
        yield (
            "`SmtpConnection.send`",
            count(lambda: connection.send(_SENDER, _RECIPIENTS, _HEAD + _BODY)),
            theirs,
        )
        for overlap in (False, True):
            found = count(_sent_by_connection(connection, overlap))
            found.calls, found.is_one = found.calls / _MESSAGES, False
            yield f"`send_many`, overlap {'on' if overlap else 'off'}, a message", found, theirs
        yield "`SmtpPool.send`", count(lambda: pool.send(_SENDER, _RECIPIENTS, _HEAD + _BODY)), theirs
        yield "`pool.connection()` and back", count(lambda: _leased(pool)), None
        face = stack.enter_context(pysmtpx.smtplib.SMTP(server.host, server.port))
        yield (
            "`sendmail` of the face",
            count(lambda: face.sendmail(_SENDER, _RECIPIENTS, _HEAD + _BODY)),
            theirs,
        )
        theirs = count(lambda: _by_module(smtplib, server), of_anybody)
        yield "a connection, a message, QUIT", count(lambda: _by_connection(server)), theirs
        yield "the same by the face", count(lambda: _by_module(pysmtpx.smtplib, server)), theirs
        for kind, make in KINDS.items():
            message = make()
            theirs = count(lambda message=message: standard.send_message(message), of_anybody)
            ours = count(lambda message=message: connection.send_message(message))
            yield f"`send_message`, {kind}", ours, theirs


MOST: Final = {
    "`SmtpConnection.send`": 150,
    "`send_many`, overlap off, a message": 130,
    "`send_many`, overlap on, a message": 110,
    "`SmtpPool.send`": 230,
    "a connection, a message, QUIT": 340,
    "the same by the face": 375,
}
"""Calls that each of these may take."""
CROSSED: Final = {
    "`SmtpConnection.send`": (12, 45),
    "`SmtpPool.send`": (16, 80),
    "`pool.connection()` and back": (6, 16),
}
"""Files that each of these may run through, and moves from one to another."""


def calls() -> Report:
    """Each way to send, beside ``smtplib``'s ``sendmail`` or ``send_message``."""
    report = Report("Calls, counted")
    rows = list(measured())
    for name, ours, theirs in rows:
        if name in MOST:
            report.goals.append(Goal(f"calls of {name}", MOST[name], round(ours.calls), "", at_most=True))
        if name in CROSSED:
            files, moves = CROSSED[name]
            report.goals.append(Goal(f"files of {name}", files, len(ours.files), "", at_most=True))
            report.goals.append(Goal(f"moves of {name}", moves, ours.moves, "", at_most=True))
        if theirs is not None and "send_message" in name:
            goal = f"calls of {name} beside `smtplib`"
            report.goals.append(Goal(goal, 0.75, ours.calls / theirs.calls, at_most=True))
    report.parts.append("\n".join(table(rows)))
    report.parts.append(
        "Calls of Python and of C functions in the calling thread, waits left out; files of the package that "
        "it runs through, moves from one to another, and the deepest stack of its frames. Of `smtplib`: the "
        "same four, of the standard library."
    )
    return report


def table(rows: Iterable[tuple[str, Count, Count | None]]) -> list[str]:
    """The lines of the table."""
    lines = [
        "| | files | moves | stack | calls | of `smtplib` | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, ours, theirs in rows:
        ratio = "–" if theirs is None else f"{ours.calls / theirs.calls:.2f} ×"
        lines.append(f"| {name} | {_cells(ours)} | {_of_standard(theirs)} | {ratio} |")
    return lines


def _cells(found: Count) -> str:
    path = (len(found.files), found.moves, found.deepest) if found.is_one else ("–",) * 3
    return " | ".join([*map(str, path), f"{found.calls:,.0f}"])


def _of_standard(found: Count | None) -> str:
    return "–" if found is None else f"{len(found.files)}, {found.moves}, {found.deepest}, {found.calls:,.0f}"


def refreshed(page: str, table: str) -> str:
    """The page with this table between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no {BEGIN} with an {END} behind it")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


if __name__ == "__main__":
    found = calls()
    for path in map(Path, sys.argv[1:]):
        path.write_text(refreshed(path.read_text("utf-8"), found.parts[0]), "utf-8")
    print(found.markdown())
