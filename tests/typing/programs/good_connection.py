"""One connection, with all that a server and a message can be given."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from email.message import EmailMessage
from pathlib import Path
from typing import Unpack

import pysmtpx
from pysmtpx import MailFromParams, RcptToParams, SendResult, Server


def token() -> str:
    return "t"


def to_our_relay(**options: Unpack[pysmtpx.ServerOptions]) -> pysmtpx.SmtpConnection:
    """Whoever wraps ``connect`` can pass on its options."""
    return pysmtpx.connect("mail.example.org", **options)


server = Server(
    "mail.example.org",
    587,
    protocol="smtp",
    tls="starttls",
    username="ann",
    token=token,
    auth=["XOAUTH2"],
    ssl_context=ssl.create_default_context(),
    local_hostname="client.example.org",
    source_address=("192.0.2.1", 0),
    connect_timeout=10,
    overlap=True,
)


class Ticket:
    """A mechanism of one's own: nothing has to be inherited."""

    name = "X-TICKET"
    reveals = False
    proves_server = False

    def dialogue(self, login: pysmtpx.SaslLogin) -> Generator[bytes | None, bytes, None]:
        challenge = yield None
        yield login.username.encode() + challenge


own: pysmtpx.SaslMechanism = Ticket()
by_ticket = Server("mail.example.org", username="ann", auth=own)
by_either = Server("mail.example.org", username="ann", password="secret", auth=["SCRAM-SHA-512", Ticket()])

other: Server = Server.from_url("smtps://mail.example.org", port=2465, connect_timeout=5.0)
third: Server = other.replace(host="mx.example.org", tls="none")
kept: tuple[str, int, bool] = (third.host, third.port, third.is_local)

message = EmailMessage()
message["From"] = "ann@example.org"
message["To"] = "bob@example.org"
message.set_content("Hello.")

with pysmtpx.connect(server) as smtp:
    result: SendResult = smtp.send_message(message, timeout=60, all_or_nothing=True)
    for refused in result.rejected_recipients:
        print(refused.recipient, refused.reply.code, refused.reply.enhanced)
    smtp.send("ann@example.org", ["bob@example.org"], b"Subject: Hi\r\n\r\n")
    with Path("message.eml").open("rb") as file:
        smtp.send_message(
            file,
            sender="",
            recipients="bob@example.org",
            mail_params=MailFromParams(ret="HDRS", envid="1"),
            rcpt_params=[RcptToParams(notify="FAILURE")],
        )
    for outcome in smtp.send_many([message, message], in_flight=2):
        if outcome.error is not None:
            print(outcome.status, outcome.error.safe_to_retry, outcome.unsent_recipients)
    code: int = smtp.noop(timeout=1).code

with to_our_relay(username="ann", password="secret") as smtp:
    print(smtp.capabilities.size_limit, smtp.capabilities.smtputf8, smtp.protocol is pysmtpx.Protocol.SMTP)

with pysmtpx.connect(Path("/run/dovecot/lmtp"), protocol="lmtp") as lmtp:
    lmtp.send_lmtp("ann@example.org", "bob@example.org", [b"Subject: Hi\r\n", b"\r\n"])

try:
    pysmtpx.connect("smtp://mail.example.org", 25, tls="opportunistic").quit(timeout=1)
except pysmtpx.AuthenticationError as error:
    print(error.reply, error.temporary, error.stage is pysmtpx.Stage.AUTH)
except pysmtpx.SmtpError as error:
    print(error.rejected_recipients, error.unknown_recipients)
