"""Names to addresses, within a deadline (FAULTS 63)."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from support.patience import LONG, at_best, on_time

from pysmtpx.errors import ConnectError, InputError, Timeout
from pysmtpx.net import dial as dialling
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


@at_best
def test_a_look_up_that_stalls_ends_with_the_deadline(monkeypatch: Any) -> None:
    """FAULTS 63: getaddrinfo knows no timeout, so its thread is left behind."""
    resolver = _Resolver("stall")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    try:
        start = time.monotonic()
        with pytest.raises(Timeout, match=r"look-up of mail\.test") as caught:
            dial("mail.test", 25, _soon(0.5))
        on_time(start, time.monotonic(), 0.5, late=0.025)
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


def _waiting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pysmtpx-resolve"]


def test_one_look_up_at_a_time_for_a_name(monkeypatch: Any) -> None:
    """FAULTS 63: callers with short deadlines that come again and again start no thread each."""
    resolver = _Resolver("stall")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    failed: list[Exception] = []

    def call(seconds: float) -> None:
        for _ in range(5):
            start = time.monotonic()
            try:
                dial("mail.test", 25, Deadline.after(seconds))
            except Timeout as error:
                failed.append(error)
            assert time.monotonic() - start < seconds + LONG

    callers = [threading.Thread(target=call, args=(0.02 + 0.005 * n,)) for n in range(40)]
    try:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(failed) == 200
        assert len(_waiting()) == 1
        assert resolver.asked == ["mail.test"]
    finally:
        resolver.go.set()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_who_wait_get_the_answer(host: str, monkeypatch: Any) -> None:
    answer = [(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 25))]
    resolver = _Resolver("stall")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    found: list[Any] = []
    asked = [threading.Event() for _ in range(8)]

    def call(ready: threading.Event) -> None:
        ready.set()
        found.append(resolve("mail.test", 25, _soon()))

    def answered(*args: Any, **options: Any) -> Any:
        try:
            _Resolver.__call__(resolver, *args, **options)
        except OSError:
            if options.get("flags"):
                raise
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", answered)
    callers = [threading.Thread(target=call, args=(ready,)) for ready in asked]
    for caller in callers:
        caller.start()
    for ready in asked:
        assert ready.wait(5)
    resolver.go.set()
    for caller in callers:
        caller.join()
    assert [addresses[0][1][0] for addresses in found] == [host] * 8


def test_a_look_up_that_is_over_is_not_kept(monkeypatch: Any) -> None:
    """The next one asks again: addresses change."""
    resolver = _Resolver([(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 25))])
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    for _ in range(3):
        resolve("mail.test", 25, _soon())
    resolver.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(ConnectError):
        resolve("mail.test", 25, _soon())
    assert len(resolver.asked) == 4


def test_another_name_does_not_wait(monkeypatch: Any) -> None:
    slow = _Resolver("stall")
    quick = _Resolver([(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 25))])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **o: (slow if host == "slow.test" else quick)(host, *args, **o),
    )
    try:
        with pytest.raises(Timeout):
            resolve("slow.test", 25, _soon(0.05))
        assert resolve("quick.test", 25, _soon(5))
    finally:
        slow.go.set()


def test_a_hung_look_up_is_not_waited_for_for_ever(monkeypatch: Any) -> None:
    """A resolver that came to life again is asked, a minute after the hung question."""
    resolver = _Resolver("stall")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    try:
        with pytest.raises(Timeout):
            resolve("mail.test", 25, _soon(0.05))
        monkeypatch.setattr(dialling, "_HUNG", 0.01)
        time.sleep(0.02)
        with pytest.raises(Timeout):
            resolve("mail.test", 25, _soon(0.05))
        assert len(resolver.asked) == 2
    finally:
        resolver.go.set()
