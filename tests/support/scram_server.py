"""The server's half of SCRAM, written from RFC 5802 alone, with its own Hi() and its own parsing."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass

_CLIENT_FIRST = re.compile(r"((n|y|p=[^,]+),(?:a=([^,]*))?,)(n=([^,]*),r=([!-+\--~]+))")
_CLIENT_FINAL = re.compile(r"(c=([^,]+),r=([^,]+)),p=((?:[A-Za-z0-9+/]{4})*[A-Za-z0-9+/=]{4})")


def hi(digest: str, password: bytes, salt: bytes, iterations: int) -> bytes:
    """Hi() of RFC 5802 2.2, as it is written there."""
    block = hmac.digest(password, salt + b"\0\0\0\1", digest)
    total = int.from_bytes(block)
    for _ in range(iterations - 1):
        block = hmac.digest(password, block, digest)
        total ^= int.from_bytes(block)
    return total.to_bytes(len(block))


@dataclass
class ScramServer:
    """Knows one account. ``password`` is the prepared one, and ``username`` the one it expects."""

    username: str
    password: str
    digest: str = "sha256"
    salt: bytes = b"sixteen octets.."
    iterations: int = 4096
    nonce: str = "%server)nonce"
    binding: bytes | None = None
    """What its own end of the channel says."""
    authzid: str = ""
    gs2_flag: str = ""

    def first(self, client_first: bytes) -> bytes:
        """Read client-first-message and return server-first-message."""
        match = _CLIENT_FIRST.fullmatch(client_first.decode())
        assert match, f"malformed client-first-message {client_first!r}"
        self.gs2_header, self.gs2_flag, authzid, self._client_bare, name, self.client_nonce = match.groups()
        self.authzid = _unescaped(authzid or "")
        assert _unescaped(name) == self.username
        self.combined = self.client_nonce + self.nonce
        self._server_first = f"r={self.combined},s={b64encode(self.salt).decode()},i={self.iterations}"
        return self._server_first.encode()

    def final(self, client_final: bytes) -> bytes:
        """Check the proof and return server-final-message: ``v=`` or ``e=``."""
        match = _CLIENT_FINAL.fullmatch(client_final.decode())
        assert match, f"malformed client-final-message {client_final!r}"
        bare, channel, nonce, proof = match.groups()
        if nonce != self.combined:
            return b"e=other-error"
        bound = (self.binding or b"") if self.gs2_flag.startswith("p=") else b""
        if channel != b64encode(self.gs2_header.encode() + bound).decode():
            return b"e=channel-bindings-dont-match"
        if self.gs2_flag == "y" and self.binding is not None:
            return b"e=server-does-support-channel-binding"
        return self._judged(f"{self._client_bare},{self._server_first},{bare}".encode(), b64decode(proof))

    def _judged(self, transcript: bytes, proof: bytes) -> bytes:
        salted = hi(self.digest, self.password.encode(), self.salt, self.iterations)
        stored = hashlib.new(self.digest, hmac.digest(salted, b"Client Key", self.digest)).digest()
        signature = hmac.digest(stored, transcript, self.digest)
        client_key = bytes(map(int.__xor__, proof, signature))
        if hashlib.new(self.digest, client_key).digest() != stored:
            return b"e=invalid-proof"
        server_key = hmac.digest(salted, b"Server Key", self.digest)
        return b"v=" + b64encode(hmac.digest(server_key, transcript, self.digest))


class ScramOverAuth:
    """Serves one log-in: server-final in a 334 of its own, or as the last word of the 235."""

    def __init__(self, server: ScramServer, *, in_235: bool = False) -> None:
        self.server = server
        self.in_235 = in_235
        self.steps: list[Callable[[bytes], bytes]] = [self._first, self._final, self._done]

    def __call__(self, line: bytes) -> bytes:
        return self.steps.pop(0)(line)

    def _first(self, line: bytes) -> bytes:
        return b"334 " + b64encode(self.server.first(b64decode(line.split(b" ")[2]))) + b"\r\n"

    def _final(self, line: bytes) -> bytes:
        final = b64encode(self.server.final(b64decode(line)))
        return (b"235 2.7.0 " if self.in_235 else b"334 ") + final + b"\r\n"

    def _done(self, line: bytes) -> bytes:
        assert line == b"\r\n"
        return b"235 2.7.0 welcome\r\n"


def _unescaped(name: str) -> str:
    assert not re.search("=(?!2C|3D)", name), f"an equals sign is not escaped in {name!r}"
    return name.replace("=2C", ",").replace("=3D", "=")
