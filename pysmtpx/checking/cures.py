"""What is wrong with a server, or with how it is described, and what would cure it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

from ..errors import AuthenticationError, ConnectError, SmtpError, TlsError
from ..server import Server
from .certificate import Certificate
from .report import Check, Finding

_SOON: Final = 14
"""Days before a certificate expires from which it is told: most are renewed a month before."""
_SLOW: Final = 5.0
"""Seconds for a session that are told."""
_NAMES_TOLD: Final = 5


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
    later = (
        "Try again later; if it stays so, ask who runs the server"
        if error.temporary
        else "Ask who runs the server"
    )
    return _problem(str(error), f"{later}, with this text.")


# -- the line ----------------------------------------------------------------------


def _line(server: Server, seen: Check) -> Iterator[Finding]:
    place = server.host if server.path else f"{server.host}:{server.port}"
    if (
        isinstance(seen.error, ConnectError)
        and seen.looked_up is None
        and not server.path
        and not seen.addresses
    ):
        yield _problem(
            str(seen.error),
            "Check the spelling of the name, and that this machine's DNS works (try another name).",
        )
    elif not any(each.seconds is not None for each in seen.addresses):
        yield _problem(f"No address answers at {place}: {_first_failure(seen)}.", _dial_cure(server, seen))
    elif seen.speaks == "tls":
        yield _problem(
            f"Port {server.port} speaks TLS from the first octet, and was asked for clear text first.",
            f'Use smtps://{server.host}:{server.port}, or tls="implicit".',
        )
    elif seen.speaks == "clear":
        yield _problem(
            f"Port {server.port} speaks SMTP in clear first, and was asked for TLS from the first octet.",
            f'Use smtp://{server.host}:{server.port}, or tls="starttls".',
        )
    elif server.tls == "starttls" and seen.before_tls is not None and not seen.before_tls.starttls:
        yield _problem(
            f"{place} does not offer STARTTLS, which is required.",
            "Try port 465 (smtps://) or 587. Only on a line that nobody can listen to: ?tls=none.",
        )


def _first_failure(seen: Check) -> str:
    return seen.addresses[0].error if seen.addresses else "it has none"


def _dial_cure(server: Server, seen: Check) -> str:
    if server.path:
        return "Check that the server runs, and that you may open its socket."
    if any("refused" in each.error.lower() for each in seen.addresses):
        return (
            f"Nothing listens on port {server.port}: check the port (587, 465, 25) and that the server runs."
        )
    if server.port == 25:
        return "Many networks block port 25 on its way out: use 587 or 465 of your mail provider."
    return "A firewall on the way may swallow it: try another port (587 or 465) or another network."


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
            "Leave out tls=none: STARTTLS is offered."
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
            f"The certificate expires in {own.days_left()} days ({own.not_after:%Y-%m-%d}).", _RENEW
        )


_RENEW: Final = "Whoever runs the server must renew it (with certbot: look why its timer does not run)."


def _refused(server: Server, seen: Check, own: Certificate | None, error: TlsError) -> Iterator[Finding]:
    why = error.__cause__
    if not isinstance(why, ssl.SSLCertVerificationError):
        if seen.before_tls is not None and not seen.before_tls.starttls and server.tls == "starttls":
            return  # told already
        yield _problem(str(error), _handshake_cure(server, str(error)))
        return
    name = server.server_hostname or server.host
    shown = "" if own is None else f" It is for {_names(own)}; issued by {own.issuer or 'nobody named'}."
    if own is not None and own.days_left() < 0:
        yield _problem(f"The certificate expired on {own.not_after:%Y-%m-%d}.{shown}", _RENEW)
    elif "ostname mismatch" in why.verify_message or "IP address mismatch" in why.verify_message:
        yield _problem(
            f"The certificate is not for {name}.{shown}",
            "Use one of its names as host, or server_hostname=… if you know that this is the server.",
        )
    else:
        kind = (
            "signed by itself"
            if own is not None and own.is_self_signed
            else "from an authority that is not trusted"
        )
        yield _problem(
            f"The certificate is {kind} ({why.verify_message}).{shown} Checked against {seen.roots}.",
            "Trust its authority: SSL_CERT_FILE=authority.pem in the environment, or "
            "ssl_context=ssl.create_default_context(cafile=…), without cafile: the system's roots.",
        )


def _names(own: Certificate) -> str:
    if not own.names:
        return f"no name (subject {own.subject})"
    more = len(own.names) - _NAMES_TOLD
    return ", ".join(own.names[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")


def _handshake_cure(server: Server, text: str) -> str:
    upper = text.upper()
    if "CERTIFICATE" in upper and "ALERT" in upper:
        if server.client_certificate is None and server.ssl_context is None:
            return "The server asks for a certificate of yours: client_certificate=(file, key_file)."
        return "The server does not take your client certificate: ask which authority it must come from."
    if "VERSION" in upper or "PROTOCOL" in upper or "HANDSHAKE_FAILURE" in upper:
        return "The server's TLS is too old or shares no cipher: at least TLS 1.2 is needed."
    return "Ask who runs the server, with this text."


# -- who we are ------------------------------------------------------------------------


def _log_in(server: Server, seen: Check) -> Iterator[Finding]:
    error = seen.error
    offered = seen.capabilities
    if server.credentials is None or offered is None or seen.speaks or isinstance(error, TlsError):
        return
    if "AUTH" not in offered:
        if server.tls == "none" and seen.before_tls is not None and seen.before_tls.starttls:
            cure = "AUTH is likely offered only under TLS: leave out tls=none."
        else:
            cure = "This port takes no log-in: use port 587 or 465, or leave the password out."
        yield _problem("A log-in was asked for, and the server offers no AUTH.", cure)
    elif seen.mechanism is None:
        exposed = seen.after_tls is None and not server.is_local and not server.insecure_auth
        cure = (
            "Use TLS: no password goes over a clear line."
            if exposed
            else "Ask who runs the server for one of these."
        )
        yield _problem(f"No mechanism can be used of those offered: {' '.join(offered.auth)}.", cure)
    elif isinstance(error, AuthenticationError):
        yield _refused_log_in(server, error)


def _refused_log_in(server: Server, error: AuthenticationError) -> Finding:
    if error.temporary:
        return _problem(str(error), "The server cannot check passwords just now: try again later.")
    if server.token is not None:
        cure = "Get a new token, for this server's scope; the user name must be the mailbox that it is for."
    else:
        cure = (
            "Check user name and password. Gmail, Microsoft 365, iCloud and Yahoo want an app password "
            "or OAuth (token=…), not the password of the account."
        )
    return _problem(str(error), cure)


# -- the envelope, and what else is offered ------------------------------------------------


def _envelope(seen: Check) -> Iterator[Finding]:
    for each in seen.envelope:
        if not each.accepted:
            said = str(each.reply) if each.reply is not None else each.error
            yield _problem(
                f"{each.command} is refused for {each.address or '<>'}: {said}",
                _reply_cure(each.command, said),
            )


def _reply_cure(verb: str, said: str) -> str:
    lower = said.lower()
    if said[:1] == "4":
        return "It is refused for now (greylisting, a limit, or the server's trouble): a retry may pass."
    if said[:3] == "530" and ("tls" in lower or "encrypt" in lower):
        return "The server wants TLS first: leave out tls=none."
    if said[:3] == "530" or "auth" in lower:
        return "The server wants a log-in first: give a user name and a password."
    if "relay" in lower or "5.7.1" in said:
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
