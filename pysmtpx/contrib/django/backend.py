"""The backend that sends over a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeGuard

from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends import smtp
from django.views.decorators.debug import sensitive_variables

from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...pool import SmtpPool
from ...pooling.shelf import again
from ...server import Server
from ...wire.limits import Stage
from ...wire.result import SendResult
from ..pools import shared_pool
from ..smtplib_errors import joined
from .message import draft
from .options import DJANGO, OWN, OWN_SETTING, Options, mailer, own_settings, refuse_unknown, wrong
from .sending import Fate, Sending

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
    @sensitive_variables("password", "own", "options")  # type: ignore[untyped-decorator]
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
        **options: Any,
    ) -> None:
        own = {name: options.pop(name) for name in OWN & options.keys()}
        alias = alias if hasattr(mail, "mailers") else None  # Django 5 knows none
        refuse_unknown(options, alias)
        try:
            super().__init__(
                *(host, port, username, password, use_tls, fail_silently, use_ssl, timeout),
                *(ssl_keyfile, ssl_certfile),
                alias=alias,  # also where it is None: Django 6.1 warns of a backend that is made without
                **options,
            )
        except ValueError as error:
            raise wrong(str(error), alias) from None
        self.alias = alias
        if alias is None:
            own = own_settings(OWN_SETTING, OWN) | own
        self.options = Options({name: getattr(self, name) for name in DJANGO} | own, alias)
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

    def _fates(self, messages: Sequence[Any]) -> Generator[tuple[Any, Fate], None, None]:
        window: deque[tuple[Any, Future[SendResult]]] = deque()
        # Workers wait for a server that is away. Somebody waits for us, so one message tries it first.
        is_up = len(messages) > 1 and self.pool.stats().connections > 0
        try:
            for number, message in enumerate(messages):
                while window and not (is_up and len(window) < self.options.window()):
                    told = _first(window)
                    is_up = is_up and not self._is_away(told[1])
                    yield told
                if is_up:
                    window.append((message, self._submit(message)))
                    continue
                fate = self._send_here(message)
                yield message, fate
                if self._is_away(fate):
                    yield from ((each, _unsent(fate, each)) for each in messages[number + 1 :])
                    return
                is_up = True
            while window:
                yield _first(window)
        except BaseException as interrupt:
            # What no worker has taken is not sent, and of the rest nobody will be told.
            taken = sum(not future.cancel() for _, future in window)
            if taken:
                interrupt.add_note(f"{taken} messages of this call were under way, and may be delivered")
            raise

    def _is_away(self, fate: Fate) -> TypeGuard[SmtpError]:
        """Whether that is about the server, which cannot be reached or does not let us in."""
        if not isinstance(fate, SmtpError) or isinstance(fate, InputError) or fate.stage in _OF_A_MESSAGE:
            return False
        return not self.pool.stats().connections

    def _send_here(self, message: Any) -> Fate:
        """In the calling thread."""
        try:
            content, sender, recipients = draft(message)
            return self.pool.send_message(
                content, sender=sender, recipients=recipients, **self.options.send_options
            )
        except Exception as error:
            return error

    def _submit(self, message: Any) -> Future[SendResult]:
        """By the pool's workers: several at a time."""
        try:
            content, sender, recipients = draft(message)
            return self.pool.submit(
                content, sender=sender, recipients=recipients, **self.options.send_options
            )
        except Exception as error:
            future: Future[SendResult] = Future()
            future.set_exception(error)
            return future


def _first(window: deque[tuple[Any, Future[SendResult]]]) -> tuple[Any, Fate]:
    """Wait for the first of these, and take it out."""
    message, future = window[0]
    error = future.exception()
    window.popleft()
    if error is None:
        return message, future.result()
    if isinstance(error, Exception):
        return message, error
    raise error


def _unsent(error: SmtpError, message: Any) -> SmtpError:
    """The error of another message for one that was not tried."""
    twin = again(error, "not tried, since the server could not be used for the message before")
    twin.unsent_recipients = tuple(map(str, message.recipients()))
    return twin


def servers(alias: str | None = None) -> list[Server]:
    """The servers that the settings describe, or ``MAILERS[alias]``: for ``contrib.celery.register``, say.

    Raises what the backend raises.
    """
    backend = EmailBackend() if alias is None else mailer(alias)
    if not isinstance(backend, EmailBackend):
        raise wrong("its backend is none that knows a server", alias)
    found: list[Server] = backend.options.servers()
    return found
