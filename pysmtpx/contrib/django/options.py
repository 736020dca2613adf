"""How the Django backend is configured: its options, where they come from, and the pool they amount to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends import smtp
from django.utils.module_loading import import_string
from django.views.decorators import debug

from ...cures import unknown_name
from ...embedded import is_embedded
from ...endpoint import TlsMode
from ...errors import InputError, SmtpError
from ...journal.store import Store
from ...observing import Event
from ...options import SendOptions, ServerOptions, SessionOptions
from ...outgoing import BeforeSend
from ...pool import SmtpPool
from ...pooling.arguments import PoolLimits
from ...retry import RetryPolicy
from ...route import Route
from ...sasl.credentials import Provider
from ...server import Server
from ...shortening import shortened, shown
from ...values import positive
from ...wire.limits import CONNECT_TIMEOUT
from ..configuration import (
    Key,
    arguments,
    comparable,
    from_texts,
    hooks,
    listed_routes,
    made,
    mechanisms,
    not_imported,
    policy,
    provider,
)

Values = Mapping[str, Any]
_F = TypeVar("_F", bound=Callable[..., Any])
_Made = TypeVar("_Made")

DJANGO: Final = arguments(smtp.EmailBackend) - {"fail_silently"}
"""The options of Django's own backend, under the names of its attributes."""
OWN_SETTING: Final = "PYSMTPX"
"""The setting that holds the other options where there is no ``MAILERS``: a dict."""


class BackendOptions(SessionOptions, PoolLimits, total=False):
    """The options that Django's own backend does not have: those of a ``Server`` and an ``SmtpPool``.

    Left out are those for which Django has names, and ``protocol``: a project
    submits its mail, and delivers none. ``ssl_context``, ``before_send``,
    ``on_event``, ``retry``, ``token`` and a mechanism of the project's own in
    ``auth`` may be named by dotted paths. ``servers`` lists what ``Route.of``
    takes: URLs, which may state weight and limits, or dicts. Host, port, user,
    password and TLS of Django's are not used then.
    """

    all_or_nothing: bool
    oauth: str | Mapping[str, Any] | None
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | str | None
    before_send: BeforeSend | str | Sequence[BeforeSend | str] | None
    dial: Callable[[str, int, float], socket.socket] | str | None
    on_event: Callable[[Event], None] | str | None
    retry: RetryPolicy | Mapping[str, Any] | str | None
    servers: Sequence[str | Server | Route | Mapping[str, Any]] | None


KEEP_MAIL_IN: Final = frozenset(("redirect_to", "allow_recipients"))
"""Options without which mail goes to customers that was not to: one that nobody reads is an error."""
_OF_ONE_PLACE: Final = frozenset(("port", "tls"))
"""Options of the one server that Django knows; each of several has its own."""
_OF_SERVER: Final = BackendOptions.__annotations__.keys() & ServerOptions.__annotations__.keys()
_OF_POOL: Final = BackendOptions.__annotations__.keys() & {*PoolLimits.__annotations__, "on_event", "retry"}


class WrongOption(ImproperlyConfigured, ValueError):  # type: ignore[misc]
    """A setting that cannot be right; Django's own backend raises a ``ValueError`` for some."""


def wrong(text: str, alias: str | None) -> Exception:
    """The error for an option: ``InvalidMailer`` where the options come from ``MAILERS``."""
    if alias is None:
        return WrongOption(shortened(text))
    from django.core.mail import InvalidMailer  # Django 6.1 and later

    error: Exception = InvalidMailer(shortened(text), alias=alias)
    return error


def right(alias: str | None, make: Callable[[], _Made]) -> _Made:
    """What options amount to. Raises what ``wrong`` makes."""
    try:
        return made(OWN_SETTING if alias is None else "OPTIONS", make)
    except SmtpError as error:
        raise wrong(str(error), alias) from None  # the frames of the cause hold secrets


def known_alias(alias: str | None) -> str | None:
    """The name in ``MAILERS``; Django 5 knows none."""
    return alias if hasattr(mail, "mailers") else None


def sensitive_variables(*names: str) -> Callable[[_F], _F]:
    """Django's own decorator, which is not typed; without it error pages show these variables of a frame."""
    return debug.sensitive_variables(*names)  # type: ignore[no-any-return]


