"""A stream of messages that is interrupted at any line: the interrupt is told, and the line is given back."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.fates import SENDER
from support.interrupts import interrupted

from pysmtpx import ConnectionLost, MailObject, Server, SmtpError
from pysmtpx.channel import Channel
from pysmtpx.flow.plan import Options, make_plan
from pysmtpx.net.deadline import Deadline
from pysmtpx.opening import open_channel
from pysmtpx.testing import Cut, MailServer
from pysmtpx.wire.capabilities import Protocol

BODY = b"Subject: x\r\n\r\nhello\r\n"
SOON = Deadline.after(3600)


def files() -> set[str]:
    modules = [sys.modules[name] for name in sys.modules if name.startswith("pysmtpx.flow.")]
    modules += [sys.modules[f"pysmtpx.{name}"] for name in ("channel", "driver", "net.stream")]
    return {module.__file__ or "" for module in modules}


class Attempt:
    """One stream of three messages on a connection of its own."""

    def __init__(self, server: MailServer, in_flight: int) -> None:
        self.channel, capabilities = open_channel(Server.from_url(server.url), SOON)
        self.plans = [
            make_plan(
                MailObject(SENDER, f"r{number}@x.example", BODY),
                capabilities,
                protocol=Protocol.SMTP,
                is_tls=False,
                options=Options(bdat=in_flight > 1),
            )
            for number in range(3)
        ]
        self.in_flight = in_flight

    def sending(self) -> Iterator[Any]:
        """Push all, and give what becomes known."""
        with self.channel.stream(seconds=20, overlap=True, in_flight=self.in_flight) as stream:
            for number, plan in enumerate(self.plans):
                yield stream.push(number, plan)
            yield stream.finish()

    def run(self) -> None:
        try:
            for _ in self.sending():
                pass
        except SmtpError:
            pass


def is_in_order(channel: Channel) -> bool:
    """In nobody's hands, as another thread sees it; and closed, or alive."""

    def look() -> bool:
        limit = Deadline.after(5)
        try:
            return channel.run(lambda: iter(()), limit) is None  # type: ignore[arg-type, return-value]
        except ConnectionLost:
            return channel.closed

    with ThreadPoolExecutor(1) as other:
        return other.submit(look).result()


@pytest.mark.parametrize("in_flight", [1, 4])
def test_one_that_is_closed_early(in_flight: int) -> None:
    """FAULTS 96, 97."""
    with MailServer() as server:
        for place in itertools.count(1):
            attempt = Attempt(server, in_flight)
            sending = attempt.sending()
            next(sending)  # and it is under way
            came = interrupted(place, files(), sending.close)  # type: ignore[attr-defined]
            del sending
            assert is_in_order(attempt.channel), place
            attempt.channel.close()
            if not came:
                break


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("is_cut", [False, True])
def test_one_that_is_under_way(in_flight: int, is_cut: bool) -> None:
    """FAULTS 96, 97: at one line in five, which reaches each of those that are run for every message."""

    def verdict(event: Any) -> Any:
        return Cut() if is_cut and event.verb == "FINAL" and event.transaction == 1 else None

    with MailServer(verdict=verdict) as server:
        for place in itertools.count(1, 5):
            attempt = Attempt(server, in_flight)
            came = interrupted(place, files(), attempt.run)
            assert is_in_order(attempt.channel), place
            attempt.channel.close()
            if not came:
                break
