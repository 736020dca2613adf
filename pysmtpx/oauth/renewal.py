"""One token or password for all threads of a process: kept, and renewed ahead of its end, once at a time.

The renewal itself runs in a thread of its own, so that whoever waits for it
leaves by a deadline of his own, and a library that hangs hangs nobody else.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from random import random
from typing import Any, Final

from ..errors import CredentialsUnavailable, InputError, Timeout
from ..frames import alone, conceals
from ..lock import Lock, Wakeup
from ..net.deadline import Deadline, now
from ..wire.limits import Stage

UNKNOWN_LIFETIME: Final = 300.0
"""Seconds for which one is kept that does not say how long it is good."""
LONGEST_LIFETIME: Final = 30 * 86_400.0
AHEAD: Final = 300.0
"""Seconds before its end at which one is renewed, at most; one that lives short, at a fifth of its life."""
_AHEAD_SHARE: Final = 0.2
_JITTER: Final = 0.5
"""Share of these seconds by which processes that began together renew apart."""
_LATE_SHARE: Final = 0.05
_LATE: Final = 10.0
"""Seconds before its end in which it is given to nobody: it has to reach a server, whose clock may differ."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between renewals that fail for now."""
FIRST_REFUSAL_PAUSE, LONGEST_REFUSAL_PAUSE = 15.0, 300.0
"""Seconds between renewals that were refused: asking again soon changes nothing, and may lock the account."""
LONGEST_RETRY_AFTER: Final = 3600.0
GIVEN_UP: Final = 60.0
"""Seconds after which a renewal that hangs is no longer waited for."""
REFUSALS: Final = 3
REFUSALS_WITHIN: Final = 60.0
"""So many are renewed for an account within so many seconds since a server refused them: more is no use."""
_ACCOUNTS: Final = 1024
"""Of which it is remembered when one was renewed for them."""
_KEPT: Final = 32
"""Renewals kept for values that are made anew for each use, as those of URLs are."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A token or password, and for how many seconds it is good, where that is known."""

    text: str = field(repr=False)
    lifetime: float | None = None


@dataclass(slots=True)
class _Held:
    """The one that there is."""

    text: str = field(repr=False)
    renew_at: float
    ends_at: float
    refused: set[str] = field(default_factory=set)
    """The accounts for which a server refused it: these do not get it again; for others it may be good."""


class _Attempt:
    """One renewal, and who waits for it."""

    __slots__ = ("began", "error", "is_done", "runner", "text", "waiters")

    def __init__(self, began: float) -> None:
        self.began = began
        self.is_done = False
        self.text = ""
        self.error: CredentialsUnavailable | None = None
        self.waiters: list[Wakeup] = []
        self.runner: int | None = None
        """The thread that renews, once it does.

        It cannot wait for itself, as a handler that mails what is logged would.
        """


