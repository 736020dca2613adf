"""The server's side of a mail transaction: its content by DATA or BDAT, and its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .channel import Channel
from .content import ContentJudge, DataReader
from .envelope import Envelope
from .ledger import ReceivedMessage, ReceivedRecipient
from .script import code, is_positive, octets


@dataclass(slots=True)
class _Body:
    """The content of one transaction as far as it has come."""

    judge: ContentJudge
    via: Literal["DATA", "BDAT"]
    thresholds: list[int]
    """Octets at which the script still has something to say."""
    reader: DataReader | None = None
    is_fresh: bool = True
    """Nothing has arrived."""
    is_interjected: bool = False
    """The script has answered amid the content: the end of data gets no reply."""
    chunks: int = 0
    is_chunk_refused: bool = False


@dataclass(slots=True)
class _Chunk:
    left: int = 0
    """Octets of the chunk that have not come."""
    is_last: bool = False
    refusal: bytes | None = field(default=None, repr=False)


class Transactions:
    """The transactions of one connection, one after the other."""

    def __init__(self, channel: Channel) -> None:
        self.envelope: Envelope = Envelope(channel)
        self._channel = channel
        self._body: _Body | None = None
        self._chunk = _Chunk()

    @property
    def is_receiving(self) -> bool:
        """True while octets are content, not commands."""
        return self._chunk.left > 0 or (self._body is not None and self._body.reader is not None)

    def reset(self) -> None:
        """Forget the transaction (RFC 5321 4.1.1.5)."""
        self.envelope.clear()
        self._body = None

    def abandon(self) -> None:
        """The client is gone: judge what came of its content."""
        if self._body is not None:
            self._body.judge.abandon()

    def take(self, buffer: bytearray) -> bool:
        """Take content out of ``buffer``; True where the next octets are a command."""
        assert self._body is not None
        if self._body.reader is not None:
            return self._take_data(self._body, self._body.reader, buffer)
        return self._take_chunk(self._body, buffer)

    def mail(self, argument: str) -> None:
        """MAIL (RFC 5321 4.1.1.2)."""
        if not self.envelope.is_open:
            self._body = None
        self.envelope.mail(argument)

    def rcpt(self, argument: str) -> None:
        """RCPT (RFC 5321 4.1.1.3)."""
        if self._body is not None:
            return self._channel.reject("RCPT", 503, "5.5.1", "RCPT after BDAT (RFC 3030 2)")
        return self.envelope.rcpt(argument)

    def rset(self, argument: str) -> None:
        """RSET (RFC 5321 4.1.1.5)."""
        if argument:
            return self._channel.reject("RSET", 501, "5.5.4", "RSET takes no argument")
        if is_positive(self._channel.answer("RSET", self._channel.say(250, "2.0.0", "reset"))):
            self.reset()
        return None

    def data(self, argument: str) -> None:
        """DATA (RFC 5321 4.1.1.4)."""
        channel = self._channel
        if argument:
            return channel.reject("DATA", 501, "5.5.4", "DATA takes no argument")
        if self._body is not None:
            return channel.reject("DATA", 503, "5.5.1", "DATA after BDAT (RFC 3030 2)")
        if self.envelope.body == "BINARYMIME":
            return channel.reject("DATA", 503, "5.5.1", "DATA for BODY=BINARYMIME (RFC 3030 3)")
        default = self.envelope.refuse_without_recipient("DATA") or channel.say(354, "", "go ahead")
        if code(channel.answer("DATA", default)) == 354:
            self._body = self._begin("DATA")
            self._interject(self._body, 0)
        return None

    def bdat(self, argument: str) -> None:
        """BDAT size [LAST] (RFC 3030 2)."""
        channel = self._channel
        size, space, last = argument.partition(" ")
        if not (size.isascii() and size.isdigit() and len(size) <= 20) or (space and last.upper() != "LAST"):
            return channel.reject("BDAT", 501, "5.5.4", "BDAT takes a size and LAST (RFC 3030 2)")
        self._body = self._body or self._begin("BDAT")
        self._chunk = _Chunk(int(size), bool(last), self._refuse_chunk(self._body))
        if not self._chunk.left:
            self._end_chunk(self._body)
        return None

    def _begin(self, via: Literal["DATA", "BDAT"]) -> _Body:
        channel = self._channel
        judge = ContentJudge(
            channel.breach,
            keep=channel.ledger.keep,
            most=self.envelope.size_limit,
            binary=self.envelope.body == "BINARYMIME",
            stuffed=via == "DATA",
            line_limit=None if channel.config.lenient else channel.config.text_line_limit,
            any_line_end=channel.config.lenient,
        )
        reader = DataReader(judge) if via == "DATA" else None
        return _Body(judge, via, channel.thresholds(), reader)

    def _interject(self, body: _Body, arrived: int) -> None:
        """Play what the script has for the content so far."""
        while body.thresholds and body.thresholds[0] <= arrived and not self._channel.closed:
            body.is_interjected |= self._channel.interject(body.thresholds.pop(0))
        if self._channel.config.verdict is not None and not (body.is_interjected or self._channel.closed):
            body.is_interjected = self._channel.interject(arrived)

    def _take_data(self, body: _Body, reader: DataReader, buffer: bytearray) -> bool:
        channel = self._channel
        if body.is_fresh and channel.unread and not body.is_interjected:
            channel.breach("content was sent before the reply to DATA was read (RFC 2920 3.1)")
        body.is_fresh = False
        is_complete = reader.read(buffer)
        # What may be the beginning of the end of data is not content yet.
        is_content = not is_complete and bytes(buffer[:3]) not in (b".", b".\r")
        self._interject(body, body.judge.wire_size + is_content * len(buffer))
        if channel.closed or not is_complete:
            return False
        self._end_message(body)
        return True

    def _take_chunk(self, body: _Body, buffer: bytearray) -> bool:
        chunk = self._chunk
        octets = bytes(memoryview(buffer)[: chunk.left])
        del buffer[: len(octets)]
        chunk.left -= len(octets)
        body.judge.feed(octets)
        self._interject(body, body.judge.wire_size)
        if self._channel.closed or chunk.left:
            return False
        self._end_chunk(body)
        return True

    def _refuse_chunk(self, body: _Body) -> bytes | None:
        channel = self._channel
        if "CHUNKING" not in channel.offered:
            channel.lapse("BDAT, CHUNKING is not offered")
            return channel.say(502, "5.5.1", "not implemented")
        if not body.is_chunk_refused:
            return self.envelope.refuse_without_recipient("BDAT")
        if channel.is_answered:
            channel.lapse("BDAT after a refused BDAT (RFC 3030 2)")
        return channel.say(503, "5.5.1", "the transaction has failed")

    def _end_chunk(self, body: _Body) -> None:
        """Answer a chunk; a refused one was swallowed all the same (RFC 3030 2)."""
        channel, chunk, index = self._channel, self._chunk, body.chunks
        body.chunks += 1
        if chunk.is_last and chunk.refusal is None:
            return self._end_message(body)
        default = chunk.refusal or channel.say(250, "2.0.0", f"{body.judge.wire_size} octets so far")
        verb, index = ("FINAL", 0) if chunk.is_last else ("BDAT", index)
        reply = channel.answer(verb, default, index=index)
        body.is_chunk_refused |= not is_positive(reply)
        if chunk.is_last:
            self.reset()
        return None

    def _end_message(self, body: _Body) -> None:
        envelope, content = self.envelope, body.judge.finish()
        if envelope.recipients:
            self._judge_message(body.judge)
        elif body.judge.size:
            self._channel.breach("content was sent, no recipient is accepted (RFC 2920 3.1)")
        replies = [] if body.is_interjected else self._final_replies(body.judge, content)
        if body.is_interjected:
            self._channel.last = "FINAL"  # that reply stands for this one, and MAIL may follow it in a group
        if envelope.sender is not None and replies and envelope.recipients:
            self._channel.ledger.message(self._received(envelope.sender, body, content, replies))
        self.reset()

    def _judge_message(self, judge: ContentJudge) -> None:
        channel, params = self._channel, self.envelope.params
        if not self.envelope.is_open:
            return channel.breach("a message was ended, MAIL is refused (RFC 2920 3.1)")
        stated = params.get("SIZE")
        if stated is not None and int(stated) != judge.size:
            channel.lapse(f"SIZE={stated}, the content has {judge.size} octets (RFC 1870 6)")
        if judge.header_is_8bit and channel.config.strict_headers and "SMTPUTF8" not in params:
            channel.breach("the header section is not ASCII, SMTPUTF8 is not stated (RFC 6531 3.6)")
        is_8bit = judge.body_is_8bit or (judge.header_is_8bit and "SMTPUTF8" not in params)
        if is_8bit and self.envelope.body == "7BIT":
            channel.lapse("content is 8-bit, BODY=8BITMIME is not stated (RFC 6152 3)")
        return None

    def _final_replies(self, judge: ContentJudge, content: bytes) -> list[bytes]:
        """One reply in SMTP, one for each accepted recipient in LMTP (RFC 2033 4.2)."""
        channel, replies = self._channel, list[bytes]()
        default = self._final_reply(judge, content)
        if not channel.is_lmtp:
            return [channel.answer("FINAL", default, index=0)]
        for index, (address, _) in enumerate(self.envelope.recipients):
            replies.append(channel.answer("FINAL", default, address=address, index=index))
            if channel.closed:
                break
        return replies

    def _final_reply(self, judge: ContentJudge, content: bytes) -> bytes:
        channel, limit = self._channel, self.envelope.size_limit
        if not self.envelope.recipients:
            return channel.say(554, "5.5.1", "no valid recipients")
        if limit and judge.size > limit:
            return channel.say(552, "5.3.4", "message too large")
        recipients = [address for address, _ in self.envelope.recipients]
        if (answer := channel.ledger.deliver(self.envelope.sender or "", recipients, content)) is not None:
            return octets(answer)
        return channel.say(250, "2.0.0", "delivered")

    def _received(self, sender: str, body: _Body, content: bytes, replies: list[bytes]) -> ReceivedMessage:
        channel, recipients = self._channel, self.envelope.recipients
        each = replies if channel.is_lmtp else replies * len(recipients)
        # LMTP, and the line went half-way: no reply for the rest.
        texts = [reply.decode("utf-8", "replace").rstrip() for reply in each] + [""] * len(recipients)
        return ReceivedMessage(
            sender=sender,
            recipients=tuple(
                ReceivedRecipient(address, params, text)
                for (address, params), text in zip(recipients, texts, strict=False)
            ),
            params=self.envelope.params,
            content=content,
            size=body.judge.size,
            wire_size=body.judge.wire_size,
            connection=channel.connection.number,
            transaction=channel.connection.transactions - 1,
            via=body.via,
            tls=channel.tls,
            user=channel.user,
        )
