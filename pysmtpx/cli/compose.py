"""A message made from arguments."""

from __future__ import annotations

import argparse
import mimetypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that goes with a message."""

    name: str
    kind: str
    content: bytes

    @classmethod
    def of(cls, path: str) -> Self:
        """A file of this machine; its suffix tells its kind."""
        kind, encoding = mimetypes.guess_type(path)
        if kind is None or encoding or kind.startswith(("message/", "multipart/")):
            kind = "application/octet-stream"
        return cls(Path(path).name, kind, load(path))


def add_content(parser: argparse.ArgumentParser) -> None:
    """The arguments that a message is made from."""
    content = parser.add_argument_group("message")
    content.add_argument("--from", dest="sender", metavar="ADDRESS")
    content.add_argument("--subject", default="")
    content.add_argument("--body", metavar="TEXT", default="")
    content.add_argument("--body-file", metavar="FILE", help="- is standard input")
    content.add_argument("--html-file", metavar="FILE")
    content.add_argument("--header", metavar="'NAME: VALUE'", action="append", default=[])
    content.add_argument("--attach", metavar="FILE", action="append", default=[])


def load(path: str) -> bytes:
    """The octets of a file; - is standard input. Raises ``InputError``."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def text_of(arguments: argparse.Namespace) -> str:
    """The text of the message."""
    if arguments.body_file:
        return load(arguments.body_file).decode("utf-8", "replace")
    text: str = arguments.body
    return text


def compose(
    sender: str,
    subject: str,
    text: str,
    html: str | None,
    headers: Sequence[str],
    attached: Sequence[Attached],
) -> EmailMessage:
    """A message but for its recipients. Raises ``InputError`` for a header that cannot be right."""
    message = EmailMessage()
    try:
        message["From"] = sender
        message["Subject"] = subject
        for header in headers:
            name, colon, value = header.partition(":")
            if not colon:
                raise InputError(f"a header is 'Name: value', not {header[:80]!r}")
            message[name.strip()] = value.strip()
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"a header cannot be right: {error}") from error
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    for each in attached:
        main, _, sub = each.kind.partition("/")
        message.add_attachment(each.content, maintype=main, subtype=sub, filename=each.name)
    return message
