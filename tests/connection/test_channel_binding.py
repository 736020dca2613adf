"""What SCRAM binds to: tls-exporter where Python's ssl has it, else tls-server-end-point (FAULTS 83)."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import certs
from support.daemon import free_ports, wait_until
from support.exporter import LABEL, LENGTH, exporting

import pysmtpx
from pysmtpx.net.tls import channel_binding
from pysmtpx.sasl.binding import ChannelBinding
from pysmtpx.testing import MailServer

HAS_IT = "tls-exporter" in ssl.CHANNEL_BINDING_TYPES
"""This Python has what no Python up to 3.14 has."""
PLUS = ("SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")


def client_context(folder: Path) -> Any:
    context = exporting(ssl.PROTOCOL_TLS_CLIENT, folder / "client.keys")
    certs.authority().configure_trust(context)
    return context


def server_context(folder: Path) -> Any:
    context = exporting(ssl.PROTOCOL_TLS_SERVER, folder / "server.keys")
    context.load_cert_chain(*certs.server_files(folder))
    return context


class Kinds:
    """A verdict that lets the server answer, and knows which mechanisms were tried."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def __call__(self, event: Any) -> None:
        if event.verb == "AUTH" and event.index == 0:
            self.tried.append(event.address)


def logged_in(server: MailServer, context: Any, **options: Any) -> str | None:
    where = pysmtpx.Server(
        "localhost", server.port, username="user", password="pencil", ssl_context=context, **options
    )
    with pysmtpx.connect(where) as connection:
        connection.send("a@x.example", "b@y.example", b"Subject: x\r\n\r\n.\r\n")
    return server.messages[-1].user


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
@pytest.mark.parametrize("mechanism", PLUS)
def test_both_ends_bind_by_what_they_export(tmp_path: Path, mode: Any, mechanism: str) -> None:
    kinds = Kinds()
    with MailServer(
        ssl_context=server_context(tmp_path), tls=mode, users={"user": "pencil"}, verdict=kinds
    ) as server:
        assert logged_in(server, client_context(tmp_path), tls=mode, auth=mechanism) == "user"
    assert kinds.tried == [mechanism]


@pytest.mark.skipif(HAS_IT, reason="this Python's server knows the kind")
def test_a_server_that_does_not_know_the_kind_gets_the_scram_that_does_not_bind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS 118: once, and the log names the kind."""
    kinds = Kinds()
    with MailServer(ssl_context=certs.server_context(), users={"user": "pencil"}, verdict=kinds) as server:
        assert logged_in(server, client_context(tmp_path), tls="starttls") == "user"
    assert kinds.tried == ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-512"]
    assert "for the kind of channel binding, tls-exporter: SCRAM-SHA-512 is tried" in caplog.text


def test_below_tls_1_3_it_is_never_the_exporter(tmp_path: Path) -> None:
    """It needs the extended master secret there (RFC 9266 4), of which Python does not tell."""
    context = client_context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with MailServer(ssl_context=server_context(tmp_path), users={"user": "pencil"}) as server:
        assert logged_in(server, context, tls="starttls", auth=PLUS[0]) == "user"
        where = (server.host, server.port)
        with pysmtpx.connect(
            *where, tls="starttls", ssl_context=context, server_hostname="localhost"
        ) as smtp:
            binding = smtp._channel.binding()
    assert binding is not None
    assert binding.kind == "tls-server-end-point"


@pytest.mark.parametrize("refused", [True, False])
def test_check_and_the_connection_name_the_mechanism_that_did_it(refused: bool) -> None:
    """Not the one that was tried first, where the server refused to bind."""

    def verdict(event: Any) -> str | None:
        return (
            "535 5.7.8 no" if refused and event.verb == "AUTH" and event.address.endswith("-PLUS") else None
        )

    with MailServer(ssl_context=certs.server_context(), users={"user": "pencil"}, verdict=verdict) as server:
        where = pysmtpx.Server("localhost", server.port, tls="starttls", ssl_context=certs.client_context())
        account = where.replace(username="user", password="pencil")
        used = "SCRAM-SHA-512" if refused else "SCRAM-SHA-512-PLUS"
        with pysmtpx.connect(account) as connection:
            assert connection.mechanism == used
        seen = account.check()
        assert (seen.mechanism, seen.logged_in) == (used, True)
        with pysmtpx.connect(where) as connection:
            assert connection.mechanism == ""
        assert where.check().mechanism is None


@pytest.mark.skipif(HAS_IT, reason="this Python has tls-exporter")
@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_this_python_binds_to_the_certificate(mode: Any) -> None:
    """What the docs say of Python up to 3.14: when this fails, they are to be changed."""
    with MailServer(ssl_context=certs.server_context(), tls=mode, users={"user": "pencil"}) as server:
        assert logged_in(server, certs.client_context(), tls=mode, auth=PLUS[0]) == "user"
        where = pysmtpx.Server("localhost", server.port, tls=mode, ssl_context=certs.client_context())
        seen = where.check().tls
    assert seen is not None
    assert isinstance(seen.binding, ChannelBinding)
    assert seen.binding.kind == "tls-server-end-point"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="Missing here: openssl")
@pytest.mark.parametrize("suite", ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"])
def test_what_is_exported_is_what_openssl_exports(tmp_path: Path, suite: str) -> None:
    """The octets of the tests above are those that another implementation computes."""
    chain, key = certs.server_files(tmp_path)
    (port,) = free_ports(1)
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(chain), "-key", str(key)]
    command += [
        "-keymatexport",
        LABEL,
        "-keymatexportlen",
        str(LENGTH),
        "-ciphersuites",
        suite,
        "-naccept",
        "1",
    ]
    log = tmp_path / "openssl.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        wait_until(lambda: b"ACCEPT" in log.read_bytes(), 60, "openssl")
        context = client_context(tmp_path)
        with (
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            found = channel_binding(sock)
            pattern = re.compile(rb"Keying material: ([0-9A-F]+)")
            wait_until(lambda: pattern.search(log.read_bytes()) is not None, 60, "the keying material")
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
    told = pattern.search(log.read_bytes())
    assert told is not None
    assert found == ChannelBinding("tls-exporter", bytes.fromhex(told[1].decode()))
