"""Header fields on the wire: one field in, one field out, and the same text read back."""

from __future__ import annotations

from email import message_from_bytes
from email.header import Header
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage, Message
from email.policy import default

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pysmtpx.errors import InputError
from pysmtpx.mime import addresses, headers, parameters
from pysmtpx.mime.parts import Part

pytestmark = pytest.mark.everywhere

MAKE = HeaderRegistry()


def written(name: str, value: object, *, utf8: bool = False) -> bytes:
    return headers.Field(name, value).written(utf8=utf8)


def signed(name: str, value: object) -> bytes:
    return headers.write_signed(headers.Field(name, value))


def read(octets: bytes, name: str) -> str:
    return str(message_from_bytes(octets + b"\r\n", policy=default)[name])


class TestAsItIs:
    @pytest.mark.parametrize(
        ("value", "octets"),
        [
            ("plain", b"X: plain\r\n"),
            ("", b"X: \r\n"),
            ("folded\n  here\r\n\tand here\r there", b"X: folded\r\n  here\r\n\tand here\r\n there\r\n"),
            ("=?utf-8?q?=C3=BC?=", b"X: =?utf-8?q?=C3=BC?=\r\n"),
            ("a" * 900, b"X: " + b"a" * 900 + b"\r\n"),
        ],
    )
    def test_a_field_from_elsewhere(self, value, octets):
        assert written("X", value) == octets

    def test_exact_leaves_8_bit_too(self):
        assert signed("Subject", "gr\udcc3\udcbc  n") == b"Subject: gr\xc3\xbc  n\r\n"

    @pytest.mark.parametrize("value", ["a\n \n b", "a " * 600])
    def test_exact_is_never_folded_anew(self, value):
        assert written("Subject", value)
        with pytest.raises(InputError, match="signature"):
            signed("Subject", value)
        assert signed("Subject", MAKE("Subject", "made here")) == b"Subject: made here\r\n"

    def test_a_legacy_header_object(self):
        assert written("Subject", Header("grün", "utf-8")) == b"Subject: =?utf-8?b?Z3LDvG4=?=\r\n"


class TestInjection:
    @pytest.mark.parametrize(
        "value",
        ["a\nBcc: x@y.org", "a\r\n\r\nbody", "a\rb", "a\n", "\nBcc: x", "a\r\n b\nc", "a\0b", 5, None, b"x"],
    )
    @pytest.mark.parametrize("name", ["X", "Subject", "To", "Content-Type"])
    def test_refused(self, name, value):
        """FAULTS 110, CVE-2024-6923."""
        for write in (written, signed):
            with pytest.raises(InputError):
                write(name, value)

    @pytest.mark.parametrize("name", ["", "a b", "a:", "a\nb", "é", "a\0", "a\x7f", None])
    def test_name(self, name):
        with pytest.raises(InputError):
            written(name, "x")

    @pytest.mark.parametrize("word", ["=?utf-8?q?a=0ABcc:_b@x.org?=", "=?utf-8?q?=0D=0A=0D=0Abody?="])
    def test_a_line_end_in_an_encoded_word(self, word):
        """CVE-2024-6923: decoded by the email package, and written raw."""
        assert written("Subject", word) == f"Subject: {word}\r\n".encode()
        with pytest.raises(InputError):
            written("Subject", MAKE("Subject", word))
        with pytest.raises(InputError):
            written("Subject", f"ü {word}")

    def test_a_line_of_white_space_is_folded_away(self):
        """A lenient reader takes it for the end of the header section."""
        assert written("X", "a\n \n b") == b"X: a  b\r\n"

    def test_lone_surrogate(self):
        with pytest.raises(InputError):
            written("X", "\ud800")


