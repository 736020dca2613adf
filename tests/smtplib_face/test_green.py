"""eventlet and gevent, patched in before anything else is imported: every way to send, clear and by TLS."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import certs
from support.accounts import PASSWORD, USER

from pysmtpx.testing import MailServer

pytestmark = pytest.mark.slow

PATCHES = {
    "eventlet": "import eventlet\neventlet.monkey_patch()",
    "gevent": "import gevent.monkey\ngevent.monkey.patch_all()",
}

FACE = """
import pysmtpx.smtplib as smtplib
kind = smtplib.SMTP_SSL if MODE == "implicit" else smtplib.SMTP
with kind("127.0.0.1", PORT, "me.example", timeout=TIMEOUT) as smtp:
    if MODE == "starttls":
        smtp.starttls()
    if MODE != "clear":
        smtp.login(USER, PASSWORD)
    for number in range(2):
        assert smtp.sendmail("ann@x.example", ["bob@x.example"], b"Subject: x\\r\\n\\r\\nhello\\r\\n") == {}
    assert smtp.noop()[0] == 250
    assert smtp.sock.gettimeout() == TIMEOUT
"""

NATIVE = """
import pysmtpx

options = {} if MODE == "clear" else {"username": USER, "password": PASSWORD}
tls = "none" if MODE == "clear" else MODE
with pysmtpx.connect("127.0.0.1", PORT, tls=tls, **options) as conn:
    conn.send("ann@x.example", "bob@x.example", b"Subject: x\\r\\n\\r\\nhello\\r\\n")
with pysmtpx.SmtpPool("smtp://127.0.0.1:%d" % PORT, tls=tls, **options) as pool:
    pool.send("ann@x.example", "bob@x.example", b"Subject: x\\r\\n\\r\\nhello\\r\\n")
"""


def run_green(library: str, program: str, **names: object) -> None:
    """Run a program in a process of its own whose sockets are that library's."""
    if importlib.util.find_spec(library) is None:  # not imported: eventlet warns of each fork then
        pytest.skip(f"{library} is not installed")
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    code = f"import warnings\nwarnings.simplefilter('ignore')\n{PATCHES[library]}\n{given}{program}"
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("timeout", [10, None])
@pytest.mark.parametrize("mode", ["clear", "starttls", "implicit"])
@pytest.mark.parametrize("library", PATCHES)
def test_the_face(library: str, mode: str, timeout: float | None, trust: Callable[[], None]) -> None:
    trust()
    with _serving(mode) as server:
        run_green(library, FACE, MODE=mode, PORT=server.port, TIMEOUT=timeout, USER=USER, PASSWORD=PASSWORD)
        assert len(server.messages) == 2


@pytest.mark.parametrize("mode", ["clear", "starttls", "implicit"])
@pytest.mark.parametrize("library", PATCHES)
def test_connection_and_pool(library: str, mode: str, trust: Callable[[], None]) -> None:
    trust()
    with _serving(mode) as server:
        run_green(library, NATIVE, MODE=mode, PORT=server.port, USER=USER, PASSWORD=PASSWORD)
        assert len(server.messages) == 2


def _serving(mode: str) -> MailServer:
    if mode == "clear":
        return MailServer()
    return MailServer(ssl_context=certs.server_context(), tls=mode, users={USER: PASSWORD})  # type: ignore[arg-type]
