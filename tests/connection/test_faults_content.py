"""FAULTS 27 to 29 and 35: what can happen while the content is written."""

from __future__ import annotations

from typing import Any

import pytest
from support.fates import RCPTS, SENDER, assert_closed, attempt, fates, send
from support.transports import dialled, serving

from pysmtpx import (
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    MailObject,
    ProtocolError,
    ServiceUnavailable,
)
from pysmtpx.testing import Cut

LONG = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 400_000


@pytest.mark.parametrize("end", ["stay", "fin", "rst"])
@pytest.mark.parametrize("code", [421, 451, 552])
@pytest.mark.parametrize("transport", ["clear", "implicit", "starttls"])
def test_a_refusal_while_the_content_is_written_is_reported(transport: str, code: int, end: str) -> None:
    """FAULTS 27: the reply, not the broken line that came of it; 40 MB do not go out for nothing."""
    reply = f"{code} 4.3.1 enough"
    fault = {"stay": reply, "fin": Cut(None, reply), "rst": Cut(None, reply, reset=True)}[end]
    with serving(transport, replies={("BODY", 10_000): fault}, strict=False, keep=False) as server:
        conn = dialled(server)
        error = send(conn, body=LONG, timeout=20)
        assert type(error) is (ServiceUnavailable if code == 421 else DataRejected)
        assert (error.stage, error.reply.code) == ("content", code)
        fate = "unsent" if code == 421 else f"rejected {code} content"
        assert fates(error) == dict.fromkeys(RCPTS, fate)
        assert error.safe_to_retry == error.temporary == (code < 500)
        assert_closed(conn)


@pytest.mark.parametrize("transport", ["clear", "implicit"])
def test_a_2xx_before_the_end_of_the_content(transport: str) -> None:
    """FAULTS 28: out of step, and perhaps delivered as far as it went."""
    with serving(transport, replies={("BODY", 10_000): "250 thanks"}, strict=False, keep=False) as server:
        conn = dialled(server)
        error = send(conn, body=LONG, timeout=20)
        assert isinstance(error, DeliveryUnknown)
        assert isinstance(error.__cause__, ProtocolError)
        assert fates(error) == dict.fromkeys(RCPTS, "unknown")
        assert_closed(conn)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("transport", ["clear", "implicit"])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_the_line_breaks_within_the_content(method: str, transport: str, reset: bool) -> None:
    """FAULTS 29, 51: nobody has it."""
    with serving(transport, replies={("BODY", 10_000): Cut(reset=reset)}, strict=False, keep=False) as server:
        conn = dialled(server)
        error = attempt(getattr(conn, method), SENDER, RCPTS, LONG, timeout=20)
        assert type(error) is ConnectionLost
        assert error.stage == "content"
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


class Broken(RuntimeError):
    pass


def _failing(chunks: int) -> Any:
    for _ in range(chunks):
        yield b"z" * 998 + b"\r\n"
    raise Broken("the caller's own")


@pytest.mark.parametrize("chunks", [0, 1, 500])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_content_that_raises(method: str, chunks: int) -> None:
    """FAULTS 35: only closing takes back what DATA began; the caller has its own error."""
    with serving(strict=False) as server:
        conn = dialled(server)
        with pytest.raises(Broken, match="the caller's own"):
            getattr(conn, method)(SENDER, RCPTS, _failing(chunks))
        assert_closed(conn)
    assert not server.messages
    assert not server.ledger.refused


@pytest.mark.parametrize("growth", [-5000, 5000])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_content_that_is_not_as_long_as_it_was(method: str, growth: int, tmp_path: Any) -> None:
    """FAULTS 35: SIZE and the chunk's length were stated already."""
    path = tmp_path / "mail"
    path.write_bytes(b"Subject: x\r\n\r\n" + b"zz\r\n" * 50_000)

    class Changing:
        """Stands for a file that another process writes to after it was measured."""

        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            data = path.read_bytes()
            return iter([data if self.passes == 1 else data[:growth] if growth < 0 else data + b"z" * growth])

    with serving(strict=False) as server:
        conn = dialled(server)
        error = attempt(getattr(conn, method), SENDER, RCPTS, Changing())
        assert isinstance(error, ValueError)
        assert_closed(conn)
    assert not server.messages
    assert not server.ledger.refused


@pytest.mark.parametrize("is_measured", [False, True])
def test_an_error_that_content_raises_again_is_not_about_the_message_before(is_measured: bool) -> None:
    """FAULTS 35: what content raises may be one object for all, or name others, to whom it sent itself."""
    error = InputError("no content")
    error.accepted_recipients = ("elsewhere@x.example",)
    same = InputError("no content either")

    class Content:
        def __init__(self, raised: Exception) -> None:
            self.raised = raised

        def __iter__(self) -> Any:
            yield b"Subject: x\r\n\r\n"
            raise self.raised

    mails = [
        MailObject(SENDER, f"r{i}@x.example", Content(raised) if is_measured else iter(Content(raised)))
        for i, raised in enumerate([error, same, same])
    ]
    outcomes = []
    for mail in mails:
        with serving(strict=False) as server, dialled(server) as conn:
            outcomes += conn.send_many([mail])
    for outcome, mail in zip(outcomes, mails, strict=True):
        assert outcome.status == "unsent"
        assert outcome.accepted_recipients == ()
        assert outcome.unsent_recipients == mail.recipients
