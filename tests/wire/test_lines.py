"""Line ends, dots and traits, wherever the pieces are cut (RFC 5321 4.5.2)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.reference import canonical, dotted

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.wire.content import measure_bytes
from pysmtpx.wire.limits import MAX_TEXT_LINE, SLICE
from pysmtpx.wire.lines import (
    CanonicalLines,
    check_traits,
    checked,
    cut,
    exactly,
    has_inner_dot_line,
    measure_pieces,
    slices,
    stuffed,
)

messages = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"", b"\xc3\xa9", b"\xff", b"\0", b"\r\n.\r\n"]
    )
    | st.sampled_from([998, 999, 1000]).map(lambda size: b"x" * size),
    max_size=25,
).map(b"".join)
messages |= messages.map(canonical)
places = st.lists(st.integers(0, 3000), max_size=12)


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut anywhere, as no source does: empty pieces and pieces of one octet too."""
    borders = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


def has_utf8_headers(data: bytes) -> bool:
    headers = (b"\r\n" + canonical(data)).partition(b"\r\n\r\n")[0]
    try:
        headers.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not headers.isascii()


@given(messages, places)
@example(b".\r\n", [])
@example(b"\r\n.", [1, 2])
@example(b"a.", [1])
@example(b"a\r\r\n.\r", [2, 3, 4])
def test_line_ends_and_dots_are_right_wherever_the_pieces_are_cut(data: bytes, cuts: list[int]) -> None:
    """FAULTS 108."""
    assert b"".join(CanonicalLines(pieces_of(data, cuts))) == canonical(data)
    assert b"".join(stuffed(CanonicalLines(pieces_of(data, cuts)))) == dotted(data)


@given(messages, places)
def test_no_piece_splits_a_line_end_or_is_empty(data: bytes, cuts: list[int]) -> None:
    for piece in CanonicalLines(pieces_of(data, cuts)):
        assert piece
        assert not piece.endswith(b"\r")
        assert not piece.startswith(b"\n")


@given(messages, places)
def test_nothing_in_content_can_end_it(data: bytes, cuts: list[int]) -> None:
    """FAULTS 108: no line is a single dot, under any reading of CR and LF."""
    sent = b"".join(stuffed(CanonicalLines(pieces_of(data, cuts))))
    assert not re.search(rb"(?:^|[\r\n])\.(?:[\r\n]|$)", sent)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", sent)


@given(messages, places)
@example(b"x" * 998 + b"\r\n", [])
@example(b"x" * 999, [])
@example(b"\xc3\xa9", [1])
@example(b".\r\n", [])
@example(b"a.\r\n", [1])
@example(b"a\r\n\r\n\xc3\xa9\r\n", [4])
def test_measure_is_of_the_whole_message(data: bytes, cuts: list[int]) -> None:
    """FAULTS 109: SIZE after line ends, before stuffing (RFC 1870 5)."""
    text = canonical(data)
    measure = measure_pieces(pieces_of(data, cuts))
    assert measure == measure_bytes(data)
    assert measure.size == len(text)
    assert measure.raw_size == len(data)
    assert measure.is_8bit == (not data.isascii())
    assert measure.has_nul == (b"\0" in data)
    assert measure.has_long_line == any(len(line) > MAX_TEXT_LINE for line in text.split(b"\r\n"))
    assert (text[:1] == b"." or has_inner_dot_line(text)) == (dotted(data) != text)
    assert measure.has_utf8_headers == has_utf8_headers(data)
    assert measure.canonical == (data == text)


