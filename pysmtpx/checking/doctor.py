"""The order in which a server is looked at.

A password goes only where ``connect`` would send it too: over a line that was verified.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, Literal, TypeAlias, Unpack

from ..connecting import as_server, connect
from ..connection import SmtpConnection
from ..errors import AuthenticationError, ConnectError, InputError, SmtpError, Timeout, TlsError
from ..flow.session import exchange
from ..net.deadline import Deadline
from ..options import SERVER_DEFAULTS, ServerOptions, spelled_out
from ..server import Server
from ..wire import command
from ..wire.address import ForwardPath, ReversePath
from ..wire.limits import Stage
from .findings import findings
from .looking import dial_each, look_in_clear, look_under_tls, look_up, roots_of
from .report import Check, EnvelopeCheck, Look

_Step: TypeAlias = tuple[Literal["MAIL", "RCPT"], str, bytes]

_PATIENCE: Final = 60.0
"""Seconds for the reply to a command of the envelope."""


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
        server = as_server(target, port, options)
    finally:
        del target, options  # a URL with a password: error reporters show the locals of each frame
    steps = list(_steps(sender, (recipients,) if isinstance(recipients, str) else recipients))
    looked_up, addresses, why = look_up(server)
    seen = Check(
        server.url, looked_up=looked_up, addresses=tuple(dial_each(server, addresses)), roots=roots_of(server)
    )
    if why:
        text = f"{server.host} cannot be looked up: {why}"
        seen = replace(seen, error=ConnectError(text, stage=Stage.CONNECT))
    elif any(each.seconds is not None for each in seen.addresses):
        seen = _with_mechanism(server, _look(server, seen))
        # By the wrong kind of session it would only wait for its time to end.
        seen = seen if seen.speaks else _connect(server, seen, steps)
    else:
        seen = replace(seen, error=ConnectError("no address answers", stage=Stage.CONNECT))
    return replace(seen, findings=findings(server, seen))


def _steps(sender: str | None, recipients: Sequence[str]) -> Iterator[_Step]:
    if sender is None and not recipients:
        return
    path = ReversePath(sender or "")
    paths = [ForwardPath(each) for each in recipients]
    utf8 = any(not each.isascii() for each in (path, *paths))
    yield "MAIL", str(path), command.mail(path, smtputf8=utf8)
    for each in paths:
        yield "RCPT", str(each), command.rcpt(each, smtputf8=utf8)


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


def _connect(server: Server, seen: Check, steps: list[_Step]) -> Check:
    begun = monotonic()
    try:
        with connect(server) as connection:
            seconds = monotonic() - begun
            offered = {"after_tls" if connection.is_tls else "before_tls": connection.capabilities}
            return replace(
                seen,
                seconds=seconds,
                verified=connection.is_tls and _verifies(server),
                logged_in=None if server.credentials is None else True,
                envelope=tuple(_try(connection, steps)),
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


def _try(connection: SmtpConnection, steps: list[_Step]) -> Iterator[EnvelopeCheck]:
    """MAIL and RCPT, and RSET behind them."""
    for verb, path, line in steps:
        try:
            reply = connection._channel.run(lambda line=line: exchange(line), Deadline.after(_PATIENCE))  # type: ignore[misc]
        except SmtpError as error:
            yield EnvelopeCheck(verb, path, error.reply, error.text)
            return
        yield EnvelopeCheck(verb, path, reply)
        if verb == "MAIL" and not reply.is_positive:
            return
    if steps:
        try:
            connection.rset(timeout=_PATIENCE)
        except SmtpError:
            connection.close()
