"""The order in which a server is looked at.

A password goes only where ``connect`` would send it too: over a line that was verified.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, Literal, NamedTuple, Unpack

from ..connecting import as_server
from ..connection import SmtpConnection
from ..errors import AuthenticationError, ConnectError, InputError, SmtpError, Timeout, TlsError
from ..net.tls import roots_of
from ..options import SERVER_DEFAULTS, ServerOptions, spelled_out, unknown
from ..server import Server
from ..wire.address import ForwardPath, ReversePath
from ..wire.capabilities import Protocol
from ..wire.limits import Stage
from .findings import findings
from .looking import dial_each, look_in_clear, look_under_tls, look_up, session
from .report import Check, EnvelopeCheck, Look, wrong

_PATIENCE: Final = 60.0
"""Seconds for all of the envelope."""


@spelled_out(ServerOptions, SERVER_DEFAULTS)
def check(
    target: str | os.PathLike[str] | Server,
    port: int | None = None,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] = (),
    **options: Unpack[ServerOptions],
) -> Check:
    """Look at a server: name, addresses, TLS, what it offers, log-in, envelope. Sends no message.

    ``target``, ``port`` and ``options`` are those of ``connect``. With ``sender`` (``""`` is the null path)
    or ``recipients`` MAIL and RCPT are tried, and the transaction is dropped by RSET. What server and network
    do is told in the ``Check`` and never raised. Raises ``InputError`` for arguments that cannot be right,
    before anything is dialled.
    """
    try:
        if not options.keys() <= SERVER_DEFAULTS.keys():
            raise unknown(options, {*SERVER_DEFAULTS, "port", "sender", "recipients"})
        server = as_server(target, port, options)
    finally:
        del target, options  # a URL with a password: error reporters show the locals of each frame
    envelope = _envelope(server, sender, [recipients] if isinstance(recipients, str) else recipients)
    looked_up, addresses, why = look_up(server)
    dialled = list(dial_each(server, addresses))
    seen = Check(
        server.url,
        looked_up=looked_up,
        addresses=tuple(each for each, _ in dialled),
        roots=roots_of(server.ssl_context, server.roots),
    )
    if why:
        text = f"{server.host} cannot be looked up: {why}"
        seen = replace(seen, error=ConnectError(text, stage=Stage.CONNECT))
    elif any(each.seconds is not None for each in seen.addresses):
        seen = _with_mechanism(server, _look(server, seen))
        # By the wrong kind of session it would only wait for its time to end.
        seen = seen if seen.speaks else _connect(server, seen, envelope)
    else:
        # Of a proxy or a function of the caller's the error says more than that nobody answers.
        said: list[SmtpError] = [error for _, error in dialled if isinstance(error, SmtpError)]
        none = ConnectError("no address answers", stage=Stage.CONNECT)
        seen = replace(seen, error=said[0] if said else none)
    return replace(seen, findings=findings(server, seen))


class _Envelope(NamedTuple):
    """What is tried where somebody asked for it."""

    sender: ReversePath
    recipients: tuple[ForwardPath, ...]


def _envelope(server: Server, sender: str | None, recipients: Sequence[str]) -> _Envelope | None:
    if sender is None and not recipients:
        return None
    if server.is_local or server.protocol is Protocol.LMTP:
        # A mailbox without a domain means something there.
        return _Envelope(ReversePath.tolerant(sender or ""), tuple(map(ForwardPath.tolerant, recipients)))
    return _Envelope(ReversePath(sender or ""), tuple(map(ForwardPath, recipients)))


def _look(server: Server, seen: Check) -> Check:
    """What is offered in clear and under TLS; where the port speaks the other from the first octet, that."""
    if server.tls == "implicit":
        return _look_first_under_tls(server, seen)
    clear = look_in_clear(server)
    if clear.capabilities is None:
        # Whoever waits for a ClientHello says nothing at all, so silence alone is no proof.
        under = look_under_tls(server, implicit=True) if isinstance(clear.error, Timeout) else Look()
        speaks: Literal["", "tls"] = "tls" if under.tls is not None else ""
        return replace(seen, speaks=speaks, tls=under.tls, after_tls=under.capabilities, error=clear.error)
    seen = replace(seen, before_tls=clear.capabilities)
    if server.tls == "none" or not clear.capabilities.starttls:
        return seen
    under = look_under_tls(server, implicit=False)
    return replace(seen, after_tls=under.capabilities, tls=under.tls)


def _look_first_under_tls(server: Server, seen: Check) -> Check:
    under = look_under_tls(server, implicit=True)
    seen = replace(seen, after_tls=under.capabilities, tls=under.tls)
    if under.tls is not None:
        return seen
    clear = look_in_clear(server)
    speaks: Literal["", "clear"] = "" if clear.capabilities is None else "clear"
    return replace(seen, speaks=speaks, before_tls=clear.capabilities, error=under.error)


def _with_mechanism(server: Server, seen: Check) -> Check:
    """Which mechanism would be used; the rule is that of the log-in itself."""
    offered = seen.capabilities
    if server.credentials is None or offered is None or "AUTH" not in offered:
        return seen
    exposed = seen.after_tls is None and not server.is_local and not server.insecure_auth
    binding = None if seen.tls is None else seen.tls.binding
    try:
        usable = server.credentials.usable(offered.auth, exposed=exposed, binding=binding)
    except SmtpError:
        return seen
    return replace(seen, mechanism=usable[0].name if usable else None)


def _connect(server: Server, seen: Check, envelope: _Envelope | None) -> Check:
    begun = monotonic()
    try:
        with session(server) as connection:
            seconds = monotonic() - begun
            offered = {"after_tls" if connection.is_tls else "before_tls": connection.capabilities}
            return replace(
                seen,
                seconds=seconds,
                verified=connection.is_tls and _verifies(server),
                logged_in=None if server.credentials is None else True,
                # A server may have refused the first, and taken the one that does not bind to the channel.
                mechanism=connection.mechanism or None,
                envelope=() if envelope is None else tuple(_try(connection, envelope)),
                **offered,  # type: ignore[arg-type]
            )
    except InputError:
        raise
    except SmtpError as error:
        is_refused = isinstance(error, AuthenticationError)
        # It came to AUTH: the certificate before it was accepted.
        verified = seen.tls is not None and not isinstance(error, TlsError) and error.stage is Stage.AUTH
        return replace(
            seen,
            error=error,
            logged_in=False if is_refused else None,
            verified=verified and _verifies(server),
        )


def _verifies(server: Server) -> bool:
    """A context of the caller's own may take any certificate."""
    return server.ssl_context is None or bool(
        server.ssl_context.verify_mode and server.ssl_context.check_hostname
    )


def _try(connection: SmtpConnection, envelope: _Envelope) -> Iterator[EnvelopeCheck]:
    sender, recipients = envelope
    try:
        replies = connection.try_envelope(sender, recipients, timeout=_PATIENCE)
    except SmtpError as error:
        yield EnvelopeCheck("MAIL", str(sender), None, wrong(error), error.cure)
        return
    yield EnvelopeCheck("MAIL", str(sender), replies[0])
    for path, reply in zip(recipients, replies[1:], strict=False):
        yield EnvelopeCheck("RCPT", str(path), reply)
