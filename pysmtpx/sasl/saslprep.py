"""Preparing user names and passwords, so that both sides hash the same octets (RFC 4013)."""

from __future__ import annotations

import stringprep
from typing import Final
from unicodedata import ucd_3_2_0  # RFC 3454 is fixed on Unicode 3.2

from ..errors import InputError

_PROHIBITED: Final = (
    # Not C.1.2: those spaces have been mapped.
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool) -> str:
    """Prepare a user name (``stored=False``) or a password (``stored=True``).

    A stored string may hold no code point that Unicode 3.2 does not assign
    (RFC 3454 7; RFC 5802 2.2 and 5.1 say which is which).

    Raises ``InputError`` for what RFC 4013 2.3 to 2.5 prohibit. The error never
    shows the text: it may be a password.
    """
    if text.isascii() and text.isprintable():
        return text
    prepared = ucd_3_2_0.normalize("NFKC", "".join(map(_mapped, text)))
    if any(prohibited(char) for char in prepared for prohibited in _PROHIBITED):
        raise InputError("a character is prohibited in user names and passwords (RFC 4013 2.3)")
    if not _reads_one_way(prepared):
        raise InputError("right-to-left text is mixed or not at both ends (RFC 4013 2.4)")
    if stored and any(map(stringprep.in_table_a1, prepared)):
        raise InputError("a character is not assigned in Unicode 3.2 (RFC 4013 2.5)")
    return prepared


def _mapped(char: str) -> str:
    """RFC 4013 2.1, in its order: U+200B is in both tables, and so a space."""
    if stringprep.in_table_c12(char):
        return " "
    return "" if stringprep.in_table_b1(char) else char


def _reads_one_way(text: str) -> bool:
    """RFC 3454 6: with a right-to-left letter none goes left to right, and both ends are right-to-left."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    ends_right = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends_right and not any(map(stringprep.in_table_d2, text))
