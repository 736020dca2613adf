"""The SASL mechanisms, each a dialogue of its own, and one run of such a dialogue over AUTH.

A dialogue is a generator: it yields the client's answers and is resumed with
the server's challenges. Its first yield is the initial response, or None where
the server speaks first (RFC 4422 5). It returns where it has nothing more to say.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from ..errors import InputError
from ..wire import command
from ..wire.reply import Reply
from .binding import ChannelBinding
from .proof import ProofError
from .scram import MAX_SHOWN, ScramClient, saslname

Dialogue: TypeAlias = Generator[bytes | None, bytes, None]

CANCEL: Final = b"*\r\n"
"""Ends an exchange without an outcome; the server answers 501 (RFC 4954 4)."""


class ChallengeError(ValueError):
    """A challenge that the mechanism cannot have: the exchange is to be cancelled."""


class Secret(StrEnum):
    """What a mechanism proves who we are with."""

    PASSWORD = "password"
    TOKEN = "token"
    NONE = "none"
    """Something outside SASL: a client certificate, a UNIX user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslLogin:
    """One log-in: who we say we are, what proves it, and over which channel. Its ``repr`` shows no secret."""

    username: str = ""
    password: str = field(default="", repr=False)
    """Empty where none was given."""
    token: str = field(default="", repr=False)
    """A bearer token, likewise."""
    authzid: str = ""
    """Whom to act as (RFC 4422 2); empty: as who we are."""
    binding: ChannelBinding | None = None
    """The TLS channel, by ``kind`` and ``data``, if there is one that can be bound to."""
    server_binds: bool = False
    """The server offers a mechanism with channel binding."""
    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One line of the table of mechanisms."""

    name: str
    speak: Callable[[Mechanism, SaslLogin], Dialogue]
    secret: Secret
    reveals: bool = False
    """Whoever reads the line can use the secret again."""
    carries_authzid: bool = True
    needs_username: bool = True
    digest: str = ""
    """The hash that it needs, by its name in ``hashlib``; a FIPS machine may block it."""
    binds: bool = False
    """To the TLS channel (RFC 5802 6)."""
    heeds_challenges: bool = True
    """False where what the server says changes nothing, whatever it is."""
    proves_server: bool = False
    """235 counts only after the server's own proof."""
    is_own: bool = False
    """The caller's: nothing is known of what it says, so all of it is secret."""
    obstacle: str = ""
    """Why it cannot be used this time, where that is known ahead."""
    cure: str = ""
    """What to do where the server refuses, if that is not what it is for passwords."""

    @property
    def is_scram(self) -> bool:
        """Credentials go through SASLprep."""
        return self.speak is _scram