class Renewal:
    """Keeps one secret, and has it renewed. Everything of it is behind one lock but the renewal itself."""

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_error",
        "_held",
        "_lock",
        "_pause",
        "_paused_until",
        "_refusals",
        "kept",
        "replaced",
    )

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: _Held | None = None
        self._attempt: _Attempt | None = None
        self._error: CredentialsUnavailable | None = None
        """By this the last renewal failed."""
        self._pause = 0.0
        self._paused_until = -math.inf
        self._refusals: OrderedDict[str, deque[float]] = OrderedDict()
        """When one was renewed last because a server refused it, for each account."""
        self.kept: str | None = None
        """A refresh token that took the place of the given one; the thread that renews has it alone."""
        self.replaced: str | None = None
        """The one that was given then."""
        _living.add(self)

    @conceals
    def current(self, fetch: Callable[[], Secret], timeout: float | None = None, account: str = "") -> str:
        """The secret, fetched where there is none that is good for the account.

        Raises ``CredentialsUnavailable`` where it cannot be had, and ``Timeout``
        where that takes longer than so many seconds.
        """
        moment = now()
        mine = _Attempt(moment)
        try:
            with self._lock:
                held = self._held
                if held is not None and account in held.refused:
                    held = None
                if held is not None and moment < held.renew_at:
                    return held.text
                attempt = self._joined(mine)
            if attempt is mine:
                self._start(mine, fetch)
        except BaseException:
            self._withdraw(mine)
            raise
        if held is not None and moment < held.ends_at:
            return held.text
        if attempt is None:
            raise self._still_failing(moment)
        return self._awaited(attempt, timeout)

    @conceals
    def renewed(
        self, fetch: Callable[[], Secret], refused: str, timeout: float | None = None, account: str = ""
    ) -> str:
        """Another one, since this was refused for the account; the same where too many were refused of late.

        Other accounts have what there is until the other one is there: a mailbox that the application may
        not use, while the provider is down, keeps nobody else from logging in.

        Raises what ``current`` raises.
        """
        moment = now()
        mine = _Attempt(moment)
        try:
            with self._lock:
                held = self._held
                is_same = held is None or held.text == refused or account in held.refused
                if held is not None and not is_same and moment < held.ends_at:
                    return held.text  # another thread was faster
                if self._attempt is None and not self._may_renew_refused(moment, account):
                    return refused
                attempt = self._joined(mine)
                if attempt is mine:
                    self._refused_by(account).append(moment)
                if held is not None:
                    held.refused.add(account)
            if attempt is mine:
                self._start(mine, fetch)
        except BaseException:
            self._withdraw(mine)
            raise
        if attempt is None:
            raise self._still_failing(moment)
        return self._awaited(attempt, timeout)

    def _refused_by(self, account: str) -> deque[float]:
        refusals = self._refusals.setdefault(account, deque(maxlen=REFUSALS))
        self._refusals.move_to_end(account)
        if len(self._refusals) > _ACCOUNTS:
            self._refusals.popitem(last=False)
        return refusals

    def _may_renew_refused(self, moment: float, account: str) -> bool:
        refusals = self._refusals.get(account)
        return refusals is None or len(refusals) < REFUSALS or moment - refusals[0] > REFUSALS_WITHIN

    def _joined(self, mine: _Attempt) -> _Attempt | None:
        """The renewal that is under way, or ``mine`` as the one; None while it is not to be tried."""
        attempt = self._attempt
        if attempt is not None and mine.began - attempt.began < GIVEN_UP:
            return attempt
        if attempt is None and mine.began < self._paused_until:
            return None
        self._attempt = mine
        return mine

    def _still_failing(self, moment: float) -> CredentialsUnavailable:
        """The error of the last renewal once more: it is not tried again yet."""
        error, left = self._error, self._paused_until - moment
        assert error is not None
        text = f"{error.args[0]} (that was the last try; the next one may be in {max(1, math.ceil(left))} s)"
        return CredentialsUnavailable(
            text, cure=error.cure, temporary=error.temporary, retry_after=max(0.0, left)
        )

    # -- a renewal ----------------------------------------------------------------------

    def _start(self, attempt: _Attempt, fetch: Callable[[], Secret]) -> None:
        thread = threading.Thread(
            target=self._run, args=(attempt, fetch), name="pysmtpx-renewal", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread begins any more: the process ends, and sends what is queued
            try:
                self._run(attempt, fetch, Exception)
            except BaseException:
                attempt.runner = None  # nobody renews: whoever began it withdraws it
                raise

    def _run(
        self,
        attempt: _Attempt,
        fetch: Callable[[], Secret],
        failures: type[BaseException] = BaseException,
    ) -> None:
        """Renew; ``failures`` are what counts as one, and an interrupt is none in the thread of a caller."""
        with self._lock:
            if attempt.is_done:
                return  # whoever began it was interrupted before it did
            attempt.runner = threading.get_ident()
        secret, failure = _outcome(fetch, failures)
        self._ended(attempt, secret, failure)

    def _withdraw(self, attempt: _Attempt) -> None:
        """An interrupt came to whoever began it: unless it runs, the next one begins at once.

        That it was not made is no failure of the provider, after which there would be a pause.
        """
        with self._lock:
            if attempt is self._attempt and attempt.runner is None:
                self._attempt = None
                attempt.error = CredentialsUnavailable("the renewal was interrupted", temporary=True)
                attempt.is_done = True
                waiters, attempt.waiters = attempt.waiters, []
                for waiter in waiters:
                    waiter.wake()

    def _ended(
        self, attempt: _Attempt, secret: Secret | None, failure: CredentialsUnavailable | None
    ) -> None:
        moment = now()
        with self._lock:
            if attempt is self._attempt:
                self._attempt = None
                if secret is not None:
                    self._succeeded(attempt.began, secret)
                elif failure is not None:
                    self._failed(moment, failure)
            attempt.text, attempt.error = "" if secret is None else secret.text, failure
            attempt.is_done = True
            waiters, attempt.waiters = attempt.waiters, []
        for waiter in waiters:
            waiter.wake()

    def _succeeded(self, began: float, secret: Secret) -> None:
        lifetime = UNKNOWN_LIFETIME if secret.lifetime is None else secret.lifetime
        lifetime = min(max(0.0, lifetime), LONGEST_LIFETIME)
        ahead = min(AHEAD, lifetime * _AHEAD_SHARE) * (1 + _JITTER * random())
        late = min(_LATE, lifetime * _LATE_SHARE)
        self._held = _Held(secret.text, began + lifetime - ahead, began + lifetime - late)
        self._error, self._pause, self._paused_until = None, 0.0, -math.inf

    def _failed(self, moment: float, failure: CredentialsUnavailable) -> None:
        first, longest = FIRST_PAUSE, LONGEST_PAUSE
        if not failure.temporary:
            first, longest = FIRST_REFUSAL_PAUSE, LONGEST_REFUSAL_PAUSE
        self._pause = min(longest, max(first, self._pause * 2))
        pause = self._pause * (1 - _JITTER * random())
        pause = max(pause, min(failure.retry_after or 0.0, LONGEST_RETRY_AFTER))
        self._error, self._paused_until = failure, moment + pause

    def _awaited(self, attempt: _Attempt, timeout: float | None) -> str:
        if attempt.runner == threading.get_ident() and not attempt.is_done:
            raise CredentialsUnavailable("the provider was asked while it asks for a token", temporary=True)
        deadline = Deadline(math.inf if timeout is None else now() + timeout)
        deadline = Deadline(min(deadline.at, attempt.began + GIVEN_UP))
        wakeup = Wakeup()
        with self._lock:
            if not attempt.is_done:
                attempt.waiters.append(wakeup)
        while not attempt.is_done:
            if not wakeup.wait(deadline.remaining()) and not attempt.is_done:
                raise Timeout("the provider of the token or password took too long", stage=Stage.AUTH)
        if attempt.error is not None:
            raise _copied(attempt.error)
        return attempt.text

    def after_fork(self) -> None:
        """In a child: nobody renews, whoever had the lock is gone, and what is held is good for both.

        So is a refresh token, unless its provider gives a new one for each (RFC 6749 6): whichever process
        uses it first has the next one, and nothing here can tell the other. See docs/how-to/oauth.md.
        """
        self._lock = Lock()
        self._attempt = None
        held = self._held
        if held is not None and now() < held.renew_at:
            # Children that were made together shall not renew together.
            held.renew_at -= (held.ends_at - held.renew_at) * _JITTER * random()


@conceals
def _outcome(
    fetch: Callable[[], Secret], failures: type[BaseException]
) -> tuple[Secret | None, CredentialsUnavailable | None]:
    try:
        secret = fetch()
    except failures as error:
        return None, _failure(error)
    if _is_one(secret):
        return secret, None
    return None, CredentialsUnavailable("the provider returned no token or password, or no lifetime of one")


def _is_one(secret: object) -> bool:
    """Whether somebody's provider returned what it must: nothing else may be kept."""
    if not isinstance(secret, Secret) or not isinstance(secret.text, str) or not secret.text:
        return False
    lifetime: object = secret.lifetime
    is_number = isinstance(lifetime, int | float) and not isinstance(lifetime, bool)
    return lifetime is None or (is_number and not math.isnan(lifetime))  # type: ignore[arg-type]


def _failure(error: BaseException) -> CredentialsUnavailable:
    """What a renewal failed by, without frames; of an error that is not ours the kind alone is told."""
    if isinstance(error, CredentialsUnavailable):
        return alone(error)
    if isinstance(error, InputError):
        return CredentialsUnavailable(f"the provider cannot be asked: {error.args[0]}")
    # Its text may quote anything.
    return CredentialsUnavailable(
        f"the provider of the token or password failed: {type(error).__name__}",
        temporary=isinstance(error, OSError),
    )


def _copied(error: CredentialsUnavailable) -> CredentialsUnavailable:
    """One for each thread that raises it: tracebacks grow with each."""
    return CredentialsUnavailable(
        error.args[0], cure=error.cure, temporary=error.temporary, retry_after=error.retry_after
    )


# Equal values share one renewal, in a process.

_lock = Lock()
_living: Final[weakref.WeakSet[Renewal]] = weakref.WeakSet()
_shared: Final[weakref.WeakValueDictionary[Hashable, Renewal]] = weakref.WeakValueDictionary()
_used: Final[OrderedDict[Hashable, Renewal]] = OrderedDict()
"""Those that were asked for last: what nobody holds for a moment is not lost."""


def shared_renewal(key: Hashable) -> Renewal:
    """The renewal of all values with this key."""
    with _lock:
        renewal = _shared.get(key)
        if renewal is None:
            renewal = _shared[key] = Renewal()
        _used[key] = renewal
        _used.move_to_end(key)
        if len(_used) > _KEPT:
            _used.popitem(last=False)
        return renewal


def _after_fork() -> None:
    global _lock
    _lock = Lock()
    for renewal in tuple(_living):
        renewal.after_fork()


_register: Any = getattr(os, "register_at_fork", None)
if _register is not None:
    _register(after_in_child=_after_fork)
