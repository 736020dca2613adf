"""What the Celery task does with one message: take it in, try once, and report or ask for another try."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from celery.exceptions import Reject

from ...errors import ConnectError, DeliveryUnknown, InputError, SmtpError
from ...identifiers import content_message_id
from ...options import positive, unknown
from ...outgoing import withheld_of
from ...payload import Submission, pack, unpack
from ...pool import SmtpPool
from ...pooling.arguments import PoolOptions
from ...pooling.replies import rest_after
from ...records import fields
from ...retry import RetryPolicy
from ...route import Route
from ...server import Server
from ...wire.envelope import MailObject
from ...wire.limits import Stage
from ...wire.result import SendResult
from ..configuration import made
from ..pools import shared_pool
from ..queueing.signing import Keys
from ..queueing.tries import Account, SendFailed

_log: Final = logging.getLogger("pysmtpx")

_Address: TypeAlias = str | os.PathLike[str] | Server | Route
Servers: TypeAlias = _Address | Sequence[_Address] | Callable[[], _Address | Sequence[_Address]]
"""What a pool takes, or a function that returns it, or the name of one."""

DEFAULT_RETRY: Final = RetryPolicy(attempts=10, backoff=30.0, max_backoff=600.0, temporary=True)
"""Tries for about forty minutes: greylisting passes meanwhile, and so does a restart of the server."""

KEYS_SETTING: Final = "pysmtpx_signing_keys"
"""Of Celery's settings; it shows no value whose name has "key" in it."""
_OUR_SETTINGS: Final = "pysmtpx_"

_DOTTED: Final = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
"""``package.module:function``. No host name, path or URL has this form."""
_LONGEST_WAIT: Final = 900.0
"""Seconds: half of what RabbitMQ waits for an acknowledgement, a quarter of what Redis does."""
_MARGIN: Final = 0.9
"""The share of Celery's time limit that a try may take."""


