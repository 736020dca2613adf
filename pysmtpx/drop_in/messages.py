"""A message object, in the octets that the server at hand can take.

Written by the project's own rules, since those of ``email`` alter what they
write (``>From`` in bodies, message identifiers in encoded words, a name with a
comma as two addresses). The envelope is told as ``smtplib`` tells it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from email.message import Message
from smtplib import SMTPNotSupportedError
from typing import Any, Final, TypeAlias

from ..errors import NotSupportedError
from ..message import prepare
from ..mime import headers
from ..mime.addresses import flatten
from ..mime.failures import only_input_errors
from ..mime.headers import Field
from ..mime.parts import Part
from ..wire.capabilities import Capabilities
from ..wire.params import MailFromParams
from .arguments import asks_utf8, one_address, path_of, recipients_of, with_a_labels

Arguments: TypeAlias = tuple[Any, Any, Any, Any, Any]
"""Those of ``send_message``, and those of ``sendmail``."""
_DESTINATIONS: Final = ("to", "bcc", "cc")
_ANYBODY: Final = "postmaster"
"""For ``prepare``, which would validate paths: what ``smtplib`` takes for one (``John``) is none."""


def sendmail_arguments(given: Arguments, *, utf8: bool, eight_bit: bool) -> Arguments:
    """The arguments of ``sendmail`` for those of ``send_message``.

    Raises ``ValueError`` where no envelope can be told, and for a message that
    cannot be written; ``SMTPNotSupportedError`` for a local part that is not
    ASCII where the server has no SMTPUTF8, and for signed 8-bit content where
    it has no 8BITMIME.
    """
    message, from_addr, to_addrs, options, rcpt_options = given
    options = tuple(options or ())
    if isinstance(message, Message):
        with only_input_errors():
            message = Part(message)
    sender, recipients = _envelope(message, from_addr, to_addrs)
    # They go on as they were given, since who is refused is told by that.
    needs_utf8 = not all(_in_ascii(address).isascii() for address in (sender, *recipients))
    offered = {"SMTPUTF8": utf8, "8BITMIME": eight_bit}
    try:
        mail = prepare(
            message,
            Capabilities({name: () for name, has in offered.items() if has}),
            sender="",
            recipients=[_ANYBODY],
            mail_params=_international(utf8) if needs_utf8 else None,
            complete=False,
        )
    except NotSupportedError as error:
        raise SMTPNotSupportedError(str(error)) from error
    if mail.mail_params is not None and not asks_utf8(options):
        options += ("SMTPUTF8", "BODY=8BITMIME") if eight_bit else ("SMTPUTF8",)
    return sender, recipients, b"".join(mail.content.for_bdat()), options, rcpt_options


def _international(utf8: bool) -> MailFromParams:
    if not utf8:
        raise SMTPNotSupportedError(
            "One or more source or delivery addresses require internationalized email support,"
            " but the server does not advertise the required SMTPUTF8 capability"
        )
    return MailFromParams(smtputf8=True)


def _in_ascii(address: str) -> str:
    """With its domain as A-labels, as ``sendmail`` writes it."""
    return address if address.isascii() else with_a_labels(path_of(address))


# -- the envelope ----------------------------------------------------------------


def _envelope(message: Part, from_addr: Any, to_addrs: Any) -> tuple[str, list[str]]:
    """Who sends to whom: as given, else from Sender or From, and from To, Bcc and Cc.

    Of the Resent- fields where the message was resent once (RFC 5322 3.6.6).
    """
    if from_addr is not None and to_addrs is not None:
        return one_address(from_addr), list(recipients_of(to_addrs))
    fields = message.fields
    headers.check(fields)
    blocks = [field.key for field in fields].count("resent-date")
    if blocks > 1:
        raise ValueError("message has more than one 'Resent-' header block")
    prefix = "resent-" if blocks else ""
    if from_addr is None:
        from_addr = next(_addresses(fields, (f"{prefix}sender", f"{prefix}from")), None)
    if from_addr is None:
        raise ValueError("the message has no From: give from_addr")
    if to_addrs is None:
        found = _addresses(fields, [f"{prefix}{name}" for name in _DESTINATIONS])
        to_addrs = list(dict.fromkeys(found))
    return one_address(from_addr), list(recipients_of(to_addrs))


def _addresses(fields: list[Field], names: Sequence[str]) -> Iterator[str]:
    """Those in all fields of these names, in the order of the names."""
    for wanted in names:
        for field in fields:
            if field.key == wanted:
                for mailbox in flatten(field.entries(wanted)):
                    yield mailbox.address
