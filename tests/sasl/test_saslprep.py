"""RFC 4013: what is mapped, normalised and prohibited."""

from __future__ import annotations

import stringprep
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import InputError
from pysmtpx.sasl.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # The examples of RFC 4013 3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # Every other space is a space, U+200B too.
        ("a\u00a0b\u3000c\u200bd", "a b c d"),
        # Mapped to nothing (RFC 3454 B.1).
        ("\ufeffa\u200d\ufe0f", "a"),
        ("\u0644\u0627", "\u0644\u0627"),
        ("\u06271\u0628", "\u06271\u0628"),
        ("pässwörd", "pässwörd"),
        ("", ""),
        ("\u00ad", ""),
    ],
)
def test_text_is_mapped_and_normalised(text: str, prepared: str) -> None:
    assert saslprep(text, stored=True) == prepared
    assert saslprep(text, stored=False) == prepared


@pytest.mark.parametrize(
    "char",
    [
        "\x07",
        "\x7f",
        "\x00",
        "\u0085",
        "\u06dd",
        "\ue000",
        "\U000f0000",
        "\ufffe",
        "\U0001ffff",
        chr(0xD800),
        "\ufffd",
        "\u2ff0",
        "\u0340\u0341\u200e",
        "\u202e",
        "\U000e0001",
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_prohibited_characters_are_refused_and_not_shown(char: str, stored: bool) -> None:
    with pytest.raises(InputError) as caught:
        saslprep(f"hunter2{char}", stored=stored)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["\u06271", "1\u0627", "\u0627a\u0628", "\u05d0\u0041\u05d0"])
def test_right_to_left_text_is_not_mixed(text: str) -> None:
    with pytest.raises(InputError, match="right-to-left"):
        saslprep(text, stored=False)


def test_an_unassigned_character_is_for_queries_only() -> None:
    assert saslprep("a\U0001f600", stored=False) == "a\U0001f600"
    with pytest.raises(InputError, match="not assigned"):
        saslprep("a\U0001f600", stored=True)


@given(st.text())
def test_preparing_twice_changes_nothing_and_leaves_nothing_prohibited(text: str) -> None:
    try:
        prepared = saslprep(text, stored=True)
    except InputError:
        return
    assert saslprep(prepared, stored=True) == prepared
    assert unicodedata.ucd_3_2_0.is_normalized("NFKC", prepared)
    assert not any(stringprep.in_table_c12(char) or unicodedata.category(char) == "Cc" for char in prepared)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_printable_ascii_stays_as_it_is(text: str) -> None:
    assert saslprep(text, stored=True) == text