def own_options(given: dict[str, Any], known: type, alias: str | None, name: str) -> dict[str, Any]:
    """Take those of ``known`` out of the given options; without an alias they complete the setting ``name``.

    Raises what ``wrong`` makes for a setting that is no dict, and for options
    that nobody knows.
    """
    names, is_of_server = known.__annotations__, known is BackendOptions
    own = {each: given.pop(each) for each in names & given.keys()}
    if alias is None:
        left = [each for each, value in given.items() if value is not None]
    else:  # Django hands in some of its own, which begin so
        left = [each for each in given if each not in DJANGO and not each.startswith("_")]
    if left:
        theirs = DJANGO if is_of_server else ()
        told = [_by_django(each, theirs) or unknown_name(each, {*names, *DJANGO}) for each in left]
        raise wrong("; ".join(told), alias)
    if alias is not None:
        _check_unread(own, alias)
        return own
    values = getattr(settings, name, {})
    if not isinstance(values, Mapping):
        raise WrongOption(f"{name} must be a dict")
    if unknown := [each for each in map(str, values) if each not in names]:
        what, settings_of = f"option in {name}", _SETTINGS if is_of_server else {}
        told = [_by_django(each, settings_of, what) or unknown_name(each, names, what) for each in unknown]
        raise WrongOption("; ".join(told))
    return {**values, **own}


_SETTINGS: Final = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "timeout": "EMAIL_TIMEOUT",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "ssl_certfile": "EMAIL_SSL_CERTFILE",
    "ssl_keyfile": "EMAIL_SSL_KEYFILE",
}
"""The setting of each option of Django's own backend."""
_OTHERWISE: Final = {"tls": ("use_tls", "use_ssl"), "client_certificate": ("ssl_certfile",)}
"""Options of a ``Server`` that Django's own backend has by other names."""


def _by_django(name: str, known: Collection[str], what: str = "option") -> str:
    """What is said of an option that Django has by another name, or in a setting; empty for any other one."""
    meant = [each for each in _OTHERWISE.get(name, (name,)) if each in known]
    if isinstance(known, Mapping):
        meant = [known[each] for each in meant]
    return f"no such {what}: {shown(name)}; it is {' or '.join(meant)}" if meant else ""


def keeps_mail_in(setting: Any) -> bool:
    """Whether a setting says to whom mail may go, or where it goes instead."""
    return isinstance(setting, Mapping) and any(setting.get(name) is not None for name in KEEP_MAIL_IN)


def _check_unread(own: Values, alias: str) -> None:
    """Raises what ``wrong`` makes where a staging system would write to customers once it has ``MAILERS``."""
    if keeps_mail_in(getattr(settings, OWN_SETTING, None)) and not own.keys() & KEEP_MAIL_IN:
        raise wrong(f"{OWN_SETTING} is not read beside MAILERS: what keeps mail in goes into OPTIONS", alias)


class Options:
    """The options of one backend, complete; equal ones have the same ``key`` and share a pool.

    Raises what ``wrong`` makes.
    """

    def __init__(self, values: Values, alias: str | None) -> None:
        self.alias = alias
        allowed = comparable(values.get("allow_recipients"))
        given = right(alias, partial(from_texts, values, "use_tls", "use_ssl"))
        self.values: Values = {"port": None, **given, "allow_recipients": allowed}
        del values, given  # error pages show what is in a frame
        self.key: Key = right(alias, lambda: Key(self.values))
        """What the pool depends on."""

    @property
    def tls(self) -> TlsMode:
        """How the line is secured."""
        if self.values.get("use_ssl"):
            return "implicit"
        return "starttls" if self.values.get("use_tls") else "none"

    @property
    def send_options(self) -> SendOptions:
        """The keywords for each send."""
        options = SendOptions(all_or_nothing=bool(self.values.get("all_or_nothing")))
        if (timeout := self.values.get("timeout")) is not None:
            options["timeout"] = timeout
        return options

    def servers(self) -> list[Server]:
        """The servers, in their order. Raises what ``wrong`` makes."""
        return [each.server for each in self.routes()]

    def routes(self) -> list[Route]:
        """What the pool sends to, in order. Raises what ``wrong`` makes."""
        return right(self.alias, self._routes)

    def pool(self, journal: Store | None = None) -> SmtpPool:
        """A new pool; opens nothing. ``journal`` comes before an option. Raises what ``wrong`` makes."""
        return right(self.alias, lambda: self._pool(journal))

    def pool_options(self) -> dict[str, Any]:
        """The keywords of the pool. Raises ``InputError``."""
        options = {name: self.values[name] for name in _OF_POOL if name in self.values}
        if "retry" in options:
            options["retry"] = _policy(options["retry"])
        if "on_event" in options:
            options["on_event"] = _function("on_event", options["on_event"])
        return options

    def _pool(self, journal: Store | None) -> SmtpPool:
        options = self.pool_options()
        if journal is not None:
            options["journal"] = journal
        return SmtpPool(self._routes(), **options)

    def _routes(self) -> list[Route]:
        if self.values.get("servers") is not None:
            if not self.values["servers"]:
                raise InputError("servers names no server; leave it out where host says it")
            shared = {k: v for k, v in self._server_options().items() if k not in _OF_ONE_PLACE}
            return listed_routes("servers", self.values["servers"], shared)
        hosts = self.values["host"]
        if not isinstance(hosts, str | list | tuple):
            raise InputError("host is a name, or a list of names")
        options = self._server_options()
        hosts = [hosts] if isinstance(hosts, str) else hosts
        for host in hosts:
            if "://" in str(host) and not is_embedded(str(host)):
                raise InputError('EMAIL_HOST (host) is a name; URLs go into a list: "servers": ["smtps://…"]')
        # Django's default for the port is not meant for a server that has none.
        without_port = {**options, "port": None}
        return [
            Route(Server(host, **(without_port if is_embedded(str(host)) else options))) for host in hosts
        ]

    def _server_options(self) -> dict[str, Any]:
        values = self.values
        options = {name: values[name] for name in _OF_SERVER if values.get(name) is not None}
        timeout = positive("timeout", values.get("timeout"))
        if timeout is not None:
            options.setdefault("connect_timeout", min(timeout, CONNECT_TIMEOUT))
        if "auth" in options:
            options["auth"] = mechanisms(options["auth"])
        secret = values.get("password") or None
        for what in ("oauth", "token"):
            if secret and values.get(what):
                raise InputError(
                    f"EMAIL_HOST_PASSWORD (password) and {what} are both set: which one is meant?"
                )
        if values.get("oauth"):
            if "token" in options:
                raise InputError("oauth and token were both given: which one is meant?")
            options["token"] = provider(values["oauth"], values.get("username") or None)
        elif "token" in options:
            options["token"] = _token(options["token"])
        if "before_send" in options:
            options["before_send"] = hooks("before_send", options["before_send"])
        if "dial" in options:
            options["dial"] = _function("dial", options["dial"])
        if "ssl_context" in options:
            options["ssl_context"] = _context(options["ssl_context"])
        # As Django: a user without a password is nobody.
        if "auth" in options or "token" in options or secret:
            options.update(username=values.get("username") or None, password=secret)
        if certificate := values.get("ssl_certfile"):
            key = values.get("ssl_keyfile")
            options["client_certificate"] = (str(certificate), str(key)) if key else str(certificate)
        elif values.get("ssl_keyfile"):
            raise InputError("ssl_keyfile was given, and no ssl_certfile: a key alone is no certificate")
        return {**options, "port": values["port"], "tls": self.tls}


