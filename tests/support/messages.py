"""Messages to send, and a look at what would be sent."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message

from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.envelope import MailObject

NOTHING = Capabilities.none()
EIGHT = Capabilities({"8BITMIME": ()})
FULL = Capabilities({"8BITMIME": (), "SMTPUTF8": ()})


def octets(mail: MailObject) -> bytes:
    return b"".join(bytes(piece) for piece in mail.content.for_bdat())


def read(mail: MailObject) -> EmailMessage:
    return message_from_bytes(octets(mail), policy=policy.default)


def text(part: Message) -> str:
    content = part.get_content()  # type: ignore[attr-defined]
    return content.replace("\r\n", "\n") if isinstance(content, str) else content


def simple(**fields: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in ({"From": "a@x.org", "To": "b@x.org"} | fields).items():
        message[name.replace("_", "-")] = value
    message.set_content("Hello\n")
    return message


def legacy(*fields: tuple[str, str], body: str = "Hello\n") -> Message:
    message = Message()
    for name, value in fields or [("From", "a@x.org"), ("To", "b@x.org")]:
        message[name] = value
    message.set_payload(body)
    return message


def big_nested() -> EmailMessage:
    message = simple(Subject="Grüße", Bcc="c@x.org")
    message.set_content("Grüße\n", cte="8bit")
    message.add_alternative("<p>Grüße " + "x" * 2000, subtype="html", cte="8bit")
    message.add_attachment(b"\0\xff" * 100, maintype="application", subtype="octet-stream", cte="binary")
    message.add_attachment(simple(Subject="inner ü"))
    return message
