"""prepare() for message objects: the envelope, the fields, and that the caller's message stays as it is."""

from __future__ import annotations

import re
from contextlib import suppress
from email import message_from_bytes, policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.messages import EIGHT, FULL, NOTHING, big_nested, legacy, octets, read, simple

from pysmtpx.errors import InputError, NotSupportedError, UsageError
from pysmtpx.message import prepare
from pysmtpx.mime import raw
from pysmtpx.wire.params import MailFromParams, RcptToParams


class TestEnvelope:
    def test_from_to_cc_bcc(self):
        message = simple(To="B <b@x.org>, G: c@x.org, d@x.org;, E:;", Cc="b@X.ORG, B@x.org", Bcc="f@x.org")
        mail = prepare(message, NOTHING)
        assert mail.sender == "a@x.org"
        assert mail.recipients == ("b@x.org", "c@x.org", "d@x.org", "B@x.org", "f@x.org")

    def test_sender_over_from(self):
        assert prepare(simple(Sender="s@x.org", From="a@x.org, b@x.org"), NOTHING).sender == "s@x.org"

    def test_two_authors_and_no_sender(self):
        with pytest.raises(InputError, match="2 mailboxes"):
            prepare(simple(From="a@x.org, b@x.org"), NOTHING)
        with pytest.raises(InputError, match="2 mailboxes"):
            prepare(legacy(("From", "a@x.org"), ("From", "b@x.org"), ("To", "c@x.org")), NOTHING)

    def test_explicit_envelope_wins(self):
        mail = prepare(simple(), NOTHING, sender="", recipients=["c@x.org", "c@x.org"])
        assert (mail.sender, mail.recipients) == ("", ("c@x.org", "c@x.org"))
        assert prepare(simple(), NOTHING, recipients="c@x.org").recipients == ("c@x.org",)

    def test_explicit_envelope_needs_no_readable_fields(self):
        message = legacy(("From", "nobody at all"), ("To", "undisclosed recipients"))
        mail = prepare(message, NOTHING, sender="a@x.org", recipients=["b@x.org"])
        assert b"To: undisclosed recipients\r\n" in octets(mail)
        with pytest.raises(InputError, match="from"):
            prepare(message, NOTHING)

    @pytest.mark.parametrize("missing", ["From", "To"])
    def test_nothing_to_tell_it_from(self, missing):
        message = simple()
        del message[missing]
        with pytest.raises(InputError, match=r"give the (sender|recipients)"):
            prepare(message, NOTHING)
        with pytest.raises(InputError):
            prepare(message, NOTHING, sender="a@x.org", recipients=[])

    def test_resent(self):
        message = simple(Resent_From="r@x.org", Resent_To="t@x.org", Resent_Bcc="u@x.org", Bcc="n@x.org")
        mail = prepare(message, NOTHING)
        assert (mail.sender, mail.recipients) == ("r@x.org", ("t@x.org", "u@x.org"))
        assert b"cc:" not in octets(mail).lower()
        message["Resent-Sender"] = "s@x.org"
        assert prepare(message, NOTHING).sender == "s@x.org"

    def test_resent_twice(self):
        message = legacy(*[(n, "a@x.org") for n in ("From", "To", "Resent-From", "Resent-To") * 2])
        with pytest.raises(InputError, match="more than once"):
            prepare(message, NOTHING)

    def test_parameters_are_handed_on(self):
        rcpt = [RcptToParams(notify=["NEVER"])]
        mail = prepare(simple(), NOTHING, mail_params=MailFromParams(ret="HDRS"), rcpt_params=rcpt)
        assert mail.mail_params == MailFromParams(ret="HDRS")
        assert mail.rcpt_params == tuple(rcpt)
        with pytest.raises(UsageError):
            prepare(simple(), NOTHING, rcpt_params=rcpt * 2)


