"""The rules of the suite hold: nothing leaves this machine, and what a test leaves behind is found."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from support import guard
from support.leftovers import Snapshot


@pytest.mark.parametrize(
    "attempt",
    [
        lambda sock: sock.connect(("192.0.2.1", 25)),
        lambda sock: sock.connect_ex(("192.0.2.1", 25)),
        lambda sock: socket.getaddrinfo("mail.example.org", 25),
        lambda sock: socket.gethostbyname("mail.example.org"),
    ],
)
def test_nothing_leaves_this_machine(attempt: Callable[[socket.socket], object]) -> None:
    with socket.socket() as sock, pytest.raises(pytest.fail.Exception):
        attempt(sock)
    assert len(guard.violations) == 1
    guard.violations.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", socket.gethostname(), "192.0.2.1"])
def test_local_names_and_addresses_are_looked_up(host: str) -> None:
    assert socket.getaddrinfo(host, 25, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False), ("::2", False)],
)
def test_what_loopback_is(host: str, expected: bool) -> None:
    assert guard.is_loopback(host) is expected


def test_leftovers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.leftovers.GRACE", 0.01)
    before, end = Snapshot(), threading.Event()
    thread = threading.Thread(target=end.wait, name="left", daemon=True)
    thread.start()
    command = [sys.executable, "-c", "input()"]
    with socket.socket(), subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        left = before.leftovers()
        process.communicate(b"\n")
    end.set()
    thread.join()
    assert "thread 'left'" in left
    assert any(text.startswith(f"process {process.pid}: ") for text in left)
    assert any(text.startswith("socket:") for text in left)
    assert before.leftovers() == []