class TestEncodedWords:
    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=200))
    @example("Grüße an alle " * 20)
    @example("日本語" * 60)
    @example("a" * 300 + "é")
    @example("x" * 2000)
    def test_any_subject_is_read_back(self, text):
        subject = MAKE("Subject", text)
        octets = written("Subject", subject)
        assert octets.isascii()
        assert all(len(line) <= 76 or b"=?" not in line for line in octets.split(b"\r\n"))
        assert read(octets, "Subject").split() == str(subject).split()

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=200))
    def test_any_subject_is_read_back_with_smtputf8(self, text):
        subject = MAKE("Subject", text)
        octets = written("Subject", subject, utf8=True)
        assert read(octets, "Subject").split() == str(subject).split()

    def test_octets_of_no_known_charset_are_kept(self):
        assert written("X", "gr\udcfcn") == b"X: =?unknown-8bit?q?gr=FCn?=\r\n"
        assert written("X", "gr\udcfcn", utf8=True) == b"X: =?unknown-8bit?q?gr=FCn?=\r\n"

    def test_what_str_splitlines_takes_for_a_line_end_is_text(self):
        """FAULTS 13."""
        text = "a\x0bb\x0cc\x1cd\x85e\u2028f"
        assert read(written("Subject", text), "Subject") == text
        assert written("Subject", text, utf8=True) == f"Subject: {text}\r\n".encode()

    def test_octets_of_utf8_are_read(self):
        assert read(written("X", "gr\udcc3\udcbcn =?utf-8?q?=C3=BC?="), "X") == "grün ü"
        assert written("X", "gr\udcc3\udcbcn", utf8=True) == "X: grün\r\n".encode()

    def test_a_long_word_without_a_space(self):
        assert read(written("Subject", "x" * 3000), "Subject") == "x" * 3000
        with pytest.raises(InputError, match="998"):
            written("References", "x" * 3000)


class TestAddresses:
    @pytest.mark.parametrize(
        ("value", "octets"),
        [
            ("Jörg <a@x.org>", b"=?utf-8?b?SsO2cmc=?= <a@x.org>"),
            ('"Müller, Jörg" <a@x.org>', b"=?utf-8?b?TcO8bGxlciwgSsO2cmc=?= <a@x.org>"),
            ("a@müller.de", b"a@xn--mller-kva.de"),
            ("a@x.org (Jörg)", b"=?utf-8?b?SsO2cmc=?= <a@x.org>"),
            ('"Ann, B" <a@müller.de>', b'"Ann, B" <a@xn--mller-kva.de>'),
            ("Grün: a@x.org, ü <b@y.org>;", b"=?utf-8?b?R3LDvG4=?=: a@x.org, =?utf-8?b?w7w=?= <b@y.org>;"),
            ("gr\udcfc <a@x.org>", b"=?unknown-8bit?b?Z3L8?= <a@x.org>"),
        ],
    )
    def test_without_smtputf8(self, value, octets):
        assert written("To", value) == b"To: " + octets + b"\r\n"

    def test_with_smtputf8(self):
        assert written("To", "Jörg <ü@müller.de>", utf8=True) == "To: Jörg <ü@müller.de>\r\n".encode()

    @pytest.mark.parametrize("value", ["ü", "ü@x@y", "\udcfc@x.org", "a@\udcfc.org"])
    def test_neither_ascii_nor_an_address(self, value):
        with pytest.raises(InputError, match="To"):
            written("To", value, utf8=True)

    def test_ascii_that_is_no_address_is_not_judged(self):
        assert written("Reply-To", "whoever, <") == b"Reply-To: whoever, <\r\n"

    def test_internationalized(self):
        assert headers.Field("Cc", "a@ü.de, Ü <ö@x.org>, é@x.org").internationalized == ["ö@x.org", "é@x.org"]
        assert headers.Field("Subject", "ö@x.org").internationalized == []

    @given(st.lists(st.text('aé ,;:<>@"\\()日', min_size=1, max_size=40).filter(str.strip), min_size=1))
    def test_no_display_name_becomes_an_address(self, names):
        """A comma in a long name, folded by some Pythons, became a second recipient."""
        value = MAKE("To", [Address(name, "a", "x.org") for name in names])
        octets = written("To", value)
        assert octets.isascii()
        unfolded = octets[4:].replace(b"\r\n", b"").decode()
        boxes = list(addresses.flatten(addresses.parse(unfolded)))
        assert [box.address for box in boxes] == ["a@x.org"] * len(names)

    def test_many_are_folded_between_addresses(self):
        value = MAKE("To", [Address("Ann B", f"user{n}", "x.org") for n in range(500)])
        octets = written("To", value)
        assert all(len(line) < 78 for line in octets.split(b"\r\n"))
        assert octets.count(b"@") == 500


