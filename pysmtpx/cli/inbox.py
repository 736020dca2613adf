"""The mail that a sink took, read for people to look at. All of it was written by strangers."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from typing import Any, Final

from ..testing import Connection, Ledger, ReceivedMessage

_SAFE_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_MOST_INLINE: Final = 2 * 1024 * 1024
_SEARCHED: Final = 256 * 1024
"""Characters of a text that a search looks through."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is a file."""

    name: str
    kind: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that arrived."""

    number: int
    arrived: datetime
    received: ReceivedMessage
    subject: str
    author: str
    headers: tuple[tuple[str, str], ...]
    text: str
    html: str | None
    attachments: tuple[Attachment, ...]
    haystack: str = field(repr=False)
    """What a search looks through, in lower case."""

    def summary(self) -> dict[str, Any]:
        """Its line in a list."""
        return {
            "number": self.number,
            "arrived": self.arrived.isoformat(timespec="seconds"),
            "from": self.author or self.received.sender,
            "to": self.received.addresses,
            "subject": self.subject,
            "size": self.received.size,
            "attachments": len(self.attachments),
        }

    def details(self) -> dict[str, Any]:
        """All but the octets."""
        received = self.received
        return self.summary() | {
            "headers": self.headers,
            "text": self.text,
            "html": self.html is not None,
            "files": [
                {"name": each.name, "kind": each.kind, "size": len(each.content)} for each in self.attachments
            ],
            "envelope": {
                "sender": received.sender,
                "parameters": dict(received.params),
                "recipients": [
                    {"address": each.address, "parameters": dict(each.params), "reply": each.reply}
                    for each in received.recipients
                ],
                "tls": received.tls,
                "user": received.user,
                "via": received.via,
            },
        }


def read_letter(number: int, received: ReceivedMessage) -> Letter:
    """A message made readable; what cannot be parsed is shown as it is."""
    try:
        parsed = message_from_bytes(received.content, policy=policy.default)
        text, html, attachments, inline = _parts(parsed)
    except RecursionError:  # parts within parts, hundreds deep
        parsed = BytesHeaderParser(policy=policy.default).parsebytes(received.content)
        text, html, attachments, inline = _as_it_is(received.content), None, [], {}
    headers = tuple((name, _quietly(str, value)) for name, value in parsed.raw_items())
    subject = _quietly(_field, parsed, "Subject")
    author = _quietly(_field, parsed, "From")
    searched = "\n".join((subject, author, received.sender, *received.addresses, text[:_SEARCHED]))
    return Letter(
        number=number,
        arrived=datetime.now(UTC),
        received=received,
        subject=subject,
        author=author,
        headers=headers,
        text=text,
        html=None if html is None else _with_images(html, inline),
        attachments=tuple(attachments),
        haystack=searched.lower(),
    )


def _as_it_is(content: bytes) -> str:
    return content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n").decode("utf-8", "replace")


def _field(parsed: EmailMessage, name: str) -> str:
    return str(parsed.get(name, ""))


def _file_name(part: EmailMessage) -> str:
    return part.get_filename() or ""


def _text(part: EmailMessage) -> str:
    return str(part.get_content()).replace("\r\n", "\n")


def _quietly(read: Callable[..., str], *arguments: object) -> str:
    """What the email package makes of a stranger's text; it raises for some of it."""
    try:
        return read(*arguments).encode("utf-8", "replace").decode("utf-8")
    except Exception as error:
        return f"(cannot be read: {type(error).__name__})"


def _parts(parsed: EmailMessage) -> tuple[str, str | None, list[Attachment], dict[str, Attachment]]:
    text, html = "", None
    attachments: list[Attachment] = []
    inline: dict[str, Attachment] = {}
    for part in parsed.walk():
        assert isinstance(part, EmailMessage)
        if part.is_multipart():
            continue
        kind = part.get_content_type()
        name = _quietly(_file_name, part)
        is_file = bool(name) or part.get_content_disposition() == "attachment"
        if not is_file and kind == "text/plain":
            text += _quietly(_text, part)
        elif not is_file and kind == "text/html" and html is None:
            html = _quietly(_text, part)
        else:
            attachments.append(Attachment(name or kind.replace("/", "."), kind, _payload(part)))
            if identity := str(part.get("Content-ID", "")).strip(" <>"):
                inline[identity] = attachments[-1]
    return text, html, attachments, inline


def _payload(part: Any) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except Exception:
        return b""
    return payload if isinstance(payload, bytes) else b""


def _with_images(html: str, inline: dict[str, Attachment]) -> str:
    """Images of the message itself put into its text: a frame that loads nothing cannot ask for them."""
    for identity, image in inline.items():
        if image.kind in _SAFE_IMAGES and len(image.content) <= _MOST_INLINE:
            data = base64.b64encode(image.content).decode("ascii")
            html = html.replace(f"cid:{identity}", f"data:{image.kind};base64,{data}")
    return html


class Inbox(Ledger):
    """The books of a sink: the last ``most`` messages; what comes is told to ``on_letter``."""

    def __init__(self, most: int, on_letter: Callable[[Letter], None]) -> None:
        super().__init__()
        self._most = most
        self._on_letter = on_letter
        self._letters: OrderedDict[int, Letter] = OrderedDict()
        self._arrival = threading.Condition()
        self._taken = 0
        self._opened = 0
        self._open: set[int] = set()
        self._is_ending = False

    @property
    def taken(self) -> int:
        """How many came, kept or not."""
        return self._taken

    def message(self, message: ReceivedMessage) -> None:
        """Enter one, in the thread of its connection."""
        super().message(message)
        self.messages.clear()  # a sink that runs for weeks keeps its own last ones, and no more
        self.refused.clear()
        with self._arrival:
            self._taken += 1
            number = self._taken
        letter = read_letter(number, message)
        with self._arrival:
            self._letters[number] = letter
            while len(self._letters) > self._most:
                self._letters.popitem(last=False)
            self._arrival.notify_all()
        self._on_letter(letter)

    def open(self) -> Connection:
        """A new connection; those that ended are not kept."""
        with self._arrival:
            self._opened += 1
            self._open.add(self._opened - 1)
            return Connection(self._opened - 1)

    def close(self, connection: Connection, ending: str) -> None:
        """The end of a connection."""
        super().close(connection, ending)
        with self._arrival:
            self._open.discard(connection.number)
            self._arrival.notify_all()

    def wait_for_ends(self, seconds: float) -> None:
        """Wait until no connection is open, at most so many seconds."""
        with self._arrival:
            self._arrival.wait_for(lambda: not self._open, seconds)

    def command(self, connection: Connection, verb: str) -> None:
        """Not kept."""

    def breach(self, connection: Connection, text: str) -> None:
        """Clients may do as they like here."""

    def letter(self, number: int) -> Letter | None:
        """The one with this number, if it is kept."""
        with self._arrival:
            return self._letters.get(number)

    def found(self, words: str = "") -> list[Letter]:
        """Those in which every word stands, the newest first."""
        wanted = words.lower().split()
        with self._arrival:
            letters = list(reversed(self._letters.values()))
        return [each for each in letters if all(word in each.haystack for word in wanted)]

    def wait_beyond(self, taken: int, seconds: float) -> int:
        """Wait until more than ``taken`` came, at most so many seconds; how many did."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._is_ending or self._taken > taken, seconds)
            return self._taken

    def end_waits(self) -> None:
        """End all waits, and let nobody wait any more: the sink is at its end."""
        with self._arrival:
            self._is_ending = True
            self._arrival.notify_all()
