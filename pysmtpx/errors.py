"""What can go wrong, as one tree.

::

    SmtpError
    ├── InputError (ValueError)            a caller's argument; nothing was written
    │   ├── MessageTooLarge                larger than the server's SIZE
    │   └── RecipientsWithheld             allow_recipients allows nobody of them
    ├── NotSupportedError                  the server does not offer what the call needs
    ├── ConnectError (ConnectionError)     no address answered, or the greeting refused us
    │   └── ProxyError                     a proxy brought no connection
    ├── TlsError                           handshake, certificate, or STARTTLS refused
    ├── AuthenticationError                AUTH refused, or required and not done
    │   ├── MechanismUnavailable           no mechanism in common, or none works here
    │   └── CredentialsUnavailable         no token or password could be had from its provider
    ├── ProtocolError                      the server broke the protocol
    │   └── UsageError (InputError)        the call does not fit the connection; nothing was written
    ├── Timeout (TimeoutError)             a limit ran out before the end of data was sent
    ├── ConnectionLost (ConnectionError)   the line went before the end of data was sent
    ├── SessionLimitReached                the server takes no more on this connection
    ├── RejectedError                      refused by a reply: nobody has the message
    │   ├── SenderRejected                 MAIL was refused
    │   ├── RecipientsRejected             a recipient was refused, and all or nothing was asked
    │   │   └── AllRecipientsFailed        every RCPT (or every LMTP delivery) was refused
    │   ├── DataRejected                   DATA, a chunk or the content was refused
    │   ├── CommandRejected                a single command was refused
    │   └── ServiceUnavailable             421: the server is closing the connection
    └── DeliveryUnknown                    the end of data was sent and no reply came

Every error has ``stage``, ``reply``, ``temporary`` and ``safe_to_retry``, and
names the recipients whose fate it decides. All of them pickle. Its text says
what is wrong, what the server said, what cures it where that is known, and in
brackets the name of its section in docs/troubleshooting.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from .shortening import shortened
from .wire.certificate import Certificate
from .wire.limits import Stage
from .wire.reply import Reply
from .wire.result import RejectedRecipient

_NAMED: Final = 3
"""Of those who were refused."""
_ADDRESS: Final = 80
_ONE_REPLY: Final = 150
"""Characters of each in a list."""


class SmtpError(Exception):
    """Base of everything that pysmtpx raises on its own account.

    ``stage`` says where the conversation stood, ``reply`` is the server's reply
    that decided (None where there was none). Where a mail object was under way
    the four tuples hold every recipient of it exactly once, in order, but for
    those who are withheld.
    """

    _temporary = False
    _safe_to_retry = False

    accepted_recipients: tuple[str, ...] = ()
    """Took responsibility for; never send to these again."""
    accepted_replies: tuple[Reply, ...] = ()
    """The final reply to each of these, in the same order."""
    rejected_recipients: tuple[RejectedRecipient, ...] = ()
    unknown_recipients: tuple[str, ...] = ()
    """The end of data was written for these and no reply came."""
    unsent_recipients: tuple[str, ...] = ()
    withheld_recipients: tuple[str, ...] = ()
    """Not among the others: ``redirect_to`` or ``allow_recipients`` keeps mail from these."""
    transcript: tuple[str, ...] = ()
    """The last exchanges, oldest first, where the error came from a connection: ``C:`` what we wrote (of
    content only the number of octets, of secrets nothing), ``S:`` what the server said."""

    cure: str = ""
    """What to do about it, in whole sentences; empty where that is not known."""

    def __init__(
        self,
        message: str = "",
        *,
        stage: Stage | None = None,
        reply: Reply | None = None,
        cure: str = "",
    ) -> None:
        # It can quote what somebody else wrote: an address, a field. Of a reply ``reply`` has all.
        super().__init__(shortened(message))
        self.stage = stage
        self.reply = reply
        self.cure = cure

    @property
    def temporary(self) -> bool:
        """True where the same call may succeed later (4xx, timeout, loss)."""
        refusal = self._refusal
        return self._temporary if refusal is None else refusal.is_temporary

    @property
    def safe_to_retry(self) -> bool:
        """True where sending the whole again cannot deliver twice and is not pointless."""
        if self.accepted_recipients:
            return False
        refusal = self._refusal
        return self._safe_to_retry if refusal is None else refusal.is_temporary

    @property
    def _refusal(self) -> Reply | None:
        return self.reply if self.reply is not None and self.reply.code >= 400 else None

    @property
    def accounts_for_anyone(self) -> bool:
        """True where one of the tuples names a recipient."""
        return bool(
            self.accepted_recipients
            or self.rejected_recipients
            or self.unknown_recipients
            or self.unsent_recipients
            or self.withheld_recipients
        )

    @property
    def anchor(self) -> str:
        """The name of the section of docs/troubleshooting.md that is about this kind of error."""
        return next(kind.__name__ for kind in type(self).__mro__ if kind.__module__ == __name__).lower()

    @property
    def text(self) -> str:
        """What is wrong, what the server said, and the cure; ``str`` adds the ``anchor``."""
        wrong = self._wrong()
        return f"{wrong.removesuffix('.')}. {self.cure}" if wrong and self.cure else wrong or self.cure

    def _wrong(self) -> str:
        text = str(self.args[0]) if self.args else ""
        reply = "" if self.reply is None else shortened(str(self.reply))
        return f"{text}: {reply}" if text and reply else text or reply

    def __str__(self) -> str:
        return f"{self.text} [{self.anchor}]".lstrip()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class InputError(SmtpError, ValueError):
    """An argument of the caller was refused; nothing was written."""

    def __init__(
        self,
        message: str = "",
        *,
        stage: Stage | None = Stage.INPUT,
        reply: Reply | None = None,
        cure: str = "",
    ) -> None:
        super().__init__(message, stage=stage, reply=reply, cure=cure)

    def at(self, where: str) -> InputError:
        """The same with the place of what was refused: a header field, or which recipient."""
        return InputError(f"{where}: {self._wrong()}", stage=self.stage, cure=self.cure)


class MessageTooLarge(InputError):
    """The content is larger than the server's SIZE allows (RFC 1870 6.1)."""


