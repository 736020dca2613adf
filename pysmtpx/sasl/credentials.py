"""Who logs in and how, as a value, and which mechanisms it allows on a given line."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, runtime_checkable

from .. import cures
from ..errors import CredentialsUnavailable, InputError, MechanismUnavailable, Timeout
from ..frames import conceals
from ..wire.limits import Stage
from .binding import ChannelBinding
from .mechanisms import MECHANISMS, Mechanism, Secret
from .own import SaslMechanism, checked, in_the_table
from .saslprep import saslprep

MAX_NAME: Final = 2048
"""Octets of a user name or authorization identity."""
MAX_PASSWORD: Final = 8192
"""Octets. With these two, no answer in mid-exchange exceeds its line of 12,288 (RFC 4954 4)."""

# A line end would begin a command, NUL ends a field of PLAIN, octet 1 one of XOAUTH2 and OAUTHBEARER.
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
_PASSWORD: Final = re.compile(r"[^\x00\r\n\ud800-\udfff]+")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6750 2.1

_SLICE: Final = 0.25
"""Seconds for which a provider is waited for at a time."""
_EXPOSED: Final = "would show the secret to a line without TLS"
_UNBOUND: Final = "needs a TLS channel that can be bound to"


@runtime_checkable
class Provider(Protocol):
    """What gives a token or a password that changes. Any number of threads may ask it at the same time."""

    def current(self, timeout: float | None = None) -> str:
        """Return the one to log in with now, within so many seconds where they are given.

        It is asked for each log-in, so it keeps what it has. What it raises
        reaches whoever connects; nothing is said to the server then.
        """

    def renewed(self, refused: str, timeout: float | None = None) -> str:
        """Return another one, since the server refused this; the same where there is no other."""


AnySecret: TypeAlias = str | Callable[[], str] | Provider
"""A token or password, a function that returns it, or a provider of it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to log in with (RFC 4954).

    ``password`` goes by SCRAM, CRAM-MD5, PLAIN or LOGIN; ``token`` by OAUTHBEARER
    or XOAUTH2; with neither, EXTERNAL takes the client's certificate. Either may
    be a function that returns it, or a ``Provider``: it is asked at each log-in,
    and once more where the server refuses what it gave. ``mechanisms`` names the
    mechanisms allowed, in the order to try, and may hold some of the caller's
    own; without it the strongest comes first, and GSSAPI is not among them.
    ``authzid`` is whom to act as, where that is someone else (RFC 4422 2).

    No secret is in its ``repr``. Raises ``InputError`` for NUL, CR, LF or a lone
    surrogate, an empty or overlong part, and an unknown mechanism.
    """

    username: str = ""
    password: AnySecret | None = field(default=None, repr=False)
    token: AnySecret | None = field(default=None, repr=False)
    mechanisms: tuple[str | SaslMechanism | Mechanism, ...] = ()
    authzid: str = ""
    renew: Callable[[str], str] | None = field(default=None, repr=False, compare=False)
    """Gives another secret in place of one that the server refused; None where there is no other."""

    def __post_init__(self) -> None:
        _check("username", self.username, _NAME, MAX_NAME)
        _check("authzid", self.authzid, _NAME, MAX_NAME)
        if self.password is not None:
            _check_given("password", self.password)
            if not self.username:
                raise InputError("a password needs its user name")
        if self.token is not None:
            _check_given("token", self.token)
        object.__setattr__(self, "mechanisms", tuple(map(_known, self.mechanisms)))

    def usable(
        self, offered: tuple[str, ...], *, exposed: bool, binding: ChannelBinding | None
    ) -> list[Mechanism]:
        """Return those of the server's mechanisms that can be tried, in order.

        ``exposed`` rules out whatever shows a reusable secret to the line, and
        no ``binding`` the mechanisms that bind. Raises ``MechanismUnavailable``
        where none is left, with the reason for each.
        """
        reasons = {
            mechanism: _obstacle(mechanism, self, exposed=exposed, binding=binding)
            for mechanism in self._wanted()
            if mechanism.name in offered
        }
        usable = [mechanism for mechanism, reason in reasons.items() if not reason]
        if not usable:
            because = "; ".join(f"{mechanism.name} {reason}" for mechanism, reason in reasons.items())
            raise MechanismUnavailable(
                f"no SASL mechanism can be used: {because or f'the server offers {_listed(offered)}'}",
                stage=Stage.AUTH,
                cure=_cure(tuple(reasons.values())),
            )
        return usable

    @conceals
    def ready(self, seconds: Callable[[], float | None] = lambda: None, service: str = "") -> Credentials:
        """The same for one log-in: with what a function or provider gives now, and how to ``renew`` that.

        ``seconds`` tells how long a provider may take, each time it is asked, and
        ``service`` whom a Kerberos ticket is for, such as ``smtp@mail.example.org``.
        Raises what these raise, and ``InputError`` where they give no password or
        no bearer token (RFC 6750 2.1).
        """
        if any(hasattr(each, "prepared") for each in self.mechanisms):
            tickets = tuple(self._with_ticket(each, service, seconds) for each in self.mechanisms)
            return replace(self, mechanisms=tickets).ready(seconds)
        if is_source(self.token):
            renew = partial(_text, "token", self._for_me(self.token), seconds)
            return replace(self, token=renew(), renew=renew)
        if is_source(self.password):
            renew = partial(_text, "password", self._for_me(self.password), seconds)
            return replace(self, password=renew(), renew=renew)
        return self

    def _for_me(self, source: Callable[[], str] | Provider) -> Callable[[], str] | Provider:
        """The same, asked for this user where it tells users apart."""
        return _OfUser(source, self.username) if getattr(source, "knows_accounts", False) else source

    def _with_ticket(
        self, mechanism: str | SaslMechanism | Mechanism, service: str, seconds: Callable[[], float | None]
    ) -> str | SaslMechanism | Mechanism:
        prepare = getattr(mechanism, "prepared", None)
        if prepare is None or isinstance(mechanism, str | Mechanism):
            return mechanism
        try:
            prepared: Mechanism = prepare(service, self.username, seconds)
        except CredentialsUnavailable as error:
            if len(self.mechanisms) == 1:
                raise
            # The others that are named come in its place; where none can be used, this is among the reasons.
            return replace(in_the_table(mechanism, Secret.NONE), obstacle=f"can do nothing: {error.text}")
        return prepared

    @property
    def may_reveal(self) -> bool:
        """Whether one of the mechanisms that it allows shows a reusable secret to whoever reads the line."""
        return any(mechanism.reveals for mechanism in self._wanted())

    def _wanted(self) -> Iterator[Mechanism]:
        secret = Secret.PASSWORD if self.password is not None else Secret.NONE
        if self.token is not None:
            secret = Secret.TOKEN
        if self.mechanisms:
            return (_row(each, secret) for each in self.mechanisms)
        return (mechanism for mechanism in MECHANISMS.values() if mechanism.secret is secret)


class _OfUser:
    """A provider that is asked for one user: what was refused to another may be good for this one."""

    renews_aside = True

    def __init__(self, source: Any, username: str) -> None:
        self._source = source
        self._username = username

    def current(self, timeout: float | None = None) -> str:
        text: str = self._source.current(timeout, self._username)
        return text

    def renewed(self, refused: str, timeout: float | None = None) -> str:
        text: str = self._source.renewed(refused, timeout, self._username)
        return text


def _row(mechanism: str | SaslMechanism | Mechanism, secret: Secret) -> Mechanism:
    if isinstance(mechanism, str):
        return MECHANISMS[mechanism]
    return mechanism if isinstance(mechanism, Mechanism) else in_the_table(mechanism, secret)


def _obstacle(
    mechanism: Mechanism, credentials: Credentials, *, exposed: bool, binding: ChannelBinding | None
) -> str:
    """Why a mechanism cannot be used; empty where it can."""
    if mechanism.obstacle:
        return mechanism.obstacle
    if mechanism.secret is Secret.PASSWORD and credentials.password is None:
        return "needs a password"
    if mechanism.secret is Secret.TOKEN and credentials.token is None:
        return "needs a token"
    if mechanism.needs_username and not credentials.username:
        return "needs a user name"
    if credentials.authzid and not mechanism.carries_authzid:
        return "cannot act as someone else"
    if mechanism.reveals and exposed:
        return _EXPOSED
    if mechanism.binds and binding is None:
        return _UNBOUND
    if mechanism.digest and not _has_hash(mechanism.digest):
        return f"needs {mechanism.digest}, which is blocked on this machine"
    return _unprepared(credentials) if mechanism.is_scram else ""


def _cure(reasons: tuple[str, ...]) -> str:
    if _EXPOSED in reasons:
        return cures.exposed()
    return cures.no_binding() if _UNBOUND in reasons else cures.no_mechanism()


def _has_hash(digest: str) -> bool:
    """A machine in FIPS mode has no MD5."""
    try:
        hmac.digest(b"key", b"", digest)
    except ValueError:
        return False
    return True


def _unprepared(credentials: Credentials) -> str:
    try:
        if isinstance(credentials.password, str):
            saslprep(credentials.password, stored=True)
        return "" if saslprep(credentials.username, stored=False) else "needs a user name"
    except InputError as error:
        return f"cannot carry these credentials: {error.text}"


def _known(name: str | SaslMechanism | Mechanism) -> str | SaslMechanism | Mechanism:
    if isinstance(name, Mechanism):
        return name
    if not isinstance(name, str):
        return checked(name)
    if name.upper() == "GSSAPI":
        from .gssapi import Gssapi  # seldom needed

        return Gssapi()
    if name.upper() not in MECHANISMS:
        there_are = ", ".join((*MECHANISMS, "GSSAPI"))
        raise InputError(f"auth: no such SASL mechanism: {name!a}; there are {there_are}")
    return name.upper()


def _listed(offered: tuple[str, ...]) -> str:
    """The server's words, bounded and unable to write to a terminal (RFC 4422 3.1: 20 characters a name)."""
    return ", ".join(ascii(name[:20])[1:-1] for name in offered[:20])


