"""Messages and their attachments, with the arguments and attributes of Flask-Mail."""

from __future__ import annotations

import re
import secrets
import unicodedata
import warnings
from base64 import encodebytes
from collections.abc import Callable, Iterable, Mapping
from email import message_from_bytes
from email.charset import Charset
from email.message import Message as EmailMessage
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate
from inspect import Parameter, signature
from mimetypes import guess_type
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeAlias, TypeVar

from flask import current_app

from ...errors import InputError
from ...mime import writing
from ...mime.failures import only_input_errors
from ...mime.parts import Part
from ...mime.words import FOLD, words
from ...wire.address import ForwardPath, domain_to_ascii
from ...wire.result import SendResult
from .addresses import AnyAddress, force_text, joined_name, mailbox, written

_P = ParamSpec("_P")
_R = TypeVar("_R")

Mime: TypeAlias = "EmailMessage[Any, Any]"

_OF_CONTENT: Final = frozenset({"mime-version", "content-type", "content-transfer-encoding"})
"""Fields that follow from the content."""
_OURS: Final = _OF_CONTENT | {"bcc"}
"""Those of a message that a caller does not set."""
_MESSAGE: Final = re.compile(r"message/rfc822[ \t]*(;.*)?", re.IGNORECASE)
_MAX_TYPE: Final = 998
"""Characters of a content type with its parameters: what a line may hold (RFC 5322 2.1.1)."""


def takes(make: Callable[_P, object]) -> Callable[[Callable[..., _R]], Callable[Concatenate[Any, _P], _R]]:
    """Give a method the signature of what makes of its arguments something else."""

    def decorate(method: Callable[..., _R]) -> Callable[Concatenate[Any, _P], _R]:
        own = Parameter("self", Parameter.POSITIONAL_ONLY)
        parameters = [own, *signature(make).parameters.values()]
        method.__signature__ = signature(method).replace(parameters=parameters)  # type: ignore[attr-defined]
        return method

    return decorate


