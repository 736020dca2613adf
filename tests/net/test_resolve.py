"""Names to addresses, within a deadline (FAULTS 63)."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from pysmtpx.errors import ConnectError, InputError, Timeout
from pysmtpx.net.deadline import Deadline
from pysmtpx.net.dial import dial, resolve


def _soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_resolve(host: str) -> None:
    found = resolve(host, 25, _soon())
    assert found
    assert len(found) == len(set(found))
    assert all(address[1] == 25 for _, address in found)


def test_an_address_needs_no_thread(monkeypatch: Any) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a thread was made")

    monkeypatch.setattr(threading, "Thread", refuse)
    assert resolve("127.0.0.1", 25, _soon())


class _Resolver:
    """In place of the system's: stalls, fails or answers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **options: Any) -> Any:
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked.append(host)
        if self.answer == "stall":
            self.go.wait(20)
            raise OSError("too late")
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_a_look_up_that_stalls_ends_with_the_deadline(monkeypatch: Any) -> None:
    """FAULTS 63: getaddrinfo knows no timeout, so its thread is left behind."""
    resolver = _Resolver("stall")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    try:
        start = time.monotonic()
        with pytest.raises(Timeout, match=r"look-up of mail\.test") as caught:
            dial("mail.test", 25, _soon(0.5))
        assert 0.5 <= time.monotonic() - start <= 0.525
        assert caught.value.stage == "connect"
        assert caught.value.temporary
        (thread,) = [t for t in threading.enumerate() if t.name == "pysmtpx-resolve"]
        assert thread.daemon  # it does not keep the interpreter
    finally:
        resolver.go.set()


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError(5, "Input/output error"),
        UnicodeError("label too long"),
        RuntimeError("odd"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_look_up_that_fails(failure: BaseException, monkeypatch: Any) -> None:
    """FAULTS 63."""
    monkeypatch.setattr(socket, "getaddrinfo", _Resolver(failure))
    with pytest.raises(ConnectError, match=r"mail\.test cannot be looked up") as caught:
        resolve("mail.test", 25, _soon())
    assert caught.value.stage == "connect"


def test_a_name_without_an_address(monkeypatch: Any) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _Resolver([]))
    with pytest.raises(ConnectError):
        dial("mail.test", 25, _soon())


def test_an_international_name_is_looked_up_by_its_a_label(monkeypatch: Any) -> None:
    """FAULTS 70, 106: not by the codec of the standard library."""
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 25))] * 2
    resolver = _Resolver(answer)
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert resolve("faß.example", 25, _soon()) == [(socket.AF_INET, ("127.0.0.1", 25))]
    assert resolver.asked == ["xn--fa-hia.example"]


@pytest.mark.parametrize("name", ["a\r\nb", "a b.example", "x＞y..", "-a.example", "a" * 300])
def test_what_is_no_name_is_not_looked_up(name: str, monkeypatch: Any) -> None:
    """FAULTS 100."""
    resolver = _Resolver([])
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with pytest.raises(InputError):
        resolve(name, 25, _soon())
    assert resolver.asked == []
