"""Replies as values (RFC 5321 4.2, RFC 3463)."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.wire.reply import EnhancedCode, Reply


@pytest.mark.parametrize("code", [200, 250, 299, 300, 354, 399, 400, 421, 499, 500, 554, 599])
def test_each_code_is_of_one_kind(code: int) -> None:
    reply = Reply(code)
    kinds = (reply.is_positive, reply.is_temporary, reply.is_permanent)
    assert kinds == (code // 100 == 2, code // 100 == 4, code // 100 == 5)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(250), "250"),
        (Reply(250, (b"ok",)), "250 ok"),
        (Reply(250, (b"2.0.0 ok",), EnhancedCode(2, 0, 0)), "250 2.0.0 ok"),
        (Reply(550, (b"a", b"b")), "550 a / b"),
        (Reply(550, ("Gr\u00fc\u00dfe".encode(),)), "550 Gr\u00fc\u00dfe"),
        (Reply(550, (b"\xff\x80",)), r"550 \xff\x80"),
        (Reply(550, (b"a\x00\x1b[2J\rb",)), r"550 a\x00\x1b[2J\rb"),
        (Reply(550, ("\x85\u2028\u202e\x9b".encode(),)), r"550 \x85\u2028\u202e\x9b"),
    ],
)
def test_text_for_people(reply: Reply, text: str) -> None:
    """FAULTS 12: neither a terminal nor a log can be written to."""
    assert str(reply) == text


@given(st.lists(st.binary(), min_size=1).map(tuple))
def test_text_is_always_printable(lines: tuple[bytes, ...]) -> None:
    """FAULTS 12."""
    assert Reply(550, lines).text.isprintable()


def test_enhanced_code() -> None:
    code = EnhancedCode(5, 7, 26)
    assert str(code) == "5.7.26"
    assert EnhancedCode(5, 7, 3) < code < EnhancedCode(5, 10, 0)


def test_values_are_frozen_equal_hashable_and_travel() -> None:
    reply = Reply(550, (b"5.1.1 no",), EnhancedCode(5, 1, 1))
    for twin in (pickle.loads(pickle.dumps(reply)), copy.deepcopy(reply)):
        assert twin == reply
        assert hash(twin) == hash(reply)
    with pytest.raises(dataclasses.FrozenInstanceError):
        reply.code = 250  # type: ignore[misc]
