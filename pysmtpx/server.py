"""One server, described: where it is, how it is secured, who we are there. Nothing here dials."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from importlib import import_module
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Unpack

from . import endpoint
from . import url as urls
from .embedded import is_embedded
from .endpoint import TlsMode
from .errors import InputError
from .extras import needs
from .frames import conceals
from .options import SERVER_DEFAULTS, ServerChanges, ServerOptions, spelled_out, unknown
from .outgoing import BeforeSend, Outgoing, checked_allowed, checked_hooks, checked_redirect
from .sasl.credentials import AnySecret, Credentials
from .sasl.mechanisms import MECHANISMS, Secret
from .sasl.own import SaslMechanism, checked
from .values import above_zero, flag, tls_context
from .wire.address import ForwardPath
from .wire.capabilities import Protocol

if TYPE_CHECKING:
    from .checking.report import Check

_SECRETS: Final = ("password", "token")
_LONGEST_OF_PROXY: Final = 255
_HIDDEN: Final = (*_SECRETS, "proxy_password")


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Server:
    """One SMTP or LMTP server, and how to talk to it.

    ``host`` is a name or an IP address, perhaps with its port behind it
    (``mail.example.org:587``), or the path of a UNIX socket (begins with
    ``/``), or for development a server of this process (``memory://name``,
    ``maildir:///path``, ``console://``, ``null://``). What is left out gets the
    safe default, and after construction ``port`` and ``tls`` are the ones in effect
    (``protocol`` is ``"smtp"`` or ``"lmtp"``):

    * ``tls``: ``"implicit"`` on port 465 (RFC 8314 3.3), ``"none"`` on loopback
      and UNIX sockets, else ``"starttls"``.
    * ``port``: 24 for LMTP (RFC 2033 5 forbids 25), 465 for implicit TLS, 25 on
      loopback, else 587 (RFC 6409 3.1). A UNIX socket has port 0.

    ``username`` with ``password`` or ``token`` (for OAuth) asks for AUTH. Either
    is a text, a callable that returns one, or a provider that keeps and renews
    it, as those of ``pysmtpx.oauth`` do. ``auth`` names the only SASL
    mechanisms allowed, in order, and may hold a ``SaslMechanism`` of your own.
    ``authzid`` is whom to act as, where that is another one (RFC 4422 2).
    ``insecure_auth`` allows a reusable password in clear text.
    ``server_hostname`` is the name checked in the certificate where it is not
    ``host``. ``client_certificate`` is a PEM file with our certificate and its
    key, or a file for each; an ``ssl_context`` of your own brings its own.
    ``roots`` says which authorities are trusted: ``"system"`` (those of the
    operating system; the extra ``truststore``), ``"certifi"``, or a PEM file or
    a directory; by default what ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name,
    else certifi's. ``fingerprint``, of which there may be several, is
    ``sha256:`` of the certificate or ``spki:`` of its public key: the
    certificate must have one, and be vouched for by the roots all the same,
    unless ``roots`` is ``"fingerprint"``: then that alone decides.
    ``local_hostname`` is our name in EHLO. ``source_address`` is an IP address
    and port of ours. ``proxy`` is the URL of a proxy to go through: ``socks5://``,
    ``socks4a://``, ``http://`` or ``https://``, with a user perhaps, whose
    ``proxy_password`` may stand there too. ``dial`` is a function that is given
    host, port and the seconds that are left, and returns a connected socket.
    With either of the two the name is not looked up here, and no host counts as
    this machine. ``connect_timeout`` is in seconds, for look-up, dial, TLS
    and AUTH together. ``overlap`` lets ``send_many`` write the end of a message
    and the envelope of the next
    together (RFC 2920 3.1): a round trip less, for a server known to take it.
    ``without`` are keywords of EHLO, such as ``"CHUNKING"``, that count as not
    offered: for a server that offers what it does badly. STARTTLS is none of
    them where ``tls`` would use it, since it would end in clear text.

    ``before_send`` is a function, or a list of them: each gets the finished
    octets of a message and its ``MailObject``, and returns the octets that
    leave, or None; see docs/how-to/before-send.md. ``redirect_to`` is an
    address, or a list, to which every message goes instead; ``allow_recipients``
    are the addresses, domains (``example.org``) and domains with all below
    (``.example.org``) that mail may go to, or a function of an address; see
    docs/how-to/staging.md.

    Raises ``InputError`` for any value that cannot be right, and for values
    that contradict one another.
    """

    host: str
    port: int
    protocol: Protocol
    tls: TlsMode
    username: str | None
    password: AnySecret | None
    token: AnySecret | None
    auth: tuple[str | SaslMechanism, ...]
    authzid: str
    insecure_auth: bool
    ssl_context: ssl.SSLContext | None
    client_certificate: tuple[str, str | None] | None
    server_hostname: str | None
    roots: str | None
    fingerprint: tuple[str, ...]
    local_hostname: str | None
    source_address: tuple[str, int] | None
    proxy: str | None
    proxy_password: str | None
    dial: Callable[[str, int, float], socket.socket] | None
    connect_timeout: float
    overlap: bool
    without: tuple[str, ...]
    before_send: tuple[BeforeSend, ...] | None
    redirect_to: tuple[ForwardPath, ...] | None
    allow_recipients: tuple[str, ...] | Callable[[str], bool] | None

    @conceals
    @spelled_out(ServerOptions, SERVER_DEFAULTS)
    def __init__(self, host: str, port: int | None = None, **options: Unpack[ServerOptions]) -> None:
        if not options.keys() <= SERVER_DEFAULTS.keys():
            raise unknown(options, ServerChanges.__annotations__)
        if isinstance(host, str) and ":" in host:
            host, port = endpoint.host_and_port(host, port)
        host = endpoint.checked_host(host)
        values: dict[str, Any] = {"host": host, "port": port, **_DEFAULTS, **options}
        # Only what is given can be wrong.
        for name, value in options.items():
            if name in _CHECKS:
                values[name] = _DEFAULTS[name] if value is _NOT_GIVEN[name] else _CHECKS[name](value)
        if not _OF_WAY.isdisjoint(options):
            _check_way(values)
        is_local = endpoint.is_local(host) and values["proxy"] is None and values["dial"] is None
        if values["tls"] is None:
            values["tls"] = endpoint.default_tls(port, is_local=is_local)
        if port is None:
            protocol, tls = values["protocol"], values["tls"]
            values["port"] = endpoint.default_port(host, protocol, tls, is_local=is_local)
        else:
            values["port"] = endpoint.checked_port(host, port)
        put = object.__setattr__
        for name, value in values.items():
            put(self, name, value)
        has_slash = "/" in host  # no name and no address has one
        if has_slash and is_embedded(host):
            _check_embedded(self)
        if not _OF_ACCOUNT.isdisjoint(options):
            _check_account(self)
        if (has_slash and endpoint.is_path(host)) or not _OF_LINE.isdisjoint(options):
            _check_line(self)

    @classmethod
    @conceals
    @spelled_out(ServerChanges)
    def from_url(cls, url: str, **overrides: Unpack[ServerChanges]) -> Server:
        """The server that a URL describes (RFC 3986).

        ``smtp://user:password@host:587``, ``smtps://host`` (implicit TLS),
        ``lmtp://host``, ``lmtp+unix:///path`` and ``preset://user@gmail`` (a name of
        ``pysmtpx.presets``); for development ``memory://name``,
        ``maildir:///path``, ``console://`` and ``null://``. User, password and path are
        percent-encoded UTF-8, an IPv6 address stands in brackets. The query
        takes ``tls``, ``auth`` (mechanisms with commas), ``authzid``,
        ``insecure_auth`` (``true``), ``server_hostname``, ``roots``,
        ``fingerprint`` (with commas), ``local_hostname``, ``source_address``,
        ``proxy`` (a URL in the URL, percent-encoded),
        ``connect_timeout`` (seconds), ``overlap`` (``true``), ``without``,
        ``redirect_to`` and ``allow_recipients`` (each with commas). ``oauth``
        names a provider of tokens, and its arguments stand beside it
        (``tenant``, ``client_id``, …); its secrets come from the environment, as
        ``pysmtpx.oauth.by_name`` says.
        ``overrides`` are arguments of ``Server`` and win over the URL.

        Raises ``InputError``, whose text never repeats the URL: it may hold a
        password.
        """
        given = urls.parse(url)
        oauth = given.pop("oauth", None)
        values: Any = {**given, **overrides}
        if oauth is not None and "token" not in overrides and overrides.get("password") is None:
            values["token"] = _provider(oauth, values.get("username"))
        return cls(**values)

    @property
    def path(self) -> str | None:
        """The path of the UNIX socket, the URL of a server of this process, or None for a network address."""
        return self.host if endpoint.is_path(self.host) else None

    @property
    def is_local(self) -> bool:
        """True for loopback and UNIX sockets, straight: nobody can listen on the way."""
        # A proxy's loopback is the proxy's.
        return self.proxy is None and self.dial is None and endpoint.is_local(self.host)

    @property
    def is_direct(self) -> bool:
        """True where neither a proxy nor a function of the caller's brings the connection."""
        return self.proxy is None and self.dial is None

    @property
    def credentials(self) -> Credentials | None:
        """Who we are, or None where no AUTH was asked for (RFC 4954)."""
        if not (self.username or self.auth):
            return None
        return Credentials(
            username=self.username or "",
            password=self.password,
            token=self.token,
            mechanisms=self.auth,
            authzid=self.authzid,
        )

    @property
    def url(self) -> str:
        """A URL of this server without password and token.

        ``from_url`` makes an equal server of it where these are given again, and what
        else a URL has no place for: ``proxy_password``, ``ssl_context``,
        ``client_certificate``, functions, and a mechanism of your own in ``auth``.
        """
        return urls.build(self.protocol, self.username, self.host, self.port, _options(self))

    @conceals
    @spelled_out(ServerChanges)
    def replace(self, **changes: Unpack[ServerChanges]) -> Server:
        """A copy with these arguments changed.

        A port or TLS mode that is the default one is derived anew, so
        ``replace(tls="implicit")`` moves from port 587 to 465.
        """
        values: Any = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _SEVERAL:
            if not values[name]:  # nothing was named
                del values[name]
        if "proxy" in changes:
            del values["proxy_password"]  # it is for nobody but the proxy that it was given for
        if ":" in str(changes.get("host", "")):
            del values["port"]
            return Server(**{**values, **changes})
        is_local = self.is_local
        is_default_tls = self.tls == endpoint.default_tls(self.port, is_local=is_local)
        if is_default_tls:
            del values["tls"]
        # Port 465 and implicit TLS stand for each other: one of the two has to stay.
        is_pair = is_default_tls and self.tls == "implicit" and not changes.keys() & {"tls", "protocol"}
        default = endpoint.default_port(self.host, self.protocol, self.tls, is_local=is_local)
        if not is_pair and self.port == default:
            del values["port"]
        return Server(**{**values, **changes})

    @property
    def outgoing(self) -> Outgoing | None:
        """What is done to messages before they leave; None where nothing is."""
        if self.before_send is None and self.redirect_to is None and self.allow_recipients is None:
            return None
        return Outgoing.of(self.before_send, self.redirect_to, self.allow_recipients)

    def check(self, *, sender: str | None = None, recipients: str | Sequence[str] = ()) -> Check:
        """Look at this server, and say what is wrong and what would cure it; see ``pysmtpx.checking.check``.

        Raises ``InputError`` for a path that cannot be right, and nothing that server or network do.
        """
        # The doctor dials, and so stands above what it looks at.
        doctor: Any = import_module("pysmtpx.checking")
        seen: Check = doctor.check(self, sender=sender, recipients=recipients)
        return seen

    def __repr__(self) -> str:
        shown = [repr(self.host), repr(self.port)]
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            if value in (None, "", (), False) and field.name not in _HIDDEN:
                continue
            if value is not None:
                shown.append(f"{field.name}={_shown(field.name, value)}")
        return f"Server({', '.join(shown)})"


