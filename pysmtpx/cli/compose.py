"""The arguments that a message is made from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError


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


def html_of(arguments: argparse.Namespace) -> str | None:
    """The HTML of the message."""
    return load(arguments.html_file).decode("utf-8", "replace") if arguments.html_file else None


def attachments_of(arguments: argparse.Namespace) -> list[tuple[str, bytes]]:
    """The files of the message as ``compose`` takes them, read once for all messages of a run."""
    return [(Path(path).name, load(path)) for path in arguments.attach]


def with_headers(lines: Sequence[str]) -> dict[str, Any]:
    """What ``--header`` says as arguments of ``compose``, one of which Reply-To has for itself."""
    fields = [_field(line) for line in lines]
    reply_to = [value for name, value in fields if name.lower() == "reply-to"]
    return {"reply_to": reply_to, "headers": [each for each in fields if each[0].lower() != "reply-to"]}


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise InputError(f"a header is 'Name: value', not {line[:80]!r}")
    return name.strip(), value.strip()
