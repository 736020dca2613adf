"""Which frames of a traceback are the package's own, wherever the repository lies."""

from __future__ import annotations

from pathlib import Path

import pysmtpx

_PACKAGE = Path(pysmtpx.__file__).parent


def is_ours(filename: str) -> bool:
    """Return whether a file of code is one of the package."""
    return Path(filename).is_relative_to(_PACKAGE)
