"""Servers of this process: mail into memory, a Maildir, the terminal, or nowhere.

::

    from pysmtpx.development import mailbox

    with pysmtpx.SmtpPool("memory://shop") as pool:
        pool.send_message(message)
    (received,) = mailbox("shop").messages

Each connection is a pair of sockets with the server of ``pysmtpx.testing`` at its other end, so every rule of
the protocol holds: what could not be stored is refused, and never said to be accepted.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from .cli.inbox import read_letter
from .embedded import checked
from .errors import ConnectError
from .mime.words import decoded
from .net.dial import Keep
from .testing import Config, Connection, Ledger, Line, ReceivedMessage, Serving
from .wire.limits import Stage

__all__ = ["Mailbox", "mailbox"]

_MOST_MESSAGES: Final = 1000
_MOST_OCTETS: Final = 64 * 1024 * 1024
"""Of one message, and of all messages in one ``Mailbox``."""
_EXTENSIONS: Final = (
    "PIPELINING",
    f"SIZE {_MOST_OCTETS}",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "DSN",
    "ENHANCEDSTATUSCODES",
)
_CONFIG: Final = Config(name="localhost", extensions=_EXTENSIONS, lenient=True, local_mailboxes=True)
_FIELDS: Final = ("from", "to", "cc", "reply-to", "subject", "date", "message-id")
"""Those that the console shows."""
_LINE: Final = Line(
    ssl_context=None, binding=None, implicit=False, delay=0.0, read_size=64 * 1024, read_delay=0.0
)
_deliveries: Final = itertools.count()
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def mailbox(name: str = "") -> Mailbox:
    """The messages that were sent to ``memory://name`` in this process; it need not have been used yet.

    Raises ``InputError`` for what is no such name.
    """
    place = checked(name if "://" in name else f"memory://{name}")
    found: Mailbox = _stores.of(place).mailbox
    return found


# Where messages go.


class _Store(Ledger):
    """What one embedded server does with messages. It keeps no books, and clients may do as they like."""

    def __init__(self, *, keep: bool = True) -> None:
        super().__init__(keep=keep)
        self._opened = itertools.count()

    def open(self) -> Connection:
        """A new connection."""
        return Connection(next(self._opened))

    def after_fork(self) -> None:
        """In a child: other locks."""

    def command(self, connection: Connection, verb: str) -> None:
        """Not kept."""

    def breach(self, connection: Connection, text: str) -> None:
        """Not kept."""

    def message(self, message: ReceivedMessage) -> None:
        """Not kept."""

    def close(self, connection: Connection, ending: str) -> None:
        """Not kept."""


class Mailbox:
    """What was sent to one ``memory://`` server, the latest 1,000 messages and 64 MiB; safe in any thread.

    A child of ``os.fork`` begins with what its parent has, and then has its own.
    """

    def __init__(self) -> None:
        self._kept: deque[ReceivedMessage] = deque()
        self._octets = 0
        self._dropped = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Another lock: whoever held this one is not here."""
        self._arrival = threading.Condition()

    @property
    def messages(self) -> list[ReceivedMessage]:
        """Those that are kept, the oldest first."""
        with self._arrival:
            return list(self._kept)

    @property
    def dropped(self) -> int:
        """How many were taken and are kept no more, since others came."""
        return self._dropped

    def __len__(self) -> int:
        return len(self._kept)

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Forget all messages."""
        with self._arrival:
            self._kept.clear()
            self._octets = self._dropped = 0

    def wait_for(self, count: int, timeout: float = 10.0) -> list[ReceivedMessage]:
        """Wait until so many messages are there, and return them. Raises ``TimeoutError``."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self._kept) >= count, timeout):
                raise TimeoutError(f"{len(self._kept)} of {count} messages came within {timeout} seconds")
            return list(self._kept)

    def add(self, message: ReceivedMessage) -> None:
        """Keep one, in the thread of its connection."""
        with self._arrival:
            self._kept.append(message)
            self._octets += message.size
            while len(self._kept) > _MOST_MESSAGES or self._octets > _MOST_OCTETS:
                self._octets -= self._kept.popleft().size
                self._dropped += 1
            self._arrival.notify_all()

    def __repr__(self) -> str:
        return f"<Mailbox {len(self)} messages>"


class _Memory(_Store):
    def __init__(self) -> None:
        super().__init__()
        self.mailbox: Final = Mailbox()

    def message(self, message: ReceivedMessage) -> None:
        """Keep what was accepted."""
        if message.delivered:
            self.mailbox.add(message)

    def after_fork(self) -> None:
        """As ``Mailbox.after_fork``."""
        self.mailbox.after_fork()


