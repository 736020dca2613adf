"""Servers to measure against, started here and ended here."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

SMTP_SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/lib/postfix/sbin:/usr/bin")


def free_port() -> int:
    """A TCP port on loopback that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """Postfix's smtp-sink on a free port of loopback; the port."""
    if SMTP_SINK is None:
        raise SystemExit("smtp-sink is missing: install Debian's postfix package")
    port = free_port()
    process = subprocess.Popen(
        [SMTP_SINK, *_as_nobody(), *options, f"127.0.0.1:{port}", "128"], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process, "smtp-sink")
        yield port
    finally:
        process.terminate()
        process.wait()


def _as_nobody() -> list[str]:
    """smtp-sink wants to know whom to run as where it is started by root."""
    return ["-u", "nobody"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


def wait_for(port: int, process: subprocess.Popen[bytes], name: str) -> None:
    """Return when the port is listened on."""
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise SystemExit(f"{name} did not start")
