"""A dial that is interrupted, or during which the process forks: no socket of it is left behind."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from support import certs
from support.interrupts import interrupted
from support.pools import BODY, SENDER, connected_to, outcome

from pysmtpx import Server, SmtpPool, opening
from pysmtpx.channel import Channel
from pysmtpx.net import dial as dialling
from pysmtpx.net.deadline import Deadline
from pysmtpx.opening import open_channel
from pysmtpx.testing import MailServer

TRACED = {dialling.__file__, opening.__file__}


def server_of(kind: str, path: Path) -> tuple[MailServer, dict[str, Any]]:
    if kind == "unix":
        return MailServer(path=path / "s"), {}
    if kind == "clear":
        return MailServer(), {}
    return MailServer(ssl_context=certs.server_context(), tls="implicit"), {
        "ssl_context": certs.client_context(),
        "tls": "implicit",
    }


@pytest.mark.parametrize("kind", ["clear", "implicit", "unix"])
def test_an_interrupt_at_any_line_of_a_dial_leaves_no_socket(kind: str, tmp_path: Path) -> None:
    """FAULTS 96, 99: not even for the garbage collector."""
    made, options = server_of(kind, tmp_path)
    with made as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        target = Server.from_url(server.url, **options)
        opened: list[Channel] = []
        gc.freeze()  # what was there before is not looked at each time
        for place in itertools.count(1):
            came = interrupted(
                place, TRACED, lambda: opened.append(open_channel(target, Deadline.after(20))[0])
            )
            gc.collect()
            assert [str(each.message) for each in caught] == [], place
            if not came:
                break
        opened.pop().close()
        assert place > 30, "every line of it was interrupted once"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at descriptors in /proc")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("tls", ["none", "implicit"])
def test_a_child_that_was_forked_during_a_dial_has_none_of_its_sockets(tls: Any) -> None:
    """FAULTS 95: they are closed without an octet, and the parent's dial goes on."""
    options = {"tls": tls} | ({"ssl_context": certs.client_context()} if tls != "none" else {})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with SmtpPool(f"smtp://127.0.0.1:{port}", **options) as pool:
            caller = threading.Thread(target=outcome, args=(pool.send, SENDER, "a@x.example", BODY))
            caller.start()
            line, _ = listener.accept()
            with line:
                if tls != "none":
                    assert line.recv(65536), "the handshake is under way"
                assert connected_to(port) == 1
                child = os.fork()
                if not child:
                    os._exit(10 + connected_to(port))
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
                line.setblocking(False)
                with pytest.raises(BlockingIOError):
                    line.recv(1)
                assert connected_to(port) == 1
                pool.close(0)
                caller.join()
