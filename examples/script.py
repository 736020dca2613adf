"""A script that sends by ``smtplib``, with one line changed. It starts the server that it sends to.

python examples/script.py
"""

from __future__ import annotations

import sys
from email.message import EmailMessage

import pysmtpx.smtplib as smtplib  # this line was `import smtplib`
from pysmtpx.testing import Cut, Event, MailServer

ACCOUNT = ("ann", "päßwort")
ROBOT = "robot@example.org"


def main(host: str, port: int) -> None:
    """What such scripts do: connect, log in, send, look at who was refused."""
    message = EmailMessage()
    message["From"], message["To"] = ROBOT, "bob@example.com, gone@example.com, eve@bücher.example"
    message["Subject"] = "The nightly report"
    message.set_content("Grüße, and nothing to report.\n")

    with smtplib.SMTP(host, port, timeout=30) as smtp:
        code, _ = smtp.login(*ACCOUNT)
        print(f"logged in: {code}")
        refused = smtp.send_message(message)
        for address, (code, text) in refused.items():
            print(f"refused: {address}: {code} {text.decode()}")
        try:
            smtp.sendmail(ROBOT, ["gone@example.com"], b"Subject: again\r\n\r\n")
        except smtplib.SMTPRecipientsRefused as error:
            print(f"refused, all: {', '.join(error.recipients)}")
        refused = smtp.sendmail(ROBOT, ["bob@example.com"], b"Subject: still usable\r\n\r\n")
        print(f"sent, refused: {refused}")

    smtp = smtplib.SMTP(host, port, timeout=30)
    try:
        smtp.login(*ACCOUNT)
        smtp.sendmail(ROBOT, ["doubt@example.com"], b"Subject: in doubt\r\n\r\n")
    except smtplib.SMTPServerDisconnected as error:
        print(f"nobody knows: {', '.join(error.unknown_recipients)}")  # perhaps delivered: do not send again


def hang_up(event: Event) -> Cut | None:
    """Close where the message in doubt is answered."""
    return Cut() if event.verb == "FINAL" and event.connection == 1 else None


if __name__ == "__main__":
    refuse = {"gone@example.com": "550 5.1.1 no such user"}
    users = dict([ACCOUNT])
    with MailServer(users=users, refuse=refuse, verdict=hang_up) as server:
        main(server.host, server.port)
    for received in server.messages:
        print(f"received: {received.content.partition(b'Subject: ')[2].splitlines()[0].decode()}", end=" ")
        print(f"for {', '.join(received.delivered)}")
    sys.exit(len(server.messages) != 3)
