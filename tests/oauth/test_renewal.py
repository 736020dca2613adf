"""One secret for all threads: one renewal at a time, ahead of its end, and pauses where that fails."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.patience import LONG

from pysmtpx import CredentialsUnavailable, InputError, Timeout
from pysmtpx.oauth import Cached, Provider, Secret, TokenProvider, renewal
from pysmtpx.sasl.credentials import Credentials

THREADS = 6


class Clock:
    """The real one, with leaps."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(renewal, "now", made)
    return made


class Numbered(TokenProvider):
    """Gives 1, 2, 3 and so on; ``fails`` and ``gate`` say what is in the way."""

    def __init__(self, lifetime: float | None = 3600.0) -> None:
        self.lifetime = lifetime
        self.count = 0
        self.at_once = 0
        self.most_at_once = 0
        self.fails: list[BaseException] = []
        self.gate: threading.Event | None = None
        self.begun = threading.Event()

    def fetch(self) -> Secret:
        gate = self.gate
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.count += 1
        number = self.count
        self.begun.set()
        try:
            if gate is not None:
                assert gate.wait(LONG)
            if self.fails:
                raise self.fails.pop(0)
            return Secret(str(number), self.lifetime)
        finally:
            self.at_once -= 1


def at_once(call: Callable[[], str], gate: threading.Event, provider: Numbered) -> list[str]:
    """Call from several threads, all of which wait before the gate opens."""
    with ThreadPoolExecutor(THREADS) as threads:
        futures = [threads.submit(call) for _ in range(THREADS)]
        assert provider.begun.wait(LONG)
        _until_all_wait(provider)
        gate.set()
        return [future.result(LONG) for future in futures]


def _until_all_wait(provider: Numbered) -> None:
    end = time.monotonic() + LONG
    while True:
        attempt = provider._renewal._attempt
        if attempt is not None and len(attempt.waiters) == THREADS:
            return
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


@pytest.mark.parametrize("lifetime", [3600.0, 1.0, 0.0, -5.0, None, 1e300])
def test_several_threads_share_one_renewal(lifetime: float | None) -> None:
    """Also where what comes is good for no time at all: whoever waited for it has it."""
    provider = Numbered(lifetime)
    provider.gate = gate = threading.Event()
    assert at_once(provider.current, gate, provider) == ["1"] * THREADS
    assert (provider.count, provider.most_at_once) == (1, 1)


def test_it_is_kept_until_a_while_before_its_end(clock: Clock) -> None:
    provider = Numbered(3600.0)
    assert provider.current() == "1"
    clock.ahead = 3600 - 300 * 1.5 - 60
    assert [provider.current(), provider()] == ["1", "1"]
    assert provider.count == 1


def test_ahead_of_its_end_nobody_waits_for_the_next(clock: Clock) -> None:
    provider = Numbered(3600.0)
    assert provider.current() == "1"
    provider.gate = gate = threading.Event()
    clock.ahead = 3600 - 100
    assert [provider.current() for _ in range(5)] == ["1"] * 5
    gate.set()
    until(lambda: provider.current() == "2")
    assert (provider.count, provider.most_at_once) == (2, 1)


def test_once_it_has_ended_it_is_waited_for(clock: Clock) -> None:
    provider = Numbered(3600.0)
    provider.current()
    clock.ahead = 3595.0  # it must still reach a server, whose clock may be ahead
    assert provider.current() == "2"


def test_processes_that_began_together_renew_apart(clock: Clock) -> None:
    providers = [Numbered(3600.0) for _ in range(20)]
    for each in providers:
        each.current()
    moments = {round(each._renewal._held.renew_at, 1) for each in providers if each._renewal._held}
    assert len(moments) > 10
    assert max(moments) - min(moments) > 30


