"""How a server is set up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypedDict

from .script import Answer, Key, Script, Verdict

EXTENSIONS: Final = (
    "PIPELINING",
    "SIZE 104857600",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "ENHANCEDSTATUSCODES",
)
"""The EHLO lines of a server that is told nothing else."""

MECHANISMS: Final = (
    "SCRAM-SHA-512-PLUS",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
    "XOAUTH2",
    "OAUTHBEARER",
    "EXTERNAL",
)
"""Every SASL mechanism that the server can do."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a server offers, demands and answers. All of it is optional."""

    protocol: Literal["smtp", "lmtp"] = "smtp"
    name: str = "mail.example"
    """The name in greeting and EHLO reply."""
    extensions: Sequence[str] = EXTENSIONS
    """EHLO lines as they stand on the wire, known or not."""
    tls_extensions: Sequence[str] | None = None
    """EHLO lines under TLS; None: the same without STARTTLS."""
    helo_only: bool = False
    """Refuse EHLO, as servers of RFC 821 do."""
    users: Mapping[str, str] = field(default_factory=dict)
    """User names and passwords."""
    tokens: Mapping[str, str] = field(default_factory=dict)
    """User names and bearer tokens, for XOAUTH2 and OAUTHBEARER."""
    mechanisms: Sequence[str] | None = None
    """Mechanisms of the AUTH line where ``extensions`` has none; None: all that can succeed."""
    external: str | None = None
    """Who the client is to EXTERNAL where TLS has no client certificate."""
    scram_iterations: int = 4096
    require_auth: bool = False
    """Answer MAIL with 530 before AUTH."""
    require_tls: bool = False
    """Answer all but EHLO, NOOP, QUIT and STARTTLS with 530 in clear (RFC 3207 4)."""
    local_mailboxes: bool = False
    """Take mailboxes without a domain, and with long local parts, as servers do for those of their host."""
    refuse: Mapping[str, Answer] = field(default_factory=dict)
    """Answers to RCPT by address: ``{"bob@x.example": "550 5.1.1 unknown"}``."""
    replies: Mapping[Key, Answer] = field(default_factory=dict)
    """Answers by verb, or by verb and index or address: ``{("MAIL", 1): "451 later"}``."""
    verdict: Verdict | None = None
    """Called for every answer, before the tables."""
    text_line_limit: int | None = 998
    """Octets of a content line without CRLF (RFC 5322 2.1.1); None judges none."""
    lenient: bool = False
    """Take what stock clients send and common servers take: a SIZE that was counted before the line ends
    became CRLF, 8-bit content without BODY, bare line ends, long lines, blanks and brackets amiss, a host
    called ``my_app``, paths that RFC 5321 does not know. What is refused is no breach: the client is told."""
    strict_headers: bool = False
    """A header section with non-ASCII octets needs SMTPUTF8 (RFC 6532)."""

    @property
    def script(self) -> Script:
        """The three sources of answers as one."""
        return Script(self.refuse, self.replies, self.verdict)

    def offer(self, *, tls: bool, binding: bool = False, identity: bool = False) -> list[str]:
        """The EHLO lines now; ``binding`` and ``identity`` say what TLS can give to AUTH."""
        lines = list(self.extensions)
        if tls:
            lines = [line for line in lines if line.split()[0].upper() != "STARTTLS"]
            lines = lines if self.tls_extensions is None else list(self.tls_extensions)
        has_auth = any(line.upper().startswith("AUTH") for line in lines)
        names = self._mechanisms(binding, identity)
        return lines if has_auth or not names else [*lines, "AUTH " + " ".join(names)]

    def _mechanisms(self, binding: bool, identity: bool) -> list[str]:
        if self.mechanisms is not None:
            return list(self.mechanisms)
        return [name for name in MECHANISMS if self._can_succeed(name, binding, identity)]

    def _can_succeed(self, mechanism: str, binding: bool, identity: bool) -> bool:
        if mechanism == "EXTERNAL":
            return identity or self.external is not None
        if mechanism in ("XOAUTH2", "OAUTHBEARER"):
            return bool(self.tokens)
        return bool(self.users) and (binding or not mechanism.endswith("-PLUS"))


class Options(TypedDict, total=False):
    """The fields of ``Config`` as keyword arguments."""

    protocol: Literal["smtp", "lmtp"]
    name: str
    extensions: Sequence[str]
    tls_extensions: Sequence[str] | None
    helo_only: bool
    users: Mapping[str, str]
    tokens: Mapping[str, str]
    mechanisms: Sequence[str] | None
    external: str | None
    scram_iterations: int
    require_auth: bool
    require_tls: bool
    local_mailboxes: bool
    refuse: Mapping[str, Answer]
    replies: Mapping[Key, Answer]
    verdict: Verdict | None
    text_line_limit: int | None
    lenient: bool
    strict_headers: bool
