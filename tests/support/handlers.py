"""Everything that can go wrong between a program and its server, and whether its handlers still work.

A program that was written for Django's own backend, for Flask-Mail or for
``smtplib`` has ``except`` clauses, and reads attributes in them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from support import certs
from support.patience import ENOUGH, LONG

from pysmtpx import DeliveryUnknown, ProtocolError
from pysmtpx.testing import Cut, Garbage, MailServer, Stall

USER, PASSWORD = "ann", "right"


@dataclass(frozen=True)
class Case:
    """What is wrong with a server, or with what it is given."""

    options: dict[str, Any] = field(default_factory=dict)
    """Of the server."""
    password: str = ""
    """What is logged in with, if anything."""
    tls: str = ""
    """``starttls`` or ``implicit`` at the client."""
    subject: str = "s"
    body: str = "b\n"
    to: tuple[str, ...] = ("a@x.example",)
    name: str = "127.0.0.1"
    """What the server is dialled by."""
    prepare: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    """What has happened to the machine."""
    port: int | None = None
    """Where to dial instead of the server's port."""
    timeout: float = LONG
    """Seconds."""
    verified: bool = False
    """It fails for the server's certificate: not so by Flask-Mail and smtplib, which take any."""


@contextlib.contextmanager
def served(case: Case) -> Iterator[MailServer]:
    """A server and a machine in this case."""
    with MailServer(strict=False, **case.options) as server, case.prepare():
        yield server


def port_of(case: Case, server: MailServer) -> int:
    """Where to dial."""
    return server.port if case.port is None else case.port


# -- what goes wrong with a reply -----------------------------------------------------

_USERS: dict[str, Any] = {"users": {USER: PASSWORD}, "mechanisms": ["PLAIN", "LOGIN"]}
STAGES: tuple[str, ...] = ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "FINAL")
_ANSWERS: dict[str, Any] = {
    "221": "221 2.0.0 bye",
    "421": "421 4.3.2 bye",
    "450": "450 4.2.0 later",
    "530": "530 5.7.0 who are you",
    "535": "535 5.7.8 no",
    "550": "550-5.7.1 no\n550 5.7.1 never",
    "334": "334 this is no answer",
    "garbage": Garbage(b"what?\r\n"),
    "a long line": Garbage(b"250 " + b"x" * 9000 + b"\r\n"),
    "hang-up": Cut(),
    "reset": Cut(reset=True),
    "silence": Stall(),
}
_TAKEN = {("221", "EHLO"), ("221", "MAIL"), ("221", "RCPT"), ("221", "FINAL"), ("334", "AUTH")}
"""Of these one is no failure: any 2xx is acceptance for the one or the other (RFC 5321 4.2.1)."""
_RACE = ("reset", "CONNECT")
"""The kernel decides whether it is the dial that fails, or the wait for the greeting."""


def _tls(mode: str, *names: str, wants_ours: bool = False, version: ssl.TLSVersion | None = None) -> Any:
    context = certs.server_context(*names)
    if wants_ours:
        context.verify_mode = ssl.CERT_REQUIRED
    if version is not None:
        context.maximum_version = context.minimum_version = version
    return {"ssl_context": context, "tls": mode}


def _at(stage: str, answer: str) -> Case:
    stages = ("EHLO", "HELO") if stage == "EHLO" else (stage,)  # smtplib goes on with HELO whatever was said
    options: dict[str, Any] = {"replies": dict.fromkeys(stages, _ANSWERS[answer])}
    timeout = ENOUGH if answer == "silence" else LONG
    if stage == "STARTTLS":
        return Case(options | _tls("starttls"), tls="starttls", timeout=timeout)
    if stage == "AUTH":
        return Case(options | _USERS, password=PASSWORD, timeout=timeout)
    return Case(options, timeout=timeout)


# -- what goes wrong with the line ------------------------------------------------------


@contextlib.contextmanager
def _no_such_name() -> Iterator[None]:
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **options)

    with mock.patch("socket.getaddrinfo", look_up):
        yield


def _no_way(code: int) -> Callable[[], Any]:
    return lambda: mock.patch.object(socket.socket, "connect", side_effect=OSError(code, os.strerror(code)))


@contextlib.contextmanager
def _trusting() -> Iterator[None]:
    """The authority of the tests is among the roots of the system."""
    with tempfile.TemporaryDirectory() as folder:
        roots = Path(folder) / "roots.pem"
        certs.authority().cert_pem.write_to_path(roots)
        with mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(roots)}):
            yield


def _secured(mode: str, *names: str, **more: Any) -> Case:
    return Case(_tls(mode, *names), tls=mode, **more)


