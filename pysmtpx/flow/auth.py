"""AUTH: proving who we are, by the strongest mechanism that both sides have (RFC 4954)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn

from .. import cures
from ..errors import (
    AuthenticationError,
    CredentialsUnavailable,
    MechanismUnavailable,
    NotSupportedError,
    ProtocolError,
    ServiceUnavailable,
)
from ..frames import conceals
from ..records import fields, reply_fields
from ..sasl.binding import ChannelBinding
from ..sasl.credentials import Credentials
from ..sasl.mechanisms import CANCEL, ChallengeError, Exchange, Mechanism, SaslLogin, Secret, oauth_failure
from ..sasl.proof import ProofError
from ..telling import Telling
from ..wire.capabilities import Capabilities
from ..wire.limits import MAX_AUTH_ROUNDS, Stage
from ..wire.reply import Reply
from .effects import CLOSE, Flow, Receive, Send
from .hidden import Hidden

_log: Final = logging.getLogger("pysmtpx")
_telling: Final = Telling("auth")

_SUCCESS: Final = 235
_CHALLENGE: Final = 334
_CLOSING: Final = 421
_REFUSED: Final = 535
_BINDING_REFUSED: Final = (501, 535)
"""How a server answers the first message of a client that binds to the channel by another type (Cyrus)."""
_UNAVAILABLE: Final = (504, 538)
"""Not this mechanism, or not on this line (RFC 4954 6): perhaps the next.

