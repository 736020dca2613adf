"""What the page says of defaults is so; its Python and the example run in tests/real/test_rq.py."""

from __future__ import annotations

from rq.defaults import DEFAULT_RESULT_TTL
from rq.queue import Queue
from support import pages

from pysmtpx.contrib.queueing.attempt import DEFAULT_RETRY

PAGE = (pages.DOCS / "how-to/rq.md").read_text("utf-8")


def test_the_defaults_are_those_that_it_names() -> None:
    assert f"{DEFAULT_RESULT_TTL} seconds by default" in PAGE
    assert f"{Queue.DEFAULT_TIMEOUT} seconds by default" in PAGE
    assert f"makes {DEFAULT_RETRY.attempts}\ntries" in PAGE
