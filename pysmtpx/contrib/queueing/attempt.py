"""One try of a queued message: plain payload and account in, the report and the next try out."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from ...errors import ConnectError, DeliveryUnknown, InputError, NotSupportedError, SmtpError
from ...extras import MissingExtra
from ...identifiers import content_message_id
from ...journal.store import JournalError
from ...outgoing import withheld_of
from ...payload import Submission, pack, unpack
from ...pool import SmtpPool
from ...pooling.arguments import PoolOptions
from ...pooling.replies import rest_after
from ...pooling.tries import is_of_message
from ...records import fields
from ...retry import RetryPolicy
from ...route import Route
from ...server import Server
from ...values import positive
from ...wire.envelope import MailObject
from ...wire.limits import Stage
from ...wire.result import SendResult
from ..configuration import made
from ..pools import shared_pool
from .recording import Records, pause
from .tries import Account, SendFailed

_log: Final = logging.getLogger("pysmtpx")

_Address: TypeAlias = str | os.PathLike[str] | Server | Route
Servers: TypeAlias = _Address | Sequence[_Address] | Callable[[], _Address | Sequence[_Address]]
"""What a pool takes, or a function that returns it, or the name of one."""

DEFAULT_RETRY: Final = RetryPolicy(attempts=10, backoff=30.0, max_backoff=600.0, temporary=True)
"""Tries for about forty minutes: greylisting passes meanwhile, and so does a restart of the server."""

_DOTTED: Final = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
"""``package.module:function``. No host name, path or URL has this form."""


@dataclass(frozen=True, slots=True, repr=False)  # it holds the message
class Attempt:
    """What one try came to."""

    payload: object
    """That of the next try: the one that was given, or what the rules on recipients left of it."""
    account: object
    """The account of the next try, in plain values; it is one that can be read only where there is a next."""
    report: dict[str, Any]
    """What became of every recipient until now."""
    delay: float | None
    """Seconds until the next try, for those who are owed one; None: it is over."""
    reached: bool
    """Whether somebody has, or may have, the message since this try: then the try must not be made again."""
    recipients: int
    """How many the message has, for what a queue shows of it."""


@dataclass(eq=False, repr=False)  # it holds secrets, and is itself the key of its pool
class QueueSender:
    """Where the worker processes of a queue send, and how."""

    server: Servers
    policy: RetryPolicy
    timeout: float | None
    on_outcome: Callable[[Mapping[str, Any]], None] | None
    max_size: int
    pool_options: PoolOptions
    _pool: SmtpPool | None = field(default=None, init=False)
    _records: Records | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.policy, RetryPolicy):
            raise InputError("retry is a RetryPolicy")
        positive("timeout", self.timeout)
        self.pool_options = {**self.pool_options}
        journal = self.pool_options.pop("journal", None)
        if not _is_deferred(self.server):
            self._made().close(0)  # says now what is wrong with it; nothing is dialled, and no file opened
        if journal is not None:
            if self.policy.unknown:
                raise InputError("with a journal nobody in doubt is sent to again: retry has unknown=True")
            self._records = Records(journal)
            self.pool_options["journal"] = self._records.store

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
            what = error.text if isinstance(error, MissingExtra) else type(error).__name__
            text = f"no pool can be made in this process: {what}"
            raise ConnectError(text, stage=Stage.CONNECT) from error

    def _made(self) -> SmtpPool:
        resolved = [_resolved(self.server)]  # whatever that raises is none of the options' fault
        servers = len(resolved[0]) if isinstance(resolved[0], list | tuple) else 1
        # A second count inside each try would multiply with the queue's, and hold a process meanwhile: the
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
        if self._records is not None:
            self._records.close()

    # -- one try --------------------------------------------------------------------------

    def attempt(
        self,
        payload: object,
        plain: object,
        *,
        task_id: str | None,
        timeout: float | None,
        doubt: str | None = None,
    ) -> Attempt:
        """Send to those who are owed the message, once.

        ``payload`` is that of ``pack``. ``plain`` is the account of the tries
        before, None for the first one. ``task_id`` is the queue's, for the
        report. ``timeout`` is in seconds. ``doubt`` says why nobody can tell
        what became of a try that was begun before: then nothing is sent, and
        those who are owed the message are reported as unknown.

        With a journal, who has the message by what that knows of ``task_id`` is not
        sent it again, and neither is who is in doubt; ``doubt`` says nothing then.
        Where another process has the message, or the journal cannot be written,
        nothing is sent, and there is a next try that does not count.

        Raises ``InputError`` for a payload or an account that cannot be read,
        ``MessageTooLarge`` for content over ``max_size``. What the try itself
        comes to is in the result.
        """
        submission = unpack(payload, self.max_size)
        now = time.time()
        paths = submission.mail.recipients
        account = Account(paths, now) if plain is None else Account.from_plain(paths, plain)
        before = account.perhaps_delivered
        if self._records is not None:
            doubt = None  # the journal knows better
        try:
            if doubt is None and (screened := self._screened(submission, account)) is not None:
                submission, account = screened
                payload = pack(submission, sys.maxsize)
            delay = self._recorded(task_id, payload, submission, account, timeout, doubt)
            plain = account.to_plain()
        except JournalError as error:  # nothing was sent, and what was given is what the next try is given
            _log.warning("a message waits for the journal: %s", error, extra=fields(event="warning"))
            account.enter(error, self.policy, whole=submission.all_or_nothing)
            delay = pause(error)
        except SmtpError as error:  # nobody is left of them, or there is no pool or package for the journal
            told = _of_this_process(error)
            delay = account.note(told, self.policy, time.time(), whole=submission.all_or_nothing)
            plain = account.to_plain()
        return Attempt(
            payload,
            plain,
            _report(task_id, submission.mail, account),
            delay,
            reached=account.perhaps_delivered != before,
            recipients=len(submission.mail.recipients),
        )

    def _recorded(
        self,
        key: str | None,
        payload: object,
        submission: Submission,
        account: Account,
        timeout: float | None,
        doubt: str | None,
    ) -> float | None:
        """Try, and note what it came to; with a journal only those of whom that knows nothing yet.

        Raises ``JournalError`` where nobody was sent anything because of the journal.
        """
        whole = submission.all_or_nothing
        with contextlib.ExitStack() as stack:
            if self._records is not None:
                stack.enter_context(self._records.claimed(key, payload, account, whole=whole))
            if not account.owed:
                return None
            fate = self._try(submission, account, timeout, doubt)
            if isinstance(fate, JournalError) and not (fate.accepted_recipients or fate.unknown_recipients):
                raise fate
            return account.note(fate, self.policy, time.time(), whole=whole)

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

    def _try(
        self, submission: Submission, account: Account, timeout: float | None, doubt: str | None
    ) -> SendResult | SmtpError:
        mail = submission.part(account.owed)
        if doubt is not None:
            return _unknown(mail, doubt)
        try:
            return self.pool.send(
                mail.sender,
                mail.recipients,
                mail.content,
                mail_params=mail.mail_params,
                rcpt_params=mail.rcpt_params,
                timeout=timeout,
                all_or_nothing=submission.all_or_nothing,
                allow_long_lines=submission.allow_long_lines,
            )
        except SmtpError as error:
            return _of_this_process(error)
        except Exception as error:
            # A time limit of the queue, say: it strikes anywhere, and nobody can tell how far the try went.
            _log.exception("a try ended without an outcome", extra=fields(event="failed"))
            return _unknown(mail, f"the try was ended by {type(error).__name__}")

    # -- the end of it --------------------------------------------------------------------

    def finish(self, report: dict[str, Any]) -> dict[str, Any]:
        """Tell ``on_outcome`` the report of a message that has no next try, and return it.

        Raises ``SendFailed`` where nobody accepted the message, or somebody perhaps has it.
        """
        if self.on_outcome is not None:
            try:
                self.on_outcome(report)
            except Exception:
                task_id = report["task_id"]
                extra = fields(event="failed", task=task_id)
                _log.exception("on_outcome failed for task %s", task_id, extra=extra)
        if report["status"] != "accepted":
            raise SendFailed(report)
        return report


# The parts of it.


def _report(task_id: str | None, mail: MailObject, account: Account) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "message_id": content_message_id(mail.content),
        "sender": str(mail.sender),
        **account.report(mail),
    }


def _of_this_process(error: SmtpError) -> SmtpError:
    """What a process lacks another one may have, so that becomes an error of the line; any other is itself.

    It lacks an extra, say, or a file with roots, or what it reaches as the server offers no AUTH.
    """
    is_refused_here = isinstance(error, InputError | NotSupportedError) and not is_of_message(error)
    if not is_refused_here and not isinstance(error, MissingExtra):
        return error
    told = ConnectError(f"this process cannot send: {error.text}", stage=Stage.CONNECT)
    for name, value in vars(error).items():
        if name.endswith(("_recipients", "_replies")):
            setattr(told, name, value)
    told.__cause__ = error
    return told


def _is_deferred(server: object) -> bool:
    return callable(server) or (isinstance(server, str) and _DOTTED.fullmatch(server) is not None)


def _resolved(server: Any) -> Any:
    if isinstance(server, str) and _DOTTED.fullmatch(server):
        module, _, name = server.partition(":")
        server = getattr(importlib.import_module(module), name)
    return server() if callable(server) else server


def _unknown(mail: MailObject, why: str) -> DeliveryUnknown:
    error = DeliveryUnknown(why, stage=Stage.FINAL)
    error.unknown_recipients = mail.recipients
    return error
