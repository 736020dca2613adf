"""What a Django project can listen to; each receiver gets the backend's class as ``sender``.

Receivers that raise change nothing: Django logs what they raised. Of mail that is sent while a receiver is
called there are no signals: one that sends mail, or whose error is mailed to the admins, would be called for
ever.
"""

from __future__ import annotations

from typing import Any, Final

from django.dispatch import Signal

from ...errors import SmtpError
from ...telling import Telling
from ...wire.limits import Stage
from ...wire.result import SendResult

message_sent: Final = Signal()
"""The server took a message, for one recipient at least: ``message`` and ``result`` (a ``SendResult``)."""
recipient_refused: Final = Signal()
"""The server refused one recipient: ``message``, ``recipient`` (the address), ``reply`` and ``temporary``.

Not sent where it refused the sender or the content, which says nothing about an address.
"""
message_failed: Final = Signal()
"""Somebody did not get a message, or perhaps not: ``message`` and ``error``."""


_telling: Final = Telling("signals")


def is_announcing() -> bool:
    """Whether this is from within a receiver."""
    return _telling.is_under_way


def announce(sender: type, message: Any, result: SendResult | None, error: Exception | None) -> None:
    """Tell the receivers what became of a message."""
    _telling.once(_announce, sender, message, result, error)


def _announce(sender: type, message: Any, result: SendResult | None, error: Exception | None) -> None:
    told = error if isinstance(error, SmtpError) else result
    for refused in told.rejected_recipients if told is not None else ():
        if refused.stage is Stage.RCPT:
            recipient_refused.send_robust(
                sender,
                message=message,
                recipient=str(refused.recipient),
                reply=refused.reply,
                temporary=refused.temporary,
            )
    if result is not None:
        message_sent.send_robust(sender, message=message, result=result)
    if error is not None:
        message_failed.send_robust(sender, message=message, error=error)
