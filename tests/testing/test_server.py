"""The threaded server, met by smtplib and by raw sockets."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from support import certs
from support.sockets import raw, rest

from pysmtpx.testing import Config, MailServer

TEXT = "Subject: x\r\n\r\n.dot\r\n"
MAIL = b"MAIL FROM:<ann@x.example>\r\n"
RCPT = b"RCPT TO:<bob@y.example>\r\n"


def client(server: MailServer, **options: Any) -> smtplib.SMTP:
    return smtplib.SMTP(server.host, server.port, local_hostname="client.example", timeout=10, **options)


def complain(server: MailServer) -> None:
    """Break the protocol."""
    with raw(server) as sock:
        sock.sendall(b"FOO\r\n")
        assert sock.recv(1000).startswith(b"500")


def test_smtplib_sends_through_it() -> None:
    with MailServer(refuse={"eve@z.example": "550 5.1.1 unknown"}) as server:
        with client(server) as smtp:
            refused = smtp.sendmail("ann@x.example", ["bob@y.example", "eve@z.example"], TEXT)
        (message,) = server.wait_for(1)
    assert refused == {"eve@z.example": (550, b"5.1.1 unknown")}
    assert message.delivered == ["bob@y.example"]
    assert message.content == TEXT.encode()
    assert (message.tls, message.user, message.via) == (False, None, "DATA")
    assert server.ledger.connections[0].ending == "QUIT"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_tls(tls: Any) -> None:
    with MailServer(ssl_context=certs.server_context(), tls=tls) as server:
        assert server.url.startswith("smtps://" if tls == "implicit" else "smtp://")
        kind = smtplib.SMTP_SSL if tls == "implicit" else smtplib.SMTP
        options = {"context": certs.client_context()} if tls == "implicit" else {}
        with kind(server.host, server.port, local_hostname="c.example", timeout=10, **options) as smtp:
            if tls == "starttls":
                smtp.starttls(context=certs.client_context())
            smtp.sendmail("ann@x.example", "bob@y.example", TEXT)
        assert server.wait_for(1)[0].tls


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "PLAIN", "LOGIN"])
def test_smtplib_logs_in(mechanism: str) -> None:
    with MailServer(users={"ann": "pw"}, mechanisms=[mechanism], require_auth=True) as server:
        with client(server) as smtp:
            with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
                smtp.sendmail("ann@x.example", "bob@y.example", TEXT)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                smtp.login("ann", "wrong")
            smtp.login("ann", "pw")
            smtp.sendmail("ann@x.example", "bob@y.example", TEXT)
        assert server.wait_for(1)[0].user == "ann"


def test_a_client_certificate_is_an_identity() -> None:
    context = certs.demanding_context()
    mine = certs.client_context()
    certs.authority().issue_cert("ann@x.example").configure_cert(mine)
    with MailServer(ssl_context=context) as server, client(server) as smtp:
        smtp.starttls(context=mine)
        smtp.ehlo()
        assert "EXTERNAL" in smtp.esmtp_features["auth"]
        assert smtp.docmd("AUTH", "EXTERNAL =")[0] == 235
        smtp.quit()
        assert server.ledger.connections[0].user == "ann@x.example"


def test_a_failed_handshake_ends_the_connection() -> None:
    with MailServer(ssl_context=certs.server_context()) as server:
        with pytest.raises(ssl.SSLCertVerificationError), client(server) as smtp:
            smtp.starttls(context=certs.client_context(certs.stranger()))
        assert server.ledger.wait_until(lambda: server.ledger.connections[0].ending == "eof", 10)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_unix_socket(tmp_path: Path, protocol: Any) -> None:
    path = tmp_path / "mail.sock"
    with MailServer(protocol=protocol, path=path) as server:
        assert server.url == f"{protocol}+unix://{path}"
        with pytest.raises(RuntimeError, match="no port"):
            _ = server.port
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            sock.recv(1000)
            sock.sendall((b"LHLO" if protocol == "lmtp" else b"EHLO") + b" c.example\r\n")
            sock.recv(1000)
            sock.sendall(MAIL + RCPT + RCPT + b"DATA\r\n")
            assert sock.recv(1000)
            server.ledger.wait_until(lambda: "DATA" in server.ledger.connections[0].commands, 10)
            sock.sendall(b"x\r\n.\r\nQUIT\r\n")
            assert rest(sock).count(b"250 2.0.0 delivered") == (2 if protocol == "lmtp" else 1)
        assert len(server.wait_for(1)) == 1
    assert not path.exists()


def test_ipv6() -> None:
    with MailServer(host="::1") as server:
        assert server.url == f"smtp://[::1]:{server.port}"
        with client(server) as smtp:
            assert smtp.noop()[0] == 250


def test_a_given_port() -> None:
    with MailServer() as first:
        port = first.port
    with MailServer(port=port) as second:
        assert second.port == port


def leave(server: MailServer, error: BaseException | None = None) -> None:
    with server:
        complain(server)
        if error is not None:
            raise error


def test_leaving_the_block_fails_on_a_breach() -> None:
    with pytest.raises(AssertionError, match="'FOO' is not a command"):
        leave(MailServer())


def test_without_strict_the_breach_is_only_entered() -> None:
    leave(server := MailServer(strict=False))
    assert server.breaches == ["connection 0: 'FOO' is not a command"]
    with pytest.raises(AssertionError):
        server.assert_clean()


def test_leaving_by_an_exception_hides_nothing() -> None:
    with pytest.raises(ZeroDivisionError):
        leave(MailServer(), ZeroDivisionError())


def test_what_arrived_before_the_end_is_still_judged() -> None:
    with MailServer(strict=False) as server, raw(server) as sock:
        sock.sendall(b"FOO\r\n")
        server.stop()
        assert server.breaches == ["connection 0: 'FOO' is not a command"]


def test_what_arrives_before_a_reply_leaves_is_known_to_be_pipelined() -> None:
    with MailServer(strict=False, delay=0.3) as server, raw(server) as sock:
        sock.sendall(b"NOOP\r\n")
        assert server.ledger.wait_until(lambda: "NOOP" in server.ledger.connections[0].commands, 10)
        sock.sendall(b"RSET\r\n")
        assert server.ledger.wait_until(lambda: bool(server.ledger.breaches), 10)
        assert "RSET was sent before the reply to NOOP was read" in server.breaches[0]


def test_the_same_under_tls() -> None:
    """The second command is in the record of the first, and read apart."""
    context = certs.server_context()
    with MailServer(strict=False, ssl_context=context, tls="implicit", read_size=6) as server:
        plain = socket.create_connection((server.host, server.port), timeout=10)
        with plain, certs.client_context().wrap_socket(plain, server_hostname="localhost") as sock:
            sock.recv(1000)
            sock.sendall(b"NOOP\r\nRSET\r\n")
            assert server.ledger.wait_until(lambda: bool(server.ledger.breaches), 10)
    assert "RSET was sent before the reply to NOOP was read" in server.breaches[0]


def test_octets_after_starttls_in_a_segment_of_their_own() -> None:
    """FAULTS 66, the other way round."""
    with (
        MailServer(strict=False, delay=0.3, ssl_context=certs.server_context()) as server,
        raw(server) as sock,
    ):
        sock.sendall(b"STARTTLS\r\n")
        assert server.ledger.wait_until(lambda: "STARTTLS" in server.ledger.connections[0].commands, 10)
        sock.sendall(b"EHLO x.example\r\n")
        assert server.ledger.wait_until(lambda: bool(server.ledger.breaches), 10)
        assert "octets after STARTTLS" in server.breaches[0]
        assert sock.recv(1000).startswith(b"220 ")  # unread, it would make a reset of the end


# Options.


def test_a_config_and_options_add_up() -> None:
    config = Config(name="mx.test", extensions=["SIZE 5"])
    with MailServer(config, extensions=["DSN"]) as server, client(server) as smtp:
        smtp.ehlo()
        assert smtp.esmtp_features == {"dsn": ""}
        assert b"mx.test" in smtp.ehlo_resp


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        MailServer(colour="red")  # type: ignore[call-arg]


def test_tls_needs_a_context() -> None:
    with pytest.raises(ValueError, match="ssl_context"):
        MailServer(tls="implicit")


def test_wait_for_says_what_is_missing() -> None:
    with MailServer() as server, pytest.raises(TimeoutError, match="0 of 1 messages"):
        server.wait_for(1, timeout=0.01)


def test_without_keep_it_counts() -> None:
    with MailServer(keep=False) as server:
        with client(server) as smtp:
            for _ in range(3):
                smtp.sendmail("ann@x.example", "bob@y.example", TEXT)
        assert server.wait_for(3) == []
        assert server.ledger.count == 3


def test_small_buffers_and_slow_reads() -> None:
    """FAULTS 60."""
    with MailServer(receive_buffer=4096, read_size=1000, read_delay=0.001) as server:
        with client(server) as smtp:
            smtp.sendmail("ann@x.example", "bob@y.example", "x" * 70 + "\r\n" + ("y" * 78 + "\r\n") * 500)
        assert server.wait_for(1)[0].size == 40_072


def test_many_connections_at_once() -> None:
    def send() -> None:
        with client(server) as smtp:
            for _ in range(5):
                smtp.sendmail("ann@x.example", "bob@y.example", TEXT)

    with MailServer() as server:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        messages = server.wait_for(40)
    assert sorted({message.connection for message in messages}) == list(range(8))


def test_a_server_without_certificate_for_its_context_still_starts() -> None:
    with MailServer(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as server, raw(server) as sock:
        sock.sendall(b"STARTTLS\r\n")
        assert sock.recv(1000).startswith(b"220")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            certs.client_context().wrap_socket(sock, server_hostname="localhost")
