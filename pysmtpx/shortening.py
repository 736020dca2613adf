"""Texts of others in what errors say: one that holds a whole body fills the log that it is written to."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, takewhile
from typing import Final

_TEXT: Final = 500
"""Characters of a whole text."""
_QUOTED: Final = 80
"""Characters of what is quoted in one."""
_LIST: Final = 4000
"""Characters of a list, which may be the only place that names somebody."""


def shortened(text: str, most: int = _TEXT) -> str:
    """The text, or as many characters of it."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shown(text: str) -> str:
    """A text of a stranger as errors quote it: shortened, its controls escaped."""
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")


def listed(paths: Iterable[str]) -> str:
    """Addresses with commas between them; how many more there are where they are too many."""
    texts = [shortened(path) for path in paths]
    count = len(list(takewhile(lambda length: length <= _LIST, accumulate(len(text) + 2 for text in texts))))
    rest = f" and {len(texts) - count} more" if count < len(texts) else ""
    return ", ".join(texts[:count]) + rest
