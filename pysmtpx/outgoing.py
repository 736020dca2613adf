"""Before a message leaves: to whom it may go, where it goes instead, and functions that see its last octets.

All of it is an option of a ``Server``, so whatever sends by that server keeps to it: connections, pools, and
the faces over them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from . import cures
from .errors import InputError, RecipientsWithheld, SmtpError
from .mime import words
from .records import fields
from .shortening import listed
from .wire.address import ForwardPath, domain_or_literal, plainest
from .wire.content import Content
from .wire.envelope import MailObject
from .wire.limits import Stage
from .wire.result import SendResult

_T = TypeVar("_T", SendResult, SmtpError, SendResult | SmtpError)

_log: Final = logging.getLogger("pysmtpx")

BeforeSend: TypeAlias = Callable[[bytes, MailObject], bytes | None]
"""Gets the finished octets of a message and its mail object; returns other octets, or None for the same."""
Allowed: TypeAlias = str | Collection[str] | Callable[[str], bool]
"""Addresses, domains (``example.org``), domains with all below (``.example.org``); or a function."""

FIELD: Final = "X-Original-Recipients"
"""The header field with those whose message was redirected."""
_OF_ONE_FIELD: Final = 50
"""Addresses: some servers cut a long field (Postfix: header_size_limit), and none must be lost."""
_FOLD: Final = ",\r\n "


# What the options may be.


def checked_hooks(value: Any) -> tuple[BeforeSend, ...] | None:
    """Functions to be called one after the other. Raises ``InputError`` for what is none."""
    if value is None:
        return None
    hooks = (value,) if callable(value) else value
    if isinstance(hooks, str | bytes) or not isinstance(hooks, Sequence) or not all(map(callable, hooks)):
        raise InputError("before_send is a function, or a list of them")
    return tuple(hooks) or None


def checked_redirect(value: Any) -> tuple[ForwardPath, ...] | None:
    """The addresses to which messages go instead.

    Raises ``InputError``, also for none at all: a variable that is not set must not let mail out.
    """
    if value is None:
        return None
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise InputError("redirect_to is an address, or a list of them")
    try:
        paths = tuple(dict.fromkeys(ForwardPath.tolerant(each) for each in given))
    except InputError as error:
        raise error.at("redirect_to") from None
    if not paths:
        raise InputError("redirect_to names no address; leave it out where mail is not redirected")
    return paths


def checked_allowed(value: Any) -> tuple[str, ...] | Callable[[str], bool] | None:
    """Who may be sent to, each address and domain in its one form; an empty collection is nobody.

    Raises ``InputError`` for what is neither: it would let nobody, or the wrong ones, have mail.
    """
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Collection) or isinstance(given, bytes):
        raise InputError("allow_recipients is a collection of addresses and domains, or a function")
    try:
        return tuple(dict.fromkeys(map(_allowed, given)))
    except InputError as error:
        raise error.at("allow_recipients") from None


def _allowed(entry: object) -> str:
    if not isinstance(entry, str):
        raise InputError(f"an address or a domain is text, not {type(entry).__name__}")
    local_part, at, domain = entry.rpartition("@")
    if local_part:
        return _address_of(ForwardPath(entry))
    if at or not domain.startswith("."):
        return f"@{_domain(domain)}"
    return f".{_domain(domain[1:])}"


def _domain(text: str) -> str:
    return domain_or_literal(text).lower()


def _address_of(path: ForwardPath) -> str:
    """In one form: quotes say nothing (RFC 5321 4.1.2), and nobody has two that differ by case alone."""
    return f"{plainest(path.local_part).lower()}@{path.domain.lower()}"


# What they amount to.


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is done to messages before they leave; a value."""

    before_send: tuple[BeforeSend, ...] = ()
    redirect_to: tuple[ForwardPath, ...] = ()
    allowed: tuple[str, ...] | Callable[[str], bool] | None = None

    @classmethod
    def of(cls, before_send: Any, redirect_to: Any, allow_recipients: Any) -> Outgoing | None:
        """That of these options; None where there are none. Raises ``InputError``."""
        hooks, paths = checked_hooks(before_send), checked_redirect(redirect_to)
        allowed = checked_allowed(allow_recipients)
        if hooks is None and paths is None and allowed is None:
            return None
        return cls(hooks or (), paths or (), allowed)

    def over(self, other: Outgoing) -> Outgoing:
        """What this does, and where it says nothing of a matter what the ``other`` does."""
        return Outgoing(
            self.before_send or other.before_send,
            self.redirect_to or other.redirect_to,
            other.allowed if self.allowed is None else self.allowed,
        )

    @property
    def screens(self) -> bool:
        """Whether some recipients are not sent to."""
        return bool(self.redirect_to) or self.allowed is not None

    def announce(self, servers: str) -> None:
        """Say in the log that mail by these servers does not go to everybody."""
        if not self.screens:
            return
        who = "everybody"
        if self.allowed is not None:
            who = "whomever allow_recipients does not allow"
        extra = fields(event="warning", server=servers)
        if self.redirect_to:
            text = "%s: mail to %s is redirected to %s"
            _log.warning(text, servers, who, listed(self.redirect_to), extra=extra)
        else:
            _log.warning("%s: no mail is sent to %s", servers, who, extra=extra)

    def screen(self, mail: MailObject) -> Screen | None:
        """Who of its recipients is not sent to, decided once for a message; None where everybody is.

        Raises ``RecipientsWithheld`` where nobody is left, and ``InputError``
        where the caller's function raises: then nobody is known to be allowed.
        """
        if not self.screens:
            return None
        kept = [place for place, path in enumerate(mail.recipients) if self.allows(path)]
        if len(kept) == len(mail.recipients):
            return None
        there = {mail.recipients[place] for place in kept}
        withheld = tuple(path for path in mail.recipients if path not in there)
        what = "is redirected" if self.redirect_to else "is kept back"
        extra = fields(event="withheld", withheld=len(withheld))
        _log.debug("mail to %s %s", listed(withheld), what, extra=extra)
        instead = tuple(path for path in self.redirect_to if path not in there)
        if not (kept or instead):
            raise _nobody_left(withheld)
        return Screen(tuple(kept), instead, withheld, bool(self.redirect_to))

    def screened(self, mail: MailObject) -> MailObject:
        """The mail object as it goes: itself, or a ``ScreenedMail``. Raises what ``screen`` does."""
        screen = self.screen(mail)
        return mail if screen is None else screen.applied(mail)

    def allows(self, path: ForwardPath) -> bool:
        """Whether this recipient may be sent to; so may whoever gets the mail of others. May raise."""
        if path in self.redirect_to:
            return True
        allowed = self.allowed
        if allowed is None:
            return not self.redirect_to
        if callable(allowed):
            try:
                return bool(allowed(str(path)))
            except _failures() as error:
                raise _failed("allow_recipients", error) from error
        domain = path.domain.lower()
        if not domain:
            return False
        return (
            f"@{domain}" in allowed
            or _address_of(path) in allowed
            or any(each[0] == "." and domain.endswith(each) for each in allowed)
        )

    def leaving(self, mail: MailObject) -> MailObject:
        """``screened``, then ``finished``; an error names who is not sent to for what reason."""
        mail = self.screened(mail)
        try:
            return self.finished(mail)
        except InputError as error:
            error.unsent_recipients = mail.recipients
            raise told(error, withheld_of(mail)) from error.__cause__

    def finished(self, mail: MailObject) -> MailObject:
        """The mail object of what the functions of ``before_send`` make of its octets; it is all in memory.

        Raises ``InputError`` where one of them raises, or returns what is no content.
        """
        if not self.before_send:
            return mail
        is_binary = mail.mail_params is not None and mail.mail_params.body == "BINARYMIME"
        octets = _octets(mail.content, is_binary=is_binary)
        mail = _with_content(mail, octets)
        for hook in self.before_send:
            try:
                given = hook(octets, mail)
            except _failures() as error:
                raise _failed("before_send", error) from error
            if given is not None:
                octets = _octets(_returned(given), is_binary=is_binary)
                mail = _with_content(mail, octets)
        return mail


