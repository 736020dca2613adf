"""The parameters of Content-Type and Content-Disposition (RFC 2045 5.1, RFC 2231).

The standard library reads these fields in quadratic time, and its writer never
ends where a name is long (CPython gh-138223). Uploads and attached messages
bring such fields from strangers, so here they are read and written in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from ..errors import InputError

WIDTH: Final = 76
"""Columns of a folded line: RFC 2047 2 where there is an encoded word, below the 78 of RFC 5322."""
_MAX_PLAIN: Final = 900
"""Octets of a parameter that stands in one line as it is; with its field's name the line stays under 998."""
_MAX_NAME: Final = 128
"""Octets of a parameter's name that stands again in each line of a long value."""
_MIN_PIECE: Final = 24
"""Octets of a value that a line of it holds at least, however long the name."""

_SPECIAL: Final = re.compile(r'[";()]|\\.?', re.DOTALL)
_TOKEN: Final = re.compile(r"[!#-&*+\-.0-9A-Z^-~]+")
_CANONICAL: Final = re.compile(r"""[^\s";()\\]++(?:;[ ][^\s";()\\]++(?:"[^"\\]*+")?)*""", re.VERBOSE)
"""What ``folded`` would not write in another way, if it is short."""
QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_UNITS: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})|.", re.DOTALL)
SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""An octet that no charset explained, as ``email`` keeps it."""
_EXTENDED: Final = tuple(
    chr(n) if n < 128 and (chr(n).isalnum() or chr(n) in "!#$&+-.^_`|~") else f"%{n:02X}" for n in range(256)
)
"""Each octet in an extended value (RFC 2231 7)."""


def split(text: str) -> Iterator[str]:
    """What stands between semicolons; one in a quoted string or a comment is text."""
    start = depth = 0
    is_quoted = False
    for match in _SPECIAL.finditer(text):
        special = match[0]
        if is_quoted:
            is_quoted = special != '"'
        elif special == "(":
            depth += 1
        elif special == ")":
            depth = max(depth - 1, 0)
        elif depth:
            continue
        elif special == '"':
            is_quoted = True
        elif special == ";":
            yield text[start : match.start()].strip(" \t")
            start = match.end()
    yield text[start:].strip(" \t")


def bare(text: str) -> str:
    """A value without its comments, as in ``base64 (of a picture)``; quoted strings stay."""
    kept: list[str] = []
    start = depth = 0
    is_quoted = False
    for match in _SPECIAL.finditer(text):
        special = match[0]
        if special == '"' and not depth:
            is_quoted = not is_quoted
        elif special == "(" and not is_quoted:
            if not depth:
                kept.append(text[start : match.start()])
            depth += 1
        elif special == ")" and depth:
            depth -= 1
            start = match.end()
    return "".join(kept if depth else [*kept, text[start:]]).strip(" \t")


def first(text: str) -> str:
    """What stands before the parameters, in lower case: the type, the disposition."""
    head = text.partition(";")[0]
    if '"' in head or "(" in head or "\\" in head:
        head = bare(next(split(text)))
    return head.strip(" \t").lower()


def get(text: str, name: str) -> str | None:
    """The value of a parameter, joined and decoded where it is in pieces (RFC 2231 3, 4); None without it."""
    pieces: dict[str, str] = {}
    for segment in list(split(text))[1:]:
        key, equals, value = segment.partition("=")
        key = key.rstrip(" \t").lower()
        if equals and (key == name or key.startswith(f"{name}*")):
            pieces.setdefault(key.removeprefix(name), value)
    if "" in pieces:
        return _plain(pieces[""])
    if "*" in pieces:
        return _decoded(_plain(pieces["*"]), is_first=True)
    values: list[str] = []
    while (number := f"*{len(values)}") in pieces or f"{number}*" in pieces:
        is_plain = number in pieces
        value = _plain(pieces[number if is_plain else f"{number}*"])
        values.append(value if is_plain else _decoded(value, is_first=not values))
    return "".join(values) if values else None


def replaced(text: str, name: str, value: str) -> str:
    """The field's value with a parameter set; ``value`` is a token or goes in quotes, and holds none."""
    head, *segments = split(text)
    kept = [each for each in segments if each.partition("=")[0].partition("*")[0].strip().lower() != name]
    return "; ".join([head, *filter(None, kept), f'{name}="{value}"'])


def is_canonical(text: str) -> bool:
    """True for a value that ``folded`` leaves as it is, where it is ASCII and shorter than a line."""
    return _CANONICAL.fullmatch(text) is not None


def folded(name: str, text: str) -> str:
    """The field with its CRLF, in ASCII; each parameter that is short and ASCII as it stands.

    Raises ``InputError`` for what is not ASCII and no parameter's value, and
    for a parameter that is too long with a name that no header may hold.
    """
    head, *segments = split(text)
    if not head.isascii():
        raise InputError(f"{name} is not ASCII outside its parameters' values (RFC 2045 5.1)")
    lines = [f"{name}: {head}"]
    for piece in (piece for segment in segments if segment for piece in _written(name, segment)):
        lines[-1] += ";"
        if len(lines[-1]) + 1 + len(piece) < WIDTH:
            lines[-1] += f" {piece}"
        else:
            lines.append(f" {piece}")
    return "\r\n".join(lines) + "\r\n"


def _plain(value: str) -> str:
    value = value.lstrip(" \t")
    if match := QUOTED.match(value):
        return QUOTED_PAIR.sub(r"\1", match[1])
    return bare(value)


def _decoded(value: str, *, is_first: bool) -> str:
    """An extended value; its charset is not asked, since what is read here is ASCII or of no use."""
    encoded = value.split("'", 2)[-1] if is_first else value
    return unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _written(field: str, segment: str) -> list[str]:
    """A parameter as it stands, or as an extended value in as many pieces as it needs (RFC 2231 4.1)."""
    if segment.isascii() and len(segment) <= _MAX_PLAIN:
        return [segment]
    name, equals, value = (text.strip(" \t") for text in segment.partition("="))
    is_extended = name.endswith("*") and value.isascii()
    key = name.removesuffix("*") if is_extended else name
    if not equals or not _TOKEN.fullmatch(key) or "*" in key or len(key) > _MAX_NAME:
        raise InputError(f"{field} holds a parameter that no header may hold (RFC 2045 5.1, RFC 2231)")
    units = _UNITS.findall(_plain(value)) if is_extended else _encoded(_plain(value))
    whole = f"{key}*={''.join(units)}"
    if len(whole) <= WIDTH - 2:
        return [whole]
    return [f"{key}*{number}*={piece}" for number, piece in enumerate(_grouped(units, WIDTH - len(key) - 8))]


def _encoded(value: str) -> list[str]:
    """An extended value, character by character, so that none is cut in two."""
    charset = "unknown-8bit" if SURROGATE.search(value) else "utf-8"  # RFC 1428 3
    return [
        f"{charset}''",
        *(_EXTENDED[ord(each)] if each < "\x80" else _escaped(each) for each in value),
    ]


def _escaped(character: str) -> str:
    return "".join([_EXTENDED[octet] for octet in character.encode("utf-8", "surrogateescape")])


def _grouped(units: list[str], width: int) -> Iterator[str]:
    width = max(width, _MIN_PIECE)
    pieces: list[str] = []
    length = 0
    for unit in units:
        if pieces and length + len(unit) > width:
            yield "".join(pieces)
            pieces, length = [], 0
        pieces.append(unit)
        length += len(unit)
    yield "".join(pieces)
