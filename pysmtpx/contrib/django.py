"""Django's mail over a pool: name a backend of this module in ``EMAIL_BACKEND`` or ``MAILERS``.

With ``"pysmtpx.contrib.django"`` in ``INSTALLED_APPS``, ``manage.py check`` looks
at the settings too. Signals: ``message_sent``, ``recipient_refused``,
``message_failed``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeGuard

from django.apps import AppConfig
from django.core import checks, mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends import smtp
from django.core.mail.backends.base import BaseEmailBackend
from django.views.decorators.debug import sensitive_variables

from ..errors import InputError, SmtpError
from ..frames import conceals_settings
from ..pool import SmtpPool
from ..pooling.shelf import again
from ..server import Server
from ..wire.limits import Stage
from ..wire.result import SendResult
from .django_checks import check_celery, check_smtp
from .django_message import draft
from .django_options import (
    DJANGO,
    OWN,
    OWN_SETTING,
    Options,
    backends,
    celery_app,
    mailer,
    own_settings,
    refuse_unknown,
    signing_keys,
    wrong,
)
from .django_sending import Fate, Sending
from .django_signals import message_failed, message_sent, recipient_refused
from .pools import shared_pool
from .smtplib_errors import joined

__all__ = [
    "CeleryEmailBackend",
    "EmailBackend",
    "MailConfig",
    "message_failed",
    "message_sent",
    "recipient_refused",
    "servers",
]

_OF_A_MESSAGE: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)

CELERY_SETTING: Final = "PYSMTPX_CELERY"
_CELERY: Final = frozenset({"app", "task", "queue", "signing_keys", "apply_async"})


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


class CeleryEmailBackend(Sending, BaseEmailBackend):  # type: ignore[misc]
    """Queues each message for a task that ``pysmtpx.contrib.celery.register`` made, and does not wait.

    ``app`` is a Celery application or its dotted path (default: the current
    one), ``task`` the name of the task, ``queue`` where to put it,
    ``signing_keys`` those of ``enqueue``, and ``apply_async`` a dict of more
    keywords of it. By default they come from the dict ``PYSMTPX_CELERY`` of the settings, with ``alias`` from
    ``MAILERS``.

    ``send_messages`` returns how many were queued; each message then has
    ``send_task`` (Celery's ``AsyncResult``). ``message_failed`` tells of one that
    could not be queued; what becomes of the others is told in the worker.
    """

    @conceals_settings(ImproperlyConfigured)
    @sensitive_variables("given", "options")  # type: ignore[untyped-decorator]
    def __init__(self, fail_silently: bool = False, *, alias: str | None = None, **options: Any) -> None:
        given = {name: options.pop(name) for name in _CELERY & options.keys()}
        alias = alias if hasattr(mail, "mailers") else None
        refuse_unknown(options, alias)
        super().__init__(alias=alias, **({} if alias is None else options))
        self.alias = alias
        self.fail_silently = fail_silently
        self.options = given if self.alias is not None else own_settings(CELERY_SETTING, _CELERY) | given
        self.options["signing_keys"] = signing_keys(self.options.get("signing_keys"), alias)

    def _is_ours(self, error: Exception | None) -> bool:
        from kombu.exceptions import KombuError

        is_of_broker = isinstance(error, KombuError | ConnectionError | TimeoutError)
        return super()._is_ours(error) if isinstance(error, SmtpError) else is_of_broker

    def _fates(self, messages: Sequence[Any]) -> Generator[tuple[Any, Fate], None, None]:
        from . import celery  # only who uses it needs Celery

        app = celery_app(self.options.get("app"), self.alias)
        keywords = dict(self.options.get("apply_async") or {})
        keywords |= {name: self.options.get(name) for name in ("queue", "signing_keys")}
        if self.options.get("task"):
            keywords["name"] = self.options["task"]
        for message in messages:
            message.send_task = None
            try:
                content, sender, recipients = draft(message)
                message.send_task = celery.enqueue(
                    app, content, sender=sender, recipients=recipients, **keywords
                )
            except Exception as error:
                yield message, error
            else:
                yield message, None


class MailConfig(AppConfig):  # type: ignore[misc]
    """For ``INSTALLED_APPS`` where another app has the label ``django`` already."""

    name = "pysmtpx.contrib.django"
    label = "pysmtpx"
    verbose_name = "Mail by pysmtpx"


def servers(alias: str | None = None) -> list[Server]:
    """The servers that the settings describe, or ``MAILERS[alias]``: for ``contrib.celery.register``, say.

    Raises what the backend raises.
    """
    backend = EmailBackend() if alias is None else mailer(alias)
    if not isinstance(backend, EmailBackend):
        raise wrong("its backend is none that knows a server", alias)
    found: list[Server] = backend.options.servers()
    return found


def check_mail(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """What is wrong with the settings of this module's backends; ``manage.py check`` calls it."""
    found: list[checks.CheckMessage] = []
    for alias, backend in backends():
        make = partial(_make, backend, alias)
        if issubclass(backend, EmailBackend):
            found += check_smtp(make, alias)
        elif issubclass(backend, CeleryEmailBackend):
            found += check_celery(make, alias)
    return found


def _make(backend: type, alias: str | None) -> Any:
    return backend() if alias is None else mailer(alias)


checks.register("mail")(check_mail)
