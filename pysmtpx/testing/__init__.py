"""An SMTP and LMTP server for tests: strict, scripted, and inside your process.

::

    with MailServer(refuse={"bob@x.example": "550 5.1.1 unknown"}) as server:
        with smtplib.SMTP(server.host, server.port) as client:
            client.sendmail("ann@x.example", ["cid@x.example", "bob@x.example"], "Subject: hi")
        (message,) = server.wait_for(1)
        assert message.delivered == ["cid@x.example"]

Every breach of the protocol by the client fails the block. ``ServerSession``
is the same server without sockets and threads.
"""

from __future__ import annotations

from .actions import Action, Close, StartTls, Wait, Write, WriteSlowly
from .config import EXTENSIONS, MECHANISMS, Config
from .ledger import Connection, Ledger, ReceivedMessage, ReceivedRecipient
from .protocol import ServerSession
from .script import Cut, Drip, Event, Garbage, Stall
from .server import MailServer

__all__ = [
    "EXTENSIONS",
    "MECHANISMS",
    "Action",
    "Close",
    "Config",
    "Connection",
    "Cut",
    "Drip",
    "Event",
    "Garbage",
    "Ledger",
    "MailServer",
    "ReceivedMessage",
    "ReceivedRecipient",
    "ServerSession",
    "Stall",
    "StartTls",
    "Wait",
    "Write",
    "WriteSlowly",
]
