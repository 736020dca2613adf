"""Which process holds a message, told so that others of its machine see whether it still runs."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Final

_PAUSE: Final = 10.0
"""Seconds between two looks for processes that ended while they held messages."""


class Owner:
    """The name by which one user of a journal holds messages; a child of ``os.fork`` has another one."""

    def __init__(self) -> None:
        self._id = secrets.token_hex(12)
        self._name = (0, "")
        self._looked = -_PAUSE

    @property
    def name(self) -> str:
        """At most 64 characters."""
        pid, name = self._name
        if pid != os.getpid():
            pid = os.getpid()
            name = f"{pid}.{_state_and_start(pid)[1]}.{_place()}.{self._id}"
            self._name = (pid, name)
        return name

    def left_by(self, holders: Callable[[], Iterable[str]]) -> list[str]:
        """Those of the holders whose processes have ended, unless that was looked at a moment ago."""
        if time.monotonic() - self._looked < _PAUSE:
            return []
        self._looked = time.monotonic()
        return ended(holders())


def ended(names: Iterable[str]) -> list[str]:
    """Those whose process has certainly ended: it ran here, and another one or none has its number by now."""
    return [name for name in names if _has_ended(name)]


def _has_ended(name: str) -> bool:
    pid, _, rest = name.partition(".")
    start, _, rest = rest.partition(".")
    if not (pid.isdecimal() and pid.isascii() and start and rest.partition(".")[0] == _place() != ""):
        return False  # of another machine or container, or told too little: its lease decides
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's process
    except OverflowError:
        return False
    state, found = _state_and_start(int(pid))
    return state in ("Z", "X") or found not in ("", start)


def _state_and_start(pid: int) -> tuple[str, str]:
    """Its state and when it began, in ticks since the machine did; both empty where there is no such word."""
    try:
        behind_command = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return behind_command[0].decode("ascii"), f"{int(behind_command[19]):x}"
    except (OSError, ValueError, IndexError):
        return "", ""


def _place() -> str:
    """This run of this machine, and the namespace of its process numbers; empty where neither is told."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        numbering = os.readlink("/proc/self/ns/pid").encode("ascii")
    except (OSError, ValueError):
        return ""
    return blake2b(machine + numbering, digest_size=6).hexdigest()
