"""Messages attached to messages: what somebody else wrote does not stop the mail that it goes with."""

from __future__ import annotations

import base64
from base64 import encodebytes
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.policy import SMTP, compat32, default
from quopri import encodestring

import pytest
from support.messages import EIGHT, FULL, NOTHING, octets, read

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.message import prepare
from pysmtpx.mime import words
from pysmtpx.wire.capabilities import Capabilities

pytestmark = pytest.mark.everywhere

UTF8 = Capabilities({"SMTPUTF8": ()})
SERVERS = [NOTHING, EIGHT, UTF8, FULL]

ENCODED = {
    "From: Größe": "From: Größe",
    "From: Müller, Hans <h@z.example>": "From: Müller, Hans <h@z.example>",
    "From: Dr. Müller, Hans <h@z.example>": "From: Dr. Müller, Hans <h@z.example>",
    'From: "Müller, Hans" x <h@z.example>, , ü ö': "From: Müller, Hans x <h@z.example>, , ü ö",
    "To: undisclosed Empfänger:": "To: undisclosed Empfänger:",
    "Subject: Grüße": "Subject: Grüße",
    "Content-Type: text/plain; name=grün": "Content-Type: text/plain; name=grün",
    "Content-Type: text/plain; charset=utf-8; name=ü": "Content-Type: text/plain; charset=utf-8; name=ü",
    "X-Spam: größer": "X-Spam: größer",
}
KEPT = [
    *("From: \\ü x", "From: x\\ü y, z"),
    *("From: jörg@x.example", "From: Jörg <jörg@x.example>, y", 'To: "ü"@x.example', "Cc: a@b@ü.example, z"),
    *(
        'From: "Größe',
        "Content-Type: text/größe",
        "Content-Disposition: ü; a=b",
        "Subject: =?utf-8?q?=0A?= ü",
    ),
    *("X-Long: " + "x" * 1000, "References: <" + "a" * 1000 + "@b>", "X: nul\0"),
]


def attached(field: str | bytes, *, policy=compat32, body: bytes = b"Hello\n") -> Message:
    """As a spam report has it: the octets that came, read."""
    head = field if isinstance(field, bytes) else field.encode()
    return message_from_bytes(head + b"\nMessage-ID: <1@z.example>\n\n" + body, policy=policy)


def old(inner: Message) -> Message:
    outer: Message = MIMEMultipart(_subparts=[MIMEMessage(inner)])
    outer["From"], outer["To"] = "a@x.org", "b@x.org"
    return outer


def new(inner: Message) -> Message:
    outer = EmailMessage()
    outer["From"], outer["To"] = "a@x.org", "b@x.org"
    outer.set_content("See below\n")
    outer.add_attachment(inner)
    return outer


def part_of(mail) -> Message:
    return read(mail).get_payload()[-1]


@pytest.mark.parametrize("wrap", [old, new])
@pytest.mark.parametrize("policy", [compat32, default])
@pytest.mark.parametrize("capabilities", SERVERS)
class TestFields:
    @pytest.mark.parametrize(("field", "value"), ENCODED.items())
    def test_encoded_where_that_can_be(self, field, value, capabilities, policy, wrap):
        mail = prepare(wrap(attached(field, policy=policy)), capabilities)
        assert octets(mail).isascii()
        assert mail.mail_params is None
        part = part_of(mail)
        assert part.get_content_type() == "message/rfc822"
        name, _, text = value.partition(": ")
        inner = part.get_payload(0)
        if name == "Content-Type":
            assert inner.get_filename() or inner.get_param("name") in text
        else:
            raw = message_from_bytes(inner.as_bytes(policy=inner.policy), policy=compat32)[name]
            assert words.decoded(raw.replace("\n", "")).replace('"', "") == text

    @pytest.mark.parametrize("field", KEPT)
    def test_else_the_octets_stay(self, field, capabilities, policy, wrap):
        """RFC 6532 3.7: message/global may be encoded, message/rfc822 never (RFC 2046 5.2.1)."""
        mail = prepare(wrap(attached(field, policy=policy)), capabilities)
        assert mail.mail_params is None  # SMTPUTF8 is about our own header section
        sent, part = octets(mail), part_of(mail)
        measure = mail.content.measure
        assert (measure.has_long_line, measure.has_nul) == (False, False)
        is_short = len(field) < 900 and "\0" not in field
        if capabilities in (EIGHT, FULL) and is_short:
            assert part.get_content_type() == "message/rfc822"
            assert part["Content-Transfer-Encoding"] == "8bit"
            assert field.encode() + b"\r\n" in sent
        else:
            assert sent.isascii()
            assert (part.get_content_type(), part["Content-Transfer-Encoding"]) == (
                "message/global",
                "base64",
            )
            (inner,) = part.get_payload()
            assert field.encode() + b"\r\n" in base64.b64decode(inner.get_payload())


