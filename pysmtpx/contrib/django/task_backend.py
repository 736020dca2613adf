"""The backend that queues messages for a task of Django's own tasks (6.0 and later)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...options import spelled_out
from ...pooling.job import Envelope
from ...wire.limits import SEND_TIMEOUT
from ..configuration import Key, switched_on
from ..queueing.attempt import DEFAULT_RETRY, QueueSender
from ..queueing.submitting import submitted
from .backend import EmailBackend
from .keeping import KeepingBackend
from .message import mail_object
from .options import (
    imported,
    known_alias,
    own_options,
    right,
    sensitive_variables,
    wrong,
)
from .sending import Result

SETTING: Final = "PYSMTPX_TASKS"
"""The setting that holds the options where there is no ``MAILERS``: a dict."""
TASK: Final = "pysmtpx.contrib.django.mail_task.send_message"
"""Its module is not called ``tasks``: Celery would import it for every project that looks for its own."""

_senders: Final[dict[Key, QueueSender]] = {}
"""One for all messages of the same settings, since it is the key of its pool."""


class TaskOptions(TypedDict, total=False):
    """The options of a ``TaskEmailBackend``, which says what they mean."""

    mailer: str | None
    backend: str
    queue_name: str | None
    priority: int | None
    resend_killed: bool
    on_outcome: Callable[[Mapping[str, Any]], None] | str | None
    max_size: int


class TaskEmailBackend(KeepingBackend):
    """Queues each message for a task of ``django.tasks``, and does not wait. Needs Django 6.0 or later.

    The task sends by the ``EmailBackend`` of ``MAILERS`` called ``mailer``, by
    default by the ``EMAIL_*`` settings and ``PYSMTPX``. Their ``retry`` says what is
    tried again, by a further task, where the backend of the tasks can put one off.

    ``backend`` is an alias of ``TASKS`` (default: ``"default"``); ``queue_name`` and
    ``priority`` are those of the task. A task that is run for the second time, since
    its worker was lost say, reports its message as unknown; with ``resend_killed`` it
    sends it again. ``on_outcome`` is a function, or the dotted path of one, that is called in
    the worker with each final report. Content over ``max_size`` octets is refused.
    By default they come from the dict ``PYSMTPX_TASKS`` of the settings, with ``alias`` from ``MAILERS``.

    ``send_messages`` returns how many were queued; each message then has
    ``send_task`` (Django's ``TaskResult``). ``message_failed`` tells of one that
    could not be queued; what becomes of the others is told in the worker.
    """

    @conceals_settings(ImproperlyConfigured)
    @sensitive_variables("own", "rest", "options")
    @spelled_out(TaskOptions)
    def __init__(
        self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[TaskOptions]
    ) -> None:
        alias, rest = known_alias(alias), {**options}
        own = own_options(rest, TaskOptions, alias, SETTING)
        super().__init__(alias=alias, **({} if alias is None else rest))
        self._take(own, alias, fail_silently=fail_silently)
        self.resend_killed = right(alias, lambda: switched_on("resend_killed", own.get("resend_killed")))
        self._on_outcome = right(alias, lambda: _function(own.get("on_outcome")))
        self._using = {
            "backend": own.get("backend") or "default",
            "queue_name": own.get("queue_name"),
            "priority": own.get("priority"),
        }

    def task(self) -> Any:
        """The task that messages are queued for. Raises ``ImproperlyConfigured`` where there can be none."""
        try:
            send_message = import_string(TASK)  # as workers do: it needs what older versions have not
        except ModuleNotFoundError as error:
            if error.name != "django.tasks":
                raise
            raise wrong(
                "TaskEmailBackend needs Django 6.0 or later, which has django.tasks", self.alias
            ) from None
        from django.tasks.exceptions import InvalidTask

        try:
            return send_message.using(**self._using)
        except InvalidTask as error:
            raise wrong(f"TASKS[{self._using['backend']!r}]: {error}", self.alias) from error

    def sender(self) -> QueueSender:
        """What sends in a worker: one for each process and settings. Raises ``ImproperlyConfigured``."""
        backend = self.sends_by()
        key = Key(backend.options.key, self._max_size, self._on_outcome)
        if key not in _senders:
            _senders[key] = right(self.alias, lambda: self._sender(backend))
        return _senders[key]

    def _sender(self, backend: EmailBackend) -> QueueSender:
        options: Any = backend.options.pool_options()
        if options.get("journal") is not None:
            raise InputError(
                "a task takes no journal: each try is a task of its own, which that does not know"
            )
        return QueueSender(
            server=backend.options.routes(),
            policy=options.pop("retry", None) or DEFAULT_RETRY,
            timeout=backend.options.send_options.get("timeout", SEND_TIMEOUT),
            on_outcome=self._on_outcome,
            max_size=self._max_size,
            pool_options=options,
        )

    def _send_each(self, messages: Sequence[Any]) -> Generator[tuple[Any, Result], None, None]:
        task = self.task()
        for message in messages:
            message.send_task = None
            try:
                call = submitted(
                    TASK,
                    mail_object(message),
                    Envelope(),
                    all_or_nothing=self._all_or_nothing,
                    allow_long_lines=False,
                    max_size=self._max_size,
                    keys=None,
                )
                message.send_task = task.enqueue(**call.keywords, alias=self.alias)
            except SmtpError as error:
                yield message, error
            else:
                yield message, None


def _function(value: Any) -> Callable[[Mapping[str, Any]], None] | None:
    found = imported("on_outcome", value)
    if found is not None and not callable(found):
        raise InputError("on_outcome is a function, or the dotted path of one")
    return found  # type: ignore[no-any-return]