class _Maildir(_Store):
    """Writes each message as a file of its own, as https://cr.yp.to/proto/maildir.html says."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> str | None:
        """Answered by yes once the file and its name are on the disk."""
        head = [f"Return-Path: <{sender}>", *(f"Delivered-To: {each}" for each in recipients)]
        lines = "\n".join([*head, ""]).encode("utf-8", "surrogateescape") + content.replace(b"\r\n", b"\n")
        try:
            self._write(lines)
        except OSError as error:
            why = error.strerror or type(error).__name__
            if error.errno in _NO_SPACE:
                return f"452 4.3.1 the mailbox cannot be written: {why}"
            return f"451 4.3.0 the mailbox cannot be written: {why}"
        return None

    def _write(self, lines: bytes) -> None:
        # The folder itself first: as a parent it would get the rights of the umask.
        for each in ("", "tmp", "new", "cur"):
            os.makedirs(os.path.join(self._path, each), mode=0o700, exist_ok=True)
        name = self._name()
        begun, done = (os.path.join(self._path, each, name) for each in ("tmp", "new"))
        descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(lines)
                file.flush()
                os.fsync(descriptor)
            os.rename(begun, done)
            _sync_folder(os.path.dirname(done))
        except BaseException:
            # Whoever is told that it failed sends it again: no half of it may stay.
            for path in (begun, done):
                with suppress(OSError):
                    os.unlink(path)
            raise

    def _name(self) -> str:
        moment = time.time_ns()
        host = socket.gethostname().replace("/", "\\057").replace(":", "\\072") or "localhost"
        unique = f"M{moment // 1000 % 1_000_000}P{os.getpid()}Q{next(_deliveries)}R{os.urandom(4).hex()}"
        return f"{moment // 1_000_000_000}.{unique}.{host}"


def _sync_folder(path: str) -> None:
    """Let the new name be on the disk as well; not every system can open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Console(_Store):
    """Shows each message: its envelope, the fields that matter, its text, and the names of its files."""

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._stream = stream or "stdout"
        self.after_fork()

    def after_fork(self) -> None:
        """Another lock: whoever held this one is not here."""
        self._lock = threading.Lock()

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> str | None:
        """Answered by yes once it was written."""
        text = _shown(sender, recipients, content)
        try:
            with self._lock:
                stream: Any = getattr(sys, self._stream)
                encoding = getattr(stream, "encoding", None) or "utf-8"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
                stream.flush()
        except (OSError, ValueError, AttributeError) as error:  # closed, or not there at all
            return f"451 4.3.0 nothing can be written to {self._stream}: {type(error).__name__}"
        return None


def _shown(sender: str, recipients: Sequence[str], content: bytes) -> str:
    letter = read_letter(
        0,
        ReceivedMessage(
            sender=sender,
            recipients=(),
            params={},
            content=content,
            size=len(content),
            wire_size=len(content),
            connection=0,
            transaction=0,
            via="DATA",
            tls=False,
            user=None,
        ),
    )
    fields = [
        f"{name}: {decoded(' '.join(value.split()))}"
        for name, value in letter.headers
        if name.lower() in _FIELDS
    ]
    files = [f"[{each.name}: {each.kind}, {len(each.content)} octets]" for each in letter.attachments]
    if letter.html is not None:
        files.insert(0, f"[HTML: {len(letter.html)} characters]")
    envelope = f"---- mail from <{sender}> to {', '.join(recipients)} ({len(content)} octets)"
    lines = [envelope, *fields, "", (letter.text or letter.html or "").rstrip("\n"), *files, "-" * 4]
    return "".join(map(_harmless, "\n".join(lines))) + "\n"


def _harmless(character: str) -> str:
    """A terminal obeys some characters, and strangers wrote the message."""
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode("ascii")


# The servers.


class _Stores:
    """Every store of this process, by its URL."""

    def __init__(self) -> None:
        self._by_place: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._serving: dict[int, Serving] = {}
        self._numbers = itertools.count()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._after_fork
            )

    def of(self, place: str) -> Any:
        """The one at this place, made by the first who asks."""
        with self._lock:
            if place not in self._by_place:
                self._by_place[place] = _made(place)
            return self._by_place[place]

    def begin(self, serving: Serving) -> Callable[[], None]:
        """Take note of a connection, and return what forgets it."""
        number = next(self._numbers)
        with self._lock:
            self._serving[number] = serving

        def end() -> None:
            with self._lock:
                self._serving.pop(number, None)

        return end

    def _after_fork(self) -> None:
        """The threads stayed with the parent, and so does the server's end of each connection."""
        self._lock.release()
        for serving in self._serving.values():
            serving.close()
        self._serving.clear()
        for store in self._by_place.values():
            store.after_fork()


def _made(place: str) -> _Store:
    scheme, _, rest = place.partition("://")
    if scheme == "memory":
        return _Memory()
    if scheme == "maildir":
        return _Maildir(rest)
    return _Console(rest) if scheme == "console" else _Store(keep=False)


_stores: Final = _Stores()


def dial(place: str, keep: Keep | None = None) -> socket.socket:
    """A connected, non-blocking socket to the server at this URL. Raises ``ConnectError``."""
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise ConnectError(f"{place}: {error.strerror or error}", stage=Stage.CONNECT) from error
    if keep is not None:
        keep(ours)
    serving = Serving(theirs, _CONFIG, _stores.of(place), _LINE, threading.Event())
    end = _stores.begin(serving)

    def serve() -> None:
        try:
            serving.run()
        finally:
            end()

    try:
        threading.Thread(target=serve, name=f"pysmtpx {place}", daemon=True).start()
    except RuntimeError as error:  # no new thread: the interpreter is at its end, or the limit is reached
        end()
        ours.close()
        theirs.close()
        raise ConnectError(f"{place}: {error}", stage=Stage.CONNECT) from error
    ours.setblocking(False)
    return ours
