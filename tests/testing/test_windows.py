"""Where the system has no poll and no UNIX sockets, as Windows has none. Nobody has run it there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import certs

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, select, sys

assert "socket" not in sys.modules and "selectors" not in sys.modules
for name in ("poll", "epoll", "devpoll", "kqueue"):
    if hasattr(select, name):
        delattr(select, name)
del os.fork, os.register_at_fork
sys.modules["fcntl"] = None
import _socket
for name in ("AF_UNIX", "socketpair", "MSG_DONTWAIT", "MSG_NOSIGNAL"):
    if hasattr(_socket, name):
        delattr(_socket, name)

import smtplib, socket, ssl
import pysmtpx
from pysmtpx.testing import Cut, Drip, MailServer

def letters(count):
    return [pysmtpx.MailObject("ann@x.example", "bob@y.example", b"Subject: x\\r\\n\\r\\nx\\r\\n")] * count

def send(url, **options):
    with pysmtpx.connect(url, **options) as smtp:
        print(*[outcome.status for outcome in smtp.send_many(letters(2))])
    with pysmtpx.SmtpPool(url, **options) as pool:
        print(*[outcome.status for outcome in pool.send_many(letters(3))])

with MailServer(replies={("RCPT", 0): Drip(0.001)}) as server:
    send(server.url)
    with smtplib.SMTP(server.host, server.port, local_hostname="c.example") as client:
        client.sendmail("ann@x.example", "bob@y.example", "Subject: x\\r\\n\\r\\nx\\r\\n")
    idle = socket.create_connection((server.host, server.port))
idle.close()
trusted = ssl.create_default_context(cafile=sys.argv[1])
for tls in ("starttls", "implicit"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:])
    with MailServer(tls=tls, ssl_context=context) as secure:
        send(secure.url, ssl_context=trusted, tls=tls)
with MailServer(replies={"NOOP": Cut(reset=True)}) as server, pysmtpx.connect(server.url) as smtp:
    try:
        smtp.noop()
    except pysmtpx.ConnectionLost as error:
        print("lost")
try:
    MailServer(path="socket").start()
except OSError as error:
    print(error)
"""
TOLD = """\
accepted accepted
accepted accepted accepted
accepted accepted
accepted accepted accepted
accepted accepted
accepted accepted accepted
lost
this Python has no UNIX sockets
"""


def test_server_and_client_run_without_poll_unix_sockets_and_fork(tmp_path: Path) -> None:
    files = certs.server_files(tmp_path)
    authority = tmp_path / "authority.pem"
    certs.authority().cert_pem.write_to_path(authority)
    command = [sys.executable, "-c", PROGRAM, str(authority), *map(str, files)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr) == (TOLD, "")
