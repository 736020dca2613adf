"""Domains of one IDNA in header and envelope, and what strangers put into uploads and forms."""

from __future__ import annotations

from email import message_from_bytes
from email.encoders import encode_base64
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.utils import getaddresses
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail
from support import hostile, linear
from support.places import resolve_to

import pysmtpx
from pysmtpx.contrib.django.message import mail_object
from pysmtpx.testing import MailServer

pytestmark = pytest.mark.slow

# One and the same.

DOMAINS = [
    "faß.example",
    "βόλος.example",
    "نامه\u200cای.example",
    "straße.münchen.example",
    "BÜCHER.example",
    "ⴀⴧ.example",  # a letter that Unicode 3.2, and with it IDNA 2003, does not know
]


def wire(domain: str) -> str:
    return pysmtpx.ForwardPath(f"a@{domain}").domain


@pytest.mark.parametrize(
    "form", ["a@{}", "Ann <a@{}>", "Änn <a@{}>", '"Änn, B" <a@{}>', "ä@{}", "Änn <ä@{}>"]
)
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    "field", ["from_email", "to", "cc", "bcc", "reply_to", "From", "To", "Sender", "Resent-To"]
)
def test_header_and_envelope_name_the_same_domain(site: Any, field: str, domain: str, form: str) -> None:
    address = form.format(domain)
    sent = EmailMessage("s", "b", "me@x.example", ["you@x.example"])
    if field[0].isupper():
        sent.extra_headers[field] = address
    else:
        setattr(sent, field, address if field == "from_email" else [address])
    before = (sent.from_email, sent.to[:], sent.cc[:], sent.reply_to[:], dict(sent.extra_headers))
    with MailServer() as server:
        site.use(server)
        assert sent.send() == 1
    assert before == (sent.from_email, sent.to, sent.cc, sent.reply_to, sent.extra_headers)
    arrived = server.messages[0]
    expected = wire(domain)
    if field == "from_email":
        assert arrived.sender.endswith(f"@{expected}")
    elif field in ("to", "cc", "bcc"):
        assert [each for each in arrived.addresses if each.endswith(f"@{expected}")]
    header = {"from_email": "From", "to": "To", "cc": "Cc", "reply_to": "Reply-To"}.get(field, field)
    if field != "bcc":
        text = message_from_bytes(arrived.content).get_all(header)[0]
        [(_, found)] = getaddresses([str(text)])
        assert found.rpartition("@")[2] == expected


def test_several_in_one_field(site: Any) -> None:
    sent = EmailMessage(
        "s", "b", "me@x.example", ["a@faß.example", "Ü <b@fass.example>", "c@bücher.example"], reply_to=[]
    )
    with MailServer() as server:
        site.use(server)
        assert sent.send() == 1
    to = message_from_bytes(server.messages[0].content)["To"]
    assert [address for _, address in getaddresses([to])] == server.messages[0].addresses
    assert server.messages[0].addresses[0] == "a@xn--fa-hia.example"


# Uploads.


@pytest.mark.parametrize("content", [b"x", "x", b"\xff\xfe"])
@pytest.mark.parametrize("content_type", hostile.TYPES)
def test_a_type_and_a_name_of_a_stranger(site: Any, content_type: str, content: Any) -> None:
    """Sent as one message without a field of his, or an error that a view can catch: nothing hangs."""
    with MailServer() as server:
        site.use(server)
        for name in hostile.NAMES:
            sent = EmailMessage("s", "b", "me@x.example", ["you@x.example"])
            told = ""
            try:
                sent.attach(name, content, content_type)
                sent.send()
            except (ValueError, TypeError, KeyError) as error:  # Django itself says KeyError for multipart
                told = str(error)
            if not told:
                hostile.check_written(server.messages[-1].content)


@pytest.mark.parametrize("kind", hostile.DEEP)
def test_an_attachment_that_is_nested_too_deep(site: Any, kind: str) -> None:
    sent = EmailMessage("s", "b", "me@x.example", ["you@x.example"])
    sent.attach("a.eml", hostile.DEEP[kind], "message/rfc822")
    with MailServer() as server:
        site.use(server)
        with pytest.raises(pysmtpx.InputError):
            sent.send()
        assert not server.messages


@pytest.mark.parametrize("charset", hostile.CHARSETS)
def test_a_charset_that_is_none(site: Any, charset: str) -> None:
    sent = EmailMessage("Grüße", "Grüße", "Ü <me@x.example>", ["you@x.example"])
    sent.encoding = charset
    with MailServer() as server:
        site.use(server)
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            sent.send()
        assert len(str(caught.value)) < 1500
        assert not server.messages


