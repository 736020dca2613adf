"""What Celery alone knows of a queued message: the request, the time limits, how to ask for another try."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import Reject

from ...options import unknown
from ...records import fields
from ..queueing.attempt import Attempt, QueueSender
from ..queueing.signing import Keys, call
from ..queueing.submitting import description
from ..queueing.tries import SendFailed

_log: Final = logging.getLogger("pysmtpx")

KEYS_SETTING: Final = "pysmtpx_signing_keys"
"""Of Celery's settings; it shows no value whose name has "key" in it."""
_OUR_SETTINGS: Final = "pysmtpx_"

_LONGEST_WAIT: Final = 900.0
"""Seconds: half of what RabbitMQ waits for an acknowledgement, a quarter of what Redis does."""
_MARGIN: Final = 0.9
"""The share of Celery's time limit that a try may take."""


@dataclass(eq=False, repr=False)  # it holds secrets
class MailTask:
    """One registered task: where it sends, and how."""

    own_keys: Keys | None
    sender: QueueSender
    queue: str | None
    resend_redelivered: bool

    def keys(self, app: Any) -> Keys | None:
        """The signing keys of this task, else those of its application. Raises ``InputError``."""
        return self.own_keys or keys_of(app)

    def run(self, task: Any, payload: object, plain: object, signature: object) -> dict[str, Any]:
        """The body of the task: the report, or ``SendFailed``, or Celery's ``Retry``.

        Raises ``InputError`` for a payload that cannot be read, and where there
        are signing keys for one that none of them signed.
        """
        keys = self.keys(task.app)
        if keys is not None:
            keys.verify(signature, task.name, payload, plain)
        attempt = self.sender.attempt(
            payload,
            plain,
            task_id=task.request.id,
            timeout=_seconds(task, self.sender.timeout),
            doubt=self._doubt(task),
        )
        if attempt.delay is not None and not task.request.called_directly:  # that has no next try
            self._again(task, attempt, attempt.delay)
        return self.sender.finish(attempt.report)

    def _doubt(self, task: Any) -> str | None:
        if self.resend_redelivered or not (task.request.delivery_info or {}).get("redelivered"):
            return None
        return "it was handed to a worker before, which did not report"

    def _again(self, task: Any, attempt: Attempt, delay: float) -> None:
        """Ask Celery for another try, for those who are owed one."""
        try:
            raise task.retry(
                kwargs=call(task.name, attempt.payload, attempt.account, self.keys(task.app)),
                exc=SendFailed(attempt.report),
                countdown=min(delay, _longest_wait(task)),
                kwargsrepr=description(attempt.recipients),
            )
        except Reject as rejected:
            # The broker did not take the next try, and Celery would drop the message for that.
            extra = fields(event="warning", task=task.request.id)
            _log.warning("the next try could not be handed to the broker: %r", rejected.reason, extra=extra)
            if not attempt.reached:  # nobody would get it twice: then this one goes back to the queue
                raise Reject(rejected.reason, requeue=True) from rejected


# The parts of it.


def keys_of(app: Any) -> Keys | None:
    """The signing keys in the settings of a Celery application.

    Raises ``InputError``, also for another setting that begins as ours does: a
    slip there would leave everything unsigned.
    """
    given = app.conf.get(KEYS_SETTING)
    if given is None and (others := [name for name in app.conf if _is_of_ours(name)]):
        raise unknown(others, [KEYS_SETTING], "setting of Celery's")
    return Keys.of(given)


def _is_of_ours(name: object) -> bool:
    return isinstance(name, str) and name.startswith(_OUR_SETTINGS)


def _seconds(task: Any, timeout: float | None) -> float | None:
    """For one try: less than Celery's limits, which would end it without an outcome."""
    conf = task.app.conf  # not every Celery puts the limits of the app on its tasks
    given = [
        *(task.request.timelimit or ()),
        task.time_limit or conf.task_time_limit,
        task.soft_time_limit or conf.task_soft_time_limit,
    ]
    limits = [_MARGIN * limit for limit in given if limit]
    return min([*limits, *([] if timeout is None else [timeout])], default=None)


def _longest_wait(task: Any) -> float:
    """For the next try: a worker holds it unacknowledged meanwhile, and a broker's patience has an end."""
    options = task.app.conf.broker_transport_options or {}
    visibility = options.get("visibility_timeout")
    return float(visibility) / 2 if visibility else _LONGEST_WAIT
