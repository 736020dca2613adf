"""GSSAPI: a log-in by a Kerberos 5 ticket (RFC 4752), by the package ``gssapi`` over the system's library.

The dialogue does no I/O. Whoever needs a ticket from a KDC gets it before: that is the one step that waits,
in C, where no deadline reaches it, so it has a thread of its own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from .. import cures
from ..errors import AuthenticationError, CredentialsUnavailable, InputError, Timeout
from ..extras import needs
from ..frames import bare, conceals
from ..lock import Wakeup
from ..wire.address import domain_to_ascii
from ..wire.limits import Stage
from .mechanisms import ChallengeError, Dialogue, Mechanism, SaslLogin, Secret
from .proof import ProofError

NAME: Final = "GSSAPI"
_NO_LAYER: Final = 1
_CHOICE: Final = b"\1\0\0\0"
"""No security layer, and so no octet of one that could be received (RFC 4752 3.1)."""
_OFFER: Final = 4

_SLICE: Final = 0.25
"""Seconds for which a KDC is waited for at a time: whoever waits may be stopped meanwhile."""
_SHOWN: Final = 300
_ERRORS_OF_KRB5: Final = 0x96C73A00
"""Where its error codes begin, without their sign (krb5.h)."""
_DOWN: Final = (156, 154, 155, 52)
"""KDC_UNREACH, REALM_CANT_RESOLVE, REALM_UNKNOWN, ERR_RESPONSE_TOO_BIG."""
_UNKNOWN_SERVER: Final = (7, 27)
"""S_PRINCIPAL_UNKNOWN, MUST_USE_USER2USER (it has no key of its own)."""
_SKEW: Final = 37
_EXPIRED: Final = (1, 32)
"""Of the principal, of the ticket."""

_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
_SPECIAL: Final = re.compile(r"[/@\\]")


class Context(Protocol):
    """Our half of a security context (RFC 2743), mutual authentication demanded.

    Each method raises ``ProofError`` for a token that is not the server's, or no token.
    """

    @property
    def is_complete(self) -> bool:
        """Both sides have proved who they are."""

    def step(self, token: bytes) -> bytes:
        """Take the server's token, and return ours: empty where it needs none."""

    def wrap(self, message: bytes) -> bytes:
        """Seal a message against change."""

    def unwrap(self, token: bytes) -> bytes:
        """The message in what the server sealed."""


def negotiate(context: Context, first: bytes, authzid: str) -> Dialogue:
    """The client's half of RFC 4752 3.1, with no security layer: TLS has that part.

    ``first`` is the first token of the context. A 235 ahead of its time finds None where more is to come.
    """
    answer = first
    while not context.is_complete:
        token = yield answer or None
        if not token:
            raise ChallengeError("a token of the server's is empty")
        answer = context.step(token)
    sealed = yield answer or None
    if not sealed:
        raise ChallengeError("the server names no security layers (RFC 4752 3.1)")
    _check_offer(context.unwrap(sealed))
    yield context.wrap(_CHOICE + authzid.encode())


def _check_offer(offer: bytes) -> None:
    if len(offer) != _OFFER:
        raise ChallengeError("the server's security layers are not in four octets (RFC 4752 3.1)")
    # The maximum size in the other three is to be 0 where no layer is offered; Dovecot writes 2**24 - 1.
    if not offer[0] & _NO_LAYER:
        raise AuthenticationError(
            "the server insists on a security layer of SASL, and has TLS for that: there is none here"
        )


@dataclass(frozen=True, slots=True)
class Gssapi:
    """Log in by a Kerberos ticket: ``auth=Gssapi(…)``, or ``auth="GSSAPI"`` for what the environment has.

    ``service`` is the server's principal where it is not ``smtp/`` and the host as it was called, such as
    ``smtp/mail.example.org@EXAMPLE.ORG``; the name is taken as it is, whatever DNS says of it. ``cache``
    is the credentials cache (``FILE:/run/mail/cache``, ``MEMORY:mail``, ``KCM:``), by default what
    ``KRB5CCNAME`` or krb5.conf name. With ``keytab``, or ``KRB5_CLIENT_KTNAME``, tickets are got and renewed
    by the keys of that file, and nobody needs ``kinit``. ``username`` is the principal to log in as, by
    default the cache's. Nothing is delegated. Needs ``pysmtpx[gssapi]``.

    Raises ``InputError`` for control characters and lone surrogates.
    """

    service: str = ""
    cache: str = ""
    keytab: str = ""

    name: ClassVar[str] = NAME
    reveals: ClassVar[bool] = False
    proves_server: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for what in ("service", "cache", "keytab"):
            value = getattr(self, what)
            if not isinstance(value, str) or not _TEXT.fullmatch(value):
                raise InputError(f"the {what} of GSSAPI is text without control characters")

    @conceals
    def dialogue(self, login: SaslLogin) -> Dialogue:
        """One log-in. Raises ``CredentialsUnavailable`` without a ticket, as ``prepared`` does."""
        mechanism = self.prepared(f"smtp@{login.host}", login.username)
        return mechanism.speak(mechanism, login)

    @conceals
    def prepared(
        self, service: str, username: str, seconds: Callable[[], float | None] = lambda: None
    ) -> Mechanism:
        """The mechanism of one log-in, with the ticket for it: from here on nothing waits for a KDC.

        ``service`` is ``smtp@`` and the name by which the server was called, and ``seconds`` tells how long
        that may take. Raises ``CredentialsUnavailable`` where there is no ticket,
        ``Timeout`` where none came in time, and ``MissingExtra``.
        """
        package = needs("gssapi", "gssapi")
        principal = self.service or _principal(service)
        context = _Kerberos(package, principal)
        first = _aside(lambda: context.begin(username, self._store()), principal, seconds)

        def speak(mechanism: Mechanism, login: SaslLogin) -> Dialogue:
            return negotiate(context, first, login.authzid)

        return Mechanism(
            NAME,
            speak,
            Secret.NONE,
            needs_username=False,
            proves_server=True,
            cure=cures.refused_ticket(principal),
        )

    def _store(self) -> dict[str, str] | None:
        given = {"ccache": self.cache, "client_keytab": self.keytab}
        return {name: value for name, value in given.items() if value} or None


