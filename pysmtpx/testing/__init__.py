"""An SMTP and LMTP server for tests: scripted, strict if you like, and inside your process.

::

    with MailServer(lenient=True, refuse={"bob@x.example": "550 5.1.1 unknown"}) as server:
        with smtplib.SMTP(server.host, server.port) as client:
            client.sendmail("ann@x.example", ["cid@x.example", "bob@x.example"], "Subject: hi")
        (message,) = server.wait_for(1)
        assert message.delivered == ["cid@x.example"]

Without ``lenient`` every breach of the protocol by the client fails the block,
and ``smtplib`` breaks it now and then. With pytest there is the fixture
``mail_server``. ``ServerSession`` is the same server without sockets and threads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .actions import Action, Close, StartTls, Wait, Write, WriteSlowly
    from .config import EXTENSIONS, MECHANISMS, Config
    from .ledger import Connection, Ledger, ReceivedMessage, ReceivedRecipient
    from .protocol import ServerSession
    from .script import Cut, Drip, Event, Garbage, Stall
    from .server import MailServer
    from .serving import Line as Line  # of a server without a listener: ``development``
    from .serving import Serving as Serving

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

_HOMES: Final = {
    "Action": "actions",
    "Close": "actions",
    "Config": "config",
    "Connection": "ledger",
    "Cut": "script",
    "Drip": "script",
    "EXTENSIONS": "config",
    "Event": "script",
    "Garbage": "script",
    "Ledger": "ledger",
    "Line": "serving",
    "MECHANISMS": "config",
    "MailServer": "server",
    "ReceivedMessage": "ledger",
    "ReceivedRecipient": "ledger",
    "ServerSession": "protocol",
    "Serving": "serving",
    "Stall": "script",
    "StartTls": "actions",
    "Wait": "actions",
    "Write": "actions",
    "WriteSlowly": "actions",
}
"""Where each name lives. It is loaded when it is first asked for (PEP 562): pytest loads the plugin, and so
this package, at every start of every project that has pysmtpx among its dependencies."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
