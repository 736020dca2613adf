"""Talk to the embedded server without a socket."""

from __future__ import annotations

from typing import Any

from pysmtpx.testing import Action, Config, Ledger, ServerSession, Write, WriteSlowly


def written(actions: list[Action]) -> bytes:
    """Return the octets that the actions put on the wire."""
    return b"".join(action.octets for action in actions if isinstance(action, Write | WriteSlowly))


class Talk:
    """A session and its ledger; the greeting and EHLO (or LHLO) are behind it unless told otherwise."""

    def __init__(self, *, hello: bool = True, keep: bool = True, **options: Any) -> None:
        self.ledger = Ledger(keep=keep)
        self.session = ServerSession(Config(**options), self.ledger)
        self.greeting = written(self.session.greeting())
        if hello:
            verb = b"LHLO" if options.get("protocol") == "lmtp" else b"EHLO"
            self.hello = self.say(verb + b" client.example")

    def say(self, *lines: bytes) -> bytes:
        """Send each line after the reply to the one before was read; return all replies."""
        return b"".join(self.send(line + b"\r\n") for line in lines)

    def group(self, *lines: bytes) -> bytes:
        """Send the lines as one group."""
        return self.send(b"".join(line + b"\r\n" for line in lines))

    def send(self, octets: bytes, *, unread: bool | None = False) -> bytes:
        """Send octets as they are."""
        return written(self.session.receive(octets, unread=unread))

    def start_tls(self, identity: str | None = None, binding: bytes | None = None) -> None:
        """Do STARTTLS, and EHLO again."""
        assert self.say(b"STARTTLS").startswith(b"220")
        self.session.tls_started(identity, binding)
        self.hello = self.say(b"EHLO client.example")

    def codes(self, *lines: bytes) -> list[int]:
        """Send each line on its own and return the codes of the replies."""
        return codes(self.say(*lines))

    @property
    def breaches(self) -> list[str]:
        """What the ledger has, without the number of the connection."""
        return [breach.partition(": ")[2] for breach in self.ledger.breaches]


def codes(replies: bytes) -> list[int]:
    """Return the code of each reply, by its last line."""
    return [int(line[:3]) for line in replies.splitlines() if line[3:4] != b"-"]
