"""Body parts in a form that the server can take, and none altered that must not be."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import EIGHT, NOTHING, big_nested, legacy, octets, read, simple, text

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.message import prepare
from pysmtpx.wire.lines import check_traits
from pysmtpx.wire.params import MailFromParams

pytestmark = pytest.mark.everywhere


class TestTransferEncoding:
    def test_8_bit_stays_where_8bitmime_is_offered(self):
        message = simple()
        message.set_content("Grüße\n", cte="8bit")
        mail = prepare(message, EIGHT)
        assert "Grüße\r\n".encode() in octets(mail)
        seven = prepare(message, EIGHT, mail_params=MailFromParams(body="7BIT"))
        assert octets(seven).isascii()

    @pytest.mark.parametrize(
        ("content", "cte"), [("Grüße an alle\n", "quoted-printable"), ("日本語\n", "base64")]
    )
    def test_7_bit_by_the_shorter_encoding(self, content, cte):
        """FAULTS 109."""
        message = simple()
        message.set_content(content, cte="8bit")
        mail = prepare(message, NOTHING)
        assert octets(mail).isascii()
        assert read(mail)["Content-Transfer-Encoding"] == cte
        assert text(read(mail)) == content

    @pytest.mark.parametrize("capabilities", [NOTHING, EIGHT])
    def test_every_part_is_mended(self, capabilities):
        """FAULTS 109: 8-bit, long lines, NUL and binary."""
        mail = prepare(big_nested(), capabilities)
        measure = mail.content.measure
        assert measure.is_8bit == (capabilities is EIGHT)
        assert (measure.has_long_line, measure.has_nul) == (False, False)
        bodies = [text(part) for part in read(mail).walk() if not part.is_multipart()]
        assert bodies == ["Grüße\n", "<p>Grüße " + "x" * 2000 + "\n", b"\0\xff" * 100, "Hello\n"]
        assert read(mail)["Subject"] == "Grüße"

    def test_an_old_message_without_mime_fields(self):
        message = message_from_bytes(b"From: a@x.org\nTo: b@x.org\n\ngr\xc3\xbcn\n")
        sent = read(prepare(message, NOTHING))
        assert (sent["MIME-Version"], text(sent)) == ("1.0", "grün\n")
        odd = message_from_bytes(b"From: a@x.org\nTo: b@x.org\n\ngr\xfcn\n")
        assert b"charset=unknown-8bit" in octets(prepare(odd, NOTHING))

    def test_base64_in_one_line(self):
        message = legacy(("From", "a@x.org"), ("To", "b@x.org"), ("Content-Transfer-Encoding", "base64"))
        message.set_payload("YWJj" * 1000)
        assert read(prepare(message, EIGHT)).get_payload(decode=True) == b"abc" * 1000

    def test_preamble_and_epilogue_of_no_use(self):
        message = MIMEMultipart(_subparts=[MIMEText("x")])
        message["From"], message["To"] = "a@x.org", "b@x.org"
        message.preamble, message.epilogue = "x" * 2000, "\udcff"
        assert b"xx" not in octets(prepare(message, NOTHING))

    @pytest.mark.parametrize(
        ("body", "error"),
        [("gr\udcc3\udcbcn", NotSupportedError), ("x" * 999, InputError), ("a\0b", InputError)],
    )
    @pytest.mark.parametrize("how", ["dkim", "multipart", "nested"])
    def test_what_is_signed_is_never_altered(self, how, body, error):
        """FAULTS 109."""
        message: Message = MIMEText("")
        message.set_payload(body)
        if how == "dkim":
            message["DKIM-Signature"] = "v=1"
        else:
            message = MIMEMultipart("signed", _subparts=[message, MIMEText("")])
        if how == "nested":
            message = MIMEMultipart("mixed", _subparts=[message])
        message["From"], message["To"] = "a@x.org", "b@x.org"
        with pytest.raises(error, match="signed") as caught:
            prepare(message, NOTHING)
        if error is NotSupportedError:
            assert caught.value.keyword == "8BITMIME"
            assert b"gr\xc3\xbcn" in octets(prepare(message, EIGHT))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("Content-Type", "multipart/mixed"),
            ("Content-Type", "message/x"),
            ("Content-Transfer-Encoding", "x"),
        ],
    )
    def test_what_must_not_be_encoded(self, field, value):
        message = legacy(("From", "a@x.org"), ("To", "b@x.org"), (field, value), body="x" * 999)
        with pytest.raises(InputError, match=r"must not be encoded|is unknown"):
            prepare(message, NOTHING)

    @given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=1200))
    def test_any_text_arrives(self, content):
        for capabilities in (NOTHING, EIGHT):
            message = simple()
            message.set_content(content, cte="8bit")
            sent = prepare(message, capabilities)
            check_traits(
                sent.content.measure,
                allow_8bit=capabilities is EIGHT,
                allow_long_lines=False,
                allow_nul=False,
            )
            assert text(read(sent)).rstrip("\n") == text(message).rstrip("\n")

    @pytest.mark.parametrize("capabilities", [NOTHING, EIGHT])
    @pytest.mark.parametrize(
        "encoding", ["base64 (a comment)", " (a; comment) BASE64 ", "Base64;", "QUOTED-PRINTABLE (x)"]
    )
    def test_an_encoding_with_a_comment(self, encoding, capabilities):
        """RFC 2045 6.1 takes comments there; a line too long makes it be encoded anew."""
        message = legacy(("From", "a@x.org"), ("To", "b@x.org"), ("Content-Transfer-Encoding", encoding))
        message.set_payload("YWJj" * 1000 if "64" in encoding.upper() else "=C3=BC" * 1000)
        expected = b"abc" * 1000 if "64" in encoding.upper() else "ü".encode() * 1000
        assert read(prepare(message, capabilities)).get_payload(decode=True) == expected
