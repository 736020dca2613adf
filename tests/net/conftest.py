"""A line of each kind."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
from support.lines import SOON, Line, secured, stream_over, tcp


@pytest.fixture(params=["tcp", "unix", "tls 1.2", "tls 1.3"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    ours, theirs = socket.socketpair() if request.param == "unix" else tcp()
    theirs.settimeout(SOON)
    if request.param.startswith("tls"):
        version = ssl.TLSVersion.TLSv1_2 if request.param == "tls 1.2" else ssl.TLSVersion.TLSv1_3
        ours, theirs = secured(ours, theirs, version)
    stream = stream_over(ours)
    yield Line(stream, theirs)
    stream.close()
    theirs.close()
