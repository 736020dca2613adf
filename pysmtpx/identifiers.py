"""What a message is called: by its author the Message-ID, by the server that took it a queue id."""

from __future__ import annotations

import re
from email.message import Message
from itertools import islice
from typing import Any, Final

from .errors import InputError
from .mime import raw
from .wire.content import Content, Unwritten
from .wire.envelope import MailObject
from .wire.limits import SLICE
from .wire.reply import Reply

_LONGEST: Final = 200
"""Characters of a Message-ID, which somebody else may have written."""

_QUEUE_IDS: Final = (
    re.compile(r"\bqueued as ([A-Za-z0-9][\w./+-]{2,99})", re.ASCII | re.IGNORECASE),  # Postfix
    re.compile(r"\bid=([A-Za-z0-9][\w./+-]{2,99})", re.ASCII | re.IGNORECASE),  # Exim
    re.compile(r"\bqueued \(([A-Za-z0-9][\w./+-]{2,99})\)", re.ASCII | re.IGNORECASE),  # Haraka
    # Sendmail, OpenSMTPD
    re.compile(r"^([A-Za-z0-9][\w./+-]{2,99}) message accepted for delivery", re.ASCII | re.IGNORECASE),
    re.compile(r"\bqp ([0-9]{1,20})\b", re.ASCII | re.IGNORECASE),  # qmail
    re.compile(r"\[InternalId=([A-Za-z0-9][\w./+-]{2,99})", re.ASCII | re.IGNORECASE),  # Exchange
    re.compile(r"^ok +[0-9]{1,20} ([\w.+-]{3,100}) - gsmtp", re.ASCII | re.IGNORECASE),  # Gmail
    re.compile(r"^ok ([0-9a-f]{8}-[0-9a-f-]{8,90})$", re.ASCII | re.IGNORECASE),  # Amazon SES
)
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3} +", re.ASCII)


def queue_id(reply: Reply) -> str | None:
    """By what the server knows the message from now on, if the reply names it as a known server does."""
    if not reply.is_positive:
        return None
    text = reply.lines[-1][:1024].decode("utf-8", "replace")
    code = _ENHANCED.match(text)
    text = text[code.end() :] if code else text
    for pattern in _QUEUE_IDS:
        if (found := pattern.search(text)) is not None:
            return found[1]
    return None


def message_id(mail: Any) -> str | None:
    """The Message-ID of a message that is in memory; a file or an iterator is not read for it."""
    if isinstance(mail, MailObject):
        mail = mail.content.message if isinstance(mail.content, Unwritten) else mail.content
    if isinstance(mail, Message):
        text = _of_object(mail)
    else:
        text = content_message_id(mail) if isinstance(mail, Content) and mail.resident else None
    if text is None or len(text) > _LONGEST or not text.isprintable():
        return None
    return text.strip() or None


def _of_object(message: Message[Any, Any]) -> str | None:
    try:
        found = message.get("Message-ID")
        return None if found is None else str(found)
    except Exception:  # the parsers of ``email`` raise what they like for a field that is none
        return None


def content_message_id(content: Content) -> str | None:
    """The Message-ID in the header section of this content, whatever stands there; None without one."""
    head = b"".join(islice(content.for_bdat(binary=True), raw.MAX_HEADER // SLICE + 1))
    try:
        return next((field.text for field in raw.section(head).fields if field.name == "message-id"), None)
    except InputError:
        return None
