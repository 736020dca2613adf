"""When a message is tried again, as the server sees it: one rule for every way to send."""

from __future__ import annotations

import email.message
import itertools
import time
from typing import Any

import pytest
from support.busy import until
from support.pools import BODY, SENDER, fates, mail, outcome, pool_of

from pysmtpx import RetryPolicy
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import Cut, Event, MailServer

PAUSES = RetryPolicy(attempts=4, backoff=0.05, jitter=0.0, temporary=True)
EXPECTED = (0.05, 0.1, 0.2)
LETTER = email.message.EmailMessage()
LETTER["From"], LETTER["To"], LETTER["Subject"] = SENDER, "a@x.example", "x"
LETTER.set_content("hello\n")
TROUBLES: dict[str, tuple[str, Any]] = {
    "MAIL 450": ("MAIL", "450 4.3.0 later"),
    "MAIL 421": ("MAIL", "421 4.3.2 later"),
    "RCPT 450": ("RCPT", "450 later"),
    "RCPT 452 4.2.2": ("RCPT", "452 4.2.2 full"),
    "RCPT greylisted": ("RCPT", "451 4.7.1 greylisted"),
    "DATA 450": ("DATA", "450 4.3.0 later"),
    "FINAL 450": ("FINAL", "450 4.3.0 later"),
    "MAIL lost": ("MAIL", Cut()),
    "RCPT lost": ("RCPT", Cut()),  # by FIN: a reset can take the answer to MAIL along
    "DATA lost": ("DATA", Cut()),
}


def send(pool: SmtpPool) -> Any:
    return outcome(pool.send, SENDER, "a@x.example", BODY)


def send_message(pool: SmtpPool) -> Any:
    return outcome(pool.send_message, LETTER)


def submit(pool: SmtpPool) -> Any:
    return outcome(pool.submit(mail()).result, 20)


def send_many(pool: SmtpPool) -> Any:
    (one,) = pool.send_many([mail()])
    return one.result or one.error


@pytest.mark.parametrize("way", [send, send_message, submit, send_many])
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(("rate", "connections"), [(None, 1), (1000.0, 3)])
def test_the_pauses_of_the_policy_are_kept(way: Any, trouble: str, rate: Any, connections: int) -> None:
    verb, answer = TROUBLES[trouble]
    tries: list[float] = []

    def verdict(event: Event) -> Any:
        if event.verb != verb:
            return None
        tries.append(time.monotonic())
        return answer if len(tries) < 4 else None

    options: dict[str, Any] = {"retry": PAUSES, "rate": rate, "max_connections": connections}
    with MailServer(verdict=verdict, strict=False) as server, pool_of(server, **options) as pool:
        assert fates(way(pool)) == {"a@x.example": "accepted"}
        assert pool.stats().retried == 3
        assert len(server.messages) == 1
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert len(gaps) == 3
    # The server looks at its clock a little later than we do, and not always by as much.
    assert all(gap >= pause - 0.01 for gap, pause in zip(gaps, EXPECTED, strict=True)), gaps


def test_nobody_waits_for_a_connection_that_pauses() -> None:
    """A call that waits for its next try lets others have the only connection meanwhile."""
    seen: list[str] = []

    def verdict(event: Event) -> Any:
        if event.verb == "RCPT":
            seen.append(event.address)
            return "450 4.2.1 later" if event.address == "a@x.example" and len(seen) == 1 else None
        return None

    policy = RetryPolicy(backoff=60.0, jitter=0.0, temporary=True)
    with MailServer(verdict=verdict) as server, pool_of(server, retry=policy, max_connections=1) as pool:
        first = pool.submit(mail())
        until(lambda: pool.stats().retried == 1)
        assert fates(outcome(pool.send, SENDER, "b@x.example", BODY)) == {"b@x.example": "accepted"}
        assert not first.done()
    assert seen == ["a@x.example", "b@x.example"]


def test_a_try_that_would_come_after_the_deadline_is_not_waited_for() -> None:
    policy = RetryPolicy(backoff=7200.0, max_backoff=7200.0, jitter=0.0, temporary=True)
    with MailServer(replies={"RCPT": "450 4.2.1 later"}) as server, pool_of(server, retry=policy) as pool:
        error = outcome(pool.send, SENDER, "a@x.example", BODY, timeout=3600.0)
        assert fates(error) == {"a@x.example": "rejected 450"}


@pytest.mark.parametrize("way", [send, submit])
def test_each_try_counts_for_the_rate(way: Any) -> None:
    """Also one that comes without a pause."""
    tries: list[float] = []

    def verdict(event: Event) -> Any:
        if event.verb != "MAIL":
            return None
        tries.append(time.monotonic())
        return "450 4.3.0 later" if len(tries) < 4 else None

    policy = RetryPolicy(attempts=4, backoff=0.0, temporary=True)
    with MailServer(verdict=verdict) as server, pool_of(server, retry=policy, rate=20.0) as pool:
        began = time.monotonic()  # the server may see the first try late, and so come upon less
        assert fates(way(pool)) == {"a@x.example": "accepted"}
    assert len(tries) == 4
    assert tries[-1] >= began + 3 * 0.05
