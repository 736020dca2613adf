"""Content from every kind of source (RFC 5321 2.3.9): the same octets, measured and sent."""

from __future__ import annotations

import array
import io
import mmap
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.reference import canonical, dotted

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.wire import content as module
from pysmtpx.wire.content import Content
from pysmtpx.wire.limits import SLICE


class Reiterable:
    """Chunks that can be iterated over again and again."""

    def __init__(self, data: bytes, size: int = 3) -> None:
        self.chunks = [data[i : i + size] for i in range(0, len(data), size)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)


class Pipe(io.RawIOBase):
    """A raw stream that cannot seek and gives a few octets at a time."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(memoryview(buffer)[:7])


def file_at(data: bytes) -> io.BytesIO:
    file = io.BytesIO(b"skipped" + data)
    file.seek(7)
    return file


REPLAYABLE: dict[str, Callable[[bytes], Any]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "part of a memoryview": lambda data: memoryview(b"x" + data + b"x")[1:-1],
    "array": lambda data: array.array("B", data),
    "BytesIO": io.BytesIO,
    "file from where it stands": file_at,
    "list": lambda data: [data[:2], data[2:]],
    "mixed chunks": lambda data: (bytearray(data[:5]), memoryview(data)[5:]),
    "iterable": Reiterable,
}
ONE_SHOT: dict[str, Callable[[bytes], Any]] = {
    "generator": lambda data: (chunk for chunk in Reiterable(data)),
    "iterator": lambda data: iter([data]),
    "raw stream": Pipe,
    "buffered stream": lambda data: io.BufferedReader(Pipe(data)),
}
SOURCES = REPLAYABLE | ONE_SHOT
any_source = st.sampled_from(sorted(SOURCES))
lines = st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\xe9", b"\0", b"x" * 999])
messages = st.lists(lines, max_size=25).map(b"".join)
messages |= messages.map(canonical)


def sent(slices: Iterable[bytes | memoryview]) -> bytes:
    return b"".join(slices)


@given(messages, any_source)
def test_every_source_sends_the_same(data: bytes, source: str) -> None:
    """FAULTS 52, 108: stuffed for DATA, unstuffed for BDAT, untouched for BINARYMIME."""
    make = SOURCES[source]
    assert sent(Content.of(make(data)).for_data()) == dotted(data)
    assert sent(Content.of(make(data)).for_bdat()) == canonical(data)
    assert sent(Content.of(make(data)).for_bdat(binary=True)) == data


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("data", [b".\r\n", b"a\r\n..\r\n", b"\n.\n", b"a\r.", b"a\r\r\n.", b"a", b""])
def test_borders_of_the_rules(source: str, data: bytes) -> None:
    """FAULTS 108."""
    assert sent(Content.of(SOURCES[source](data)).for_data()) == dotted(data)
    assert sent(Content.of(SOURCES[source](data)).for_bdat()) == canonical(data)


@given(messages, st.sampled_from(sorted(REPLAYABLE)))
def test_every_replayable_source_is_measured_and_sent_any_number_of_times(data: bytes, source: str) -> None:
    content = Content.of(REPLAYABLE[source](data))
    assert content.replayable
    for _ in range(2):
        assert content.measure == Content.of(data).measure
        assert sent(content.for_data()) == dotted(data)
        assert sent(content.for_bdat()) == canonical(data)
        assert sent(content.for_bdat(binary=True)) == data


@pytest.mark.parametrize("source", ONE_SHOT)
def test_a_one_shot_source_is_not_measured_and_not_read_twice(source: str) -> None:
    content = Content.of(ONE_SHOT[source](b"a\r\n"))
    assert not content.replayable
    assert content.measure is None
    assert sent(content.for_data()) == b"a\r\n"
    with pytest.raises(InputError, match="once"):
        sent(content.for_data())
    with pytest.raises(InputError, match="once"):
        sent(content.for_bdat(binary=True))


def test_one_shot_source_is_not_touched_before_it_is_sent() -> None:
    def chunks() -> Iterator[bytes]:
        raise AssertionError("read too early")
        yield b""

    content = Content.of(chunks())
    assert content.measure is None
    content.for_data()


@pytest.mark.parametrize(
    "source",
    ["text", io.StringIO("text"), None, 5, 1.5, object(), Path("x"), [1, 2], ["text"], [None], {"a": 1}],
)
def test_what_is_no_octets_is_refused(source: Any) -> None:
    with pytest.raises(InputError):
        _ = Content.of(source).measure


def test_text_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mail.eml"
    path.write_bytes(b"a\r\n")
    with path.open() as file, pytest.raises(InputError, match="binary"):
        Content.of(file)  # type: ignore[arg-type]


def test_buffers_that_are_not_contiguous_are_refused() -> None:
    with pytest.raises(InputError, match="contiguous"):
        Content.of(memoryview(b"abcd")[::2])


def test_content_of_content_is_the_same() -> None:
    content = Content.of(b"a")
    assert Content.of(content) is content


def test_content_in_memory_pickles() -> None:
    content = Content.of(b"a\n")
    assert sent(pickle.loads(pickle.dumps(content)).for_data()) == b"a\r\n"


def test_files_and_maps(tmp_path: Path) -> None:
    data = b".dot\n" * 50_000
    path = tmp_path / "mail.eml"
    path.write_bytes(data)
    with path.open("rb") as file:
        content = Content.of(file)
        assert content.measure == Content.of(data).measure
        assert sent(content.for_data()) == dotted(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = Content.of(mapped)  # type: ignore[arg-type]
        assert content.measure == Content.of(data).measure
        assert sent(content.for_data()) == dotted(data)
    with tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(data)
        spooled.seek(0)
        assert sent(Content.of(spooled).for_data()) == dotted(data)


def test_measuring_leaves_the_file_to_be_sent_from_where_it_stood() -> None:
    file = file_at(b"a\n")
    content = Content.of(file)
    file.seek(0)
    assert content.measure is not None
    assert content.measure.size == 3
    assert sent(content.for_data()) == b"a\r\n"


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("line", [b"a\r\n", b"\n", b".\n", b"x", b"x" * 76 + b"\n"], ids=repr)
def test_slices_are_bounded_and_few(source: str, line: bytes) -> None:
    """Whatever the size of the chunks, a write is neither huge nor, on the whole, tiny."""
    data = line * (200_000 // len(line))
    for method, expected in (("for_data", dotted(data)), ("for_bdat", canonical(data))):
        sizes = [len(part) for part in getattr(Content.of(SOURCES[source](data)), method)()]
        assert sum(sizes) == len(expected)
        assert max(sizes) <= SLICE
        assert len(sizes) <= 2 * len(expected) // SLICE + 4


def test_canonical_octets_in_memory_are_not_copied() -> None:
    data = b"a\r\n" * SLICE
    content = Content.of(data)
    for parts in (content.for_data(), content.for_bdat(), content.for_bdat(binary=True)):
        assert all(isinstance(part, memoryview) and part.obj is data for part in parts)
    assert next(Content.of(b"a\r\n").for_data()) == b"a\r\n"


def test_a_large_file_is_never_held_whole() -> None:
    """Each slice is asked for only when the one before was taken, two pieces ahead at most."""
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += SLICE
            yield b"x\n" * (SLICE // 2)

    taken = 0
    for part in Content.of(chunks()).for_data():
        taken += len(part)
        assert read < taken + 5 * SLICE


@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data))])
def test_a_buffer_changed_after_measuring_cannot_smuggle(make: Callable[[bytes], Any]) -> None:
    """FAULTS 108: what was measured decides nothing about stuffing and line ends."""
    source = make(b"a\r\nbcd\r\nefgh\r\n")
    content = Content.of(source)
    assert content.measure is not None
    source[:] = b"a\r\n.\r\nMAIL FRO"[: len(source)]
    with pytest.raises(InputError):  # the final line end would make it longer
        sent(content.for_data())
    source[:] = b"a\r\n.\r\nMAIL F\r\n"
    assert sent(content.for_data()) == b"a\r\n..\r\nMAIL F\r\n"


def test_a_buffer_is_free_between_slices() -> None:
    source = bytearray(b"a\r\n")
    content = Content.of(source)
    slices = content.for_data()
    next(slices)
    source.extend(b"free to grow")


def test_chunks_may_share_one_buffer() -> None:
    """A reader that fills the same buffer again and again."""
    buffer = bytearray(2)

    def chunks() -> Iterator[bytearray]:
        for text in (b"ab", b"cd", b"\r\n"):
            buffer[:] = text
            yield buffer

    assert sent(Content.of(chunks()).for_data()) == b"abcd\r\n"  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["for_data", "for_bdat", "binary"])
@pytest.mark.parametrize("change", [b"", b"a\r\n", b"a\r\n" * 99_999, b"a\r\n" * 100_001, b"a\r\n" * 200_000])
def test_a_file_that_changed_after_measuring_is_never_sent_whole(method: str, change: bytes) -> None:
    """FAULTS 35: the announced number of octets is not reached, so a close still aborts."""
    file = io.BytesIO(b"a\r\n" * 100_000)
    content = Content.of(file)
    assert content.measure is not None
    file.seek(0)
    file.truncate()
    file.write(change)
    slices = content.for_bdat(binary=True) if method == "binary" else getattr(content, method)()
    got: list[int] = []
    with pytest.raises(InputError, match="300000"):
        got.extend(map(len, slices))
    assert sum(got) < 300_000


def test_the_callers_error_comes_through() -> None:
    """FAULTS 35."""

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        sent(Content.of(chunks()).for_data())


def test_a_file_that_turns_out_to_be_text_is_refused() -> None:
    class Text:
        def read(self, size: int = -1) -> str:
            return "text"

    with pytest.raises(InputError, match="str"):
        sent(Content.of(Text()).for_data())  # type: ignore[arg-type]


def test_a_file_that_would_block_is_refused() -> None:
    """A non-blocking raw file answers None, which is not its end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        with io.FileIO(reader) as file, pytest.raises(InputError, match="NoneType"):
            sent(Content.of(file).for_data())  # type: ignore[arg-type]
    finally:
        os.close(writer)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("bad", "allowed"),
    [(b"caf\xe9\n", "allow_8bit"), (b"x" * 999 + b"\n", "allow_long_lines"), (b"a\0b\n", "allow_nul")],
)
@pytest.mark.parametrize("method", ["for_data", "for_bdat"])
def test_what_is_not_allowed_never_leaves(source: str, bad: bytes, allowed: str, method: str) -> None:
    """FAULTS 109, also where the source could not be measured."""

    def send(**flags: bool) -> bytes:
        return sent(getattr(Content.of(SOURCES[source](b"good\n" + bad)), method)(**flags))

    assert send() == send(**{allowed: True}) == canonical(b"good\n" + bad)
    with pytest.raises(NotSupportedError):
        send(**{allowed: False})
    assert Content.of(SOURCES[source](bad)).for_bdat(binary=True, **{allowed: False})


