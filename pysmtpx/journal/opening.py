"""A journal by its place: the path of a file, or the URL of a database."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import InputError
from ..frames import conceals
from .sql import KEEP, SqlJournal
from .store import State


@conceals
def open_journal(
    place: str | os.PathLike[str],
    *,
    keep: float | Mapping[State, float | None] | None = KEEP,
    create: bool = True,
) -> SqlJournal:
    """The journal of this file of SQLite, or of this URL of PostgreSQL (``postgresql://``).

    It is made where it is not there, unless ``create`` is false: that is an ``InputError`` then, and so is
    what is no path. Raises ``JournalError`` too. ``keep`` is that of ``pysmtpx.journal.messages.Journal``.
    """
    path = os.fspath(place)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError("journal is the path of a file, or the URL of a database")
    if isinstance(place, str) and place.startswith(("postgresql://", "postgres://")):
        from .postgresql import PostgresJournal

        return PostgresJournal(place, keep=keep, create=create)
    from .messages import Journal

    if not create and not os.path.exists(place):
        raise InputError(f"there is no journal {os.fspath(place)}")
    return Journal(place, keep=keep)
