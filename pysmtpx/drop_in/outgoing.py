"""What is done to a message of ``sendmail`` before it leaves: who gets it, and what functions make of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from smtplib import SMTPNotSupportedError, SMTPRecipientsRefused
from typing import Any, ClassVar, Final, NamedTuple

from ..outgoing import Outgoing, fields_of
from ..wire.address import ForwardPath
from ..wire.content import Content
from ..wire.envelope import MailObject
from .arguments import as_octets, path_of
from .results import Refused

_KEPT_BACK: Final = (550, b"5.7.1 kept back here by allow_recipients; the server was not asked")
"""In the words of a server, since callers know no others."""

_END_OF_DATA: Final = re.compile(r"[\r\n]\.(?:\r\n?|\n)")
"""Also by line ends that only some servers take for one."""
_ODD: Final = re.compile(r"\r(?!\n)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_RCPT: Final = re.compile(
    r"rcpt\s*to\s*:([^\r\n]*)|^[^\S\r\n]*rcpt(?!\s*to\s*:)(?:[^\S\r\n]|[<:])", re.IGNORECASE | re.MULTILINE
)
"""RCPT and what stands behind TO:, within a line too (a chunk of BDAT may end there); or RCPT without TO:."""


class Process:
    """What holds for every connection of this face that says nothing else."""

    outgoing: ClassVar[Outgoing | None] = None


class Leaving(NamedTuple):
    """A message as it leaves."""

    recipients: tuple[str, ...]
    message: Any
    withheld: Refused
    """Who is not sent to, and whose message goes nowhere else."""


def leaving(outgoing: Outgoing, sender: str, recipients: tuple[str, ...], message: Any) -> Leaving:
    """A message for these as it leaves.

    Raises ``SMTPRecipientsRefused`` where nobody is left, and ``InputError`` (a
    ``ValueError``) for what the caller's functions raise or return.
    """
    goes = recipients
    withheld: Refused = {}
    if outgoing.screens and recipients:
        kept = [each for each in recipients if _allows(outgoing, each)]
        if len(kept) < len(recipients):
            goes, message, withheld = _screened(outgoing, kept, recipients, message)
    if outgoing.before_send and goes:
        mail = MailObject(path_of(sender), [path_of(each) for each in goes], as_octets(message))
        message = b"".join(outgoing.finished(mail).content.for_bdat())
    return Leaving(goes, message, withheld)


def _screened(outgoing: Outgoing, kept: Sequence[str], recipients: Sequence[str], message: Any) -> Leaving:
    withheld = [each for each in recipients if each not in kept]
    if not outgoing.redirect_to:
        refused: Refused = dict.fromkeys(withheld, _KEPT_BACK)
        if not kept:
            raise SMTPRecipientsRefused(refused)
        return Leaving(tuple(kept), message, refused)
    there = set(map(_path, kept))
    instead = (str(path) for path in outgoing.redirect_to if path not in there)
    names = [each if path is None else path.wire[1:-1] for each in withheld for path in [_path(each)]]
    octets = fields_of(names) + b"".join(Content.of(as_octets(message)).for_bdat())
    return Leaving((*kept, *instead), octets, {})


class Screen:
    """What a program writes by ``send`` on one connection, read for the recipients that it names.

    Lines behind 354 are content up to a line with nothing but a dot, or to the
    next reply; all others are commands.
    """

    def __init__(self) -> None:
        self._owed = 0
        """Lines without their replies."""
        self._asked_data = False
        """The last line was DATA."""
        self._tail: str | None = None
        """The last characters of the content; None while commands are expected."""

    def check(self, outgoing: Outgoing, given: str | bytes) -> None:
        """Raise ``SMTPNotSupportedError`` for a RCPT of somebody who is not sent to, and for half a line."""
        text = given if isinstance(given, str) else bytes(given).decode("utf-8", "surrogateescape")
        if self._tail is not None:
            content = self._tail + text
            end = _END_OF_DATA.search(content)
            if end is None:
                self._tail = content[-2:]
                return
            text = content[end.end() :]
        _check_commands(outgoing, text)
        lines = text.split("\n")
        self._owed += len(lines) - 1
        if self._tail is not None:
            self._tail = None
            self._owed += 1
            self._asked_data = False
        if text:
            self._asked_data = lines[-2].strip().upper() == "DATA"

    def replied(self, *, go_ahead: bool) -> None:
        """A reply was read: 354 or another."""
        self._owed = max(self._owed - 1, 0)
        # Where lines were written behind DATA the 354 may be older than they are: what follows is no content.
        begins = go_ahead and self._asked_data and not self._owed
        self._tail = "\n" if begins else None


def _check_commands(outgoing: Outgoing, text: str) -> None:
    if text and not text.endswith("\n"):
        # The rest of a RCPT could come by the next call.
        raise SMTPNotSupportedError("with redirect_to or allow_recipients, send() takes whole command lines")
    plain = _ODD.sub("", text)
    for found in _RCPT.finditer(plain):
        # Servers differ in what they take a CR or NUL in a command for.
        if plain != text or not _allows_path(outgoing, found[1]):
            raise SMTPNotSupportedError(
                "redirect_to or allow_recipients keeps mail from this recipient; sendmail would go by that"
            )


def _allows_path(outgoing: Outgoing, given: str | None) -> bool:
    """Whether what stands behind TO: is an address that is sent to."""
    path = (given or "").strip()
    if path.startswith("<") and ">" in path:
        return _allows(outgoing, path[1 : path.rindex(">")])
    # Behind an address without brackets, parameters: what they hold in brackets is not the recipient.
    return path != "" and "<" not in path and _allows(outgoing, path.split()[0])


def _allows(outgoing: Outgoing, address: str) -> bool:
    path = _path(address)
    return path is not None and outgoing.allows(path)


def _path(address: str) -> ForwardPath | None:
    """What is meant; None for what is no mailbox, and so is none that is allowed."""
    try:
        return ForwardPath.tolerant(path_of(address))
    except ValueError:
        return None