class TestFields:
    def test_bcc_is_not_sent(self):
        """FAULTS 110."""
        message = legacy(("From", "a@x.org"), ("bCC", "b@x.org"), ("Bcc", "c@x.org"), ("Resent-Subject", "x"))
        mail = prepare(message, NOTHING)
        assert mail.recipients == ("b@x.org", "c@x.org")
        assert b"bcc:" not in octets(mail).lower()

    def test_date_and_message_id_are_added(self):
        first, second = (read(prepare(simple(From="a@müller.de"), NOTHING)) for _ in range(2))
        assert re.fullmatch(r"<[0-9a-f]{32}@xn--mller-kva\.de>", first["Message-ID"])
        assert first["Message-ID"] != second["Message-ID"]
        assert parsedate_to_datetime(first["Date"]).utcoffset().total_seconds() == 0

    @pytest.mark.parametrize(
        ("sender", "author", "domain"),
        [
            ("s@y.org", "a@x.org", "y.org"),
            ("", "a@x.org", "x.org"),
            ("", "who", "localhost"),
            ("a@[192.0.2.1]", "a@x.org", "[192.0.2.1]"),
        ],
    )
    def test_message_id_names_no_host_of_ours(self, sender, author, domain):
        message = legacy(("From", author))
        mail = prepare(message, NOTHING, sender=sender, recipients=["b@x.org"])
        assert read(mail)["Message-ID"].endswith(f"@{domain}>")

    def test_date_and_message_id_are_kept(self):
        sent = read(prepare(simple(Date="Fri, 21 Nov 1997 09:55:06 -0600", Message_ID="<1@x.org>"), NOTHING))
        assert (sent.get_all("Message-ID"), len(sent.get_all("Date"))) == (["<1@x.org>"], 1)

    @pytest.mark.parametrize("name", ["Subject", "From", "To", "Reply-To", "X-Spam", "Content-Type"])
    def test_a_line_end_never_begins_another_field(self, name):
        """FAULTS 110, CVE-2024-6923."""
        message = legacy()
        del message[name]
        message[name] = "a@x.org\r\nBcc: evil@x.org"
        for signed in (False, True):
            if signed:
                message["DKIM-Signature"] = "v=1"
            with pytest.raises(InputError):
                prepare(message, FULL, sender="a@x.org", recipients=["b@x.org"])

    @pytest.mark.parametrize("where", ["part", "attached"])
    def test_nor_in_a_part(self, where):
        inner = legacy(("From", "a@x.org"), ("Content-Description", "x\nBcc: evil@x.org"))
        outer = MIMEMultipart() if where == "part" else EmailMessage()
        outer["From"], outer["To"] = "a@x.org", "b@x.org"
        outer.attach(inner) if where == "part" else outer.set_content(inner)
        with pytest.raises(InputError):
            prepare(outer, FULL)


def snapshot(part: Message) -> object:
    payload = part.get_payload()
    below = [snapshot(child) for child in payload] if isinstance(payload, list) else payload
    return (list(part.raw_items()), below, part.preamble, part.epilogue, id(part.policy), part.get_boundary())


class TestCallersMessage:
    @pytest.mark.parametrize("capabilities", [NOTHING, EIGHT, FULL])
    @pytest.mark.parametrize("make", [simple, legacy, big_nested])
    def test_never_changes(self, make, capabilities):
        message = make()
        before = snapshot(message)
        prepare(message, capabilities)
        assert snapshot(message) == before
        if make is not big_nested:  # as_bytes() itself fills in boundaries
            assert message.as_bytes() == make().as_bytes()

    def test_can_be_sent_again(self):
        message = big_nested()
        first, second = (
            re.sub(rb"[0-9a-f]{32}@|=+\d+=+", b"", octets(prepare(message, EIGHT))) for _ in "ab"
        )
        assert re.sub(rb"Date: .*", b"", first) == re.sub(rb"Date: .*", b"", second)


class TestSmtputf8:
    def test_not_needed_for_names_and_domains(self):
        message = simple(From=Address("Jörg", "j", "müller.de"), To="ü <b@faß.de>", Subject="Grüße")
        mail = prepare(message, FULL)
        assert mail.mail_params is None
        head = octets(mail)
        assert head.isascii()
        assert b"<j@xn--mller-kva.de>" in head
        assert b"<b@xn--fa-hia.de>" in head
        assert read(mail)["From"] == "Jörg <j@xn--mller-kva.de>"

    @pytest.mark.parametrize("name", ["From", "To", "Bcc", "Reply-To"])
    def test_a_local_part_needs_it(self, name):
        """FAULTS 107."""
        message = simple(**{name: "jörg@müller.de"})
        with pytest.raises(NotSupportedError, match=r"jörg@müller\.de") as caught:
            prepare(message, EIGHT)
        assert caught.value.keyword == "SMTPUTF8"
        mail = prepare(message, FULL, mail_params=MailFromParams(ret="FULL"))
        assert mail.mail_params == MailFromParams(ret="FULL", smtputf8=True)
        assert ("jörg@müller.de".encode() in octets(mail)) == (name != "Bcc")

    def test_in_the_envelope_alone(self):
        assert prepare(simple(), FULL, recipients=["ü@x.org"]).mail_params == MailFromParams(smtputf8=True)
        with pytest.raises(NotSupportedError, match=r"ü@x\.org"):
            prepare(simple(), EIGHT, sender="ü@x.org")

    def test_in_an_attached_message(self):
        message = simple()
        message.add_attachment(simple(From="jörg@x.org"))
        assert prepare(message, FULL).mail_params is None  # it is content, whatever is in it

    def test_a_signed_field_in_utf8(self):
        source = b"From: a@x.org\nTo: b@x.org\nSubject: gr\xc3\xbcn\nDKIM-Signature: v=1\n\nx\n"
        message = message_from_bytes(source)
        assert b"Subject: gr\xc3\xbcn\r\n" in octets(prepare(message, FULL))
        with pytest.raises(NotSupportedError, match="subject"):
            prepare(message, EIGHT)

    @pytest.mark.parametrize("which", [policy.default, policy.SMTP, policy.SMTPUTF8, policy.compat32])
    def test_raw_octets_in_fields_of_a_parsed_message(self, which):
        source = b"From: J\xc3\xb6rg <a@x.org>\nTo: b@x.org\nSubject: gr\xfcn\n\nx\n"
        mail = prepare(message_from_bytes(source, policy=which), NOTHING)
        assert octets(mail).isascii()
        assert b"unknown-8bit" in octets(mail)
        assert read(mail)["From"] == "Jörg <a@x.org>"


