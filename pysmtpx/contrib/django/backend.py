"""The backend that sends over a pool."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, TypeGuard, Unpack, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends import smtp

from ...errors import InputError, SmtpError, UsageError
from ...frames import conceals_settings
from ...options import spelled_out
from ...outcome import Outcome
from ...pool import SmtpPool
from ...pooling.selection import again
from ...pooling.tries import is_of_message
from ...route import Route
from ...server import Server
from ...wire.envelope import MailObject
from ...wire.limits import Stage
from ..pools import shared_pool
from ..smtplib_errors import joined
from .message import mail_object
from .options import (
    DJANGO,
    OWN_SETTING,
    BackendOptions,
    Options,
    known_alias,
    mailer,
    own_options,
    sensitive_variables,
    wrong,
)
from .sending import Result, Sending

_OF_A_MESSAGE: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)


class EmailBackend(Sending, smtp.EmailBackend):  # type: ignore[misc]
    """Sends by a pool that every thread of the process and every backend with the same options share.

    The arguments are those of Django's own SMTP backend, by default the
    ``EMAIL_*`` settings; ``options`` are those of a ``Server`` and an
    ``SmtpPool``, by default the dict ``PYSMTPX`` of the settings. With ``alias``
    all of them come from ``MAILERS``, and no other setting is read.

    Raises ``ImproperlyConfigured`` for what cannot be right; with ``alias`` that
    is an ``InvalidMailer``.
    """

    @conceals_settings(ImproperlyConfigured)
    @sensitive_variables("password", "own", "rest", "options")
    @spelled_out(BackendOptions)
    def __init__(
        self,
        host: str | Sequence[str] | None = None,
        port: int | str | None = None,
        username: str | None = None,
        password: str | None = None,
        use_tls: bool | None = None,
        fail_silently: bool = False,
        use_ssl: bool | None = None,
        timeout: float | None = None,
        ssl_keyfile: str | None = None,
        ssl_certfile: str | None = None,
        *,
        alias: str | None = None,
        **options: Unpack[BackendOptions],
    ) -> None:
        alias, rest = known_alias(alias), {**options}
        own = own_options(rest, BackendOptions, alias, OWN_SETTING)
        if own.get("servers") and host is None and alias is not None:
            host = "localhost"  # Django demands one; each of the servers has its own
        try:
            super().__init__(
                *(host, port, username, password, use_tls, fail_silently, use_ssl, timeout),
                *(ssl_keyfile, ssl_certfile),
                alias=alias,  # also where it is None: Django 6.1 warns of a backend that is made without
                **rest,
            )
        except ValueError as error:
            raise wrong(str(error), alias) from None
        self.alias = alias
        self.options: Options = Options({name: getattr(self, name) for name in DJANGO} | own, alias)
        self.connection: SmtpPool | None = None
        """The pool, while this backend is open."""
        _ = self.pool  # says now what is wrong with the options

    @property
    def pool(self) -> SmtpPool:
        """The shared pool; it opens connections when they are needed, and keeps them."""
        return shared_pool(self.options.key, self.options.pool)

    def open(self) -> bool | None:
        """Make sure that the server can be reached and takes our password.

        True where this backend was not open, False where it was, None where
        that failed and ``fail_silently`` is set. A warm pool is not asked. There
        is no need to call it: sending needs no open backend.
        """
        if self.connection is not None:
            return False
        pool = self.pool
        try:
            if not pool.stats().connections:
                with pool.connection():
                    pass
        except SmtpError as caught:
            error = joined(caught)
            if self.fail_silently and self._is_ours(error):
                return None
            raise error from caught.__cause__
        self.connection = pool
        return True

    def close(self) -> None:
        """Nothing but the counterpart of ``open``: the pool keeps its connections for the next one."""
        self.connection = None

    def _send_each(self, messages: Sequence[Any]) -> Generator[tuple[Any, Result], None, None]:
        waiting = deque(messages)
        one_by_one = len(messages) == 1
        while waiting:
            # Workers wait for a server that is away. Somebody waits for us, so one message tries it first.
            if not one_by_one and self.pool.stats().connections:
                one_by_one = yield from self._send_many(waiting)
                continue
            message = waiting.popleft()
            result = self._send(message)
            yield message, result
            if self._is_away(result):
                yield from ((each, _unsent(result, each)) for each in waiting)
                return

    def _send_many(self, waiting: deque[Any]) -> Generator[tuple[Any, Result], None, bool]:
        """By the pool's workers, several at a time: all that wait, unless the server goes away meanwhile.

        True where the pool takes no more so: it was closed, or we are in a callback of it.
        """
        taken: deque[tuple[Any, Result]] = deque()
        is_away = False

        def mails() -> Iterator[MailObject]:
            while waiting and not is_away:
                message = waiting.popleft()
                try:
                    mail = mail_object(message)
                except Exception as error:
                    taken.append((message, error))
                    continue
                taken.append((message, None))
                yield mail

        is_refused = False
        try:
            many = self.pool.send_many(mails(), ordered=True, **self.options.send_options)
            with contextlib.closing(cast("Generator[Outcome, None, None]", many)) as outcomes:
                for outcome in outcomes:
                    while taken[0][1] is not None:  # it was not handed on
                        yield taken.popleft()
                    message, _ = taken.popleft()
                    if isinstance(outcome.error, UsageError):  # the pool was closed before it took this in
                        waiting.appendleft(message)
                        continue
                    result = outcome.error or outcome.result
                    yield message, result
                    is_away = self._is_away(result)
        except UsageError:
            is_refused = True
        yield from taken
        return is_refused

    def _is_away(self, result: Result) -> TypeGuard[SmtpError]:
        """Whether that is about the server, which cannot be reached or does not let us in."""
        if not isinstance(result, SmtpError) or (isinstance(result, InputError) and is_of_message(result)):
            return False
        return result.stage not in _OF_A_MESSAGE and not self.pool.stats().connections

    def _send(self, message: Any) -> Result:
        """In the calling thread; within a callback of the pool, which must not wait, by its workers."""
        pool, options = self.pool, self.options.send_options
        try:
            mail = mail_object(message)
            try:
                return pool.send(mail.sender, mail.recipients, mail.content, **options)
            except UsageError:
                if pool.closed:
                    raise
                pool.submit(mail, **options)
                return None
        except Exception as error:
            return error


def _unsent(error: SmtpError, message: Any) -> SmtpError:
    """The error of another message for one that was not tried."""
    twin = again(error, "not tried, since the server could not be used for the message before")
    twin.unsent_recipients = tuple(map(str, message.recipients()))
    return twin


def servers(alias: str | None = None) -> list[Server]:
    """The servers that the settings describe, or ``MAILERS[alias]``: for ``contrib.celery.register``, say.

    Raises what the backend raises.
    """
    return [each.server for each in routes(alias)]


def routes(alias: str | None = None) -> list[Route]:
    """The same, each with the weight and limits that ``servers`` of the settings states."""
    backend = EmailBackend() if alias is None else mailer(alias)
    if not isinstance(backend, EmailBackend):
        raise wrong("its backend is none that knows a server", alias)
    found: list[Route] = backend.options.routes()
    return found
