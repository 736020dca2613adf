"""What leaves of a message, octet by octet: a field that fits goes as it stands, others by known rules."""

from __future__ import annotations

from base64 import b64encode
from email import policy
from email.header import Header
from email.headerregistry import Address, Group
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.messages import EIGHT, octets

from pysmtpx.errors import InputError
from pysmtpx.message import prepare
from pysmtpx.mime import addresses

A, B = "ann@x.org", "bob@x.org"
ANN, BOB = Address("Ann", "ann", "x.org"), Address("Doe, B", "bob", "x.org")


def base64(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")


POLICIES = {
    "default": policy.default,
    "SMTP": policy.SMTP,
    "SMTPUTF8": policy.SMTPUTF8,
    "wide": policy.EmailPolicy(max_line_length=200),
    "narrow": policy.EmailPolicy(max_line_length=40),
}

MADE: list[tuple[str, Any, str]] = [
    ("Subject", "Hello", "Hello"),
    ("Subject", "", ""),
    ("Subject", "two  blanks\tand a tab", "two  blanks\tand a tab"),
    ("Subject", "a" * 67, "a" * 67),  # 76 columns with the name
    ("Subject", "a" * 68, "a" * 68),  # nowhere to fold
    ("Subject", "ab " + "c" * 64, "ab " + "c" * 64),
    ("Subject", "ab " + "c" * 65, "ab\r\n " + "c" * 65),
    ("Subject", "x" * 80, f"=?utf-8?q?{'x' * 55}?=\r\n =?utf-8?q?{'x' * 25}?="),
    ("Subject", "Grüße aus Köln", "=?utf-8?b?R3LDvMOfZSBhdXMgS8O2bG4=?="),
    ("Subject", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "=?utf-8?b?R3LDvMOfZQ==?="),
    ("Subject", "ü" * 30, f"=?utf-8?b?{base64(19 * 'ü')}?=\r\n =?utf-8?b?{base64(11 * 'ü')}?="),
    ("X-Any", "some value", "some value"),
    ("X-Any", "wörter", "=?utf-8?q?w=C3=B6rter?="),
    ("Comments", "a  (b) c", "a  (b) c"),
    ("Keywords", "a, b", "a, b"),
    ("Date", "Mon, 01 Jan 2024 00:00:00 +0100", "Mon, 01 Jan 2024 00:00:00 +0100"),
    ("Message-ID", "<a.b@x.org>", "<a.b@x.org>"),
    ("MIME-Version", "1.0", "1.0"),
    ("Content-Transfer-Encoding", "8bit", "8bit"),
    ("To", A, A),
    ("To", f"Ann <{A}>", f"Ann <{A}>"),
    ("To", f'"Ann" <{A}>', f'"Ann" <{A}>'),
    ("To", f"Ann  Lee  <{A}>", f"Ann  Lee  <{A}>"),
    ("To", f'"Doe, Ann" <{A}>, {B}', f'"Doe, Ann" <{A}>, {B}'),
    ("To", f"{A},{B}", f"{A},{B}"),
    ("To", f"{A},", f"{A},"),
    ("To", f"{A} (at work)", f"{A} (at work)"),
    ("To", f"(c) Ann <{A} (d)>", f"(c) Ann <{A} (d)>"),
    ("To", f"Team: {A}, Bob <{B}>;", f"Team: {A}, Bob <{B}>;"),
    ("To", "j..k@x.org", "j..k@x.org"),
    ("To", f"=?utf-8?q?J=C3=BCrgen?= <{A}>", f"=?utf-8?q?J=C3=BCrgen?= <{A}>"),
    ("To", f"=?utf-8?q?Ann?= <{A}>", f"=?utf-8?q?Ann?= <{A}>"),
    ("To", f"Jürgen Müller <{A}>", f"=?utf-8?b?SsO8cmdlbiBNw7xsbGVy?= <{A}>"),
    ("To", f'"Müller, Jürgen" <{A}>, {B}', f"=?utf-8?b?TcO8bGxlciwgSsO8cmdlbg==?= <{A}>, {B}"),
    ("To", f"Žofie (ü) <{A}>", f"=?utf-8?b?xb1vZmll?= <{A}> (=?utf-8?b?w7w=?=)"),
    ("To", "a@münchen.example", "a@xn--mnchen-3ya.example"),
    ("To", f"{'p' * 30}@x.org, {'q' * 30}@x.org", f"{'p' * 30}@x.org,\r\n {'q' * 30}@x.org"),
    ("Cc", (ANN, BOB), f'Ann <{A}>, "Doe, B" <{B}>'),
    ("Cc", Address("Ünal", "u", "x.org"), "=?utf-8?b?w5xuYWw=?= <u@x.org>"),
    ("Cc", Group("Team", (ANN,)), f"Team: Ann <{A}>;"),
    ("Content-Type", 'text/plain; charset="utf-8"', 'text/plain; charset="utf-8"'),
    ("Content-Type", "text/plain;charset=utf-8", 'text/plain; charset="utf-8"'),
    ("Content-Type", 'a/b; name="a;b"; c=d', 'a/b; name="a;b"; c="d"'),
    ("Content-Type", f'a/b; name="{"n" * 49}"', f'a/b; name="{"n" * 49}"'),  # 75 columns
    ("Content-Type", f'a/b; name="{"n" * 50}"', f'a/b;\r\n name="{"n" * 50}"'),
    ("Content-Disposition", 'attachment; filename="data.bin"', 'attachment; filename="data.bin"'),
    (
        "Content-Disposition",
        'attachment; filename="Grüße.txt"',
        "attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt",
    ),
]
CAME: list[tuple[str, Any, bytes]] = [
    ("X", "", b""),
    ("Subject", "a" * 900, b"a" * 900),
    ("Subject", "word " * 30, b"word " * 30),
    ("Subject", " two", b" two"),
    ("Subject", "a\n b\r\n\tc", b"a\r\n b\r\n\tc"),
    ("Subject", "Gr\udcc3\udcbc", b"=?utf-8?q?Gr=C3=BC?="),
    ("Subject", Header("Grüße", "utf-8"), b"=?utf-8?b?R3LDvMOfZQ==?="),
    ("To", f'"Ann" <{A}>,{B}', f'"Ann" <{A}>,{B}'.encode()),
    ("To", f"Ünal <{A}>", f"=?utf-8?b?w5xuYWw=?= <{A}>".encode()),
    ("Content-Type", "text/plain;charset=x;;", b"text/plain;charset=x;;"),
]


def sent(message: Message) -> bytes:
    return octets(prepare(message, EIGHT, sender="s@x.org", recipients=["r@x.org"], complete=False))


class TestFields:
    @pytest.mark.parametrize("by", POLICIES)
    @pytest.mark.parametrize(("name", "value", "expected"), MADE)
    def test_made_here(self, name, value, expected, by):
        """By the same rules whatever policy made it, and whoever sends it again sends the same."""
        message = EmailMessage(policy=POLICIES[by])
        message[name] = value
        before = message.items()
        for _ in range(2):
            assert sent(message) == f"{name}: {expected}\r\n\r\n".encode("ascii")
        assert message.items() == before

    @pytest.mark.parametrize(("name", "value", "expected"), CAME)
    def test_from_elsewhere(self, name, value, expected):
        message = Message()
        message._headers = [(name, value)]
        assert sent(message) == name.encode() + b": " + expected + b"\r\n\r\n"

    @pytest.mark.parametrize("start", ["", "Ann <a@x.org>, "])
    @pytest.mark.parametrize("bad", ["a@x.org\r\nBcc: e@x.org", "a@x.org\n", "a\0@x.org"])
    def test_one_that_would_be_two_is_refused(self, start, bad):
        message = Message()
        message._headers = [("To", start + bad)]
        with pytest.raises(InputError):
            sent(message)


MAILBOX = st.lists(
    st.sampled_from(
        [
            *'<>@,.:;()[]"\\ \t=?',
            "Ann",
            "ü",
            "x.org",
            "ann@x.org",
            " <b@x.org>",
            '"D, J" ',
            "=?utf-8?q?a?=",
            "\n",
        ]
    ),
    max_size=9,
).map("".join)


@given(st.lists(MAILBOX, max_size=3).map(",".join))
@example(f'"Doe, J" <{A}> , Ann Q. Lee <{B}>,x@y')
@example("a@x.org <a@x.org>")
@example("=?x?q?a?=@x.org")
@example("a@x.org\n")
def test_a_list_is_read_the_same_with_and_without_what_makes_it_plain(text):
    """A list of plain mailboxes is read in one step; a tab has it read token by token."""

    def read(text: str) -> list[addresses.Address] | str:
        try:
            return addresses.parse(text, bare=True)
        except InputError as error:
            return str(error).partition(":")[0]

    assert read(text) == read(f"\t{text}")


class TestBoundary:
    @pytest.mark.parametrize("line", ["--BB", "--BB--", "--BB \t", "--BB--  ", "--BB\r"])
    @pytest.mark.parametrize("around", ["{}", "a\n{}", "{}\nb", "a\n{}\nb\n"])
    def test_one_that_stands_in_a_part_is_replaced(self, line, around):
        message = MIMEMultipart(boundary="BB")
        message.attach(MIMEText("first"))
        message.attach(MIMEText(around.format(line)))
        assert b'boundary="BB"' not in sent(message)
        assert b"\r\n--BB" in sent(message) or around.startswith("{}")
        assert message.get_boundary() == "BB"

    @pytest.mark.parametrize(
        "line", ["--BBx", "--BB-", "--BB---", "x--BB", " --BB", "--bb", "--BB-- x", "--BB x"]
    )
    def test_one_that_seems_to_is_kept(self, line):
        message = MIMEMultipart(boundary="BB")
        message.attach(MIMEText(f"a\n{line}\nb\n"))
        assert b'boundary="BB"' in sent(message)