@pytest.mark.parametrize("kind", [bytearray, lambda octets: memoryview(bytearray(octets))])
def test_frozen_content_does_not_follow_its_buffer(kind) -> None:
    buffer = kind(b"Subject: x\r\n\r\nhello\r\n")
    content = Content.of(buffer)
    frozen = content.frozen()
    buffer[0:1] = b"T"
    assert b"".join(frozen.for_data()) == b"Subject: x\r\n\r\nhello\r\n"
    assert b"".join(content.for_data()).startswith(b"Tubject")


@pytest.mark.parametrize("source", [b"x\r\n", [b"x\r\n"], iter([b"x\r\n"])])
def test_what_cannot_change_is_frozen_as_it_is(source) -> None:
    content = Content.of(source)
    assert content.frozen() is content


LINES = st.sampled_from([b"a", b".", b"\r\n", b"\n", b"\r", b"\xff", b"\0", b"x" * 990])


@given(st.lists(LINES, max_size=12).map(b"".join))
@example(b"x" * 998 + b"\r\n")
@example(b"a.b\r\n")
@example(b"")
@example(b"x\r\n" * 3000)
def test_what_is_plain_goes_as_it_stands(data: bytes) -> None:
    """What the transaction writes without a look at it is what the careful way writes, under any rule."""
    content = Content.of(data)
    assert content.measure is not None
    content.prepare()
    if content.plain is not None:
        strict = {"allow_8bit": False, "allow_long_lines": False, "allow_nul": False}
        assert (
            content.plain
            == data
            == b"".join(content.for_data(**strict))
            == b"".join(content.for_bdat(**strict))
        )
    else:
        stuffed = b"".join(content.for_data())
        is_any = content.measure.is_8bit or content.measure.has_long_line or content.measure.has_nul
        assert is_any or stuffed != data


