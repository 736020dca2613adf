"""Mail of the kinds that people really send, to show and to try pysmtpx with.

Messages whose every octet matters are the ``*.eml`` files beside this one,
with their envelopes in ``envelopes.toml``. What is large, or is made with
Python's ``email`` as an application would make it, is made by ``composed.py``,
the same at each call.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from .composed import COMPOSED

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Sample:
    """One message with its envelope.

    ``content`` is octets, to be sent as they are, or a message object. A server
    is to refuse the recipients in ``refused``; no sample has one of them among
    those to be accepted.
    """

    name: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes | EmailMessage
    refused: frozenset[str] = frozenset()


def samples() -> list[Sample]:
    """All of them: the files by name, then the composed ones."""
    envelopes = tomllib.loads((HERE / "envelopes.toml").read_text("utf-8"))
    files = [_from_file(path, envelopes) for path in sorted(HERE.glob("*.eml"))]
    return files + [_composed(name) for name in COMPOSED]


def _from_file(path: Path, envelopes: dict[str, dict[str, Any]]) -> Sample:
    envelope = envelopes["default"] | envelopes.get(path.stem, {})
    return _sample(path.stem, content=path.read_bytes(), **envelope)


def _composed(name: str) -> Sample:
    return _sample(name, **COMPOSED[name]())


def _sample(
    name: str,
    *,
    sender: str,
    recipients: Sequence[str],
    content: bytes | EmailMessage,
    refused: Sequence[str] = (),
) -> Sample:
    return Sample(name, sender, tuple(recipients), content, frozenset(refused))
