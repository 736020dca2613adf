"""From a mail object and what a server offers to the exact lines of one transaction.

Everything that can be wrong with a call is found here, before a byte is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from .. import cures
from ..errors import InputError, MessageTooLarge, NotSupportedError, SmtpError, UsageError
from ..values import flag
from ..wire import command
from ..wire.address import ForwardPath, ReversePath
from ..wire.capabilities import Capabilities, Protocol
from ..wire.content import Content, Measure
from ..wire.envelope import MailObject
from ..wire.limits import WINDOW
from ..wire.params import Body, MailFromParams
from .allowance import Allowance, count_domains


@dataclass(frozen=True, slots=True)
class Options:
    """How a mail object is to travel; the rest follows from the capabilities."""

    bdat: bool = False
    """By BDAT rather than DATA (RFC 3030)."""
    all_or_nothing: bool = False
    """Send only where every recipient is accepted."""
    as_is: bool = False
    """Let lines over 998 octets and 8-bit headers pass as they stand."""


DEFAULT = Options()


def as_options(bdat: bool, all_or_nothing: bool, allow_long_lines: bool) -> Options:
    """The keywords of the ``send`` methods as the flows know them."""
    if not bdat and all_or_nothing is False and allow_long_lines is False:
        return DEFAULT
    return Options(
        bdat=bdat,
        all_or_nothing=flag("all_or_nothing", all_or_nothing),
        as_is=flag("allow_long_lines", allow_long_lines),
    )


_LMTP: Final = Protocol.LMTP


Recorder: TypeAlias = Callable[[Sequence[tuple[Any, Sequence[str]]]], None]
"""Is told who is about to be in doubt, before the write by which they are: for each message in that write,
as what it was pushed, and its recipients. If it raises, nothing of that is written."""


class Plan(NamedTuple):
    """One transaction, ready to be written. A tuple: one is made for every message."""

    mail: MailObject
    envelope: tuple[bytes, ...]
    """The MAIL line and one RCPT line a recipient."""
    options: Options
    lmtp: bool
    window: int
    """Commands that may be unanswered; 1 is the sequential path."""
    body: Body | None
    """The BODY that was stated (RFC 6152, RFC 3030), None where none was."""
    limit: int | None
    """Recipients that the server takes in one transaction: RCPTMAX (RFC 9422 4.2), or what was learnt."""
    recorder: Recorder | None = None
    allowance: Allowance | None = None
    """What it takes in the whole session, where it says so."""

    @property
    def is_one_transaction(self) -> bool:
        """Nobody can be owed a further transaction."""
        return len(self.mail.recipients) == 1 or goes_whole(self.mail, self.options)

    @property
    def is_unfit(self) -> bool:
        """The session has no room for anybody, or not for all who must have it together."""
        allowance = self.allowance
        return allowance is not None and not allowance.takes(
            self.mail.recipients, whole=self.is_one_transaction
        )

    @property
    def is_undivided(self) -> bool:
        """All recipients go in one transaction on this session."""
        recipients, allowance = self.mail.recipients, self.allowance
        if self.limit is not None and self.limit < len(recipients):
            return False
        return allowance is None or allowance.takes(recipients, whole=True)

    def at_most(self, recipients: int) -> Plan:
        """The same with so many recipients in a transaction at most."""
        return self._replace(limit=recipients if self.limit is None else min(self.limit, recipients))

    @property
    def content(self) -> Content:
        """The content to be written."""
        return self.mail.content


def goes_whole(mail: MailObject, options: Options) -> bool:
    """Whether all recipients must be in one transaction: it is all or nothing, or can be read only once."""
    return options.all_or_nothing or not mail.content.replayable


def make_plan(
    mail: MailObject,
    capabilities: Capabilities,
    *,
    protocol: Protocol,
    is_tls: bool,
    options: Options = DEFAULT,
    is_local: bool = False,
    allowance: Allowance | None = None,
) -> Plan:
    """Check a mail object against a server and build its command lines.

    ``is_local`` is for a server on this host: it knows mailboxes by their local
    part, as LMTP servers do. ``allowance`` is that of the session.

    Raises ``InputError`` for what no server could take, ``MessageTooLarge``
    for content over the server's SIZE, ``NotSupportedError`` for what this
    server does not offer, ``UsageError`` for a contradiction within the call.
    """
    if options.bdat and not capabilities.chunking:
        raise NotSupportedError("the server does not offer CHUNKING (RFC 3030)", keyword="CHUNKING")
    content, given = mail.content, mail.mail_params
    if not is_local and protocol is not _LMTP:
        _check_paths(mail.sender, mail.recipients)
    if not content.replayable:
        content.check_unspent()
    limit = capabilities.rcpt_max
    if limit is not None or capabilities.rcpt_domain_max is not None:
        _check_count(mail, capabilities, options)
    try:
        measure = content.measure
    except SmtpError as error:
        if not is_foreign(error):
            raise
        raise InputError("the content could not be read") from error
    body: Body | None = None
    if given is not None or measure is None or not measure.is_plain:
        body = _body(None if given is None else given.body, measure, capabilities, options)
    size = _size(None if given is None else given.size, body, measure, capabilities)
    utf8 = (given is not None and given.smtputf8) or _needs_smtputf8(mail, measure, capabilities, options)
    if given is not None:
        given.check(capabilities, is_tls=is_tls)
        _check_times(given, capabilities)
    for rcpt_params in mail.rcpt_params or ():
        if rcpt_params is not None:
            rcpt_params.check(capabilities, is_tls=is_tls)
    envelope = (
        command.mail(mail.sender, given, size=size, body=body, smtputf8=utf8),
        *command.rcpts(mail.recipients, mail.rcpt_params, smtputf8=utf8),
    )
    window = WINDOW if capabilities.pipelining else 1
    return Plan(mail, envelope, options, protocol is _LMTP, window, body, limit, None, allowance)


def make_envelope(
    sender: ReversePath, recipients: Sequence[ForwardPath], capabilities: Capabilities, *, is_local: bool
) -> tuple[bytes, ...]:
    """The lines of an envelope that no content follows; ``is_local`` and errors as for ``make_plan``."""
    if not is_local:
        _check_paths(sender, recipients)
    utf8 = _paths_need_smtputf8(sender, recipients, capabilities)
    return command.mail(sender, smtputf8=utf8), *command.rcpts(recipients, None, smtputf8=utf8)


def _check_paths(sender: ReversePath, recipients: Sequence[ForwardPath]) -> None:
    """Refuse a mailbox that means something only to the server of its host."""
    if sender.doubt:
        raise InputError(f"sender: {sender.doubt}")
    for place, path in enumerate(recipients, 1):
        if path.doubt:
            raise InputError(f"recipient {place}: {path.doubt}")


def is_foreign(error: SmtpError) -> bool:
    """Whether what content raised is about other mail, and must not pass for an error about this.

    Content may itself send mail, or raise one object again and again.
    """
    return error.accounts_for_anyone or not isinstance(error, InputError | NotSupportedError)


def _check_count(mail: MailObject, capabilities: Capabilities, options: Options) -> None:
    """Refuse what would need a second transaction and cannot have one, on this connection or on another."""
    if not goes_whole(mail, options):
        return
    count, most, domains = len(mail.recipients), capabilities.rcpt_max, capabilities.rcpt_domain_max
    if most is not None and most < count:
        what = f"{most} recipients in a transaction (RFC 9422 4.2)"
    elif domains is not None and domains < count and domains < count_domains(mail.recipients):
        what = f"recipients at {domains} domains on one connection (RFC 9422 4.3)"
    else:
        return
    why = "all or nothing was asked" if options.all_or_nothing else "the content can be read only once"
    raise NotSupportedError(f"the server takes {what}, and {why}", keyword="LIMITS")


def _check_times(given: MailFromParams, capabilities: Capabilities) -> None:
    """Refuse a time that the server said it would refuse."""
    longest, shortest = capabilities.futurerelease, capabilities.deliverby
    if longest is not None and given.holdfor is not None and given.holdfor > longest[0]:
        raise NotSupportedError(
            f"the server holds a message for at most {longest[0]} seconds (RFC 4865 3)",
            keyword="FUTURERELEASE",
        )
    if shortest is not None and given.by is not None and 0 < given.by.seconds < shortest:
        raise NotSupportedError(
            f"the server delivers within no fewer than {shortest} seconds (RFC 2852 3)", keyword="DELIVERBY"
        )


def _size(
    given: int | None, body: Body | None, measure: Measure | None, capabilities: Capabilities
) -> int | None:
    """What SIZE states: counted after line ends and before stuffing (RFC 1870 5)."""
    size = given
    if measure is not None:
        size = measure.raw_size if body == "BINARYMIME" else measure.size
    limit = capabilities.size_limit
    if size is not None and limit is not None and size > limit:
        raise MessageTooLarge(f"the message has {size} octets, the server takes {limit} (RFC 1870)")
    return size if capabilities.offers_size else given


def _body(
    given: Body | None, measure: Measure | None, capabilities: Capabilities, options: Options
) -> Body | None:
    """What BODY states, after checking that the content is what it states."""
    if given == "BINARYMIME":
        if not options.bdat:
            raise UsageError("BINARYMIME goes by BDAT only (RFC 3030 3): use send_bdat")
        return given
    if measure is not None:
        _check_text(measure, options)
    if given is not None:
        if given == "7BIT" and measure is not None and measure.is_8bit:
            raise InputError("BODY=7BIT was stated and the content has 8-bit octets (RFC 6152 2)")
        return given
    if measure is not None and not measure.is_8bit:
        return None
    if capabilities.eightbitmime:
        # Also where the content cannot be measured: 7-bit text is valid 8BITMIME.
        return "8BITMIME"
    if measure is not None and not options.as_is:
        raise NotSupportedError(
            "the content has 8-bit octets and the server does not offer 8BITMIME (RFC 6152)",
            keyword="8BITMIME",
        )
    return None


def _check_text(measure: Measure, options: Options) -> None:
    if measure.has_nul:
        raise NotSupportedError(
            "the content has NUL octets, which only BINARYMIME can carry (RFC 3030)", keyword="BINARYMIME"
        )
    if measure.has_long_line and not options.as_is:
        raise NotSupportedError(
            "the content has a line of over 998 octets (RFC 5322 2.1.1): re-encode it, "
            "send it by BDAT as BINARYMIME, or allow it with allow_long_lines=True",
            keyword="BINARYMIME",
        )


def _needs_smtputf8(
    mail: MailObject, measure: Measure | None, capabilities: Capabilities, options: Options
) -> bool:
    """Whether the envelope or the headers hold UTF-8 (RFC 6531 3.4, RFC 6532 3)."""
    if _paths_need_smtputf8(mail.sender, mail.recipients, capabilities):
        return True
    if measure is None or not measure.has_utf8_headers:
        return False
    if capabilities.smtputf8:
        return True
    if options.as_is:
        return False
    raise NotSupportedError(
        "the headers hold UTF-8 and the server does not offer SMTPUTF8 (RFC 6531)", keyword="SMTPUTF8"
    )


def _paths_need_smtputf8(
    sender: ReversePath, recipients: Sequence[ForwardPath], capabilities: Capabilities
) -> bool:
    paths: list[str] = [sender] if sender.needs_smtputf8 else []
    for path in recipients:
        if path.needs_smtputf8:
            paths.append(path)
    if not paths or capabilities.smtputf8:
        return bool(paths)
    names = ", ".join(paths)
    raise NotSupportedError(
        f"the server does not offer SMTPUTF8 (RFC 6531), which these need: {names}",
        keyword="SMTPUTF8",
        cure=cures.no_smtputf8(),
    )