@dataclass(eq=False, repr=False)  # it holds secrets, and is itself the key of its pool
class MailTask:
    """One registered task: where it sends, and how."""

    server: Servers
    queue: str | None
    policy: RetryPolicy
    timeout: float | None
    resend_redelivered: bool
    on_outcome: Callable[[Mapping[str, Any]], None] | None
    max_size: int
    own_keys: Keys | None
    pool_options: PoolOptions
    _pool: SmtpPool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.policy, RetryPolicy):
            raise InputError("retry is a RetryPolicy")
        positive("timeout", self.timeout)
        if not _is_deferred(self.server):
            self._made().close(0)  # says now what is wrong with it; nothing is dialled

    # -- the pool -----------------------------------------------------------------------

    @property
    def pool(self) -> SmtpPool:
        """The pool of this process, made when it is first asked for.

        Raises ``ConnectError`` where it cannot be made: what a process lacks
        another one may have, so the message is not given up for it.
        """
        try:
            self._pool = shared_pool(self, self._made)
            return self._pool
        except Exception as error:
            _log.exception("no pool can be made in this process", extra=fields(event="failed"))
            raise ConnectError(
                f"no pool can be made in this process: {type(error).__name__}", stage=Stage.CONNECT
            ) from error

    def _made(self) -> SmtpPool:
        resolved = [_resolved(self.server)]  # whatever that raises is none of the options' fault
        servers = len(resolved[0]) if isinstance(resolved[0], list | tuple) else 1
        # A second count inside each try would multiply with Celery's, and hold a process meanwhile: the
        # pool's is one try, and one at each further server for what is no matter of the message.
        policy = replace(
            self.policy,
            attempts=servers,
            backoff=0.0,
            temporary=False,
            unknown=False,
            retryable=self._is_for_another,
        )
        # Taken out of the list, since error pages show what is in a frame: a URL may have a password.
        return made("the pool", lambda: SmtpPool(resolved.pop(), retry=policy, **self.pool_options))

    def _is_for_another(self, error: SmtpError) -> bool:
        return rest_after(error, self.policy) is not None and self.policy.allows(error)

    def close(self) -> None:
        """Close the pool of this process, where there is one; the next message gets a new one."""
        if self._pool is not None:
            self._pool.close()

    # -- one message ----------------------------------------------------------------------

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
        submission = unpack(payload, self.max_size)
        now = time.time()
        paths = submission.mail.recipients
        account = Account(paths, now) if plain is None else Account.from_plain(paths, plain)
        before = account.perhaps_delivered
        fate: SendResult | SmtpError
        try:
            if not self._is_in_doubt(task) and (screened := self._screened(submission, account)) is not None:
                submission, account = screened
                payload = pack(submission, sys.maxsize)
            fate = self._try(task, submission, account)
        except SmtpError as error:  # nobody is left of them, or there is no pool
            fate = error
        delay = account.note(fate, self.policy, time.time(), whole=submission.all_or_nothing)
        if delay is not None and not task.request.called_directly:  # that has no next try
            self._again(
                task, payload, submission, account, delay, is_same=account.perhaps_delivered == before
            )
        return self._finish(task, self._report(task, submission, account))

    def _is_in_doubt(self, task: Any) -> bool:
        return not self.resend_redelivered and bool((task.request.delivery_info or {}).get("redelivered"))

    def _screened(self, submission: Submission, account: Account) -> tuple[Submission, Account] | None:
        """What ``redirect_to`` and ``allow_recipients`` leave of it, in all its tries; None: all of it.

        Raises what ``Outgoing.screen`` and ``pool`` do.
        """
        outgoing = self.pool.outgoing
        if outgoing is None or not outgoing.screens or account.perhaps_delivered:
            return None
        mail = outgoing.screened(submission.mail)
        if mail is submission.mail:
            return None
        return replace(submission, mail=mail), account.for_those_left(mail.recipients, withheld_of(mail))

    def _try(self, task: Any, submission: Submission, account: Account) -> SendResult | SmtpError:
        mail = submission.part(account.owed)
        if self._is_in_doubt(task):
            return _doubt(mail, "it was handed to a worker before, which did not report")
        try:
            return self.pool.send(
                mail.sender,
                mail.recipients,
                mail.content,
                mail_params=mail.mail_params,
                rcpt_params=mail.rcpt_params,
                timeout=_seconds(task, self.timeout),
                all_or_nothing=submission.all_or_nothing,
                allow_long_lines=submission.allow_long_lines,
            )
        except SmtpError as error:
            return error
        except Exception as error:
            # A time limit of Celery's, say: it may strike anywhere, and then nobody can tell how far it went.
            _log.exception("a try ended without an outcome", extra=fields(event="failed"))
            return _doubt(mail, f"the try was ended by {type(error).__name__}")

    def _again(
        self,
        task: Any,
        payload: object,
        submission: Submission,
        account: Account,
        delay: float,
        *,
        is_same: bool,
    ) -> None:
        """Ask Celery for another try, for those who are owed one."""
        report = self._report(task, submission, account)
        try:
            raise task.retry(
                kwargs=call(task.name, payload, account.to_plain(), self.keys(task.app)),
                exc=SendFailed(report),
                countdown=min(delay, _longest_wait(task)),
                kwargsrepr=self.shown(submission.mail),
            )
        except Reject as rejected:
            # The broker did not take the next try, and Celery would drop the message for that.
            extra = fields(event="warning", task=task.request.id)
            _log.warning("the next try could not be handed to the broker: %r", rejected.reason, extra=extra)
            if is_same:  # nobody would get it twice: then this one goes back to the queue
                raise Reject(rejected.reason, requeue=True) from rejected

    def _report(self, task: Any, submission: Submission, account: Account) -> dict[str, Any]:
        mail = submission.mail
        return {
            "task_id": task.request.id,
            "message_id": content_message_id(mail.content),
            "sender": str(mail.sender),
            **account.report(mail),
        }

    def _finish(self, task: Any, report: dict[str, Any]) -> dict[str, Any]:
        if self.on_outcome is not None:
            try:
                self.on_outcome(report)
            except Exception:
                extra = fields(event="failed", task=task.request.id)
                _log.exception("on_outcome failed for task %s", task.request.id, extra=extra)
        if report["status"] != "accepted":
            raise SendFailed(report)
        return report

    @staticmethod
    def shown(mail: MailObject) -> str:
        """What Celery may show of a message."""
        return f"<mail to {len(mail.recipients)} recipients>"


# The parts of it.


def call(name: str, payload: object, account: object, keys: Keys | None) -> dict[str, Any]:
    """The keywords that the task is called with."""
    keywords = {"payload": payload} if account is None else {"payload": payload, "account": account}
    return keywords if keys is None else {**keywords, "signature": keys.sign(name, payload, account)}


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


def _is_deferred(server: object) -> bool:
    return callable(server) or (isinstance(server, str) and _DOTTED.fullmatch(server) is not None)


def _resolved(server: Any) -> Any:
    if isinstance(server, str) and _DOTTED.fullmatch(server):
        module, _, name = server.partition(":")
        server = getattr(importlib.import_module(module), name)
    return server() if callable(server) else server


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


def _doubt(mail: MailObject, why: str) -> DeliveryUnknown:
    error = DeliveryUnknown(why, stage=Stage.FINAL)
    error.unknown_recipients = mail.recipients
    return error
