"""``pysmtpx sink``: a mail server for development that takes any mail, delivers none, and shows it."""

from __future__ import annotations

import argparse
import contextlib
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import ConnectError, InputError
from ..testing import MailServer
from ..wire.limits import Stage
from . import flags
from .exits import Exit
from .inbox import Inbox, Letter
from .show import Show
from .web import Page

_KEPT: Final = 500
_WEB_PORT: Final = 8025
_GRACE: Final = 5.0
"""Seconds for the clients to be told, and to say QUIT."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known."""
    parser = commands.add_parser(
        "sink", help="take any mail, deliver none, and show it: in the terminal, as files, on a web page"
    )
    parser.add_argument("--port", type=flags.port, default=1025, help="of the mail server; 0 is any free one")
    parser.add_argument("--lmtp", action="store_true", help="speak LMTP")
    parser.add_argument(
        "--web-port", type=flags.port, help=f"of the web page ({_WEB_PORT}); 0 is any free one"
    )
    parser.add_argument("--no-web", action="store_true", help="no web page")
    parser.add_argument("--folder", metavar="DIR", help="write each message there as a file .eml")
    parser.add_argument("--keep", type=flags.count, default=_KEPT, help=f"messages kept in memory ({_KEPT})")
    parser.add_argument(
        "--refuse", metavar="ADDRESS", action="append", default=[], help="answer 550 to this recipient"
    )
    parser.add_argument(
        "--certificate",
        metavar="FILE",
        help="offer STARTTLS with this certificate (PEM, its chain behind it)",
    )
    parser.add_argument("--key", metavar="FILE", help="PEM file with its key, if that is another file")
    parser.add_argument("--tls", choices=["starttls", "implicit"], help="with --certificate (starttls)")
    parser.add_argument(
        "--account",
        metavar="NAME:PASSWORD",
        action="append",
        default=[],
        help="demand a log-in; for this account, which is no secret: arguments can be seen by everybody here",
    )
    parser.add_argument("--stop-after", metavar="COUNT", type=flags.count, help="end after so many messages")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, show: Show) -> Exit:
    """Serve until an interrupt, or until so many messages came."""
    if arguments.port and arguments.port == arguments.web_port:
        raise InputError("--port and --web-port are one port: mail and pages need one each")
    folder = None if arguments.folder is None else _folder(arguments.folder)
    told = threading.Lock()
    enough = threading.Event()

    def arrived(letter: Letter) -> None:
        with told:
            _tell(letter, show)
        if folder is not None:
            (folder / f"{letter.arrived:%Y%m%d-%H%M%S}-{letter.number:06}.eml").write_bytes(
                letter.received.content
            )
        if arguments.stop_after is not None and letter.number >= arguments.stop_after:
            enough.set()

    inbox = Inbox(arguments.keep, arrived)
    with _serving(arguments, inbox) as server, _page(arguments, inbox) as page, _ended_by_signals(enough):
        where = {"mail": server.url, "web": page}
        show.value(where)
        show.line(f"Mail to   {server.url}", "bold")
        show.line(f"See it at {page}" if page else "No web page", "bold")
        # In short waits: on some systems a signal does not end a long one.
        while not enough.wait(0.5):
            pass
        if arguments.stop_after is not None and inbox.taken >= arguments.stop_after:
            # The last message is entered before its client is told that it was taken.
            inbox.wait_for_ends(_GRACE)
    return Exit.ACCEPTED


def _folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be a folder: {error.strerror}") from error
    return folder


def _context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if not arguments.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(arguments.certificate, arguments.key)
    except OSError as error:
        raise InputError(f"the certificate cannot be loaded: {error}") from error
    return context


def _accounts(given: list[str]) -> dict[str, str]:
    accounts: dict[str, str] = {}
    for each in given:
        name, colon, password = each.partition(":")
        if not (name and colon):
            raise InputError("an account is NAME:PASSWORD")
        if accounts.setdefault(name, password) != password:
            raise InputError(f"--account gives {name} two passwords: which one is meant?")
    return accounts


@contextlib.contextmanager
def _serving(arguments: argparse.Namespace, inbox: Inbox) -> Iterator[MailServer]:
    server = MailServer(
        protocol="lmtp" if arguments.lmtp else "smtp",
        port=arguments.port,
        ssl_context=_context(arguments),
        tls=arguments.tls,
        strict=False,
        lenient=True,
        users=_accounts(arguments.account),
        require_auth=bool(arguments.account),
        refuse=dict.fromkeys(arguments.refuse, "550 5.1.1 refused by --refuse"),
    )
    server.ledger = inbox
    try:
        server.start()
    except OSError as error:
        raise _taken("--port", arguments.port, error) from error
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def _page(arguments: argparse.Namespace, inbox: Inbox) -> Iterator[str | None]:
    if arguments.no_web:
        yield None
        return
    port = _WEB_PORT if arguments.web_port is None else arguments.web_port
    try:
        page = Page(inbox, port)
    except OSError as error:
        raise _taken("--web-port", port, error) from error
    with page:
        yield page.url


def _taken(option: str, port: int, error: OSError) -> ConnectError:
    text = (
        f"port {port} cannot be listened on ({error.strerror}): give another by {option}, 0 is any free one"
    )
    return ConnectError(text, stage=Stage.CONNECT)


@contextlib.contextmanager
def _ended_by_signals(enough: threading.Event) -> Iterator[None]:
    """An interrupt is how a sink is ended, so it is no failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        enough.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(letter: Letter, show: Show) -> None:
    show.value(letter.summary())
    to = ", ".join(letter.received.addresses)
    show.line(f"{letter.arrived:%H:%M:%S}  #{letter.number}  {letter.author} → {to}")
    show.line(f"          {letter.subject or '(no subject)'}  ({letter.received.size} octets)", "cyan")
