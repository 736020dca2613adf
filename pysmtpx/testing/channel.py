"""What the parts of a session share: its books, its state, and the one way to answer."""

from __future__ import annotations

from collections import Counter
from typing import Final

from .actions import Action, Close, Wait, Write, WriteSlowly
from .config import Config
from .ledger import Connection, Ledger
from .script import Answer, Cut, Drip, Event, Garbage, Stall, code, octets

_GROUPABLE: Final = frozenset({"MAIL", "RCPT", "RSET", "BDAT", "FINAL"})
"""What another command may follow in one group (RFC 2920 3.1); all else must be last."""


class Channel:
    """One connection's state, and the actions that answer it."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self.config = config
        self.ledger = ledger
        self.connection: Connection = ledger.open()
        self.actions: list[Action] = []
        self.offered: frozenset[str] = frozenset()
        """EHLO keywords of the last EHLO reply."""
        self.lines: list[str] = []
        """The lines of the last EHLO reply."""
        self.hello = ""
        """The verb that opened the session."""
        self.tls = False
        self.identity: str | None = config.external
        self.bindings: dict[str, bytes] = {}
        self.user: str | None = None
        self.unread: bool | None = None
        """Whether the client sent what comes next without reading every reply; None: unknown."""
        self.verb: str = ""
        """The command that is being judged."""
        self.last: str = "CONNECT"
        """What the last reply answered."""
        self.closed: str = ""
        """Why the server talks no more."""
        self._seen: Counter[str] = Counter()
        self._script = config.script
        self._is_scripted = bool(config.refuse or config.replies or config.verdict)

    @property
    def is_lmtp(self) -> bool:
        """True where the server speaks LMTP (RFC 2033)."""
        return self.config.protocol == "lmtp"

    @property
    def is_answered(self) -> bool:
        """True where the client certainly read every reply before it sent what comes next."""
        return self.unread is False or (self.unread is None and not self._may_be_pipelined)

    @property
    def _may_be_pipelined(self) -> bool:
        return self.last == "BODY" or ("PIPELINING" in self.offered and self.last in _GROUPABLE)

    def parameter(self, keyword: str) -> str:
        """What follows ``keyword`` in the EHLO reply; empty where nothing does."""
        if keyword in self.offered:
            for line in self.lines:
                name, _, value = line.partition(" ")
                if name.upper() == keyword:
                    return value
        return ""

    def thresholds(self) -> list[int]:
        """The octets of content at which the script has an answer."""
        return self._script.body_thresholds() if self._is_scripted else []

    def breach(self, text: str) -> None:
        """Enter a breach of the protocol that no server can pass over."""
        self.ledger.breach(self.connection, text)

    def lapse(self, text: str) -> None:
        """Enter what stock clients do: a breach, but not to a server that is lenient."""
        if not self.config.lenient:
            self.breach(text)

    def begin(self, verb: str) -> None:
        """Enter a command, and judge whether it may stand where it stands (RFC 2920 3.1)."""
        self.verb = verb
        self.ledger.command(self.connection, verb)
        if not self.unread:
            return
        if self.last not in _GROUPABLE:
            self.breach(f"{verb} was sent before the reply to {self.last} was read (RFC 2920 3.1)")
        elif "PIPELINING" not in self.offered:
            self.breach(f"{verb} is pipelined behind {self.last}, PIPELINING is not offered")

    def say(self, code: int, enhanced: str, text: str) -> bytes:
        """Build a reply of one line; the enhanced code only where it is offered (RFC 2034)."""
        if enhanced and "ENHANCEDSTATUSCODES" in self.offered:
            text = f"{enhanced} {text}"
        return f"{code} {text}\r\n".encode("utf-8", "surrogateescape")

    def reject(self, verb: str, code: int, enhanced: str, text: str) -> None:
        """Refuse a command that breaks the protocol: the client is told."""
        self.lapse(text)
        self.answer(verb, self.say(code, enhanced, text))

    def answer(self, verb: str, reply: bytes, *, address: str = "", index: int | None = None) -> bytes:
        """Answer as the script says, else with ``reply``; return the reply that counts."""
        number = self._seen[verb]
        self._seen[verb] = number + 1
        self.last, self.unread = verb, True
        if not self._is_scripted:
            return self._write(reply)
        transaction = max(0, self.connection.transactions - 1)
        position = number if index is None else index
        event = Event(verb, position, address, self.connection.number, transaction, reply)
        answer = self._script.answer(event)
        return self._write(reply) if answer is None else self._play(answer, reply)

    def interject(self, index: int) -> bool:
        """Ask the script for an answer amid the content; True where it had one."""
        transaction = self.connection.transactions - 1
        event = Event("BODY", index, "", self.connection.number, transaction, b"")
        answer = self._script.answer(event) if self._is_scripted else None
        if answer is None:
            return False
        self.last, self.unread = "BODY", True
        self._play(answer, b"")
        return True

    def close(self, why: str, *, reset: bool = False, orderly: bool = True) -> None:
        """Close the connection."""
        if not self.closed:
            self.closed = why
            self.ledger.close(self.connection, why)
            self.actions.append(Close(reset, orderly))

    def _write(self, reply: bytes) -> bytes:
        if reply:
            self.actions.append(Write(reply))
        if code(reply) == 421:
            self.close("421")
        return reply

    def _play(self, answer: Answer, default: bytes) -> bytes:
        if isinstance(answer, (str, bytes)):
            return self._write(octets(answer))
        if isinstance(answer, Garbage):
            self._write(answer.octets)
            return b""
        reply = default if answer.reply is None else octets(answer.reply)
        match answer:
            case Cut(after=after, reset=reset):
                self._write_part(reply[:after])
                self.close("cut", reset=reset, orderly=False)
            case Stall(seconds=seconds, after=after):
                self._stall(reply, seconds, after)
            case Drip(seconds=seconds):
                self.actions.append(WriteSlowly(reply, seconds))
        if code(reply) == 421:
            self.close("421")
        return reply

    def _stall(self, reply: bytes, seconds: float | None, after: int) -> None:
        self._write_part(reply[:after])
        self.actions.append(Wait(seconds))
        if seconds is None:
            self.closed = "stall"
        else:
            self._write_part(reply[after:])

    def _write_part(self, part: bytes) -> None:
        if part:
            self.actions.append(Write(part))
