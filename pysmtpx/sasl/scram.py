"""SCRAM, the client's half: a password proved without being shown, by both sides.

RFC 5802 is the mechanism, RFC 7677 its SHA-256, RFC 9266 and RFC 5929 the kinds
of channel binding. ``tls-unique`` is never used: under TLS 1.3 it is not defined
(RFC 9266 1), and under TLS 1.2 it binds nothing without the extended master
secret (RFC 7627 1), of which Python does not tell.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from typing import Final

from ..errors import InputError
from .proof import ProofError
from .saslprep import saslprep

MIN_ITERATIONS: Final = 4096
"""RFC 7677 4. Fewer would let a forged server test passwords cheaply against our proof."""
MAX_ITERATIONS: Final = 1_000_000
"""More would let a server burn our processor."""
MAX_SHOWN: Final = 80
"""Characters of a server's own words in an error."""


class ScramError(ProofError):
    """The server broke SCRAM, or is not who it claims: nothing more may be said to it."""


class ScramClient:
    """One run of SCRAM: ``first()``, ``final()`` and ``verify()``, in this order.

    ``digest`` is the name of a hash of ``hashlib``; ``gs2_flag`` is ``n``, ``y``
    or ``p=`` with a kind of channel binding (RFC 5802 6), and ``binding`` the octets
    that go with the last. ``nonce`` is for test vectors only.

    Raises ``InputError`` for a user name or password that SASLprep forbids.
    """

    def __init__(
        self,
        digest: str,
        username: str,
        password: str,
        *,
        gs2_flag: str = "n",
        binding: bytes = b"",
        authzid: str = "",
        nonce: str = "",
    ) -> None:
        user = saslprep(username, stored=False)
        if not user:
            raise InputError("nothing is left of the user name after SASLprep (RFC 5802 5.1)")
        self._digest = digest
        self._password = saslprep(password, stored=True).encode()
        self._nonce = (nonce or secrets.token_urlsafe(24)).encode()
        self._gs2_header = f"{gs2_flag},{f'a={saslname(authzid)}' if authzid else ''},".encode()
        self._binding = binding
        self._first_bare = f"n={saslname(user)},r=".encode() + self._nonce
        self._server_signature = b""

    def first(self) -> bytes:
        """Return client-first-message (RFC 5802 7)."""
        return self._gs2_header + self._first_bare

    def final(self, server_first: bytes) -> bytes:
        """Return client-final-message, the proof included.

        Raises ``ScramError`` for a server-first-message that is malformed, or
        whose nonce or iteration count is unsafe.
        """
        nonce, salt, iterations = _parsed_server_first(server_first)
        # A nonce that is not ours is a replay; one that adds nothing lets our proof be replayed.
        if not (nonce.startswith(self._nonce) and len(nonce) > len(self._nonce)):
            raise ScramError("the server's nonce does not continue ours")
        channel = b64encode(self._gs2_header + self._binding)
        without_proof = b"c=" + channel + b",r=" + nonce
        transcript = b",".join((self._first_bare, server_first, without_proof))
        salted = hashlib.pbkdf2_hmac(self._digest, self._password, salt, iterations)
        self._server_signature = self._hmac(self._hmac(salted, b"Server Key"), transcript)
        return without_proof + b",p=" + b64encode(self._proof(salted, transcript))

    def verify(self, server_final: bytes) -> None:
        """Check the server's signature: only who knows the password's verifier can make it.

        Raises ``ScramError`` where it is wrong or missing, or the server reports an error.
        """
        name, value = _attribute(server_final.split(b",")[0])
        if name == b"e":
            raise ScramError(f"the server reports {_shown(value)}")
        if name != b"v" or not self._server_signature:
            raise ScramError("the server's signature is missing")
        if not hmac.compare_digest(value, b64encode(self._server_signature)):
            raise ScramError("the server's signature is wrong: it does not know the password")

    def _proof(self, salted: bytes, transcript: bytes) -> bytes:
        client_key = self._hmac(salted, b"Client Key")
        stored_key = hashlib.new(self._digest, client_key).digest()
        signature = self._hmac(stored_key, transcript)
        return bytes(a ^ b for a, b in zip(client_key, signature, strict=True))

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._digest)


def saslname(name: str) -> str:
    """Escape what would end the attribute (``saslname`` of RFC 5802 5.1)."""
    return name.replace("=", "=3D").replace(",", "=2C")


def _parsed_server_first(message: bytes) -> tuple[bytes, bytes, int]:
    """Nonce, salt and iteration count; extensions may only follow them (RFC 5802 7)."""
    attributes = [_attribute(part) for part in message.split(b",")]
    names = [name for name, _ in attributes[:3]]
    if names[0] == b"e":
        raise ScramError(f"the server reports {_shown(attributes[0][1])}")
    # A mandatory extension (m=) would stand before the nonce, and we know none.
    if names != [b"r", b"s", b"i"]:
        raise ScramError("server-first-message is malformed")
    nonce, salt, iterations = (value for _, value in attributes[:3])
    return nonce, _decoded(salt), _iterations(iterations)


def _attribute(part: bytes) -> tuple[bytes, bytes]:
    name, _, value = part.partition(b"=")
    return name, value


def _iterations(value: bytes) -> int:
    is_number = value.isdigit() and len(value) <= len(str(MAX_ITERATIONS))
    if not (is_number and MIN_ITERATIONS <= int(value) <= MAX_ITERATIONS):
        raise ScramError(f"the iteration count is not within {MIN_ITERATIONS} to {MAX_ITERATIONS}")
    return int(value)


def _decoded(value: bytes) -> bytes:
    try:
        octets = b64decode(value, validate=True)
    except binascii.Error:
        octets = b""
    if not octets:
        raise ScramError("base64 is malformed or empty")
    return octets


def _shown(value: bytes) -> str:
    """A server's words, unable to write to a terminal or to forge a line of a log."""
    return ascii(value[:MAX_SHOWN].decode("latin-1"))
