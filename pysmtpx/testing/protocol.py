"""A strict SMTP and LMTP server as a machine without I/O: it judges the client."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .actions import Action, StartTls
from .authentication import Authentication
from .channel import Channel
from .config import Config
from .ledger import Connection, Ledger
from .script import is_positive
from .syntax import MAX_AUTH_LINE, is_hello_name, line_limit
from .transaction import Transactions

_MAX_LINE: Final = 64 * 1024
"""A line that is longer ends the connection."""
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_IN_CLEAR: Final = frozenset({"EHLO", "HELO", "LHLO", "NOOP", "QUIT", "STARTTLS"})
_IN_SESSION: Final = frozenset({"MAIL", "RCPT", "DATA", "BDAT", "AUTH"})


class ServerSession:
    """One connection as a server sees it; every breach by the client is entered in the ledger.

    Call ``greeting`` once, then ``receive`` with what arrives, however it is
    sliced, and do what the actions say, in order. After a ``StartTls`` action
    shake hands and call ``tls_started``; at the end of file call ``eof``.
    """

    def __init__(self, config: Config | None = None, ledger: Ledger | None = None) -> None:
        self.config: Config = config or Config()
        self.ledger: Ledger = ledger or Ledger()
        self._channel = Channel(self.config, self.ledger)
        self._transactions = Transactions(self._channel)
        self._authentication = Authentication(self._channel)
        self._buffer = bytearray()
        self._searched = 0
        self._awaits_tls = False
        self._is_told = False
        self._commands: dict[str, Callable[[str], None]] = {
            "EHLO": self._ehlo,
            "LHLO": self._ehlo,
            "HELO": self._helo,
            "MAIL": self._transactions.mail,
            "RCPT": self._transactions.rcpt,
            "DATA": self._transactions.data,
            "BDAT": self._transactions.bdat,
            "RSET": self._transactions.rset,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "NOOP": self._noop,
            "VRFY": self._vrfy,
            "EXPN": self._vrfy,
            "HELP": self._help,
            "QUIT": self._quit,
        }

    @property
    def connection(self) -> Connection:
        """This connection in the ledger."""
        return self._channel.connection

    @property
    def closed(self) -> bool:
        """True once the server talks no more."""
        return bool(self._channel.closed)

    def greeting(self) -> list[Action]:
        """The opening of the connection (RFC 5321 3.1)."""
        kind = "LMTP" if self._channel.is_lmtp else "ESMTP"
        greeting = f"220 {self.config.name} {kind} ready\r\n".encode()
        reply = self._channel.answer("CONNECT", greeting, index=self.connection.number)
        if not is_positive(reply) and not self.closed:
            self._channel.hello = "refused"
        return self._flush()

    def receive(self, data: bytes, *, unread: bool | None = None) -> list[Action]:
        """Take what the client sent and answer it.

        ``unread`` says whether the client sent ``data`` before it had read
        every reply so far. None is for a server on a network, which cannot
        know: it judges only what is certain either way.
        """
        if not data:
            return []
        if not self._buffer:
            self._channel.unread = unread
        self._buffer += data
        while self._buffer and not self._is_deaf and self._advance():
            pass
        if self._buffer and self._is_deaf:
            self._buffer.clear()
            self._judge_unheard()
        return self._flush()

    def tls_started(
        self, identity: str | None = None, binding: bytes | None = None, exporter: bytes | None = None
    ) -> None:
        """TLS protects what follows: forget all that was said in clear (RFC 3207 4.2).

        ``identity`` names the client by its certificate, for EXTERNAL;
        ``binding`` is the server's ``tls-server-end-point`` (RFC 5929 4), and
        ``exporter`` the connection's ``tls-exporter`` (RFC 9266).
        """
        channel = self._channel
        channel.tls = self.connection.tls = True
        channel.identity = identity or channel.identity
        kinds = {"tls-server-end-point": binding, "tls-exporter": exporter}
        channel.bindings = {kind: data for kind, data in kinds.items() if data}
        channel.hello, channel.user, channel.unread = "", None, False
        channel.offered, channel.lines = frozenset(), []
        self._awaits_tls = self._is_told = False
        self._transactions.reset()

    def eof(self) -> None:
        """The client closed its side, or the line is gone."""
        self._transactions.abandon()
        self._channel.ledger.close(self.connection, "eof")
        self._channel.closed = self._channel.closed or "eof"

    def _flush(self) -> list[Action]:
        actions, self._channel.actions = self._channel.actions, []
        return actions

    @property
    def _is_deaf(self) -> bool:
        return self._awaits_tls or self.closed

    def _judge_unheard(self) -> None:
        channel, breach = self._channel, ""
        if self._awaits_tls:
            breach = "octets after STARTTLS before the handshake (RFC 3207 4.2)"
        elif channel.closed == "QUIT" or (channel.closed in ("421", "cut") and channel.is_answered):
            breach = f"octets after {channel.closed}"
        if breach and not self._is_told:
            (channel.lapse if channel.closed == "421" else channel.breach)(breach)
            self._is_told = True

    def _advance(self) -> bool:
        if self._transactions.is_receiving:
            return self._transactions.take(self._buffer)
        line = self._next_line()
        if line is None:
            return False
        self._take_line(line)
        return True

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched, _MAX_LINE)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched >= _MAX_LINE:
                self._channel.reject("?", 421, "4.5.2", "a line has no end")
            return None
        line = bytes(memoryview(self._buffer)[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _take_line(self, line: bytes) -> None:
        if self.config.lenient and not self._authentication.is_active:
            line = line.removesuffix(b"\n").removesuffix(b"\r").rstrip(b" ") + b"\r\n"
        text = line[:-2].decode("utf-8", "surrogateescape")
        verb, _, argument = text.partition(" ")
        argument = argument.lstrip(" ") if self.config.lenient else argument
        verb = "AUTH" if self._authentication.is_active else verb.upper()
        self._channel.begin(verb if verb in self._commands else "?")
        if not line.endswith(b"\r\n"):
            self._authentication.cancel()
            self._channel.reject("?", 500, "5.5.2", "a line ends in a bare LF (RFC 5321 2.3.8)")
        elif _CONTROL.search(line, 0, len(line) - 2):
            self._authentication.cancel()
            self._channel.reject("?", 500, "5.5.2", "a command line has a control character (RFC 5321 4.1.2)")
        elif self._authentication.is_active:
            self._respond(line)
        else:
            self._take_command(verb, argument, line)

    def _respond(self, line: bytes) -> None:
        if len(line) > MAX_AUTH_LINE:
            self._channel.lapse(
                f"a response has {len(line)} octets, {MAX_AUTH_LINE} are allowed (RFC 4954 4)"
            )
        self._authentication.respond(line[:-2])

    def _take_command(self, verb: str, argument: str, line: bytes) -> None:
        channel, command = self._channel, self._commands.get(verb)
        limit = line_limit(verb, channel.offered)
        if command is None:
            channel.reject("?", 500, "5.5.2", f"{verb[:40]!r} is not a command")
        elif len(line) > limit:
            channel.reject(verb, 500, "5.5.2", f"{verb} has {len(line)} octets, {limit} are allowed")
        elif line.endswith(b" \r\n") or argument.startswith(" "):
            channel.reject(verb, 501, "5.5.4", f"{verb} has a space too many")
        elif not self._refuse_early(verb):
            command(argument)

    def _refuse_early(self, verb: str) -> bool:
        """Refuse what EHLO or STARTTLS must come before."""
        channel = self._channel
        if channel.hello == "refused" and verb != "QUIT":
            channel.reject(verb, 503, "5.5.1", f"{verb} after a greeting that refuses (RFC 5321 3.1)")
        elif verb in _IN_SESSION and not channel.hello:
            after = " after STARTTLS (RFC 3207 4.2)" if channel.tls else " (RFC 5321 4.1.4)"
            channel.reject(verb, 503, "5.5.1", f"{verb} before EHLO{after}")
        elif self.config.require_tls and not channel.tls and verb not in _IN_CLEAR:
            channel.answer(verb, channel.say(530, "5.7.0", "STARTTLS first"))
        else:
            return False
        return True

    # Commands that open, secure and close a session.

    def _ehlo(self, name: str) -> None:
        channel, verb = self._channel, "LHLO" if self._channel.is_lmtp else "EHLO"
        wrong = "EHLO" if channel.is_lmtp else "LHLO"
        if channel.verb == wrong:
            return channel.reject(
                wrong, 500, "5.5.1", f"{wrong} on {self.config.protocol.upper()} (RFC 2033 4.1)"
            )
        if not self._is_hello_name(name):
            return channel.reject(
                verb, 501, "5.5.4", f"{name!r} is not a domain or literal (RFC 5321 4.1.1.1)"
            )
        self._transactions.reset()
        if self.config.helo_only:
            channel.answer(verb, b"502 command not implemented\r\n", address=name)
            return None
        reply = channel.answer(verb, self._ehlo_reply(self._offer()), address=name)
        if is_positive(reply):
            channel.hello = verb
            channel.lines = [line[4:] for line in reply.decode("utf-8", "replace").split("\r\n")[1:-1]]
            channel.offered = frozenset(map(_keyword, channel.lines))
        return None

    def _is_hello_name(self, name: str) -> bool:
        # What a machine is named by those who run it, such as my_app_1: many servers take it.
        return bool(name) if self.config.lenient else is_hello_name(name)

    def _offer(self) -> list[str]:
        channel = self._channel
        return self.config.offer(
            tls=channel.tls, binding=bool(channel.bindings), identity=channel.identity is not None
        )

    def _ehlo_reply(self, lines: list[str]) -> bytes:
        *rest, last = [self.config.name, *lines]
        return "".join([*(f"250-{line}\r\n" for line in rest), f"250 {last}\r\n"]).encode(
            "utf-8", "surrogateescape"
        )

    def _helo(self, name: str) -> None:
        channel = self._channel
        if channel.is_lmtp:
            return channel.reject("HELO", 500, "5.5.1", "HELO on LMTP (RFC 2033 4.1)")
        if not self._is_hello_name(name):
            return channel.reject("HELO", 501, "5.5.4", f"{name!r} is not a domain (RFC 5321 4.1.1.1)")
        self._transactions.reset()
        if is_positive(channel.answer("HELO", f"250 {self.config.name}\r\n".encode(), address=name)):
            channel.hello, channel.lines, channel.offered = "HELO", [], frozenset()
        return None

    def _starttls(self, argument: str) -> None:
        channel = self._channel
        if argument:
            channel.reject("STARTTLS", 501, "5.5.4", "STARTTLS takes no argument (RFC 3207 4)")
        elif channel.tls:
            channel.reject("STARTTLS", 503, "5.5.1", "STARTTLS under TLS (RFC 3207 4)")
        elif "STARTTLS" not in channel.offered:
            channel.reject("STARTTLS", 502, "5.5.1", "STARTTLS is not offered")
        elif (
            is_positive(channel.answer("STARTTLS", channel.say(220, "2.0.0", "go ahead"))) and not self.closed
        ):
            channel.actions.append(StartTls())
            self._awaits_tls = True

    def _auth(self, argument: str) -> None:
        if self._transactions.envelope.is_open:
            self._channel.reject("AUTH", 503, "5.5.1", "AUTH within a transaction (RFC 4954 4)")
        else:
            self._authentication.start(argument)

    def _noop(self, argument: str) -> None:
        self._channel.answer("NOOP", self._channel.say(250, "2.0.0", "ok"), address=argument)

    def _vrfy(self, argument: str) -> None:
        verb = self._channel.verb
        if not argument:
            return self._channel.reject(verb, 501, "5.5.4", f"{verb} needs a name (RFC 5321 4.1.1.6)")
        self._channel.answer(verb, self._channel.say(252, "2.5.2", "cannot tell"), address=argument)
        return None

    def _help(self, argument: str) -> None:
        self._channel.answer("HELP", self._channel.say(214, "2.0.0", "see RFC 5321"), address=argument)

    def _quit(self, argument: str) -> None:
        if argument:
            return self._channel.reject("QUIT", 501, "5.5.4", "QUIT takes no argument (RFC 5321 4.1.1.10)")
        self._channel.answer("QUIT", self._channel.say(221, "2.0.0", "bye"))
        self._channel.close("QUIT")
        return None


def _keyword(line: str) -> str:
    return line.replace("=", " ").split()[0].upper() if line.strip() else ""
