"""From the arguments of ``sendmail`` to the lines of a transaction, as this face writes them.

``smtplib`` takes what no standard calls a path (``John``), so paths are not
validated here; nothing that is given can become a command of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from smtplib import SMTPException, SMTPNotSupportedError, SMTPSenderRefused
from typing import Any, Final, NamedTuple

from ..errors import InputError, MessageTooLarge
from ..flow.plan import Options, Plan
from ..mime import addresses
from ..mime.addresses import Mailbox
from ..shortening import shown
from ..wire import command
from ..wire.address import domain_to_ascii, quoted_dots
from ..wire.capabilities import Capabilities
from ..wire.command import MAX_AUTH_RESPONSE
from ..wire.content import Content
from ..wire.limits import WINDOW
from .results import carrying

_PLAIN: Final = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9.-]+")
_PATH: Final = re.compile(r'(?:[^\s<>"()]|(?:^|(?<=[.:]))"(?:[^"\\]|\\.)*"(?=[.@]|$))*')
"""No angle bracket, and no blank, but in a quoted word (RFC 5321 4.1.2)."""
_DOTTED: Final = re.compile(r"[^\s\"\\(),:;<>@\[\]]+")
"""Atoms and dots alone."""
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
"""Where the value of a header field was folded (RFC 5322 2.2.3)."""
_LINE_END: Final = re.compile(r"[\r\n]")
_AS_IS: Final = Options(as_is=True)
"""Long lines and 8-bit octets pass: users' mail must go on working."""


class _Envelope:
    """Stands for a ``MailObject`` whose paths are what the caller gave."""

    __slots__ = ("content", "recipients", "sender")

    mail_params = rcpt_params = None

    def __init__(self, sender: str, recipients: tuple[str, ...], content: Content) -> None:
        self.sender = sender
        self.recipients = recipients
        self.content = content


class SendmailArguments(NamedTuple):
    """The arguments of one ``sendmail``, checked."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    content: Content
    mail_options: tuple[str, ...]
    """Those of the caller, and SIZE and BODY where they are due; none for a server without extensions."""
    rcpt_options: tuple[str, ...]
    utf8: bool
    """SMTPUTF8 is among the options of MAIL (RFC 6531 3.4)."""


def check_arguments(
    sender: str,
    recipients: tuple[str, ...],
    message: Any,
    mail_options: Sequence[str],
    rcpt_options: Sequence[str],
    features: Mapping[str, str] | None,
) -> SendmailArguments:
    """Take the arguments, for a server that offers this; None where it has no extensions.

    Raises ``SMTPSenderRefused`` where the message is over the server's SIZE,
    and ``SMTPNotSupportedError`` where it has NUL.
    """
    octets = as_octets(message)
    content = Content.of(octets or b"\r\n")
    measure = content.measure
    assert measure is not None
    if measure.has_nul:
        raise SMTPNotSupportedError("the message has NUL octets, which DATA cannot carry (RFC 5322 2.3)")
    if features is None:
        return SendmailArguments(sender, recipients, octets, content, (), (), False)
    options = tuple(mail_options or ())
    utf8 = bool(options) and asks_utf8(options)
    if measure.is_8bit and "8bitmime" in features and not any(_is_body(option) for option in options):
        options += ("BODY=8BITMIME",)
    if "size" in features:
        size = measure.size  # RFC 1870 5
        if isinstance(message, str) and not octets.endswith((b"\n", b"\r")):
            size -= 2  # as ever, without the last line end where that is missing in text
        limit = _size_limit(str(features["size"]))
        if limit is not None and size > limit:
            raise _too_large(size, limit, sender, recipients)
        options = (f"size={size}", *options)
    return SendmailArguments(sender, recipients, octets, content, options, tuple(rcpt_options or ()), utf8)


def _too_large(size: int, limit: int, sender: str, recipients: tuple[str, ...]) -> SMTPException:
    text = f"5.3.4 the message has {size} octets, the server takes {limit}; nothing was sent"
    error = MessageTooLarge(text)
    error.unsent_recipients = recipients
    refused = carrying(SMTPSenderRefused(552, text.encode("ascii"), sender), error)
    refused.__cause__ = error
    return refused


def one_address(given: Any) -> str:
    """The address that is meant: ``smtplib`` takes a list of one for it.

    Raises ``ValueError`` for a list of more: the others would vanish.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, list | tuple):
        if len(given) != 1:
            raise ValueError(f"{len(given)} addresses where one is meant")
        if isinstance(given[0], str):
            return given[0]
    raise TypeError(f"an address is a str, not {type(given).__name__}")


def recipients_of(given: str | Iterable[Any]) -> tuple[str, ...]:
    """The recipients of one ``sendmail``: text is one of them."""
    return (given,) if isinstance(given, str) else tuple(map(one_address, given))


