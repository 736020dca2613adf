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


_LINE_END: Final = re.compile("[\r\n]+")


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


def check_lines(outgoing: Outgoing, given: str | bytes) -> None:
    """Raise ``SMTPNotSupportedError`` if a line is a RCPT of somebody who is not sent to.

    Octets of the caller's own may be content: there such a line is refused as well, since nobody can tell.
    """
    text = given if isinstance(given, str) else bytes(given).decode("utf-8", "surrogateescape")
    if "rcpt" in text.lower():
        for line in _LINE_END.split(text):
            _check_line(outgoing, line)


def _check_line(outgoing: Outgoing, line: str) -> None:
    verb, _, rest = line.strip().partition(" ")
    if verb.upper() != "RCPT":
        return
    path = rest.partition(":")[2].strip()
    address = path[1 : path.rindex(">")] if path.startswith("<") and ">" in path else path
    if not _allows(outgoing, address):
        raise SMTPNotSupportedError(
            "redirect_to or allow_recipients keeps mail from this recipient; sendmail would go by that"
        )


def _allows(outgoing: Outgoing, address: str) -> bool:
    path = _path(address)
    return path is not None and outgoing.allows(path)


def _path(address: str) -> ForwardPath | None:
    """What is meant; None for what is no mailbox, and so is none that is allowed."""
    try:
        return ForwardPath.tolerant(path_of(address))
    except ValueError:
        return None
