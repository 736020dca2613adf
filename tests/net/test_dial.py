"""From a name to a socket: every address, within one deadline (FAULTS 62 to 64)."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pysmtpx.errors import ConnectError, Timeout
from pysmtpx.net import dial as dialling
from pysmtpx.net.deadline import Deadline
from pysmtpx.net.dial import dial, dial_unix, own_name

Place = tuple[str, int]


@pytest.fixture
def places() -> Iterator[Callable[..., Place]]:
    """Addresses that answer, refuse, or swallow what comes."""
    with contextlib.ExitStack() as stack:

        def make(kind: str, host: str = "127.0.0.1") -> Place:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = stack.enter_context(socket.socket(family))
            listener.bind((host, 0))
            place: Place = listener.getsockname()[:2]
            if kind == "refuses":
                listener.close()
            elif kind == "answers":
                listener.listen(8)
            else:
                # A full backlog: the kernel drops what comes, as a router in the way would.
                listener.listen(0)
                for _ in range(3):
                    filler = stack.enter_context(socket.socket(family))
                    filler.setblocking(False)
                    filler.connect_ex(place)
            return place

        yield make


def _leads_to(monkeypatch: pytest.MonkeyPatch, *places: Place) -> None:
    """Let every name have these addresses, in this order."""
    found = [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)) for host, port in places]
    monkeypatch.setattr(dialling, "resolve", lambda host, port, deadline: found)


def _soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds)


@contextlib.contextmanager
def _reached(seconds: float = 5.0, **options: Any) -> Iterator[socket.socket]:
    sock = dial("mail.test", 25, _soon(seconds), **options)
    try:
        yield sock
    finally:
        sock.close()


# -- addresses -------------------------------------------------------------------------------


def test_the_socket_is_set_up(places: Any) -> None:
    host, port = places("answers")
    with contextlib.closing(dial(host, port, _soon())) as sock:
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getpeername() == (host, port)


@pytest.mark.parametrize("refusing", [0, 1, 5])
def test_the_next_address_is_tried_at_once_where_one_refuses(
    refusing: int, places: Any, monkeypatch: Any
) -> None:
    """FAULTS 64: without waiting for the stagger."""
    monkeypatch.setattr(dialling, "STAGGER", 30.0)
    good = places("answers")
    _leads_to(monkeypatch, *(places("refuses", f"127.0.0.{i + 2}") for i in range(refusing)), good)
    start = time.monotonic()
    with _reached() as sock:
        assert sock.getpeername() == good
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("family", ["127.0.0.2", "::1"])
def test_an_address_that_swallows_everything_costs_a_stagger(
    family: str, places: Any, monkeypatch: Any
) -> None:
    """FAULTS 64: a black hole, most often IPv6."""
    monkeypatch.setattr(dialling, "STAGGER", 0.05)
    good = places("answers")
    _leads_to(monkeypatch, places("swallows", family), places("swallows", family), good)
    start = time.monotonic()
    with _reached() as sock:
        assert sock.getpeername() == good
    # The families take turns, so the second black hole is not waited for.
    assert 0.05 <= time.monotonic() - start < 2.0


def test_the_stagger_is_that_of_the_rfc() -> None:
    """RFC 8305 8."""
    assert dialling.STAGGER == 0.25


def test_families_take_turns() -> None:
    """RFC 8305 4."""
    v4, v6 = socket.AF_INET, socket.AF_INET6
    given = [(v6, "a"), (v6, "b"), (v6, "c"), (v4, "d"), (v4, "e")]
    assert [name for _, name in dialling._interleaved(given)] == ["a", "d", "b", "e", "c"]
    assert dialling._interleaved([]) == []


def test_a_late_answer_still_wins(places: Any, monkeypatch: Any) -> None:
    """FAULTS 64: an attempt goes on while the next is made."""
    monkeypatch.setattr(dialling, "STAGGER", 0.05)
    hole = places("swallows", "127.0.0.3")
    _leads_to(monkeypatch, hole, places("refuses", "127.0.0.4"))
    with pytest.raises(Timeout) as caught:
        dial("mail.test", 25, _soon(1.0))
    assert "127.0.0.3: no answer" in str(caught.value)
    assert "127.0.0.4: " in str(caught.value)
    assert caught.value.stage == "connect"


def test_the_error_names_every_address_and_why(places: Any, monkeypatch: Any) -> None:
    """FAULTS 64."""
    _leads_to(
        monkeypatch, places("refuses", "127.0.0.5"), places("refuses", "::1"), places("refuses", "127.0.0.6")
    )
    with pytest.raises(ConnectError) as caught:
        dial("mail.test", 2525, _soon())
    text = str(caught.value)
    for address in ("127.0.0.5", "::1", "127.0.0.6"):
        assert f"{address}: Connection refused" in text
    assert "2525" in text
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.temporary
    assert caught.value.safe_to_retry


def test_all_addresses_share_one_deadline(places: Any, monkeypatch: Any) -> None:
    """FAULTS 62, 64: k black holes do not take k times as long."""
    monkeypatch.setattr(dialling, "STAGGER", 0.05)
    _leads_to(monkeypatch, *(places("swallows", f"127.0.0.{i}") for i in range(7, 15)))
    start = time.monotonic()
    with pytest.raises(Timeout):
        dial("mail.test", 25, _soon(0.5))
    assert 0.5 <= time.monotonic() - start <= 3.0  # and not eight times as long


@pytest.mark.parametrize("kind", ["refuses", "swallows", "answers"])
def test_no_socket_is_left_of_the_race(kind: str, places: Any, monkeypatch: Any) -> None:
    """FAULTS 99."""
    monkeypatch.setattr(dialling, "STAGGER", 0.01)
    targets = [places("swallows", "127.0.0.15"), places("refuses", "127.0.0.16"), places(kind, "127.0.0.17")]
    _leads_to(monkeypatch, *targets)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ConnectError, Timeout):
            dial("mail.test", 25, _soon(0.1)).close()
        gc.collect()
    assert [str(w.message) for w in caught] == []


# -- our end -----------------------------------------------------------------------------------


def test_source_address(places: Any, monkeypatch: Any) -> None:
    _leads_to(monkeypatch, places("answers"))
    with _reached(source=("127.0.0.42", 0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.42"


def test_a_source_address_that_is_not_ours(places: Any, monkeypatch: Any) -> None:
    _leads_to(monkeypatch, places("answers"))
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1: Cannot assign requested address"):
        dial("mail.test", 25, _soon(), ("192.0.2.1", 0))


def test_a_source_address_of_one_family_skips_the_other(places: Any, monkeypatch: Any) -> None:
    good = places("answers")
    _leads_to(monkeypatch, places("answers", "::1"), good)
    with _reached(source=("127.0.0.1", 0)) as sock:
        assert sock.getpeername() == good


# -- UNIX sockets -------------------------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Any) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with contextlib.closing(dial_unix(path, _soon())) as sock:
            assert sock.getblocking() is False
            assert sock.getpeername() == path


@pytest.mark.parametrize("kind", ["nothing", "a file", "too long", "nobody listens"])
def test_no_unix_socket(kind: str, tmp_path: Any) -> None:
    """FAULTS 99: and no descriptor is left."""
    path = tmp_path / ("s" * 200 if kind == "too long" else "s")
    if kind == "a file":
        path.write_text("x")
    if kind == "nobody listens":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    with pytest.raises(ConnectError) as caught:
        dial_unix(str(path), _soon())
    assert str(path) in str(caught.value)
    assert caught.value.stage == "connect"


@pytest.mark.parametrize("signals", [False, True])
def test_a_unix_socket_whose_backlog_is_full(tmp_path: Any, signals: bool) -> None:
    """FAULTS 62; a signal that is handled is no connection (PEP 475)."""
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket(socket.AF_UNIX))
            filler.setblocking(False)
            filler.connect_ex(path)
        if signals:
            stack.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: None))
            stack.callback(signal.setitimer, signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        start = time.monotonic()
        with pytest.raises(Timeout) as caught:
            dial_unix(path, _soon(0.3))
        assert 0.3 <= time.monotonic() - start < 3.0
        assert caught.value.stage == "connect"


# -- our name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "end", "said"),
    [
        ("mx.own.example", "127.0.0.1", "mx.own.example"),
        ("bücher.example", "127.0.0.1", "xn--bcher-kva.example"),
        ("box", "127.0.0.1", "[127.0.0.1]"),
        ("box.", "127.0.0.1", "[127.0.0.1]"),
        ("", "127.0.0.1", "[127.0.0.1]"),
        ("a_b c.example", "127.0.0.1", "[127.0.0.1]"),
        ("evil.example\r\nRSET", "127.0.0.1", "[127.0.0.1]"),
        ("box", "::1", "[IPv6:::1]"),
        ("box", "/unix", "[127.0.0.1]"),
    ],
)
def test_own_name(machine: str, end: str, said: str, monkeypatch: Any) -> None:
    """RFC 5321 4.1.1.1, 4.1.3; FAULTS 100. Nothing is looked up."""
    monkeypatch.setattr(socket, "gethostname", lambda: machine)

    def refuse(*args: Any) -> None:
        raise AssertionError("a look-up")

    for name in ("getfqdn", "gethostbyaddr", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    family = {"/": socket.AF_UNIX, ":": socket.AF_INET6}.get(end[0], socket.AF_INET)
    with socket.socket(family) as sock:
        if family != socket.AF_UNIX:
            sock.bind((end, 0))
        assert own_name(sock) == said


def test_own_name_of_a_mapped_address(monkeypatch: Any) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box")

    class Mapped:
        family = socket.AF_INET6

        def getsockname(self) -> Any:
            return ("::ffff:192.0.2.7", 1, 0, 0)

    class Scoped(Mapped):
        def getsockname(self) -> Any:
            return ("fe80::1%eth0", 1, 0, 2)

    assert own_name(Mapped()) == "[192.0.2.7]"  # type: ignore[arg-type]
    assert own_name(Scoped()) == "[IPv6:fe80::1]"  # type: ignore[arg-type]
