"""What a server received, and what the client did wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Params: TypeAlias = Mapping[str, str | None]
"""ESMTP parameters: upper-case keyword to value, None where it has none."""


@dataclass(frozen=True, slots=True)
class ReceivedRecipient:
    """One accepted RCPT of a message, and what became of it at the end of data."""

    address: str
    """The forward-path without angle brackets."""
    params: Params
    reply: str
    """The reply that decided: one for all in SMTP, its own in LMTP (RFC 2033 4.2)."""

    @property
    def delivered(self) -> bool:
        """True where that reply is 2xx."""
        return self.reply.startswith("2")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that reached its end of data with at least one accepted recipient."""

    sender: str
    """The reverse-path without angle brackets; empty for the null path."""
    recipients: tuple[ReceivedRecipient, ...]
    params: Params
    """Parameters of MAIL."""
    content: bytes
    """The octets after the dots are unstuffed; empty where the server keeps none."""
    size: int
    """Octets of the content, kept or not."""
    wire_size: int
    """Octets as they crossed the wire, stuffing included, end of data not."""
    connection: int
    """Number of the connection, from 0."""
    transaction: int
    """Number of the MAIL command within its connection, from 0."""
    via: Literal["DATA", "BDAT"]
    tls: bool
    user: str | None
    """Who authenticated."""

    @property
    def addresses(self) -> list[str]:
        """Every accepted recipient, in the order of its RCPT."""
        return [recipient.address for recipient in self.recipients]

    @property
    def delivered(self) -> list[str]:
        """Those whose final reply is 2xx."""
        return [recipient.address for recipient in self.recipients if recipient.delivered]


@dataclass(slots=True)
class Connection:
    """One connection as the server saw it."""

    number: int
    commands: list[str] = field(default_factory=list)
    """Verbs in the order of their arrival."""
    transactions: int = 0
    tls: bool = False
    user: str | None = None
    ending: str = ""
    """How it ended: ``QUIT``, ``421``, ``cut`` (by the server) or ``eof`` (by the client)."""


class Ledger:
    """The books of one server; its methods may be called from any thread."""

    def __init__(self, *, keep: bool = True) -> None:
        """With ``keep=False`` contents and commands are counted, not stored."""
        self.keep = keep
        self.messages: list[ReceivedMessage] = []
        """What the server took responsibility for (for one recipient at least)."""
        self.refused: list[ReceivedMessage] = []
        """What it refused at the end of data, for every recipient."""
        self.breaches: list[str] = []
        """Each breach of the protocol by a client, in words."""
        self.connections: list[Connection] = []
        self._changed = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """How many messages were accepted, also where they are not kept."""
        return self._count

    @property
    def commands(self) -> list[list[str]]:
        """The verbs of every connection, in the order of their arrival."""
        with self._changed:
            return [list(connection.commands) for connection in self.connections]

    def open(self) -> Connection:
        """Enter a new connection."""
        with self._changed:
            connection = Connection(len(self.connections))
            self.connections.append(connection)
            self._changed.notify_all()
        return connection

    def command(self, connection: Connection, verb: str) -> None:
        """Enter a command."""
        if self.keep:
            with self._changed:
                connection.commands.append(verb)
                self._changed.notify_all()

    def breach(self, connection: Connection, text: str) -> None:
        """Enter a breach of the protocol."""
        with self._changed:
            self.breaches.append(f"connection {connection.number}: {text}")
            self._changed.notify_all()

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> str | None:
        """Asked with each message before its end is answered; None lets it be accepted.

        A server that stores messages answers here, such as ``"452 4.3.1 the disk is full"``.
        """
        return None

    def message(self, message: ReceivedMessage) -> None:
        """Enter a message that was accepted for at least one recipient, or for none."""
        accepted = any(recipient.delivered for recipient in message.recipients)
        with self._changed:
            self._count += accepted
            if self.keep:
                (self.messages if accepted else self.refused).append(message)
            self._changed.notify_all()

    def close(self, connection: Connection, ending: str) -> None:
        """Enter the end of a connection; the first cause stands."""
        with self._changed:
            connection.ending = connection.ending or ending
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``condition()`` is true, at most ``timeout`` seconds; False if it is not."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def assert_clean(self) -> None:
        """Raise ``AssertionError`` with every breach, if there is any."""
        with self._changed:
            if self.breaches:
                raise AssertionError("the client broke the protocol:\n" + "\n".join(self.breaches))
