"""The backend that writes messages into the outbox, in the transaction of whoever sends them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict, Unpack

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...options import spelled_out
from ...payload import make_submission, pack
from ..configuration import number
from .backend import EmailBackend
from .keeping import KeepingBackend
from .message import mail_object
from .options import (
    OWN_SETTING,
    imported,
    known_alias,
    own_options,
    right,
    sensitive_variables,
    wrong,
)
from .sending import Result

SETTING: Final = "PYSMTPX_OUTBOX"
"""The setting that holds the options where there is no ``MAILERS``: a dict."""
APP: Final = "pysmtpx.contrib.django.outbox"
_KEEP: Final = 7 * 86400.0
_LONGEST_KEY: Final = 255
_PRIORITIES: Final = {"low": -1, "normal": 0, "high": 1}
"""As the model's ``Priority``, which cannot be imported before the apps are ready."""


class OutboxOptions(TypedDict, total=False):
    """The options of an ``OutboxEmailBackend``, which says what they mean."""

    mailer: str | None
    using: str | None
    priority: int | str
    expires_after: float | timedelta | None
    keep: float | timedelta | None
    max_size: int
    all_or_nothing: bool
    on_commit: Callable[[], object] | str | None


class OutboxEmailBackend(KeepingBackend):
    """Writes each message into the database, in the transaction that is open there; does not wait.

    So it is sent if and only if that commits, by ``manage.py send_outbox``: through the ``EmailBackend`` of
    ``MAILERS`` called ``mailer``, by default by the ``EMAIL_*`` settings and ``PYSMTPX``.

    ``using`` is the alias of the database (default: what the routers say), ``priority``
    that of messages without one, ``expires_after`` how long after it was queued one
    is not sent any more (seconds or a ``timedelta``; default: never), ``keep`` how long
    ``send_outbox`` keeps what is over (default: 7 days; None: always),
    ``max_size`` the octets a message may have, ``all_or_nothing`` whether it is sent only where every
    recipient is accepted, ``on_commit`` a function that is
    called once when a transaction with messages was committed, such as one that starts a Celery task.
    By default they come from the dict ``PYSMTPX_OUTBOX`` of the settings, with ``alias`` from ``MAILERS``.

    A message may have attributes of its own: ``priority`` (``"high"``, ``"normal"``,
    ``"low"``), ``send_at`` and ``expires_at`` (a ``datetime``, text in ISO 8601, or seconds
    since the epoch), and ``unique_key``, of which there is one message in the outbox
    at most. ``send_messages`` returns how many were written; each then has
    ``outbox_id``, None where its key was there already. ``message_failed`` tells of one that
    could not be written; what becomes of the others is told in the worker.
    """

    @conceals_settings(ImproperlyConfigured)
    @sensitive_variables("own", "rest", "options")
    @spelled_out(OutboxOptions)
    def __init__(
        self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[OutboxOptions]
    ) -> None:
        alias, rest = known_alias(alias), {**options}
        own = own_options(rest, OutboxOptions, alias, SETTING)
        super().__init__(alias=alias, **({} if alias is None else rest))
        if not apps.is_installed(APP):
            raise wrong(f"{APP!r} is not in INSTALLED_APPS", alias)
        self._take(own, alias, fail_silently=fail_silently)
        self.using: str | None = own.get("using")
        self._priority, self._expires_after, self.keep, self._on_commit = right(alias, lambda: _checked(own))

    def sends_by(self) -> EmailBackend:
        """The backend whose options say where messages go. Raises ``ImproperlyConfigured``."""
        backend = super().sends_by()
        if backend.options.values.get("journal") is not None:
            where = f"the mailer {self.mailer!r}" if self.mailer else OWN_SETTING
            raise wrong(f"{where} has a journal, and the outbox is one: leave it out", self.alias)
        return backend

    def _send_each(self, messages: Sequence[Any]) -> Generator[tuple[Any, Result], None, None]:
        for message in messages:
            message.outbox_id = None
            try:
                self._put(message)
            except SmtpError as error:
                yield message, error
            else:
                yield message, None

    def _put(self, message: Any) -> None:
        from .outbox.rows import database, put  # models, when the apps are ready

        given = getattr(message, "priority", None)
        due = _seconds("send_at", getattr(message, "send_at", None), 0.0)
        last = max(due, time.time()) + self._expires_after
        expires = _seconds("expires_at", getattr(message, "expires_at", None), last)
        submission = make_submission(
            mail_object(message), all_or_nothing=self._all_or_nothing, max_size=self._max_size
        )
        using = database(self.using)
        message.outbox_id = put(
            pack(submission, self._max_size),
            using=using,
            mailer=self.mailer,
            key=_key(getattr(message, "unique_key", None)),
            subject=" ".join(str(message.subject).split()),
            priority=_priority(self._priority if given is None else given),
            due=due,
            expires=expires,
        )
        if self._on_commit is not None and message.outbox_id is not None:
            self._register(self._on_commit, using)

    def _register(self, hook: Callable[[], object], using: str) -> None:
        """Let it be called when the transaction commits: once for all its messages, as one call sends all."""
        waiting = connections[using].run_on_commit
        if not any(each is hook for _, each, *_ in waiting):
            transaction.on_commit(hook, using=using, robust=True)


def _checked(own: Mapping[str, Any]) -> tuple[int, float, float | None, Callable[[], object] | None]:
    """The options that are not just taken as they are. Raises ``InputError``."""
    keep = own.get("keep", _KEEP)
    after = own.get("expires_after")
    hook = imported("on_commit", own.get("on_commit"))
    if hook is not None and not callable(hook):
        raise InputError("on_commit is a function, or the dotted path of one")
    return (
        _priority(own.get("priority", "normal")),
        math.inf if after is None else _span("expires_after", after),
        None if keep is None else _span("keep", keep),
        hook,
    )


def _priority(value: Any) -> int:
    found = _PRIORITIES.get(value.lower(), value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int) or found not in _PRIORITIES.values():
        raise InputError('priority is "low", "normal" or "high"')
    return int(found)


def _span(name: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else number(float, value)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise InputError(f"{name} is a number of seconds above 0, or a timedelta")
    return float(seconds)


def _seconds(name: str, value: Any, default: float) -> float:
    """A moment in seconds since the epoch. Raises ``InputError`` for what is none."""
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = parse_datetime(value)
        except ValueError:
            value = None
    if isinstance(value, datetime):
        return (timezone.make_aware(value) if timezone.is_naive(value) else value).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise InputError(f"{name} is a datetime, text in ISO 8601, or seconds since the epoch")


def _key(value: Any) -> str | None:
    if value is None:
        return None
    key = str(value)
    if not 0 < len(key) <= _LONGEST_KEY or "\x00" in key:
        raise InputError(f"unique_key is text of 1 to {_LONGEST_KEY} characters")
    return key
