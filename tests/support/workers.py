"""What the workers of every queue have in common: a process of a test's own."""

from __future__ import annotations

from typing import Self

from support.daemon import Daemon


class WorkerProcess:
    """A worker that runs until the end of its block."""

    _daemon: Daemon

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End it as an administrator does: what is under way is finished."""
        if kind is not None:
            print(self._daemon.log_text()[-5000:])
        self._daemon.stop()
