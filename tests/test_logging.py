"""``MailHandler``: thousands of records, dead and slow servers, threads, forks and the end of the process."""

from __future__ import annotations

import contextlib
import email
import email.policy
import logging
import logging.config
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.patience import LONG

import pysmtpx
from pysmtpx import InputError
from pysmtpx.development import Mailbox, mailbox
from pysmtpx.logging import MailHandler
from pysmtpx.testing import Event, MailServer, Stall

NOW: dict[str, Any] = {"delay": 0, "interval": 3600, "flush_timeout": LONG}


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.getLogger("of.this.test")
    log.propagate = False
    yield log
    for handler in [*log.handlers]:
        log.removeHandler(handler)
        handler.close()


@pytest.fixture
def box() -> Mailbox:
    box = mailbox("log")
    box.clear()
    return box


def handler(log: logging.Logger, server: Any = "memory://log", **options: Any) -> MailHandler:
    made = MailHandler(server, "robot@x.example", "ops@x.example", **{**NOW, "delay": 3600, **options})
    log.addHandler(made)
    return made


def texts(box: Any) -> list[tuple[str, str]]:
    """Subject and text of each mail."""
    read = [email.message_from_bytes(each.content, policy=email.policy.default) for each in box.messages]
    return [(each["Subject"], each.get_content().replace("\r\n", "\n")) for each in read]


def fail(log: logging.Logger, number: int) -> None:
    try:
        raise ValueError(f"number {number}")
    except ValueError:
        log.exception("it failed for %d", number)


def test_one_record_is_a_mail_that_says_what_and_where(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log)
    fail(log, 7)
    made.flush()
    ((subject, text),) = texts(box)
    assert subject.startswith("ERROR in of.this.test, test_logging.py line ")
    assert subject.endswith("ValueError: it failed for 7")
    assert "ValueError: number 7" in text
    assert 'raise ValueError(f"number {number}")' in text
    (message,) = box.messages
    assert message.addresses == ["ops@x.example"]
    assert b"Auto-Submitted: auto-generated\r\n" in message.content


