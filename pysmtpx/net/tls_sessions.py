"""TLS sessions that the connections to one server hand on, so that a new one need not prove everything anew.

OpenSSL looks at neither the host's name nor the certificate's dates, nor whether it is trusted, when it
resumes a session, and Python refuses only a session of another context. So all that decides is kept beside
each session and compared, and none outlives an hour from the handshake in which the certificate was verified.
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from typing import Final, NamedTuple

from .deadline import now

KEPT: Final = 8
"""Sessions kept for one server, the newest."""
LONGEST: Final = 3600.0
"""Seconds from the verification of a certificate in which sessions that came of it are offered, and from
a handshake that failed with one in which none is."""

_REVOCATION: Final = ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF | ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN


class _Terms(NamedTuple):
    """What a session was made under, and what the next connection must be made under, too."""

    context: ssl.SSLContext
    """Its roots, client certificate and versions; a context equals itself alone."""
    name: str | None
    verify_mode: ssl.VerifyMode
    check_hostname: bool
    by_common_name: bool
    verify_flags: ssl.VerifyFlags


class _Session(NamedTuple):
    session: ssl.SSLSession
    terms: _Terms
    verified: float
    """When the handshake ended that verified the certificate, by the monotonic clock."""


class Sessions:
    """Those of one server, host name and set of fingerprints; shared by threads, never by processes."""

    __slots__ = ("_kept", "_unwanted_until")

    def __init__(self) -> None:
        self._kept: deque[_Session] = deque(maxlen=KEPT)
        self._unwanted_until = -math.inf

    def take(self, terms: _Terms) -> _Session | None:
        """The newest under these terms, which nobody else is given; those that it is not are dropped."""
        moment = now()
        if self._unwanted_until > moment:
            return None
        while True:
            try:
                kept = self._kept.pop()
            except IndexError:
                return None
            if kept.terms == terms and kept.verified > moment - LONGEST:
                return kept

    def put(self, session: _Session) -> None:
        """One more; the oldest makes room."""
        self._kept.append(session)

    def clear(self) -> None:
        """Drop them all."""
        self._kept.clear()

    def rest(self) -> None:
        """The server fails where it should go on with a whole handshake: it is offered none for a while."""
        self._unwanted_until = now() + LONGEST


class Resumption:
    """What one attempt to connect takes from the sessions of a server, and puts back."""

    __slots__ = ("_is_offered", "_sessions", "_sock", "_spent", "_verified")

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._is_offered = False
        self._spent = b""
        """The id of the session that was offered."""
        self._sock: ssl.SSLSocket | None = None
        self._verified = 0.0

    def offer(self, context: ssl.SSLContext, name: str | None) -> ssl.SSLSession | None:
        """A session for a handshake under these terms, which no other one is given (RFC 8446 C.4)."""
        if type(context) is not ssl.SSLContext:
            return None  # truststore's, and any other of its own kind, verifies after the handshake by itself
        if context.verify_flags & _REVOCATION:
            return None  # a revocation list that was loaded since the session began would not be looked at
        kept = self._sessions.take(_terms(context, name))
        if kept is None:
            return None
        self._is_offered, self._spent, self._verified = True, kept.session.id, kept.verified
        return kept.session

    def verified(self, sock: ssl.SSLSocket) -> None:
        """A handshake ended, and everything was verified."""
        self._sock, self._is_offered = sock, False
        if not sock.session_reused:
            self._verified = now()

    def learn(self) -> None:
        """Keep the session of the connection, on which the server has spoken since the handshake.

        Under TLS 1.3 the server's tickets come behind the handshake, before its first word. Where it gives
        none for one that was resumed, as Postfix does, that session is spent: offered again, the ticket
        would tell whoever listens that both connections are of one client (RFC 8446 C.4).
        """
        sock, self._sock = self._sock, None
        if sock is None or (session := sock.session) is None or not session.id:
            return
        if session.id != self._spent or sock.version() != "TLSv1.3":
            terms = _terms(sock.context, sock.server_hostname)
            self._sessions.put(_Session(session, terms, self._verified))

    def is_to_blame(self) -> bool:
        """Whether the handshake that failed had a session offered; none is from now on.

        A server must go on with a whole one where it cannot resume (RFC 8446 4.2.11, RFC 5246 7.4.1.2).
        But one by OpenSSL that wants a client's certificate, and sets no session id context, ends it.
        """
        was_offered, self._is_offered = self._is_offered, False
        if was_offered:
            self._sessions.rest()
        return was_offered

    def forget(self) -> None:
        """The attempt failed: the next one resumes nothing."""
        self._sock = None
        self._sessions.clear()


def _terms(context: ssl.SSLContext, name: str | None) -> _Terms:
    return _Terms(
        context,
        name,
        context.verify_mode,
        context.check_hostname,
        context.hostname_checks_common_name,
        context.verify_flags,
    )
