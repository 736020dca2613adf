"""Every record that the package logs has fields, by one table; text and fields agree, nothing is secret."""

from __future__ import annotations

import ast
import contextlib
import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pysmtpx
import pysmtpx.smtplib
from pysmtpx import MailObject, RetryPolicy, SmtpError, SmtpPool, connect
from pysmtpx.identifiers import message_id, queue_id
from pysmtpx.records import PREFIX, Fields, fields
from pysmtpx.testing import Event as Heard
from pysmtpx.testing import MailServer
from pysmtpx.wire.reply import EnhancedCode, Reply

ROOT = Path(pysmtpx.__file__).parent
PAGE = ROOT.parent / "docs/how-to/logging.md"
NAMES = {PREFIX + name for name in get_type_hints(Fields)}
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
SENDER, RECIPIENT, CONTENT = (
    "s@x.example",
    "a@x.example",
    b"Message-ID: <1@x.example>\r\n\r\nprivate words\r\n",
)


# -- each place that logs ---------------------------------------------------------------


def _logging_calls() -> Iterator[tuple[str, ast.Call, Any]]:
    """Calls of a logger's methods, and what is handed on to be called later (``partial(_log.info, …)``)."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.is_relative_to(ROOT / "testing"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            for each in (node.func, *node.args):
                if isinstance(each, ast.Attribute) and each.attr in METHODS and _is_logger(each.value):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node, each.attr


def _is_logger(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("_log", "log", "logger", "_logger", "logging")


CALLS = list(_logging_calls())


def test_the_calls_are_found() -> None:
    assert len(CALLS) >= 10


@pytest.mark.parametrize(("where", "call"), [pytest.param(w, c, id=w) for w, c, _ in CALLS])
def test_every_record_has_fields(where: str, call: ast.Call) -> None:
    """By ``fields``, whose keywords the type checker holds to the table."""
    assert any(keyword.arg == "extra" for keyword in call.keywords), f"{where} logs without fields"


def test_a_name_is_free_on_every_record() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "x", (), None)
    taken = {*vars(record), "message", "asctime"}
    assert not NAMES & taken


def test_what_is_not_known_is_left_out() -> None:
    assert fields(event="sent", code=None) == {"smtp_event": "sent"}


def test_the_page_lists_each_name() -> None:
    assert set(re.findall(r"^\| `(smtp_\w+)` \|", PAGE.read_text("utf-8"), re.M)) == NAMES


# -- what is logged ---------------------------------------------------------------------


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name.startswith(PREFIX)}


def _agrees(record: logging.LogRecord) -> None:
    """All that the text says stands in a field, and every field is of the table."""
    text, found = record.getMessage(), _fields_of(record)
    assert found, text
    assert found.keys() <= NAMES
    if record.name == "pysmtpx.wire":
        assert found["smtp_event"] == "wire"
        assert text.startswith(found["smtp_direction"])
        if "smtp_code" in found:
            assert text.startswith(f"S: {found['smtp_code']}")
        return
    if "smtp_seconds" not in found or "smtp_why" in found:
        return
    words = f"{found['smtp_server']} {found['smtp_event']} after {found['smtp_seconds']:.3f} s"
    assert text.startswith(words)
    for name, form in (
        ("attempt", "try {}"),
        ("error", "{}"),
        ("stage", "at {}"),
        ("delay", "again in {:.1f} s"),
    ):
        if PREFIX + name in found:
            assert form.format(found[PREFIX + name]) in text
    for number in re.findall(r"\b\d{3}\b(?! s)", text.partition(", ")[2]):
        assert int(number) == found["smtp_code"]


def _by_event(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    (record,) = [
        r for r in caplog.records if vars(r).get("smtp_event") == event and "smtp_why" not in vars(r)
    ]
    return _fields_of(record) | {"level": record.levelname}


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG, "pysmtpx")
    yield
    for record in caplog.records:
        if record.name.startswith("pysmtpx"):
            _agrees(record)
            assert "private words" not in repr(vars(record))
            assert "hunter2" not in repr(vars(record))


COUNTS = {"smtp_recipients": 1, "smtp_accepted": 1, "smtp_rejected": 0, "smtp_unknown": 0, "smtp_unsent": 0}


@pytest.mark.parametrize("way", ["connection", "send_many", "pool", "submit", "leased", "smtplib"])
def test_a_message_that_was_accepted(way: str, caplog: pytest.LogCaptureFixture) -> None:
    with MailServer() as server:
        _send(way, server, [RECIPIENT])
        name = f"{server.host}:{server.port}"
    found = _by_event(caplog, "sent")
    assert found.items() >= COUNTS.items()
    assert found["smtp_server"] == name
    assert (found["smtp_code"], found["smtp_outcome"], found["smtp_attempt"]) == (250, "accepted", 1)
    assert found["smtp_message_id"] == "<1@x.example>"
    assert found["level"] == "DEBUG"


@pytest.mark.parametrize(
    ("way", "level"),
    [("connection", "INFO"), ("send_many", "INFO"), ("pool", "WARNING"), ("smtplib", "INFO")],
)
def test_a_message_that_was_refused(way: str, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a pool the caller has the exception, and nobody else can have missed it."""
    with MailServer(refuse={RECIPIENT: "550 5.1.1 nobody of that name"}) as server:
        _send(way, server, [RECIPIENT])
        found = _by_event(caplog, "refused")
    assert found.items() >= {"smtp_code": 550, "smtp_enhanced": "5.1.1", "smtp_stage": "rcpt"}.items()
    assert found.items() >= {"smtp_rejected": 1, "smtp_accepted": 0, "smtp_outcome": "rejected"}.items()
    assert found["smtp_error"] == "AllRecipientsFailed"
    assert found["level"] == level