def _scram(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """RFC 5802, RFC 7677. The empty answer says that the server has proved itself."""
    client = ScramClient(
        mechanism.digest,
        claim.username,
        claim.password,
        gs2_flag=_gs2_flag(mechanism, claim),
        binding=claim.binding.data if mechanism.binds and claim.binding else b"",
        authzid=claim.authzid,
    )
    server_first = yield client.first()
    server_final = yield client.final(_present(server_first))
    client.verify(server_final)
    yield b""


def _gs2_flag(mechanism: Mechanism, claim: SaslLogin) -> str:
    """RFC 5802 6: ``y`` tells a server that does bind that someone struck its -PLUS from the list."""
    if mechanism.binds and claim.binding:
        return f"p={claim.binding.kind}"
    return "y" if claim.binding is not None and not claim.server_binds else "n"


def _cram_md5(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """RFC 2195 2."""
    challenge = _present((yield None))
    proof = hmac.digest(claim.password.encode(), challenge, mechanism.digest)
    yield f"{claim.username} {proof.hex()}".encode()


def _plain(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """RFC 4616 2."""
    yield f"{claim.authzid}\0{claim.username}\0{claim.password}".encode()


def _login(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """The obsolete draft-murchison-sasl-login: what the two prompts say means nothing."""
    yield None
    yield claim.username.encode()
    yield claim.password.encode()


def _oauthbearer(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """RFC 7628 3.1; a failure is told in a challenge and answered by one octet 1 (3.2.3)."""
    host = f"host={claim.host}\1" if claim.host else ""
    port = f"port={claim.port}\1" if claim.port else ""
    user = claim.authzid or claim.username
    gs2_header = f"n,{f'a={saslname(user)}' if user else ''},"
    yield f"{gs2_header}\1{host}{port}auth=Bearer {claim.token}\1\1".encode()
    yield b"\1"


def _xoauth2(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """The forerunner of OAUTHBEARER at Google and Microsoft; a failure is answered by an empty line."""
    yield f"user={claim.username}\1auth=Bearer {claim.token}\1\1".encode()
    yield b""


def _external(mechanism: Mechanism, claim: SaslLogin) -> Dialogue:
    """RFC 4422 A: the identity to act as, or nothing."""
    yield (claim.authzid or claim.username).encode()


def _scram_with(digest: str, suffix: str = "") -> Mechanism:
    """SCRAM with a hash that is registered for it (RFC 5802, RFC 7677, draft-melnikov-scram-sha-512)."""
    name = f"SCRAM-{digest.replace('sha', 'SHA-')}{suffix}"
    return Mechanism(name, _scram, Secret.PASSWORD, digest=digest, binds=bool(suffix), proves_server=True)


_RANKING: Final = (
    # All that bind before any that does not: whoever struck only the first from the list gains nothing by it.
    *(_scram_with(digest, suffix) for suffix in ("-PLUS", "") for digest in ("sha512", "sha256", "sha1")),
    Mechanism("CRAM-MD5", _cram_md5, Secret.PASSWORD, digest="md5", carries_authzid=False),
    Mechanism("PLAIN", _plain, Secret.PASSWORD, reveals=True),
    Mechanism("LOGIN", _login, Secret.PASSWORD, reveals=True, carries_authzid=False, heeds_challenges=False),
    Mechanism("OAUTHBEARER", _oauthbearer, Secret.TOKEN, reveals=True, needs_username=False),
    Mechanism("XOAUTH2", _xoauth2, Secret.TOKEN, reveals=True, carries_authzid=False),
    Mechanism("EXTERNAL", _external, Secret.NONE, needs_username=False),
)
MECHANISMS: Final = {mechanism.name: mechanism for mechanism in _RANKING}
"""Every mechanism by its name, the strongest first."""


class Exchange:
    """One run of a mechanism: the lines that the client writes, challenge by challenge.

    ``opening`` is the AUTH line. ``challenge`` is the last challenge: where a
    bearer token was refused, it says why.

    Raises ``InputError`` for credentials that the mechanism cannot carry, and
    for a mechanism of the caller's own that does not speak in octets.
    """

    def __init__(self, mechanism: Mechanism, claim: SaslLogin) -> None:
        self._mechanism = mechanism
        self.said: bytes = b""
        """What a mechanism of the caller's own said last: a secret, whatever it is."""
        self._dialogue = mechanism.speak(mechanism, claim)
        initial = self._octets(next(self._dialogue, None))
        line = None if initial is None else command.auth(mechanism.name, initial)
        self.opening: bytes = line or command.line("AUTH", mechanism.name)
        # RFC 4954 4: what is too long for the AUTH line answers an empty challenge instead.
        self._held = None if initial is None or line else command.auth_response(initial)
        self.challenge: bytes = b""
        self.is_answered: bool = False
        """The server asked for more than the opening: what it refuses now is not the mechanism as such."""

    def answer(self, reply: Reply) -> bytes:
        """Return the line that answers a 334.

        Raises ``ChallengeError`` where nothing can, and ``ProofError`` where nothing may.
        """
        if self._held is not None:
            # It answers the empty challenge, which servers decorate with all kinds of text.
            held, self._held = self._held, None
            return held
        self.is_answered = True
        self.challenge = _challenge(reply) if self._mechanism.heeds_challenges else b""
        return self._next_line()

    def conclude(self, reply: Reply) -> None:
        """Take note of the 235, and hold a server that owes a proof to it.

        The proof comes in a 334 before; some servers put it into the text of the
        235 instead. Raises ``ProofError`` or ``ChallengeError`` where it is in neither.
        """
        if not self._mechanism.proves_server:
            return
        try:
            answer = self._dialogue.send(_last_word(reply))
        except StopIteration:
            return
        if answer is None or answer:
            raise ProofError("235 came before the server proved itself")

    def _next_line(self) -> bytes:
        try:
            answer = self._dialogue.send(self.challenge)
        except StopIteration:
            raise ChallengeError("a challenge came after the last answer") from None
        return command.auth_response(self._octets(answer) or b"")

    def _octets(self, answer: bytes | None) -> bytes | None:
        """What the dialogue said; a caller's own may say anything."""
        if self._mechanism.is_own:
            if not isinstance(answer, bytes | None):
                raise InputError(
                    f"{self._mechanism.name} must answer with bytes, not {type(answer).__name__}"
                )
            self.said = answer or b""
        return answer


_TOLD: Final = ("status", "scope", "schemes", "openid-configuration")
"""What the error of a bearer token may say (RFC 7628 3.2.2, 5.1)."""


def oauth_failure(challenge: bytes) -> str:
    """What a server says of a bearer token that it refuses, safe to show (RFC 7628 3.2.2); empty for nothing.

    Google and Microsoft say the same by XOAUTH2.
    """
    try:
        failure = json.loads(challenge)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(failure, dict):
        return ""
    told = [(name, failure.get(name)) for name in _TOLD]
    return ", ".join(
        f"{name} {str(value)[:MAX_SHOWN]!a}"
        for name, value in told
        if value and isinstance(value, str | int) and not isinstance(value, bool)
    )


def _challenge(reply: Reply) -> bytes:
    """RFC 4954 4: one line of base64, perhaps empty."""
    if len(reply.lines) > 1:
        raise ChallengeError("a challenge has more than one line")
    try:
        return b64decode(reply.lines[0], validate=True)
    except Base64Error:
        raise ChallengeError("a challenge is not base64") from None


def _present(challenge: bytes) -> bytes:
    if not challenge:
        raise ChallengeError("a challenge is empty")
    return challenge


def _last_word(reply: Reply) -> bytes:
    try:
        return b64decode(reply.lines[-1].rpartition(b" ")[2], validate=True)
    except Base64Error:
        return b""
