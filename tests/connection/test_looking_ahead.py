"""While the server works on a message of a list, the next one is made ready."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from support.busy import until
from support.fates import assert_closed
from support.transports import dialled, serving

from pysmtpx import MailObject
from pysmtpx.testing import Event
from pysmtpx.wire import content
from pysmtpx.wire.limits import SLICE, WINDOW


def octets(number: int, size: int = 0) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"x\r\n" * (size // 3)


def mail(number: int, source: Any = None) -> MailObject:
    return MailObject("s@x.example", f"r{number}@x.example", octets(number) if source is None else source)


class Measured:
    """What was looked through so far, and a verdict that waits at a verb for what is to be so by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.octets: list[bytes] = []
        self._measure = content.measure_bytes
        self.fault: BaseException | None = None
        monkeypatch.setattr(content, "measure_bytes", self._note)

    def _note(self, data: bytes) -> Any:
        self.octets.append(data)
        if self.fault is not None:
            raise self.fault
        return self._measure(data)


@pytest.mark.parametrize("make", [list, tuple])
@pytest.mark.parametrize("overlap", [False, True])
def test_the_next_message_is_looked_through_before_the_server_answers(
    make: Callable[..., Any], overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, before = Measured(monkeypatch), []

    def verdict(event: Event) -> None:
        if event.verb == "MAIL":
            until(lambda: len(measured.octets) >= min(event.transaction + 2, 4))
            before.append(event.transaction)

    with serving(verdict=verdict) as server, dialled(server) as conn:
        sent = make(mail(number) for number in range(4))
        outcomes = list(conn.send_many(sent, overlap=overlap))
    assert [each.status for each in outcomes] == ["accepted"] * 4
    assert before == [0, 1, 2, 3]
    assert measured.octets == [octets(number) for number in range(4)]


@pytest.mark.parametrize("overlap", [False, True])
def test_what_cannot_be_sent_is_told_in_its_turn(overlap: bool) -> None:
    bad = mail(1, b"Subject: 1\r\n\r\n\0\r\n")
    with serving() as server, dialled(server) as conn:
        outcomes = list(conn.send_many([mail(0), bad, mail(2)], overlap=overlap))
        assert [each.status for each in outcomes] == ["accepted", "unsent", "accepted"]
        assert outcomes[1].mail is bad
        assert [message.addresses for message in server.messages] == [["r0@x.example"], ["r2@x.example"]]


def test_one_that_the_caller_replaced_is_not_sent() -> None:
    """He has the list, and control after each outcome."""
    sent = [mail(number) for number in range(4)]
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many(sent)
        next(outcomes)
        sent[1] = mail(7)
        del sent[3]
        assert [each.mail for each in outcomes] == [sent[1], sent[2]]
        assert [message.addresses[0] for message in server.messages] == [
            "r0@x.example",
            "r7@x.example",
            "r2@x.example",
        ]


def fail(*_: Any) -> None:
    raise RecursionError


class Kept(list[MailObject]):
    """A list with code of the caller's."""


@pytest.mark.parametrize(
    "case", ["a file", "a long one", "one to very many", "a hook", "a list of one's own"]
)
def test_what_may_take_long_or_is_the_callers_code_waits_for_its_turn(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs nobody reads the reply, and its deadline may pass."""
    looked: list[Any] = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            looked.append(self)
            return super().read(size)

    def hook(data: bytes, envelope: Any) -> bytes:
        looked.append(envelope)
        return data

    measured = Measured(monkeypatch)
    begun: list[tuple[int, int]] = []

    def verdict(event: Event) -> None:
        if event.verb == "FINAL" and event.transaction == 0:
            begun.append((len(looked), len(measured.octets)))

    sources: dict[str, Any] = {"a file": File(octets(1)), "a long one": octets(1, SLICE)}
    kind = Kept if case == "a list of one's own" else list
    options: dict[str, Any] = {"before_send": hook} if case == "a hook" else {}
    with serving(verdict=verdict) as server, dialled(server, **options) as conn:
        second = mail(1, sources.get(case))
        if case == "one to very many":
            paths = [f"r{number}@x.example" for number in range(WINDOW + 1)]
            second = MailObject("s@x.example", paths, octets(1))
        outcomes = list(conn.send_many(kind([mail(0), second])))
    assert [each.status for each in outcomes] == ["accepted"] * 2
    assert begun == [(int(case == "a hook"), 1)]


@pytest.mark.parametrize("fault", [MemoryError(), RecursionError()], ids=repr)
def test_what_goes_wrong_only_while_looking_ahead_costs_no_message(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack is deeper then: its turn may come off."""
    measure, seen = content.measure_bytes, list[bytes]()

    def once(data: bytes) -> Any:
        seen.append(data)
        if seen.count(data) == 1 and data != octets(0):
            raise fault
        return measure(data)

    monkeypatch.setattr(content, "measure_bytes", once)
    with serving() as server, dialled(server) as conn:
        outcomes = list(conn.send_many([mail(number) for number in range(3)]))
    assert [each.status for each in outcomes] == ["accepted"] * 3
    assert len(server.messages) == 3


def test_an_error_of_the_look_ahead_itself_is_not_about_the_message_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That may be accepted just then."""
    monkeypatch.setattr("pysmtpx.sending.account_for", fail)
    bad = mail(1, b"Subject: 1\r\n\r\n\0\r\n")
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many([mail(0), bad])
        assert next(outcomes).status == "accepted"
        with pytest.raises(RecursionError):
            next(outcomes)
        assert len(server.messages) == 1


def test_an_interrupt_meanwhile_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(monkeypatch)
    with serving() as server, dialled(server) as conn:
        sent = [mail(0), mail(1), mail(2)]
        outcomes = conn.send_many(sent)
        assert next(outcomes).status == "accepted"
        measured.fault = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)
        assert_closed(conn)
