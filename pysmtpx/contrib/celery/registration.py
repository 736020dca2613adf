"""The task on a Celery app, and what hands it a message."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Unpack

from celery import Celery, Task, signals
from celery.local import Proxy
from celery.result import AsyncResult
from kombu.messaging import Producer

from ...cures import near_miss
from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...message import AnyMessage
from ...options import UnknownOption, spelled_out
from ...outgoing import Allowed
from ...payload import MAX_SIZE
from ...pooling.arguments import POOL_DEFAULTS, PoolOptions, parted
from ...pooling.job import Envelope
from ...retry import RetryPolicy
from ...shortening import shown
from ...wire.envelope import MailObject
from ...wire.limits import SEND_TIMEOUT
from ...wire.params import MailFromParams, RcptParams
from ..configuration import arguments
from ..queueing.attempt import DEFAULT_RETRY, QueueSender, Servers
from ..queueing.signing import Keys
from ..queueing.submitting import submitted
from ..queueing.tries import SendFailed
from .task import MailTask, keys_of

_OF_CELERY: Final = frozenset(
    {
        *arguments(Task.apply_async),
        *arguments(Celery.send_task),
        *arguments(Producer.publish),
        *("queue", "exchange_type", "delivery_mode", "ignore_result", "argsrepr", "kwargsrepr"),
    }
)
"""What a call of a task takes. It takes anything else too, and sends it on."""
_OF_A_TASK: Final = frozenset({*vars(Task), "base", "filter", "lazy", "options", "pydantic", "shared"})

_tasks: Final[weakref.WeakKeyDictionary[Any, dict[str, MailTask]]] = weakref.WeakKeyDictionary()
"""By app and by the name of the task."""


@conceals_settings(SmtpError)
def enqueue(
    task_or_app: Any,
    message: AnyMessage | MailObject,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_params: MailFromParams | None = None,
    rcpt_params: RcptParams = None,
    all_or_nothing: bool = False,
    allow_long_lines: bool = False,
    name: str = "pysmtpx.send",
    queue: str | None = None,
    max_size: int | None = None,
    signing_keys: Any = None,
    redirect_to: str | Sequence[str] | None = None,
    allow_recipients: Allowed | None = None,
    **options: Any,
) -> AsyncResult:
    """Hand a message to the task that sends it, and return at once.

    ``task_or_app`` is what ``register`` returned, or the Celery app: then the
    task is the one called ``name``, which only the workers need to know.
    ``message`` is an ``email`` message, the octets or file of one, or a
    ``MailObject``. The envelope comes from its header section where it is not
    given. The message is complete before it leaves: every try sends the same
    Date and Message-ID, and Bcc is gone. ``queue``, ``max_size`` and
    ``signing_keys`` are those of ``register`` where they are not given;
    ``options`` are those of ``apply_async``. Content over ``max_size`` octets is
    refused. With signing keys the call carries a signature of the first.
    ``redirect_to`` and ``allow_recipients`` are those of ``Server``; those of the
    task's own server hold besides.

    Raises ``InputError`` (``MessageTooLarge`` for the size) and
    ``NotSupportedError`` for a message that could not be sent, before anything
    goes to the broker; what Celery raises where the broker does not answer.
    """
    signing_keys = Keys.of(signing_keys)  # from here on nobody sees them
    _refuse_slips(options, _OF_CELERY, arguments(enqueue))
    if not is_target(task_or_app):
        raise InputError("messages go to a task or an application of Celery's")
    is_app = isinstance(task_or_app, Celery)
    app = _own(task_or_app if is_app else task_or_app.app)
    name = name if is_app else task_or_app.name
    mail_task = _tasks.get(app, {}).get(name)
    if max_size is None:
        max_size = MAX_SIZE if mail_task is None else mail_task.sender.max_size
    keys = signing_keys or (keys_of(app) if mail_task is None else mail_task.keys(app))
    kwargs, shown_as = submitted(
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
    # Celery would show the beginning of the message in its logs, events and headers.
    options.setdefault("kwargsrepr", shown_as)
    queue = queue or (None if mail_task is None else mail_task.queue)
    if queue is not None:
        options["queue"] = queue
    if is_app and mail_task is None:
        return app.send_task(name, kwargs=kwargs, **options)
    task = app.tasks[name] if is_app else task_or_app
    return task.apply_async(kwargs=kwargs, **options)


@conceals_settings(SmtpError)
@spelled_out(PoolOptions, POOL_DEFAULTS)
def register(
    app: Any,
    server: Servers,
    *,
    name: str = "pysmtpx.send",
    queue: str | None = None,
    rate_limit: str | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
    timeout: float | None = SEND_TIMEOUT,
    resend_redelivered: bool = True,
    on_outcome: Callable[[Mapping[str, Any]], None] | None = None,
    task_options: Mapping[str, Any] | None = None,
    max_size: int = MAX_SIZE,
    signing_keys: Any = None,
    **pool_options: Unpack[PoolOptions],
) -> Any:
    """Put a task that sends mail on a Celery app, and return it.

    ``server`` is what ``SmtpPool`` takes, or a function without arguments that
    returns it, or the name of one as ``"package.module:function"``: it is
    called in the worker process, so secrets need not be known before.
    ``pool_options`` are those of ``SmtpPool``: each worker process has one pool
    for each registered task, made at its first message. ``journal`` is the path
    of a file, one for all workers of a machine, or the URL of a PostgreSQL: what became of each recipient is
    recorded there, and looked up before a message is sent, so that one that is
    handed out twice is not sent twice.

    ``queue`` is where ``enqueue`` puts messages. ``rate_limit`` is Celery's, for
    each worker; ``rate`` of the pool is for each process. ``timeout`` is in
    seconds, for one try; a time limit of the task shortens it, so that the
    outcome is known before Celery ends the process.

    ``retry`` decides what is tried again, by Celery's own retry, for those
    recipients who are still owed the message. The pool itself makes one try, or
    one at each of several servers for what a server refuses for its own sake
    (``move_on`` of ``retry``).

    The task returns a report as a dict, see ``docs/celery.md``. Where nobody
    accepted the message, or somebody perhaps has it, it raises ``SendFailed``,
    which has the report. ``on_outcome`` is called with it in the worker, in
    both cases; what it raises is logged and changes nothing.

    The task acknowledges late, and a message whose process was lost is
    delivered to a worker again: it is sent at least once, unless there is a
    ``journal``.
    ``resend_redelivered=False`` reports such a message as unknown instead of
    sending it. ``task_options`` are further options of ``app.task``.

    The worker refuses content over ``max_size`` octets, as ``enqueue`` does.
    With ``signing_keys`` (text or octets of 16 octets at least, or a list; the
    first signs, each verifies) it refuses what ``enqueue`` did not sign by one
    of them. Where they are not given they are those of the setting
    ``pysmtpx_signing_keys`` of the app, if it has that.

    Raises ``InputError`` for what cannot be right, and for a second task of
    this name.
    """
    parted(
        pool_options, *arguments(register)
    )  # says now what is none, also where the server is not known yet
    _refuse_slips(task_options or {}, _OF_A_TASK)
    mail_task = MailTask(
        own_keys=Keys.of(signing_keys),
        sender=QueueSender(
            server=server,
            policy=retry,
            timeout=timeout,
            on_outcome=on_outcome,
            max_size=max_size,
            pool_options=pool_options,
        ),
        queue=queue,
        resend_redelivered=resend_redelivered,
    )
    del server, pool_options, signing_keys
    known = _tasks.setdefault(_own(app), {})
    if name in known:
        raise InputError(f"the app has a task {name!r} already: give another name")
    known[name] = mail_task

    def send(
        self: Any,
        payload: Mapping[str, Any],
        account: Mapping[str, Any] | None = None,
        signature: str | None = None,
    ) -> dict[str, Any]:
        return mail_task.run(self, payload, account, signature)

    options: dict[str, Any] = {
        "acks_late": True,
        "reject_on_worker_lost": True,
        "max_retries": None,  # the policy counts
        "rate_limit": rate_limit,
        "throws": (SendFailed,),
        "shared": False,
        **(task_options or {}),
    }
    return app.task(bind=True, name=name, **options)(send)


def _refuse_slips(
    options: Mapping[str, Any], known: frozenset[str], ours: frozenset[str] = frozenset()
) -> None:
    """Celery takes every option, so that a slip, of ``all_or_nothing`` say, would pass unseen.

    Raises ``InputError`` for a name that is one of these but for a slip; others may be somebody's own.
    """
    for name in options.keys() - known:
        if meant := near_miss(str(name), known | ours):
            raise UnknownOption(f"no such option: {shown(str(name))}; did you mean {meant}?")


def is_target(value: object) -> bool:
    """Whether ``enqueue`` takes it: an application of Celery's, or a task."""
    return isinstance(value, Celery | Task)


def _own(app: Any) -> Any:
    """The app itself, where this is ``celery.current_app``, which stands for another one in each thread."""
    return app._get_current_object() if isinstance(app, Proxy) else app


def _close_pools(**_: Any) -> None:
    """A worker or one of its processes ends, and runs nothing that is registered for its exit."""
    for tasks in list(_tasks.values()):
        for mail_task in tasks.values():
            mail_task.sender.close()


for _signal in (signals.worker_process_shutdown, signals.worker_shutdown):
    _signal.connect(_close_pools, weak=False, dispatch_uid="pysmtpx.contrib.celery")
