"""The parts of a message, read from an ``email`` one without its policies.

These parse a field in quadratic time when it is asked for, so what a stranger
wrote into a part is read here from the field as it came, and once.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from email.message import Message
from email.policy import Policy
from typing import Any, Final

from ..errors import InputError
from . import parameters
from .headers import Field

MAX_DEPTH: Final = 100
"""Parts within parts; as many as Postfix takes (mime_nesting_limit)."""
PLAIN: Final = ("", "7bit", "8bit", "binary")
"""Transfer encodings that encode nothing (RFC 2045 6.2)."""
ENCODED: Final = ("quoted-printable", "base64")

_TYPE: Final = re.compile(r"[^\s/]+/[^\s/]+")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class Part:
    """A part of a message, or all of it, that may be altered: the ``email`` message stays as it is.

    Header objects and texts are those of the ``email`` message, which nobody alters.
    """

    __slots__ = (
        "_content_type",
        "_encoding",
        "children",
        "content",
        "default_type",
        "epilogue",
        "fields",
        "is_leaf",
        "policy",
        "preamble",
    )

    def __init__(self, message: Message[Any, Any], depth: int = 0) -> None:
        """Raises ``InputError`` for parts nested more than ``MAX_DEPTH`` deep, and for what is no part."""
        if depth > MAX_DEPTH:
            raise InputError(f"the message has parts nested more than {MAX_DEPTH} deep")
        if not isinstance(message, Message):
            raise InputError(f"a part of the message is {type(message).__name__}, not an email message")
        self.fields: list[Field] = [Field(name, value) for name, value in message.raw_items()]
        """The header section, in order."""
        self.policy: Policy = message.policy
        self.default_type: str = message.get_default_type()
        """What a part is that does not say it."""
        self.preamble: str | None = message.preamble
        self.epilogue: str | None = message.epilogue
        payload = vars(message)["_payload"]
        self.is_leaf: bool = not isinstance(payload, list)
        """True for a part that holds text, or nothing."""
        self.children: list[Part] = [] if self.is_leaf else [Part(child, depth + 1) for child in payload]
        """The parts of a part; none for a leaf."""
        self.content: Any = payload if self.is_leaf else None
        """The text of a leaf as it came, octets as surrogates; None without one."""
        self._content_type: str | None = None
        self._encoding: str | None = None

    def copy(self) -> Part:
        """Another one that may be altered, of the same fields and texts."""
        made = object.__new__(Part)
        for name in Part.__slots__:
            setattr(made, name, getattr(self, name))
        made.fields = list(self.fields)
        made.children = [child.copy() for child in self.children]
        return made

    def walk(self) -> Iterator[Part]:
        """The part and all parts below it."""
        waiting = [self]
        while waiting:
            found = waiting.pop()
            waiting += found.children[::-1]
            yield found

    # Fields.

    def has(self, name: str) -> bool:
        """Whether there is a field of this name, in lower case."""
        return name in [field.key for field in self.fields]

    def field(self, name: str) -> str:
        """The value of the first field of this name, in one line; empty without one."""
        key = name.lower()
        for field in self.fields:
            if field.key == key:
                return field.text
        return ""

    def put(self, name: str, value: str) -> None:
        """Give a field another value, where it stands."""
        self._content_type = self._encoding = None
        key = name.lower()
        places = [place for place, field in enumerate(self.fields) if field.key == key]
        if not places:
            self.fields.append(Field(name, value))
            return
        self.fields[places[0]] = Field(self.fields[places[0]].name, value)
        for place in reversed(places[1:]):
            del self.fields[place]

    @property
    def content_type(self) -> str:
        """Type and subtype in lower case; what counts instead where they are missing or make no sense."""
        if self._content_type is None:
            found = parameters.first(self.field("content-type"))
            other = "text/plain" if found else self.default_type
            self._content_type = found if _TYPE.fullmatch(found) else other
        return self._content_type

    @property
    def maintype(self) -> str:
        """The first half of ``content_type``."""
        return self.content_type.partition("/")[0]

    @property
    def encoding(self) -> str:
        """The transfer encoding in lower case, without comments (RFC 2045 6.1)."""
        if self._encoding is None:
            self._encoding = parameters.first(self.field("content-transfer-encoding"))
        return self._encoding

    @property
    def boundary(self) -> str:
        """The boundary, where it is one (RFC 2046 5.1.1); else empty."""
        found = (parameters.get(self.field("content-type"), "boundary") or "").rstrip()
        return found if _BOUNDARY.fullmatch(found) else ""

    # Content.

    @property
    def is_signed(self) -> bool:
        """True for a signature that covers fields and body (RFC 6376 3.5)."""
        return self.has("dkim-signature")

    @property
    def is_sealed(self) -> bool:
        """True for a message in a transfer encoding that encodes it: what seem to be its parts are none."""
        return self.encoding not in PLAIN and self.maintype == "message"

    @property
    def octets(self) -> bytes:
        """Those of a leaf as they stand, encoded or not. Raises ``InputError`` for what is no text."""
        found = self.content
        if found is None:
            return b""
        if not isinstance(found, str):
            kind = type(found).__name__
            raise InputError(f"the content of a {self.content_type} part is {kind}, not text")
        try:
            return found.encode("ascii", "surrogateescape")
        except UnicodeEncodeError:
            # Not the error: it holds the whole text.
            raise InputError(
                f"a {self.content_type} part has text in no charset: give it by set_content, or name one"
            ) from None

    @property
    def decoded(self) -> bytes:
        """The octets of a leaf. Raises ``InputError`` where its transfer encoding is unknown or broken."""
        octets, name = self.octets, self.encoding
        if name in PLAIN:
            return octets
        if name == "quoted-printable":
            return binascii.a2b_qp(octets)
        try:
            if name == "base64":
                return binascii.a2b_base64(octets + b"==")
        except binascii.Error:
            raise InputError(f"a {self.content_type} part is not the base64 that it says") from None
        raise InputError(f"a {self.content_type} part has an unknown transfer encoding")

    def become(self, octets: bytes) -> None:
        """Make it a leaf of these octets."""
        self.is_leaf, self.children, self.content = True, [], octets.decode("ascii", "surrogateescape")
