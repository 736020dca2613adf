"""The sample mail: enough of it, each what its name says, and all of it fit to be sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from support.messages import FULL, octets

from examples.samples import Sample, samples
from pysmtpx.message import prepare
from pysmtpx.wire.address import ForwardPath, ReversePath
from pysmtpx.wire.lines import check_traits

SAMPLES = {sample.name: sample for sample in samples()}
HEAD_END = re.compile(rb"\r\n\r\n|\n\n")


def sent(sample: Sample) -> bytes:
    return octets(prepare(sample.content, FULL, sender=sample.sender, recipients=sample.recipients))


def read(sample: Sample) -> EmailMessage:
    return message_from_bytes(sent(sample), policy=policy.default)


def body(sample: Sample) -> bytes:
    assert isinstance(sample.content, bytes)
    return HEAD_END.split(sample.content, maxsplit=1)[1]


def kinds(sample: Sample) -> list[str]:
    return [part.get_content_type() for part in read(sample).walk()]


def names(sample: Sample) -> list[str | None]:
    return [part.get_filename() for part in read(sample).iter_attachments()]


def longest_line(octets: bytes) -> int:
    return max(map(len, octets.split(b"\r\n")))


IS: dict[str, Callable[[Sample], object]] = {
    "plain": lambda s: body(s).isascii() and kinds(s) == ["text/plain"],
    "reply_flowed": lambda s: b"format=flowed" in s.content and b"\r\nFrom noon" in s.content,
    "eight_bit": lambda s: not body(s).isascii() and "你好" in body(s).decode("utf-8"),
    "latin1_8bit": lambda s: b"\xa1adi\xf3s" in body(s),
    "iso2022jp": lambda s: body(s).isascii() and b"\x1b$B" in body(s),
    "dot_lines": lambda s: body(s).startswith(b".") and b"\r\n.." in body(s),
    "only_dots": lambda s: set(body(s)) == set(b".\r\n") and b"\r\n.\r\n" in body(s),
    "no_final_newline": lambda s: not s.content.endswith((b"\r", b"\n")),
    "bare_lf": lambda s: b"\n" in s.content and b"\r" not in s.content,
    "bare_cr": lambda s: re.search(rb"\r(?!\n)", body(s)) and not re.search(rb"(?<!\r)\n", s.content),
    "mixed_line_ends": lambda s: (
        all(end in body(s) for end in (b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\r\n"))
        and not body(s).startswith(b".\r\n")
    ),
    "empty_body": lambda s: s.content.endswith(b"\r\n\r\n") and body(s) == b"",
    "no_body": lambda s: not HEAD_END.search(s.content),
    "folded_fields": lambda s: s.content.count(b"\r\n ") > 30 and b"\r\n\t" in s.content,
    "line_of_998": lambda s: longest_line(body(s)) == 998,
    "mailing_list": lambda s: b"\r\nList-Id: " in s.content and len(s.refused) == 1,
    "delivery_report": lambda s: s.sender == "" and "message/delivery-status" in kinds(s),
    "read_receipt": lambda s: s.sender == "" and "message/disposition-notification" in kinds(s),
    "signed": lambda s: kinds(s)[0] == "multipart/signed" and b"100 \xe2\x82\xac.  \r\n" in sent(s),
    "dkim_signed": lambda s: s.content.startswith(b"DKIM-Signature: ") and sent(s) == s.content,
    "encrypted": lambda s: kinds(s)[0] == "multipart/encrypted",
    "calendar_invitation": lambda s: "text/calendar" in kinds(s) and b"METHOD:REQUEST" in s.content,
    "forwarded": lambda s: "message/rfc822" in kinds(s) and b"Bcc: archive@" in sent(s),
    "newsletter": lambda s: "text/html" in kinds(s) and b"List-Unsubscribe-Post" in s.content,
    "notification": lambda s: read(s)["Auto-Submitted"] == "auto-generated" and read(s)["X-Priority"],
    "smtputf8_octets": lambda s: (
        ReversePath(s.sender).needs_smtputf8 and "Subject: Grüße".encode() in s.content
    ),
    "html_with_inline_images": lambda s: (
        b"cid:red" in sent(s) and kinds(s).count("image/png") == 3 and names(s) == ["blue.png"]
    ),
    "utf8_fields": lambda s: sent(s).isascii() and "Зоя" in read(s)["To"] and "🙂" in read(s)["Subject"],
    "smtputf8_addresses": lambda s: s.sender.encode() in sent(s) and ReversePath(s.sender).needs_smtputf8,
    "idn_domains": lambda s: (
        sent(s).isascii()
        and ReversePath(s.sender).domain == "xn--bcher-kva.example"
        and "xn--fa-hia" in read(s)["To"]
    ),
    "long_lines": lambda s: longest_line(s.content.as_bytes()) > 10_000 and longest_line(sent(s)) < 998,
    "eight_bit_object": lambda s: "Grüße".encode() in sent(s),
    "groups_and_bcc": lambda s: (
        "eve@example.com" in s.recipients and b"eve@" not in sent(s) and b"Friends:" in sent(s)
    ),
    "many_recipients": lambda s: len(s.recipients) == 200 and len(s.refused) == 8,
    "some_refused": lambda s: (len(s.recipients), len(s.refused)) == (3, 1),
    "attachment_of_5_mb": lambda s: len(next(read(s).iter_attachments()).get_content()) == 5 * 1024 * 1024,
    "utf8_file_names": lambda s: (
        {"Übersicht.pdf", "履歴書.pdf", 'quote " and ; semicolon.pdf'} < set(names(s))
    ),
    "very_many_fields": lambda s: len(read(s)) > 1000,
    "binary_part": lambda s: next(read(s).iter_attachments()).get_content() == bytes(range(256)) * 8,
    "forwarded_object": lambda s: "message/rfc822" in kinds(s) and "text/csv" in kinds(s),
}


def test_there_are_enough():
    assert len(SAMPLES) == len(samples()) >= 24
    assert SAMPLES.keys() == IS.keys()


@pytest.mark.parametrize("name", IS)
def test_each_is_what_its_name_says(name):
    assert IS[name](SAMPLES[name])


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_each_can_be_sent(sample):
    mail = prepare(sample.content, FULL, sender=sample.sender, recipients=sample.recipients)
    check_traits(mail.content.measure, allow_long_lines=False, allow_nul=False)
    if isinstance(sample.content, bytes):
        assert octets(mail) == b"".join(map(bytes, type(mail.content).of(sample.content).for_bdat()))


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_the_envelope_of_a_message_object_is_the_one_in_its_fields(sample):
    if isinstance(sample.content, EmailMessage):
        mail = prepare(sample.content, FULL)
        assert set(mail.recipients) == set(sample.recipients)
        assert mail.sender == sample.sender


def test_the_refused_are_refused_everywhere():
    refused = {path for sample in SAMPLES.values() for path in sample.refused}
    for sample in SAMPLES.values():
        assert sample.refused == refused & set(sample.recipients) != set(sample.recipients)
        assert all(map(ForwardPath, sample.recipients))


def test_the_same_each_time():
    for first, second in zip(samples(), SAMPLES.values(), strict=True):
        assert (first.name, first.recipients) == (second.name, second.recipients)
        if isinstance(first.content, bytes):
            assert first.content == second.content