534 asks for a stronger one, and those have been tried.
"""


def authenticate(
    credentials: Credentials,
    capabilities: Capabilities,
    *,
    clear: bool,
    binding: ChannelBinding | None,
    allow_clear: bool = False,
    host: str = "",
    port: int = 0,
) -> Flow[str]:
    """Log in, and return the name of the mechanism that did it.

    ``clear`` says that the line is neither TLS nor local: then nothing that can
    be used again goes over it, unless ``allow_clear``. ``binding`` is what SCRAM
    can bind to, or None. ``host`` and ``port`` are for OAUTHBEARER (RFC 7628 3.1).

    Raises, before a byte is written, ``NotSupportedError`` where the server has
    no AUTH and ``MechanismUnavailable`` where no mechanism can be used; then
    ``AuthenticationError`` for a refusal, ``MechanismUnavailable`` where the
    server turns down each mechanism as such, ``ServiceUnavailable`` for 421 and
    ``ProtocolError`` for a reply that AUTH does not know.
    """
    if not capabilities.auth:
        raise NotSupportedError(
            "the server does not offer AUTH (RFC 4954)",
            keyword="AUTH",
            cure=cures.no_auth(starttls=capabilities.starttls),
        )
    credentials = credentials.ready(service=f"smtp@{host}")
    usable = credentials.usable(capabilities.auth, exposed=clear and not allow_clear, binding=binding)
    claim = SaslLogin(
        username=credentials.username,
        password=_text(credentials.password),
        token=_text(credentials.token),
        authzid=credentials.authzid,
        binding=binding,
        server_binds=any(name.endswith("-PLUS") for name in capabilities.auth),
        host=host,
        port=port,
    )
    hidden = Hidden(claim.password, claim.token)
    reply = None
    while usable:
        mechanism = usable.pop(0)
        plain = _without_binding(mechanism, usable)
        reply = yield from _attempt(
            mechanism, claim, credentials, hidden, may_refuse_binding=plain is not None
        )
        if reply.code == _SUCCESS:
            return mechanism.name
        if plain is not None and reply.code in _BINDING_REFUSED:
            text = "the server refused %s (%d), perhaps for the kind of channel binding, %s: %s is tried"
            server = f"{host}:{port}" if port else host or None
            about = fields(
                reply_fields(reply), event="warning", server=server, stage="auth", mechanism=mechanism.name
            )
            names = (mechanism.name, reply.code, binding.kind if binding else "", plain.name)
            _telling.once(partial(_log.warning, text, *names, extra=about))
            usable = [plain]  # nothing weaker after it, and nothing else that the same server would refuse
    raise MechanismUnavailable("the server turns down what it offers", stage=Stage.AUTH, reply=reply)


def _without_binding(mechanism: Mechanism, others: list[Mechanism]) -> Mechanism | None:
    """The SCRAM to fall back to where a server turns down one that binds; None for any other mechanism."""
    if not mechanism.binds:
        return None
    return next((other for other in others if other.is_scram and not other.binds), None)


def _attempt(
    mechanism: Mechanism,
    claim: SaslLogin,
    credentials: Credentials,
    hidden: Hidden,
    *,
    may_refuse_binding: bool,
) -> Flow[Reply]:
    """Return the 235, or the reply that says to try another mechanism."""
    exchange = _begun(mechanism, claim)
    reply = yield from _converse(exchange, hidden)
    if _is_about_binding(reply, exchange, may_refuse_binding):
        return reply
    if credentials.renew is not None and _is_about_secret(reply, exchange, mechanism):
        # It may have run out, or been changed, since it was had.
        renewed = _renewed(mechanism, claim, credentials.renew, hidden, reply)
        if renewed is not None:
            exchange = _begun(mechanism, renewed)
            reply = yield from _converse(exchange, hidden)
    if reply.code == _SUCCESS or reply.code in _UNAVAILABLE:
        return reply
    told = oauth_failure(exchange.challenge) if _takes_token(mechanism) else ""
    if hidden.is_in(told.encode()):
        told = ""
    why = f"{mechanism.name} was refused{f' with {told}' if told else ''}"
    cure = mechanism.cure or cures.refused_login(
        mechanism.name,
        has_token=_takes_token(mechanism),
        is_temporary=reply.is_temporary,
        is_own=mechanism.is_own,
    )
    if claim.binding and mechanism.binds and not exchange.is_answered and reply.code in _BINDING_REFUSED:
        why += f", perhaps for the kind of channel binding, {claim.binding.kind}"
        cure = cures.no_binding()
    raise AuthenticationError(why, stage=Stage.AUTH, reply=reply, cure=cure)


def _is_about_binding(reply: Reply, exchange: Exchange, may_refuse_binding: bool) -> bool:
    return may_refuse_binding and not exchange.is_answered and reply.code in _BINDING_REFUSED


def _is_about_secret(reply: Reply, exchange: Exchange, mechanism: Mechanism) -> bool:
    """Whether a refusal says that the token or password is wrong.

    535 does (RFC 4954 6); behind a challenge that tells a token's error (RFC 7628 3.2.2) any 5xx does.
    """
    if mechanism.secret is Secret.NONE or reply.code == _REFUSED:
        return mechanism.secret is not Secret.NONE
    is_told = _takes_token(mechanism) and bool(oauth_failure(exchange.challenge))
    return is_told and reply.is_permanent and reply.code not in _UNAVAILABLE


@conceals
def _renewed(
    mechanism: Mechanism, claim: SaslLogin, renew: Callable[[str], str], hidden: Hidden, reply: Reply
) -> SaslLogin | None:
    """The claim with another secret; None where it is the same, which would only count as an attack."""
    which = "token" if _takes_token(mechanism) else "password"
    refused: str = getattr(claim, which)
    try:
        other = renew(refused)
    except CredentialsUnavailable as error:
        error.add_note(f"{mechanism.name} was refused with the {which} that was there: {reply.code}")
        raise
    if other == refused:
        return None
    hidden.add(other.encode())
    return replace(claim, **{which: other})  # type: ignore[arg-type]


def _text(secret: object) -> str:
    return secret if isinstance(secret, str) else ""


@conceals
def _begun(mechanism: Mechanism, claim: SaslLogin) -> Exchange:
    try:
        return Exchange(mechanism, claim)
    except AuthenticationError as error:  # a mechanism of the caller's own gives up; nothing was written
        error.stage = Stage.AUTH
        raise


def _takes_token(mechanism: Mechanism) -> bool:
    return mechanism.secret is Secret.TOKEN


def _converse(exchange: Exchange, hidden: Hidden) -> Flow[Reply]:
    """One exchange, up to the reply that decides it."""
    hidden.add_words(exchange.said)
    reply = yield from _ask(Send(exchange.opening, secret=True), hidden)
    for _ in range(MAX_AUTH_ROUNDS):
        if reply.code != _CHALLENGE:
            break
        reply = yield from _answer(exchange, reply, hidden)
    if reply.code == _CHALLENGE:
        yield Send(CANCEL, secret=True)
        yield from _break_off(f"more than {MAX_AUTH_ROUNDS} challenges came")
    if reply.code == _SUCCESS:
        yield from _conclude(exchange, reply)
    elif reply.code < 400:
        yield CLOSE
        raise ProtocolError(f"{reply.code} is no answer to AUTH (RFC 4954 6)", stage=Stage.AUTH, reply=reply)
    return reply


def _ask(line: Send, hidden: Hidden) -> Flow[Reply]:
    """One line and its reply. The line is never an octet string here: locals are shown by error reporters."""
    if line.data != CANCEL:
        hidden.add_line(bytes(line.data))
    yield line
    reply: Reply = yield Receive(Stage.AUTH, hidden=hidden)
    if reply.code == _CLOSING:
        yield CLOSE
        raise ServiceUnavailable(
            "the server is closing the connection (RFC 5321 3.8)", stage=Stage.AUTH, reply=reply
        )
    return reply


def _answer(exchange: Exchange, challenge: Reply, hidden: Hidden) -> Flow[Reply]:
    try:
        line = _line(exchange, challenge)
    except ChallengeError as error:
        yield from _cancel(str(error), hidden)
    except AuthenticationError as error:  # a mechanism of the caller's own gives up
        yield from _cancel(error.text, hidden)
    except ProofError as error:
        yield from _break_off(str(error))
    hidden.add_words(exchange.said)
    return (yield from _ask(line, hidden))


@conceals
def _line(exchange: Exchange, challenge: Reply) -> Send:
    return Send(exchange.answer(challenge), secret=True)


def _conclude(exchange: Exchange, reply: Reply) -> Flow[None]:
    try:
        _accept(exchange, reply)
    except (ChallengeError, ProofError) as error:
        yield from _break_off(str(error))
    except AuthenticationError as error:
        yield from _break_off(error.text)


@conceals
def _accept(exchange: Exchange, reply: Reply) -> None:
    exchange.conclude(reply)


def _cancel(why: str, hidden: Hidden) -> Flow[NoReturn]:
    """End the exchange in step: the server answers ``*`` with 501 (RFC 4954 4)."""
    reply = yield from _ask(Send(CANCEL, secret=True), hidden)
    if reply.code < 400:
        yield from _break_off(f"{why}, and the server did not let itself be cancelled")
    raise AuthenticationError(why, stage=Stage.AUTH, reply=reply)


def _break_off(why: str) -> Flow[NoReturn]:
    """Whoever answers is not to be trusted with another octet."""
    yield CLOSE
    raise AuthenticationError(why, stage=Stage.AUTH)