_PLAIN: Final = frozenset((str, int, float, bool, NoneType, Protocol))
_MAY_HOLD_SECRET: Final = frozenset((*_HIDDEN, "proxy"))
# By type as well: port 1 is equal to True, which is none.
_remembered: Final = lru_cache(maxsize=64, typed=True)(Server)


def server_of(host: str, options: Mapping[str, Any]) -> Server:
    """``Server(host, **options)``, or the one that was made of the same arguments before.

    A program without a pool names the same server for each message, and to check that again takes as long
    as a tenth of the connection. Remembered is what has no secret, and nothing that could change.
    """
    is_plain = _PLAIN.issuperset(map(type, options.values())) and _MAY_HOLD_SECRET.isdisjoint(options)
    return (_remembered if is_plain else Server)(host, **options)


@conceals
def _provider(arguments: dict[str, str], username: str | None) -> AnySecret:
    """What a URL names; it dials, and so stands above."""
    oauth: Any = import_module("pysmtpx.oauth")
    made: AnySecret = oauth.by_name(**arguments, username=username)
    return made


def _shown(name: str, value: Any) -> str:
    if name == "auth":
        # One of the caller's own may show a secret.
        value = tuple(each if isinstance(each, str) else each.name for each in value)
    return "'***'" if name in _HIDDEN else repr(str(value) if isinstance(value, Protocol) else value)


