"""``connect``: the system's own errors, and whoever has a say in sockets."""

from __future__ import annotations

import smtplib as standard
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.daemon import CLOSED_PORT

import pysmtpx.smtplib as smtplib
from pysmtpx import InputError
from pysmtpx.net import dial
from pysmtpx.testing import MailServer


def failure(module: ModuleType, *arguments: Any, **options: Any) -> tuple[type[BaseException], object]:
    with pytest.raises((OSError, OverflowError, ValueError)) as caught:
        module.SMTP(*arguments, **options)
    return type(caught.value), getattr(caught.value, "errno", None)


def test_what_fails_fails_as_it_always_did() -> None:
    for arguments in (
        ("127.0.0.1", CLOSED_PORT),
        ("localhost:bogus",),
        ("127.0.0.1", "no such service"),
        ("127.0.0.1", 70_000),
    ):
        assert failure(smtplib, *arguments) == failure(standard, *arguments)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
@pytest.mark.parametrize("port", [-1, 65_536, 70_000, 2**40])
@pytest.mark.parametrize("kind", ["SMTP", "SMTP_SSL", "LMTP"])
def test_a_port_that_there_is_not(host: str, port: int, kind: str) -> None:
    """Some resolvers take the number modulo 65,536, and another server answers."""
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's own matter
        getattr(smtplib, kind)(host, port, timeout=5)
    if ":" not in host and port > 0:
        with pytest.raises(ConnectionRefusedError, match=f"no port has the number {port}"):
            smtplib.SMTP(f"{host}:{port}", timeout=5)


def _no_such_name(*_: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("host", ["no name", "a" * 300, "mail.invalid"])
def test_a_name_that_has_no_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_look_up", _no_such_name)
    with pytest.raises(socket.gaierror) as caught:
        smtplib.SMTP(host, 25, timeout=5)
    assert caught.value.errno == socket.EAI_NONAME


@pytest.mark.parametrize(
    ("option", "value"),
    [("proxy", "ftp://proxy.example"), ("proxy", "socks5://proxy.example:99999"), ("dial", 3)],
)
def test_an_option_that_cannot_be_right_is_no_failed_look_up(option: str, value: object) -> None:
    with pytest.raises(InputError, match=option):
        type("Own", (smtplib.SMTP,), {option: value})("mail.example.org", 25)


def test_the_missing_extra_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError, match=r"pip install 'pysmtpx\[proxy\]'"):
        type("Own", (smtplib.SMTP,), {"proxy": "socks5://127.0.0.1:9"})("mail.example.org", 25)


def test_every_address_is_tried_within_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        found = [(socket.AF_INET, ("127.0.0.1", port)) for port in (CLOSED_PORT, server.port)]
        monkeypatch.setattr(dial, "_look_up", lambda *_: found)
        with smtplib.SMTP("mail.invalid", 25, "me.example", timeout=5) as smtp:
            assert smtp.noop()[0] == 250
            assert smtp.sock is not None
            assert smtp.sock.gettimeout() == 5


def test_a_host_with_its_port() -> None:
    with MailServer() as server:
        with smtplib.SMTP(f"127.0.0.1:{server.port}", local_hostname="me.example") as smtp:
            assert smtp.noop()[0] == 250
        smtp = smtplib.SMTP(local_hostname="me.example")
        assert smtp.connect(f"localhost:{server.port}")[0] == 220
        assert smtp.quit()[0] == 221
        assert smtp.connect("127.0.0.1", server.port)[0] == 220
        assert smtp.quit()[0] == 221


def test_from_an_address_of_ours() -> None:
    with MailServer() as server:
        with smtplib.SMTP("127.0.0.1", server.port, "me.example", source_address=("127.0.0.2", 0)) as smtp:
            assert smtp.sock is not None
            assert smtp.sock.getsockname()[0] == "127.0.0.2"
        smtp.connect("127.0.0.1", server.port, ("127.0.0.3", 0))
        assert smtp.sock is not None
        assert smtp.sock.getsockname()[0] == "127.0.0.3"
        assert smtp.source_address == ("127.0.0.3", 0)
        smtp.quit()


def test_a_greeting_that_is_none() -> None:
    for greeting in ("554 5.3.2 no service", "421 4.3.2 later", "199 odd"):
        for module in (standard, smtplib):
            with MailServer(strict=False, replies={"CONNECT": greeting}) as server:
                with pytest.raises(standard.SMTPConnectError) as caught:
                    module.SMTP("127.0.0.1", server.port, "me.example")
                assert (caught.value.smtp_code, caught.value.smtp_error) == (
                    int(greeting[:3]),
                    greeting[4:].encode(),
                )


@pytest.mark.parametrize("name", ["create_connection", "getaddrinfo"])
def test_who_patches_the_module_socket_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        real, asked = getattr(socket, name), []

        def patched(*arguments: Any, **options: Any) -> Any:
            asked.append(arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(socket, name, patched)
        with smtplib.SMTP("127.0.0.1", server.port, "me.example", 5) as smtp:
            assert smtp.sendmail("ann@example.org", "bob@example.com", b"Subject: x\r\n\r\n") == {}
        assert len(asked) == 1


def test_who_gives_the_class_another_socket_module_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sockets:
        asked: tuple[Any, ...] = ()

        def __getattr__(self, name: str) -> Any:
            return getattr(socket, name)

        def create_connection(self, *arguments: Any) -> socket.socket:
            Sockets.asked = arguments
            return socket.create_connection(("127.0.0.1", server.port))

    with MailServer() as server:
        monkeypatch.setattr(smtplib, "socket", Sockets())
        with smtplib.SMTP("mail.invalid", 2525, "me.example") as smtp:
            assert smtp.noop()[0] == 250
    assert Sockets.asked[0] == ("mail.invalid", 2525)


def test_a_failed_connect_leaves_nothing_open() -> None:
    smtp = smtplib.SMTP(local_hostname="me.example", timeout=5)
    with MailServer(strict=False, replies={"CONNECT": b"220 " + b"x" * 20_000 + b"\r\n"}) as server:
        with pytest.raises(smtplib.SMTPResponseException, match="Line too long"):
            smtp.connect("127.0.0.1", server.port)
        assert smtp.sock is None


def test_who_patches_the_module_socket_is_asked_for_a_unix_socket_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "lmtp")
    made: list[object] = []

    class Noted(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            if "fileno" not in options:  # those are the server's
                made.append(arguments)
            super().__init__(*arguments, **options)

    with MailServer(protocol="lmtp", path=path):
        monkeypatch.setattr(socket, "socket", Noted)
        with smtplib.LMTP(path, local_hostname="me.example", timeout=5) as lmtp:
            assert lmtp.noop()[0] == 250
            assert lmtp.sock is not None
            assert lmtp.sock.gettimeout() == 5
        with pytest.raises(FileNotFoundError):
            smtplib.LMTP(path + "-none")
    assert len(made) == 2


def test_debug_output_of_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "lmtp")
    lmtp = smtplib.LMTP(local_hostname="me.example")
    lmtp.set_debuglevel(1)
    with pytest.raises(FileNotFoundError):
        lmtp.connect(path)
    with MailServer(protocol="lmtp", path=path):
        assert lmtp.connect(path)[0] == 220
        lmtp.quit()
    told = capsys.readouterr().err
    assert f"connect fail: {path}" in told
    assert "connect: b'mail.example" in told
