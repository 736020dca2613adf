"""The server's side of AUTH (RFC 4954)."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from .channel import Channel
from .sasl import Book, Denied, Exchange, Malformed, begin
from .script import code

_SERVER_FIRST: Final = frozenset({"CRAM-MD5"})
"""Mechanisms in which an initial response has no place (RFC 4954 4)."""


class Authentication:
    """The AUTH dialogues of one connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._exchange: Exchange | None = None
        self._mechanism = ""
        self._round = 0
        self.is_active: bool = False
        """True while the next line is a response to a challenge."""

    def cancel(self) -> None:
        """Give up the dialogue."""
        self.is_active = False
        self._exchange = None

    def start(self, argument: str) -> None:
        """AUTH mechanism [initial-response]."""
        channel = self._channel
        mechanism, has_initial, initial = argument.partition(" ")
        self._mechanism, self._round = mechanism.upper(), 0
        if channel.user is not None:
            return channel.reject("AUTH", 503, "5.5.1", "AUTH after a successful AUTH (RFC 4954 4)")
        if self._mechanism not in self._offered():
            return channel.reject("AUTH", 504, "5.5.4", f"AUTH {self._mechanism[:40]} is not offered")
        if has_initial and self._mechanism in _SERVER_FIRST:
            return channel.reject("AUTH", 501, "5.5.4", f"AUTH {self._mechanism} with an initial response")
        try:
            self._exchange = begin(self._mechanism, self._book())
        except KeyError:
            return self._end(channel.say(504, "5.5.4", "no such mechanism here"))
        challenge = next(self._exchange)
        if not has_initial:
            return self._challenge(challenge)
        return self._step("" if initial == "=" else initial)

    def respond(self, line: bytes) -> None:
        """Take a response to the last challenge."""
        if line == b"*":
            return self._end(self._channel.say(501, "5.7.0", "cancelled"))
        return self._step(line.decode("ascii", "replace"))

    def _offered(self) -> list[str]:
        return [name for line in self._channel.lines for name in _mechanisms(line)]

    def _book(self) -> Book:
        channel, config = self._channel, self._channel.config
        return Book(
            users=config.users,
            tokens=config.tokens,
            name=config.name,
            offered=self._offered(),
            iterations=config.scram_iterations,
            identity=channel.identity,
            bindings=channel.bindings,
        )

    def _step(self, encoded: str) -> None:
        channel = self._channel
        try:
            response = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            channel.lapse("a response is not base64 (RFC 4954 4)")
            return self._end(channel.say(501, "5.5.2", "not base64"))
        try:
            challenge = self._advance(response)
        except Malformed as error:
            channel.lapse(str(error))
            return self._end(channel.say(501, "5.5.2", "malformed response"))
        except Denied:
            return self._end(channel.say(535, "5.7.8", "credentials are not valid"))
        if isinstance(challenge, bytes):
            return self._challenge(challenge)
        return self._end(channel.say(235, "2.7.0", "welcome"), challenge)

    def _advance(self, response: bytes) -> bytes | str:
        """The next challenge, or the user at the end."""
        if self._exchange is None:
            # A scripted 334 took the place of the end.
            raise Denied
        try:
            return self._exchange.send(response)
        except StopIteration as end:
            user: str = end.value
            return user

    def _challenge(self, challenge: bytes) -> None:
        self._say(b"334 " + base64.b64encode(challenge) + b"\r\n", None)

    def _end(self, reply: bytes, user: str | None = None) -> None:
        self._exchange = None
        self._say(reply, user)

    def _say(self, reply: bytes, user: str | None) -> None:
        channel = self._channel
        number = code(channel.answer("AUTH", reply, address=self._mechanism, index=self._round))
        self._round += 1
        self.is_active = number == 334 and not channel.closed
        if number == 235:
            channel.user = channel.connection.user = user or ""


def _mechanisms(line: str) -> list[str]:
    keyword, *names = line.replace("=", " ").upper().split() or [""]
    return names if keyword == "AUTH" else []
