"""A message object for a server without 8BITMIME or SMTPUTF8.

The standard library makes envelope and octets; what such a server cannot take
is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from smtplib import SMTPNotSupportedError
from typing import Any, Final, TypeAlias

from ..errors import SmtpError
from ..mime import bodies
from .letter import with_a_labels
from .standard import SMTP

Arguments: TypeAlias = tuple[Any, Any, Any, Any, Any]
"""Those of ``send_message``, and those of ``sendmail``."""

_ADDED: Final = ("SMTPUTF8", "BODY=8BITMIME")
"""What the standard library appends for an address that is not ASCII."""


class _Recorder(SMTP):
    """Takes everything, and keeps what would be sent."""

    sent: Arguments

    def __init__(self) -> None:
        self.esmtp_features = {}

    def ehlo_or_helo_if_needed(self) -> None: ...

    def has_extn(self, opt: str) -> bool:
        return True

    def sendmail(self, *arguments: Any, **_: Any) -> Any:
        self.sent = arguments


def mended(given: Arguments, *, utf8: bool, eight_bit: bool) -> Arguments:
    """The arguments of ``sendmail`` for those of ``send_message``.

    Raises ``SMTPNotSupportedError`` for a local part that is not ASCII where
    the server has no SMTPUTF8, and for signed 8-bit content where it has no
    8BITMIME.
    """
    message, from_addr, to_addrs, options, rcpt_options = given
    options = tuple(options or ())
    recorder = _Recorder()
    SMTP.send_message(recorder, message, from_addr, to_addrs, options, rcpt_options)
    sender, recipients, octets, mail_options, _ = recorder.sent
    international = len(mail_options) > len(options)
    if international and not utf8:
        sender, *recipients = _in_ascii([sender, *_listed(recipients)])
        mail_options = mail_options[: -len(_ADDED)]
    if (international and not utf8) or not (eight_bit or octets.isascii() or international):
        octets = _rewritten(message, seven_bit=not eight_bit)
    return sender, recipients, octets, mail_options, rcpt_options


def _listed(recipients: str | Sequence[str]) -> list[str]:
    return [recipients] if isinstance(recipients, str) else list(recipients)


def _in_ascii(addresses: list[str]) -> list[str]:
    found = [with_a_labels(address) for address in addresses]
    if not all(address.isascii() for address in found):
        raise SMTPNotSupportedError(
            "One or more source or delivery addresses require internationalized email support,"
            " but the server does not advertise the required SMTPUTF8 capability"
        )
    return found


def _rewritten(message: Message[Any, Any], *, seven_bit: bool) -> bytes:
    twin = bodies.twin(message)
    for name in ("Bcc", "Resent-Bcc"):
        del twin[name]
    signed = "DKIM-Signature" in twin
    try:
        octets = bodies.serialize(twin, utf8=False, exact=signed)
        if seven_bit and not octets.isascii():
            bodies.fit(twin, seven_bit=True, signed=signed)
            octets = bodies.serialize(twin, utf8=False, exact=signed)
    except SmtpError as error:
        raise SMTPNotSupportedError(str(error)) from error
    return octets