def test_what_is_larger_than_a_slice_is_never_plain() -> None:
    content = Content.of(b"x" * 70 + b"\r\n" + b"y\r\n" * SLICE)
    assert content.measure is not None
    content.prepare()
    assert content.plain is None


@pytest.fixture
def looked_through(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All octets in memory that are measured."""
    seen: list[bytes] = []
    measure_bytes = module.measure_bytes

    def noted(data: bytes) -> module.Measure:
        seen.append(data)
        return measure_bytes(data)

    monkeypatch.setattr(module, "measure_bytes", noted)
    return seen


@pytest.mark.parametrize("is_prepared_first", [True, False])
@pytest.mark.parametrize(
    "data",
    [b"a\r\n" * 5, b".a\r\n..b\r\n", b"a\r\n" * 2000, b".\r\n" * 2000, b"a\n\xff", b"x\0" * 600],
    ids=["short", "dots", "more", "more dots", "not canonical", "not plain"],
)
def test_one_object_for_many_messages_is_looked_through_once(
    data: bytes, is_prepared_first: bool, looked_through: list[bytes]
) -> None:
    data = bytes(bytearray(data))  # which no test before has had in hands
    first, second = Content.of(data), Content.of(data)
    measure = first.measure
    if is_prepared_first:
        first.prepare()
    assert second.measure == measure
    assert len(looked_through) == 1
    second.prepare()
    first.prepare()
    assert first.plain == second.plain
    assert b"".join(second.for_data()) == b"".join(first.for_data()) == dotted(canonical(data))
    assert b"".join(second.for_bdat()) == canonical(data)


def test_equal_octets_of_another_object_are_looked_through_anew(looked_through: list[bytes]) -> None:
    """To compare them would cost as much; and two mail objects stay different ones."""
    data = bytes(bytearray(b"a\r\n" * 5))
    contents = [Content.of(each) for each in (data, bytes(bytearray(data)), data)]
    assert len({content.measure for content in contents}) == 1
    assert len(looked_through) == 3
    assert contents[0] != contents[2]


def test_what_is_longer_than_a_slice_is_not_kept(looked_through: list[bytes]) -> None:
    data = b"a\r\n" * SLICE
    assert Content.of(data).measure == Content.of(data).measure
    assert len(looked_through) == 2
