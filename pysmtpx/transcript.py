"""The last exchanges of a connection in words, for errors and the log; content and secrets are never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from .records import Fields, fields, reply_fields
from .wire.reply import Reply, printable

KEPT: Final = 24
"""Writes and replies."""
LONGEST: Final = 2048
"""Octets of command lines kept of one write: of a large envelope the beginning will do."""

Kept: TypeAlias = tuple[bytes, int] | Reply | int
"""The command lines of a write, and how many octets of content went with them; a reply; or the code alone of
one to a secret, which it may repeat."""
SECRET: Final = (b"", -1)
"""A write that is not shown."""


def lines(kept: Iterable[Kept]) -> tuple[str, ...]:
    """All that is kept, oldest first: ``C: `` for the client's lines, ``S: `` for the server's."""
    return tuple(line for each in kept for line in _lines(each))


def log(kept: Iterable[Kept], tell: Callable[..., None], server: str) -> None:
    """Log it, for a connection to this server."""
    for each in kept:
        extra = fields(_fields(each), event="wire", server=server or None)
        for line in _lines(each):
            tell("%s", line, extra=extra)


def _fields(kept: Kept) -> Fields:
    if isinstance(kept, int):
        return {"direction": "S", "code": kept}
    return {"direction": "S", **reply_fields(kept)} if isinstance(kept, Reply) else {"direction": "C"}


def _lines(kept: Kept) -> list[str]:
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
