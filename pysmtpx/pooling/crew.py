"""Who of a pool's workers is idle, who is on the way, and who is called for more work.

Pure decisions but for the start of a thread; the feed's lock is held by the caller.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from .bell import Bell


class Crew:
    """The workers of one feed, at most so many; ``start`` starts one, which comes with its token.

    Besides them there is one guard at most, which ``post`` starts.
    """

    def __init__(
        self, most: int, start: Callable[[object], None], post: Callable[[Bell], None] | None = None
    ) -> None:
        self._most = most
        self._start = start
        self._post = post
        self.workers: set[object] = set()
        self._started: set[object] = set()
        """Workers that have not come yet."""
        self._idle: list[Bell] = []
        self._woken: set[Bell] = set()
        """Workers that were idle and have not come back yet."""
        self._seeking: set[Bell] = set()
        """Workers that have taken nothing yet, since they have no connection."""
        self.keeper: Bell | None = None
        """The idle worker that watches the clock for all."""
        self.guard: Bell | None = None
        """Who watches it while all workers may be held up."""

    @property
    def coming(self) -> int:
        """Workers that are on their way to take something."""
        return len(self._started) + len(self._woken) + len(self._seeking)

    @property
    def exists(self) -> bool:
        """Whether there is a worker, or will be one."""
        return bool(self.workers or self._started)

    @property
    def is_gone(self) -> bool:
        """Whether nobody is left, nor on the way."""
        return not self.exists and self.guard is None

    def call(self, wanted: int) -> None:
        """Wake or start a worker, where fewer than this are coming."""
        if self.coming >= wanted:
            return
        if self._idle:
            bell = self._idle[-1]
            self._woken.add(bell)
            self._idle.pop()
            bell.ring()
        elif len(self.workers) + len(self._started) < self._most:
            token = object()
            with contextlib.suppress(RuntimeError):
                self._start(token)
                # Only now: an interrupt before must not leave us waiting for a worker that never comes.
                self._started.add(token)

    def arrive(self, token: object, bell: Bell) -> None:
        """One that was started is there, and about to take something."""
        self.workers.add(token)
        self._seeking.add(bell)
        self._started.discard(token)

    def leave(self, token: object, bell: Bell) -> None:
        """One is there no more."""
        self.workers.discard(token)
        self._seeking.discard(bell)
        self.wake(bell)

    def seek(self, bell: Bell) -> None:
        """One knows that there is something, and looks for a connection."""
        self._seeking.add(bell)

    def found(self, bell: Bell) -> None:
        """It has taken something, or has given up."""
        self._seeking.discard(bell)

    def rest(self, bell: Bell, *, watch: bool) -> bool:
        """One becomes idle; whether it is the one that watches the clock, where somebody has to ``watch``."""
        if watch and self.keeper is None:
            self.keeper = bell
        self._idle.append(bell)
        return self.keeper is bell

    def wake(self, bell: Bell) -> None:
        """It is idle no more."""
        if self.keeper is bell:
            self.keeper = None
        self._woken.discard(bell)
        if bell in self._idle:
            self._idle.remove(bell)

    def post(self, earliest: float) -> None:
        """A worker goes where it may be held up: start the guard, where a deadline is to be watched."""
        if self.guard is None and self._post is not None and earliest < math.inf:
            bell = Bell()
            with contextlib.suppress(RuntimeError):  # no new thread: who comes back first looks at the clock
                self._post(bell)
                self.guard = bell

    def relieve(self, bell: Bell) -> None:
        """The guard is there no more."""
        if self.guard is bell:
            self.guard = None

    def alert(self) -> None:
        """Let those who watch the clock look at it again."""
        for bell in (self.keeper, self.guard):
            if bell is not None:
                bell.ring()

    def wake_all(self) -> None:
        """Let everybody look who waits."""
        self.alert()
        for bell in self._idle:
            bell.ring()
