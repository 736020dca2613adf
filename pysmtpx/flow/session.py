"""Opening and closing a session: greeting, EHLO, STARTTLS, AUTH, QUIT (RFC 5321 3.1, 4.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .. import cures
from ..errors import CommandRejected, ConnectError, ProtocolError, ServiceUnavailable, SmtpError, TlsError
from ..sasl.binding import ChannelBinding
from ..sasl.credentials import Credentials
from ..wire import command
from ..wire.capabilities import Capabilities, Protocol
from ..wire.limits import Stage
from ..wire.reply import Reply
from .allowance import Allowance
from .auth import authenticate
from .effects import CLOSE, LAST, MORE, PART, START_TLS, Flow, Send


class Opening(NamedTuple):
    """What a session is to begin with."""

    protocol: Protocol
    name: str
    """Who we say we are: a domain or an address literal."""
    starttls: str | None = None
    """``"required"``, ``"opportunistic"`` or None."""
    credentials: Credentials | None = None
    private: bool = False
    """The line is TLS already, or does not leave the machine."""
    allow_clear: bool = False
    """A reusable password may go over a line that is neither."""
    binding: ChannelBinding | None = None
    """What to bind a log-in to on a line that is TLS already."""
    host: str = ""
    port: int = 0
    without: tuple[str, ...] = ()
    """Keywords of EHLO that count as not offered."""


class Begun(NamedTuple):
    """A session before AUTH."""

    capabilities: Capabilities
    private: bool
    """The line is TLS by now, or does not leave the machine."""
    binding: ChannelBinding | None
    """What to bind a log-in to."""


def begin_session(opening: Opening) -> Flow[Begun]:
    """From the greeting up to, but without, AUTH: so far another address of the server would do as well.

    Raises ``ConnectError`` for a refusal, ``TlsError`` where STARTTLS was
    required and did not come about, ``ProtocolError`` for what is not SMTP.
    """
    yield from _greeting()
    capabilities = yield from _hello(opening)
    private, binding = opening.private, opening.binding
    if opening.starttls and (yield from _starttls(opening, capabilities)):
        binding = yield START_TLS
        private = True
        # What was said in clear could have been forged (RFC 3207 4.2).
        capabilities = yield from _hello(opening)
    return Begun(capabilities, private, binding)


def listen_to_greeting() -> Flow[Reply]:
    """The greeting, whatever it says, and nothing is written."""
    reply: Reply = yield MORE[Stage.GREETING]
    return reply


def ask_for_tls(opening: Opening) -> Flow[bool]:
    """From the greeting up to where a handshake would begin; whether the server is ready for one."""
    yield from _greeting()
    return (yield from _starttls(opening, (yield from _hello(opening))))


def log_in(opening: Opening, begun: Begun) -> Flow[str]:
    """AUTH, where there is someone to log in: then the session is ready for MAIL.

    Returns the mechanism that did it, or nothing. Raises ``AuthenticationError``
    and the other errors of ``authenticate``.
    """
    if opening.credentials is None:
        return ""
    return (
        yield from authenticate(
            opening.credentials,
            begun.capabilities,
            clear=not begun.private,
            binding=begun.binding,
            allow_clear=opening.allow_clear,
            host=opening.host,
            port=opening.port,
        )
    )


def _greeting() -> Flow[None]:
    reply: Reply = yield LAST[Stage.GREETING]
    if reply.code == 220:
        return
    yield CLOSE
    if reply.code >= 400:
        raise ConnectError("the server refused the connection", stage=Stage.GREETING, reply=reply)
    raise ProtocolError("the greeting is not 220", stage=Stage.GREETING, reply=reply)


def _hello(opening: Opening) -> Flow[Capabilities]:
    """EHLO with a fall-back to HELO, or LHLO (RFC 5321 4.1.1.1, RFC 2033 4.1)."""
    verb: Literal["EHLO", "LHLO"] = "LHLO" if opening.protocol is Protocol.LMTP else "EHLO"
    yield Send(command.hello(verb, opening.name))
    reply: Reply = yield LAST[Stage.HELLO]
    if reply.code == 250:
        offered = Capabilities.from_reply(reply)
        return offered.without(opening.without) if opening.without else offered
    if reply.is_permanent and verb == "EHLO":
        yield Send(command.hello("HELO", opening.name))
        reply = yield LAST[Stage.HELLO]
        if reply.code == 250:
            return Capabilities.none()
    yield CLOSE
    if reply.code < 400:
        raise ProtocolError(f"{reply.code} is no answer to {verb}", stage=Stage.HELLO, reply=reply)
    other = "SMTP" if verb == "LHLO" else "LMTP"
    hint = f" (does the server speak {other}?)" if reply.is_permanent else ""
    raise ConnectError(f"{verb} was refused{hint}", stage=Stage.HELLO, reply=reply)


def _starttls(opening: Opening, capabilities: Capabilities) -> Flow[bool]:
    """Whether to go on with the handshake."""
    required = opening.starttls == "required"
    if not capabilities.starttls:
        if required:
            # An attacker on the line can strike the keyword out (CVE-2016-0772).
            yield CLOSE
            raise TlsError(
                "the server does not offer STARTTLS (RFC 3207)",
                stage=Stage.STARTTLS,
                cure=cures.no_starttls(opening.port),
            )
        return False
    yield Send(command.STARTTLS)
    reply: Reply = yield LAST[Stage.STARTTLS]
    if reply.code == 220:
        return True
    if reply.code >= 400 and reply.code != 421 and not required:
        return False
    yield CLOSE
    raise TlsError("STARTTLS was refused", stage=Stage.STARTTLS, reply=reply)


def exchange(line: bytes, stage: Stage = Stage.COMMAND) -> Flow[Reply]:
    """One command and its reply, whatever it says; 421 raises ``ServiceUnavailable``."""
    yield Send(line)
    reply: Reply = yield LAST[stage]
    if reply.code == 421:
        raise ServiceUnavailable(
            "the server is closing the connection (RFC 5321 3.8)", stage=stage, reply=reply
        )
    if reply.code < 400 and not reply.is_positive:
        # It waits for something that is not a command, and would take the next one for it.
        yield CLOSE
    return reply


def try_envelope(
    lines: Sequence[bytes], recipients: Sequence[str] = (), allowance: Allowance | None = None
) -> Flow[tuple[Reply, ...]]:
    """MAIL and RCPT one by one, then RSET: their replies, up to that to MAIL where it was refused.

    ``lines`` are those of an envelope to these ``recipients``. Raises ``SessionLimitReached`` before
    anything is written if the session has no room for them.
    """
    if allowance is not None and not allowance.takes(recipients, whole=True):
        raise allowance.reached(recipients)
    return _tried(lines, recipients, allowance)


def _tried(
    lines: Sequence[bytes], recipients: Sequence[str], allowance: Allowance | None
) -> Flow[tuple[Reply, ...]]:
    replies: list[Reply] = []
    for place, line in enumerate(lines):
        if allowance is not None:
            allowance.spend(recipients, place, place + 1)
        yield Send(line)
        reply: Reply = yield LAST[Stage.RCPT if replies else Stage.MAIL]
        replies.append(reply)
        if reply.code == 421 or 300 <= reply.code < 400:
            yield CLOSE  # as in exchange
            return tuple(replies)
        if not replies[0].is_positive:
            break
    yield Send(command.RSET)
    last: Reply = yield LAST[Stage.COMMAND]
    if last.code != 250:
        yield CLOSE  # a transaction that is perhaps open must not become part of the next one
    return tuple(replies)


def demand(line: bytes, code: int | None = None, stage: Stage = Stage.COMMAND) -> Flow[Reply]:
    """The same, and ``CommandRejected`` unless the reply has this code (None: any 2xx).

    NOOP must be 250: a server about to hang up answers it with 221, which any
    2xx would take for life.
    """
    reply = yield from exchange(line, stage)
    if reply.code == code or (code is None and reply.is_positive):
        return reply
    if reply.code >= 400:
        raise CommandRejected("the command was refused", stage=stage, reply=reply)
    if reply.is_positive:
        yield CLOSE
    raise ProtocolError("the server is out of step", stage=stage, reply=reply)


def quit_session() -> Flow[None]:
    """QUIT, then close whatever the answer: a failed QUIT changes no outcome (RFC 5321 4.1.1.10)."""
    try:
        yield Send(command.QUIT)
        yield LAST[Stage.QUIT]
    except SmtpError:
        pass
    yield PART
