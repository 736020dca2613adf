"""What a caller was told about each recipient, and about the connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from pysmtpx import ConnectionLost, SendResult, SmtpConnection, SmtpError, Stage
from pysmtpx.testing import MailServer

BODY = b"Subject: x\r\n\r\nhello\r\n"
SENDER = "s@x.example"
RCPTS = ("a@x.example", "b@x.example", "c@x.example")


def fates(outcome: SendResult | SmtpError) -> dict[str, str]:
    """The one fate of each recipient: accepted, unknown, unsent, or rejected by what at which stage."""
    named = [(path, "accepted") for path in outcome.accepted_recipients]
    named += [(r.recipient, f"rejected {r.reply.code} {r.stage}") for r in outcome.rejected_recipients]
    if isinstance(outcome, SmtpError):
        named += [(path, "unknown") for path in outcome.unknown_recipients]
        named += [(path, "unsent") for path in outcome.unsent_recipients]
    assert len(dict(named)) == len(named), f"a recipient has two fates: {named}"
    return dict(named)


def attempt(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a call returns, or the SmtpError that it raises."""
    try:
        return call(*args, **options)
    except SmtpError as raised:
        error = raised
    assert isinstance(error.stage, Stage), f"{error!r} does not say at which stage"
    return error


def send(conn: SmtpConnection, recipients: Any = RCPTS, body: Any = BODY, **options: Any) -> Any:
    """Send over SMTP or LMTP; return the result or the error."""
    call = conn.send_lmtp if conn.protocol == "lmtp" else conn.send
    return attempt(call, SENDER, recipients, body, **options)


def assert_kept(conn: SmtpConnection, server: MailServer) -> None:
    """The connection is in step: the next message arrives, and to the octet."""
    assert not conn.closed
    before = server.ledger.count
    result = send(conn, "next@x.example", b"Subject: next\r\n\r\n.dot\r\n")
    assert isinstance(result, SendResult), result
    assert server.ledger.count == before + 1
    assert server.messages[-1].content == b"Subject: next\r\n\r\n.dot\r\n"
    assert server.messages[-1].addresses == ["next@x.example"]


def assert_closed(conn: SmtpConnection) -> None:
    """Every later call fails at once and says why."""
    assert conn.closed
    for call in (conn.noop, conn.rset, lambda: conn.verify("x"), lambda: conn.send(SENDER, RCPTS, BODY)):
        if conn.protocol == "lmtp" and call not in (conn.noop, conn.rset):
            continue
        with pytest.raises(ConnectionLost, match=r"the connection is closed: .+"):
            call()
    with contextlib.suppress(ValueError):
        conn.quit()
