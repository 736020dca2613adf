"""``compose``: a message with text, HTML, files, images and an invitation, as mail programs expect it."""

from __future__ import annotations

import base64
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import unquote
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote as percent_decoded

from .errors import InputError
from .mime import addresses
from .mime.failures import only_input_errors
from .mime.words import decoded
from .shortening import shown
from .wire.address import ForwardPath

AnyMailbox: TypeAlias = str | tuple[str, str] | Address
"""``"ann@example.org"``, ``"Ann <ann@example.org>"``, ``("Ann", "ann@example.org")``, or an ``Address``."""
Mailboxes: TypeAlias = AnyMailbox | Iterable[AnyMailbox]
"""One, or several in a list; a text may also be a list with commas."""
AnyFile: TypeAlias = (
    str | os.PathLike[str] | tuple[str, bytes | str] | tuple[str, bytes | str, str] | EmailMessage
)
"""A path; a name with its octets or text, perhaps with a content type behind; or a message."""


class _HasICal(Protocol):
    def to_ical(self) -> bytes: ...


AnyCalendar: TypeAlias = str | bytes | os.PathLike[str] | _HasICal
"""An iCalendar object (RFC 5545): its text or octets, a path, or a ``Calendar`` of the icalendar library."""

_MAX_NAME: Final = 255
"""Characters of a file's name: what file systems take."""
_MAX_TEXT: Final = 8192
"""Characters of a display name with its address: many times what any needs."""
_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What ends a line, for somebody at least (``str.splitlines`` takes U+0085 and U+2028), and what hides."""
_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*")
_CONTENT_ID: Final = re.compile(r"[A-Za-z0-9!#$&'*+/=?^_`{|}~.-]+(?:@[A-Za-z0-9.-]+)?")
_CID_URL: Final = re.compile(r"\bcid:([^\s\"'<>()]+)", re.IGNORECASE)
_METHOD: Final = re.compile(rb"^METHOD(?:;[^:\r\n]*)?:([A-Za-z-]+)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_BEGIN: Final = "BEGIN:VCALENDAR"
_ARGUMENTS: Final = {
    "from": "from_",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "subject": "subject",
}
"""Header fields that have an argument of their own."""
_BLOCK: Final = 57 * 4096
"""Octets that are encoded at a time: whole lines of base64."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    kind: str
    content: bytes


def compose(
    *,
    from_: AnyMailbox,
    to: Mailboxes = (),
    cc: Mailboxes = (),
    bcc: Mailboxes = (),
    reply_to: Mailboxes = (),
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    attachments: AnyFile | Iterable[AnyFile] = (),
    images: Mapping[str, AnyFile] | None = None,
    invitation: AnyCalendar | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
) -> EmailMessage:
    """A message as ``send_message`` takes it, with its parts in the order that mail programs expect.

    Mailboxes are ``"Ann <ann@example.org>"``, ``("Ann", "ann@example.org")`` or an
    ``email.headerregistry.Address``, several of them in a list. ``text`` is for
    those who read no HTML. An attachment is a path, whose suffix tells the content
    type; ``(name, content)`` or ``(name, content, "type/subtype")``; or an
    ``email`` message. ``images`` are shown in the HTML where it says
    ``cid:logo``: ``{"logo": "logo.png"}``; in the message each has a Content-ID of
    its own (RFC 2045 7). ``invitation`` is an iCalendar object with a METHOD (RFC
    5546): it becomes an alternative of the text, by which programs show their
    buttons, and an attachment ``invite.ics``. ``headers`` are further header
    fields: a mapping, or pairs, by which a field may stand several times.

    Files are read at once, into memory. Nothing is sent. Date and Message-ID are
    added when the message is sent, where ``headers`` do not have them.

    Raises ``InputError``, with what was given: for what is no mailbox, a control
    character where a line could end (header injection), a file that cannot be
    read, an image that the HTML does not show and one that it shows and that is
    not there, and an invitation without its METHOD.
    """
    given = {"To": to, "Cc": cc, "Bcc": bcc, "Reply-To": reply_to}
    author = list(_mailboxes("from_", from_))
    if len(author) != 1:
        raise InputError(f"from_ names {len(author)} mailboxes, and not one")
    if not isinstance(images, Mapping | None):
        raise InputError(f"images is a dict, and not {type(images).__name__}")
    message = EmailMessage()
    with only_input_errors():
        message["From"] = author
        for name, value in given.items():
            if boxes := list(_mailboxes(_ARGUMENTS[name.lower()], value)):
                message[name] = boxes
        message["Subject"] = _line("subject", subject)
        for name, line in _pairs(headers):
            message[_field_name(name)] = _line(f"header {name}", line)
        _add_content(message, text, html, images or {}, author[0].domain)
        if invitation is not None:
            _add_invitation(message, _calendar(invitation))
        for each in _several(attachments):
            _attach(message, each)
    return message