@pytest.mark.parametrize("capabilities", SERVERS)
@pytest.mark.parametrize("wrap", [old, new])
class TestBodies:
    def test_8_bit_text(self, wrap, capabilities):
        inner = attached("Content-Type: text/plain; charset=utf-8", body="Grüße\n".encode())
        mail = prepare(wrap(inner), capabilities)
        part = part_of(mail)
        assert part.get_content_type() == "message/rfc822"
        assert part.get_payload(0).get_payload(decode=True).replace(b"\r\n", b"\n") == "Grüße\n".encode()
        assert octets(mail).isascii() == (capabilities not in (EIGHT, FULL))

    @pytest.mark.parametrize(
        "field",
        ["DKIM-Signature: v=1; bh=x", "Content-Type: multipart/signed; boundary=i", "Content-Type: x/y"],
    )
    def test_what_must_not_be_altered_is_wrapped(self, wrap, capabilities, field):
        """Signed by somebody, or in an encoding that nobody knows: whole, in base64, on a 7-bit server."""
        body = "--i\n\nGrüße\n--i\n\nsignature\n--i--\n".encode()
        cte = "\nContent-Transfer-Encoding: x-unknown" if field.endswith("x/y") else ""
        mail = prepare(wrap(attached(field + cte, body=body)), capabilities)
        sent, part = octets(mail), part_of(mail)
        if capabilities in (EIGHT, FULL):
            assert body.replace(b"\n", b"\r\n") in sent
        else:
            assert sent.isascii()
            assert part.get_content_type() == "message/global"
            assert body.replace(b"\n", b"\r\n") in base64.b64decode(part.get_payload(0).get_payload())

    def test_under_our_own_signature_nothing_is_altered(self, wrap, capabilities):
        message = wrap(attached("From: jörg@x.example"))
        message["DKIM-Signature"] = "v=1"
        if capabilities in (EIGHT, FULL):
            assert "From: jörg@x.example\r\n".encode() in octets(prepare(message, capabilities))
        else:
            with pytest.raises(NotSupportedError, match="signed"):
                prepare(message, capabilities)


@pytest.mark.parametrize("encoding", ["base64", "BASE64 (a comment)", "quoted-printable"])
@pytest.mark.parametrize("policy", [compat32, default])
def test_in_an_encoding_that_is_forbidden(encoding, policy):
    """RFC 2046 5.2.1; seen all the same. What ``email`` takes for the message is its code."""
    inner = "From: jörg@x.example\r\nSubject: Größe\r\n\r\n" + "Grüße " * 500
    encode = encodestring if encoding == "quoted-printable" else encodebytes
    code = encode(inner.encode()).replace(b"\r\n", b"\n")
    source = b"From: a@x.org\nTo: b@x.org\nContent-Type: message/rfc822\nContent-Transfer-Encoding: "
    source += encoding.encode() + b"\n\n" + code
    sent = octets(prepare(message_from_bytes(source, policy=policy), NOTHING))
    assert sent.partition(b"\r\n\r\n")[2].rstrip() == code.replace(b"\n", b"\r\n").rstrip()


def test_as_text_without_being_read():
    """A message/rfc822 of octets that nobody parsed."""
    part = MIMEBase("message", "rfc822", name="spam.eml")
    part.set_payload("From: jörg@x.example\n\nGrüße\n".encode().decode("ascii", "surrogateescape"))
    outer = MIMEMultipart(_subparts=[part])
    outer["From"], outer["To"] = "a@x.org", "b@x.org"
    sent = part_of(prepare(outer, NOTHING))
    assert (sent.get_content_type(), sent.get_param("name")) == ("message/global", "spam.eml")
    assert "jörg".encode() in octets(prepare(outer, EIGHT))


def test_many_in_one_another():
    inner: Message = attached("From: jörg@x.example")
    for _ in range(10):
        inner = new(inner)
    sent = prepare(inner, NOTHING)
    assert octets(sent).isascii()
    inner = Message()
    inner.set_payload("x")
    for _ in range(150):
        inner = MIMEMessage(inner)
    inner["From"], inner["To"] = "a@x.org", "b@x.org"
    with pytest.raises(InputError, match="100 deep"):
        prepare(inner, NOTHING)


def test_a_delivery_report_keeps_its_blocks():
    source = (
        b"From: a@x.org\r\nTo: b@x.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; boundary=b\r\n"
        b"\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n"
        b"Final-Recipient: rfc822; y\r\nAction: failed\r\n\r\n"
        b"no field\r\n\r\nX: y\r\nnone\r\n\r\nFinal-Recipient: rfc822; z\r\n\r\n"
        b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: x\r\n\r\n--b--\r\n"
    )
    for policy in (compat32, default, SMTP):
        sent = octets(prepare(message_from_bytes(source, policy=policy), NOTHING))
        assert sent.endswith(source.partition(b"\r\n\r\n")[2])
