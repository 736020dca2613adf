"""Send the sample mail to an embedded server, in clear and over TLS, and check what arrived.

Run by ``make demo``. It starts the server on loopback, ends it, and leaves nothing behind.
"""

from __future__ import annotations

import email
import sys
import time
from email.message import EmailMessage
from email.policy import SMTP

import trustme
from samples import Sample, samples

import pysmtpx
from pysmtpx.testing import MailServer, ReceivedMessage

REFUSAL = "550 5.1.1 no such user here"


def main() -> int:
    """Send everything twice; the number of messages that did not arrive as they were sent."""
    authority = trustme.CA()
    context = _server_context(authority)
    wrong = 0
    for title, options in (("in clear", {}), ("over TLS", {"ssl_context": context, "tls": "implicit"})):
        refuse = {address: REFUSAL for sample in samples() for address in sample.refused}
        with MailServer(refuse=refuse, **options) as server:
            wrong += _send_all(title, server, authority)
    print("every message arrived as it was sent" if not wrong else f"{wrong} messages went wrong")
    return wrong


def _server_context(authority: trustme.CA):  # type: ignore[no-untyped-def]
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def _connect(server: MailServer, authority: trustme.CA) -> pysmtpx.SmtpConnection:
    import ssl

    if not server.url.startswith("smtps"):
        return pysmtpx.connect(server.url)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return pysmtpx.connect(server.url, ssl_context=context)


def _send_all(title: str, server: MailServer, authority: trustme.CA) -> int:
    wrong = 0
    with _connect(server, authority) as smtp:
        print(f"\n{smtp}: {len(samples())} messages {title}\n")
        print(
            f"{'message':28}{'accepted':>9}{'refused':>8}{'octets':>11}{'trips':>6}{'ms':>8}  server's reply"
        )
        for sample in samples():
            wrong += _send_one(smtp, server, sample)
    return wrong


def _send_one(smtp: pysmtpx.SmtpConnection, server: MailServer, sample: Sample) -> bool:
    trips, start = smtp.round_trips, time.perf_counter()
    if isinstance(sample.content, bytes):
        result = smtp.send(sample.sender, sample.recipients, sample.content)
    else:
        result = smtp.send_message(sample.content, sender=sample.sender, recipients=sample.recipients)
    elapsed, trips = time.perf_counter() - start, smtp.round_trips - trips
    received = server.messages[-1]
    problem = _problem(sample, result, received)
    refused = result.rejected_recipients
    print(
        f"{sample.name:28}{len(result.accepted_recipients):9}{len(refused):8}{received.size:11,}{trips:6}"
        f"{elapsed * 1000:8.1f}  {problem or refused[0].reply if refused else problem or result.reply}"
    )
    return bool(problem)


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