# Header fields.


def _line(what: str, value: object) -> str:
    """A text that can stand in one header field (RFC 5322 2.2)."""
    if not isinstance(value, str):
        raise InputError(f"{what} is text, and not {type(value).__name__}")
    if found := _CONTROL.search(value):
        why = "half a character" if found[0] >= "\ud800" else "a control character"
        raise InputError(f"{what} holds {why}: {shown(value)}")
    return value


def _pairs(given: Any) -> Iterator[tuple[Any, Any]]:
    """Each header field with its value. Raises ``InputError``."""
    if given is None:
        return
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"headers are a mapping, or pairs, and not {type(given).__name__}")
    for each in given.items() if isinstance(given, Mapping) else given:
        if not isinstance(each, Sequence) or isinstance(each, str | bytes) or len(each) != 2:
            raise InputError(f"headers: not a name and a value: {shown(repr(each))}")
        yield each[0], each[1]


def _field_name(name: object) -> str:
    if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
        raise InputError(f"not the name of a header field: {shown(str(name))}")
    low = name.lower()
    if low in _ARGUMENTS:
        raise InputError(f"{name} has an argument of its own: {_ARGUMENTS[low]}")
    if low.startswith("content-") or low == "mime-version":
        raise InputError(f"{name} follows from the content, and cannot be given")
    return name


def _mailboxes(what: str, given: Any) -> Iterator[Address]:
    """The mailboxes of an argument, each checked as a recipient is. Raises ``InputError``."""
    if isinstance(given, str | Address) or _is_pair(what, given):
        yield from _of_one(what, given)
        return
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise InputError(f"{what} is a mailbox, or a list of them, and not {type(given).__name__}")
    for each in given:
        if not isinstance(each, str | Address) and not _is_pair(what, each):
            raise InputError(f"{what}: no mailbox: {shown(repr(each))}")
        yield from _of_one(what, each)


def _is_pair(what: str, given: Any) -> bool:
    if not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(each, str) for each in given)):
        return False
    if "@" in given[0]:
        raise InputError(
            f"{what}: a tuple is a name and an address, and {shown(given[0])} looks like an address:"
            " several mailboxes go in a list"
        )
    return True


def _of_one(what: str, given: Any) -> Iterator[Address]:
    if isinstance(given, str):
        if len(given) > _MAX_TEXT and "," not in given:
            raise InputError(f"{what}: a mailbox of {len(given)} characters")
        for box in addresses.flatten(addresses.of_field(what, _line(what, given))):
            yield _address(what, decoded(unquote(box.phrase)) if box.phrase else "", box.address)
    elif isinstance(given, Address):
        yield _address(what, given.display_name, given.addr_spec)
    else:
        yield _address(what, *given)


