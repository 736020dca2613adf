"""The configuration of one Flask application, and the pool that follows from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flask import Flask
from flask.logging import default_handler

from ...cures import near_miss
from ...errors import InputError, SmtpError
from ...frames import conceals_settings
from ...net.deadline import check_timeout
from ...options import SERVER_DEFAULTS
from ...pool import SmtpPool
from ...pooling.arguments import PoolLimits
from ...records import fields
from ...retry import RetryPolicy
from ...shortening import shown
from ...wire.limits import SEND_TIMEOUT
from ..configuration import (
    Key,
    comparable,
    completed,
    from_texts,
    hooks,
    listed_routes,
    made,
    mechanisms,
    number,
    policy,
    provider,
    switch,
    word,
)
from ..pools import shared_pool

_log: Final = logging.getLogger("pysmtpx")

_HOST: Final = "127.0.0.1"
_PORT: Final = 25
_SMTPS: Final = 465
_NAMED_OTHERWISE: Final = frozenset(("protocol", "tls", "username", "password", "max_messages"))
"""Options that Flask-Mail has by other names, and ``protocol``: an application submits its mail."""
_POOL_KEYS: Final = {
    f"MAIL_{name.upper()}": name
    for name in (*PoolLimits.__annotations__, *SERVER_DEFAULTS)
    if name not in _NAMED_OTHERWISE
}
"""Settings that are arguments of ``SmtpPool``."""
_LOG_IN: Final = frozenset(("token", "auth"))
"""What logs a user in without a password."""
_OURS: Final = "MAIL_"
_CALLED_ELSEWHERE: Final = {
    "HOST": "SERVER",
    "USER": "USERNAME",
    "TLS": "USE_TLS",
    "STARTTLS": "USE_TLS",
    "SSL": "USE_SSL",
    "SSL_TLS": "USE_SSL",
    "FROM": "DEFAULT_SENDER",
}
"""What other frameworks call the same, without the prefix."""


_LIMITS_MAIL: Final = frozenset(("MAIL_REDIRECT_TO", "MAIL_ALLOW_RECIPIENTS", "MAIL_SUPPRESS_SEND"))
"""A slip in one of these sends mail to customers that was not to leave."""
_OF_OTHERS: Final = frozenset(("MAIL_SERVER_NAME",))
"""Keys of other extensions that only look like a slip in one of ours."""


class _Asked(Mapping[str, Any]):
    """The keys of an application, and which of them were asked for: there is no list of those besides."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return self._config[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)

    def warn_of_slips(self) -> None:
        """Log each key that is none of ours but for a slip, where the one that was meant is not there.

        Other extensions have keys that begin so too. Raises ``InputError`` where mail would go to those
        from whom it was to be kept.
        """
        for name in self._config.keys() - self.names - _OF_OTHERS:
            if isinstance(name, str) and name.startswith(_OURS):
                elsewhere = _CALLED_ELSEWHERE.get(name.removeprefix(_OURS))
                meant = f"{_OURS}{elsewhere}" if elsewhere else near_miss(name, self.names)
                if meant and meant not in self._config:
                    if meant in _LIMITS_MAIL:
                        raise InputError(f"the setting {shown(name)} is none of ours; did you mean {meant}?")
                    text, extra = "the setting %s is none of ours; did you mean %s?", fields(event="warning")
                    _log.warning(text, shown(name), meant, extra=extra)


_SCREENING: Final = ("redirect_to", "allow_recipients")