class TestParameters:
    @given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=60))
    @example("Übersicht der sehr langen Dateinamen, die niemand mag; 日本語.pdf")
    def test_any_file_name_is_read_back(self, name):
        message = EmailMessage()
        message.add_attachment(b"x", maintype="a", subtype="b", filename=name)
        part = next(message.iter_attachments())
        octets = b"".join(written(*field, utf8=True) for field in part.raw_items())
        assert message_from_bytes(octets + b"\r\n", policy=default).get_filename() == part.get_filename()

    def test_raw_utf8_in_a_legacy_message(self):
        octets = written("Content-Disposition", 'attachment; filename="gr\udcc3\udcbcn.txt"')
        assert octets == b"Content-Disposition: attachment; filename*=utf-8''gr%C3%BCn.txt\r\n"

    @pytest.mark.parametrize("length", [1, 50, 60, 66, 68, 70, 78, 128])
    @pytest.mark.parametrize("value", ["ü", "ü" * 200, "x" * 2000])
    def test_a_long_name(self, length, value):
        """CPython gh-138223: a name of some 68 characters held the thread for ever."""
        octets = written("Content-Type", f'a/b; {"n" * length}="{value}"')
        assert max(map(len, octets.split(b"\r\n"))) <= max(76, length + 40)
        assert message_from_bytes(octets, policy=default)["Content-Type"].params["n" * length] == value

    @pytest.mark.parametrize(
        "value",
        [
            *(f"a/b; {'n' * 129}=ü", "ä/b; x=y", "a/b; ü", "a/b; ü=x", "a/b; =ü", "a/b; a b=ü", "a/b; n*1=ü"),
            *("a/b; n*=utf-8''ü", f"a/b; {'x' * 999}", "a" * 999),
        ],
    )
    def test_what_no_header_may_hold(self, value):
        for name in ("Content-Type", "content-disposition"):
            with pytest.raises(InputError, match=f"^{name}"):
                written(name, value)

    @pytest.mark.parametrize(
        ("value", "octets"),
        [
            ("a/b; x=ü; y=z", b"a/b; x*=utf-8''%C3%BC; y=z"),
            ("a/b;x = ü ;;y=z;", b"a/b; x*=utf-8''%C3%BC; y=z"),
            ('a/b; x="ü;\\"(y=z"', b"a/b; x*=utf-8''%C3%BC%3B%22%28y%3Dz"),
            ('a/b (c; "d); x=ü', b"a/b (c; \"d); x*=utf-8''%C3%BC"),
            ("a/b; x=\udcfc", b"a/b; x*=unknown-8bit''%FC"),
            ("a/b; x=ü (y)", b"a/b; x*=utf-8''%C3%BC"),
            ('a/b; x="ü', b"a/b; x*=utf-8''%C3%BC"),
            (f"a/b; c=ü; f*=utf-8''{'%C3%BC' * 3}", b"a/b; c*=utf-8''%C3%BC; f*=utf-8''%C3%BC%C3%BC%C3%BC"),
        ],
    )
    def test_rewritten(self, value, octets):
        assert written("X", value) != octets
        assert written("Content-Type", value) == b"Content-Type: " + octets + b"\r\n"

    def test_a_long_extended_value_is_cut_between_octets(self):
        """As ``email.message.Message.add_header`` writes a long name that is not ASCII: in one line."""
        message = Message()
        message.add_header("Content-Disposition", "attachment", filename=("utf-8", "", "日本語" * 100))
        octets = written(*message.items()[0])
        assert max(map(len, octets.split(b"\r\n"))) <= 76
        assert message_from_bytes(octets, policy=default).get_filename() == "日本語" * 100


class TestReadingParameters:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("a/b; n=x", "x"),
            ("a/b; N = x ; m=y", "x"),
            ('a/b; m="n=z"; n="x;\\"y"', 'x;"y'),
            ("a/b; n=x (a comment)", "x"),
            ("a/b (n=z; n=z) ; n=x", "x"),
            ("a/b; n*=utf-8'de'%C3%BC", "ü"),
            ("a/b; n*1*=%C3%BC; n*0*=utf-8''a; n*2=%41", "aü%41"),
            ("a/b; n=x; n=y", "x"),
            ("n=x", None),
            ("a/b; n", None),
            ("a/b; n*1=x", None),
        ],
    )
    def test_get(self, text, value):
        assert parameters.get(text, "n") == value

    @pytest.mark.parametrize("text", ["base64", " Base64 ", "base64 (x)", "(x(y)) BASE64(z)", "base64; n=x"])
    def test_first(self, text):
        assert parameters.first(text) == "base64"


def test_fields_of_a_message():
    message = Message()
    message["Subject"] = "a\n b"
    message["X-Y"] = Header("ü", "utf-8")
    fields = [(field.key, field.text) for field in Part(message).fields]
    assert fields == [("subject", "a b"), ("x-y", "=?utf-8?b?w7w=?=")]
