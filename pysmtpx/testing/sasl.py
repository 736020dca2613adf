"""SASL mechanisms as a server does them: each is a generator of challenges.

It yields a challenge and is resumed with the response; its ``return`` is the
user. A mechanism in which the client begins yields an empty challenge first.
It raises ``Denied`` for wrong credentials, ``Malformed`` for a breach.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import unicodedata
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Exchange: TypeAlias = Generator[bytes, bytes, str]


class Denied(Exception):
    """The credentials are wrong."""


class Malformed(Exception):
    """The response breaks the mechanism; the text says how."""


@dataclass(frozen=True, slots=True)
class Book:
    """What a mechanism may check against."""

    users: Mapping[str, str]
    tokens: Mapping[str, str]
    name: str
    """The server's, in CRAM-MD5."""
    offered: Collection[str]
    """The mechanisms of the EHLO reply."""
    iterations: int
    identity: str | None
    """Who the client is to EXTERNAL."""
    bindings: Mapping[str, bytes]
    """What this connection is to SCRAM that binds, by kind."""

    def check(self, user: str, password: str) -> str:
        """Return ``user`` where the password is right; raise ``Denied``."""
        return _check(self.users, user, password)

    def check_token(self, user: str, token: str) -> str:
        """Return ``user`` where the bearer token is right; raise ``Denied``."""
        return _check(self.tokens, user, token)


def begin(mechanism: str, book: Book) -> Exchange:
    """Start an exchange; raises ``KeyError`` for a mechanism that is not known."""
    if mechanism.startswith("SCRAM-"):
        name = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
        return _scram(book, _SCRAM_HASHES[name], plus=mechanism.endswith("-PLUS"))
    return _MECHANISMS[mechanism](book)


def _check(secrets_of: Mapping[str, str], user: str, secret: str) -> str:
    known = secrets_of.get(user)
    if known is None or not hmac.compare_digest(known.encode(), secret.encode("utf-8", "surrogateescape")):
        raise Denied
    return user


