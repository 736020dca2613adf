"""The header section of a message that is octets already, cut without touching the rest.

A signature covers octets, so nothing is parsed and written again: fields are
cut out or put in front, everything else stays as it came.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import BinaryIO, Final, NamedTuple

from ..errors import InputError

MAX_HEADER: Final = 1024 * 1024
"""Octets of a header section; a message without an end of it must not cost more."""

# CR alone ends a line here because it does so on the wire: a Bcc behind it must not stay hidden.
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)?")
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class Field(NamedTuple):
    """One header field: its name in lower case, and all its octets with the last line end."""

    name: str
    octets: bytes

    @property
    def text(self) -> str:
        """The value in one line.

        Raises ``InputError`` where it is not UTF-8 (RFC 6532 3.2).
        """
        value = _LINE_END.sub(b"", self.octets[self.octets.index(b":") + 1 :]).strip(b" \t")
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"the field {self.name} is neither ASCII nor UTF-8") from None


class Section(NamedTuple):
    """The header section, and where in the message the rest begins."""

    fields: list[Field]
    end: int


def section(head: bytes) -> Section:
    """Read the header section at the beginning of a message.

    ``head`` is the message, or its first ``MAX_HEADER`` + 1 octets. Raises
    ``InputError`` for a line that is no field (RFC 5322 2.2), and for a section
    of more octets than ``MAX_HEADER``.
    """
    starts: list[tuple[str, int]] = []
    end = 0
    for number, line in enumerate(_lines(head), 1):
        if line[:1] not in (b" ", b"\t"):
            starts.append((_name(line, number), end))
        elif not starts:
            raise InputError("the message begins with white space, not with a header field")
        end += len(line)
    if end > MAX_HEADER:
        raise InputError(f"the header section is longer than {MAX_HEADER} octets")
    starts.append(("", end))
    return Section([Field(name, head[at:stop]) for (name, at), (_, stop) in pairwise(starts)], end)


def without(section: Section, names: Collection[str]) -> bytes:
    """The octets of the section but for the fields of these names.

    Nothing else changes, except for a bare CR that would come to stand before
    an empty line: were that LF, the two would be one line end on the wire, and
    the body would become fields.
    """
    kept = b"".join(field.octets for field in section.fields if field.name not in names)
    is_last_cut = bool(section.fields) and section.fields[-1].name in names
    return kept + b"\n" if is_last_cut and kept.endswith(b"\r") else kept


def first(file: BinaryIO) -> bytes:
    """As much of a file as ``section`` wants to see. Raises ``InputError`` for a text file."""
    pieces: list[bytes] = []
    wanted = MAX_HEADER + 1
    while wanted > 0:
        piece = file.read(wanted)
        if not isinstance(piece, bytes):
            # A non-blocking file gives None where it has nothing yet: that is not its end.
            raise InputError("a message is octets: open the file in binary, blocking mode")
        if not piece:
            break
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


def _lines(head: bytes) -> Iterator[bytes]:
    """The lines up to the empty one, with their ends."""
    for match in _LINE.finditer(head):
        line = match[0]
        if not line.rstrip(b"\r\n") or match.start() > MAX_HEADER:
            return
        yield line


def _name(line: bytes, number: int) -> str:
    match = _FIELD.match(line)
    if match is None:
        raise InputError(f"line {number} of the message is no header field and not empty (RFC 5322 2.2)")
    return match[1].decode("ascii").lower()
