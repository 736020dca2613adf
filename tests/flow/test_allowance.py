"""What a session has room for: MAIL commands and domains (RFC 9422 4.1, 4.3)."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import SessionLimitReached
from pysmtpx.flow.allowance import Allowance, domain_of
from pysmtpx.wire.address import ForwardPath
from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.reply import Reply


def paths(*texts: str) -> list[ForwardPath]:
    return [ForwardPath.tolerant(text) for text in texts]


def stated(*lines: str) -> Allowance | None:
    reply = Reply(250, (b"mail.example", *(line.encode() for line in lines)))
    return Allowance.of(Capabilities.from_reply(reply))


SAME = [
    ("a@x.example", "b@X.EXAMPLE"),
    ("a@bücher.example", "b@xn--bcher-kva.example"),
    ("a@BÜCHER.example", "b@XN--BCHER-KVA.example"),
    ("a@[IPv6:::1]", "b@[ipv6:::1]"),
    ("postmaster", "Postmaster"),
    ("alice", "bob"),
    ("postmaster", "alice"),
    ('"a@z.example"@x.example', "b@x.example"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_domain(one: str, other: str) -> None:
    """In A-labels and any case; mailboxes without one are at the server's own, all of them."""
    assert domain_of(ForwardPath.tolerant(one)) == domain_of(ForwardPath.tolerant(other)) == domain_of(other)


@pytest.mark.parametrize(
    "other", ["a@y.example", "a@sub.x.example", "x.example", "postmaster", "a@[192.0.2.1]"]
)
def test_another_domain(other: str) -> None:
    assert domain_of(ForwardPath.tolerant(other)) != domain_of("a@x.example")


HOSTILE = {
    "": (None, None),
    "LIMITS": (None, None),
    "LIMITS RCPTMAX=5": (None, None),
    "LIMITS MAILMAX RCPTDOMAINMAX": (None, None),
    "LIMITS MAILMAX= RCPTDOMAINMAX=": (None, None),
    "LIMITS MAILMAX=0 RCPTDOMAINMAX=0": (None, None),
    "LIMITS MAILMAX=-1 RCPTDOMAINMAX=-5": (None, None),
    "LIMITS MAILMAX=+1 RCPTDOMAINMAX=1e3": (None, None),
    "LIMITS MAILMAX=\u0661 RCPTDOMAINMAX=\u00b2": (None, None),
    "LIMITS MAILMAX=" + "9" * 21: (None, None),
    "LIMITS RCPTDOMAINMAX=" + "9" * 20: (None, int("9" * 20)),
    "limits mailmax=3 rcptdomainmax=2": (3, 2),
    "LIMITS RCPTDOMAINMAX=7 RCPTDOMAINMAX=2 RCPTDOMAINMAX=0": (None, 2),
    "LIMITS MAILMAX=007": (7, None),
    "LIMITS=MAILMAX=4": (4, None),
}


@pytest.mark.parametrize("line", HOSTILE)
def test_hostile_values(line: str) -> None:
    """FAULTS 14: what makes no sense is absent, and of several the least counts."""
    mails, domains = HOSTILE[line]
    found = stated(line) if line else stated()
    if mails is None and domains is None:
        assert found is None
        return
    assert found is not None
    for number in range(min(mails or 50, 50)):
        assert not found.is_over
        assert found.takes(paths(f"r@{number}.example"), whole=True) == (domains is None or number < domains)
        found.spend(paths(f"r@{number}.example")[: domains is None or number < domains], 0, 2)
    assert found.is_over == (mails is not None)


def test_limits_in_two_lines_are_kept_to_together() -> None:
    found = stated("LIMITS MAILMAX=2", "LIMITS RCPTDOMAINMAX=1")
    assert found is not None
    found.spend(paths("a@x.example"), 0, 2)
    assert not found.takes(paths("a@y.example"), whole=False)
    assert found.takes(paths("a@x.example"), whole=False)
    found.spend(paths("a@x.example"), 0, 2)
    assert not found.takes(paths("a@x.example"), whole=False)


def test_what_goes_elsewhere_keeps_the_order_of_the_rest() -> None:
    found = Allowance(domains=2)
    some = paths("a@x.example", "a@y.example", "b@x.example", "a@z.example", "b@y.example")
    assert found.places(some) == [0, 1, 2, 4]
    found.spend(paths("a@z.example"), 0, 2)
    assert found.places(some) == [0, 2, 3], "a domain that counts already comes before a new one"
    assert found.takes(some, whole=False)
    assert not found.takes(some, whole=True)


def test_only_what_is_written_counts() -> None:
    """Line 0 is MAIL, line n the RCPT of recipient n, the one behind the last is DATA."""
    some = paths("a@x.example", "a@y.example", "a@z.example")
    found = Allowance(mails=2, domains=2)
    found.spend(some, 0, 1)
    assert found.is_unbound
    found.spend(some, 1, 3)
    assert found.places(some) == [0, 1]
    found.spend(some[:2], 3, 4)
    assert found.places(some) == [0, 1]
    found.spend(some, 0, 1)
    assert found.is_over
    assert found.places(some) == []
    assert not found.takes((), whole=True)


def test_the_error_says_what_to_do_and_pickles() -> None:
    for found, name in ((Allowance(mails=1), "MAILMAX=1"), (Allowance(domains=1), "RCPTDOMAINMAX=1")):
        found.spend(paths("a@x.example"), 0, 2)
        error = found.reached(paths("b@y.example"))
        for each in (error, pickle.loads(pickle.dumps(error))):
            assert type(each) is SessionLimitReached
            assert name in str(each)
            assert "over another connection" in each.cure
            assert each.temporary
            assert each.safe_to_retry
            assert each.unsent_recipients == ("b@y.example",)


@given(
    messages=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), max_size=8),
    most=st.integers(1, 4),
    mails=st.none() | st.integers(1, 5),
)
def test_never_more_and_nobody_is_put_off_for_nothing(
    messages: list[list[int]], most: int, mails: int | None
) -> None:
    found = Allowance(mails or float("inf"), most)
    seen: set[int] = set()
    for count, domains in enumerate(messages):
        some = paths(*(f"r{place}@{domain}.example" for place, domain in enumerate(domains)))
        here = found.places(some)
        assert found.takes(some, whole=False) == bool(here)
        assert found.takes(some, whole=True) == (len(here) == len(some))
        if mails is not None and count >= mails:
            assert here == []
            continue
        seen |= {domains[place] for place in here}
        assert len(seen) <= most
        assert all(
            domains[place] not in seen and len(seen) == most for place in set(range(len(some))) - set(here)
        )
        if here:
            chosen = [some[place] for place in here]
            for first, end in itertools.pairwise(range(len(chosen) + 2)):
                found.spend(chosen, first, end)
        elif mails is not None:
            found.spend([], 0, 1)
