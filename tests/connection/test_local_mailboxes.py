"""A mailbox without a domain, or with a long local part, where it is known and elsewhere (FAULTS 105)."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from email.mime.text import MIMEText
from typing import Any

import pytest
from support.places import resolve_to

from pysmtpx import ForwardPath, InputError, MailObject, ReversePath, SmtpPool, connect
from pysmtpx.testing import MailServer

BODY = b"Subject: x\r\n\r\nhello\r\n"
LONG = "x" * 100 + "@y.example"
ENVELOPE = ("tester", ["root", LONG, "user.@docomo.ne.jp"])


def message(kind: type[EmailMessage] | type[MIMEText]) -> Any:
    made = MIMEText("x\n") if kind is MIMEText else EmailMessage()
    made["From"], made["To"], made["Cc"] = ENVELOPE[0], f"root, {LONG}", ENVELOPE[1][2]
    return made


_SEND = {"smtp": "send", "lmtp": "send_lmtp"}
WAYS: dict[str, Callable[[Any, SmtpPool], Any]] = {
    "send": lambda conn, pool: getattr(conn, _SEND[conn.protocol])(*ENVELOPE, BODY),
    "send_many": lambda conn, pool: list(conn.send_many([MailObject(*ENVELOPE, BODY)])),
    "send_message": lambda conn, pool: conn.send_message(message(MIMEText)),
    "pool.send": lambda conn, pool: pool.send(*ENVELOPE, BODY),
    "pool.send_message": lambda conn, pool: pool.send_message(message(EmailMessage)),
    "pool.submit": lambda conn, pool: pool.submit(message(EmailMessage)).result(),
    "pool.send_many": lambda conn, pool: list(pool.send_many([MailObject(*ENVELOPE, BODY)])),
}


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("way", WAYS)
def test_on_this_host(way: str, protocol: Any) -> None:
    with MailServer(protocol=protocol, local_mailboxes=True) as server:
        with connect(server.url) as conn, SmtpPool(server.url) as pool:
            WAYS[way](conn, pool)
        (received,) = server.messages
    assert received.sender == "tester"
    assert [each.address for each in received.recipients] == ["root", LONG, '"user."@docomo.ne.jp']


def _elsewhere(way: str, envelope: tuple[Any, Any], protocol: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What became of a message over a server that is not on this host, and what that received."""
    resolve_to(monkeypatch, "127.0.0.1")
    with MailServer(protocol=protocol, local_mailboxes=True) as server:  # type: ignore[arg-type]
        there = f"{protocol}://mail.test:{server.port}?tls=none"
        with connect(there) as conn, SmtpPool(there) as pool:
            if way == "connection":
                (outcome,) = conn.send_many([MailObject(*envelope, BODY)])
            else:
                (outcome,) = pool.send_many([MailObject(*envelope, BODY)])
        return outcome, list(server.messages)


@pytest.mark.parametrize("way", ["connection", "pool"])
@pytest.mark.parametrize("path", ["root", LONG])
@pytest.mark.parametrize("place", ["sender", "recipient"])
def test_elsewhere(way: str, path: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = (path, ["b@x.example"]) if place == "sender" else ("a@x.example", ["b@x.example", path])
    outcome, received = _elsewhere(way, plain, "smtp", monkeypatch)
    assert (outcome.status, received) == ("unsent", [])
    kind = ReversePath if place == "sender" else ForwardPath
    assert isinstance(outcome.error, InputError)
    assert path[:40] in str(outcome.error)
    assert f"{kind.__name__}(…, strict=False)" in str(outcome.error)

    insisted = kind(path, strict=False)
    again = (insisted, plain[1]) if place == "sender" else (plain[0], [plain[1][0], insisted])
    outcome, received = _elsewhere(way, again, "smtp", monkeypatch)
    assert outcome.status == "accepted"
    assert path in (received[0].sender, *(each.address for each in received[0].recipients))


def test_over_lmtp_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, received = _elsewhere("pool", ENVELOPE, "lmtp", monkeypatch)
    assert outcome.status == "accepted"
    assert received[0].recipients[0].address == "root"


def test_of_a_header_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with MailServer(local_mailboxes=True) as server:
        with connect(f"smtp://mail.test:{server.port}?tls=none") as conn:
            with pytest.raises(InputError, match=r"'tester'.*strict=False"):
                conn.send_message(message(EmailMessage))
            sender = ReversePath("tester", strict=False)
            recipients = [ForwardPath(each, strict=False) for each in ENVELOPE[1]]
            conn.send_message(message(EmailMessage), sender=sender, recipients=recipients)
        assert len(server.messages) == 1
