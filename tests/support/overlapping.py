"""Servers that break on an envelope behind an end of data, each in the way of a real one."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field

from support.scripted import Peer

PATIENCE = 0.05
"""Seconds in which what the client wrote together has arrived."""


@dataclass
class Broken:
    """A script for ``ScriptedServer``; ``delivered`` has each content, by whatever connection it came.

    ``how`` is ``"refuses"``: 503 to each command that is there (Haraka); ``"swallows"``: it is dropped
    (Courier, chasquid); ``"dies"``: the connection ends, with the message before in doubt (Dovecot's
    submission service); ``"leaves"``: it ends once that one was accepted; ``"reads on"``: the envelope is
    taken for content of the message before (Net::Server::Mail); ``"garbles"``: an answer that is no reply.
    """

    how: str
    delivered: list[bytes] = field(default_factory=list)
    overlapped: int = 0
    """Envelopes that came behind an end of data."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        """Serve one connection."""
        peer.greet("PIPELINING")
        while True:
            verb = peer.line().split(b" ")[0].upper()
            if verb == b"QUIT":
                peer.say(b"221 2.0.0 bye\r\n")
                return
            if verb != b"DATA":
                peer.say(b"250 2.0.0 ok\r\n")
                continue
            peer.say(b"354 go ahead\r\n")
            content = peer.content()
            behind = self._behind(peer)
            with self._lock:
                self.overlapped += bool(behind)
                if behind and self.how == "reads on":
                    content += b".\r\n" + behind
                self.delivered.append(content)
            if not behind:
                peer.say(b"250 2.0.0 kept\r\n")
            elif self._breaks(peer, behind):
                return

    def _behind(self, peer: Peer) -> bytes:
        """What came with the end of data; it is taken from what is still to be read."""
        patience = peer.sock.gettimeout()
        peer.sock.settimeout(PATIENCE)
        with contextlib.suppress(TimeoutError):
            peer.take(1)
            peer._read -= 1
        peer.sock.settimeout(patience)
        behind = bytes(peer.received[peer._read :])
        peer._read = len(peer.received)
        return behind

    def _breaks(self, peer: Peer, behind: bytes) -> bool:
        """Do what this server does; whether the connection ends with it."""
        if self.how == "dies":
            return True
        peer.say(b"250 2.0.0 kept\r\n")
        if self.how == "refuses":
            peer.say(b"503 5.5.1 not now\r\n" * behind.count(b"\r\n"))
        elif self.how == "garbles":
            peer.say(b"what?\r\n")
        return self.how == "leaves"


HOW = ("refuses", "swallows", "dies", "leaves", "reads on", "garbles")
