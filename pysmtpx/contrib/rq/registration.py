"""The function that RQ's workers call, and what hands it a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Unpack

from rq import Queue, Retry
from rq.job import Job

from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...message import AnyMessage
from ...options import spelled_out, unknown
from ...outgoing import Allowed
from ...payload import MAX_SIZE
from ...pooling.arguments import POOL_DEFAULTS, PoolOptions, parted
from ...pooling.job import Envelope
from ...retry import RetryPolicy
from ...wire.envelope import MailObject
from ...wire.limits import SEND_TIMEOUT
from ...wire.params import MailFromParams, RcptParams
from ..configuration import arguments
from ..queueing.attempt import DEFAULT_RETRY, QueueSender, Servers
from ..queueing.submitting import submitted
from .job import MailJob

_OF_RQ: Final = arguments(Queue.enqueue_call) - {"self", "func", "args", "kwargs", "timeout"} | {
    "job_timeout"
}
"""What ``Queue.enqueue`` takes beside the arguments of the function."""
_KILLS: Final = 3
"""So often a job comes back whose process was killed; a message that kills each one is given up."""


@conceals_settings(SmtpError)
def enqueue(
    queue: Queue,
    job: MailJob | str,
    message: AnyMessage | MailObject,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_params: MailFromParams | None = None,
    rcpt_params: RcptParams = None,
    all_or_nothing: bool = False,
    allow_long_lines: bool = False,
    max_size: int | None = None,
    redirect_to: str | Sequence[str] | None = None,
    allow_recipients: Allowed | None = None,
    **options: Any,
) -> Job:
    """Put a message into a queue of RQ's, and return the job at once.

    ``job`` is what ``register`` returned, or its name, where its module is only
    at hand in the workers. ``message`` is an ``email`` message, the octets or
    file of one, or a ``MailObject``. The envelope comes from its header section
    where it is not given. The message is complete before it leaves: every try
    sends the same Date and Message-ID, and Bcc is gone. Content over
    ``max_size`` octets is refused; where that is not given it is that of
    ``register``. ``redirect_to`` and ``allow_recipients`` are those of
    ``Server``; those of the job's own server hold besides. ``options`` are those
    of ``Queue.enqueue`` (``job_timeout``, ``result_ttl``, ``depends_on`` …).
    ``retry`` among them is for a job whose process was killed, three times where
    it is not given: what failed is tried again as the policy says.

    Raises ``InputError`` (``MessageTooLarge`` for the size) and
    ``NotSupportedError`` for a message that could not be sent, before anything
    goes to Redis; what RQ raises where that does not answer.
    """
    if not options.keys() <= _OF_RQ:
        raise unknown(options, _OF_RQ | arguments(enqueue))
    if not isinstance(queue, Queue) or not isinstance(job, MailJob | str):
        raise InputError("messages go to a queue of RQ's, for what register returned, or its name")
    name = _checked_name(job) if isinstance(job, str) else job.name
    if max_size is None:
        max_size = MAX_SIZE if isinstance(job, str) else job.sender.max_size
    kwargs, shown_as = submitted(
        name,
        message,
        Envelope(sender, recipients, mail_params, rcpt_params),
        all_or_nothing=all_or_nothing,
        allow_long_lines=allow_long_lines,
        max_size=max_size,
        keys=None,
        redirect_to=redirect_to,
        allow_recipients=allow_recipients,
    )
    # RQ would show the beginning of the message in its logs.
    given = {"description": shown_as, "retry": Retry(max=_KILLS), **options}
    return queue.enqueue_call(name, kwargs=kwargs, timeout=given.pop("job_timeout", None), **given)


@conceals_settings(SmtpError)
@spelled_out(PoolOptions, POOL_DEFAULTS)
def register(
    name: str,
    server: Servers,
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    timeout: float | None = SEND_TIMEOUT,
    resend_killed: bool = False,
    on_outcome: Callable[[Mapping[str, Any]], None] | None = None,
    max_size: int = MAX_SIZE,
    **pool_options: Unpack[PoolOptions],
) -> MailJob:
    """Return the function that RQ's workers call, for a module that they can import.

    ``name`` is where they find what is returned: ``package.module.attribute``.
    ``server`` is what ``SmtpPool`` takes, or a function without arguments that
    returns it, or the name of one as ``"package.module:function"``: it is
    called in the worker, so secrets need not be known before. ``pool_options``
    are those of ``SmtpPool`` but for ``journal``.

    ``retry`` decides what is tried again, for those recipients who are still
    owed the message; RQ's scheduler does the waiting. ``timeout`` is in seconds,
    for one try; the time limit of the job shortens it. ``on_outcome`` is called
    in the worker with each final report; what it raises is logged and changes
    nothing. A worker refuses content over ``max_size`` octets.

    A message whose process was killed in a try is reported as unknown and not
    sent again; with ``resend_killed`` it is sent again, perhaps for the second time.

    Raises ``InputError`` for what cannot be right.
    """
    parted(
        pool_options, *arguments(register)
    )  # says now what is none, also where the server is not known yet
    if pool_options.get("journal") is not None:
        raise InputError("a task takes no journal: a job of RQ's knows itself in Redis what it has begun")
    made = QueueSender(
        server=server,
        policy=retry,
        timeout=timeout,
        on_outcome=on_outcome,
        max_size=max_size,
        pool_options=pool_options,
    )
    del server, pool_options
    return MailJob(_checked_name(name), made, resend_killed)


def _checked_name(name: str) -> str:
    parts = name.split(".") if isinstance(name, str) else []
    if len(parts) < 2 or not all(map(str.isidentifier, parts)):
        raise InputError(
            "the name of a job is package.module.attribute, where workers find what register returned"
        )
    return name
