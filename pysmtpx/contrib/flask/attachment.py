"""Attachments with the arguments and attributes of Flask-Mail."""

from __future__ import annotations

import re
import unicodedata
from base64 import encodebytes
from email import message_from_bytes
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from mimetypes import guess_type
from typing import Final

from ...errors import InputError

OF_CONTENT: Final = frozenset({"mime-version", "content-type", "content-transfer-encoding"})
"""Fields that follow from the content."""
_MESSAGE: Final = re.compile(r"message/rfc822[ \t]*(;.*)?", re.IGNORECASE)
_MAX_TYPE: Final = 998
"""Characters of a content type with its parameters: what a line may hold (RFC 5322 2.1.1)."""


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
            if name.lower() not in OF_CONTENT:
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