class Attachment:
    """A file that goes with a message.

    ``data`` is octets, or text, which goes as UTF-8. ``content_type`` is
    guessed from ``filename`` where it is not given. ``headers`` are further
    fields of the part, such as Content-ID; those that follow from the content
    are left out. Raises ``ValueError`` without data.
    """

    def __init__(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: str | bytes | None = None,
        disposition: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if data is None:
            raise ValueError("an attachment needs data")
        if content_type is None and filename is not None:
            content_type = guess_type(filename)[0]
        default = "text/plain" if isinstance(data, str) else "application/octet-stream"
        self.filename: str | None = filename
        self.content_type: str = content_type or default
        self.data: str | bytes = data
        self.disposition: str = disposition or "attachment"
        self.headers: dict[str, str] = {} if headers is None else headers

    def part(self, *, ascii_name: bool = False) -> MIMEBase:
        """The part of a message; with ``ascii_name`` the file name is cut down to ASCII."""
        part = self._content()
        self._name(part, ascii_name)
        for name, value in self.headers.items():
            if name.lower() not in _OF_CONTENT:
                part.add_header(name, value)
        return part

    def _content(self) -> MIMEBase:
        if len(self.content_type) > _MAX_TYPE:
            raise InputError(f"a content type of {len(self.content_type)} characters, more than {_MAX_TYPE}")
        maintype, _, subtype = self.content_type.partition("/")
        octets = self.data.encode("utf-8") if isinstance(self.data, str) else memoryview(self.data).tobytes()
        if _MESSAGE.fullmatch(self.content_type):
            # Never in base64 (RFC 2046 5.2.1).
            return MIMEMessage(message_from_bytes(octets))
        part = MIMEBase(maintype, subtype or "octet-stream")
        if maintype == "text" and isinstance(self.data, str) and not self.data.isascii():
            part.set_param("charset", "utf-8")
        part.set_payload(encodebytes(octets).decode("ascii"))
        part["Content-Transfer-Encoding"] = "base64"
        return part

    def _name(self, part: MIMEBase, ascii_name: bool) -> None:
        name = self.filename
        if name is None:
            if self.disposition != "attachment":
                part.add_header("Content-Disposition", self.disposition)
            return
        if ascii_name:
            plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
            name = " ".join(plain.split())
        filename = name if name.isascii() else ("utf-8", "", name)  # RFC 2231
        part.add_header("Content-Disposition", self.disposition, filename=filename)


class Carrier(Protocol):
    """What ``Message.send`` takes: a ``Connection``."""

    def send(self, message: Message) -> None:
        """Send it."""


class Message:
    """An email message, written when it is sent.

    ``subject``, ``body`` and ``html`` are text; ``alts`` are further
    alternatives by subtype of ``text/``; ``recipients``, ``cc`` and ``bcc`` are
    lists of addresses, ``sender`` and ``reply_to`` one each: text, or a pair of
    name and address. ``sender`` is ``MAIL_DEFAULT_SENDER`` where not given.
    ``date`` is seconds since the epoch. ``mail_options`` and ``rcpt_options``
    are lists of ESMTP parameters: ``["RET=HDRS"]``, ``["NOTIFY=SUCCESS"]``.

    Raises ``RuntimeError`` where the default sender is asked for outside an application.
    """

    send_result: SendResult | None = None
    """Who accepted, and who was refused with which reply; None where it was not sent."""
    send_error: Exception | None = None
    """Why it was not sent, or not to everybody, where ``send`` raised."""
    send_task: Any = None
    """Celery's ``AsyncResult``, where the message went into its queue."""

    def __init__(
        self,
        subject: str = "",
        recipients: list[AnyAddress] | None = None,
        body: str | None = None,
        html: str | None = None,
        alts: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        sender: AnyAddress | None = None,
        cc: list[AnyAddress] | None = None,
        bcc: list[AnyAddress] | None = None,
        attachments: list[Attachment] | None = None,
        reply_to: AnyAddress | None = None,
        date: float | None = None,
        charset: str | None = None,
        extra_headers: dict[str, str] | None = None,
        mail_options: list[str] | None = None,
        rcpt_options: list[str] | None = None,
    ) -> None:
        sender = sender or _settings().default_sender
        if isinstance(sender, tuple | list):
            sender = joined_name(*sender)
        self.recipients: list[AnyAddress] = recipients or []
        self.subject: str = subject
        self.sender: AnyAddress | None = sender
        self.reply_to: AnyAddress | None = reply_to
        self.cc: list[AnyAddress] = cc or []
        self.bcc: list[AnyAddress] = bcc or []
        self.body: str | None = body
        self.alts: dict[str, str] = dict(alts or {})
        self.html = html
        self.date: float | None = date
        self.msgId: str = f"<{secrets.token_hex(16)}@{_domain_of(sender)}>"
        self.charset: str | None = charset
        self.extra_headers: dict[str, str] | None = extra_headers
        self.mail_options: list[str] = mail_options or []
        self.rcpt_options: list[str] = rcpt_options or []
        self.attachments: list[Attachment] = attachments or []

    @classmethod
    def like(cls, message: Any) -> Self:
        """The message itself, or for one of Flask-Mail's own class one with the same attributes."""
        if isinstance(message, cls):
            return message
        twin = cls.__new__(cls)
        vars(twin).update(vars(message))
        twin.attachments = [Attachment(**vars(each)) for each in message.attachments]
        return twin

    @property
    def html(self) -> str | None:
        """The alternative ``text/html``; set to None it goes."""
        return self.alts.get("html")

    @html.setter
    def html(self, value: str | None) -> None:
        """Set it, or take it away."""
        if value is None:
            self.alts.pop("html", None)
        else:
            self.alts["html"] = value

    @property
    def send_to(self) -> set[AnyAddress]:
        """Everybody who is to have the message."""
        return set(self._addressees)

    @property
    def _addressees(self) -> list[AnyAddress]:
        return [*self.recipients, *(self.cc or ()), *(self.bcc or ())]

    def envelope_recipients(self) -> list[ForwardPath]:
        """The addresses of ``send_to``, in the order in which they were given.

        Raises ``InputError`` for what is no address.
        """
        # As in Flask-Mail one without a domain is for the server to judge.
        paths = (ForwardPath(mailbox(each).address, strict=False) for each in self._addressees)
        return list(dict.fromkeys(paths))

    def add_recipient(self, recipient: AnyAddress) -> None:
        """Add one to ``recipients``."""
        self.recipients.append(recipient)

    @takes(Attachment)
    def attach(self, *args: Any, **kwargs: Any) -> None:
        """Add an ``Attachment`` of these arguments."""
        self.attachments.append(Attachment(*args, **kwargs))

    def send(self, connection: Carrier) -> None:
        """Send the message over a ``Connection``."""
        connection.send(self)

    def has_bad_headers(self) -> bool:
        """True for a line end in an address, and for one elsewhere that does not fold a field."""
        extra = self.extra_headers or {}
        in_one_line = (self.sender, self.reply_to, *self._addressees, *extra)
        values = (self.subject or "", *extra.values())
        return any(_has_line_end(each) for each in in_one_line if each) or any(
            _is_badly_folded(force_text(each)) for each in values
        )

    def is_bad_headers(self) -> bool:
        """The old name of ``has_bad_headers``."""
        warnings.warn("is_bad_headers is now has_bad_headers", DeprecationWarning, stacklevel=2)
        return self.has_bad_headers()

    # -- writing ----------------------------------------------------------------------

    def as_bytes(self) -> bytes:
        """The message as it is sent to a server with 8BITMIME (RFC 6152), lines ended by CRLF.

        Raises ``InputError`` for what cannot be written as one header field.
        """
        message = self._message()
        with only_input_errors():
            part = Part(message)
            utf8 = any(field.internationalized for field in part.fields)
            return writing.serialize(part, utf8=utf8)

    def as_string(self) -> str:
        """``as_bytes`` as text."""
        return self.as_bytes().decode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        return self.as_string()

    def __bytes__(self) -> bytes:
        return self.as_bytes()

    def _message(self) -> Mime:
        """The message for the email package."""
        with only_input_errors():
            return self._composed()

    def _composed(self) -> Mime:
        message = self._body()
        for name, value in self._fields():
            del message[name]
            message[name] = value
        ascii_names = bool(self.attachments) and _settings().ascii_attachments
        for attachment in self.attachments or ():
            message.attach(attachment.part(ascii_name=ascii_names))
        return message

    def _body(self) -> Mime:
        text = self._mimetext(self.body)
        if not self.alts and not self.attachments:
            return text
        message = MIMEMultipart()
        if self.alts:
            alternative = MIMEMultipart("alternative")
            alternative.attach(text)
            for subtype, content in self.alts.items():
                alternative.attach(self._mimetext(content, subtype))
            text = alternative
        message.attach(text)
        return message

    def _mimetext(self, text: str | None, subtype: str = "plain") -> Mime:
        content = "" if text is None else force_text(text)
        charset = Charset(self.charset or "utf-8")
        try:
            content.encode(charset.output_codec or "ascii")
        except UnicodeEncodeError:
            charset = Charset("utf-8")
        if charset == "utf-8":
            charset.body_encoding = None  # type: ignore[assignment]  # as it is, not in base64
        return MIMEText(content, subtype, charset)  # type: ignore[arg-type]

    def _fields(self) -> list[tuple[str, str]]:
        fields: list[tuple[str, Any]] = [
            ("Subject", self._text(_unfolded(force_text(self.subject or "")))),
            ("From", self._boxes([self.sender] if self.sender else [])),
            ("To", self._boxes(self.recipients)),
            ("Date", formatdate(self.date, localtime=True)),
            ("Message-ID", self.msgId),
            ("Cc", self._boxes(self.cc)),
            ("Reply-To", self._boxes([self.reply_to] if self.reply_to else [])),
        ]
        extra = [(str(name), force_text(value)) for name, value in (self.extra_headers or {}).items()]
        fields += [(name, value) for name, value in extra if name.lower() not in _OURS]
        return [(name, value) for name, value in fields if value]

    @property
    def _own_charset(self) -> str | None:
        """The charset for names and subject; None where whoever writes the field picks the form of UTF-8."""
        charset = (self.charset or "utf-8").lower()
        return None if charset in ("utf-8", "utf8") else charset

    def _text(self, text: str) -> str:
        charset = self._own_charset
        return text if charset is None else FOLD.join(words(text, charset))

    def _boxes(self, given: Iterable[AnyAddress] | None) -> str:
        charset = self._own_charset
        boxes = [mailbox(each) for each in given or ()]
        if charset is None:
            return ", ".join(dict.fromkeys(map(str, boxes)))
        return f",{FOLD}".join(dict.fromkeys(written(box, charset, FOLD) for box in boxes))


def _settings() -> Any:
    if not current_app or "mail" not in current_app.extensions:
        raise RuntimeError("no Flask application with Mail is active here: use app.app_context()")
    return current_app.extensions["mail"]


def _unfolded(text: str) -> str:
    return text.replace("\r\n", "")


def _has_line_end(given: object) -> bool:
    text = "".join(map(force_text, given)) if isinstance(given, tuple | list) else force_text(given)
    return "\r" in text or "\n" in text


def _is_badly_folded(text: str) -> bool:
    """Whether a line end in it is not one of a folded field (RFC 5322 2.2.3)."""
    lines = text.split("\r\n")
    if len(lines) == 1:
        return _has_line_end(text)
    return any(_has_line_end(line) or not line.strip() for line in lines) or any(
        line[0] not in " \t" for line in lines[1:]
    )


def _domain_of(sender: object) -> str:
    """The domain of our Message-ID: nobody's business is the name of this host."""
    try:
        return domain_to_ascii(str(sender or "").rpartition("@")[2].strip("> \t"))
    except InputError:
        return "localhost"
