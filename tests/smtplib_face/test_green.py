"""eventlet and gevent, patched in before anything else is imported: every way to send, clear and by TLS."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import certs
from support.accounts import PASSWORD, USER

from pysmtpx.testing import MailServer

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


PROGRAMS = {"face": FACE, "native": NATIVE}
MODES = ["clear", "starttls", "implicit"]
CASES = [*itertools.product(["face"], MODES, [10, None]), *itertools.product(["native"], MODES, [None])]

RUN = """
import json, sys, traceback
told = []
for source, names in json.load(sys.stdin):
    try:
        exec(compile(source, "program", "exec"), dict(names))
    except BaseException:
        told.append(traceback.format_exc())
    else:
        told.append("")
print(json.dumps(told))
"""
"""What it prints: for each program how it failed, or nothing."""

Ran = dict[tuple[Any, ...], tuple[str, int]]
"""By case: how the program failed, and how many messages arrived."""


@pytest.fixture(scope="module", params=PATCHES)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All cases, one after the other in one process whose sockets are those of the library."""
    library = request.param
    if importlib.util.find_spec(library) is None:  # not imported: eventlet warns of each fork then
        pytest.skip(f"{library} is not installed")
    authority = tmp_path_factory.mktemp("authority") / "authority.pem"
    certs.authority().cert_pem.write_to_path(authority)
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    common = {"USER": USER, "PASSWORD": PASSWORD}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_serving(mode)) for _, mode, _ in CASES]
        given = [
            (PROGRAMS[program], common | {"MODE": mode, "TIMEOUT": timeout, "PORT": server.port})
            for (program, mode, timeout), server in zip(CASES, servers, strict=True)
        ]
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import warnings\nwarnings.simplefilter('ignore')\n{PATCHES[library]}{RUN}",
            ],
            env={**os.environ, "PYTHONPATH": path, "SSL_CERT_FILE": str(authority)},
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=100,
        )
        arrived = [len(server.messages) for server in servers]
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, zip(json.loads(done.stdout), arrived, strict=True), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_way_to_send(ran: Ran, case: tuple[Any, ...]) -> None:
    failure, arrived = ran[case]
    assert not failure, failure
    assert arrived == 2


def _serving(mode: str) -> MailServer:
    if mode == "clear":
        return MailServer()
    return MailServer(ssl_context=certs.server_context(), tls=mode, users={USER: PASSWORD})  # type: ignore[arg-type]