@dataclass(frozen=True, slots=True)
class Screen:
    """What was decided for one message; the same for each form of it."""

    kept: tuple[int, ...]
    """The places of those to whom it goes."""
    instead: tuple[ForwardPath, ...]
    """To whom it goes besides."""
    withheld: tuple[ForwardPath, ...]
    """To whom it does not go."""
    is_redirected: bool

    def applied(self, mail: MailObject) -> ScreenedMail:
        """The mail object as it goes: to others, and with the field that names those whom it was for."""
        params, mail_params, content = mail.rcpt_params, mail.mail_params, mail.content
        if self.is_redirected:
            field = fields_of(path.wire[1:-1] for path in self.withheld)
            content = _after(field, content)
            if mail_params is not None and mail_params.size is not None:
                mail_params = dataclasses.replace(mail_params, size=mail_params.size + len(field))
        screened = ScreenedMail(
            mail.sender,
            [*(mail.recipients[place] for place in self.kept), *self.instead],
            content,
            mail_params=mail_params,
            rcpt_params=None
            if params is None
            else [*(params[place] for place in self.kept), *([None] * len(self.instead))],
        )
        object.__setattr__(screened, "withheld", self.withheld)
        return screened


class ScreenedMail(MailObject):
    """A mail object that goes not to all of its recipients."""

    __slots__ = ("withheld",)

    withheld: tuple[ForwardPath, ...]