@pytest.mark.parametrize("way", ["connection", "send_many", "pool", "smtplib"])
def test_a_message_that_somebody_was_refused(way: str, caplog: pytest.LogCaptureFixture) -> None:
    with MailServer(refuse={RECIPIENT: "550 5.1.1 nobody of that name"}) as server:
        _send(way, server, [RECIPIENT, "b@x.example"])
        found = _by_event(caplog, "sent")
    assert found["level"] == "INFO"
    assert (found["smtp_recipients"], found["smtp_accepted"], found["smtp_rejected"]) == (2, 1, 1)


def test_another_try(caplog: pytest.LogCaptureFixture) -> None:
    left = itertools.count()

    def verdict(event: Heard) -> str | None:
        return "450 4.2.1 later" if event.verb == "RCPT" and next(left) == 0 else None

    with MailServer(verdict=verdict) as server:
        policy = RetryPolicy(backoff=0.001, temporary=True)
        with SmtpPool(server.url, retry=policy) as pool:
            pool.send(SENDER, RECIPIENT, CONTENT)
    found = _by_event(caplog, "retried")
    assert found["level"] == "INFO"
    assert found["smtp_attempt"] == 1
    assert found["smtp_code"] == 450
    assert 0 < found["smtp_delay"] <= 0.001
    assert "smtp_outcome" not in found
    assert _by_event(caplog, "sent")["smtp_attempt"] == 2


@pytest.mark.parametrize(("way", "level"), [("connection", "INFO"), ("pool", "WARNING")])
def test_a_server_that_is_not_there(way: str, level: str, caplog: pytest.LogCaptureFixture) -> None:
    with MailServer() as server:
        url, name = server.url, f"{server.host}:{server.port}"
    with SmtpPool(url, retry=RetryPolicy(attempts=1)) as pool, contextlib.suppress(SmtpError):
        if way == "connection":
            connect(url)
        else:
            pool.connection().__enter__()
    found = _by_event(caplog, "refused")
    assert found.items() >= {"smtp_server": name, "smtp_error": "ConnectError", "level": level}.items()
    assert "smtp_outcome" not in found


@pytest.mark.parametrize("way", ["connection", "pool"])
def test_a_connection_from_its_beginning_to_its_end(way: str, caplog: pytest.LogCaptureFixture) -> None:
    with MailServer() as server:
        _send(way, server, [RECIPIENT])
    for event in ("connected", "closed"):
        assert _by_event(caplog, event)["level"] == "DEBUG"


def test_a_password_is_in_no_field(caplog: pytest.LogCaptureFixture) -> None:
    with MailServer(users={"ann": "hunter2"}) as server:
        connect(server.host, server.port, username="ann", password="hunter2", insecure_auth=True).close()
        name = f"{server.host}:{server.port}"
    wire = [r for r in caplog.records if r.name == "pysmtpx.wire"]
    assert any("not shown" in r.getMessage() for r in wire)
    assert {vars(r)["smtp_server"] for r in wire} == {name}