# Who: our own name, address, account and patience.

_OF_ACCOUNT: Final = frozenset(("username", "password", "token", "auth", "authzid"))
_OF_TLS: Final = ("ssl_context", "client_certificate", "server_hostname", "roots", "fingerprint")
_OF_WAY: Final = frozenset(("proxy", "proxy_password", "dial"))
_OF_LINE: Final = frozenset((*_OF_TLS, "source_address", "without"))


def _mechanisms(value: Any) -> tuple[str | SaslMechanism, ...]:
    if value is None:
        return ()
    is_one = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    named = tuple(map(_mechanism, (value,) if is_one else value))
    if not named:
        raise InputError("auth names no mechanism; leave it out, or None, for any")
    return named


def _mechanism(value: Any) -> str | SaslMechanism:
    if isinstance(value, str | bytes | None):
        return endpoint.checked_text("auth", value).upper()
    try:
        return checked(value)
    except InputError as error:
        raise error.at("auth") from None


def _username(value: Any) -> str | None:
    return _text("username", value) or None  # settings have "" for nobody


def _text(name: str, value: object) -> str:
    """A text, whose letters are looked at with the rest of the account."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be text, not {type(value).__name__}")
    return value


_NOT_EMBEDDED: Final = (*_SECRETS, "username", "auth", *_OF_TLS, "source_address")


def _each(check: Callable[[object], str], must: str = "") -> Callable[[Any], tuple[str, ...]]:
    """Each of several texts, which one text has with commas between them; ``must`` be one, by that name."""

    def checked(value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        is_one = not isinstance(value, Iterable) or isinstance(value, bytes | Mapping)
        words = value.split(",") if isinstance(value, str) else [value] if is_one else value
        found = dict.fromkeys(check(word.strip() if isinstance(word, str) else word) for word in words)
        if must and not found:
            raise InputError(f"{must} names nothing; leave it out, or None, where anything will do")
        return tuple(found)

    return checked


_keywords: Final = _each(endpoint.checked_keyword)
_fingerprints: Final = _each(endpoint.checked_fingerprint, "fingerprint")


def _certificate(value: object) -> tuple[str, str | None]:
    certificate, key = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    return (
        endpoint.checked_text("client_certificate", certificate),
        None if key is None else endpoint.checked_text("client_certificate", key),
    )


_SEVERAL: Final = ("auth", "fingerprint", "without")
"""What is kept as a tuple, empty where nothing was named. An empty list of ``auth`` or ``fingerprint`` is
an error when it is given: it would allow any mechanism, or any certificate."""
_NOT_GIVEN: Final[dict[str, Any]] = {**SERVER_DEFAULTS}
_DEFAULTS: Final[dict[str, Any]] = {**_NOT_GIVEN, **dict.fromkeys(_SEVERAL, ())}
_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "protocol": endpoint.checked_protocol,
    "tls": endpoint.checked_tls,
    "username": _username,
    "authzid": partial(_text, "authzid"),
    "auth": _mechanisms,
    "insecure_auth": partial(flag, "insecure_auth"),
    "ssl_context": partial(tls_context, "ssl_context"),
    "client_certificate": _certificate,
    "server_hostname": partial(endpoint.checked_name, what="server_hostname"),
    "roots": endpoint.checked_roots,
    "fingerprint": _fingerprints,
    "local_hostname": endpoint.checked_own_name,
    "source_address": endpoint.checked_source,
    "connect_timeout": partial(above_zero, "connect_timeout"),
    "overlap": partial(flag, "overlap"),
    "without": _keywords,
    "before_send": checked_hooks,
    "redirect_to": checked_redirect,
    "allow_recipients": checked_allowed,
}
"""What a value must be, and the form in which it is kept; others are checked together, or kept as given."""


_EITHER: Final = frozenset(_SECRETS)
_TAKES: Final = {
    Secret.NONE: frozenset[str](),
    Secret.PASSWORD: frozenset(("password",)),
    Secret.TOKEN: frozenset(("token",)),
}


def secrets_of(auth: Iterable[str | SaslMechanism]) -> frozenset[str]:
    """Which of ``password`` and ``token`` these mechanisms take; either where none is named.

    EXTERNAL and GSSAPI take none: their proof is a certificate, a ticket.
    """
    taken = [_taken(each) for each in auth]
    return frozenset().union(*taken) if taken else _EITHER


def _taken(mechanism: str | SaslMechanism) -> frozenset[str]:
    if mechanism == "GSSAPI":
        return _TAKES[Secret.NONE]
    # One of the caller's own may use what is there.
    known = MECHANISMS.get(mechanism) if isinstance(mechanism, str) else None
    return _EITHER if known is None else _TAKES[known.secret]


def _check_account(server: Server) -> None:
    secrets = [name for name in _SECRETS if getattr(server, name) is not None]
    if not (secrets or server.username or server.auth or server.authzid):
        return
    external = any(not isinstance(each, str) or not secrets_of([each]) for each in server.auth)
    if len(secrets) == 2:
        raise InputError("password and token were both given: which one is meant?")
    if secrets and not server.username:
        raise InputError(f"{secrets[0]} without username")
    if server.username and not secrets and not external:
        raise InputError("username without password or token")
    if (server.auth or server.authzid) and not secrets and not external:
        raise InputError("auth or authzid without username and password")
    _ = server.credentials  # checks the octets of each
    if secrets and secrets[0] not in secrets_of(server.auth):
        raise InputError(f"{secrets[0]} was given, but no mechanism of auth takes one: {server.auth}")
    rows = [MECHANISMS.get(each) if isinstance(each, str) else None for each in server.auth]
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return  # others can do what they can
    if server.authzid and not any(row.carries_authzid for row in known):
        raise InputError(f"authzid was given, but no mechanism of auth can carry one: {server.auth}")
    if server.tls == "none" and all(row.binds for row in known):
        raise InputError(
            f"auth has only what binds to TLS, but TLS is off here: set tls, or not {server.auth}"
        )


def _check_embedded(server: Server) -> None:
    # Silently unused, it would leave the caller believing in it.
    given = [name for name in _NOT_EMBEDDED if getattr(server, name)]
    if server.tls != "none":
        given.append("tls")
    if server.protocol is not Protocol.SMTP:
        given.append("protocol")
    if given:
        raise InputError(f"{server.host} is a server of this process, and takes no {given[0]}: leave it out")


def _check_way(values: dict[str, Any]) -> None:
    """A proxy or a function; the password comes out of the proxy's URL, which is shown."""
    proxy, password, dial = values["proxy"], values["proxy_password"], values["dial"]
    if dial is not None:
        if not callable(dial):
            raise InputError("dial is a function of host, port and seconds, which returns a connected socket")
        if proxy is not None or values["source_address"] is not None:
            raise InputError("dial stands in the place of proxy and source_address: leave these out")
    if endpoint.is_path(values["host"]) and (proxy is not None or dial is not None):
        raise InputError("a UNIX socket or this process is reached straight: neither by a proxy nor by dial")
    if proxy is None:
        if password is not None:
            raise InputError("proxy_password without proxy")
        return
    if not isinstance(proxy, str):
        raise InputError(f"proxy is a URL, not {type(proxy).__name__}")
    try:
        parts = urls.proxy_parts(proxy)
    except InputError as error:
        raise error.at("proxy") from None
    needs("proxy", "python_socks")  # said here, and not when the line is there
    if None not in (password, parts.password) and password != parts.password:
        raise InputError("the proxy's URL has a password, and proxy_password another one: which is meant?")
    if parts.password is not None:
        password = parts.password
    port = endpoint.checked_port("", parts.port)
    parts = parts._replace(host=endpoint.checked_name(parts.host), port=port, password=None)
    _check_proxy_account(parts.scheme, parts.username, password)
    values.update(proxy=urls.proxy_url(parts), proxy_password=password)