class MailSettings:
    """What an application's ``MAIL_`` keys say. Attributes may be changed; the next message goes by them.

    ``server``, ``port``, ``use_tls`` (STARTTLS, required), ``use_ssl`` (TLS from
    the first octet), ``username``, ``password``, ``default_sender``, ``debug``,
    ``max_emails`` (messages on one connection), ``suppress`` and
    ``ascii_attachments`` are those of Flask-Mail; the others are ours.
    """

    @conceals_settings(SmtpError)
    def __init__(
        self, config: Mapping[str, Any], *, debug: bool | int = False, testing: bool = False
    ) -> None:
        config = asked = _Asked(config)
        self.app: Flask | None = None
        self.server: str = config.get("MAIL_SERVER", _HOST)
        self.port: Any = config.get("MAIL_PORT")
        self.username: str | None = config.get("MAIL_USERNAME")
        self.password: str | None = config.get("MAIL_PASSWORD")
        self.use_tls: bool = switch("MAIL_USE_TLS", config.get("MAIL_USE_TLS", False))
        self.use_ssl: bool = switch("MAIL_USE_SSL", config.get("MAIL_USE_SSL", False))
        self.default_sender: Any = config.get("MAIL_DEFAULT_SENDER")
        self.debug: int = _level(config.get("MAIL_DEBUG", debug))
        self.max_emails: int | None = config.get("MAIL_MAX_EMAILS")
        self.suppress: bool = switch("MAIL_SUPPRESS_SEND", config.get("MAIL_SUPPRESS_SEND", testing))
        self.ascii_attachments: bool = switch(
            "MAIL_ASCII_ATTACHMENTS", config.get("MAIL_ASCII_ATTACHMENTS", False)
        )
        self.url: Any = config.get("MAIL_URL")
        self.timeout: float | None = _seconds("MAIL_TIMEOUT", config.get("MAIL_TIMEOUT", SEND_TIMEOUT))
        self.retry: RetryPolicy | Mapping[str, Any] | None = config.get("MAIL_RETRY")
        self.celery: Any = word(config.get("MAIL_CELERY"))
        self.celery_options: Mapping[str, Any] = config.get("MAIL_CELERY_OPTIONS") or {}
        if not isinstance(self.celery_options, Mapping):
            raise InputError("MAIL_CELERY_OPTIONS is a dict")
        self.oauth: str | Mapping[str, Any] | None = config.get("MAIL_OAUTH")
        self.pool_options: dict[str, Any] = made(
            "MAIL_POOL", lambda: from_texts({**(config.get("MAIL_POOL") or {})})
        )
        for key, name in _POOL_KEYS.items():
            if config.get(key) is not None:
                (value,) = from_texts({name: config[key]}).values()
                _once(key, value, self.pool_options.get(name))
                self.pool_options[name] = value
        self._check_one_keeps_mail()
        if "allow_recipients" in self.pool_options:
            self.pool_options["allow_recipients"] = comparable(self.pool_options["allow_recipients"])
        if "before_send" in self.pool_options:
            self.pool_options["before_send"] = hooks("MAIL_BEFORE_SEND", self.pool_options["before_send"])
        asked.warn_of_slips()

    def pool(self) -> SmtpPool:
        """The pool of this process for these settings. Raises ``InputError`` where they cannot be right."""
        key = Key(type(self).__name__, self._target(), self._options())
        if self.debug:
            _log_the_wire()
        return shared_pool(key, lambda: made("MAIL_POOL", self._pool))

    def task(self) -> Any:
        """The Celery task or application that takes the messages; None where they are sent from here."""
        self._check_one_keeps_mail()
        if self.celery is not True:
            return _queue(self.celery) if self.celery else None
        found = None if self.app is None else self.app.extensions.get("celery")
        if found is None:
            raise InputError('MAIL_CELERY is True, but app.extensions["celery"] holds no Celery application')
        return found

    def _check_one_keeps_mail(self) -> None:
        """A journal would be of messages that are sent from here, and with a queue there are none."""
        if self.celery and self.pool_options.get("journal") is not None:
            raise InputError("MAIL_JOURNAL and MAIL_CELERY are both set: the broker keeps the messages")

    def screening(self) -> dict[str, Any]:
        """Those by which mail does not go to everybody: for a task, whose server may not have them."""
        given: dict[str, Any] = {
            name: self.pool_options[name] for name in _SCREENING if name in self.pool_options
        }
        if not self.url:
            return given
        url = self.url if isinstance(self.url, str) else self.url[0]
        server = made("MAIL_URL", lambda: completed(url, given)).server
        return {name: getattr(server, name) for name in _SCREENING}

    def _pool(self) -> SmtpPool:
        options = self._options()
        if "auth" in options:
            options["auth"] = mechanisms(options["auth"])
        if not self.url:
            return SmtpPool(self._target(), **options)
        of_server = {name: options.pop(name) for name in SERVER_DEFAULTS if name in options}
        if isinstance(self.url, str):
            return SmtpPool(completed(self.url, of_server, is_alone=True), **options)
        return SmtpPool(listed_routes("MAIL_URL", self.url, of_server), **options)

    def _target(self) -> Any:
        if self.url is not None and not isinstance(self.url, str) and not self.url:
            raise InputError("MAIL_URL names no server; leave it out where MAIL_SERVER says it")
        if self.url:
            self._check_url_alone()
            return self.url if isinstance(self.url, str) else tuple(self.url)
        if not self.server:
            raise InputError("MAIL_SERVER names no server")
        if "://" in self.server:
            raise InputError("MAIL_SERVER is a host; a URL goes into MAIL_URL")
        return self.server

    def _check_url_alone(self) -> None:
        """Whoever sets the place of a server twice expects something of both."""
        said = {
            "MAIL_SERVER": self.server and self.server != _HOST,
            "MAIL_PORT": self.port,
            "MAIL_USE_TLS": self.use_tls,
            "MAIL_USE_SSL": self.use_ssl,
        }
        if beside := [name for name, is_said in said.items() if is_said]:
            raise InputError(
                f"{' and '.join(beside)} beside MAIL_URL: a URL says host, port and TLS itself: smtps:// is"
                " TLS from the first octet, smtp://mail.example.org:587 is STARTTLS"
            )

    def _options(self) -> dict[str, Any]:
        options = {} if self.url else self._place()
        if self.max_emails:
            most = _number("MAIL_MAX_EMAILS", self.max_emails)
            _once("MAIL_MAX_EMAILS", most, self.pool_options.get("max_messages"))
            options["max_messages"] = most or None
        if self.retry is not None:
            options["retry"] = policy("MAIL_RETRY", self.retry)
        # Secrets come last: error pages show what is in a frame.
        if self.oauth:
            if "token" in self.pool_options:
                raise InputError("MAIL_OAUTH and MAIL_TOKEN are both set: which one is meant?")
            if self.password:
                raise InputError("MAIL_OAUTH and MAIL_PASSWORD are both set: which one is meant?")
            options["token"] = provider(self.oauth, self.username)
            if self.username:  # else it stands in the URL
                options["username"] = self.username
        elif self.username and (self.password or not _LOG_IN.isdisjoint(self.pool_options)):
            options["username"] = self.username
            if self.password:
                options["password"] = self.password
        return options | self.pool_options

    def _place(self) -> dict[str, Any]:
        if self.use_tls and self.use_ssl:
            raise InputError("MAIL_USE_TLS is STARTTLS and MAIL_USE_SSL is TLS from the first octet: set one")
        if self.server.startswith("/"):
            return {}  # a UNIX socket: no port, and no TLS
        default = _SMTPS if self.use_ssl else _PORT
        port = _number("MAIL_PORT", self.port) if self.port else default
        if port == _SMTPS and self.use_tls:
            raise InputError(
                "port 465 takes TLS from the first octet (RFC 8314 3.3): MAIL_USE_SSL, not MAIL_USE_TLS"
            )
        if self.use_ssl or port == _SMTPS:
            return {"port": port, "tls": "implicit"}
        return {"port": port, "tls": "starttls" if self.use_tls else "none"}