@contextlib.contextmanager
def _full_backlog() -> Iterator[None]:
    """Every dial meets a listener that takes nobody any more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        real = socket.socket.connect
        stack.enter_context(
            mock.patch.object(socket.socket, "connect", lambda self, _: real(self, listener.getsockname()))
        )
        yield


def cases() -> dict[str, Case]:
    """Every case by its name."""
    found = {
        f"{answer} at {stage}": _at(stage, answer)
        for stage in STAGES
        for answer in _ANSWERS
        if (answer, stage) not in {*_TAKEN, _RACE}
    }
    found |= {
        "no such name": Case(name="nowhere.example", prepare=_no_such_name),
        "nobody listens": Case(prepare=_no_way(errno.ECONNREFUSED)),
        "no such port": Case(port=1),
        "no route": Case(prepare=_no_way(errno.EHOSTUNREACH)),
        "a firewall of this machine": Case(prepare=_no_way(errno.EPERM)),
        "no answer to the dial": Case(prepare=_full_backlog, timeout=ENOUGH),
        "wrong password": Case(_USERS, password="wrong"),
        "no AUTH": Case(password=PASSWORD),
        "no mechanism in common": Case(_USERS | {"mechanisms": ["GSSAPI"]}, password=PASSWORD),
        "no STARTTLS": Case(tls="starttls"),
        "neither EHLO nor HELO": Case({"replies": {"EHLO": "502 5.5.1 no", "HELO": "550 5.7.1 no"}}),
        "TLS at a port in clear": Case({"replies": {"CONNECT": "220 hello"}}, tls="implicit"),
        "silence in the handshake": Case({"replies": {"CONNECT": Stall()}}, tls="implicit", timeout=ENOUGH),
        "too large": Case({"extensions": ["SIZE 500"]}, body="y\n" * 1000),
        "a line end in a field": Case(subject="one\nBcc: two@x.example"),
        "a line end in an address": Case(to=("a@x.example\r\nRCPT TO:<b@x.example>",)),
        "several refused": Case(
            {"refuse": {"a@x.example": "550 5.1.1 no", "b@x.example": "450 4.2.1 later"}},
            to=("a@x.example", "b@x.example"),
        ),
    }
    for mode in ("starttls", "implicit"):
        found |= {
            f"an unknown authority, {mode}": _secured(mode, verified=True),
            f"another's certificate, {mode}": _secured(
                mode, "other.example", verified=True, prepare=_trusting
            ),
        }
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            options = _tls(mode, wants_ours=True, version=version)
            found[f"no client certificate, {mode}, {version.name}"] = Case(
                options, tls=mode, prepare=_trusting
            )
    return found


CASES = cases()


def outcome(call: Callable[[], object]) -> Exception | None:
    """What a call raised, if it did. What the standard library then leaves open is closed."""
    made: list[smtplib.SMTP] = []
    connect = smtplib.SMTP.connect

    def kept(self: smtplib.SMTP, *args: Any, **options: Any) -> Any:
        made.append(self)
        return connect(self, *args, **options)

    with mock.patch.object(smtplib.SMTP, "connect", kept):
        try:
            call()
        except Exception as error:
            return error
        finally:
            for each in made:
                each.close()
    return None


def check(theirs: Exception | None, ours: Exception | None) -> None:
    """Whatever catches theirs catches ours, and finds there what it reads in theirs."""
    assert theirs is not None
    assert ours is not None
    missing = [each.__name__ for each in type(theirs).__mro__[:-2] if not isinstance(ours, each)]
    if isinstance(ours, DeliveryUnknown):
        # On purpose no SMTPServerDisconnected, SMTPDataError: who sends again after those delivers twice.
        missing = [each for each in missing if each in ("OSError", "SMTPException")]
    assert not missing, f"{type(theirs).__name__}: {theirs} / {type(ours).__mro__}: {ours}"
    for name in ("smtp_code", "errno", "recipients", "sender", "reason", "verify_code", "verify_message"):
        if getattr(theirs, name, None) is not None and not isinstance(ours, DeliveryUnknown):
            is_unreadable = name == "smtp_code" and _is_unreadable(ours)
            assert _read(ours, name) == (-1 if is_unreadable else _read(theirs, name)), name


def _is_unreadable(error: Exception) -> bool:
    """It is about an answer without a code."""
    return isinstance(error, ProtocolError) and error.reply is None


def _read(error: Exception, name: str) -> object:
    value = getattr(error, name)
    return {path: code for path, (code, _) in value.items()} if name == "recipients" else value
