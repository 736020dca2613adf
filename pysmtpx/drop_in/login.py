"""``login``: the project's SASL mechanisms, the strongest first, behind the standard library's rules.

Like the standard library it goes on to the next mechanism after a refusal, and
sends a password in clear where there is no TLS; what uses none comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from smtplib import SMTPAuthenticationError, SMTPException
from typing import Any, Final, NamedTuple

from ..errors import InputError, MechanismUnavailable, SmtpError
from ..flow.auth import authenticate
from ..flow.effects import Flow
from ..sasl.binding import ChannelBinding
from ..sasl.credentials import Credentials, Provider
from ..sasl.mechanisms import MECHANISMS, Secret
from ..sasl.own import checked
from ..wire.capabilities import Capabilities
from ..wire.reply import Reply
from .results import not_logged_in, pair

_DONE: Final = 503
"""Already authenticated."""


class Text(str):
    """What an authobject returned. It goes in UTF-8 (RFC 4616 2), not only in ASCII."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """In UTF-8, whatever is asked for."""
        return str.encode(self, "utf-8", errors)


class Octets(bytes):
    """What an authobject returned that speaks no text. It goes as it is."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Themselves, whatever is asked for."""
        return bytes(self)


def in_utf8(authobject: Callable[..., Any]) -> Callable[..., Any]:
    """The same authobject, with answers that need not be ASCII, nor text."""

    def answered(*challenge: bytes) -> Any:
        answer = authobject(*challenge)
        if isinstance(answer, bytes):
            return Octets(answer)
        return Text(answer) if isinstance(answer, str) else answer

    return answered


class Login(NamedTuple):
    """One ``login``, by flows."""

    credentials: tuple[Credentials, ...]
    """One for each mechanism to be tried, in order."""
    capabilities: Capabilities
    run: Callable[[Flow[str]], Reply | None]
    """Drives a flow, and gives the reply that it heard last."""
    is_open: Callable[[], bool]

    def attempt(self, binding: ChannelBinding | None, host: str, port: int) -> tuple[int, bytes]:
        """Log in. Raises ``SMTPException`` where no mechanism can be used, else by the last attempt."""
        last = SMTPException("No suitable authentication method found.")
        for credentials in self.credentials:
            flow = authenticate(
                credentials,
                self.capabilities,
                clear=True,
                allow_clear=True,
                binding=binding,
                host=host,
                port=port,
            )
            try:
                reply = self.run(flow)
            except SmtpError as error:
                if isinstance(error, MechanismUnavailable) and error.reply is None:
                    continue  # nothing was written
                if error.reply is not None and error.reply.code == _DONE:
                    return pair(error.reply)
                last = not_logged_in(error)
                last.__cause__ = error
                if not isinstance(last, SMTPAuthenticationError) or not self.is_open():
                    raise last from error
            else:
                assert reply is not None
                return pair(reply)
        raise last


def credentials_for(user: str, password: object, offered: str) -> tuple[Credentials, ...] | None:
    """What to try, in order; None where the standard library must deal with such a user or password.

    ``offered`` is ``esmtp_features["auth"]``, which a user may have written.
    """
    names = {name.upper() for name in offered.split()}
    if isinstance(password, Provider):
        by_token = [name for name, each in MECHANISMS.items() if each.secret is Secret.TOKEN]
        mechanisms = tuple(name for name in by_token if name in names)
        return (Credentials(username=user, token=password, mechanisms=mechanisms),)
    if hasattr(password, "dialogue"):  # a mechanism, with what it proves in it
        return (Credentials(username=user, mechanisms=(checked(password),)),)
    if not isinstance(password, str):
        return None  # to us None is a log-in without one
    try:
        return tuple(
            Credentials(username=user, password=password, mechanisms=(name,))
            for name, mechanism in MECHANISMS.items()
            if mechanism.secret is Secret.PASSWORD and name in names
        )
    except InputError:
        return None


def capabilities_of(offered: str, ehlo: bytes | None) -> Capabilities:
    """What the server has, for the flow: as it said itself (RFC 5802 6), and as a user has it instead."""
    said: tuple[str, ...] = ()
    if ehlo:
        said = Capabilities.from_reply(Reply(250, tuple(ehlo.split(b"\n")))).auth
    return Capabilities({"AUTH": (*said, *offered.split())})


def known_methods() -> Iterator[str]:
    """The methods by which the standard library logs in."""
    for name in ("cram_md5", "plain", "login"):
        yield f"auth_{name}"


def hmac_md5(smtp: Any, challenge: bytes) -> str:
    """The proof of CRAM-MD5 (RFC 2195 2), for a password in UTF-8.

    Raises ``SMTPException`` where this Python has no MD5.
    """
    from hmac import HMAC

    try:
        return HMAC(smtp.password.encode(), challenge, "md5").hexdigest()
    except ValueError:
        raise SMTPException("CRAM-MD5 is not supported") from None


def port_of(sock: Any) -> int:
    """The port at the other end; 0 where there is none."""
    with suppress(OSError, IndexError, TypeError):
        return int(sock.getpeername()[1])
    return 0