def as_octets(message: Any) -> bytes:
    """The message in octets; text must be ASCII, and raises ``UnicodeEncodeError`` where it is not."""
    if type(message) is bytes:
        return message
    if isinstance(message, str):
        return message.encode("ascii")
    try:
        return bytes(memoryview(message))
    except TypeError:
        raise TypeError(f"a message is str or bytes, not {type(message).__name__}") from None


def _is_body(option: str) -> bool:
    return option.upper().startswith("BODY=")


@lru_cache(maxsize=64)
def _size_limit(value: str) -> int | None:
    """The largest message that the server takes (RFC 1870 4), None where it states no limit."""
    return Capabilities({"SIZE": tuple(value.split())}).size_limit


# -- lines ---------------------------------------------------------------------


def asks_utf8(options: Sequence[str]) -> bool:
    """Whether SMTPUTF8 is among the options of MAIL (RFC 6531 3.4)."""
    return any(option.lower() == "smtputf8" for option in options)


def mail_argument(sender: str, options: Sequence[str], *, utf8: bool) -> str:
    """What follows ``mail``."""
    return " ".join((f"from:{_quoted(sender, utf8)}", *options))


def rcpt_argument(recipient: str, options: Sequence[str], *, utf8: bool) -> str:
    """What follows ``rcpt``."""
    return " ".join((f"to:{_quoted(recipient, utf8)}", *options))


@lru_cache(maxsize=1024)
def _quoted(address: str, utf8: bool) -> str:
    """An address in angle brackets; its domain as A-labels where that alone is not ASCII.

    Raises ``ValueError`` where it would end the path and begin a parameter.
    """
    if _PLAIN.fullmatch(address):
        return f"<{address}>"
    path = path_of(address)
    if not (utf8 or path.isascii()):
        path = with_a_labels(path)
    local_part, at, domain = path.rpartition("@")
    # As everywhere: a strict server takes none with dots that no grammar has.
    return f"<{quoted_dots(local_part)}@{domain}>" if at and _DOTTED.fullmatch(local_part) else f"<{path}>"


def path_of(address: str) -> str:
    """The path in a text that may have a display name, comments or angle brackets, as in a header field.

    Raises ``ValueError`` where there is more than that.
    """
    text = _FOLD.sub("", address).strip(" \t")
    check_one_line(text.replace("\t", " "))
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if _PATH.fullmatch(bare):
        return bare
    try:
        (found,) = addresses.parse(text, bare=True)
    except ValueError:
        found = None
    if isinstance(found, Mailbox) and _PATH.fullmatch(found.address):
        return found.address
    raise ValueError(f"not one address, and what follows its end would be a parameter: {shown(text)}")


def with_a_labels(address: str) -> str:
    """The address with its domain as A-labels; as it is where that does not help."""
    local_part, at, domain = address.rpartition("@")
    try:
        return f"{local_part}@{domain_to_ascii(domain)}" if at and local_part.isascii() else address
    except InputError:
        return address


def line(verb: str, argument: str, *, utf8: bool = False) -> bytes:
    """A command line.

    Raises ``ValueError`` for control characters, and ``UnicodeEncodeError``,
    which is one, for what is not ASCII without SMTPUTF8.
    """
    text = f"{verb} {argument}\r\n"
    if text.isascii() and argument.isprintable() and len(text) <= MAX_AUTH_RESPONSE:
        return text.encode()
    check_one_line(f"{verb} {argument}")
    if not utf8:
        argument.encode("ascii")
    try:
        return command.line(verb, argument, limit=MAX_AUTH_RESPONSE, smtputf8=utf8)
    except InputError as error:
        raise ValueError(str(error)) from None


def check_one_line(text: str, *, secret: bool = False) -> None:
    """Raise ``ValueError`` for a control character; CR or LF would begin another command."""
    if _LINE_END.search(text):
        told = "" if secret else f": {shown(text)[1:-1]}"  # as the standard library shows it
        raise ValueError(f"command and arguments contain prohibited newline characters{told}")
    command.check_controls(text)


# -- plan ----------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _rcpt_line(recipient: str, options: tuple[str, ...], utf8: bool) -> bytes:
    return line("rcpt", rcpt_argument(recipient, options, utf8=utf8), utf8=utf8)


def make_plan(given: SendmailArguments, *, pipelined: bool, lmtp: bool) -> Plan:
    """The transaction, ready to be written."""
    sender, recipients, _, content, options, rcpt_options, utf8 = given
    lines = [line("mail", mail_argument(sender, options, utf8=utf8), utf8=utf8)]
    lines += [_rcpt_line(path, rcpt_options, utf8) for path in recipients]
    mail: Any = _Envelope(sender, recipients, content)
    return Plan(mail, tuple(lines), _AS_IS, lmtp, WINDOW if pipelined else 1, None, None)
