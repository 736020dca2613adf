"""The backend that queues messages for a Celery task."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend

from ...errors import SmtpError
from ...extras import needs
from ...frames import conceals_settings
from ...options import spelled_out
from ...outgoing import Allowed, Outgoing
from ..queueing.signing import Keys
from .message import mail_object
from .options import OWN_SETTING, imported, known_alias, own_options, right, sensitive_variables, wrong
from .sending import Result, Sending

SETTING: Final = "PYSMTPX_CELERY"
"""The setting that holds the options where there is no ``MAILERS``: a dict."""
_SCREENING: Final = ("redirect_to", "allow_recipients")


class CeleryOptions(TypedDict, total=False):
    """The options of a ``CeleryEmailBackend``, which says what they mean."""

    app: Any
    task: str | None
    queue: str | None
    signing_keys: Any
    apply_async: Mapping[str, Any] | None
    redirect_to: str | Sequence[str] | None
    allow_recipients: Allowed | None


class CeleryEmailBackend(Sending, BaseEmailBackend):  # type: ignore[misc]
    """Queues each message for a task that ``pysmtpx.contrib.celery.register`` made, and does not wait.

    ``app`` is a Celery application or its dotted path (default: the current
    one), ``task`` the name of the task, ``queue`` where to put it,
    ``signing_keys``, ``redirect_to`` and ``allow_recipients`` those of ``enqueue``
    (the last two by default those of ``PYSMTPX``), and ``apply_async`` a dict of more
    keywords of it. By default they come from the dict ``PYSMTPX_CELERY`` of the settings, with ``alias`` from
    ``MAILERS``.

    ``send_messages`` returns how many were queued; each message then has
    ``send_task`` (Celery's ``AsyncResult``). ``message_failed`` tells of one that
    could not be queued; what becomes of the others is told in the worker.
    """

    @conceals_settings(ImproperlyConfigured)
    @sensitive_variables("own", "rest", "options")
    @spelled_out(CeleryOptions)
    def __init__(
        self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[CeleryOptions]
    ) -> None:
        alias, rest = known_alias(alias), {**options}
        own = own_options(rest, CeleryOptions, alias, SETTING)
        super().__init__(alias=alias, **({} if alias is None else rest))
        self.alias = alias
        self.fail_silently = fail_silently
        keys = right(alias, lambda: Keys.of(own.get("signing_keys")))
        others = {} if alias is not None else _of_the_other_backend()
        if others.get("journal") is not None:
            raise wrong(
                f"{OWN_SETTING} has a journal, and the broker keeps the messages: leave it out", alias
            )
        screening = {**others, **own}
        self.options: dict[str, Any] = {
            **own,
            "signing_keys": keys,
            **{name: screening.get(name) for name in _SCREENING},
        }
        right(alias, lambda: Outgoing.of(None, *(self.options[name] for name in _SCREENING)))

    def _is_ours(self, error: Exception | None) -> bool:
        from kombu.exceptions import KombuError

        is_of_broker = isinstance(error, KombuError | ConnectionError | TimeoutError)
        return super()._is_ours(error) if isinstance(error, SmtpError) else is_of_broker

    def _send_each(self, messages: Sequence[Any]) -> Generator[tuple[Any, Result], None, None]:
        from .. import celery  # only who uses it needs Celery

        app = celery_app(self.options.get("app"), self.alias)
        keywords = dict(self.options.get("apply_async") or {})
        keywords |= {name: self.options.get(name) for name in ("queue", "signing_keys", *_SCREENING)}
        if self.options.get("task"):
            keywords["name"] = self.options["task"]
        for message in messages:
            message.send_task = None
            try:
                message.send_task = celery.enqueue(app, mail_object(message), **keywords)
            except Exception as error:
                yield message, error
            else:
                yield message, None


def _of_the_other_backend() -> Mapping[str, Any]:
    """The options of the backend that sends: whom they keep mail from gets none by way of a queue."""
    values = getattr(settings, OWN_SETTING, {})
    return values if isinstance(values, Mapping) else {}


def celery_app(app: Any, alias: str | None = None) -> Any:
    """The Celery application that an option names, or the current one.

    Raises what ``wrong`` makes, and ``MissingExtra``.
    """
    current_app = needs("celery", "celery").current_app  # only who uses it needs Celery
    from ..celery.registration import is_target

    try:
        found = current_app if app is None else imported("app", app)
    except SmtpError as error:
        raise wrong(str(error), alias) from error
    if not is_target(found):
        raise wrong("app is a Celery application, or the dotted path of one", alias)
    return found