@pytest.mark.parametrize("lifetime", [3600.0, 86_400.0, None])
def test_a_renewal_ahead_that_fails_leaves_what_is_good(clock: Clock, lifetime: float | None) -> None:
    provider = Numbered(lifetime)
    provider.current()
    seconds = renewal.UNKNOWN_LIFETIME if lifetime is None else lifetime
    clock.ahead = seconds - min(100.0, seconds * 0.15)
    provider.fails = [CredentialsUnavailable("down", temporary=True, retry_after=1000)]
    assert provider.current() == "1"
    until(lambda: provider.count == 2 and provider._renewal._attempt is None)
    assert [provider.current() for _ in range(3)] == ["1"] * 3  # and it is not asked again at once
    assert provider.count == 2


@pytest.mark.parametrize(
    ("error", "is_temporary"),
    [
        (CredentialsUnavailable("busy", temporary=True), True),
        (CredentialsUnavailable("no", cure="Do something."), False),
        (OSError("s3cr3t"), True),
        (ValueError("s3cr3t"), False),
        (KeyboardInterrupt("s3cr3t"), False),
        (SystemExit("s3cr3t"), False),
        (InputError("wrong"), False),
    ],
)
def test_a_failure_is_told_to_all_and_nobody_asks_again_for_a_while(
    clock: Clock, error: BaseException, is_temporary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "FIRST_REFUSAL_PAUSE", "LONGEST_REFUSAL_PAUSE"):
        monkeypatch.setattr(renewal, name, 1000.0)  # longer than any load
    provider = Numbered()
    provider.fails = [error]
    provider.gate = gate = threading.Event()

    def failing() -> str:
        with pytest.raises(CredentialsUnavailable) as caught:
            provider.current()
        assert caught.value.temporary is caught.value.safe_to_retry is is_temporary
        assert caught.value.stage == "auth"
        assert "s3cr3t" not in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).temporary is is_temporary
        return str(caught.value)

    told = at_once(failing, gate, provider)
    assert len(set(told)) == 1
    assert "that was the last try" in failing()
    assert provider.count == 1
    clock.ahead = 1001.0
    assert provider.current() == "2"


@pytest.mark.parametrize(
    "returned",
    [
        None,
        "s3cr3t",
        Secret("", 60),
        Secret(None, 60),  # type: ignore[arg-type]
        Secret(b"s3cr3t", 60),  # type: ignore[arg-type]
        Secret("s3cr3t", "60"),  # type: ignore[arg-type]
        Secret("s3cr3t", float("nan")),
        Secret("s3cr3t", True),
    ],
    ids=repr,
)
def test_a_provider_that_returns_something_else_fails_and_nothing_of_it_is_kept(returned: object) -> None:
    class Odd(TokenProvider):
        def fetch(self) -> Secret:
            return returned  # type: ignore[return-value]

    provider = Odd()
    for _ in range(2):
        with pytest.raises(CredentialsUnavailable, match="no token or password") as caught:
            provider.current(timeout=LONG)
        assert "s3cr3t" not in str(caught.value)
    with pytest.raises(CredentialsUnavailable):
        Cached(lambda: None, 60).current(timeout=LONG)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("lifetime", [float("inf"), 10**30, 1e308])
def test_a_life_without_end_is_a_long_one(lifetime: float) -> None:
    provider = Numbered(lifetime)
    assert [provider.current(timeout=LONG) for _ in range(2)] == ["1", "1"]


def test_the_pauses_grow_and_end_with_the_first_success(clock: Clock) -> None:
    provider = Numbered()
    pauses = []
    for _ in range(9):
        provider.fails = [CredentialsUnavailable("down", temporary=True)]
        with pytest.raises(CredentialsUnavailable):
            provider.current()
        pauses.append(provider._renewal._paused_until - clock())
        clock.ahead += renewal.LONGEST_PAUSE
    assert pauses[0] <= 1.0
    assert 15.0 <= pauses[-1] <= renewal.LONGEST_PAUSE
    assert provider.current() == "10"
    assert provider._renewal._pause == 0.0


@pytest.mark.parametrize(("retry_after", "pause"), [(120.0, 120.0), (1e9, renewal.LONGEST_RETRY_AFTER)])
def test_who_says_when_to_come_again_is_not_asked_before(
    clock: Clock, retry_after: float, pause: float
) -> None:
    provider = Numbered()
    provider.fails = [CredentialsUnavailable("busy", temporary=True, retry_after=retry_after)]
    with pytest.raises(CredentialsUnavailable):
        provider.current()
    clock.ahead = pause / 2
    with pytest.raises(CredentialsUnavailable) as caught:
        provider.current()
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= pause / 2
    clock.ahead = pause + 1
    assert provider.current() == "2"


