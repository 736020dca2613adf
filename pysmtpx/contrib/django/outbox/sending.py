"""Who sends from the outbox: a pool by the settings, for a while."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from ....journal.store import JournalError
from ....pool import SmtpPool
from ....records import fields
from ..options import backends, mailer
from ..outbox_backend import OutboxEmailBackend
from .rows import database
from .store import OutboxStore
from .telling import tell

_log: Final = logging.getLogger("pysmtpx")
_TURN: Final = 0.5
"""Seconds between two looks whether to end."""
_TIDY: Final = 600.0
"""Seconds between two looks for what is to be forgotten."""
_PATIENCE: Final = 30.0
"""Seconds for what is under way when it is to end."""


def outboxes(alias: str | None = None) -> list[OutboxEmailBackend]:
    """The backends of the settings that queue in the outbox, or that of ``MAILERS[alias]``.

    Raises ``ImproperlyConfigured`` where there is none.
    """
    found = [
        backend() if each is None else mailer(each)
        for each, backend in backends()
        if issubclass(backend, OutboxEmailBackend) and alias in (None, each)
    ]
    if not found and alias is not None:
        raise ImproperlyConfigured(
            f"MAILERS[{alias!r}] is no OutboxEmailBackend: name the entry that queues."
        )
    if not found:
        raise ImproperlyConfigured("No backend of the settings is an OutboxEmailBackend.")
    return found


@contextlib.contextmanager
def sending(outbox: OutboxEmailBackend) -> Iterator[OutboxStore]:
    """Let a pool send what is due, and whatever becomes due, until the block ends."""
    using = database(outbox.using)
    options = outbox.sends_by().options
    kind = type(outbox)
    with OutboxStore(
        mailer=outbox.mailer, using=using, told=lambda number: tell(kind, using, number)
    ) as store:
        pool: SmtpPool = options.pool(journal=store)
        try:
            yield store
        finally:
            pool.close(_PATIENCE)


def send_outbox(
    alias: str | None = None, *, forever: bool = False, is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Send what is due, and return when nothing is; or until ``is_stopped``.

    Raises ``JournalError`` where the database fails, unless ``forever``.
    """
    with contextlib.ExitStack() as stack:
        found = [(outbox, stack.enter_context(sending(outbox))) for outbox in outboxes(alias)]
        tidied: float | None = None
        while not is_stopped():
            if tidied is None or time.monotonic() - tidied > _TIDY:
                tidied = time.monotonic()
                _tidy(found)
            if forever:
                time.sleep(_TURN)
                continue
            at_rest = [store.wait(_TURN) for _, store in found]
            if all(at_rest):
                return


def _tidy(found: list[tuple[OutboxEmailBackend, OutboxStore]]) -> None:
    """Forget what is old; a database that is away just now keeps nobody from sending when it is back."""
    for outbox, store in found:
        try:
            if outbox.keep is not None:
                store.purge(time.time() - outbox.keep)
        except JournalError:
            _log.exception("old messages of the outbox could not be forgotten", extra=fields(event="failed"))