def _check_proxy_account(scheme: str, username: str | None, password: str | None) -> None:
    if password is not None and not isinstance(password, str):
        raise InputError("proxy_password is text")
    for what, text in (("the proxy's user", username or ""), ("proxy_password", password or "")):
        # One octet has the length (RFC 1929 2), and nobody says in which encoding the others are.
        if not (text.isascii() and text.isprintable() and len(text) <= _LONGEST_OF_PROXY):
            raise InputError(f"{what} is printable ASCII, {_LONGEST_OF_PROXY} characters at most")
    if scheme == "socks4a" and password is not None:
        raise InputError("SOCKS4 knows no password: use socks5")
    if password is not None and not username:
        raise InputError("proxy_password without a user in the proxy's URL")
    if scheme != "socks4a" and username and password is None:
        raise InputError("the proxy's URL has a user: give proxy_password too")
    if scheme in ("http", "https") and ":" in (username or ""):
        raise InputError("the user of an HTTP proxy has no colon (RFC 7617 2)")


def _check_source(server: Server) -> None:
    """A line has one kind of address at both ends."""
    if server.path:
        raise InputError("a UNIX socket has no source_address")
    assert server.source_address is not None
    ours, theirs = endpoint.ip_of(server.source_address[0]), endpoint.ip_of(server.host)
    if None not in (ours, theirs) and server.is_direct and type(ours) is not type(theirs):
        raise InputError("source_address and host are one an IPv4 and the other an IPv6 address")