@pytest.mark.parametrize(
    ("server", "options", "told"),
    [
        ("memory://log", {"intervall": 3}, "no such option: 'intervall'; did you mean interval?"),
        ("memory://log", {"hots": "x"}, "did you mean"),
        (None, {}, "a server is a host, a URL or a Server, and not NoneType"),
        (["memory://log"], {}, "and not list"),
    ],
)
def test_a_slip_says_what_was_meant(server: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        MailHandler(server, "robot@x.example", "ops@x.example", **options)
    assert told in str(caught.value)


def test_thousands_of_records_are_one_mail(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log)
    for number in range(5000):
        fail(log, number)
        log.error("disk %d is at %d %%", number, number)
        log.error(f"user {number} is unknown")
    made.flush()
    ((subject, text),) = texts(box)
    assert "(and 2 more)" in subject
    assert "15000 records of 3 kinds" in text
    assert text.count("5000 times, from ") == 3
    assert "number 0" in text
    assert "The last one: it failed for 49" in text  # of the last hundred one is written out
    assert len(text) < 5000


def test_kinds_are_told_apart_by_where_and_what(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log)
    for error in (ValueError, KeyError):
        for word in ("a", "b"):
            log.error(word)
            try:
                raise error(word)
            except Exception:
                log.exception(word)
    made.flush()
    assert "8 records of 4 kinds" in texts(box)[0][1]


def test_a_flood_of_kinds_takes_bounded_memory(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log)
    for number in range(3000):
        log.error("kind " + "".join(chr(97 + int(digit)) for digit in str(number)) + " x" * 50_000)
    made.flush()
    ((_, text),) = texts(box)
    assert "100 records of 100 kinds" in text
    assert "2900 records of other kinds are not shown." in text
    assert len(text) < 100 * 21_000


def test_between_two_mails_there_is_an_interval(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log, delay=0)
    log.error("first")
    box.wait_for(1, LONG)
    with made._changed:
        made._changed.wait_for(lambda: not made._is_sending, LONG)
    log.error("second")
    with made._changed:
        assert 3000 < made._due() - made_now() <= 3600
    made.flush()
    assert [text.count("second") > 0 for _, text in texts(box)] == [False, True]


def made_now() -> float:
    from pysmtpx.net.deadline import now

    return now()


def test_what_was_reported_waits_for_its_repeat(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log, delay=0, interval=0.001, repeat=1800)

    def again() -> None:
        log.error("the same")

    again()
    box.wait_for(1, LONG)
    with made._changed:
        made._changed.wait_for(lambda: not made._is_sending and not made._kinds, LONG)
    for _ in range(50):
        again()
    with made._changed:
        assert 1700 < made._due() - made_now() <= 1800
    log.error("something new")  # takes what waits with it
    box.wait_for(2, LONG)
    second = texts(box)[1][1]
    assert "51 records of 2 kinds" in second
    assert "reported before" in second


def test_nothing_of_its_own_sending_is_mailed(log: logging.Logger, box: Mailbox) -> None:
    root = logging.getLogger()
    level = root.level
    made = handler(root, level=logging.DEBUG)
    other = handler(root, "memory://other", level=logging.DEBUG)
    mailbox("other").clear()
    try:
        root.setLevel(logging.DEBUG)
        root.error("once")
        made.flush()
        other.flush()
        made.flush()
        other.flush()
    finally:
        root.setLevel(level)
        for each in (made, other):
            root.removeHandler(each)
            each.close()
    assert len(box) == len(mailbox("other")) == 1
    assert "pysmtpx" not in texts(box)[0][1]


def test_nor_of_a_pool_that_it_shares(log: logging.Logger, box: Mailbox) -> None:
    root = logging.getLogger()
    level = root.level
    with pysmtpx.SmtpPool("memory://log") as pool:
        made = handler(root, pool, level=logging.DEBUG)
        try:
            root.setLevel(logging.DEBUG)
            root.error("once")
            for _ in range(5):
                made.flush()
        finally:
            root.setLevel(level)
            root.removeHandler(made)
            made.close()
    assert len(box) == 1


def test_a_dead_server_blocks_nobody_and_loses_nothing(
    log: logging.Logger, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    made = handler(log, "smtp://127.0.0.1:1")
    for number in range(2000):
        fail(log, number)
    made.flush()
    assert "could not be mailed" in caplog.text
    log.error("after")
    with made._changed:
        assert made._due() - made_now() > 3000  # it rests
    made._server = pysmtpx.Server("memory://log")
    made.flush()
    ((_, text),) = texts(box)
    assert "2001 records of 2 kinds" in text
    assert "2000 times" in text


def test_a_server_that_stays_away_is_asked_more_and_more_rarely(log: logging.Logger) -> None:
    made = handler(log, "smtp://127.0.0.1:1", interval=100)
    rests = []
    for _ in range(8):
        log.error("x")
        made.flush()
        rests.append(made._next - made_now())
    assert [round(rest / 100) for rest in rests] == [1, 2, 4, 8, 16, 32, 36, 36]
    assert made._kinds.popitem()[1].count == 8


def test_what_the_server_refuses_for_good_is_counted(log: logging.Logger) -> None:
    def first_is_spam(event: Event) -> str | None:
        return "554 5.7.1 spam" if event.verb == "FINAL" and event.connection == 0 else None

    with MailServer(verdict=first_is_spam) as server:
        made = handler(log, server.url)
        fail(log, 1)
        made.flush()
        log.error("other")
        made.flush()
        (message,) = server.wait_for(1)
    assert b"1 records before could not be mailed" in message.content


def test_a_slow_server_holds_up_neither_those_who_log_nor_the_end(log: logging.Logger) -> None:
    with MailServer(replies={"MAIL": Stall()}) as server:
        made = handler(log, server.url, delay=0, timeout=600, flush_timeout=0.05)
        log.error("begins")
        assert server.ledger.wait_until(lambda: any("MAIL" in each for each in server.ledger.commands), LONG)
        for number in range(3000):
            fail(log, number)  # were it to wait for the server, this test would not end in its time
        made.flush()
        with made._changed:
            assert made._is_sending
            assert next(iter(made._kinds.values())).count == 3000
        made.close()
        thread = made._thread
    assert thread is not None
    thread.join(LONG)
    assert not thread.is_alive()


def test_many_threads_lose_no_record(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log)
    threads = [threading.Thread(target=lambda: [fail(log, n) for n in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.flush()
    counts = [int(found) for _, text in texts(box) for found in re.findall(r"(\d+) times", text)]
    assert sum(counts) == 1600


def test_what_is_hostile_in_a_record_stays_text(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log, subject="shop")
    text = "a\r\nBcc: eve@x.example\x00\x1b[31m \ud800\u2028 é"
    # Not by the logger: pytest keeps what is logged, and cannot hand half a character to another process.
    made.handle(log.makeRecord(log.name, logging.ERROR, __file__, 1, text, (), None))
    made.flush()
    ((subject, text),) = texts(box)
    assert subject == "shop: a\\r"
    assert "a\\r\nBcc: eve@x.example\\x00\\x1b[31m \\ud800\\u2028 é" in text
    assert box.messages[0].addresses == ["ops@x.example"]


def test_a_record_that_cannot_be_written_harms_nobody(
    log: logging.Logger, box: Mailbox, capsys: pytest.CaptureFixture[str]
) -> None:
    made = handler(log)
    made.handle(log.makeRecord("x", logging.ERROR, "x.py", 1, "%d", ("no number",), None))
    assert "--- Logging error ---" in capsys.readouterr().err
    log.error("fine")
    made.flush()
    assert "1 record," in texts(box)[0][1]


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs signals")
def test_a_handler_of_signals_may_log(log: logging.Logger, box: Mailbox) -> None:
    made = handler(log)
    before = signal.signal(signal.SIGINT, lambda *_: log.error("in the handler"))
    try:
        with made._changed:
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    made.flush()
    assert "in the handler" in texts(box)[0][1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_reports_its_own_and_the_parent_his(log: logging.Logger) -> None:
    with MailServer() as server:
        made = handler(log, server.url)
        log.error("of the parent")
        with made._changed:
            child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                log.error("of the child")
                made.flush()
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        made.flush()
        first, second = (message.content for message in server.wait_for(2))
    assert b"of the child" in first
    assert b"of the parent" not in first
    assert b"of the parent" in second
    assert b"of the child" not in second


PROGRAM = """
import logging, sys, threading
from pysmtpx.logging import MailHandler

logging.getLogger().addHandler(MailHandler(sys.argv[1], "robot@x.example", "ops@x.example", {options}))
logging.error("the last words")
"""


def run(url: str, options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM.format(options=options), url],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_end_of_the_process_sends_what_was_noted() -> None:
    with MailServer() as server:
        ended = run(server.url, "delay=600, flush_timeout=30")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert b"the last words" in server.wait_for(1)[0].content


def test_the_end_of_the_process_waits_for_no_server_for_long() -> None:
    with MailServer(replies={"CONNECT": Stall()}) as server:
        ended = run(server.url, "delay=600, timeout=600, connect_timeout=600, flush_timeout=0.2")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_where_no_thread_can_be_had_it_sends_itself(
    log: logging.Logger, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "pysmtpx-log-mail":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    made = handler(log)
    log.error("late")
    made.flush()
    assert len(box) == 1


def test_dict_config_makes_one(log: logging.Logger, box: Mailbox) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "incremental": False,
            "disable_existing_loggers": False,
            "formatters": {"short": {"format": "<<%(message)s>>"}},
            "handlers": {
                "mail": {
                    "class": "pysmtpx.logging.MailHandler",
                    "level": "ERROR",
                    "formatter": "short",
                    "server": "memory://log",
                    "from_": "robot@x.example",
                    "to": ["ops@x.example", "dev@x.example"],
                    "delay": 3600,
                    "flush_timeout": LONG,
                }
            },
            "loggers": {"of.this.test": {"handlers": ["mail"]}},
        }
    )
    log.error("configured")
    log.warning("less")
    log.handlers[0].flush()
    assert box.messages[0].addresses == ["ops@x.example", "dev@x.example"]
    ((_, text),) = texts(box)
    assert "<<configured>>" in text
    assert "less" not in text


@pytest.mark.parametrize(
    "given",
    [
        {"from_": "nobody"},
        {"to": []},
        {"to": 7},
        {"to": "a b"},
        {"delay": -1},
        {"interval": "x"},
        {"server": "smtp://ann:secret@x.example/path"},
        {"server": "x.example", "tls": "no"},
    ],
)
def test_what_cannot_be_right_is_said(given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        MailHandler(**{"server": "x.example", "from_": "a@x.example", "to": "b@x.example", **given})
    assert "secret" not in str(caught.value)


def test_the_thread_outlives_what_an_own_deliver_raises(log: logging.Logger, box: Mailbox) -> None:
    class Leaves(MailHandler):
        tries = 0

        def deliver(self, subject: str, text: str) -> None:
            self.tries += 1
            if self.tries == 1:
                raise SystemExit(3)
            super().deliver(subject, text)

    made = Leaves("memory://log", "robot@x.example", "ops@x.example", **{**NOW, "flush_timeout": LONG})
    log.addHandler(made)
    fail(log, 1)
    made.flush()
    fail(log, 2)
    made.flush()
    assert made.tries == 2
    assert len(box.messages) == 1
