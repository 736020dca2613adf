"""Which frames of a traceback are the package's own, wherever the repository lies, and what they show."""

from __future__ import annotations

import traceback
from pathlib import Path

import pysmtpx

_PACKAGE = Path(pysmtpx.__file__).parent


def is_ours(filename: str) -> bool:
    """Return whether a file of code is one of the package."""
    return Path(filename).is_relative_to(_PACKAGE)


def shown(error: BaseException | None) -> str:
    """Return what an error page shows: texts, notes, variables of our frames; of causes and contexts too."""
    found: list[str] = []
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        waiting += [each.__cause__, each.__context__]
        found += [str(each), repr(each), *getattr(each, "__notes__", ())]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if is_ours(frame.f_code.co_filename):
                found.append(repr(dict(frame.f_locals)))
    return "\n".join(found)
