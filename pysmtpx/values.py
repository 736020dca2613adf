"""What the value of an option may be: a rule for each kind, whose error names the option, never the value.

What looks like a number to Python may be none to a clock or a socket: ``True``, one beyond the range of a
``float``, ``nan``. What is true may be the text ``"false"``. None of these may be found out on the way.
"""

from __future__ import annotations

import ssl
import sys
from typing import Final

from .errors import InputError

_MOST: Final = sys.maxsize
"""What a ``float`` and a semaphore still count."""


def flag(name: str, value: object) -> bool:
    """True or False; ``InputError`` for anything else, such as the text ``"false"``."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is True or False, not {type(value).__name__}")
    return value


def whole(name: str, value: object, lowest: int = 1, most: int = _MOST) -> int:
    """A whole number from ``lowest`` to ``most``; ``InputError`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= most:
        raise InputError(f"{name} is a whole number from {lowest}{'' if most == _MOST else f' to {most}'}")
    return value


def positive(name: str, value: object) -> float | None:
    """A number above 0, or None; ``InputError`` for anything else."""
    return None if value is None else above_zero(name, value, ", or None")


def above_zero(name: str, value: object, otherwise: str = "") -> float:
    """A number above 0; ``InputError`` for anything else, which says what there is ``otherwise``."""
    # Compared and not converted: a whole number may be too large for that.
    if not _is_number(value) or not 0 < value <= sys.float_info.max:  # type: ignore[operator]
        raise InputError(f"{name} is a finite number above 0{otherwise}")
    return float(value)  # type: ignore[arg-type]


def from_zero(name: str, value: object, most: float = sys.float_info.max) -> float:
    """A number from 0; ``InputError`` for anything else."""
    if not _is_number(value) or not 0 <= value <= most:  # type: ignore[operator]
        raise InputError(
            f"{name} is a {'finite ' if most > 1e300 else ''}number from 0"
            f"{'' if most > 1e300 else f' to {most:g}'}"
        )
    return float(value)  # type: ignore[arg-type]


def tls_context(name: str, value: object) -> ssl.SSLContext | None:
    """A context for TLS, or None; ``InputError`` for anything else."""
    if value is not None and not isinstance(value, ssl.SSLContext):
        raise InputError(f"{name} is an ssl.SSLContext, not {type(value).__name__}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