class RecipientsWithheld(InputError):
    """``allow_recipients`` allows none of the recipients; ``withheld_recipients`` are all of them."""


class NotSupportedError(SmtpError):
    """The server does not offer an extension that the call needs; nothing was written.

    ``keyword`` is the EHLO keyword that is missing.
    """

    def __init__(
        self,
        message: str = "",
        *,
        keyword: str = "",
        stage: Stage | None = Stage.INPUT,
        reply: Reply | None = None,
        cure: str = "",
    ) -> None:
        super().__init__(message, stage=stage, reply=reply, cure=cure)
        self.keyword = keyword


class ConnectError(SmtpError, ConnectionError):
    """No address of the host answered, or the greeting was a refusal."""

    _temporary = True
    _safe_to_retry = True


ProxyReason: TypeAlias = Literal["unreachable", "refused", "target", "broken"]
"""The proxy cannot be reached; refuses us or the server's port; does not reach the server; is out of step."""


class ProxyError(ConnectError):
    """The proxy brought no connection. ``reason`` says at what, ``proxy`` is its URL without who we are.

    Temporary, unless it refused us.
    """

    def __init__(
        self,
        message: str = "",
        *,
        stage: Stage | None = None,
        reply: Reply | None = None,
        cure: str = "",
        reason: ProxyReason = "broken",
        proxy: str = "",
    ) -> None:
        super().__init__(message, stage=stage, reply=reply, cure=cure)
        self.reason = reason
        self.proxy = proxy
        self._temporary = self._safe_to_retry = reason != "refused"


class TlsError(SmtpError):
    """TLS was required and did not come about: handshake, certificate of either side, or STARTTLS.

    Also where TLS is off and the server demands it. Not temporary, unless a reply says so. ``final``: the
    server refused us, as for our certificate, and would do so again.
    """

    _safe_to_retry = True

    certificate: Certificate | None = None
    """What the server's certificate says of itself, where it was refused: nobody vouches for that."""
    roots: str = ""
    """What it was checked against, as a text for people."""

    def __init__(
        self,
        message: str = "",
        *,
        stage: Stage | None = None,
        reply: Reply | None = None,
        final: bool = False,
        cure: str = "",
    ) -> None:
        super().__init__(message, stage=stage, reply=reply, cure=cure)
        self._safe_to_retry = not final


class AuthenticationError(SmtpError):
    """The server refused AUTH (RFC 4954 6), or demands it (530).

    ``temporary`` tells a server that cannot check just now (454) from a wrong
    password (535).
    """


class MechanismUnavailable(AuthenticationError):
    """No SASL mechanism that the server offers can be used with these credentials."""


class CredentialsUnavailable(AuthenticationError):
    """A token or password could not be had from its provider; no log-in was tried.

    ``temporary`` tells a provider that is down, slow or busy from one that
    refuses us. ``retry_after`` is in seconds, where it said when to ask again.
    """

    def __init__(
        self,
        message: str = "",
        *,
        stage: Stage | None = Stage.AUTH,
        reply: Reply | None = None,
        cure: str = "",
        temporary: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, stage=stage, reply=reply, cure=cure)
        self._temporary = self._safe_to_retry = temporary
        self.retry_after = retry_after


class ProtocolError(SmtpError):
    """The server's octets are not SMTP, or not in step; the connection was closed."""

    _safe_to_retry = True

    surplus: tuple[Reply, Reply | None] | None = None
    """The last reply that was owed and the one behind it (None: no reply), where there was one too many.

    What was read before may then answer other commands than those it was read for.
    """

    @property
    def safe_to_retry(self) -> bool:
        """True unless somebody has the message: a reply that is out of step refuses nothing for good."""
        return self._safe_to_retry and not self.accepted_recipients


