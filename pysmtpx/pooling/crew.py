"""Who of a pool's workers is idle, who is on the way, and who is called for more work.

Pure decisions but for the start of a thread; the feed's lock is held by the caller.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from .bell import Bell


class Crew:
    """The workers of one feed, at most so many; ``start`` starts one, which comes with its token."""

    def __init__(self, most: int, start: Callable[[object], None]) -> None:
        self._most = most
        self._start = start
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

    @property
    def coming(self) -> int:
        """Workers that are on their way to take something."""
        return len(self._started) + len(self._woken) + len(self._seeking)

    @property
    def exists(self) -> bool:
        """Whether there is a worker, or will be one."""
        return bool(self.workers or self._started)

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

    def arrive(self, token: object) -> None:
        """One that was started is there."""
        self.workers.add(token)
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

    def alert(self) -> None:
        """Let the one that watches the clock look at it again."""
        if self.keeper is not None:
            self.keeper.ring()

    def wake_all(self) -> None:
        """Let every idle one look."""
        for bell in self._idle:
            bell.ring()