def _principal(service: str) -> str:
    """The server's principal, in the realm that the KDC finds for it.

    Not as ``GSS_C_NT_HOSTBASED_SERVICE``: by krb5.conf's defaults that name goes through DNS both ways first,
    and who answers there would choose the server that the ticket is for.
    """
    kind, _, host = service.partition("@")
    if "/" in host or ":" in host or not re.search("[^0-9.]", host):
        raise CredentialsUnavailable(
            "a Kerberos ticket is for a name, and the server was called by none",
            cure=cures.no_service_name(),
        )
    name = domain_to_ascii(host).rstrip(".").lower()
    return f"{kind}/{_SPECIAL.sub(_escaped, name)}@"


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


class _Kerberos:
    """A ``Context`` by the package."""

    def __init__(self, package: Any, principal: str) -> None:
        self._package = package
        self._principal = principal
        self._context: Any = None

    def begin(self, username: str, store: dict[str, str] | None) -> bytes:
        """The first token, with the ticket that a KDC may have to be asked for."""
        package = self._package
        kerberos = package.MechType.kerberos
        flags = package.RequirementFlag
        try:
            client = package.Name(username, package.NameType.user) if username else None
            credentials = package.Credentials(usage="initiate", name=client, store=store, mechs=[kerberos])
            self._context = package.SecurityContext(
                name=package.Name(self._principal, package.NameType.kerberos_principal),
                creds=credentials,
                usage="initiate",
                mech=kerberos,
                flags=flags.mutual_authentication | flags.integrity | flags.out_of_sequence_detection,
            )
            # Else a token that tells the server of an error would come in place of the error.
            self._context.__DEFER_STEP_ERRORS__ = False
            return self._context.step() or b""
        except package.exceptions.GSSError as error:
            raise _unavailable(error, package, self._principal) from None

    @property
    def is_complete(self) -> bool:
        return bool(self._asked(getattr, self._context, "complete"))  # it asks the library

    def step(self, token: bytes) -> bytes:
        answer: bytes = self._asked(self._context.step, token) or b""
        flags = self._package.RequirementFlag
        needed = flags.mutual_authentication | flags.integrity
        if self.is_complete and self._asked(getattr, self._context, "actual_flags") & needed != needed:
            raise ProofError("the server did not prove itself (RFC 4752 3.1)")
        return answer

    def wrap(self, message: bytes) -> bytes:
        sealed: bytes = self._asked(self._context.wrap, message, False).message
        return sealed

    def unwrap(self, token: bytes) -> bytes:
        message: bytes = self._asked(self._context.unwrap, token).message
        return message

    def _asked(self, call: Callable[..., Any], *arguments: object) -> Any:
        try:
            return call(*arguments)
        except self._package.exceptions.ExpiredContextError:
            raise AuthenticationError("the Kerberos ticket ended during the log-in") from None
        except self._package.exceptions.GSSError as error:
            raise ProofError(f"a token of the server's is not valid: {_told(error)}") from None


def _told(error: Any) -> str:
    """What the library says of it: the mechanism's own words, where it has some."""
    texts = error.get_all_statuses(error.min_code, False) if _number(error) is not None else []
    texts = texts or error.get_all_statuses(error.maj_code, True)
    return ascii("; ".join(map(str, texts))[:_SHOWN])[1:-1]


def _number(error: Any) -> int | None:
    """The error of libkrb5 by its number there; None for one of another part."""
    number = (error.min_code & 0xFFFFFFFF) - _ERRORS_OF_KRB5
    return number if 0 <= number < 256 else None


def _unavailable(error: Any, package: Any, principal: str) -> CredentialsUnavailable:
    number = _number(error)
    is_expired = isinstance(error, package.exceptions.ExpiredCredentialsError) or number in _EXPIRED
    if number in _DOWN:
        cure = cures.kdc_down()
    elif number in _UNKNOWN_SERVER:
        cure = cures.unknown_service(principal)
    elif number == _SKEW:
        cure = cures.clock_skew()
    else:
        cure = cures.no_ticket(is_expired=is_expired)
    why = f"no Kerberos ticket for {principal.rstrip('@')}: {_told(error)}"
    return CredentialsUnavailable(why, cure=cure, temporary=number in _DOWN)


def _aside(call: Callable[[], bytes], principal: str, seconds: Callable[[], float | None]) -> bytes:
    """Its result, of a thread that is left behind where it takes longer than there is.

    libkrb5 waits for each KDC by times of its own, ten seconds and more, and cannot be interrupted.
    """
    results: list[bytes] = []
    errors: list[BaseException] = []
    done = Wakeup()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(bare(error))
        finally:
            done.wake()

    threading.Thread(target=run, daemon=True, name="pysmtpx-kerberos").start()
    while not done.wait(_SLICE if (left := seconds()) is None else min(left, _SLICE)):
        if left is not None and left <= 0:
            raise Timeout(
                f"no Kerberos ticket for {principal.rstrip('@')} came in time",
                stage=Stage.AUTH,
                cure=cures.kdc_down(),
            )
    if errors:
        raise errors[0]
    return results[0]