class UsageError(ProtocolError, InputError):
    """The call does not fit this connection or its own arguments; nothing was written."""

    _safe_to_retry = False

    def __init__(
        self,
        message: str = "",
        *,
        stage: Stage | None = Stage.INPUT,
        reply: Reply | None = None,
        cure: str = "",
    ) -> None:
        super().__init__(message, stage=stage, reply=reply, cure=cure)


class Timeout(SmtpError, TimeoutError):
    """A limit ran out, and the end of data had not been written; the connection was closed."""

    _temporary = True
    _safe_to_retry = True


class ConnectionLost(SmtpError, ConnectionError):
    """The connection is gone, and the end of data had not been written."""

    _temporary = True
    _safe_to_retry = True


class SessionLimitReached(SmtpError):
    """The server says how much it takes on one connection, and there is no room for ``unsent_recipients``.

    By LIMITS: so many transactions (MAILMAX), or recipients at so many domains
    (RCPTDOMAINMAX; RFC 9422 4.1, 4.3). Nothing was written for these; others may
    have been sent to. The connection is usable, as far as it has room.
    """

    _temporary = True
    _safe_to_retry = True


class RejectedError(SmtpError):
    """The server refused, cleanly and in step; nobody has the message."""


class SenderRejected(RejectedError):
    """MAIL was refused (RFC 5321 3.3)."""


class RecipientsRejected(RejectedError):
    """Recipients were refused, and therefore nothing was delivered to anybody.

    ``count`` recipients were offered; ``responses`` holds the reply for each
    that was refused, in order, and ``rejected_recipients`` the same with their
    paths. Raised itself where all or nothing was asked for.
    """

    def __init__(self, count: int, responses: Sequence[Reply], *, stage: Stage | None = Stage.RCPT) -> None:
        super().__init__(stage=stage, reply=responses[-1] if responses else None)
        self.count = count
        self.responses: tuple[Reply, ...] = tuple(responses)
        self.args: tuple[Any, ...] = (count, self.responses)

    @property
    def temporary(self) -> bool:
        """True where at least one recipient was refused for now (4xx) only."""
        return any(reply.is_temporary for reply in self.responses)

    @property
    def safe_to_retry(self) -> bool:
        """True where a retry is not pointless for at least one recipient; nobody got the message."""
        return self.temporary

    def _wrong(self) -> str:
        refused = f"{len(self.responses)} of {self.count} recipients were refused"
        named = self.rejected_recipients[:_NAMED]
        if not named or len(set(self.responses)) == 1:
            who = f": {_and_more([shortened(each.recipient, _ADDRESS) for each in named], self.responses)}"
            last = shortened(str(self.reply))
            return f"{refused}{who} ({last})" if named else f"{refused}, the last with {last}"
        said = [
            f"{shortened(each.recipient, _ADDRESS)} ({shortened(str(each.reply), _ONE_REPLY)})"
            for each in named
        ]
        return f"{refused}: {_and_more(said, self.responses)}"


class AllRecipientsFailed(RecipientsRejected):
    """No recipient was accepted (RFC 5321 3.3)."""


class DataRejected(RejectedError):
    """DATA, a BDAT chunk or the content itself was refused; nobody got the message."""


class CommandRejected(RejectedError):
    """A single command was refused."""


class ServiceUnavailable(RejectedError, ConnectionError):
    """421: the server closes the connection (RFC 5321 3.8); so did we."""


class DeliveryUnknown(SmtpError):
    """The end of data was written and no valid reply came: perhaps delivered.

    Sending again may deliver twice, so nothing here does it unasked (RFC 5321
    6.1, RFC 1047). ``unknown_recipients`` are in doubt; an LMTP server may
    have answered for others before, and these are in ``accepted_recipients``
    and ``rejected_recipients``. ``__cause__`` says what happened.
    """

    @property
    def temporary(self) -> bool:
        """Always False: nobody knows."""
        return False

    @property
    def safe_to_retry(self) -> bool:
        """Always False."""
        return False


def _and_more(named: Sequence[str], all_of_them: Sequence[object]) -> str:
    more = len(all_of_them) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def unasked(reply: Reply | None) -> SmtpError:
    """The error for what a server said between two calls, when no reply was owed; None for what is none."""
    if reply is not None and reply.code == 421:
        return ServiceUnavailable("the server closed the idle connection", reply=reply)
    return ProtocolError("the server spoke without being asked", reply=reply)


def shifted(text: str, stage: Stage, reply: Reply) -> ProtocolError:
    """The error for a reply by which those before it may answer other commands than they were read for."""
    error = ProtocolError(text, stage=stage, reply=reply)
    error.surplus = (reply, None)
    return error