class TestWhatCannotBeWritten:
    def test_says_so(self):
        nested = EmailMessage()
        for _ in range(2000):
            outer = Message()
            outer.attach(nested)
            nested = outer  # type: ignore[assignment]
        payload = legacy()
        payload.set_payload(5)
        for message in (nested, payload, legacy(body="grün without a charset")):
            with pytest.raises(InputError):
                prepare(message, FULL, sender="a@x.org", recipients=["b@x.org"])

    @pytest.mark.parametrize("message", ["text", None, 5, object()])
    def test_other_types(self, message):
        with pytest.raises(InputError, match="message"):
            prepare(message, FULL)

    def test_a_message_parsed_with_defects(self):
        source = b"From: a@x.org\nTo: b@x.org\nContent-Type: multipart/mixed; boundary=x\n\n--y\n\nlost\n"
        for which in (policy.default, policy.compat32):
            assert b"--y\r\n\r\nlost\r\n" in octets(
                prepare(message_from_bytes(source, policy=which), NOTHING)
            )


_NAMES = st.sampled_from(["Subject", "To", "Cc", "BCC", "Content-Type", "Content-Disposition", "X-Y"])
_PIECES = st.sampled_from(
    [
        *(
            "a@x.org",
            "<b@x.org>",
            "é",
            "w" * 90,
            "\udcff",
            "\x0b",
            "\x85",
            "\u2028",
            "\\",
            "(",
            ":",
            ",",
            '"',
        ),
        *("\n ", "\r\n\t", "\n \n ", "Bcc: z@x.org", "=?utf-8?q?=0D=0ABcc:_z@x.org?=", "=?", "?="),
        *("; x=", "filename*=utf-8''%0D%0ABcc:%20z%40x.org", "text/plain", "attachment", "charset*0="),
    ]
)
_FIELDS = st.lists(st.tuples(_NAMES, st.lists(_PIECES, max_size=8).map("".join)), max_size=6)


class TestAnyMessage:
    @staticmethod
    def is_honest(message: Message, names: set[str]) -> None:
        # A list of nobody is not sent.
        said = {name.lower() for name, value in message.raw_items() if str(value).strip()}
        blank = {"to", "cc"} - said
        for capabilities in (NOTHING, FULL):
            try:
                mail = prepare(message, capabilities, sender="a@x.org", recipients=["b@x.org"])
            except (InputError, NotSupportedError):
                continue
            section = raw.section(octets(mail))
            added = {"date", "message-id", "mime-version", "content-transfer-encoding", "content-type"}
            found = {field.name for field in section.fields} - added
            assert names - {"bcc"} - added - blank <= found <= names - {"bcc"} - added

    @settings(max_examples=200)
    @given(_FIELDS, st.sampled_from([policy.default, policy.SMTPUTF8, policy.compat32]))
    def test_parsed_grows_no_field(self, fields, which):
        """FAULTS 110, CVE-2024-6923."""
        source = "".join(f"{name}: {value}\n" for name, value in fields) + "\nbody\n"
        message = message_from_bytes(source.encode("utf-8", "surrogateescape"), policy=which)
        self.is_honest(message, {name.lower() for name in message})

    @settings(max_examples=200)
    @given(_FIELDS, st.sampled_from([EmailMessage, Message]))
    def test_made_grows_no_field(self, fields, kind):
        """FAULTS 110, CVE-2024-6923."""
        message = kind()
        for name, value in fields:
            with suppress(ValueError, IndexError, AttributeError, LookupError, UnicodeError, MessageError):
                message[name] = value
        self.is_honest(message, {name.lower() for name in message})
