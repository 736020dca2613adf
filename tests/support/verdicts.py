"""What a server is told to answer in the first transaction of a connection."""

from __future__ import annotations

from typing import Any

from pysmtpx.testing import Event


def first(**answers: Any) -> Any:
    """A verdict for the first transaction only: by position, such as RCPT1, or by verb."""

    def verdict(event: Event) -> Any:
        if event.transaction:
            return None
        return answers.get(f"{event.verb}{event.index}", answers.get(event.verb))

    return verdict
