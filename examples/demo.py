"""Send the sample mail through a pool to an embedded server, in clear and over TLS, and check what arrived.

Then send a thousand small messages by the pool and by ``smtplib``, and tell the
rates; kill a worker that has a journal, and compare accounts; and show the
commands ``pysmtpx check``, ``sink`` and ``send``. Run by ``make demo``. It
starts the servers on loopback, ends them, and leaves nothing behind.
"""

from __future__ import annotations

import email
import smtplib
import ssl
import subprocess
import sys
import time
from concurrent.futures import Future
from email.message import EmailMessage
from email.policy import SMTP

import killed_worker
import trustme
from rich.console import Console
from rich.progress import track
from rich.table import Table
from samples import Sample, samples

import pysmtpx
from pysmtpx.cli.main import main as pysmtpx_command
from pysmtpx.testing import MailServer, ReceivedMessage

REFUSAL = "550 5.1.1 no such user here"
COUNT = 1000
SMALL = b"Subject: small\r\n\r\n" + (b"x" * 70 + b"\r\n") * 56
console = Console()


def main() -> int:
    """Send everything twice; the number of messages that did not arrive as they were sent."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    refuse = {address: REFUSAL for sample in samples() for address in sample.refused}
    wrong = 0
    for title, options in (("in clear", {}), ("over TLS", {"ssl_context": context, "tls": "implicit"})):
        with MailServer(refuse=refuse, **options) as server, _pool(server, authority) as pool:
            wrong += _send_all(title, server, pool)
    _race()
    wrong += killed_worker.main(console)
    wrong += _commands(authority, context)
    console.print("every message arrived as it was sent" if not wrong else f"{wrong} messages went wrong")
    return wrong


def _pool(server: MailServer, authority: trustme.CA) -> pysmtpx.SmtpPool:
    if not server.url.startswith("smtps"):
        return pysmtpx.SmtpPool(server.url)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return pysmtpx.SmtpPool(server.url, ssl_context=context)


def _send_all(title: str, server: MailServer, pool: pysmtpx.SmtpPool) -> int:
    start = time.perf_counter()
    futures = [(sample, _submit(pool, sample)) for sample in samples()]
    table = Table(title=f"{len(futures)} messages {title}")
    for column in ("message", "accepted", "refused", "octets", "what the server said"):
        table.add_column(column, justify="right" if column in ("accepted", "refused", "octets") else "left")
    wrong = 0
    for sample, future in track(futures, f"sending {title}", console=console):
        wrong += _tell(table, sample, future.result(), server.messages)
    elapsed = time.perf_counter() - start
    console.print(table)
    console.print(f"{pool}: {len(futures) / elapsed:.0f} messages a second, checked octet by octet\n")
    return wrong


def _submit(pool: pysmtpx.SmtpPool, sample: Sample) -> Future[pysmtpx.SendResult]:
    if isinstance(sample.content, bytes):
        return pool.submit(pysmtpx.MailObject(sample.sender, sample.recipients, sample.content))
    return pool.submit(sample.content, sender=sample.sender, recipients=sample.recipients)


def _tell(table: Table, sample: Sample, result: pysmtpx.SendResult, received: list[ReceivedMessage]) -> bool:
    problems = [_problem(sample, result, message) for message in received]
    found = "" in problems
    said = result.rejected_recipients[0].reply if result.rejected_recipients else result.reply
    table.add_row(
        sample.name,
        str(len(result.accepted_recipients)),
        str(len(result.rejected_recipients)),
        f"{received[problems.index('')].size:,}" if found else "",
        str(said) if found else "NOT WHAT WAS SENT",
    )
    return not found


def _race() -> None:
    """Small messages by the pool and by smtplib, to the same server, one after the other."""
    mails = [pysmtpx.MailObject("ann@example.org", "bob@example.com", SMALL) for _ in range(COUNT)]
    with MailServer(keep=False) as server, pysmtpx.SmtpPool(server.url, max_connections=1) as pool:
        start = time.perf_counter()
        outcomes = track(pool.send_many(mails), "by the pool", total=COUNT, console=console)
        accepted = sum(outcome.status == "accepted" for outcome in outcomes)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        with smtplib.SMTP(server.host, server.port) as client:
            for _ in track(range(COUNT), "by smtplib", console=console):
                client.sendmail("ann@example.org", ["bob@example.com"], SMALL)
        theirs = time.perf_counter() - start
    table = Table(title=f"{accepted} messages of 4 KB, one connection, the embedded server")
    for column in ("", "messages a second", "pysmtpx is"):
        table.add_column(column, justify="right")
    table.add_row("pysmtpx", f"{COUNT / ours:,.0f}", "")
    table.add_row("smtplib", f"{COUNT / theirs:,.0f}", f"{theirs / ours:.2f} ×")
    console.print(table)


def _commands(authority: trustme.CA, context: ssl.SSLContext) -> int:
    """The command line: a server is looked at, and a message goes into a sink; how many commands failed."""
    failed = 0
    with authority.cert_pem.tempfile() as roots, MailServer(ssl_context=context) as server:
        place = f"smtp://localhost:{server.port}"
        failed += _command("check", place, "--tls", "starttls", "--ca-file", roots, "--to", "bob@example.com")
    command = [sys.executable, "-m", "pysmtpx", "sink", "--port", "0", "--web-port", "0", "--stop-after", "1"]
    console.rule("pysmtpx sink")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as sink:
        assert sink.stdout is not None
        mail, page = sink.stdout.readline(), sink.stdout.readline()
        console.print(mail + page, end="")
        envelope = ("--from", "ann@example.org", "--to", "bob@example.com")
        failed += _command("send", mail.split()[-1], *envelope, "--subject", "Hello", "--body", "Hi.")
        console.rule("what the sink says")
        console.print(sink.stdout.read(), markup=False)
    return failed + bool(sink.returncode)


def _command(*arguments: str) -> bool:
    console.rule(f"pysmtpx {arguments[0]}")
    return bool(pysmtpx_command(arguments))


def _problem(sample: Sample, result: pysmtpx.SendResult, received: ReceivedMessage) -> str:
    """What is wrong with what the server got, or nothing."""
    refused = {r.recipient for r in result.rejected_recipients}
    if refused != sample.refused:
        return f"refused {refused}, expected {set(sample.refused)}"
    if received.sender != str(pysmtpx.ReversePath(sample.sender).wire[1:-1]):
        return f"the server has the sender {received.sender!r}"
    wanted = [pysmtpx.ForwardPath(p).wire[1:-1] for p in sample.recipients if p not in refused]
    if received.delivered != wanted:
        return "the server has other recipients"
    same = _same_octets if isinstance(sample.content, bytes) else _same_message
    return "" if same(sample.content, received.content) else "THE CONTENT IS NOT WHAT WAS SENT"  # type: ignore[arg-type]


def _same_octets(sent: bytes, received: bytes) -> bool:
    """The same octets, once every line end is CRLF and the last line has one."""
    lines = sent.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return received == lines or received == lines + b"\r\n"


def _same_message(sent: EmailMessage, received: bytes) -> bool:
    """The same parts with the same decoded content; header fields may be added, Bcc is gone."""
    got = email.message_from_bytes(received, policy=SMTP)
    ours, theirs = ([_part(p) for p in message.walk()] for message in (sent, got))
    return ours == theirs and "bcc" not in got and str(got["subject"]).strip() == str(sent["subject"]).strip()


def _part(part: EmailMessage) -> tuple[str, object, bytes | None]:
    payload = part.get_payload(decode=True)
    content = payload.replace(b"\r\n", b"\n").rstrip(b"\n") if isinstance(payload, bytes) else None
    return part.get_content_type(), part.get_filename(), content


if __name__ == "__main__":
    sys.exit(main())
