"""The pool as a state machine: whatever is done to it, each message has one outcome, and it is true."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from socket import IPPROTO_TCP, SHUT_RDWR, TCP_INFO
from typing import Any, Final
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.pools import BODY, SENDER, connected_to, outcome

from pysmtpx import MailObject, RetryPolicy, Route, SendResult, SmtpError, Timeout
from pysmtpx.pool import SmtpPool
from pysmtpx.pooling import backoff
from pysmtpx.testing import Cut, Event, Garbage, MailServer

pytestmark = pytest.mark.slow

CAP: Final = 3
FORKS: Final = 2
"""Forks in one run: each takes a while."""
_CROWD: Final = 2 * CAP * 5
"""More than are taken at once: four in flight and one ahead on each connection."""
_ESTABLISHED: Final = 1
_GATES: Final = ("MAIL", "FINAL")

_CUTS: Final = st.builds(Cut, st.sampled_from([0, 2, 7]), reset=st.booleans())
_REFUSALS: Final = st.sampled_from(
    ["450 4.2.0 later", "550 5.7.1 no", "421 4.3.2 going", "451 4.3.0 not now"]
)
_GREETINGS: Final = st.sampled_from(["421 4.3.2 busy", "554 5.3.2 no"])
_FAULTS: Final = st.one_of(
    st.tuples(st.sampled_from(["MAIL", "RCPT", "DATA", "FINAL"]), st.one_of(_CUTS, _REFUSALS)),
    # After a whole reply and a FIN the client may go on for a moment: the server would call that a breach.
    st.tuples(st.sampled_from(["MAIL", "RCPT"]), st.just(Cut(None, reset=True))),
    st.tuples(st.just("FINAL"), st.builds(Cut, st.none(), reset=st.booleans())),
    st.tuples(st.sampled_from(["MAIL", "DATA", "FINAL"]), st.just(Garbage(b"HTTP/1.1 200 OK\r\n"))),
    st.tuples(st.just("BODY"), _CUTS),
    st.tuples(st.sampled_from(["CONNECT", "EHLO"]), st.one_of(_CUTS, _GREETINGS)),
)


_QUOTAS: Final = st.tuples(
    st.sampled_from(["MAIL", "RCPT", "FINAL"]),
    st.sampled_from(["452 4.7.1 over quota", "550 5.4.5 limit of the day", "451 4.7.1 later"]),
)
_BALANCES: Final = ("failover", "even", "weighted")
_NO_MORE: Final = ("452 4.5.3 too many", "450 no more", "421 too many", "503 no")
_IDLE_ENDS: Final = ("451 4.4.2 idle", "421 4.4.2 idle", "500 what")


class Script:
    """The mind of the servers: answers that are due, a gate, and the most connections at once."""

    def __init__(self) -> None:
        self.servers: list[MailServer] = []
        self.due: list[tuple[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.highest = 0
        self.most = 10**6
        """Messages of a connection, after which it only refuses by ``no_more``, and stays open."""
        self.no_more = ""
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> Any:
        """A verdict."""
        if event.verb == "CONNECT":
            with self._lock:
                self.highest = max(self.highest, self.open_now())
        if event.verb in _GATES:
            assert self.gate.wait(20)
        if event.verb == "MAIL" and event.transaction >= self.most:
            return self.no_more
        with self._lock:
            for number, (verb, answer) in enumerate(self.due):
                if verb == event.verb:
                    del self.due[number]
                    return answer
        return None

    def sockets(self) -> list[Any]:
        """What the servers serve."""
        found: list[Any] = []
        for server in self.servers:
            with server._lock:
                found += server._serving.values()
        return found

    def open_now(self) -> int:
        """Connections that the client has not closed; the kernel knows before the server has read it."""
        count = 0
        for serving in self.sockets():
            with contextlib.suppress(OSError):
                count += serving._sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == _ESTABLISHED
        return count

    def kill_all(self) -> None:
        """Hang up on everybody."""
        for serving in self.sockets():
            serving.hang_up(SHUT_RDWR)


class PoolMachine(RuleBasedStateMachine):
    """A pool, a server, and the account of what the pool said."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = threading.active_count()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.script = Script()
        self.servers = self.script.servers
        self.pool: SmtpPool
        self.number = 0
        self.forks = 0
        self.futures: list[tuple[MailObject, Future[SendResult]]] = []
        self.resolved: Counter[int] = Counter()
        self.told: dict[str, str] = {}
        """The fate of each recipient whose message has its outcome."""

    @initialize(
        most=st.sampled_from([10**6, 10**6, 3]),
        no_more=st.sampled_from(_NO_MORE),
        in_flight=st.sampled_from([1, 4]),
        temporary=st.booleans(),
        backoff=st.sampled_from([0.0, 0.05]),
        weights=st.sampled_from([(1,), (1,), (1, 1), (3, 1), (2, 1, 1)]),
        balance=st.sampled_from(_BALANCES),
        own=st.sampled_from([None, 1]),
    )
    def make_pool(
        self,
        most: int,
        no_more: str,
        in_flight: int,
        temporary: bool,
        backoff: float,
        weights: tuple[int, ...],
        balance: Any,
        own: int | None,
    ) -> None:
        self.script.most, self.script.no_more = most, no_more
        self.servers += [MailServer(verdict=self.script, strict=False).start() for _ in weights]
        policy = RetryPolicy(backoff=backoff, temporary=temporary, quota_rest=0.02)
        routes = [
            Route(server.url, weight=weight, max_connections=own if len(weights) > 1 else None)
            for server, weight in zip(self.servers, weights, strict=True)
        ]
        self._make: Callable[[], SmtpPool] = lambda: SmtpPool(
            routes,
            balance=balance,
            max_connections=CAP,
            max_reconnect_delay=0.01,
            retry=policy,
            in_flight=in_flight,
        )
        self.pool = self._make()

    def _mail(self, recipients: int = 2) -> MailObject:
        self.number += 1
        return MailObject(SENDER, [f"{self.number}.{n}@x.example" for n in range(recipients)], BODY)

    # -- what is done to it -----------------------------------------------------------

    @rule()
    def greylist(self) -> None:
        """One recipient of the next message is to come later, another of the one behind it."""
        self.script.due += [("RCPT", "450 4.2.0 later"), ("RCPT", "451 4.7.1 greylisted")]

    def _submit(self, count: int, seconds: float) -> None:
        for _ in range(count):
            mail = self._mail()
            try:
                future = self.pool.submit(mail, timeout=seconds)
            except Timeout:
                continue
            self.futures.append((mail, future))
            future.add_done_callback(lambda _, number=self.number: self.resolved.update([number]))

    @rule(count=st.integers(1, 9), seconds=st.sampled_from([20.0, 20.0, 0.01]))
    def submit(self, count: int, seconds: float) -> None:
        self._submit(count, seconds)

    @rule()
    def crowd(self) -> None:
        """More than the server takes just now: one of those behind is cancelled, one runs out of time."""
        self.script.gate.clear()
        self._submit(_CROWD, 20.0)
        self.futures[-1][1].cancel()
        mail = self._mail()
        late = self.pool.submit(mail, timeout=0.01)
        assert late.exception(20) is not None, "nobody has to wait for the server to hear that"
        self.futures.append((mail, late))

    @rule()
    def drain(self) -> None:
        self.script.gate.set()
        self._submit(7, 20.0)
        assert self.pool.drain(20)
        assert all(future.done() for _, future in self.futures)
        self.close(20)

    @rule()
    def send(self) -> None:
        self.script.gate.set()
        mail = self._mail()
        self._tell(mail, outcome(self.pool.send, mail.sender, mail.recipients, BODY, timeout=20))

    @rule()
    def lease(self) -> None:
        """A connection in the hands of the caller, which goes back."""
        self.script.gate.set()
        with contextlib.suppress(SmtpError), self.pool.connection(timeout=20) as connection:
            connection.noop()

    @rule(count=st.integers(1, 8), ordered=st.booleans(), stop=st.booleans())
    def send_many(self, count: int, ordered: bool, stop: bool) -> None:
        self.script.gate.set()
        mails = [self._mail() for _ in range(count)]
        outcomes = self.pool.send_many(mails, ordered=ordered, timeout=20)
        if stop:
            first = next(outcomes)
            self._tell(first.mail, first.error or first.result)
            return outcomes.close()  # what becomes of the others nobody is told
        told = list(outcomes)
        assert sorted(map(id, (each.mail for each in told))) == sorted(map(id, mails))
        assert not ordered or [each.mail for each in told] == mails
        for each in told:
            self._tell(each.mail, each.error or each.result)
        return None

    @rule(which=st.integers(0, 4))
    def cancel(self, which: int) -> None:
        # No precondition: what has its outcome already is a matter of time.
        for _, future in self.futures[::-1][which : which + 1]:
            future.cancel()

    @rule(answer=st.sampled_from(_IDLE_ENDS), count=st.integers(1, CAP))
    def end_idle(self, answer: str, count: int) -> None:
        """Sessions that have been idle for too long, and say so to the next MAIL."""
        self._settle()
        self.script.due.extend([("MAIL", answer)] * count)

    @rule(faults=st.lists(_FAULTS, min_size=1, max_size=3))
    def faults(self, faults: list[tuple[str, Any]]) -> None:
        self.script.due.extend(faults)

    @rule(quotas=st.lists(_QUOTAS, min_size=1, max_size=4))
    def quotas(self, quotas: list[tuple[str, str]]) -> None:
        """A server says that it takes no more of us; with a single one that is a refusal as any other."""
        self.script.due.extend(quotas)

    @rule()
    def hold(self) -> None:
        """The server answers no MAIL and no end of data until something else needs it to."""
        self.script.gate.clear()

    @rule()
    def let_go(self) -> None:
        self.script.gate.set()

    @rule()
    def kill_idle(self) -> None:
        self._settle()
        self.script.kill_all()

    @rule()
    def kill_busy(self) -> None:
        self.script.kill_all()

    @precondition(lambda self: self.forks < FORKS)
    @rule()
    def fork(self) -> None:
        """A child sends by the pool that it inherited; the parent goes on with its own connections."""
        self.forks += 1
        self.script.due.clear()
        mail = self._mail()
        highest, now = self.script.highest, self.pool.stats()
        # A socket that another thread is closing in this moment is nobody's any more, in the child too.
        is_quiet = now.idle == now.connections and not (now.dialling or now.queued or now.under_way)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork with threads is what is tested
            child = os.fork()
        if not child:
            os._exit(self._in_child(mail, is_quiet))
        self.script.gate.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        self.told.update(dict.fromkeys(mail.recipients, "accepted"))
        # Such a socket stays open until the child has ended, so that the server counts a session too many.
        assert not is_quiet or self.script.highest <= CAP + 1
        self.script.highest = highest
        assert now.connections <= CAP

    def _in_child(self, mail: MailObject, is_quiet: bool) -> int:
        """The child's exit status."""
        try:
            if self.pool.stats().connections:
                return 2
            if is_quiet and any(connected_to(server.port) for server in self.servers):
                return 6
            result = self.pool.send(mail.sender, mail.recipients, BODY, timeout=20)
            return 0 if result.accepted_recipients == mail.recipients else 3
        except SmtpError:
            return 4
        except BaseException:
            return 5

    @rule(patience=st.sampled_from([0, 20]))
    def close(self, patience: float) -> None:
        """Close, and begin anew."""
        if patience:
            self.script.gate.set()
        self.pool.close(patience)
        assert all(future.done() for _, future in self.futures)
        assert self.pool.stats().connections == self.pool.stats().queued == self.pool.stats().under_way == 0
        self._hear()
        self.pool = self._make()

    # -- what always holds --------------------------------------------------------------

    @invariant()
    def the_cap_holds(self) -> None:
        assert self.script.highest <= CAP
        assert not hasattr(self, "pool") or self.pool.stats().connections <= CAP

    @invariant()
    def the_account_is_true(self) -> None:
        self._hear()
        messages = [message for server in self.servers for message in server.messages]
        delivered = Counter(path for message in messages for path in message.delivered)
        assert set(delivered.values()) <= {1}, "delivered twice"
        for path, fate in self.told.items():
            assert fate == "unknown" or delivered[path] == (fate == "accepted"), f"{path}: {fate}"

    def _tell(self, mail: Any, what: Any) -> None:
        """Enter an outcome: each recipient once."""
        fates = defaultdict(list)
        for fate in ("accepted", "unknown", "unsent"):
            for path in getattr(what, f"{fate}_recipients", ()):
                fates[path].append(fate)
        for each in what.rejected_recipients:
            fates[each.recipient].append("rejected")
        assert {path: len(found) for path, found in fates.items()} == dict.fromkeys(mail.recipients, 1), what
        assert not fates.keys() & self.told.keys()
        self.told.update({path: found[0] for path, found in fates.items()})

    def _hear(self) -> None:
        """Enter what the futures say."""
        waiting = [(mail, future) for mail, future in self.futures if not future.done()]
        for mail, future in self.futures:
            if (mail, future) in waiting:
                continue
            try:
                self._tell(mail, outcome(future.result))
            except CancelledError:
                self.told.update(dict.fromkeys(mail.recipients, "cancelled"))
        self.futures = waiting

    def _settle(self) -> None:
        """Wait until every future has its outcome."""
        self.script.gate.set()
        for _, future in self.futures:
            with contextlib.suppress(CancelledError, SmtpError):
                future.result(20)

    # -- the end ----------------------------------------------------------------------

    def teardown(self) -> None:
        """Nothing is left: no message without its outcome, no thread, no descriptor."""
        try:
            if hasattr(self, "pool"):
                self._settle()
                self.pool.close(20)
                self.the_cap_holds()
        finally:
            self.script.gate.set()
            for server in self.servers:
                server.stop()
        self.the_account_is_true()
        assert not self.futures
        assert set(self.resolved.values()) <= {1}
        assert [server.breaches for server in self.servers] == [[]] * len(self.servers)
        assert threading.active_count() == self.threads, threading.enumerate()
        assert len(os.listdir("/proc/self/fd")) == self.descriptors


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at descriptors in /proc")
@pytest.mark.timeout(300)
@pytest.mark.once
def test_the_pool_is_a_sound_machine() -> None:
    rests = {"FIRST_REST": 0.001, "LONGEST_REST": 0.01, "FIRST_DIAL_REST": 0.001}
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    few = settings(max_examples=150, stateful_step_count=15, deadline=None, suppress_health_check=checks)
    with mock.patch.multiple(backoff, QUIET=0.02, **rests):
        run_state_machine_as_test(PoolMachine, settings=few)
