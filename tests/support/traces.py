"""What an error reporter would show of an error: the locals of every frame that it came through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysmtpx

_ROOT = str(Path(pysmtpx.__file__).parent)


def frames_shown(error: BaseException) -> str:
    """The locals of all frames of ours, of the error and of all behind it, as reporters print them."""
    return "\n".join(
        f"{trace.tb_frame.f_code.co_qualname} {name} = {text}"
        for each in _behind(error)
        for trace in _traces(each)
        if trace.tb_frame.f_code.co_filename.startswith(_ROOT)
        for name, value in trace.tb_frame.f_locals.items()
        for text in _printed(value)
    )


def _behind(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and not any(each is known for known in found):
            found.append(each)
            left += [each.__cause__, each.__context__]
    return found


def _traces(error: BaseException) -> Iterator[Any]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _printed(value: Any, depth: int = 4) -> Iterator[str]:
    """As text, and what containers hold: a reporter walks into these."""
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    yield repr(value)
    if depth and isinstance(value, dict):
        for each in itertools.chain(value, value.values()):
            yield from _printed(each, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _printed(each, depth - 1)
