"""``Mail``, and the ``Connection`` over which it sends: to the pool of the application.

Flask-Mail's names are written anew here and not inherited. That was tried: of a
thousand lines it spares about ninety, since all that reads or writes a field
has to differ, and the constructor of its ``Message`` asks a resolver. Its import
changes how the whole process writes UTF-8, so each installation would pay for
what it spares us.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.charset import CHARSETS
from importlib import import_module
from typing import Any, Self, cast

import blinker
from flask import Flask, current_app

from ...errors import InputError, MechanismUnavailable, SmtpError
from ...frames import conceals_settings
from ...outcome import Outcome
from ...pool import SmtpPool
from ...wire.address import ReversePath
from ..smtplib_errors import smtplib_errors
from . import esmtp_options
from .addresses import AnyAddress, mailbox
from .command import check_mail
from .message import Message, takes
from .settings import MailSettings

signals = blinker.Namespace()
email_dispatched = signals.signal(
    "email-dispatched",
    doc="Sent with ``message`` after a message was sent, or would have been but for MAIL_SUPPRESS_SEND.",
)


def _of_flask_mail() -> tuple[type[Exception], ...]:
    """Flask-Mail's own ``BadHeaderError``, which existing handlers name; none where it is not installed."""
    before = dict(CHARSETS)
    try:
        theirs = import_module("flask_mail").BadHeaderError
    except Exception:  # also where it does not fit this Flask
        return ()
    finally:
        # It changes how the whole process writes UTF-8. That is for those who import it, not for us.
        CHARSETS.update(before)
    return (theirs,)


_OF_FLASK_MAIL: Any = _of_flask_mail()


class BadHeaderError(InputError, *_OF_FLASK_MAIL):  # type: ignore[misc]
    """A subject, an address or an extra field holds a line end: the rest would be a field of its own.

    Where Flask-Mail is installed this is also its ``BadHeaderError``.
    """


class Connection:
    """Where messages go for the length of a ``with`` block: to the pool of the application.

    ``host`` is that pool, or None where nothing is sent. ``num_emails`` counts
    messages, and begins anew after ``MAIL_MAX_EMAILS``.
    """

    def __init__(self, mail: _State) -> None:
        self.mail = mail
        self.host: SmtpPool | None = None
        self.num_emails: int = 0

    def __enter__(self) -> Self:
        self.num_emails = 0
        with smtplib_errors():
            self.host = None if self.mail.suppress or self.mail.celery else self.configure_host()
        return self

    def __exit__(self, *_: object) -> None:
        """The pool keeps its connections."""

    def configure_host(self) -> SmtpPool:
        """The pool; a subclass may return another. Raises ``InputError`` for settings that make none."""
        return self.mail.pool()

    def send(self, message: Message, envelope_from: AnyAddress | None = None) -> None:
        """Send a message; ``message.send_result`` then tells who accepted it.

        ``envelope_from`` is the reverse-path where that is not the sender;
        ``"<>"`` is the null reverse-path. It returns where at least one
        recipient has the message, or with MAIL_CELERY where the queue has it;
        where that fails, ``message.send_error`` is what is raised.

        Raises ``AssertionError`` without sender or recipients, ``BadHeaderError``
        for a line end in a header field, and what ``SmtpPool.send_message``
        raises, as an object that is also an ``smtplib.SMTPException``.

        Extensions may hand in a message of Flask-Mail's own class: it is sent
        as one of ours.
        """
        if not message.send_to:
            raise AssertionError("no recipients have been added")
        if not message.sender:
            raise AssertionError("the message has no sender, and there is no MAIL_DEFAULT_SENDER")
        ours = Message.like(message)
        if ours.has_bad_headers():
            raise BadHeaderError("a header field holds a line end: the rest would be a field of its own")
        if message.date is None:
            message.date = ours.date = time.time()
        self._account(message, ours, envelope_from or message.sender)
        app = current_app._get_current_object() if current_app else self.mail.app  # type: ignore[attr-defined]
        email_dispatched.send(app, message=message)
        self.num_emails += 1
        if self.num_emails == self.mail.max_emails:
            self.num_emails = 0

    @takes(Message)
    def send_message(self, *args: Any, **kwargs: Any) -> None:
        """Send a ``Message`` of these arguments."""
        self.send(Message(*args, **kwargs))

    def _account(self, message: Message, ours: Message, sender: AnyAddress) -> None:
        message.send_result = message.send_error = message.send_task = None
        try:
            if not self.mail.suppress:
                self._deliver(message, ours, sender)
        except Exception as error:
            message.send_error = error
            if isinstance(error, SmtpError):
                message.send_result = Outcome.of(cast(Any, message), error).result
            if isinstance(error, MechanismUnavailable) and not (self.mail.use_tls or self.mail.use_ssl):
                error.add_note(
                    "set MAIL_USE_TLS or MAIL_USE_SSL; or MAIL_INSECURE_AUTH, where the line is safe"
                )
            raise

    def _deliver(self, message: Message, ours: Message, sender: AnyAddress) -> None:
        with smtplib_errors(str(sender)):
            envelope = _envelope(ours, sender)
            task = self.mail.task()
            if task is not None:
                from ..celery import enqueue  # only who enqueues needs it

                options = {**self.mail.screening(), **self.mail.celery_options}
                message.send_task = enqueue(task, ours._message(), **envelope, **options)
                return
            if self.host is None or self.host.closed is True:  # one that nobody used for long may be
                self.host = self.configure_host()
            message.send_result = self.host.send_message(
                ours._message(), timeout=self.mail.timeout, **envelope
            )


