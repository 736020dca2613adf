"""Samples that are made with Python's ``email``, as an application would make them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from email.headerregistry import Address, Group
from email.message import EmailMessage
from random import Random
from typing import Any, Final

ANN: Final = "Ann Archer <ann@example.org>"
BOB: Final = "Bob Baker <bob@example.net>"
MEGABYTE: Final = 1024 * 1024


def _message(subject: str, text: str = "Hello.\n", sender: object = ANN, to: object = BOB) -> EmailMessage:
    message = EmailMessage()
    message["Date"] = "Mon, 01 Jan 2024 12:00:00 +0000"
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message.set_content(text)
    return message


def _sample(
    content: EmailMessage, *recipients: str, sender: str = "ann@example.org", **more: Any
) -> dict[str, Any]:
    return {
        "content": content,
        "sender": sender,
        "recipients": recipients or ("bob@example.net",),
        **more,
    }


def _png(red: int, green: int, blue: int) -> bytes:
    """A picture of one colour, 16 by 16."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes((red, green, blue)) * 16) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def html_with_inline_images() -> dict[str, Any]:
    message = _message("Two pictures", "Two pictures: red and green.\n")
    message.add_alternative(
        '<p>Red <img src="cid:red"> and green <img src="cid:green"></p>\n', subtype="html"
    )
    html = message.get_payload(1)
    assert isinstance(html, EmailMessage)
    html.add_related(_png(255, 0, 0), "image", "png", cid="<red>", disposition="inline")
    html.add_related(_png(0, 255, 0), "image", "png", cid="<green>", disposition="inline")
    message.add_attachment(_png(0, 0, 255), "image", "png", filename="blue.png")
    return _sample(message)


def utf8_fields() -> dict[str, Any]:
    people = [Address("Зоя Иванова", "zoya", "example.net"), Address('Doe, "Jo" é', "jo", "example.com")]
    sender = Address("Jörg Müller-Lüdenscheidt", "ann", "example.org")
    message = _message("Grüße, 你好, привет, שלום, مرحبا 🙂 " * 3, sender=sender, to=people)
    return _sample(message, "zoya@example.net", "jo@example.com")


def smtputf8_addresses() -> dict[str, Any]:
    message = _message(
        "Mit Umlaut", sender="Jörg <jörg@bücher.example>", to="用户@例子.example, bob@example.net"
    )
    return _sample(message, "用户@例子.example", "bob@example.net", sender="jörg@bücher.example")


def idn_domains() -> dict[str, Any]:
    message = _message("Nur die Domain", sender="ann@bücher.example", to="Bob <bob@faß.example>")
    return _sample(message, "bob@faß.example", sender="ann@bücher.example")


def long_lines() -> dict[str, Any]:
    message = _message("One line of 12 KB")
    message.set_content("A line without end, " * 600 + "\n", cte="7bit")
    return _sample(message)


def eight_bit_object() -> dict[str, Any]:
    message = _message("8-bit where the server takes it")
    message.set_content("Grüße aus Köln.\n", cte="8bit")
    return _sample(message)


def groups_and_bcc() -> dict[str, Any]:
    friends = Group(
        "Friends", [Address("Bob", "bob", "example.net"), Address("Carol", "carol", "example.com")]
    )
    message = _message("To a group, and to somebody unseen", to=[friends, Group("Nobody")])
    message["Cc"] = "dave@example.com, bob@example.net"
    message["Bcc"] = "Eve <eve@example.com>"
    return _sample(message, "bob@example.net", "carol@example.com", "dave@example.com", "eve@example.com")


def many_recipients() -> dict[str, Any]:
    recipients = [f"member{number:03}@example.net" for number in range(200)]
    refused = recipients[::25]
    message = _message("To all members", to=", ".join(recipients))
    return _sample(message, *recipients, refused=refused)


def some_refused() -> dict[str, Any]:
    message = _message("Two of three", to="bob@example.net, no-such-user@example.net, carol@example.com")
    recipients = ("bob@example.net", "no-such-user@example.net", "carol@example.com")
    return _sample(message, *recipients, refused=["no-such-user@example.net"])


def attachment_of_5_mb() -> dict[str, Any]:
    message = _message("The film", "Five megabytes, as promised.\n")
    film = Random(5).randbytes(5 * MEGABYTE)
    message.add_attachment(film, "video", "mp4", filename="film.mp4")
    return _sample(message)


def utf8_file_names() -> dict[str, Any]:
    message = _message("Die Unterlagen")
    for name in (
        "Übersicht.pdf",
        "履歴書.pdf",
        'quote " and ; semicolon.pdf',
        "very long name ü " * 8 + ".pdf",
    ):
        message.add_attachment(b"%PDF-1.4\n", "application", "pdf", filename=name)
    return _sample(message)


def very_many_fields() -> dict[str, Any]:
    message = _message("A thousand fields")
    for number in range(1000):
        message[f"X-Field-{number}"] = f"value {number} " * 5
    return _sample(message)


def binary_part() -> dict[str, Any]:
    message = _message("Octets of every value")
    message.add_attachment(
        bytes(range(256)) * 8, "application", "octet-stream", filename="all.bin", cte="binary"
    )
    return _sample(message)


def forwarded_object() -> dict[str, Any]:
    inner = _message("Mit Anhang", "Grüße\n", sender="carol@example.com", to=ANN)
    inner.add_attachment("Spalte;Wert\r\nä;1\r\n", subtype="csv", filename="Tabelle.csv")
    message = _message("Fwd: Mit Anhang")
    message.add_attachment(inner)
    return _sample(message)


COMPOSED: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    make.__name__: make
    for make in (
        html_with_inline_images,
        utf8_fields,
        smtputf8_addresses,
        idn_domains,
        long_lines,
        eight_bit_object,
        groups_and_bcc,
        many_recipients,
        some_refused,
        attachment_of_5_mb,
        utf8_file_names,
        very_many_fields,
        binary_part,
        forwarded_object,
    )
}