def _address(what: str, name: str, address: str) -> Address:
    if len(name) > _MAX_TEXT:
        raise InputError(f"{what}: a name of {len(name)} characters")
    try:
        path = ForwardPath.tolerant(_line(what, address.strip(" ")))
    except InputError as error:
        raise error.at(what) from None
    if not path.domain:
        raise InputError(f"{what}: an address without a domain: {shown(address)}")
    return Address(_line(what, name).strip(" \t"), unquote(path.local_part), path.domain)


# The content.


def _add_content(
    message: EmailMessage, text: str | None, html: str | None, images: Mapping[str, AnyFile], domain: str
) -> None:
    if images and html is None:
        raise InputError("images are shown by html, which was not given")
    if text is not None or html is None:
        message.set_content(_body("text", text or ""))
    if html is None:
        return
    shown_html, inline = _with_images(_body("html", html), images, domain)
    if text is None:
        message.set_content(shown_html, subtype="html")
        part: Any = message
    else:
        message.add_alternative(shown_html, subtype="html")
        part = message.get_payload(-1)
    for content_id, file in inline:
        main, _, sub = file.kind.partition("/")
        part.add_related(b"", main, sub, cid=f"<{content_id}>", filename=file.name, disposition="inline")
        _fill(part, file)
    if inline:
        part.set_param("type", "text/html")  # RFC 2387 3.1: it must be there


def _body(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is text, and not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds half a character at {error.start}: {shown(value[error.start :])}"
        ) from None
    return value


def _with_images(
    html: str, images: Mapping[str, AnyFile], domain: str
) -> tuple[str, list[tuple[str, _File]]]:
    """The HTML, and its images, by Content-IDs that no other message has."""
    if not images:
        return html, []
    files: dict[str, tuple[str, _File]] = {}
    for given, each in images.items():
        name = given.removeprefix("<").removesuffix(">") if isinstance(given, str) else ""
        if not _CONTENT_ID.fullmatch(name):
            raise InputError(f"images: no Content-ID: {shown(str(given))}")
        unique = name if "@" in name else f"{name}.{os.urandom(12).hex()}@{domain.strip('[]')}"
        files[name] = unique, _file(f"image {name}", each)
    seen = set()

    def place(match: re.Match[str]) -> str:
        name = percent_decoded(match[1])
        if name not in files:
            raise InputError(f"html shows {shown(match[0])}, which is not among images")
        seen.add(name)
        return f"cid:{files[name][0]}"

    replaced = _CID_URL.sub(place, html)
    if unseen := [name for name in files if name not in seen]:
        raise InputError(f"html does not show cid:{unseen[0]}: images are those that it shows")
    return replaced, list(files.values())


# Files.


def _several(given: AnyFile | Iterable[AnyFile]) -> Iterator[AnyFile]:
    is_one = isinstance(given, str | os.PathLike | EmailMessage)
    is_pair = isinstance(given, tuple) and len(given) in (2, 3) and isinstance(given[1], bytes)
    if is_one or is_pair:
        yield given  # type: ignore[misc]
        return
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise InputError(
            f"attachments are paths, or names with their content, and not {type(given).__name__}"
        )
    yield from given  # type: ignore[misc]


def _attach(message: EmailMessage, given: AnyFile) -> None:
    if isinstance(given, EmailMessage):
        message.add_attachment(given, filename="message.eml")
        return
    file = _file("attachment", given)
    main, _, sub = file.kind.partition("/")
    is_utf8 = main == "text" and _is_utf8(file.content)
    message.add_attachment(
        b"", main, sub, filename=file.name, params={"charset": "utf-8"} if is_utf8 else None
    )
    _fill(message, file)