def test_what_is_refused_is_renewed_once_for_all() -> None:
    provider = Numbered()
    refused = provider.current()
    provider.gate = gate = threading.Event()
    provider.begun.clear()
    assert at_once(lambda: provider.renewed(refused), gate, provider) == ["2"] * THREADS
    assert provider.count == 2
    assert provider.renewed(refused) == provider.current() == "2"  # somebody who comes late


def test_refusals_without_end_renew_three_times_a_minute(clock: Clock) -> None:
    """A mailbox that the token may not use: no account is locked, and no provider flooded."""
    provider = Numbered()
    secret = provider.current()
    for _ in range(10):
        secret = provider.renewed(secret)
    assert provider.count == 1 + renewal.REFUSALS
    assert provider.renewed(secret) == secret == provider.current()
    clock.ahead = renewal.REFUSALS_WITHIN + 1
    assert provider.renewed(secret) != secret


def test_nobody_waits_longer_than_he_may() -> None:
    provider = Numbered()
    provider.gate = gate = threading.Event()
    with pytest.raises(Timeout) as caught:
        provider.current(timeout=0.05)
    assert caught.value.temporary
    gate.set()
    assert provider.current() == "1"  # the renewal went on, for the next one
    assert provider.count == 1


def test_one_that_hangs_is_given_up(clock: Clock) -> None:
    provider = Numbered()
    provider.gate = gate = threading.Event()
    with pytest.raises(Timeout):
        provider.current(timeout=0.05)
    assert provider.begun.wait(LONG)
    clock.ahead = renewal.GIVEN_UP + 1
    provider.gate = None
    assert provider.current() == "2"
    gate.set()
    until(lambda: provider.at_once == 0)
    assert provider.current() == "2"  # what came too late does not count


def test_whoever_asks_while_renewing_is_told_so() -> None:
    class Recursive(TokenProvider):
        def fetch(self) -> Secret:
            return Secret(self.current(timeout=LONG), 60)

    with pytest.raises(CredentialsUnavailable):
        Recursive().current(timeout=LONG)


def test_without_threads_it_is_renewed_by_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process, which still sends what is queued."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Numbered().current() == "1"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_keeps_what_there_is_and_renews_for_itself() -> None:
    """Also if the parent was renewing, and some thread had the lock, at the fork."""
    provider, busy = Numbered(), Numbered()
    provider.current()
    busy.gate = gate = threading.Event()
    with pytest.raises(Timeout):
        busy.current(timeout=0.05)
    assert busy.begun.wait(LONG)
    with provider._renewal._lock, busy._renewal._lock:
        held = threading.Event()

        def hold() -> None:
            with renewal._lock:
                held.set()
                gate.wait(LONG)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(LONG)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                busy.gate = None
                told = f"{provider.current()} {busy.current()} {Cached(lambda: 'x', 5).current()}"
                os.write(writing, told.encode())
            finally:
                os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"1 2 x"
    os.waitpid(child, 0)
    gate.set()
    thread.join()
    assert busy.current() == "1"


def test_a_provider_shows_nothing_and_is_not_pickled() -> None:
    provider = Cached(lambda: "s3cr3t", 60)
    assert provider.current() == "s3cr3t"
    assert (
        "s3cr3t" not in f"{provider!r} {provider._renewal!r} {provider._renewal._held!r} {Secret('s3cr3t')}"
    )
    assert copy.copy(provider) is copy.deepcopy(provider) is provider
    with pytest.raises(TypeError, match="holds secrets") as caught:
        pickle.dumps(provider)
    assert "s3cr3t" not in str(caught.value)
    assert isinstance(provider, Provider)


