"""What is wrong with a server, or with how it is described, and what would cure it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

from .. import cures
from ..errors import AuthenticationError, ConnectError, SmtpError, TlsError
from ..server import Server
from ..wire.certificate import Certificate
from ..wire.reply import Reply
from .report import Check, Finding, wrong

_SOON: Final = 14
"""Days before a certificate expires from which it is told: most are renewed a month before."""
_SLOW: Final = 5.0
"""Seconds for a session that are told."""
_NAMES_TOLD: Final = 5
_ASK: Final = "Ask who runs the server, with this text."


def findings(server: Server, seen: Check) -> tuple[Finding, ...]:
    """Everything that is wrong or will be; problems first."""
    found = [*_line(server, seen), *_certificate(server, seen), *_log_in(server, seen), *_envelope(seen)]
    if not any(each.level == "problem" for each in found) and seen.error is not None:
        found.append(_unnamed(seen.error))
    found += [*_addresses(seen), *_offer(seen)]
    return tuple(sorted(found, key=lambda each: each.level != "problem"))


def _problem(what: str, cure: str) -> Finding:
    return Finding("problem", what, cure)


def _warning(what: str, cure: str) -> Finding:
    return Finding("warning", what, cure)


def _unnamed(error: SmtpError) -> Finding:
    return _told(
        error, f"Try again later; if it stays so: {_ASK[0].lower()}{_ASK[1:]}" if error.temporary else _ASK
    )


def _told(error: SmtpError, otherwise: str = _ASK) -> Finding:
    """What an error says, with its own cure; ``otherwise`` one for an error that knows none."""
    return _problem(wrong(error), error.cure or otherwise)


# -- the line ----------------------------------------------------------------------


def _line(server: Server, seen: Check) -> Iterator[Finding]:
    place = server.host if server.path else f"{server.host}:{server.port}"
    if (
        isinstance(seen.error, ConnectError)
        and seen.looked_up is None
        and not server.path
        and not seen.addresses
    ):
        yield _problem(wrong(seen.error), cures.look_up())
    elif not any(each.seconds is not None for each in seen.addresses):
        if not server.is_direct and seen.error is not None:
            yield _told(seen.error, cures.dialled())
            return
        yield _problem(
            f"No address answers at {place}: {_first_failure(seen)}.",
            cures.dial(server.port, [each.error for each in seen.addresses], is_path=bool(server.path)),
        )
    elif seen.speaks == "tls":
        yield _problem(
            f"Port {server.port} speaks TLS from the first octet, and was asked for clear text first.",
            cures.tls_first(server.host, server.port),
        )
    elif seen.speaks == "clear":
        yield _problem(
            f"Port {server.port} speaks SMTP in clear first, and was asked for TLS from the first octet.",
            cures.clear_first(server.host, server.port),
        )
    elif server.tls == "starttls" and seen.before_tls is not None and not seen.before_tls.starttls:
        yield _problem(
            f"{place} does not offer STARTTLS, which is required.",
            cures.no_starttls(server.port),
        )


def _first_failure(seen: Check) -> str:
    return seen.addresses[0].error if seen.addresses else "it has none"


def _addresses(seen: Check) -> Iterator[Finding]:
    dead = [each for each in seen.addresses if each.seconds is None]
    if dead and len(dead) < len(seen.addresses):
        names = ", ".join(each.address for each in dead)
        yield _warning(
            f"{len(dead)} of {len(seen.addresses)} addresses do not answer: {names} ({dead[0].error}).",
            "Others do, so mail goes, at times late. Ask who runs it, or mend this network's IPv6 or IPv4.",
        )
    if seen.seconds is not None and seen.seconds > _SLOW:
        yield _warning(
            f"A session took {seen.seconds:.1f} s to begin.",
            "Keep connections (SmtpPool), and allow for it in connect_timeout.",
        )


# -- TLS -----------------------------------------------------------------------------


def _certificate(server: Server, seen: Check) -> Iterator[Finding]:
    if server.tls == "none" and not server.is_local and seen.before_tls is not None:
        cure = (
            'STARTTLS is offered: leave out tls="none".'
            if seen.before_tls.starttls
            else "Look for a port with TLS."
        )
        yield _warning("Mail goes in clear: everybody on the way can read and change it.", cure)
    if seen.speaks:
        return
    own = None if seen.tls is None else seen.tls.certificate
    if isinstance(seen.error, TlsError):
        yield from _refused(server, seen, own, seen.error)
    elif own is not None and own.days_left() < _SOON:
        yield _warning(
            f"The certificate expires in {own.days_left()} days ({own.not_after:%Y-%m-%d}).", cures.expired()
        )


def _refused(server: Server, seen: Check, own: Certificate | None, error: TlsError) -> Iterator[Finding]:
    why = error.__cause__
    if not isinstance(why, ssl.SSLCertVerificationError):
        if seen.before_tls is not None and not seen.before_tls.starttls and server.tls == "starttls":
            return  # told already
        yield _told(error, error.cure or _handshake_cure(server, wrong(error)))
        return
    name = server.server_hostname or server.host
    shown = "" if own is None else f" It is for {_names(own)}; issued by {own.issuer or 'nobody named'}."
    if own is not None and own.days_left() < 0:
        yield _problem(f"The certificate expired on {own.not_after:%Y-%m-%d}.{shown}", cures.expired())
    elif "ostname mismatch" in why.verify_message or "IP address mismatch" in why.verify_message:
        names = () if own is None else own.names
        yield _problem(f"The certificate is not for {name}.{shown}", cures.wrong_name(names))
    else:
        kind = (
            "signed by itself"
            if own is not None and own.is_self_signed
            else "from an authority that is not trusted"
        )
        yield _problem(
            f"The certificate is {kind} ({why.verify_message}).{shown} Checked against {seen.roots}.",
            cures.untrusted(),
        )


def _names(own: Certificate) -> str:
    if not own.names:
        return f"no name (subject {own.subject})"
    more = len(own.names) - _NAMES_TOLD
    return ", ".join(own.names[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")


def _handshake_cure(server: Server, text: str) -> str:
    upper = text.upper()
    if "CERTIFICATE" in upper and "ALERT" in upper:
        is_given = server.client_certificate is not None or server.ssl_context is not None
        return cures.client_certificate(is_given=is_given)
    return cures.handshake(text) or _ASK


# -- who we are ------------------------------------------------------------------------


def _log_in(server: Server, seen: Check) -> Iterator[Finding]:
    error = seen.error
    offered = seen.capabilities
    if server.credentials is None or offered is None or seen.speaks or isinstance(error, TlsError):
        return
    if "AUTH" not in offered:
        unused = server.tls == "none" and seen.before_tls is not None and seen.before_tls.starttls
        cure = cures.no_auth(starttls=unused)
        yield _problem("A log-in was asked for, and the server offers no AUTH.", cure)
    elif seen.mechanism is None:
        in_clear = seen.after_tls is None and not server.is_local and not server.insecure_auth
        cure = cures.exposed() if in_clear else cures.no_mechanism()
        yield _problem(f"No mechanism can be used of those offered: {' '.join(offered.auth)}.", cure)
    elif isinstance(error, AuthenticationError):
        has_token, is_temporary = server.token is not None, error.temporary
        login = cures.refused_login(seen.mechanism or "", has_token=has_token, is_temporary=is_temporary)
        yield _told(error, error.cure or login)


# -- the envelope, and what else is offered ------------------------------------------------


def _envelope(seen: Check) -> Iterator[Finding]:
    for each in seen.envelope:
        if each.reply is None:
            yield _problem(f"The envelope could not be tried: {each.error}", each.cure or _ASK)
        elif not each.accepted:
            yield _problem(
                f"{each.command} is refused for {each.address or '<>'}: {each.reply}",
                _envelope_cure(seen, each.command, each.reply),
            )


def _envelope_cure(seen: Check, verb: str, reply: Reply) -> str:
    if reply.is_temporary:
        return "It is refused for now (greylisting, a limit, or the server's trouble): a retry may pass."
    told = cures.of_reply(reply, is_tls=seen.after_tls is not None, is_logged_in=bool(seen.logged_in))
    return told or _refusal_cure(verb, reply)


def _refusal_cure(verb: str, reply: Reply) -> str:
    lower = str(reply).lower()
    if "auth" in lower:
        return "The server wants a log-in first: give username and password (or token)."
    if "relay" in lower or "5.7.1" in lower:
        return "It takes no mail for others from here: log in, or ask that this machine may relay."
    if verb == "MAIL":
        return "This sender may not be used here: use an address that belongs to the account."
    return "Check the address; the server knows no such mailbox, or refuses mail for it."


def _offer(seen: Check) -> Iterator[Finding]:
    offered = seen.capabilities
    if offered is None or seen.error is not None:
        return
    if not offered.pipelining:
        yield _warning(
            "PIPELINING is not offered: every command waits for its reply.",
            "Nothing to do for one message; for many, more connections help.",
        )