def _fill(container: Any, file: _File) -> None:
    """Give the last part its content. The email package takes ten times as much memory for that."""
    pieces = [
        base64.encodebytes(file.content[start : start + _BLOCK]).decode("ascii")
        for start in range(0, len(file.content), _BLOCK)
    ]
    container.get_payload(-1).set_payload("".join(pieces))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _file(what: str, given: Any) -> _File:
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if not isinstance(path, str):
            raise InputError(f"{what}: a path is text, and not {type(path).__name__}")
        content = read(what, path)
        name = os.fsencode(Path(path).name).decode("utf-8", "replace")
        return _File(_file_name(what, name), kind_of(path), content)
    if not isinstance(given, Sequence) or isinstance(given, bytes) or len(given) not in (2, 3):
        raise InputError(f"{what}: a path, or a name with its content, and not {type(given).__name__}")
    name, content, *kind = given
    if isinstance(content, str):
        content = _body(what, content).encode("utf-8")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"{what}: the content is octets or text, and not {type(content).__name__}")
    name = _file_name(what, name)
    return _File(name, _checked_kind(what, kind[0]) if kind else kind_of(name), bytes(content))


def _file_name(what: str, value: object) -> str:
    name = re.split(r"[/\\]", _line(f"the name of {what}", value))[-1]  # no program is to write elsewhere
    if not name or len(name) > _MAX_NAME:
        raise InputError(f"{what}: the name of a file has 1 to {_MAX_NAME} characters, not {len(name)}")
    return name


def _checked_kind(what: str, value: object) -> str:
    if not isinstance(value, str) or not _TYPE.fullmatch(value):
        raise InputError(f"{what}: no content type (type/subtype): {shown(str(value))}")
    if value.lower().startswith(("multipart/", "message/")):
        raise InputError(f"{what}: {value} is a message: give the message itself")
    return value


def kind_of(path: str) -> str:
    """The content type that the suffix of a file's name tells, else ``application/octet-stream``."""
    kind, encoding = mimetypes.guess_type(path)
    if encoding == "gzip":
        return "application/gzip"
    # Messages are never in base64 (RFC 2046 5.2.1), and what is compressed is not what the name says.
    if kind is None or encoding or kind.startswith(("message/", "multipart/")):
        return "application/octet-stream"
    return kind


def read(what: str, path: str) -> bytes:
    """The octets of a file. Raises ``InputError``."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{what} {shown(path)} cannot be read: {why}") from error


# Invitations.


def _calendar(given: Any) -> bytes:
    """The octets of an iCalendar object, with CRLF (RFC 5545 3.1)."""
    if hasattr(given, "to_ical"):
        given = given.to_ical()
    if isinstance(given, str) and given.lstrip("\ufeff \t\r\n").startswith(_BEGIN):
        given = _body("invitation", given).encode("utf-8")
    if isinstance(given, str | os.PathLike):
        given = read("invitation", os.fspath(given))
    if not isinstance(given, bytes):
        raise InputError(f"invitation: an iCalendar object, and not {type(given).__name__}")
    content = given.removeprefix(b"\xef\xbb\xbf").strip()
    if not content.startswith(_BEGIN.encode()) or not content.endswith(b"END:VCALENDAR"):
        raise InputError(f"invitation: no iCalendar object: {shown(content[:80].decode('utf-8', 'replace'))}")
    if not _is_utf8(content):
        raise InputError("invitation: an iCalendar object is UTF-8 (RFC 5545 3.1.4)")
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def _add_invitation(message: EmailMessage, calendar: bytes) -> None:
    methods = _METHOD.findall(calendar)
    if len(methods) != 1:
        raise InputError(
            f"invitation: it has {len(methods) or 'no'} METHOD, and programs show their buttons by one:"
            " METHOD:REQUEST (RFC 5546 3.2.2)"
        )
    # RFC 6047 2.4: the parameter must be there, and be the property's.
    params = {"method": methods[0].decode("ascii").upper(), "charset": "utf-8"}
    message.add_alternative(b"", "text", "calendar", params=params)
    _fill(message, _File("invite.ics", "text/calendar", calendar))
    # Outlook and Google's own mail have the file beside it, under a type that opens no second card.
    message.add_attachment(b"", "application", "ics", filename="invite.ics")
    _fill(message, _File("invite.ics", "application/ics", calendar))