def _check_line(server: Server) -> None:
    if server.source_address:
        _check_source(server)
    if "AUTH" in server.without and (server.username or server.auth):
        raise InputError("without AUTH there is no log-in: leave username and auth out, or AUTH in")
    if "STARTTLS" in server.without and server.tls in ("starttls", "opportunistic"):
        # To leave it out would send in clear what was to go by TLS.
        raise InputError('without STARTTLS there is no TLS here: use tls="implicit", or say tls="none"')
    if server.tls == "none":
        # Silently unused, it would leave the caller believing in TLS.
        for name in _OF_TLS:
            if getattr(server, name):
                raise InputError(f"{name} was given, but TLS is off here: set tls")
    elif server.path and not server.server_hostname:
        raise InputError("TLS on a UNIX socket needs server_hostname: a path is in no certificate")
    if server.fingerprint and server.tls == "opportunistic":
        raise InputError("a fingerprint says who it must be, and tls is opportunistic: require TLS")
    if server.roots == "fingerprint" and not server.fingerprint:
        raise InputError("roots is fingerprint, and no fingerprint was given")
    if server.ssl_context is not None and server.roots is not None:
        raise InputError("an ssl_context has its own roots: leave one of the two out")
    if server.ssl_context is not None and server.client_certificate is not None:
        raise InputError("load the client certificate into your ssl_context, or leave one of the two out")


def _options(server: Server) -> dict[str, str]:
    """The query of a server's URL: whatever is not the default, and no secret."""
    options: dict[str, str] = {}
    if server.tls != endpoint.default_tls(server.port, is_local=server.is_local):
        options["tls"] = server.tls
    for name in ("auth", "fingerprint", "without"):
        # A mechanism of the caller's own has no text.
        if values := [each for each in getattr(server, name) if isinstance(each, str)]:
            options[name] = ",".join(values)
    for name in ("insecure_auth", "overlap"):
        if getattr(server, name):
            options[name] = "true"
    if server.source_address:
        options["source_address"] = "[{}]:{}".format(*server.source_address)
    if server.connect_timeout != SERVER_DEFAULTS["connect_timeout"]:
        options["connect_timeout"] = repr(server.connect_timeout)
    for name in ("authzid", "server_hostname", "roots", "local_hostname", "proxy"):
        if value := getattr(server, name):
            options[name] = value
    for name in ("redirect_to", "allow_recipients"):
        if isinstance(value := getattr(server, name), tuple):
            options[name] = ",".join(map(str, value))
    return options
