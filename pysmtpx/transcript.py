"""The last exchanges of a connection, for errors and the log; content and secrets are never kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from .flow.effects import Send
from .wire.reply import Reply, printable

_KEPT: Final = 24
"""Writes and replies."""
_LONGEST: Final = 2048
"""Octets of command lines kept of one write: of a large envelope the beginning will do."""


class Transcript:
    """What was said and heard last. Kept as it came, put into words only when asked for."""

    __slots__ = ("_kept", "heard")

    def __init__(self) -> None:
        self._kept: deque[tuple[bytes, int] | Reply | int] = deque(maxlen=_KEPT)
        self.heard: Callable[[Reply], None] = self._kept.append
        """Keeps a reply; only the code of one to a secret, which it may repeat."""

    def said(self, effect: Send) -> None:
        """Keep the command lines of a write, and how many octets of content went with them."""
        if effect.secret:
            kept = self._kept
            kept.append((b"", -1))
            self.heard = lambda reply: kept.append(reply.code)
            return
        self.heard = self._kept.append
        data, shown = effect.data, effect.shown
        if shown is None:
            shown = bytes(data)
        self._kept.append((shown[:_LONGEST], len(data) - len(shown)))

    def lines(self) -> tuple[str, ...]:
        """All that is kept, oldest first: ``C: `` for the client's lines, ``S: `` for the server's."""
        return tuple(line for kept in self._kept for line in _lines(kept))

    def tell(self, log: Callable[..., None]) -> None:
        """Log what was kept last."""
        for line in _lines(self._kept[-1]):
            log("%s", line)


def _lines(kept: tuple[bytes, int] | Reply | int) -> list[str]:
    if isinstance(kept, int):
        return [f"S: {kept} (not shown)"]
    if isinstance(kept, Reply):
        return [f"S: {kept}"]
    shown, content = kept
    if content < 0:
        return ["C: (not shown)"]
    lines = [f"C: ({content} octets of content)"] if content else []
    commands = shown.split(b"\r\n")
    cut = [] if commands.pop() == b"" else ["C: (and more)"]
    return lines + [f"C: {printable(command)}" for command in commands] + cut