def withheld_of(mail: MailObject) -> tuple[ForwardPath, ...]:
    """Who is not sent to."""
    return mail.withheld if isinstance(mail, ScreenedMail) else ()


def alike(outgoings: Sequence[Outgoing | None]) -> Outgoing | None:
    """What holds for a pool of servers, each with this.

    Raises ``InputError`` where they differ: what one server must not send another one would.
    """
    first = outgoings[0]
    if any(each != first for each in outgoings):
        raise InputError(
            "before_send, redirect_to and allow_recipients are the same for all servers of a pool: "
            "give them to the pool"
        )
    return first


def told(outcome: _T, withheld: tuple[str, ...]) -> _T:
    """A result or an error that also tells of these; itself where there are none."""
    if not withheld:
        return outcome
    if isinstance(outcome, SendResult):
        return dataclasses.replace(outcome, withheld_recipients=withheld)
    outcome.withheld_recipients = withheld
    return outcome


# The parts of it.


def _nobody_left(withheld: Sequence[ForwardPath]) -> RecipientsWithheld:
    error = RecipientsWithheld(
        f"allow_recipients allows none of the recipients: {listed(withheld)}", cure=cures.nobody_left()
    )
    error.withheld_recipients = tuple(withheld)
    return error


def _failures() -> tuple[type[BaseException], ...]:
    """What a function of the caller's may fail by: a thread of a pool must not end by its SystemExit.

    In the main thread that is more likely from a handler of signals, as for SIGTERM, and goes on.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return (Exception,) if is_main else (Exception, SystemExit)


def _failed(what: str, error: BaseException) -> InputError:
    """The error for a function of the caller's; of its text nothing, since that may hold a secret.

    One that is ours says itself what is wrong.
    """
    if isinstance(error, InputError):
        return InputError(f"{what}: {error.text}; nothing was sent", stage=Stage.INPUT)
    return InputError(f"{what} raised {type(error).__name__}; nothing was sent", stage=Stage.INPUT)


def _with_content(mail: MailObject, octets: bytes) -> MailObject:
    """The same with this content."""
    kind = type(mail)
    other = kind(
        mail.sender, mail.recipients, octets, mail_params=mail.mail_params, rcpt_params=mail.rcpt_params
    )
    if isinstance(mail, ScreenedMail):
        object.__setattr__(other, "withheld", mail.withheld)
    return other


def _returned(given: object) -> Content:
    if not isinstance(given, bytes | bytearray | memoryview):
        raise InputError(f"before_send returns octets or None, not {type(given).__name__}")
    return Content.of(given)


def _octets(content: Content, *, is_binary: bool) -> bytes:
    """All of it as BDAT would carry it: with CRLF line ends, and not dot-stuffed."""
    try:
        return b"".join(content.for_bdat(binary=is_binary))
    except Exception as error:
        raise InputError("the content could not be read", stage=Stage.INPUT) from error


def fields_of(withheld: Iterable[str]) -> bytes:
    """The header fields that name these, in the form in which they can stand in any header section."""
    names = [_written(text) for text in withheld]
    rows = [names[start : start + _OF_ONE_FIELD] for start in range(0, len(names), _OF_ONE_FIELD)]
    return b"".join(f"{FIELD}: {_FOLD.join(row)}\r\n".encode("ascii") for row in rows)


def _written(text: str) -> str:
    """As it is where it is plain; else as encoded words, which may stand here: the field is free text."""
    is_plain = text.isascii() and text.isprintable()
    return text if is_plain else words.encoded(FIELD, text).replace(" ", "\r\n ")


def _after(field: bytes, content: Content) -> Content:
    """The field, then the content, which is read once only where it was so before."""
    content = content.frozen()  # a buffer may change
    if content.resident:
        return Content.of(field + b"".join(content.for_bdat(binary=True)))
    both = _Preceded(field, content)
    return Content.of(both if content.replayable else iter(both))


class _Preceded:
    """Octets of ours, then content; read as often as that can be."""

    def __init__(self, start: bytes, content: Content) -> None:
        self._start = start
        self._content = content

    def __iter__(self) -> Iterator[Any]:
        yield self._start
        yield from self._content.for_bdat(binary=True)
