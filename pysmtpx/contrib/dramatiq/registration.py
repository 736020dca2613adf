"""The actor on a broker of Dramatiq's, and what hands it a message."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Unpack

from dramatiq import Actor, Broker, Message
from dramatiq.middleware import CurrentMessage, Interrupt, Middleware, TimeLimit
from dramatiq.results import Results

from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...message import AnyMessage
from ...options import spelled_out
from ...outgoing import Allowed
from ...payload import MAX_SIZE
from ...pooling.arguments import POOL_DEFAULTS, PoolOptions, parted
from ...pooling.job import Envelope
from ...records import fields
from ...retry import RetryPolicy
from ...wire.envelope import MailObject
from ...wire.limits import SEND_TIMEOUT
from ...wire.params import MailFromParams, RcptParams
from ..configuration import arguments
from ..queueing.attempt import DEFAULT_RETRY, QueueSender, Servers
from ..queueing.signing import Keys, call
from ..queueing.submitting import submitted
from ..queueing.tries import SendFailed

_log: Final = logging.getLogger("pysmtpx")
_MARGIN: Final = 0.9
"""The share of Dramatiq's time limit that a try may take."""


@conceals_settings(SmtpError)
def enqueue(
    target: Actor[..., Any] | Broker,
    message: AnyMessage | MailObject,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_params: MailFromParams | None = None,
    rcpt_params: RcptParams = None,
    all_or_nothing: bool = False,
    allow_long_lines: bool = False,
    name: str = "pysmtpx.send",
    queue: str = "default",
    max_size: int = MAX_SIZE,
    signing_keys: Any = None,
    redirect_to: str | Sequence[str] | None = None,
    allow_recipients: Allowed | None = None,
    delay: float | None = None,
) -> Message[Any]:
    """Hand a message to the actor that sends it, and return Dramatiq's message at once.

    ``target`` is what ``register`` returned, or the broker: then the actor is
    the one called ``name``, on ``queue``, which only the workers need to know.
    ``message`` is an ``email`` message, the octets or file of one, or a
    ``MailObject``. The envelope comes from its header section where it is not
    given. The message is complete before it leaves: every try sends the same
    Date and Message-ID, and Bcc is gone. ``signing_keys`` are those of
    ``register``, where ``target`` is the broker. Content over ``max_size`` octets
    is refused. ``redirect_to`` and ``allow_recipients`` are those of ``Server``;
    those of the actor's own server hold besides. ``delay`` is in seconds.

    Raises ``InputError`` (``MessageTooLarge`` for the size) and
    ``NotSupportedError`` for a message that could not be sent, before anything
    goes to the broker; what Dramatiq raises where that does not answer.
    """
    keys = Keys.of(signing_keys)
    del signing_keys
    if isinstance(target, Actor):
        name, queue, broker = target.actor_name, target.queue_name, target.broker
        keys = keys or getattr(target.fn, "keys", None)
    elif isinstance(target, Broker):
        broker = target
        broker.declare_queue(queue)
    else:
        raise InputError("messages go to an actor or a broker of Dramatiq's")
    keywords, _ = submitted(
        name,
        message,
        Envelope(sender, recipients, mail_params, rcpt_params),
        all_or_nothing=all_or_nothing,
        allow_long_lines=allow_long_lines,
        max_size=max_size,
        keys=keys,
        redirect_to=redirect_to,
        allow_recipients=allow_recipients,
    )
    told: Message[Any] = Message(queue, name, (), keywords, {})
    return broker.enqueue(told, delay=None if delay is None else _milliseconds(delay))


