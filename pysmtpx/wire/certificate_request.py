"""Which authorities a TLS server takes client certificates from, read from how its handshake begins.

``ssl`` does not tell. Up to TLS 1.2 a server asks in clear (RFC 5246 7.4.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .certificate import distinguished_name

MOST: Final = 256 * 1024
"""Octets of such a beginning: a server's chain, and the names of all authorities that it knows."""
_HANDSHAKE: Final = 22
_CERTIFICATE_REQUEST: Final = 13
_SERVER_HELLO_DONE: Final = 14
_RECORD_HEAD: Final = 5
_MESSAGE_HEAD: Final = 4


class RequestReader:
    """Takes the server's octets as they come, up to ``MOST`` of them."""

    def __init__(self) -> None:
        self._octets = 0
        self._records = bytearray()
        self._messages = bytearray()
        self.authorities: tuple[str, ...] | None = None
        """Their names, none where any will do; None where no certificate was asked for so far."""

    def feed(self, data: bytes) -> bool:
        """Whether there is nothing more to come. Raises ``ValueError`` for what is no handshake."""
        self._octets += len(data)
        if self._octets > MOST:
            raise ValueError("the handshake is too long")
        self._records += data
        for record in _taken(self._records, _RECORD_HEAD, 2):
            _check(record)
            self._messages += record[_RECORD_HEAD:]
        _check(self._records)
        for message in _taken(self._messages, _MESSAGE_HEAD, 3):
            if message[0] == _CERTIFICATE_REQUEST:
                self.authorities = tuple(_authorities(message[_MESSAGE_HEAD:]))
            if message[0] in (_CERTIFICATE_REQUEST, _SERVER_HELLO_DONE):
                return True
        return False


def _check(record: bytes | bytearray) -> None:
    if record and record[0] != _HANDSHAKE:
        raise ValueError("no handshake")


def _taken(octets: bytearray, head: int, width: int) -> Iterator[bytes]:
    """Take out what is whole: each begins with a head that ends with its length (RFC 5246 6.2.1, 7.4)."""
    at = 0
    while at + head <= len(octets):
        end = at + head + int.from_bytes(octets[at + head - width : at + head], "big")
        if end > len(octets):
            break
        yield bytes(octets[at:end])
        at = end
    del octets[:at]


def _authorities(body: bytes) -> Iterator[str]:
    """Types, signature algorithms, then names in DER, each with its length in front (RFC 5246 7.4.4)."""
    at = 1 + body[0] if body else 0
    at += 2 + int.from_bytes(body[at : at + 2], "big") + 2
    while at + 2 <= len(body):
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        if name := distinguished_name(body[at + 2 : end]):
            yield name
        at = end
