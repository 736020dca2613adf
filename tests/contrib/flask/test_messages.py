"""What a message is: its attributes, and how it is written, beside Flask-Mail where that is installed."""

from __future__ import annotations

import email
import email.header
import email.utils
import re
from collections.abc import Callable
from email import policy
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

import flask_mail
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import InputError
from pysmtpx.contrib.flask import (
    Attachment,
    BadHeaderError,
    FlaskMailUnicodeDecodeError,
    Mail,
    Message,
    force_text,
    sanitize_address,
    sanitize_addresses,
    sanitize_subject,
)
from pysmtpx.testing import MailServer

RECIPIENTS = ["ann@example.com"]


class Lazy:
    """A translation that is made when its text is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


@pytest.fixture
def app():
    app = Flask(__name__)
    app.config.update(MAIL_DEFAULT_SENDER="robot@example.org", TESTING=True)
    Mail(app)
    with app.app_context():
        yield app


def parsed(message: Any) -> Any:
    return email.message_from_bytes(message.as_bytes(), policy=policy.default)


# Beside Flask-Mail.

ATTACHED: list[tuple[Any, ...]] = [
    ("report.pdf", "application/pdf", b"%PDF \x00\xff" * 40),
    ("notes.txt", None, "plain text"),
    (None, "image/png", b"\x89PNG", None, {"Content-ID": "<logo>"}),
    ("façade  für\tdich.txt", "text/plain", b"x", "inline"),
]
SAME: dict[str, dict[str, Any]] = {
    "text": {"body": "hello\nworld"},
    "text of Unicode": {"subject": "Grüße", "body": "Schöne Grüße\n" * 3},
    "nothing": {},
    "bytes": {"subject": "x", "body": b"octets"},
    "HTML": {"html": "<b>hällo</b>"},
    "both": {"body": "a", "html": "<b>b</b>"},
    "alternatives": {"body": "a", "alts": {"html": "<b>b</b>", "calendar": "BEGIN:VCALENDAR"}},
    "pairs of alternatives": {"body": "a", "alts": [("html", "<i>b</i>")]},
    "names": {
        "recipients": ["Ann <ann@example.com>", ("Bob Ö", "bob@example.com"), "ann@bücher.example"],
        "cc": ["Cy <cy@example.com>"],
        "bcc": ["secret@example.com"],
        "reply_to": ("Re Ply", "reply@example.com"),
        "sender": "Röbot <me@example.net>",
        "body": "x",
    },
    "a pair as sender": {"sender": ("Ro Bot", "me@example.net"), "body": "x"},
    "Latin-1": {"subject": "Grüße", "body": "Grüße", "charset": "iso-8859-1", "sender": "Ü <me@example.net>"},
    "more fields": {"body": "x", "extra_headers": {"X-One": "1", "List-Unsubscribe": "<mailto:a@b.example>"}},
    "a date": {"body": "x", "date": 1_700_000_000.0},
    "a folded subject": {"subject": "one\r\n two", "body": "x"},
    "one recipient twice": {"recipients": ["ann@example.com", "ann@example.com"], "body": "x"},
}


def outline(part: Any) -> Any:
    """Types and contents of a message, whatever the transfer encoding."""
    if part.is_multipart():
        return part.get_content_type(), [outline(each) for each in part.iter_parts()]
    name = part.get_filename()
    content = part.get_payload(decode=True).replace(b"\r\n", b"\n").strip(b"\n")
    return part.get_content_type(), part.get_content_charset(), name, part.get_content_disposition(), content


def boxes(parsed: Any, name: str) -> list[tuple[str, str]]:
    field = parsed[name]
    return sorted({(box.display_name, box.addr_spec) for box in field.addresses}) if field else []


@pytest.mark.parametrize("attached", [False, True], ids=["alone", "with files"])
@pytest.mark.parametrize("name", SAME)
def test_a_message_is_what_flask_mail_makes_of_it(app: Flask, name: str, attached: bool) -> None:
    arguments = {"recipients": list(RECIPIENTS), "date": 1_600_000_000.0} | SAME[name]
    ours, theirs = Message(**arguments), flask_mail.Message(**arguments)
    for each in (ours, theirs) if attached else ():
        for file in ATTACHED:
            each.attach(*file)
    one, other = parsed(ours), parsed(theirs)
    assert outline(one) == outline(other)
    for field in ("From", "To", "Cc", "Reply-To"):
        assert boxes(one, field) == boxes(other, field)
    for field in ("Subject", "Date", "X-One", "List-Unsubscribe", "MIME-Version"):
        assert one[field] == other[field]
    assert [part["Content-ID"] for part in one.walk()] == [part["Content-ID"] for part in other.walk()]
    assert "Bcc:" not in one
    assert "secret@example.com" not in ours.as_string()
    public = {each for each in vars(theirs) if not each.startswith("_")} | {"html", "send_to"}
    assert {each: getattr(ours, each) for each in public - {"msgId", "attachments"}} == {
        each: getattr(theirs, each) for each in public - {"msgId", "attachments"}
    }


@pytest.mark.parametrize(
    "subject",
    [
        "x",
        "a\nb",
        "a\r\nb",
        "a\r\n b",
        "a\r\n\tb",
        "a\r\n\r\n b",
        "a\r\n ",
        "a\rb",
        "\r\n a",
        "a\r\n b\nc",
        "",
    ],
)
def test_bad_subjects_are_those_of_flask_mail(app: Flask, subject: str) -> None:
    ours, theirs = Message(subject, RECIPIENTS), flask_mail.Message(subject, RECIPIENTS)
    assert ours.has_bad_headers() == theirs.has_bad_headers()


def test_the_public_names_are_those_of_flask_mail() -> None:
    from pysmtpx.contrib import flask as ours

    for name, kind in vars(flask_mail).items():
        if getattr(kind, "__module__", "") == "flask_mail" and not name.startswith("_"):
            assert hasattr(ours, name), name
            for method in vars(kind) if isinstance(kind, type) and not issubclass(kind, Exception) else ():
                assert method.startswith("__") or hasattr(getattr(ours, name), method), f"{name}.{method}"
    assert ours.email_dispatched.name == flask_mail.email_dispatched.name
    assert ours.signals is not flask_mail.signals


# What is raised, and in which charset names go.


def test_a_bad_header_is_what_handlers_for_flask_mail_catch(app: Flask) -> None:
    assert issubclass(BadHeaderError, InputError)
    assert issubclass(BadHeaderError, flask_mail.BadHeaderError)
    assert not issubclass(BadHeaderError, AssertionError)


HEADERS: dict[str, Any] = {
    "subject": {"subject": "a\nb"},
    "subject that folds nothing": {"subject": "a\r\nb"},
    "sender": {"sender": "a@b.example\nBcc: c@d.example"},
    "sender's name": {"sender": ("a\r\nb", "a@b.example")},
    "recipient": {"recipients": ["a@b.example\r"]},
    "recipient's name": {"recipients": [("a\nb", "a@b.example")]},
    "reply_to": {"reply_to": "a\n@b.example"},
    "reply_to's name": {"reply_to": ("\n", "a@b.example")},
}


@pytest.mark.parametrize("way", ["send", "connection", "send_message", "message.send"])
@pytest.mark.parametrize("name", HEADERS)
def test_bad_headers_are_told_when_flask_mail_tells_them(app: Flask, name: str, way: str) -> None:
    arguments = {"recipients": list(RECIPIENTS), "body": "x"} | HEADERS[name]
    for make, mail in ((flask_mail.Message, flask_mail.Mail(app)), (Message, Mail(app))):
        with pytest.raises(flask_mail.BadHeaderError):
            send_by(way, mail, make, arguments)


def send_by(way: str, mail: Any, make: Any, arguments: dict[str, Any]) -> None:
    message = make(**arguments)  # not yet here
    with mail.connect() as connection:
        if way == "send":
            mail.send(message)
        elif way == "connection":
            connection.send(message)
        elif way == "send_message":
            mail.send_message(**arguments)
        else:
            message.send(connection)


def test_a_missing_recipient_outranks_a_bad_header(app: Flask) -> None:
    for make, mail in ((flask_mail.Message, flask_mail.Mail(app)), (Message, Mail(app))):
        with pytest.raises(AssertionError):
            mail.send(make("a\nb"))


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("iso-8859-1", "Grüße aus Köln"),
        ("iso-8859-1", "Grüße " * 40),
        ("ISO-8859-15", "100 € für Müller, Söhne & Co."),
        ("koi8-r", "Привет всем"),
        ("iso-2022-jp", "こんにちは、世界。" * 5),
        ("big5", "你好" * 30),
    ],
)
def test_the_charset_of_a_message_holds_for_names_and_subject(app: Flask, charset: str, text: str) -> None:
    box = (text, "a@bücher.example")
    message = Message(text, [box], body=text, sender=box, cc=[box], reply_to=box, charset=charset)
    raw = email.message_from_bytes(message.as_bytes())
    for field in ("Subject", "From", "To", "Cc", "Reply-To"):
        assert {name for _, name in email.header.decode_header(raw[field])} <= {charset.lower(), None}
        assert max(map(len, raw[field].splitlines()[1:]), default=0) <= 76
    written = parsed(message)
    assert written["Subject"] == text
    for field in ("From", "To", "Cc", "Reply-To"):
        [(name, address)] = email.utils.getaddresses([raw[field]])
        decoded = str(email.header.make_header(email.header.decode_header(name)))
        assert (decoded.strip(), address) == (text.strip(), "a@xn--bcher-kva.example")


@pytest.mark.parametrize("charset", ["iso-8859-1", "us-ascii", "utf-16", "utf 8"])
def test_a_name_that_the_charset_lacks_goes_as_utf_8(app: Flask, charset: str) -> None:
    message = Message("日本語 x", RECIPIENTS, sender=("日本語", "a@b.example"), charset=charset, body="x")
    raw = email.message_from_bytes(message.as_bytes())
    assert email.header.decode_header(raw["Subject"])[0][1] == "utf-8"
    assert parsed(message)["Subject"] == "日本語 x"
    assert boxes(parsed(message), "From") == [("日本語", "a@b.example")]


# Attributes.


def test_a_message_without_anything(app: Flask) -> None:
    message = Message()
    assert (message.subject, message.recipients, message.body, message.html) == ("", [], None, None)
    assert (message.cc, message.bcc, message.attachments, message.alts) == ([], [], [], {})
    assert (message.send_result, message.send_error, message.send_task) == (None, None, None)
    assert message.sender == "robot@example.org"
    assert Message().recipients is not Message().recipients


def test_html_is_one_of_the_alternatives(app: Flask) -> None:
    message = Message(html="<b>", alts={"x-y": "z"})
    assert message.alts == {"html": "<b>", "x-y": "z"}
    message.html = None
    assert message.alts == {"x-y": "z"}
    message.html = None
    message.html = "<i>"
    assert message.alts["html"] == message.html == "<i>"


def test_everybody_once(app: Flask) -> None:
    message = Message(
        "x", ["b@example.com", ("A", "a@example.com")], cc=["b@example.com"], bcc=["c@example.com"]
    )
    message.add_recipient("d@example.com")
    assert message.send_to == {"b@example.com", ("A", "a@example.com"), "c@example.com", "d@example.com"}
    assert message.envelope_recipients() == [
        "b@example.com",
        "a@example.com",
        "d@example.com",
        "c@example.com",
    ]


@pytest.mark.parametrize(
    ("default", "sender"),
    [
        ("me@example.org", "me@example.org"),
        (("Me", "me@example.org"), "Me <me@example.org>"),
        (("Doe, Jane", "me@example.org"), '"Doe, Jane" <me@example.org>'),
        (["Me", "me@example.org"], "Me <me@example.org>"),
        (None, None),
    ],
)
def test_the_default_sender(app: Flask, default: Any, sender: str | None) -> None:
    app.extensions["mail"].default_sender = default
    message = Message("x", RECIPIENTS, body="x")
    assert message.sender == sender
    if sender:
        assert parsed(message)["From"].addresses[0].addr_spec == "me@example.org"


def test_the_default_sender_needs_an_application() -> None:
    with pytest.raises(RuntimeError, match="app_context"):
        Message()
    assert Message(sender="a@example.org", body="x").as_bytes()  # needs none
    with Flask(__name__).app_context(), pytest.raises(RuntimeError, match="Mail"):
        Message()


def test_a_message_id_tells_nothing_of_this_host(app: Flask) -> None:
    ids = {Message(sender="Me <me@Bücher.example>").msgId for _ in range(20)}
    assert len(ids) == 20
    assert all(each.endswith("@xn--bcher-kva.example>") for each in ids)
    assert Message(sender="nonsense\n").msgId.endswith("@localhost>")
    message = Message("x", RECIPIENTS)
    assert parsed(message)["Message-ID"] == message.msgId


def test_the_date_is_in_local_time(app: Flask) -> None:
    message = Message("x", RECIPIENTS, date=1_700_000_000)
    assert f"Date: {formatdate(1_700_000_000, localtime=True)}\r\n" in str(message)


def test_text_is_readable_in_as_string(app: Flask) -> None:
    message = Message("x", RECIPIENTS, body="Grüße\nund mehr", html="<b>Grüße</b>")
    assert "Grüße\r\nund mehr\r\n" in message.as_string()
    message = Message("x", RECIPIENTS, body="Grüße", date=1)
    assert bytes(message) == message.as_bytes() == message.as_string().encode() == str(message).encode()


def test_an_extra_field_replaces_ours(app: Flask) -> None:
    extra = {
        "Message-ID": "<mine@x.example>",
        "Content-Type": "text/evil",
        "Bcc": "x@x.example",
        "X-A": Lazy("ä"),
    }
    message = Message("x", RECIPIENTS, body="x", html="y", extra_headers=extra)  # type: ignore[arg-type]
    written = parsed(message)
    assert written.get_all("Message-ID") == ["<mine@x.example>"]
    assert written.get_content_type() == "multipart/mixed"
    assert "Bcc:" not in written
    assert written["X-A"] == "ä"


def test_lazy_text(app: Flask) -> None:
    message = Message(Lazy("Gruß"), [Lazy("ann@example.com")], body=Lazy("Text"))  # type: ignore[arg-type, list-item]
    written = parsed(message)
    assert (written["Subject"], written["To"]) == ("Gruß", "ann@example.com")
    assert written.get_content() == "Text"
    assert message.envelope_recipients() == ["ann@example.com"]


def test_a_body_that_its_charset_lacks_goes_as_utf_8(app: Flask) -> None:
    written = parsed(Message("x", RECIPIENTS, body="€ 日本", charset="iso-8859-1"))
    assert written.get_content_charset() == "utf-8"
    assert written.get_content() == "€ 日本"


def test_the_charset_of_the_whole_process_stays_as_it_is() -> None:
    import subprocess
    import sys

    code = (
        "from email.charset import CHARSETS; before = dict(CHARSETS); import pysmtpx.contrib.flask;"
        "raise SystemExit(before != CHARSETS or 'celery' in __import__('sys').modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Fields that are none.


@pytest.mark.parametrize(
    "arguments",
    [
        {"subject": "x\r\nBcc: eve@example.com"},
        {"sender": "a@example.org\r\nX: y"},
        {"sender": ("A\nX: y", "a@example.org")},
        {"recipients": ["a@example.com\n"]},
        {"recipients": [("A\r", "a@example.com")]},
        {"cc": ["a@example.com\r\nX: y"]},
        {"bcc": ["a@example.com\r\nX: y"]},
        {"reply_to": "a@example.com\r\nX: y"},
        {"extra_headers": {"X-A": "b\r\nX: y"}},
        {"extra_headers": {"X-A: 1\r\nX": "y"}},
    ],
)
def test_a_line_end_in_a_field(app: Flask, arguments: dict[str, Any]) -> None:
    message = Message(**{"subject": "x", "recipients": list(RECIPIENTS), "body": "x"} | arguments)
    assert message.has_bad_headers()
    with pytest.warns(DeprecationWarning, match="has_bad_headers"):
        assert message.is_bad_headers()
    mail = Mail(app)
    with mail.record_messages() as outbox, pytest.raises(BadHeaderError):
        mail.send(message)
    assert outbox == []


@pytest.mark.parametrize(
    "file",
    [
        {"filename": "a\r\nX: y"},
        {"content_type": "text/plain\r\nX: y"},
        {"disposition": "inline\r\nX: y", "filename": "a"},
        {"headers": {"X-A": "b\r\nX: y"}},
        {"headers": {"X-A: 1\r\nX": "y"}},
    ],
)
def test_a_line_end_in_a_field_of_a_part(app: Flask, file: dict[str, Any]) -> None:
    message = Message("x", RECIPIENTS, body="x")
    message.attach(data=b"x", **file)
    with pytest.raises(InputError):
        message.as_bytes()


@pytest.mark.parametrize("seven_bit", [True, False])
def test_a_message_in_a_message(make_app: Callable[..., Flask], seven_bit: bool) -> None:
    """Its content is never in base64 (RFC 2046 5.2.1)."""
    inner = EmailMessage()
    inner["Subject"], inner["From"] = "Grüße", "ann@example.com"
    inner.set_content("Schöne Grüße")
    with MailServer(extensions=["PIPELINING"] if seven_bit else ["8BITMIME"]) as server:
        with make_app(server).app_context():
            message = Message("x", RECIPIENTS, body="see below")
            message.attach("mail.eml", "message/rfc822", inner.as_bytes())
            Mail().send(message)
        received = email.message_from_bytes(server.messages[0].content, policy=policy.SMTP)
    part = next(received.iter_attachments())
    assert (part.get_content_type(), part.get_filename()) == ("message/rfc822", "mail.eml")
    assert part["Content-Transfer-Encoding"] in (None, "7bit", "8bit")
    assert part.get_content()["Subject"] == "Grüße"
    assert part.get_content().get_content().strip() == "Schöne Grüße"


def test_a_part_has_one_content_type(app: Flask) -> None:
    message = Message("x", RECIPIENTS, body="x")
    fields = {"content-type": "text/html", "Content-Transfer-Encoding": "7bit", "Content-ID": "<1>"}
    message.attach("a.bin", "application/octet-stream", b"\0\1", headers=fields)
    part = next(email.message_from_bytes(bytes(message), policy=policy.SMTP).iter_attachments())
    assert part.get_all("Content-Type") == ["application/octet-stream"]
    assert part.get_content() == b"\0\1"
    assert part["Content-ID"] == "<1>"


NASTY = st.text(
    st.sampled_from('ab ,;:<>@"\\()[]\r\n\t\0\x85\u2028äß日=?.\udc80\ud800'), max_size=12
) | st.text(max_size=12)


@given(subject=NASTY, name=NASTY, file=NASTY, extra=NASTY, body=NASTY)
def test_no_text_becomes_a_field(subject: str, name: str, file: str, extra: str, body: str) -> None:
    app = Flask(__name__)
    Mail(app)
    with app.app_context():
        message = Message(subject, [(name, "ann@example.com")], body=body, sender=(name, "me@example.org"))
        message.extra_headers = {"X-Extra": extra}
        message.attach(file, "text/plain", b"x", headers={"X-Part": extra})
        try:
            octets = message.as_bytes()
        except InputError:
            return
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", octets)
    heads = re.findall(rb"(?:\A|\r\n--=+\d+==\r\n)(.*?\r\n)\r\n", octets, re.S)
    fields = [re.findall(rb"^([^ \t\r\n][^:\r\n]*)", head, re.M) for head in heads]
    assert set(fields[0]) <= {
        b"Content-Type",
        b"MIME-Version",
        b"Subject",
        b"From",
        b"To",
        b"Date",
        b"Message-ID",
        b"X-Extra",
    }
    assert len(set(fields[0])) == len(fields[0])
    assert fields[-1] == [
        b"Content-Type",
        b"MIME-Version",
        b"Content-Transfer-Encoding",
        b"Content-Disposition",
        b"X-Part",
    ]
    sent = email.message_from_bytes(octets, policy=policy.default)
    for field in ("From", "To"):
        assert len(sent[field].addresses) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"charset": "no-such-charset"},
        {"body": "lone \ud800"},
        {"subject": "lone \ud800"},
        {"attachments": [Attachment("a", "text/plain", 7)]},  # type: ignore[arg-type]
        {"attachments": [Attachment("\ud800", "text/plain", b"")]},
        {"attachments": ["not one"]},
        {"attachments": [Attachment("a", data=b"", headers={"X": "\ud800"})]},
        {"extra_headers": {"X": "\0"}},
    ],
)
def test_what_cannot_be_written(app: Flask, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Message(**{"recipients": list(RECIPIENTS), "body": "x"} | arguments).as_bytes()


# Attachments.


def test_an_attachment_needs_data() -> None:
    with pytest.raises(ValueError, match="data"):
        Attachment("a.txt")
    assert Attachment(data=b"").data == b""


@pytest.mark.parametrize(
    ("arguments", "content_type"),
    [
        (("a.png", None, b"x"), "image/png"),
        (("a.unknown-ending", None, b"x"), "application/octet-stream"),
        (("a.unknown-ending", None, "x"), "text/plain"),
        ((None, None, "x"), "text/plain"),
        (("a.png", "image/x-mine", b"x"), "image/x-mine"),
    ],
)
def test_the_type_of_an_attachment(arguments: tuple[Any, ...], content_type: str) -> None:
    assert Attachment(*arguments).content_type == content_type


@pytest.mark.parametrize("content", ["plain", "Grüße", b"\x00\xff\r\n", bytearray(b"octets"), b"x" * 5000])
def test_the_octets_of_an_attachment(app: Flask, content: Any) -> None:
    message = Message("x", RECIPIENTS, body="x", attachments=[Attachment("a.txt", "text/plain", content)])
    (part,) = parsed(message).iter_attachments()
    wanted = content.encode() if isinstance(content, str) else bytes(content)
    assert part.get_payload(decode=True) == wanted
    assert part.get_content_charset() == ("utf-8" if content == "Grüße" else None)


@pytest.mark.parametrize("ascii_names", [False, True])
def test_names_in_ascii(app: Flask, ascii_names: bool) -> None:
    app.extensions["mail"].ascii_attachments = ascii_names
    message = Message("x", RECIPIENTS, body="x")
    message.attach("ünïcöde ←→ ✓ name.txt", "text/plain", b"x")
    (part,) = parsed(message).iter_attachments()
    assert part.get_filename() == ("unicode name.txt" if ascii_names else "ünïcöde ←→ ✓ name.txt")


def test_a_part_without_a_name(app: Flask) -> None:
    message = Message("x", RECIPIENTS, html="<img src='cid:a'>")
    message.attach(content_type="image/png", data=b"x", disposition="inline", headers={"Content-ID": "<a>"})
    *_, part = parsed(message).iter_parts()
    assert (part.get_content_disposition(), part["Content-ID"]) == ("inline", "<a>")


# Addresses and texts by themselves.


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("ann@example.com", "ann@example.com"),
        ("<ann@example.com>", "ann@example.com"),
        ("Ann <ann@example.com>", "Ann <ann@example.com>"),
        (("Ann Other", "ann@example.com"), "Ann Other <ann@example.com>"),
        (("", "ann@example.com"), "ann@example.com"),
        (("Other, Ann", "ann@example.com"), '"Other, Ann" <ann@example.com>'),
        (('A "B" \\', "ann@example.com"), '"A \\"B\\" \\\\" <ann@example.com>'),
        ('"Other, Ann" <ann@example.com>', '"Other, Ann" <ann@example.com>'),
        ("Team [staging] <ann@example.com>", '"Team [staging]" <ann@example.com>'),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("jürgen@bücher.example", "jürgen@xn--bcher-kva.example"),
        ("Jürgen <j@example.com>", "=?utf-8?q?J=C3=BCrgen?= <j@example.com>"),
        ("postmaster", "postmaster"),
        ("root", "root"),
        (b"ann@example.com", "ann@example.com"),
    ],
)
def test_an_address(given: Any, written: str) -> None:
    assert sanitize_address(given) == written
    assert sanitize_addresses([given, given]) == [written] * 2


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ann smith",
        "ann@",
        "a@example.com, b@example.com",
        "Other, Ann <a@example.com>",
        "a@b.example <c@d.example>",
    ],
)
def test_what_is_not_one_address(given: str) -> None:
    with pytest.raises(InputError):
        sanitize_address(given)


def test_subjects_and_texts() -> None:
    assert sanitize_subject("plain") == "plain"
    assert sanitize_subject("Grüße", "iso-8859-1") == "=?iso-8859-1?q?Gr=FC=DFe?="
    assert sanitize_subject("日本", "iso-8859-1").startswith("=?utf-8?")
    assert force_text(b"Gr\xfc", "latin-1") == "Grü"
    assert force_text(7) == "7"
    with pytest.raises(FlaskMailUnicodeDecodeError, match="You passed in") as caught:
        force_text(b"\xff")
    assert caught.value.obj == b"\xff"


def test_an_error_does_not_quote_the_text(app: Flask) -> None:
    with pytest.raises(InputError, match="invalid start byte") as refused:
        Message("x", RECIPIENTS, body=b"words \xff").as_bytes()  # type: ignore[arg-type]
    assert "words" not in str(refused.value)
