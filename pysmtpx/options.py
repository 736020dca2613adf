"""The keywords of everything that takes a server's options, or a message's: each listed once.

A function that passes them on says ``**options: Unpack[ServerOptions]``, so type
checkers and editors know each of them, and is ``spelled_out``, so that
``inspect.signature`` and ``help`` do. Whoever uses them refuses one that is
``unknown``.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Final, Literal, TypedDict, TypeVar, cast

from .cures import nearest, unknown_name
from .endpoint import TlsMode
from .errors import InputError
from .outgoing import Allowed, BeforeSend
from .sasl.credentials import AnySecret
from .sasl.own import SaslMechanism
from .wire.capabilities import Protocol
from .wire.limits import CONNECT_TIMEOUT, SEND_TIMEOUT
from .wire.params import MailFromParams, RcptParams

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T", bound=Mapping[str, object])
_C = TypeVar("_C", bound=type)


class SessionOptions(TypedDict, total=False):
    """Those keywords of ``Server`` that every face has by the same name."""

    token: AnySecret | None
    auth: str | SaslMechanism | Sequence[str | SaslMechanism] | None
    authzid: str
    insecure_auth: bool
    server_hostname: str | None
    roots: str | os.PathLike[str] | None
    fingerprint: str | Sequence[str] | None
    local_hostname: str | None
    source_address: str | tuple[str, int] | None
    proxy: str | None
    proxy_password: str | None
    connect_timeout: float
    overlap: bool
    without: str | Sequence[str] | None
    redirect_to: str | Sequence[str] | None
    allow_recipients: Allowed | None


class ServerOptions(SessionOptions, total=False):
    """The keywords of ``Server``, which says what they mean; also those of ``connect``."""

    protocol: Protocol | Literal["smtp", "lmtp"]
    tls: TlsMode | None
    username: str | None
    password: AnySecret | None
    ssl_context: ssl.SSLContext | None
    client_certificate: str | tuple[str, str] | None
    before_send: BeforeSend | Sequence[BeforeSend] | None
    dial: Callable[[str, int, float], socket.socket] | None
    """Of host, port and the seconds that are left: a connected socket."""


class ServerChanges(ServerOptions, total=False):
    """All arguments of ``Server``: for a copy of one with some of them changed."""

    host: str
    port: int | None


SERVER_DEFAULTS: Final[ServerOptions] = {
    "protocol": Protocol.SMTP,
    "tls": None,
    "username": None,
    "password": None,
    "token": None,
    "auth": None,
    "authzid": "",
    "insecure_auth": False,
    "ssl_context": None,
    "client_certificate": None,
    "server_hostname": None,
    "roots": None,
    "fingerprint": None,
    "local_hostname": None,
    "source_address": None,
    "proxy": None,
    "proxy_password": None,
    "dial": None,
    "connect_timeout": CONNECT_TIMEOUT,
    "overlap": False,
    "without": None,
    "before_send": None,
    "redirect_to": None,
    "allow_recipients": None,
}
"""All of them, as they are where they are not given."""


class RouteOptions(TypedDict, total=False):
    """The keywords of ``Route``, which says what they mean: a server as one of several."""

    weight: float
    max_connections: int | None
    max_messages: int | None
    rate: float | None
    recipient_rate: float | None


ROUTE_DEFAULTS: Final[RouteOptions] = {
    "weight": 1.0,
    "max_connections": None,
    "max_messages": None,
    "rate": None,
    "recipient_rate": None,
}
"""All of them, as they are where they are not given."""


class SendOptions(TypedDict, total=False):
    """Keywords that every ``send`` method takes."""

    timeout: float | None
    """Seconds for the whole call, 600 by default; None leaves the limits on each reply (RFC 5321 4.5.3.2)."""
    all_or_nothing: bool
    """Send only where every recipient is accepted; else ``RecipientsRejected`` is raised."""
    allow_long_lines: bool
    """Send lines over 998 octets and 8-bit headers as they stand."""


class TransactionOptions(SendOptions, total=False):
    """Keywords of what is sent with an envelope of its own."""

    mail_params: MailFromParams | None
    """Of MAIL. SIZE, BODY and SMTPUTF8 are added where needed."""
    rcpt_params: RcptParams
    """Of RCPT: one for all recipients, or one for each (RFC 3461 4)."""


class MessageOptions(TransactionOptions, total=False):
    """Keywords of what has its envelope in its header section, where they do not say otherwise."""

    sender: str | None
    """The reverse-path; ``""`` is the null one. None: Sender, else From."""
    recipients: str | Sequence[str] | None
    """None: To, Cc and Bcc."""


MESSAGE_DEFAULTS: Final[MessageOptions] = {
    "sender": None,
    "recipients": None,
    "mail_params": None,
    "rcpt_params": None,
    "timeout": SEND_TIMEOUT,
    "all_or_nothing": False,
    "allow_long_lines": False,
}
ENVELOPE: Final = ("sender", "recipients", "mail_params", "rcpt_params")
"""Those that say something of the envelope."""


class UnknownOption(InputError, TypeError):
    """A keyword that the function does not have: for Python that is a ``TypeError``."""


def unknown(given: Iterable[str], known: Collection[str], what: str = "option") -> UnknownOption:
    """The error for those of the given keywords that are not known; it says what may have been meant."""
    wrong = [unknown_name(str(name), known, what) for name in given if name not in known]
    return UnknownOption("; ".join(wrong))


def name_nearest(error: TypeError, given: Iterable[str], known: Collection[str]) -> None:
    """Let Python's own error for an unknown keyword say what may have been meant."""
    near = next((nearest(name, known) for name in given if name not in known), "")
    if near and error.args:
        error.args = (f"{error.args[0]}; did you mean {near}?",)


def suggesting(cls: _C) -> _C:
    """Let the ``TypeError`` of the constructor name the keyword that is nearest to an unknown one."""
    make = cls.__init__  # type: ignore[misc]
    shown = signature(make)

    @wraps(make)
    def init(self: Any, *args: Any, **options: Any) -> None:
        try:
            make(self, *args, **options)
        except TypeError as error:
            name_nearest(error, options, shown.parameters.keys())
            raise

    init.__signature__ = shown  # type: ignore[attr-defined]  # for those who do not unwrap
    cls.__init__ = init  # type: ignore[misc]
    return cls


def complete(given: Mapping[str, object], defaults: _T, *others: str) -> _T:
    """The given options and the defaults of the rest.

    Raises ``UnknownOption``, which may suggest one of the ``others``.
    """
    if not given.keys() <= defaults.keys():
        raise unknown(given, {*defaults, *others})
    return cast(_T, {**defaults, **given})


def spelled_out(options: type, defaults: Mapping[str, object] | None = None) -> Callable[[_F], _F]:
    """Let the signature of a function list the keywords that its last argument, ``**options``, stands for.

    ``defaults`` are what stands for those that are not given: ``...`` where the
    function has none. Nothing else of the function changes.
    """

    def decorate(function: _F) -> _F:
        found = signature(function)
        *own, _ = found.parameters.values()
        kinds = options.__annotations__
        named = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=_text(kinds[name]))
            for name, default in (defaults or dict.fromkeys(kinds, ...)).items()
            if name in kinds
        ]
        function.__signature__ = found.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
        return function

    return decorate


def _text(annotation: Any) -> Any:
    """As it was written: it may name what only type checkers import."""
    return getattr(annotation, "__forward_arg__", annotation)