def test_an_error_of_a_subclass_stays_what_it_is(site: Any) -> None:
    class Broken(EmailMessage):
        def message(self, **options: Any) -> Any:
            return {}["missing"]

    with MailServer() as server:
        site.use(server)
        with pytest.raises(KeyError, match="missing"):
            Broken("s", "b", "me@x.example", ["you@x.example"]).send()


@pytest.mark.parametrize("pattern", hostile.PATTERNS)
def test_our_own_reading_of_an_address_is_linear(pattern: str) -> None:
    """What Django itself makes of it is Django's."""

    class Text(EmailMessage):
        def message(self, **options: Any) -> Any:
            return MIMEBase("text", "plain")

    def run(text: str) -> object:
        sent = Text("s", "b", text, [text], cc=[text], reply_to=[text], headers={"Sender": text})
        return mail_object(sent)

    linear.check(run, pattern)


# What sites send every day.


def inline_image(octets: bytes) -> Any:
    """A part as this Django takes it."""
    if django.VERSION >= (6, 0):
        part: Any = MIMEPart()
        part.set_content(octets, "image", "png", disposition="inline", filename="lögo.png", cid="<logo>")
        return part
    image = MIMEBase("image", "png")
    image.set_payload(octets)
    encode_base64(image)
    image.add_header("Content-ID", "<logo>")
    image.add_header("Content-Disposition", "inline", filename="lögo.png")
    return image


def test_an_alternative_and_an_inline_image_arrive_whole(site: Any) -> None:
    sent = EmailMultiAlternatives("s", "plain", "me@x.example", ["you@x.example"])
    sent.attach_alternative("<img src='cid:logo'>", "text/html")
    sent.attach(inline_image(b"\x89PNG\x00\xff"))
    with MailServer() as server:
        site.use(server)
        assert sent.send() == 1
        send_mail("s", "b", None, ["you@x.example"], html_message="<b>b</b>")
    parts = list(message_from_bytes(server.messages[0].content).walk())
    assert [each.get_content_type() for each in parts] == [
        *("multipart/mixed", "multipart/alternative", "text/plain", "text/html", "image/png")
    ]
    assert parts[-1].get_payload(decode=True) == b"\x89PNG\x00\xff"
    assert (parts[-1]["Content-ID"], parts[-1].get_filename()) == ("<logo>", "lögo.png")


# Mailboxes that only a server knows.


@pytest.mark.parametrize("host", ["127.0.0.1", "mail.test"])
def test_the_server_judges_what_is_no_full_mailbox(site: Any, host: str, monkeypatch: Any) -> None:
    """As with Django's own backend, whose tests send from ``tester`` to ``django``."""
    resolve_to(monkeypatch, "127.0.0.1")
    long = f"{'x' * 100}@y.example"
    with MailServer(local_mailboxes=True) as server:
        site.use(server, host=host)
        first = EmailMessage("s", "b", "tester", ["django", "Root <root>", "a..b@y.example"], cc=[long])
        second = EmailMessage("s", "b", "Jörg <tester>", ["user.@docomo.ne.jp"], reply_to=["Größe <root>"])
        assert [each.send() for each in (first, second)] == [1, 1]
    got = [(each.sender, each.addresses) for each in server.messages]
    assert got == [
        ("tester", ["django", "root", '"a..b"@y.example', long]),
        ("tester", ['"user."@docomo.ne.jp']),
    ]
    assert message_from_bytes(server.messages[0].content)["To"] == "django, Root <root>, a..b@y.example"


@pytest.mark.parametrize(
    "address",
    [
        "ann@y.example; bob@y.example",
        "Ann <ann@y.example> Bob <bob@y.example>",
        "ann@y.example, bob@y.example",
        "old@y.example <new@y.example>",
        "Doe, John <ann@y.example>",
        "ann smith",
        "ann@y.example (",
        "Team: ann@y.example, bob@y.example;",
        "<>",
    ],
)
@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
def test_what_is_not_one_address_is_shown(site: Any, field: str, address: str) -> None:
    with MailServer() as server:
        site.use(server)
        sent = EmailMessage("s", "b", "me@x.example", ["you@x.example"])
        getattr(sent, field).append(address)
        with pytest.raises(ValueError, match=r"(?i)address|null|mailbox") as caught:
            sent.send()
        assert address[:20] in str(caught.value)
    assert not server.messages