def is_source(value: AnySecret | None) -> TypeGuard[Callable[[], str] | Provider]:
    """Whether a token or password has to be asked for."""
    return not isinstance(value, str) and (callable(value) or isinstance(value, Provider))


def _check_given(what: str, value: AnySecret) -> None:
    if isinstance(value, type) and isinstance(value, Provider):
        # That of a provider has all that a provider has, but nobody to ask.
        raise InputError(f"the {what} is the class {value.__name__}: give an object of it")
    if not is_source(value):
        _checked(what, value)


@conceals
def _text(
    what: str,
    source: Callable[[], str] | Provider,
    seconds: Callable[[], float | None],
    refused: str | None = None,
) -> str:
    """What a function or provider gives, in place of one that was ``refused`` if there is one."""
    if not isinstance(source, Provider):
        text = source()
    elif refused is None:
        text = _asked(source, source.current, seconds)
    else:
        text = _asked(source, partial(source.renewed, refused), seconds)
    left = seconds()
    if left is not None and left <= 0:
        # It was called in this thread, and cannot be stopped: what comes next would blame the server for it.
        raise Timeout(f"the function for the {what} took longer than it had", stage=Stage.AUTH)
    return _checked(what, text)


def _asked(source: Provider, ask: Callable[[float | None], str], seconds: Callable[[], float | None]) -> str:
    """Ask, in slices if what is waited for goes on without us: whoever waits may be stopped meanwhile."""
    left = seconds()
    if left is None or not getattr(source, "renews_aside", False):
        return ask(left)
    while True:
        try:
            return ask(min(left, _SLICE))
        except Timeout:
            left = seconds() or 0.0
            if left <= 0:
                raise


def _checked(what: str, value: object) -> str:
    if what == "token":
        _check(what, value, _TOKEN)
    else:
        _check(what, value, _PASSWORD, MAX_PASSWORD)
    return str(value)


def _check(what: str, value: object, allowed: re.Pattern[str], limit: int | None = None) -> None:
    """Refuse a part of the credentials. No message shows it: it may be a secret."""
    if not isinstance(value, str):
        raise InputError(f"{what} must be str, not {type(value).__name__}")
    if not allowed.fullmatch(value):
        raise InputError(f"{what} is empty or holds a character that it must not")
    if limit is not None and len(value.encode()) > limit:
        raise InputError(f"{what} is longer than {limit} octets")