# Values that are named rather than given.


def imported(what: str, value: Any) -> Any:
    """What a dotted path names; any other value is itself. Raises ``InputError`` where there is nothing."""
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise not_imported(what, error) from error


def _function(what: str, value: Any) -> Callable[..., Any] | None:
    found = imported(what, value)
    if found is not None and not callable(found):
        raise InputError(f"{what} is a function, or the dotted path of one")
    return found  # type: ignore[no-any-return]


def _token(value: Any) -> Any:
    if isinstance(value, Provider):
        return value
    try:
        return _function("token", value)
    except InputError:
        # Nothing of the value, and no cause: somebody may have put the token itself there.
        raise InputError("token is a function, or the dotted path of one that can be imported") from None


def _context(value: Any) -> ssl.SSLContext:
    found = imported("ssl_context", value)
    made = found() if callable(found) else found
    if not isinstance(made, ssl.SSLContext):
        raise InputError(
            "ssl_context is an SSLContext, a function that makes one, or the dotted path of either"
        )
    return made


def _policy(value: Any) -> Any:
    found = imported("retry", value)
    if isinstance(found, Mapping) and "retryable" in found:
        found = {**found, "retryable": _function("retryable", found["retryable"])}
    return policy("retry", found)


# The settings.


def backends() -> Iterator[tuple[str | None, type]]:
    """Every backend that the settings name, with its alias; without those that cannot be imported."""
    paths: dict[str | None, str]
    if is_by_mailers():
        paths = {alias: each["BACKEND"] for alias, each in settings.MAILERS.items() if "BACKEND" in each}
    else:
        with warnings.catch_warnings():  # Django 6.1 warns of the setting, and not because of us
            warnings.simplefilter("ignore")
            paths = {None: settings.EMAIL_BACKEND}
    for alias, path in paths.items():
        with contextlib.suppress(ImportError):  # Django tells of that
            yield alias, import_string(path)


def is_by_mailers() -> bool:
    """Whether Django knows ``MAILERS``, and the project has it."""
    return hasattr(mail, "mailers") and hasattr(settings, "MAILERS")


def mailer(alias: str) -> Any:
    """A backend of ``MAILERS``. Raises ``ImproperlyConfigured`` where there is none, or a wrong one."""
    if not is_by_mailers():
        raise ImproperlyConfigured(f"The mailer {alias!r} is not configured.")
    return mail.mailers[alias]
