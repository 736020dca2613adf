"""Round trips from the dial to the acceptance of one message: counted by a relay, not timed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import aiosmtplib
import trustme

import pysmtpx
import pysmtpx.smtplib
from pysmtpx.testing import MailServer

from .contestants import AIOSMTPLIB, GO, NODEMAILER, PEERS, RECIPIENT, SENDER, SMTPLIB, message
from .relay import Relay
from .report import Goal, Report
from .rounds import OURS

USER, PASSWORD, NAME, HOST = "user", "benchmark", "bench.example", "localhost"
CONTENT = message(1024)
FACE = "pysmtpx.smtplib"
BY_PLAIN = 'pysmtpx, auth="PLAIN"'
Mode = Literal["none", "starttls", "implicit"]
OFFERS: dict[str, list[str]] = {"no AUTH": [], "PLAIN LOGIN": ["PLAIN", "LOGIN"]}
OFFERS["SCRAM-SHA-256 PLAIN LOGIN"] = ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
CASES: list[tuple[Mode, str]] = [
    ("none", "no AUTH"),
    ("starttls", "PLAIN LOGIN"),
    ("starttls", "SCRAM-SHA-256 PLAIN LOGIN"),
    ("implicit", "PLAIN LOGIN"),
    ("implicit", "SCRAM-SHA-256 PLAIN LOGIN"),
]


@contextlib.contextmanager
def served(mode: Mode, offer: str, authority: trustme.CA) -> Iterator[tuple[int, Callable[[], int]]]:
    """A server behind a relay: its port, and the round trips of its last message, the dial included."""
    relays: list[Relay] = []
    counted: list[int] = []

    def verdict(event: Any) -> None:
        if event.verb == "FINAL":  # which it is about to answer
            counted.append(1 + relays[0].answers + 1)

    options: dict[str, Any] = {"users": {USER: PASSWORD}, "mechanisms": OFFERS[offer]}
    if mode != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # which nobody waits for
        authority.issue_cert(HOST).configure_cert(context)
        options |= {"ssl_context": context, "tls": mode}
    with MailServer(lenient=True, strict=False, verdict=verdict, **options) as server:
        relays.append(Relay(server.port))
        try:
            yield relays[0].port, lambda: counted[-1]
        finally:
            relays[0].close()


# -- the clients -----------------------------------------------------------------------


def _ours(mode: Mode, port: int, context: ssl.SSLContext, has_auth: bool, auth: str | None = None) -> None:
    options: dict[str, Any] = {"tls": mode, "local_hostname": NAME}
    if mode != "none":
        options["ssl_context"] = context
    if has_auth:
        options |= {"username": USER, "password": PASSWORD, "auth": auth}
    with pysmtpx.connect(HOST, port, **options) as smtp:
        smtp.send(SENDER, RECIPIENT, CONTENT)


def _by(module: ModuleType, mode: Mode, port: int, context: ssl.SSLContext, has_auth: bool) -> None:
    make = partial(module.SMTP_SSL, context=context) if mode == "implicit" else module.SMTP
    with make(HOST, port, local_hostname=NAME) as smtp:
        if mode == "starttls":
            smtp.starttls(context=context)
        if has_auth:
            smtp.login(USER, PASSWORD)
        smtp.sendmail(SENDER, [RECIPIENT], CONTENT)


def _by_aiosmtplib(mode: Mode, port: int, context: ssl.SSLContext, has_auth: bool) -> None:
    who = {"username": USER, "password": PASSWORD} if has_auth else {}
    secure = {"use_tls": mode == "implicit", "start_tls": mode == "starttls"}
    if mode != "none":
        secure["tls_context"] = context  # type: ignore[assignment]
    where = {"hostname": HOST, "port": port, "local_hostname": NAME}
    sent = aiosmtplib.send(CONTENT, sender=SENDER, recipients=[RECIPIENT], **where, **secure, **who)
    asyncio.run(sent)


def _by_program(command: list[str], mode: Mode, port: int, roots: Path, has_auth: bool) -> None:
    """One of ``peers``: MODE PORT USER PASSWORD, without the last two where there is no AUTH."""
    who = [USER, PASSWORD] if has_auth else []
    known = {"NODE_PATH": str(PEERS / "node_modules"), "NODE_EXTRA_CA_CERTS": str(roots)}
    env = {**os.environ, **known, "SSL_CERT_FILE": str(roots)}
    subprocess.run([*command, mode, str(port), *who], check=True, env=env)


# -- the table -------------------------------------------------------------------------


def cold(folder: str | None = None) -> Report:
    """Round trips of a connection that was not there before, up to the first message."""
    report = Report("Round trips from the dial to the acceptance of the first message, by count")
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        roots = Path(place) / "roots.pem"
        authority.cert_pem.write_to_path(roots)
        found = {case: _row(case, authority, context, roots, Path(place)) for case in CASES}
    names = list(next(iter(found.values())))
    lines = [f"| line | offered | {' | '.join(names)} |", f"|---|---|{'---:|' * len(names)}"]
    for (mode, offer), row in found.items():
        line = {"none": "clear", "starttls": "STARTTLS", "implicit": "TLS at once"}[mode]
        lines.append(f"| {line} | {offer} | {' | '.join(str(row[name]) for name in names)} |")
    report.parts.append("\n".join(lines))
    report.parts.append(
        "The dial of TCP is one of them, TLS 1.3 another one. By SCRAM the server proves itself too, "
        'which takes two more than PLAIN; `auth="PLAIN"` saves them where TLS is verified.'
    )
    for mode, offer in CASES[1:2] + CASES[3:4]:
        row, what = found[mode, offer], f"a first message, {mode} and AUTH"
        report.goals.append(Goal(what, row[SMTPLIB] - 2, row[OURS], "round trips", at_most=True))
    return report


def _row(
    case: tuple[Mode, str], authority: trustme.CA, context: ssl.SSLContext, roots: Path, place: Path
) -> dict[str, int]:
    mode, offer = case
    has_auth = bool(OFFERS[offer])
    row = {}
    with served(mode, offer, authority) as (port, counted):
        clients: dict[str, Callable[[], None]] = {
            OURS: partial(_ours, mode, port, context, has_auth),
            BY_PLAIN: partial(_ours, mode, port, context, has_auth, "PLAIN"),
            FACE: partial(_by, pysmtpx.smtplib, mode, port, context, has_auth),
            SMTPLIB: partial(_by, smtplib, mode, port, context, has_auth),
            AIOSMTPLIB: partial(_by_aiosmtplib, mode, port, context, has_auth),
        }
        for name, command in _programs(place).items():
            clients[name] = partial(_by_program, command, mode, port, roots, has_auth)
        for name, send in clients.items():
            send()
            row[name] = counted()
    return row


def _programs(place: Path) -> dict[str, list[str]]:
    """Nodemailer and Go's net/smtp, where they are to be had."""
    sources, programs = Path(__file__).parent / "peers", {}
    if (PEERS / "node_modules" / "nodemailer").exists():
        programs[NODEMAILER] = ["node", str(sources / "cold.js")]
    if go := shutil.which("go"):
        binary = place / "cold"
        if not binary.exists():
            subprocess.run([go, "build", "-o", str(binary), str(sources / "cold.go")], check=True)
        programs[GO] = [str(binary)]
    return programs