@conceals_settings(SmtpError)
@spelled_out(PoolOptions, POOL_DEFAULTS)
def register(
    broker: Broker,
    server: Servers,
    *,
    name: str = "pysmtpx.send",
    queue: str = "default",
    retry: RetryPolicy = DEFAULT_RETRY,
    timeout: float | None = SEND_TIMEOUT,
    on_outcome: Callable[[Mapping[str, Any]], None] | None = None,
    actor_options: Mapping[str, Any] | None = None,
    max_size: int = MAX_SIZE,
    signing_keys: Any = None,
    **pool_options: Unpack[PoolOptions],
) -> Actor[..., Any]:
    """Put an actor that sends mail on a broker of Dramatiq's, and return it.

    ``server`` is what ``SmtpPool`` takes, or a function without arguments that
    returns it, or the name of one as ``"package.module:function"``: it is
    called in the worker, so secrets need not be known before. ``pool_options``
    are those of ``SmtpPool``: each worker process has one pool for all its
    threads. ``journal`` is the path of a file, one for all workers of a machine, or
    the URL of a PostgreSQL:
    what became of each recipient is recorded there, and looked up before a
    message is sent, so that one that is handed out twice is not sent twice.

    ``retry`` decides what is tried again, for those recipients who are still
    owed the message; Dramatiq does the waiting. ``timeout`` is in seconds, for
    one try; the time limit of the actor shortens it. ``on_outcome`` is called
    in the worker with each final report, see ``docs/celery.md``; what it raises
    is logged and changes nothing. Where the broker has the middleware
    ``Results`` and ``actor_options`` have ``store_results=True``, the report is
    the result, also of a message that nobody accepted, and between two tries.

    A worker refuses content over ``max_size`` octets, and with ``signing_keys``
    (text or octets of 16 octets at least, or a list) what ``enqueue`` did not
    sign by one of them.

    Raises ``InputError`` for what cannot be right; ``ValueError`` for a second
    actor of this name, and for options that Dramatiq does not know.
    """
    parted(pool_options, *arguments(register))  # also where the server is not known yet
    if not isinstance(broker, Broker):
        raise InputError("an actor is on a broker of Dramatiq's")
    sends = _Sends(
        broker,
        name,
        Keys.of(signing_keys),
        QueueSender(
            server=server,
            policy=retry,
            timeout=timeout,
            on_outcome=on_outcome,
            max_size=max_size,
            pool_options=pool_options,
        ),
    )
    del server, pool_options, signing_keys
    options = {"max_retries": 0, "throws": (InputError,), **(actor_options or {})}
    if slips := options.keys() - broker.actor_options:
        raise InputError(f"Dramatiq knows no such option of an actor: {', '.join(sorted(slips))}")
    if not any(isinstance(each, CurrentMessage) for each in broker.middleware):
        broker.add_middleware(CurrentMessage())
    broker.add_middleware(_Closing(sends.sender))
    return Actor(sends, broker=broker, actor_name=name, queue_name=queue, priority=0, options=options)


@dataclass(eq=False, repr=False)  # it holds secrets
class _Sends:
    """The function of an actor."""

    broker: Broker
    name: str
    keys: Keys | None
    sender: QueueSender
    __name__ = "send"

    def __call__(self, payload: object, account: object = None, signature: object = None) -> Any:
        if self.keys is not None:
            self.keys.verify(signature, self.name, payload, account)
        message = CurrentMessage.get_current_message()
        task_id, seconds = None if message is None else message.message_id, self._seconds()
        try:
            attempt = self.sender.attempt(payload, account, task_id=task_id, timeout=seconds)
        except Interrupt as error:  # of a time limit, say: it strikes anywhere
            why = f"the try was ended by {type(error).__name__}"
            attempt = self.sender.attempt(payload, account, task_id=task_id, timeout=seconds, doubt=why)
        if message is not None and attempt.delay is not None:
            # A message of its own that replaces this one, rather than Dramatiq's retry of the same arguments.
            kwargs = call(self.name, attempt.payload, attempt.account, self.keys)
            following: Message[Any] = Message(
                message.queue_name, self.name, (), kwargs, {}, message_id=message.message_id
            )
            self.broker.enqueue(following, delay=_milliseconds(attempt.delay))
            return self._result(attempt.report)
        try:
            return self._result(self.sender.finish(attempt.report))
        except SendFailed as error:
            # Dramatiq would log the arguments of what raises, and with them the message.
            _log.warning("%s", error, extra=fields(event="failed", task=task_id))
            return self._result(attempt.report)

    def _result(self, report: dict[str, Any]) -> dict[str, Any] | None:
        """Without anybody who keeps it Dramatiq warns of each."""
        return report if any(isinstance(each, Results) for each in self.broker.middleware) else None

    def _seconds(self) -> float | None:
        """For one try: less than Dramatiq's limit, which would end it without an outcome."""
        limit = self.broker.get_actor(self.name).options.get("time_limit")
        if limit is None:
            limits = [each.time_limit for each in self.broker.middleware if isinstance(each, TimeLimit)]
            limit = min(limits, default=math.inf)
        seconds = min(
            _MARGIN * limit / 1000, math.inf if self.sender.timeout is None else self.sender.timeout
        )
        return None if seconds == math.inf else seconds


class _Closing(Middleware):
    """A worker ends without what is registered for the exit of its process: its connections say good-bye."""

    def __init__(self, sender: QueueSender) -> None:
        self._sender = sender

    def after_worker_shutdown(self, broker: Broker, worker: Any) -> None:
        with suppress(Exception):
            self._sender.close()


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
