"""The reply parser: RFC 5321 4.2, and everything a server can send instead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import ProtocolError
from pysmtpx.wire.limits import MAX_BACKLOG, MAX_REPLY, MAX_REPLY_LINE, MAX_REPLY_LINES
from pysmtpx.wire.parser import ReplyParser, replies_in
from pysmtpx.wire.reply import EnhancedCode, Reply


def whole(octets: bytes) -> Iterable[bytes]:
    return [octets]


def by_line(octets: bytes) -> Iterable[bytes]:
    return octets.splitlines(keepends=True)


def by_octet(octets: bytes) -> Iterable[bytes]:
    return (octets[i : i + 1] for i in range(len(octets)))


Cut = Callable[[bytes], Iterable[bytes]]
CUTS = pytest.mark.parametrize("cut", [whole, by_line, by_octet])


def parse(segments: Iterable[bytes]) -> tuple[list[Reply], str | None]:
    """Feed each segment and take what there is: the replies, and the text of the error that ended it."""
    parser = ReplyParser()
    replies = []
    try:
        for segment in segments:
            parser.feed(segment)
            while (reply := parser.next()) is not None:
                replies.append(reply)
    except ProtocolError as error:
        return replies, str(error)
    return replies, None


def render(reply: Reply, end: bytes = b"\r\n") -> bytes:
    code = str(reply.code).encode()
    *heads, last = reply.lines
    return b"".join(code + b"-" + line + end for line in heads) + code + b" " + last + end


def cut_at(octets: bytes, places: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[a:b] for a, b in itertools.pairwise(borders)]


texts = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"").rstrip(b"\r"))
replies = st.builds(
    lambda code, lines: Reply(code, tuple(lines)),
    st.integers(200, 599),
    st.lists(texts, min_size=1, max_size=5),
)


@given(
    st.lists(replies, max_size=5), st.lists(st.integers(0), max_size=20), st.sampled_from([b"\n", b"\r\n"])
)
def test_what_was_rendered_is_parsed_however_it_is_cut(
    sent: list[Reply], places: list[int], end: bytes
) -> None:
    """FAULTS 1, 4, 12: texts keep every octet but the line end."""
    got, error = parse(cut_at(b"".join(render(reply, end) for reply in sent), places))
    assert error is None
    assert [(reply.code, reply.lines) for reply in got] == [(reply.code, reply.lines) for reply in sent]


# Pieces that stand on both sides of every rule.
fragments = st.sampled_from(
    [
        *b"250|250 |250-|550-|550 |2|5|0| |-|\r|\n|\r\n|ok|2.0.0 |HTTP/|SSH-2|\x15\x03|+OK".split(b"|"),
        b"x" * 5000,
    ]
)


@given(st.lists(fragments, max_size=30).map(b"".join), st.lists(st.integers(0), max_size=20))
def test_any_octets_give_the_same_replies_and_the_same_error_however_they_are_cut(
    octets: bytes, places: list[int]
) -> None:
    """FAULTS 1."""
    expected = parse(whole(octets))
    assert parse(by_octet(octets)) == expected
    assert parse(by_line(octets)) == expected
    assert parse(cut_at(octets, places)) == expected


@CUTS
@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        pytest.param(b"250 ok\n", Reply(250, (b"ok",)), id="bare LF"),
        pytest.param(b"250 a\rb\r\n", Reply(250, (b"a\rb",)), id="bare CR inside"),
        pytest.param(b"250 a\r\r\n", Reply(250, (b"a\r",)), id="one CR is stripped, not two"),
        pytest.param(b"250-a\n250 b\r\n", Reply(250, (b"a", b"b")), id="mixed line ends"),
        pytest.param(b"250\r\n", Reply(250, (b"",)), id="no text"),
        pytest.param(b"250 \r\n", Reply(250, (b"",)), id="space, no text"),
        pytest.param(b"250-\r\n250\r\n", Reply(250, (b"", b"")), id="lines without text"),
        pytest.param(b"250  a \r\n", Reply(250, (b" a ",)), id="inner spaces kept"),
        pytest.param(b"250 \x00\x1b[2J\x9b\xff\r\n", Reply(250, (b"\x00\x1b[2J\x9b\xff",)), id="raw octets"),
        pytest.param(
            b"250-a\x0b\x0c\x1c\x85b\r\n250 c\r\n", Reply(250, (b"a\x0b\x0c\x1c\x85b", b"c")), id="odd ends"
        ),
    ],
)
def test_tolerated(octets: bytes, reply: Reply, cut: Cut) -> None:
    """FAULTS 4, 7, 12, 13."""
    assert parse(cut(octets)) == ([reply], None)


@CUTS
@pytest.mark.parametrize(
    "octets",
    [
        *[
            code + b" ok\r\n"
            for code in (b"2_5", b"+25", b" 25", b"25", b"099", b"199", b"600", b"999", b"2500", b"-25")
        ],
        "٢٥٠ ok\r\n".encode(),
        b"250x\r\n",
        b"250\tok\r\n",
        b"250_ok\r\n",
        b"250\r\r\n",
        b"\r\n",
        b"\n",
        b" \r\n",
        b"garbage\r\n",
        b"2x50\r\n",
        b"2x5\r\r\n",
        b"\x00250 ok\r\n",
        b"550-a\r\n250 b\r\n",
        b"250-a\r\n251-b\r\n250 c\r\n",
        b"250-a\r\n251\r\n",
        b"250-a\r\nb\r\n250 c\r\n",
        b"250-a\r\n\r\n250 c\r\n",
    ],
)
def test_refused(octets: bytes, cut: Cut) -> None:
    """FAULTS 5, 6, 7, 8: nothing is guessed and nothing is skipped."""
    good = b"220 hello\r\n"
    replies, error = parse(cut(good + octets + b"250 ok\r\n"))
    assert replies == [Reply(220, (b"hello",))]
    assert error is not None
    assert error == parse(whole(octets))[1]


def test_codes_differ_error_names_both() -> None:
    """FAULTS 5."""
    _, error = parse([b"550-a\r\n250 b\r\n"])
    assert error is not None
    assert "550" in error
    assert "250" in error


@CUTS
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_of_the_greatest_length(cut: Cut, end: bytes) -> None:
    """FAULTS 10: line end included."""
    text = b"x" * (MAX_REPLY_LINE - len(b"250 ") - len(end))
    assert parse(cut(b"250 " + text + end)) == ([Reply(250, (text,))], None)


@CUTS
@pytest.mark.parametrize("tail", [b"", b"\r\n", b"x" * 100_000])
def test_line_over_the_limit(cut: Cut, tail: bytes) -> None:
    """FAULTS 10: refused at the limit, with or without its end, after the reply before it."""
    replies, error = parse(cut(b"220 hello\r\n250 " + b"x" * (MAX_REPLY_LINE - 4) + tail))
    assert replies == [Reply(220, (b"hello",))]
    assert error is not None
    assert str(MAX_REPLY_LINE) in error


def test_endless_line_is_not_kept() -> None:
    """FAULTS 10."""
    parser = ReplyParser()
    parser.feed(b"250 " + b"x" * 1000)
    for _ in range(MAX_REPLY_LINE // 1000 - 1):
        parser.feed(b"x" * 1000)
        assert parser.next() is None
    parser.feed(b"x" * 1000)
    with pytest.raises(ProtocolError):
        parser.next()


@CUTS
@pytest.mark.parametrize(("lines", "accepted"), [(MAX_REPLY_LINES, True), (MAX_REPLY_LINES + 1, False)])
def test_number_of_lines(cut: Cut, lines: int, accepted: bool) -> None:
    """FAULTS 11."""
    replies, error = parse(cut(b"250-x\r\n" * (lines - 1) + b"250 x\r\n"))
    assert (len(replies), error is None) == (accepted, accepted)


@CUTS
@pytest.mark.parametrize(("extra", "accepted"), [(0, True), (1, False)])
def test_octets_of_a_whole_reply(cut: Cut, extra: int, accepted: bool) -> None:
    """FAULTS 11: line ends included; a new reply counts anew."""
    line = b"250-" + b"x" * 1018 + b"\r\n"
    body = line * (MAX_REPLY // len(line) - 1)
    last = b"250 " + b"x" * (MAX_REPLY - len(body) - 6 + extra) + b"\r\n"
    replies, error = parse(cut(body + last + body + b"250 x\r\n"))
    assert (len(replies), error is None) == (2 * accepted, accepted)


def test_endless_reply_ends_while_it_arrives() -> None:
    """FAULTS 11."""
    parser = ReplyParser()
    parser.feed(b"250-x\r\n" * (MAX_REPLY_LINES + 1))
    with pytest.raises(ProtocolError):
        parser.next()


@pytest.mark.parametrize(
    ("octets", "hint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"\x16\x03\x03\x00\x7a", "TLS"),
        (b"+OK ready\r\n", "POP3"),
        (b"* OK IMAP4rev1\r\n", "IMAP"),
    ],
)
@CUTS
def test_hint_at_another_protocol(octets: bytes, hint: str, cut: Cut) -> None:
    """FAULTS 16: also where no line end ever comes."""
    replies, error = parse(cut(octets))
    assert not replies
    assert error is not None
    assert hint in error


def test_error_shows_no_control_character() -> None:
    """FAULTS 12."""
    _, error = parse([b"\x1b[2J\x07\r\n"])
    assert error is not None
    assert error.isprintable()


@pytest.mark.parametrize(
    "octets", [b"2", b"25", b"250", b"250 ok", b"250 ok\r", b"250-a\r\n", b"250-a\r\n250"]
)
def test_part_of_a_reply_is_no_reply_but_input(octets: bytes) -> None:
    """FAULTS 2, 3: an end of file now must be a loss."""
    parser = ReplyParser()
    parser.feed(octets)
    assert parser.next() is None
    assert parser.has_input


def test_extra_reply_in_the_same_segment_is_visible() -> None:
    """FAULTS 9."""
    parser = ReplyParser()
    assert not parser.has_input
    parser.feed(b"250 a\r\n250 b\r\n")
    assert parser.has_input
    assert parser.next() == Reply(250, (b"a",))
    assert parser.has_input
    assert parser.next() == Reply(250, (b"b",))
    assert not parser.has_input
    assert parser.next() is None


def test_a_breach_is_for_good() -> None:
    """A parser that went on would pair later replies with the wrong commands."""
    parser = ReplyParser()
    parser.feed(b"garbage\r\n250 ok\r\n")
    for _ in range(3):
        with pytest.raises(ProtocolError, match="not a reply"):
            parser.next()
        with pytest.raises(ProtocolError, match="not a reply"):
            parser.feed(b"250 ok\r\n")
    assert parser.has_input


@pytest.mark.once
def test_backlog_is_bounded_and_what_came_before_is_handed_out() -> None:
    parser = ReplyParser()
    parser.feed(b"250 a\r\n" * (MAX_BACKLOG // 7))
    with pytest.raises(ProtocolError, match=str(MAX_BACKLOG)):
        parser.feed(b"250 b\r\n")
    for _ in range(MAX_BACKLOG // 7):
        assert parser.next() == Reply(250, (b"a",))
    with pytest.raises(ProtocolError, match=str(MAX_BACKLOG)):
        parser.next()


@pytest.mark.once
def test_backlog_counts_only_what_was_not_taken() -> None:
    parser = ReplyParser()
    segment = b"250 a\r\n" * 10_000
    for _ in range(MAX_BACKLOG // len(segment) * 3):
        parser.feed(segment)
        while parser.next():
            pass
    assert not parser.has_input


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_takes_any_octets_and_keeps_none_of_the_callers(kind: Callable[[bytes], bytes]) -> None:
    buffer = bytearray(b"250 ok\r\n")
    parser = ReplyParser()
    parser.feed(kind(buffer))
    buffer[:3] = b"550"
    assert parser.next() == Reply(250, (b"ok",))


@pytest.mark.parametrize(
    ("line", "enhanced"),
    [
        (b"250 2.1.5 ok", EnhancedCode(2, 1, 5)),
        (b"450 4.7.1 later", EnhancedCode(4, 7, 1)),
        (b"550 5.1.1 no", EnhancedCode(5, 1, 1)),
        (b"550 5.7.26 no", EnhancedCode(5, 7, 26)),
        (b"550 5.999.999 no", EnhancedCode(5, 999, 999)),
        (b"250 2.0.0", EnhancedCode(2, 0, 0)),
        (b"250 2.0.0\tok", EnhancedCode(2, 0, 0)),
        # FAULTS 18: a class that contradicts the code, or a code without classes.
        (b"550 2.0.0 no", None),
        (b"250 5.0.0 ok", None),
        (b"450 5.0.0 later", None),
        (b"354 3.0.0 go ahead", None),
        (b"354 2.0.0 go ahead", None),
        (b"250 1.0.0 ok", None),
        (b"550 5.1.1000 no", None),
        (b"550 5.1000.1 no", None),
        (b"550 5.1 no", None),
        (b"550 5.1.1.1 no", None),
        (b"550 5.1.1no", None),
        (b"550 55.1.1 no", None),
        (b"550  5.1.1 no", None),
        (b"550 see 5.1.1", None),
        (b"550", None),
    ],
)
def test_enhanced_code(line: bytes, enhanced: EnhancedCode | None) -> None:
    """RFC 2034 4, RFC 3463 2. The code stays in the text."""
    assert parse([line + b"\r\n"]) == ([Reply(int(line[:3]), (line[4:],), enhanced)], None)


def test_enhanced_code_of_several_lines_is_the_first_lines() -> None:
    (reply,), _ = parse([b"550-5.7.1 a\r\n550 5.7.2 b\r\n"])
    assert reply.enhanced == EnhancedCode(5, 7, 1)
    (reply,), _ = parse([b"550-a\r\n550 5.7.2 b\r\n"])
    assert reply.enhanced is None


def parse_together(segments: Iterable[bytes], counts: Iterable[int]) -> tuple[list[Reply], str | None]:
    """The same as ``parse``, as a stream does it: what comes whole and alone is looked up."""
    parser, replies = ReplyParser(), []
    asked = itertools.cycle(counts)
    try:
        for segment in segments:
            found = None if parser.has_input else replies_in(segment)
            if found:
                parser.keep(found)
            else:
                parser.feed(segment)
            while taken := parser.take(next(asked), last=False):
                replies += taken
            assert parser.has_input == bool(parser._lines or parser._at < parser._size)
    except ProtocolError as error:
        return replies, str(error)
    return replies, None


@given(
    st.lists(st.one_of(fragments, replies.map(render)), max_size=12).map(b"".join),
    st.lists(st.integers(0), max_size=8),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_replies_that_come_together_are_those_that_come_alone(
    octets: bytes, places: list[int], counts: list[int]
) -> None:
    """What is remembered of whole groups is what the parser makes of them, octet by octet."""
    segments = [segment for segment in cut_at(octets, places) if segment]
    assert parse_together(segments, counts) == parse(segments) == parse(by_octet(octets))


@pytest.mark.parametrize(
    "octets", [b"250 a\r\n250-b\r\n", b"250 a\r\n2", b"250 a\r\nx\r\n", b"\r\n", b"250-a\r\n"]
)
def test_what_is_not_whole_replies_of_a_line_each_is_not_looked_up(octets: bytes) -> None:
    assert replies_in(octets) is None


@pytest.mark.parametrize(
    ("octets", "is_whole"),
    [
        (b"250-a\r\n250-b\r\n250 c\r\n", True),
        (b"250-a\n250\n", True),
        (b"250-a\r\n250 b\r\n250 c\r\n", False),
        (b"250-a\r\n251 b\r\n", False),
        (b"250-a\r\nb\r\n", False),
        (b"150-a\r\n150 b\r\n", False),
    ],
)
def test_one_reply_of_several_lines_is_looked_up_where_it_comes_alone(octets: bytes, is_whole: bool) -> None:
    """As that to EHLO does; what is anything else, the parser judges."""
    found = replies_in(octets)
    assert (found is not None) is is_whole
    assert found is None or parse([octets]) == (list(found), None)


def test_the_last_of_those_that_are_owed_is_handed_out_alone_if_something_is_behind_it() -> None:
    """FAULTS 9: so that what is behind it can be judged."""
    parser = ReplyParser()
    found = replies_in(b"250 a\r\n250 b\r\n421 c\r\n")
    assert found is not None
    parser.keep(found)
    assert parser.take(2, last=True) == found[:1]
    assert parser.take(1, last=True) == found[1:2]
    assert parser.has_input
    parser.feed(b"250 d\r\n")
    assert parser.take(2, last=False) == found[2:]
    assert [reply.code for reply in parser.take(2, last=False)] == [250]
    assert not parser.has_input


def test_what_came_later_is_behind_the_last_that_is_owed_as_well() -> None:
    parser = ReplyParser()
    parser.keep((Reply(250), Reply(251)))
    parser.feed(b"2")
    assert parser.take(2, last=True) == (Reply(250),)
    assert parser.take(1, last=True) == (Reply(251),)
    assert parser.has_input, "half of a reply that is not owed"


def test_what_is_too_much_behind_replies_that_are_kept_is_told_behind_them() -> None:
    parser = ReplyParser()
    parser.keep((Reply(250),))
    with pytest.raises(ProtocolError):
        parser.feed(b"x" * (MAX_BACKLOG + 1))
    assert parser.take(2, last=False) == (Reply(250),)
    assert parser.has_input
    with pytest.raises(ProtocolError):
        parser.take(1, last=False)
