"""Time in proportion to length, for every field that is written and every text of a stranger that is read.

A field of 5 kB and one of 50 kB are compared. Address lists are covered as they are read by ``prepare``
(From, To, Resent-*), by ``Field.written`` and by ``addresses.parse``.
"""

from __future__ import annotations

from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32, default

import pytest
from support import linear
from support.messages import NOTHING

from pysmtpx.message import prepare
from pysmtpx.mime import addresses, parameters, raw, words
from pysmtpx.mime.headers import Field, write_attached
from pysmtpx.wire.address import ForwardPath
from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.parser import ReplyParser
from pysmtpx.wire.reply import Reply

pytestmark = pytest.mark.slow

PATTERNS = [
    *(";", "x;", '"', '"a"', "\\", '"\\', "(", ")", "(a)", "a (b) ", "[", "]", "<", ">", ",", ":", ".", "@"),
    *("=?", "=?a?q?", "=?utf-8?q?a?= ", "=?utf-8?b?w7w=?=", "=?utf-8?q?=C3=BC?= ü", "=?punycode?q?|a-b"),
    *("a ", " ", "ü", "ü ", "ü;", "ü,", "日本語", "\udcfc", "\udcfc ", "\r\n ", "\r\n x", "\t \t"),
    *("a@b.c|(ü)", "x (ü) <a@b.c>, ", "a,", "<a>,<b>"),
    *("a@b.c,", "a@b.c, ", "é@b.c,", "Ü <a@b.c>,", '"Ü, x" <a@b.c>, ', "g: a@b.c;", "<a@b.c>", "<a@b.c> "),
    *("a@|b.", "a@|ü.", "a@|ü", "a@|xn--", "a.", "ü.", "ü:", "(ü", '"ü', "(ü)", '"|ü', "'", "%", "%C3", "*"),
    *("a/b; n=|ü", "a/b; n=|x", 'a/b; n="|ü', "a/b; n*=utf-8''|%C3%BC", "a/b; ü;| n=ü;", "a/b;| n=ü;"),
    *("a/b;| n*0=ü;", "a/b;| n*=ü;", f"a/b; {'n' * 68}=|ü", f"a/b; {'n' * 68}=|x", f"a/b; {'n' * 68}*=|x"),
    *("a/b; |n", "a/b; ü=|n", f"a/b; x=ü; {'n' * 68}=|x", "v=1; a=rsa; b=|AbC/ ", "v=1; b=|AbC/"),
]
FIELDS = ["Subject", "To", "Content-Type", "References"]
"""One of each kind: free text, addresses, parameters, and all others."""
READERS = {
    "addresses": lambda text: addresses.parse(text),
    "first": lambda text: parameters.first(text),
    "get": lambda text: parameters.get(text, "n"),
    "bare": lambda text: parameters.bare(text),
    "words": lambda text: words.decoded(text),
    "path": lambda text: ForwardPath(text),
    "header section": lambda text: raw.section(octets(text)),
    "capabilities": lambda text: Capabilities.from_reply(reply(text)),
}


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def reply(text: str) -> Reply:
    return Reply(250, (b"x", octets(text), *octets(text).split()[:1000]))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_field_that_is_written(pattern):
    for name in FIELDS:
        linear.check(lambda text, name=name: Field(name, text).written(), pattern)
    for start in ("", 'ü "', "ü, x@y@z "):  # no mailbox, by whoever wrote an attached message
        linear.check(lambda text, start=start: write_attached(Field("From", start + text)), pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader(reader, pattern):
    linear.check(READERS[reader], pattern)


@pytest.mark.parametrize("pattern", ["250-a\r\n", "250 a\r\n", "250 |a", "250-5.1.1 x\r\n", "\r", "250-\r\n"])
def test_what_a_server_says(pattern):
    def read(text: str) -> None:
        parser = ReplyParser()
        for start in range(0, len(text), 100):
            parser.feed(text[start : start + 100].encode("ascii"))
            while parser.next() is not None:
                pass

    linear.check(read, pattern)


@pytest.mark.parametrize("policy", [compat32, default])
@pytest.mark.parametrize(
    "name", ["Content-Type", "Content-Disposition", "Content-Transfer-Encoding", "From", "References"]
)
def test_a_parsed_message(name, policy):
    """The policies of ``email`` read a field in quadratic time whenever it is asked for: nobody asks.

    Its parser asks for Content-Type, and so is left out here: the message is as it would leave it.
    """

    def run(text: str) -> None:
        message: Message = Message(policy=policy)
        message.set_raw(name, text)
        message.set_payload("gr\udcfcn")
        prepare(message, NOTHING, sender="a@x.org", recipients=["b@x.org"])

    patterns = [";", "a/b; x;", '"', "(", "a/b; |n", "a/b; boundary=|x", "=?a?q?", "<a>"]
    for pattern in [*patterns, f"a/b; {'n' * 68}=|x", f"a/b; {'n' * 68}=|ü"]:
        linear.check(run, pattern)


@pytest.mark.parametrize(
    "pattern", ["A: b\n", "Content-Type: a/b\n", "Received: x\n", "B: c\n d\n", "A: |x\n\t"]
)
def test_many_fields(pattern):
    def run(text: str) -> None:
        message = Message()
        for line in text.splitlines():
            message.add_header("X-" + line[:5].strip(": \t"), line)
        prepare(message, NOTHING, sender="a@x.org", recipients=["b@x.org"])

    linear.check(run, pattern)


@pytest.mark.parametrize("signed", [False, True])
def test_many_parts(signed):
    def run(text: str) -> None:
        message = MIMEMultipart(
            "signed" if signed else "mixed", _subparts=[MIMEText(each) for each in text.split()]
        )
        prepare(message, NOTHING, sender="a@x.org", recipients=["b@x.org"])

    linear.check(run, "a" * 99 + " ")


def test_parts_in_one_another():
    """Refused beyond a hundred, before anything is copied for each of them."""

    def run(text: str) -> None:
        message: Message = Message()
        message.set_payload("x" * 1000)
        for _ in range(len(text) // 100):
            outer = MIMEMultipart()
            outer.attach(message)
            message = outer
        prepare(message, NOTHING, sender="a@x.org", recipients=["b@x.org"])

    linear.check(run, "x")
