"""Putting classes in the place of the standard library's, and taking them out again."""

from __future__ import annotations

import smtplib
import threading
from typing import Any


class Replacement:
    """Names of the module ``smtplib`` and what is to stand there."""

    def __init__(self, **classes: Any) -> None:
        self._classes = classes
        self._before: dict[str, Any] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Put them in place; nothing where they are."""
        with self._lock:
            for name, made in self._classes.items():
                if (found := getattr(smtplib, name)) is not made:
                    self._before[name] = found
                    setattr(smtplib, name, made)

    def uninstall(self) -> None:
        """Put back what was there; nothing where they are not in place.

        A name that somebody else has replaced since stays as it is.
        """
        with self._lock:
            for name, made in self._classes.items():
                if getattr(smtplib, name) is made:
                    setattr(smtplib, name, self._before[name])
