"""The server's side of an envelope: MAIL and RCPT."""

from __future__ import annotations

from .channel import Channel
from .ledger import Params
from .script import is_positive
from .syntax import param_breaches, parse_params, path_breach, split_path


class Envelope:
    """What MAIL and RCPT have built up in one connection since the last reset."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._domains: set[str] = set()
        """Of all recipients of the session (RFC 9422 4.3)."""
        self.clear()

    def clear(self) -> None:
        """Forget sender and recipients (RFC 5321 4.1.1.5)."""
        self.sender: str | None = None
        """None until a MAIL is accepted."""
        self.params: Params = {}
        """Parameters of the accepted MAIL."""
        self.recipients: list[tuple[str, Params]] = []
        """What was accepted, in order."""
        self._is_mail_refused = False
        self._rcpt_count = 0

    @property
    def is_open(self) -> bool:
        """True between an accepted MAIL and the end of its transaction."""
        return self.sender is not None

    @property
    def body(self) -> str:
        """The BODY that MAIL states, 7BIT by default (RFC 6152 3)."""
        return (self.params.get("BODY") or "7BIT").upper()

    @property
    def size_limit(self) -> int:
        """Octets that SIZE offers; 0 where no limit is stated (RFC 1870 4)."""
        limit = self._channel.parameter("SIZE")
        return int(limit) if limit.isdigit() else 0

    def mail(self, argument: str) -> None:
        """MAIL FROM:<reverse-path> [parameters] (RFC 5321 4.1.1.2)."""
        channel = self._channel
        if self.is_open:
            return channel.reject("MAIL", 503, "5.5.1", "MAIL within a transaction (RFC 5321 4.1.4)")
        channel.connection.transactions += 1
        self.clear()
        self._is_mail_refused = True
        path, params, breaches = self._parse("MAIL", argument, "FROM:", bare="")
        breaches += self._limit_breaches("MAILMAX", channel.connection.transactions)
        if breaches:
            return self._refuse("MAIL", breaches)
        if is_positive(channel.answer("MAIL", self._mail_reply(params), address=path)):
            self.sender, self.params, self._is_mail_refused = path, params, False
        return None

    def rcpt(self, argument: str) -> None:
        """RCPT TO:<forward-path> [parameters] (RFC 5321 4.1.1.3)."""
        channel, index = self._channel, self._rcpt_count
        self._rcpt_count += 1
        path, params, breaches = self._parse("RCPT", argument, "TO:", bare="postmaster")
        has_domain = "@" in path and not path.endswith('"')
        self._domains.add(path.rpartition("@")[2].lower() if has_domain else "")
        breaches += self._limit_breaches("RCPTMAX", self._rcpt_count)
        breaches += self._limit_breaches("RCPTDOMAINMAX", len(self._domains))
        if breaches:
            return self._refuse("RCPT", breaches)
        default = self.refuse_without_mail("RCPT") or channel.say(250, "2.1.5", "recipient ok")
        if is_positive(channel.answer("RCPT", default, address=path, index=index)):
            self.recipients.append((path, params))
        return None

    def refuse_without_mail(self, verb: str) -> bytes | None:
        """The refusal where no MAIL was accepted; a breach unless the client could not know."""
        if self.is_open:
            return None
        if not self._is_mail_refused or self._channel.is_answered:
            self._channel.lapse(f"{verb} without an accepted MAIL (RFC 5321 4.1.4)")
        return self._channel.say(503, "5.5.1", "MAIL first")

    def refuse_without_recipient(self, verb: str) -> bytes | None:
        """The same where no RCPT was accepted: who read the refusals must not go on."""
        if self.recipients:
            return None
        if refusal := self.refuse_without_mail(verb):
            return refusal
        if not self._rcpt_count or self._channel.is_answered:
            self._channel.lapse(f"{verb} without an accepted recipient (RFC 5321 3.3)")
        return self._channel.say(554, "5.5.1", "no valid recipients")

    def _parse(self, verb: str, argument: str, prefix: str, *, bare: str) -> tuple[str, Params, list[str]]:
        channel, lenient = self._channel, self._channel.config.lenient
        parts = split_path(argument[len(prefix) :], lenient=lenient)
        if argument[: len(prefix)].upper() != prefix or parts is None:
            return "", {}, [f"{verb} needs {prefix}<path> (RFC 5321 4.1.1)"]
        path, rest = parts
        params, breaches = parse_params(rest)
        breaches += param_breaches(verb, params, channel.offered, tls=channel.tls)
        if not (lenient and path):
            breaches += filter(None, [path_breach(path, bare=bare, local=channel.config.local_mailboxes)])
        if not argument.isascii() and self._must_be_ascii(verb, params):
            breaches.append(f"{verb} is not ASCII, SMTPUTF8 is not stated (RFC 6531 3.4)")
        return path, params, breaches

    def _must_be_ascii(self, verb: str, params: Params) -> bool:
        if verb == "MAIL":
            return "SMTPUTF8" not in params
        return self.is_open and "SMTPUTF8" not in self.params

    def _refuse(self, verb: str, breaches: list[str]) -> None:
        for breach in breaches:
            self._channel.lapse(breach)
        self._channel.answer(verb, self._channel.say(501, "5.5.4", "syntax"))

    def _limit_breaches(self, name: str, count: int) -> list[str]:
        for word in self._channel.parameter("LIMITS").split():
            key, _, limit = word.partition("=")
            if key.upper() == name and limit.isdigit() and count > int(limit):
                return [f"{name}={limit} is exceeded (RFC 9422 3)"]
        return []

    def _mail_reply(self, params: Params) -> bytes:
        channel = self._channel
        if channel.config.require_auth and channel.user is None:
            return channel.say(530, "5.7.0", "authentication required")
        if self.size_limit and int(params.get("SIZE") or 0) > self.size_limit:
            return channel.say(552, "5.3.4", "message too large")
        return channel.say(250, "2.1.0", "sender ok")