def _send(way: str, server: MailServer, recipients: list[str]) -> None:
    if way == "smtplib":
        with pysmtpx.smtplib.SMTP(server.host, server.port) as face, contextlib.suppress(OSError):
            face.sendmail(SENDER, recipients, CONTENT)
        return
    if way in ("pool", "submit", "leased"):
        with SmtpPool(server.url) as pool:
            if way == "pool":
                _quietly(lambda: pool.send(SENDER, recipients, CONTENT))
            elif way == "submit":
                pool.submit(MailObject(SENDER, recipients, CONTENT)).result(60)
            else:
                with pool.connection() as smtp:
                    smtp.send(SENDER, recipients, CONTENT)
        return
    with connect(server.url) as smtp:
        if way == "connection":
            _quietly(lambda: smtp.send(SENDER, recipients, CONTENT))
        else:
            list(smtp.send_many([MailObject(SENDER, recipients, CONTENT)]))


def _quietly(send: Any) -> None:
    with contextlib.suppress(SmtpError):
        send()


# -- what the server, and the author, call it -------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0 Ok: queued as 4XyZ1234abc", "4XyZ1234abc"),
        ("OK id=1tGmXa-0000000AbCd-1xYz", "1tGmXa-0000000AbCd-1xYz"),
        ("Message Queued (5D0C4A3E-1B7F.1)", "5D0C4A3E-1B7F.1"),
        ("2.0.0 4ASKm0Xy012345 Message accepted for delivery", "4ASKm0Xy012345"),
        ("2.0.0 1a2b3c4d Message accepted for delivery", "1a2b3c4d"),
        ("ok 1700000000 qp 12345", "12345"),
        ("2.6.0 <a@b> [InternalId=123456, Hostname=X.example] 1000 bytes Queued mail for delivery", "123456"),
        ("2.0.0 OK  1700000000 abc123-20020a05sm1.1 - gsmtp", "abc123-20020a05sm1.1"),
        ("Ok 0102018f-aaaa-bbbb-cccc-0123456789ab-000000", "0102018f-aaaa-bbbb-cccc-0123456789ab-000000"),
        ("2.0.0 Ok", None),
        ("queued as \x1b[31mred", None),
        ("queued as " + "x" * 100_000, None),
    ],
)
def test_a_queue_id(text: str, expected: str | None) -> None:
    reply = Reply(250, (text.encode(),), EnhancedCode(2, 0, 0))
    found = queue_id(reply)
    assert found == expected or (expected is None and found == "x" * 100)


def test_a_refusal_has_no_queue_id() -> None:
    assert queue_id(Reply(451, (b"queued as ABC123",))) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CONTENT, "<1@x.example>"),
        (b"message-id:\r\n <2@x.example>\r\n\r\n", "<2@x.example>"),
        (b"Subject: x\r\n\r\nMessage-ID: <3@x.example>\r\n", None),
        (b"Message-ID: <\x1b[31m>\r\n\r\n", None),
        (b"Message-ID: <" + b"x" * 1000 + b">\r\n\r\n", None),
        (b"\xff\xfe no header", None),
    ],
)
def test_a_message_id(content: bytes, expected: str | None) -> None:
    assert message_id(MailObject(SENDER, [RECIPIENT], content)) == expected


def test_a_source_that_can_be_read_once_is_not_read_for_its_message_id() -> None:
    mail = MailObject(SENDER, [RECIPIENT], iter([CONTENT]))
    assert message_id(mail) is None
    mail.content.check_unspent()


# -- handlers and filters of the application ---------------------------------------------


def _by_connection(url: str, mail: MailObject) -> object:
    with connect(url) as smtp:
        (outcome,) = smtp.send_many([mail])
        return outcome.status


def _by_face(url: str, mail: MailObject) -> object:
    host, port = url.removeprefix("smtp://").split(":")
    with pysmtpx.smtplib.SMTP(host, int(port)) as smtp:
        return smtp.sendmail(SENDER, RECIPIENT, CONTENT) or "accepted"


def _by_pool(url: str, mail: MailObject) -> object:
    with SmtpPool(url) as pool:
        return pool.send(SENDER, RECIPIENT, CONTENT) and pool.submit(mail).result() and "accepted"


@pytest.mark.parametrize("way", [_by_connection, _by_face, _by_pool])
def test_a_filter_that_fails_changes_no_outcome(
    way: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind the end of data its error would have the sender send once more what somebody has."""
    caplog.set_level(logging.DEBUG)

    def fail(record: logging.LogRecord) -> bool:
        if record.name.startswith("pysmtpx"):
            raise LookupError("no request is under way")
        return True

    caplog.handler.addFilter(fail)
    try:
        with MailServer() as server:
            assert way(server.url, MailObject(SENDER, [RECIPIENT], CONTENT)) == "accepted"
    finally:
        caplog.handler.removeFilter(fail)
    assert "no request is under way" in capsys.readouterr().err
