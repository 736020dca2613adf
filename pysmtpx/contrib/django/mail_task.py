"""The task that ``TaskEmailBackend`` queues messages for; workers import it by its path."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME, task, task_backends
from django.utils import timezone

from ...records import fields
from ..queueing.attempt import Attempt
from ..queueing.tries import SendFailed
from .options import mailer, wrong
from .task_backend import TaskEmailBackend

_log: Final = logging.getLogger("pysmtpx")
_KILLED: Final = "it was handed to a worker before, which did not report"


class TaskFailed(SendFailed):
    """A message that nobody accepted, or that is in doubt; ``report`` is what the task knows of it."""


def _declared(function: Callable[..., dict[str, Any]]) -> Any:
    """The task, of a backend and queue that the settings have; each message names its own."""
    aliases = [*task_backends]
    alias = DEFAULT_TASK_BACKEND_ALIAS if DEFAULT_TASK_BACKEND_ALIAS in aliases else aliases[0]
    queues = task_backends[alias].queues
    queue = DEFAULT_TASK_QUEUE_NAME if not queues or DEFAULT_TASK_QUEUE_NAME in queues else min(queues)
    return task(backend=alias, queue_name=queue, takes_context=True)(function)


@_declared
def send_message(
    context: Any,
    payload: Mapping[str, Any],
    account: Mapping[str, Any] | None = None,
    alias: str | None = None,
) -> dict[str, Any]:
    """Make one try; the report, with ``next_task`` where there is to be another one.

    Raises ``TaskFailed`` where it is over and nobody accepted the message, or
    somebody perhaps has it, and ``InputError`` for a payload that cannot be read.
    """
    backend = mailer(alias) if alias else TaskEmailBackend()
    if not isinstance(backend, TaskEmailBackend):
        raise wrong(f"the mailer {alias!r} is no TaskEmailBackend", alias)
    sender, result = backend.sender(), context.task_result
    attempt = sender.attempt(
        payload,
        account,
        task_id=str(result.id),
        timeout=sender.timeout,
        doubt=_KILLED if context.attempt > 1 and not backend.resend_killed else None,
    )
    if attempt.delay is not None and (task_id := _next(result.task, attempt, alias)) is not None:
        return {**attempt.report, "next_task": task_id}
    try:
        return sender.finish(attempt.report)
    except SendFailed as error:
        raise TaskFailed(error.report) from None


def _next(this: Any, attempt: Attempt, alias: str | None) -> str | None:
    """Queue another try for those who are owed one; None where this backend cannot put it off."""
    if attempt.delay is None or not this.get_backend().supports_defer:
        return None
    due = timezone.now() + timedelta(seconds=attempt.delay)
    try:
        queued = this.using(run_after=due).enqueue(
            payload=attempt.payload, account=attempt.account, alias=alias
        )
    except Exception:  # what is known of this try must not be lost with the next one
        _log.exception("the next try could not be queued", extra=fields(event="failed"))
        return None
    return str(queued.id)
