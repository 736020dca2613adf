"""TLS sessions that the connections to one server hand on, so that a new one need not prove everything anew.

OpenSSL looks at neither the host's name nor the certificate's dates, nor whether it is trusted, when it
resumes a session, and Python refuses only a session of another context. So all that decides is kept beside
each session and compared, and none outlives an hour from the handshake in which the certificate was verified.
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import Final, NamedTuple, TypeAlias

from .deadline import now

KEPT: Final = 8
"""Sessions kept for one server, the newest."""
LONGEST: Final = 3600.0
"""Seconds from the verification of a certificate in which sessions that came of it are offered."""


class _Terms(NamedTuple):
    """What a session was made under, and what the next connection must be made under, too."""

    context: ssl.SSLContext
    """Its roots, client certificate and versions; a context equals itself alone."""
    name: str | None
    verify_mode: ssl.VerifyMode
    check_hostname: bool
    verify_flags: ssl.VerifyFlags


class _Session(NamedTuple):
    session: ssl.SSLSession
    terms: _Terms
    verified: float
    """When the handshake ended that verified the certificate, by the monotonic clock."""


Sessions: TypeAlias = deque[_Session]


def no_sessions() -> Sessions:
    """None yet, for one server, host name and set of fingerprints; shared by threads, never by processes."""
    return deque(maxlen=KEPT)


class Resumption:
    """What one attempt to connect takes from the sessions of a server, and puts back."""

    __slots__ = ("_sessions", "_sock", "_verified")

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._sock: ssl.SSLSocket | None = None
        self._verified = 0.0

    def offer(self, context: ssl.SSLContext, name: str | None) -> ssl.SSLSession | None:
        """A session for a handshake under these terms, which no other one is given (RFC 8446 C.4)."""
        if type(context) is not ssl.SSLContext:
            return None  # truststore's, and any other of its own kind, verifies after the handshake by itself
        terms, oldest = _terms(context, name), now() - LONGEST
        while True:
            try:
                kept = self._sessions.pop()
            except IndexError:
                return None
            if kept.terms == terms and kept.verified > oldest:
                self._verified = kept.verified
                return kept.session

    def verified(self, sock: ssl.SSLSocket) -> None:
        """A handshake ended, and everything was verified."""
        self._sock = sock
        if not sock.session_reused:
            self._verified = now()

    def learn(self) -> None:
        """Keep the session of the connection, on which the server has spoken since the handshake.

        Under TLS 1.3 the server's tickets come behind the handshake, before its first word.
        """
        sock, self._sock = self._sock, None
        if sock is not None and (session := sock.session) is not None:
            terms = _terms(sock.context, sock.server_hostname)
            self._sessions.append(_Session(session, terms, self._verified))

    def forget(self) -> None:
        """The attempt failed: the next one resumes nothing."""
        self._sock = None
        self._sessions.clear()


def _terms(context: ssl.SSLContext, name: str | None) -> _Terms:
    return _Terms(context, name, context.verify_mode, context.check_hostname, context.verify_flags)