class _Sender:
    """What ``Mail`` and the settings of an application can both do."""

    app: Flask | None = None

    def send(self, message: Message) -> None:
        """Send a message, unless MAIL_SUPPRESS_SEND says otherwise: see ``Connection.send``."""
        with self.connect() as connection:
            message.send(connection)

    @takes(Message)
    def send_message(self, *args: Any, **kwargs: Any) -> None:
        """Send a ``Message`` of these arguments."""
        self.send(Message(*args, **kwargs))

    def connect(self) -> Connection:
        """A context manager for several messages.

        Raises ``RuntimeError`` where the application has no ``Mail``, and where there is none.
        """
        app = self.app or current_app
        if "mail" not in app.extensions:
            raise RuntimeError("the application was not set up: Mail(app), or mail.init_app(app)")
        return Connection(app.extensions["mail"])

    @contextmanager
    def record_messages(self) -> Iterator[list[Message]]:
        """The messages that are dispatched within the block, in a list; for tests."""
        outbox: list[Message] = []

        def record(app: Flask, message: Message) -> None:
            outbox.append(message)

        with email_dispatched.connected_to(record):
            yield outbox


class _State(_Sender, MailSettings):
    """What ``app.extensions["mail"]`` holds."""


class Mail(_Sender):
    """Mail for an application, or with ``init_app`` for several.

    Attributes are those of the application's settings, where it was given here.
    """

    state: _State | None = None

    def __init__(self, app: Flask | None = None) -> None:
        self.app = app
        if app is not None:
            self.state = self.init_app(app)

    def init_app(self, app: Flask) -> _State:
        """Make an application send by its ``MAIL_`` keys, and give it ``flask check-mail``."""
        state = self.init_mail(app.config, app.debug, app.testing)
        state.app = app
        app.extensions["mail"] = state
        if check_mail.name not in app.cli.commands:
            app.cli.add_command(check_mail)
        return state

    @conceals_settings(SmtpError)
    def init_mail(
        self, config: Mapping[str, Any], debug: bool | int = False, testing: bool = False
    ) -> _State:
        """The settings that these keys make, of no application yet."""
        return _State(config, debug=debug, testing=testing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name, None)


def _envelope(message: Message, sender: AnyAddress) -> dict[str, Any]:
    recipients = message.envelope_recipients()
    params = esmtp_options.rcpt_params(message.rcpt_options or ())
    return {
        "sender": ReversePath("" if sender == "<>" else mailbox(sender).address, strict=False),
        "recipients": recipients,
        "mail_params": esmtp_options.mail_params(message.mail_options or ()),
        "rcpt_params": None if params is None else [params] * len(recipients),
    }
