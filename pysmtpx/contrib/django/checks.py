"""What ``manage.py check`` says about the settings of our backends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import global_settings, settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from ...cures import near_miss
from ...errors import SmtpError
from ...net.tls import context_for
from ...server import Server
from ...shortening import shortened
from .backend import EmailBackend
from .celery_backend import SETTING as CELERY_SETTING
from .celery_backend import CeleryEmailBackend, celery_app
from .keeping import KeepingBackend
from .options import OWN_SETTING, backends, is_by_mailers, keeps_mail_in, mailer
from .outbox_backend import SETTING as OUTBOX_SETTING
from .outbox_backend import OutboxEmailBackend
from .task_backend import SETTING as TASKS_SETTING
from .task_backend import TaskEmailBackend

_OF_DJANGO = "EMAIL_"
_CALLED_ELSEWHERE = {
    "EMAIL_USER": "EMAIL_HOST_USER",
    "EMAIL_USERNAME": "EMAIL_HOST_USER",
    "EMAIL_PASSWORD": "EMAIL_HOST_PASSWORD",
    "EMAIL_SERVER": "EMAIL_HOST",
    "EMAIL_TLS": "EMAIL_USE_TLS",
    "EMAIL_SSL": "EMAIL_USE_SSL",
}
_STARTTLS_PORTS = (25, 587)
_IMPLICIT_PORT = 465


def check_mail(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """What is wrong with the settings of this module's backends; ``manage.py check`` calls it."""
    found: list[CheckMessage | None] = []
    is_ours = False
    for alias, backend in backends():
        if not issubclass(backend, EmailBackend | CeleryEmailBackend | OutboxEmailBackend | TaskEmailBackend):
            continue
        is_ours = True
        try:
            servers = _servers(backend() if alias is None else mailer(alias))
        except (ImproperlyConfigured, ValueError, TypeError) as error:
            found.append(Error(_text(str(error), alias), id="pysmtpx.E001"))
            continue
        found += [check(server, alias) for server in servers for check in (_port, _line)]
        files = dict.fromkeys((each.roots, each.client_certificate) for each in servers)
        found += [_files(roots, certificate, alias) for roots, certificate in files]
    slips = _slips() if is_ours else ()
    return [*(each for each in found if each is not None), *slips]


def _slips() -> Iterator[CheckMessage]:
    """Settings that are none but for a slip, where the right one is not set; and one that is not read."""
    known = [name for name in dir(global_settings) if name.startswith(_OF_DJANGO)]
    known += [OWN_SETTING, CELERY_SETTING, OUTBOX_SETTING, TASKS_SETTING]
    for name in filter(settings.is_overridden, dir(settings)):
        if name in known:
            continue
        meant = _CALLED_ELSEWHERE.get(name) or near_miss(name, known)
        if meant and not settings.is_overridden(meant):
            text = shortened(f"The setting {name} is none of Django's or ours; did you mean {meant}?")
            if keeps_mail_in(getattr(settings, name)):
                yield Error(text, hint="It would keep mail from customers.", id="pysmtpx.E005")
            else:
                yield Warning(text, id="pysmtpx.W002")
    if is_by_mailers() and settings.is_overridden(OWN_SETTING):
        text = f"The setting {OWN_SETTING} is not read beside MAILERS: its options go into OPTIONS."
        yield Warning(text, id="pysmtpx.W003")


def _servers(
    backend: EmailBackend | CeleryEmailBackend | KeepingBackend,
) -> list[Server]:
    """The servers of a backend, if it knows any. Raises where its options cannot be right."""
    if isinstance(backend, EmailBackend):
        return backend.options.servers()
    if isinstance(backend, KeepingBackend):
        if isinstance(backend, TaskEmailBackend):
            backend.task()
            backend.sender()
        found: list[Server] = backend.sends_by().options.servers()
        # With MAILERS that is a mailer of its own, and looked at as such.
        return [] if backend.mailer else found
    celery_app(backend.options.get("app"), backend.alias)
    return []


def _text(text: str, alias: str | None) -> str:
    where = f"MAILERS[{alias!r}]: "
    return shortened(text if alias is None or text.startswith(where) else where + text)


def _port(server: Server, alias: str | None) -> CheckMessage | None:
    is_implicit = server.tls == "implicit"
    if server.port == _IMPLICIT_PORT and not is_implicit:
        text = "Port 465 expects TLS from the first octet, and STARTTLS or clear text is set."
        hint = f"Set {_name('use_ssl', alias)}, or port 587 with {_name('use_tls', alias)}."
    elif server.port in _STARTTLS_PORTS and is_implicit:
        text = f"Port {server.port} begins in clear text, and TLS from the first octet is set."
        hint = f"Set {_name('use_tls', alias)}, or port 465 with {_name('use_ssl', alias)}."
    else:
        return None
    return Error(_text(text, alias), hint=hint, id="pysmtpx.E002")


def _files(
    roots: str | None, certificate: tuple[str, str | None] | None, alias: str | None
) -> CheckMessage | None:
    """The roots of a server, and a certificate of ours."""
    try:
        context_for(roots, certificate)
    except SmtpError as error:
        return Error(_text(str(error), alias), id="pysmtpx.E003")
    return None


def _line(server: Server, alias: str | None) -> CheckMessage | None:
    """Clear text that leaves the machine, with a password in it or without."""
    if server.tls != "none" or server.is_local:
        return None
    hint = f"Set {_name('use_tls', alias)} or {_name('use_ssl', alias)}."
    who = server.credentials
    if who is None or server.insecure_auth or not who.may_reveal:
        text = f"Mail to {server.host} goes over the network in clear text."
        return Warning(_text(text, alias), hint=hint, id="pysmtpx.W001")
    text = f"A password is set, and the line to {server.host} is in clear text: it would not be sent."
    hint += " Where neither can be, 'insecure_auth' allows the password in clear text."
    return Error(_text(text, alias), hint=hint, id="pysmtpx.E004")


def _name(option: str, alias: str | None) -> str:
    return f"EMAIL_{option.upper()}" if alias is None else repr(option)


register("mail")(check_mail)