def _text(octets: bytes, what: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{what} is not UTF-8") from None


def _plain(book: Book) -> Exchange:
    """RFC 4616 2."""
    parts = (yield b"").split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise Malformed("a PLAIN message is authzid NUL authcid NUL passwd (RFC 4616 2)")
    authzid, user, password = (_text(part, "a PLAIN message") for part in parts)
    if authzid not in ("", user):
        raise Denied
    return book.check(user, password)


def _login(book: Book) -> Exchange:
    user = yield b"Username:"
    password = yield b"Password:"
    return book.check(_text(user, "the user name"), _text(password, "the password"))


def _cram_md5(book: Book) -> Exchange:
    """RFC 2195 2."""
    challenge = f"<{secrets.token_hex(8)}@{book.name}>".encode()
    user, _, digest = (yield challenge).rpartition(b" ")
    if not user or not re.fullmatch(rb"[0-9a-f]{32}", digest):
        raise Malformed("a CRAM-MD5 response is a user, a space and 32 hexadecimal digits (RFC 2195 2)")
    name = _text(user, "the user name")
    expected = hmac.new(book.users.get(name, "").encode(), challenge, "md5").hexdigest()
    if name not in book.users or not hmac.compare_digest(expected.encode(), digest):
        raise Denied
    return name


def _external(book: Book) -> Exchange:
    """RFC 4422 A."""
    authzid = _text((yield b""), "the identity")
    if book.identity is None or authzid not in ("", book.identity):
        raise Denied
    return book.identity


def _xoauth2(book: Book) -> Exchange:
    response = yield b""
    match = re.fullmatch(rb"user=([^\x01]+)\x01auth=Bearer ([!-~]+)\x01\x01", response)
    if match is None:
        raise Malformed("an XOAUTH2 response is user=…^Aauth=Bearer …^A^A")
    return (yield from _bearer(book, match[1], match[2], b""))


def _oauthbearer(book: Book) -> Exchange:
    """RFC 7628 3.1."""
    response = yield b""
    match = re.fullmatch(rb"n,(?:a=([^,\x01]+))?,\x01((?:[a-z]+=[^\x01]+\x01)+)\x01", response)
    pairs = dict(pair.split(b"=", 1) for pair in match[2].split(b"\x01")[:-1]) if match else {}
    token = re.fullmatch(rb"Bearer ([!-~]+)", pairs.get(b"auth", b""))
    if match is None or token is None:
        raise Malformed("an OAUTHBEARER response is n,a=…,^Aauth=Bearer …^A^A (RFC 7628 3.1)")
    user = (match[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
    return (yield from _bearer(book, user or _owner(book, token[1]), token[1], b"\x01"))


def _owner(book: Book, token: bytes) -> bytes:
    """Who a token belongs to, where the client does not say (RFC 7628 3.1)."""
    return next((user for user, known in book.tokens.items() if known.encode() == token), "").encode()


def _bearer(book: Book, user: bytes, token: bytes, kvsep: bytes) -> Exchange:
    try:
        return book.check_token(_text(user, "the user name"), token.decode())
    except Denied:
        error = json.dumps({"status": "invalid_token", "schemes": "bearer", "scope": "mail"}).encode()
        if (yield error) != kvsep:
            raise Malformed(f"an error is answered by {kvsep!r} (RFC 7628 3.2.3)") from None
        raise


_MECHANISMS: Final[dict[str, Callable[[Book], Exchange]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "EXTERNAL": _external,
    "XOAUTH2": _xoauth2,
    "OAUTHBEARER": _oauthbearer,
}
_SCRAM_HASHES: Final = {"SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}
_GS2_HEADER: Final = re.compile(r"(n|y|p=[A-Za-z0-9.-]+),(?:a=((?:[^,=]|=2C|=3D)+))?,")
_FIRST: Final = re.compile(r"n=((?:[^,=]|=2C|=3D)+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]+)*")
_FINAL: Final = re.compile(r"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]+)*?),p=([A-Za-z0-9+/=]+)")


def _scram(book: Book, hash_name: str, *, plus: bool) -> Exchange:
    """RFC 5802 3, RFC 7677."""
    first = _text((yield b""), "client-first-message")
    header = _GS2_HEADER.match(first)
    message = _FIRST.fullmatch(first, header.end()) if header else None
    if header is None or message is None:
        raise Malformed("client-first-message is not of its grammar (RFC 5802 7)")
    bound = header[0].encode() + _binding_data(book, header[1], plus=plus)
    user, authzid = _saslname(message[1]), _saslname(header[2] or "")
    if authzid not in ("", user):
        raise Denied
    salt, nonce = secrets.token_bytes(16), message[2] + secrets.token_urlsafe(18)
    server_first = f"r={nonce},s={_encode(salt)},i={book.iterations}"
    final = _FINAL.fullmatch(_text((yield server_first.encode()), "client-final-message"))
    if final is None or final[3] != nonce:
        raise Malformed("client-final-message is not of its grammar, or has another nonce (RFC 5802 5.1)")
    if _decode(final[2]) != bound:
        raise Denied
    signed = f"{message[0]},{server_first},{final[1]}".encode()
    signature = _prove(book, user, hash_name, salt, signed, _decode(final[4]))
    if (yield b"v=" + _encode(signature).encode()):
        raise Malformed("the server's signature is answered by an empty response (RFC 4954 4)")
    return user


def _binding_data(book: Book, flag: str, *, plus: bool) -> bytes:
    """The channel-binding data that the client must send; ``Denied`` for a downgrade (RFC 5802 6)."""
    if plus != flag.startswith("p="):
        raise Malformed(f"gs2-cbind-flag {flag!r} does not fit the mechanism (RFC 5802 6)")
    if flag == "y" and any(name.endswith("-PLUS") for name in book.offered):
        raise Denied
    if not plus:
        return b""
    data = book.bindings.get(flag.removeprefix("p="))
    if data is None:
        raise Denied
    return data


def _prove(book: Book, user: str, hash_name: str, salt: bytes, signed: bytes, proof: bytes) -> bytes:
    """Check the client's proof and return the server's signature (RFC 5802 3)."""
    password = unicodedata.normalize("NFKC", book.users.get(user, secrets.token_hex())).encode()
    salted = hashlib.pbkdf2_hmac(hash_name, password, salt, book.iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    expected = _xor(client_key, hmac.digest(stored_key, signed, hash_name))
    if not hmac.compare_digest(expected, proof):
        raise Denied
    return hmac.digest(hmac.digest(salted, b"Server Key", hash_name), signed, hash_name)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _saslname(text: str) -> str:
    return text.replace("=2C", ",").replace("=3D", "=")


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Malformed("client-final-message has bad base64 (RFC 5802 7)") from None