def test_equal_values_share_what_they_hold_and_others_do_not() -> None:
    calls: list[int] = []

    def function() -> str:
        calls.append(1)
        return f"secret {len(calls)}"

    assert Cached(function, 60).current() == Cached(function, 60.0).current() == "secret 1"
    assert Cached(function, 60) == Cached(function, 60)
    assert len({Cached(function, 60), Cached(function, 60), Cached(function, 61)}) == 2
    assert Cached(function, 61).current() == "secret 2"
    assert Numbered() != Numbered()


def test_values_that_nobody_uses_are_let_go() -> None:
    def one(number: int) -> Cached:
        return Cached(lambda: str(number), 60)

    first = weakref.ref(one(0)._renewal)
    for number in range(100):
        one(number)
    gc.collect()
    assert first() is None
    assert len(renewal._used) <= 32


@pytest.mark.parametrize(
    ("function", "seconds"), [("text", 60), (None, 60), (str, 0), (str, "60"), (str, True)]
)
def test_what_is_no_function_or_no_time_is_refused(function: object, seconds: object) -> None:
    with pytest.raises(InputError):
        Cached(function, seconds)  # type: ignore[arg-type]


def test_an_interrupt_as_a_renewal_begins_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It left a renewal that nobody made, which others waited for; or a pause, as if that had failed."""
    provider = Numbered()
    start = threading.Thread.start

    def before(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    def behind(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    for interrupted in (before, behind):
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            provider.current()
    monkeypatch.setattr(threading.Thread, "start", start)
    assert provider.current(LONG) in ("1", "2")
    assert provider.most_at_once == 1


def test_an_interrupt_of_whoever_renews_himself_is_his(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process no thread begins: Ctrl-C was told as a failure of the provider."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    provider = Numbered()
    for kind in (KeyboardInterrupt, SystemExit):
        provider.fails = [kind()]
        with pytest.raises(kind):
            provider.current()
    secret = provider.current()
    provider.fails = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        provider.renewed(secret)
    assert provider.current() == "5"


def test_what_is_refused_to_one_account_stays_with_the_others() -> None:
    """Also while it is renewed, and if that fails: the others notice nothing of a mailbox that is refused."""
    provider = Numbered()
    shared = provider.current(account="ann")
    provider.gate = gate = threading.Event()
    provider.begun.clear()
    provider.fails = [CredentialsUnavailable("down", temporary=True, retry_after=600.0)]
    with ThreadPoolExecutor(THREADS) as threads:
        refused = [threads.submit(provider.renewed, shared, LONG, "ann") for _ in range(THREADS)]
        assert provider.begun.wait(LONG)
        assert {provider.current(LONG, "bob") for _ in range(THREADS)} == {shared}
        gate.set()
        for future in refused:
            with pytest.raises(CredentialsUnavailable):
                future.result(LONG)
    assert provider.current(LONG, "bob") == shared
    with pytest.raises(CredentialsUnavailable):
        provider.current(LONG, "ann")  # and no server is asked with what it refused
    assert provider.count == 2


def test_an_account_that_is_always_refused_leaves_the_others_their_renewals(clock: Clock) -> None:
    provider = Numbered()
    secret = provider.current()
    for _ in range(10):
        secret = provider.renewed(secret, LONG, "ann")
    assert provider.count == 1 + renewal.REFUSALS
    with ThreadPoolExecutor(THREADS) as threads:
        others = [threads.submit(provider.renewed, secret, LONG, "bob") for _ in range(20)]
        assert {future.result(LONG) for future in others} == {str(2 + renewal.REFUSALS)}
    assert provider.count == 2 + renewal.REFUSALS


def test_a_log_in_says_for_whom_it_asks() -> None:
    provider = Numbered()
    ann, bob = Credentials("ann", token=provider), Credentials("bob", token=provider)
    ready = ann.ready()
    assert (ready.token, bob.ready().token) == ("1", "1")
    provider.fails = [CredentialsUnavailable("down", temporary=True, retry_after=600.0)]
    assert ready.renew is not None
    with pytest.raises(CredentialsUnavailable):
        ready.renew("1")
    assert bob.ready().token == "1"
    with pytest.raises(CredentialsUnavailable):
        ann.ready()
