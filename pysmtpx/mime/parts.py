"""The parts of a message as they are kept, read without the policies of ``email``.

These parse a field in quadratic time when it is asked for, so what a stranger
wrote into a part is read here from the field as it came.
"""

from __future__ import annotations

import binascii
import copy
import re
from collections.abc import Iterator
from email.message import Message
from typing import Any, Final, TypeAlias, cast

from ..errors import InputError
from . import headers, parameters

Part: TypeAlias = "Message[Any, Any]"

MAX_DEPTH: Final = 100
"""Parts within parts; as many as Postfix takes (mime_nesting_limit)."""
PLAIN: Final = ("", "7bit", "8bit", "binary")
"""Transfer encodings that encode nothing (RFC 2045 6.2)."""
ENCODED: Final = ("quoted-printable", "base64")

_TYPE: Final = re.compile(r"[^\s/]+/[^\s/]+")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


def twin(part: Part, depth: int = 0) -> Part:
    """A copy to work on: another header section and other parts, the same text.

    Raises ``InputError`` for parts nested more than ``MAX_DEPTH`` deep, and
    for what is no part.
    """
    if depth > MAX_DEPTH:
        raise InputError(f"the message has parts nested more than {MAX_DEPTH} deep")
    if not isinstance(part, Message):
        raise InputError(f"a part of the message is {type(part).__name__}, not an email message")
    made = copy.copy(part)
    made_of = vars(made)
    made_of["_headers"] = list(part.raw_items())
    if isinstance(payload := made_of["_payload"], list):
        made_of["_payload"] = [twin(child, depth + 1) for child in payload]
    return made


def payload(part: Part) -> Any:
    """A list of parts, or the text of a leaf as it came, octets as surrogates; None without content."""
    return vars(part)["_payload"]


def children(part: Part) -> list[Part]:
    """The parts of a part; none for a leaf."""
    found = payload(part)
    return cast("list[Part]", found) if isinstance(found, list) else []


def is_leaf(part: Part) -> bool:
    """True for a part that holds text, or nothing."""
    return not isinstance(payload(part), list)


def is_sealed(part: Part) -> bool:
    """True for a message in a transfer encoding that encodes it: what seem to be its parts are none."""
    return encoding(part) not in PLAIN and maintype(part) == "message"


def walk(part: Part) -> Iterator[Part]:
    """The part and all parts below it."""
    waiting = [part]
    while waiting:
        waiting += reversed(children(found := waiting.pop()))
        yield found


def field(part: Part, name: str) -> str:
    """The value of the first field of this name, in one line; empty without one."""
    key = name.lower()
    return next((headers.text_of(*each) for each in part.raw_items() if each[0].lower() == key), "")


def content_type(part: Part) -> str:
    """Type and subtype in lower case; what counts instead where they are missing or make no sense."""
    found = parameters.first(field(part, "Content-Type"))
    if _TYPE.fullmatch(found):
        return found
    return "text/plain" if found else part.get_default_type()


def maintype(part: Part) -> str:
    """The first half of ``content_type``."""
    return content_type(part).partition("/")[0]


def encoding(part: Part) -> str:
    """The transfer encoding in lower case, without comments (RFC 2045 6.1)."""
    return parameters.first(field(part, "Content-Transfer-Encoding"))


def boundary(part: Part) -> str:
    """The boundary, where it is one (RFC 2046 5.1.1); else empty."""
    found = (parameters.get(field(part, "Content-Type"), "boundary") or "").rstrip()
    return found if _BOUNDARY.fullmatch(found) else ""


def text(part: Part) -> bytes:
    """The octets of a leaf as they stand, encoded or not. Raises ``InputError`` for what is no text."""
    found = payload(part)
    if found is None:
        return b""
    if not isinstance(found, str):
        raise InputError(f"the content of a {content_type(part)} part is {type(found).__name__}, not text")
    try:
        return found.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        # Not the error: it holds the whole text.
        raise InputError(
            f"a {content_type(part)} part has text in no charset: give it by set_content, or name one"
        ) from None


def decoded(part: Part) -> bytes:
    """The octets of a leaf. Raises ``InputError`` where its transfer encoding is unknown or broken."""
    octets, name = text(part), encoding(part)
    if name in PLAIN:
        return octets
    if name == "quoted-printable":
        return binascii.a2b_qp(octets)
    try:
        if name == "base64":
            return binascii.a2b_base64(octets + b"==")
    except binascii.Error:
        raise InputError(f"a {content_type(part)} part is not the base64 that it says") from None
    raise InputError(f"a {content_type(part)} part has an unknown transfer encoding")


def put(part: Part, name: str, value: str) -> None:
    """Give a field another value, where it stands."""
    key = name.lower()
    fields = vars(part)["_headers"]
    places = [place for place, (each, _) in enumerate(fields) if each.lower() == key]
    if places:
        fields[places[0]] = (fields[places[0]][0], value)
    else:
        fields.append((name, value))
    for place in reversed(places[1:]):
        del fields[place]


def put_below(part: Part, below: list[Part]) -> None:
    """Give a part other parts."""
    vars(part)["_payload"] = below


def put_content(part: Part, octets: bytes) -> None:
    """Make a leaf of these octets."""
    vars(part)["_payload"] = octets.decode("ascii", "surrogateescape")
