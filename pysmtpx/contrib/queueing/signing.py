"""Proof of who called a task: an HMAC (RFC 2104) by a key that the broker does not have."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from typing import Any, Final, Self

from ...errors import InputError

_SHORTEST: Final = 16
"""Octets of a key: one that can be guessed is none."""
_CONTEXT: Final = "pysmtpx.contrib.celery 1"
"""So that no other use of the same key makes a signature that is good here."""


class Keys:
    """Signing keys: the first signs, each of them verifies, so that one can follow another.

    They are never shown.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def of(cls, given: Any) -> Self | None:
        """The keys of a setting: text, octets or a sequence of these; None for None.

        Raises ``InputError`` for an empty one (a variable that is not set must
        not switch the signatures off), and for a key of less than 16 octets.
        """
        if given is None or isinstance(given, cls):
            return given
        keys = list(map(_octets, given if isinstance(given, list | tuple) else [given]))
        del given  # error pages show what is in a frame
        if not keys or min(map(len, keys)) < _SHORTEST:
            keys.clear()
            raise InputError(f"a signing key is text or octets, {_SHORTEST} octets at least")
        return cls(keys)

    def sign(self, name: str, payload: object, account: object) -> str:
        """The signature of a call of the task ``name``."""
        return hmac.digest(self._keys[0], _canonical(name, payload, account), "sha256").hex()

    def verify(self, signature: object, name: str, payload: object, account: object) -> None:
        """Raise ``InputError`` unless one of the keys made this signature of this call."""
        if not isinstance(signature, str) or not signature.isascii():
            raise InputError("the payload is not signed, and this task has a signing key")
        message = _canonical(name, payload, account)
        # Every key is tried, and each comparison takes the same time wherever the two differ.
        right = [
            hmac.compare_digest(hmac.digest(key, message, "sha256").hex(), signature) for key in self._keys
        ]
        if not any(right):
            raise InputError("the signature of the payload is wrong: none of the signing keys made it")

    def __repr__(self) -> str:
        return f"<{len(self._keys)} signing keys>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("signing keys are not pickled")


def _octets(key: object) -> bytes:
    """The key; empty for what is none."""
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    return key if isinstance(key, bytes) else b""


def _canonical(name: str, payload: object, account: object) -> bytes:
    """The same octets for the same values, whichever serializer carried them."""
    try:
        text = json.dumps(
            [_CONTEXT, name, payload, account], sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError):
        raise InputError("malformed payload: it holds what no payload does") from None
    return text.encode("ascii")


def call(name: str, payload: object, account: object, keys: Keys | None) -> dict[str, Any]:
    """The keywords that the task ``name`` is called with; a signature where there are keys."""
    keywords = {"payload": payload} if account is None else {"payload": payload, "account": account}
    return keywords if keys is None else {**keywords, "signature": keys.sign(name, payload, account)}
