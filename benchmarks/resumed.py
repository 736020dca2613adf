"""What a new connection of a pool costs whose TLS session is resumed, beside one that begins anew."""

from __future__ import annotations

import itertools
import ssl
import statistics
import time
from typing import Literal

import trustme

import pysmtpx
from pysmtpx.testing import MailServer

from .contestants import RECIPIENT, SENDER, message
from .relay import Relay
from .report import Report

HOST = "localhost"
Mode = Literal["starttls", "implicit"]
CONTENT = message(1024)
LINES: dict[Mode, str] = {"starttls": "STARTTLS", "implicit": "TLS at once"}
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


def resumed(rounds: int = 60) -> Report:
    """Round trips by count, and milliseconds of processor time, of client and server together."""
    report = Report("A new connection of a pool: begun anew, and its TLS session resumed")
    authority = trustme.CA()
    head = "| line | TLS | round trips anew | resumed | ms anew | ms resumed |"
    lines = [head, "|---|---|---:|---:|---:|---:|"]
    for (mode, line), (name, version) in itertools.product(LINES.items(), VERSIONS.items()):
        trips, milliseconds = _cost(authority, mode, version, False, rounds)
        fewer, less = _cost(authority, mode, version, True, rounds)
        lines.append(f"| {line} | {name} | {trips} | {fewer} | {milliseconds:.2f} | {less:.2f} |")
    report.parts.append("\n".join(lines))
    report.parts.append(
        "From the dial on, with one message; at a distance of 20 ms each round trip adds as many. With TLS "
        "at once the greeting stands behind the end of the handshake anyhow, and nothing is saved."
    )
    return report


class _Whole(ssl.SSLContext):
    """Of which no session is resumed, as of any class that is not Python's own."""


def _cost(
    authority: trustme.CA, mode: Mode, version: ssl.TLSVersion, again: bool, rounds: int
) -> tuple[int, float]:
    """Round trips, and the median of the milliseconds."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours = (ssl.SSLContext if again else _Whole)(ssl.PROTOCOL_TLS_CLIENT)
    served.minimum_version = served.maximum_version = version
    authority.issue_cert(HOST).configure_cert(served)
    authority.configure_trust(ours)
    found = []
    with MailServer(ssl_context=served, tls=mode) as server:
        trips = _trips(server.port, mode, ours)
        with _pool(server.port, mode, ours) as pool:
            for _ in range(rounds):
                began = time.process_time()
                pool.send(SENDER, RECIPIENT, CONTENT)
                found.append((time.process_time() - began) * 1000)
    is_resumed = served.session_stats()["hits"] > 0
    if is_resumed is not again:
        raise RuntimeError("sessions were resumed where none should be, or none where they should")
    return trips, statistics.median(found[1:])


def _pool(port: int, mode: Mode, context: ssl.SSLContext) -> pysmtpx.SmtpPool:
    server = pysmtpx.Server(HOST, port, tls=mode, ssl_context=context)
    return pysmtpx.SmtpPool(server, max_messages=1)


def _trips(port: int, mode: Mode, context: ssl.SSLContext) -> int:
    """From the dial on; the least of some connections, since a ticket counts one more now and then."""
    relay, found = Relay(port), []
    try:
        with _pool(relay.port, mode, context) as pool:
            for _ in range(30):
                pool.send(SENDER, RECIPIENT, CONTENT)
                found.append(relay.answers + 1)
        return min(found[1:])
    finally:
        relay.close()
