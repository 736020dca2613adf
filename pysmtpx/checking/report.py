"""What a look at a server came to, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from ..cures import Face, worded
from ..errors import SmtpError
from ..sasl.binding import ChannelBinding
from ..wire.capabilities import Capabilities
from ..wire.certificate import Certificate
from ..wire.reply import Reply

Level: TypeAlias = Literal["problem", "warning"]
"""``problem``: mail cannot be sent so. ``warning``: it can, and something is or will be wrong."""


def wrong(error: SmtpError) -> str:
    """What an error says, without the cure, which a report has apart."""
    return error.text.removesuffix(error.cure).rstrip()


def told(error: SmtpError, face: Face | None) -> str:
    """The text of an error, with its cure in the words of who reads it; without a face those of Python."""
    return f"{wrong(error)} {error.cure if face is None else worded(error.cure, face)}".strip()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and what would cure it."""

    level: Level
    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """One address of the host, and how it answered."""

    address: str
    seconds: float | None
    """Until the connection stood; None where it did not."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class TlsCheck:
    """What was seen of TLS by looking, whether or not it can be trusted."""

    version: str
    """Such as ``TLSv1.3``."""
    cipher: str
    bits: int
    certificate: Certificate | None
    """The server's own; None where it cannot be read."""
    chain: tuple[Certificate, ...]
    """What else the server showed; empty before Python 3.13, which does not tell."""
    binding: ChannelBinding | None
    """What SCRAM can bind a log-in to; None where it can to nothing, as with a certificate by Ed25519."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a session saw that only looked."""

    capabilities: Capabilities | None = None
    tls: TlsCheck | None = None
    error: SmtpError | None = None
    """Why it ended early."""


@dataclass(frozen=True, slots=True)
class EnvelopeCheck:
    """One command of an envelope, and what the server said; no message follows."""

    command: Literal["MAIL", "RCPT"]
    address: str
    reply: Reply | None
    """None where none came: then ``error`` says why, and ``cure`` what would help, where that is known."""
    error: str = ""
    cure: str = ""

    @property
    def accepted(self) -> bool:
        """The server would take it."""
        return self.reply is not None and self.reply.is_positive


@dataclass(frozen=True, slots=True)
class Check:
    """What a look at one server came to. ``ok`` says whether mail can be sent there."""

    server: str
    """Its URL, without password and token."""
    looked_up: float | None = None
    """Seconds for the look-up; None for a path or an address, and where it failed."""
    addresses: tuple[AddressCheck, ...] = ()
    speaks: Literal["", "clear", "tls"] = ""
    """What the port speaks from the first octet, where that is not what the server was described with."""
    before_tls: Capabilities | None = None
    """What was offered in clear; None where nothing was said in clear."""
    after_tls: Capabilities | None = None
    """What was offered under TLS."""
    tls: TlsCheck | None = None
    verified: bool = False
    """The certificate was accepted, for this name."""
    roots: str = ""
    """Where the roots come from that certificates are checked against."""
    mechanism: str | None = None
    """The SASL mechanism that logged in, or would be tried first; None where none is wanted, or none can."""
    logged_in: bool | None = None
    """None where no log-in was asked for, or where it did not come to that."""
    seconds: float | None = None
    """For a whole session, up to where mail can be sent."""
    envelope: tuple[EnvelopeCheck, ...] = ()
    error: SmtpError | None = None
    """What ``connect`` raises for this server."""
    findings: tuple[Finding, ...] = ()
    """What is wrong or will be, each with its cure; problems first."""

    @property
    def ok(self) -> bool:
        """Mail can be sent: no finding is a problem."""
        return all(finding.level != "problem" for finding in self.findings)

    @property
    def capabilities(self) -> Capabilities | None:
        """What is offered to whoever sends."""
        return self.after_tls or self.before_tls

    def worded(self, face: Face) -> tuple[Finding, ...]:
        """The findings, with their cures in the options of that face."""
        return tuple(replace(each, cure=worded(each.cure, face)) for each in self.findings)

    def as_dict(self, face: Face | None = None) -> dict[str, Any]:
        """All of it as plain values, ready for ``json``; no secret is among them.

        With a face cures name the options as they are called there.
        """
        return {
            "server": self.server,
            "ok": self.ok,
            "looked_up": self.looked_up,
            "addresses": [
                {"address": each.address, "seconds": each.seconds, "error": each.error}
                for each in self.addresses
            ],
            "speaks": self.speaks,
            "before_tls": _offer(self.before_tls),
            "after_tls": _offer(self.after_tls),
            "tls": None if self.tls is None else _tls(self.tls, self.verified, self.roots),
            "mechanism": self.mechanism,
            "logged_in": self.logged_in,
            "seconds": self.seconds,
            "envelope": [_envelope(each) for each in self.envelope],
            "error": None
            if self.error is None
            else {
                "type": type(self.error).__name__,
                "text": told(self.error, face),
                "anchor": self.error.anchor,
            },
            "findings": [
                {"level": each.level, "what": each.what, "cure": each.cure}
                for each in (self.findings if face is None else self.worded(face))
            ],
        }


def _offer(capabilities: Capabilities | None) -> dict[str, list[str]] | None:
    if capabilities is None:
        return None
    return {keyword: list(values) for keyword, values in capabilities.keywords.items()}


def _tls(tls: TlsCheck, verified: bool, roots: str) -> dict[str, Any]:
    return {
        "version": tls.version,
        "cipher": tls.cipher,
        "bits": tls.bits,
        "verified": verified,
        "roots": roots,
        "certificate": None if tls.certificate is None else _certificate(tls.certificate),
        "chain": [_certificate(each) for each in tls.chain],
        "channel_binding": None if tls.binding is None else tls.binding.kind,
    }


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": list(certificate.names),
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "days_left": certificate.days_left(),
        "sha256": certificate.fingerprint,
        "spki": certificate.key_fingerprint,
    }


def _envelope(each: EnvelopeCheck) -> dict[str, Any]:
    return {
        "command": each.command,
        "address": each.address,
        "accepted": each.accepted,
        "reply": None if each.reply is None else str(each.reply),
        "error": each.error,
    }