def _level(value: Any) -> int:
    """What MAIL_DEBUG says: True or False, or a level, which may be texts."""
    level = number(int, value)
    if isinstance(level, str):
        level = switch("MAIL_DEBUG", level)
    if level is not None and not isinstance(level, int):
        raise InputError("MAIL_DEBUG is True or False, or a whole number")
    return int(level or 0)


def _seconds(name: str, value: Any) -> float | None:
    seconds: float | None = number(float, value)
    try:
        check_timeout(seconds)
    except InputError as error:
        raise error.at(name) from None
    return seconds


def _once(key: str, value: Any, in_pool: Any) -> None:
    """Refuse what ``MAIL_POOL`` says otherwise."""
    if in_pool is not None and in_pool != value:
        raise InputError(f"{key} and MAIL_POOL say two things: leave one out")


def _queue(value: Any) -> Any:
    from ..celery.registration import is_target  # only who enqueues needs it

    if not is_target(value):
        raise InputError(
            "MAIL_CELERY is a Celery application, or a task of one, or True for the one of Flask's"
            " extensions; options go into MAIL_CELERY_OPTIONS"
        )
    return value


def _number(name: str, value: Any) -> int:
    """Whole numbers come as text from the environment."""
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError(f"{name} is a whole number")
    return int(text)


def _log_the_wire() -> None:
    """Show commands and replies, of content only the size and of secrets nothing."""
    log = logging.getLogger("pysmtpx.wire")
    log.setLevel(logging.DEBUG)
    if not logging.getLogger().handlers:
        log.addHandler(default_handler)
