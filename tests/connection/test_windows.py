"""FAULTS 44: whatever the buffers, two sides that both wait to be read do not stand still."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from support import certs
from support.fates import BODY, SENDER, attempt, fates
from support.scripted import Peer, ScriptedServer

from pysmtpx import SendResult, reaching
from pysmtpx.net.deadline import Deadline


def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every socket of ours buffers of 4 KiB."""

    def dial(host: str, port: int, deadline: Deadline, *_: Any) -> socket.socket:
        sock = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 4096)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((host, port))
        sock.setblocking(False)
        return sock

    monkeypatch.setattr(reaching, "dial", dial)


def _answers_before_it_reads_on(count: int, reply: bytes) -> Any:
    """A server that writes the reply to one command in full before it reads another."""

    def script(peer: Peer) -> None:
        peer.sock.settimeout(20)
        peer.greet("PIPELINING", "CHUNKING")
        peer.expect("MAIL")
        peer.say(b"250 ok\r\n")
        for index in range(count):
            peer.expect("RCPT")
            peer.say(b"550 5.1.1 no\r\n" if index % 1000 == 7 else reply)
        if peer.line() == b"DATA":
            peer.say(b"354 go ahead\r\n")
            assert peer.content() == BODY
        else:
            assert peer.take(len(BODY)) == BODY
        peer.say(b"250 queued\r\n")
        peer.quit()

    return script


@pytest.mark.parametrize("tls", ["none", "implicit"])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
@pytest.mark.parametrize(("count", "text"), [(20_000, b""), (2_000, b"x" * 400)], ids=["many", "long"])
def test_recipients_beyond_every_buffer(
    method: str, tls: str, count: int, text: bytes, monkeypatch: Any
) -> None:
    """FAULTS 44, 111: a client that writes all before it reads stands still for good here."""
    _small(monkeypatch)
    recipients = [f"recipient-{i}@x.example" for i in range(count)]
    script = _answers_before_it_reads_on(count, b"250 2.1.5 " + text + b"\r\n")
    context = certs.server_context() if tls == "implicit" else None
    options = {"tls": tls, "ssl_context": certs.client_context() if context else None}
    with ScriptedServer(script, tls=context, buffer=4096) as server, server.connect(**options) as conn:
        result = attempt(getattr(conn, method), SENDER, recipients, BODY, timeout=25)
        assert isinstance(result, SendResult), result
        refused = [i for i in range(count) if i % 1000 == 7]
        assert [r.recipient for r in result.rejected_recipients] == [recipients[i] for i in refused]
        assert len(fates(result)) == count
