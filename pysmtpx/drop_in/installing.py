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
            if not self._before:
                self._before = {name: getattr(smtplib, name) for name in self._classes}
                for name, made in self._classes.items():
                    setattr(smtplib, name, made)

    def uninstall(self) -> None:
        """Put back what was there; nothing where they are not in place.

        A name that somebody else has replaced since stays as it is.
        """
        with self._lock:
            for name, before in self._before.items():
                if getattr(smtplib, name) is self._classes[name]:
                    setattr(smtplib, name, before)
            self._before = {}