@pytest.mark.parametrize("border", [SLICE, 3 * SLICE])
@pytest.mark.parametrize("offset", [-3, -2, -1, 0, 1, 2])
@pytest.mark.parametrize("seam", [b"\r\n.", b"\r\n..\r\n", b"\xff", b"\0", b"\n", b"\r", b"x" * 999])
def test_measure_sees_across_the_border_of_slices(border: int, offset: int, seam: bytes) -> None:
    """FAULTS 108, 109: the quick look at octets in memory cuts them up too."""
    line = b"x" * 62 + b"\r\n"
    head = line * (border // len(line) + 1)
    data = head[: border + offset - 70] + b"\r\n" + b"y" * 68 + seam + b"z\r\n" + line * 20
    assert measure_bytes(data) == measure_pieces(slices(data, 1000))
    assert has_inner_dot_line(data) == (b"\n." in data)


@pytest.mark.parametrize("end", [b"", b"\r\ntext\r\n", b"\r\n\xff\r\n", b"\xff\r\n"])
def test_header_section_longer_than_a_slice(end: bytes) -> None:
    """RFC 6532 3.2: only the header fields matter, and only where they are UTF-8."""
    fields = "X-Grüße: ja\r\n".encode() * 9000
    assert len(fields) > 2 * SLICE
    assert measure_bytes(fields + end) == measure_pieces(slices(fields + end, 777))
    assert measure_bytes(fields + end).has_utf8_headers == (not end.startswith(b"\xff"))


@given(st.binary(max_size=300), st.integers(1, 50))
def test_slices(data: bytes, size: int) -> None:
    parts = list(slices(data, size))
    assert b"".join(parts) == data
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)


def test_slices_copy_nothing() -> None:
    data = bytes(SLICE + 1)
    assert [part.obj is data for part in slices(data) if isinstance(part, memoryview)] == [True, True]
    assert next(slices(data[:SLICE])) == data[:SLICE]
    small = b"small"
    assert next(slices(small)) is small


def test_cut_keeps_pieces_within_a_slice() -> None:
    assert [len(part) for part in cut([b"a" * (SLICE + 5), b"b"])] == [SLICE, 5, 1]


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=6), st.integers(0, 30))
def test_exactly_withholds_the_last_piece_of_another_size(pieces: list[bytes], size: int) -> None:
    """FAULTS 35: the announced size is never reached where the content has another."""
    got: list[bytes] = []
    try:
        for piece in exactly(pieces, size):
            got.append(piece)
    except InputError:
        assert sum(map(len, pieces)) != size
        assert b"".join(pieces).startswith(b"".join(got))
        assert len(b"".join(got)) < size or not got
    else:
        assert got == pieces
        assert sum(map(len, pieces)) == size


@pytest.mark.parametrize(
    ("bad", "allowed", "keyword"),
    [
        (b"caf\xe9\r\n", "allow_8bit", "8BITMIME"),
        (b"x" * 999 + b"\r\n", "allow_long_lines", "BINARYMIME"),
        (b"a\0b\r\n", "allow_nul", "BINARYMIME"),
    ],
)
def test_what_is_not_allowed_is_refused_before_it_is_handed_out(
    bad: bytes, allowed: str, keyword: str
) -> None:
    """FAULTS 109."""
    good = b"good\r\n"
    assert list(checked([good, bad, good])) == [good, bad, good]
    others = {"allow_8bit", "allow_long_lines", "allow_nul"} - {allowed}
    assert list(checked([good, bad], **dict.fromkeys(others, False))) == [good, bad]
    pieces = checked([good, bad], **{allowed: False})
    assert next(pieces) == good
    with pytest.raises(NotSupportedError) as caught:
        next(pieces)
    assert caught.value.keyword == keyword
    with pytest.raises(NotSupportedError) as caught:
        check_traits(measure_bytes(bad), **{allowed: False})
    assert caught.value.keyword == keyword


def test_a_long_line_is_seen_across_pieces() -> None:
    """FAULTS 109."""
    assert list(checked([b"x" * 500, b"x" * 498, b"\r\n"], allow_long_lines=False))
    with pytest.raises(NotSupportedError):
        list(checked([b"x" * 500, b"x" * 499, b"\r\n"], allow_long_lines=False))
