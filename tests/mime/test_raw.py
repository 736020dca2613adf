"""Octets that are sent as they are: only whole header fields are cut out or put in front."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import EIGHT, FULL, NOTHING

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.message import prepare
from pysmtpx.mime import raw
from pysmtpx.wire.params import MailFromParams

HEAD = b"Date: Fri, 21 Nov 1997 09:55:06 -0600\r\nMessage-ID: <1@x.org>\r\nFrom: a@x.org\r\nTo: b@x.org\r\n"


def octets(mail):
    return b"".join(bytes(piece) for piece in mail.content.for_bdat(binary=True))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
class TestEveryKindOfOctets:
    def test_a_whole_message_goes_untouched(self, kind):
        source = HEAD + b"X:1\nY : a\t \r\rgr\xc3\xbcn\n.\r\n\0" + b"x" * 2000
        mail = prepare(kind(source), NOTHING)
        assert octets(mail) == source
        assert (mail.sender, mail.recipients, mail.mail_params) == ("a@x.org", ("b@x.org",), None)

    @pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
    @pytest.mark.parametrize(
        "bcc", [b"Bcc: c@x.org", b"BCC :c@x.org", b"bcc: <c@x.org>,$ d@x.org$\t, e@x.org"]
    )
    @pytest.mark.parametrize("rest", [b"", b"$", b"$Bcc: body\r\n", b"X: y$$Bcc: body"])
    def test_bcc_is_cut_out_with_its_folds(self, kind, end, bcc, rest):
        """FAULTS 110: also where a bare CR or LF ends the line before it."""
        bcc, rest = bcc.replace(b"$", end), rest.replace(b"$", end)
        mail = prepare(kind(HEAD + bcc + end + b"Resent-Comments: y" + end + rest), NOTHING)
        assert octets(mail) == HEAD + b"Resent-Comments: y" + end + rest
        assert mail.recipients[:2] == ("b@x.org", "c@x.org")

    def test_what_is_missing_comes_first(self, kind):
        body = b"From: a@x.org\nTo: b@x.org\nSubject: x\n\n  body\n"
        sent = octets(prepare(kind(body), NOTHING))
        assert sent.endswith(body)
        added = sent.removesuffix(body)
        assert [line.split(b":")[0] for line in added.splitlines()] == [b"Date", b"Message-ID"]
        assert added.endswith(b"@x.org>\r\n")

    def test_a_message_without_header_section(self, kind):
        sent = octets(prepare(kind(b"\r\nbody"), NOTHING, sender="a@x.org", recipients=["b@x.org"]))
        assert sent.endswith(b"@x.org>\r\n\r\nbody")
        assert octets(prepare(kind(b""), NOTHING, sender="a@x.org", recipients=["b@x.org"])).endswith(
            b">\r\n"
        )

    @pytest.mark.parametrize(
        "source",
        [
            b"hello\r\n",
            b" X: y\r\n\r\n",
            b"From a@x.org Mon Jan 1\r\nTo: b@x.org\r\n\r\n",
            HEAD + b"Bcc\r\n: c@x.org",
            HEAD + b"B cc: c@x.org\r\n\r\n",
            HEAD + b"\0: x\r\n\r\n",
            HEAD + b"\xff: x\r\n",
        ],
    )
    def test_a_line_that_is_no_field(self, kind, source):
        with pytest.raises(InputError, match="field"):
            prepare(kind(source), FULL, sender="a@x.org", recipients=["b@x.org"])

    def test_a_header_section_without_end(self, kind):
        source = b"X: " + b"y" * raw.MAX_HEADER + b"\r\n\r\n"
        with pytest.raises(InputError, match="longer"):
            prepare(kind(source), NOTHING, sender="a@x.org", recipients=["b@x.org"])

    def test_utf8_in_fields(self, kind):
        source = HEAD + b"Subject: gr\xc3\xbcn\r\n\r\n"
        mail = prepare(kind(source), FULL)
        assert (octets(mail), mail.mail_params) == (source, MailFromParams(smtputf8=True))
        with pytest.raises(NotSupportedError, match="the field subject") as caught:
            prepare(kind(source), EIGHT)
        assert caught.value.keyword == "SMTPUTF8"
        with pytest.raises(InputError, match="subject is neither"):
            prepare(kind(HEAD + b"Subject: gr\xfcn\r\n\r\n"), FULL)

    def test_an_8_bit_body_is_the_servers_matter(self, kind):
        mail = prepare(kind(HEAD + b"\r\ngr\xc3\xbcn"), NOTHING)
        assert mail.content.measure.is_8bit
        assert mail.mail_params is None


class TestFiles:
    FIELDS = b"To: b@x.org\r\nFrom: a@x.org\r\n"
    REST = b"\r\n" + b"0123456789\r\n" * 200_000
    WHOLE = FIELDS + b"Bcc: c@x.org\r\n" + REST

    def test_from_where_it_stands_and_again(self):
        file = io.BytesIO(b"before" + self.WHOLE)
        file.seek(6)
        mail = prepare(file, NOTHING)
        assert mail.content.replayable
        assert mail.content.measure.size == len(octets(mail)) == len(octets(mail))
        assert octets(mail).endswith(b">\r\n" + self.FIELDS + self.REST)

    def test_a_pipe(self):
        class Pipe(io.RawIOBase):
            source = io.BytesIO(self.WHOLE)

            def readable(self):
                return True

            def readinto(self, buffer):
                piece = self.source.read(min(len(buffer), 1000))
                buffer[: len(piece)] = piece
                return len(piece)

        mail = prepare(Pipe(), NOTHING)
        assert not mail.content.replayable
        assert octets(mail).endswith(b">\r\n" + self.FIELDS + self.REST)

    def test_text(self):
        with pytest.raises(InputError, match="binary"):
            prepare(io.StringIO("From: a@x.org\n"), NOTHING)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"Bcc: x", b"A: b", b" ", b"y", b":"]), max_size=30))
def test_no_octet_is_lost_or_twice(pieces):
    head = b"".join(pieces)
    try:
        section = raw.section(head)
    except InputError:
        return
    assert b"".join(field.octets for field in section.fields) == head[: section.end]
    assert head[section.end :][:1] in (b"", b"\r", b"\n")
    for field in section.fields:
        assert field.octets.lower().startswith(field.name.encode())


ENDS = [b"\r\n", b"\n", b"\r"]


@pytest.mark.parametrize("name", [b"Bcc", b"Resent-Bcc"])
@pytest.mark.parametrize(
    "rest", [b"", b"%", b"%X: body%", b"%%Bcc: body", b"%%\0", b"Y: z%%X: body", b"Y: z"]
)
@pytest.mark.parametrize("empty", [*ENDS, b"\r\r\n"])
@pytest.mark.parametrize("bcc_end", [*ENDS, b"\r\r\n"])
@pytest.mark.parametrize("end", ENDS)
def test_bcc_is_cut_out_as_the_wire_reads_it(end, bcc_end, empty, rest, name):
    """A bare CR in front of it and LF behind: together they were one line end, and the body became fields."""
    source = HEAD + b"X: y" + end + name + b": c@x.org" + bcc_end + rest.replace(b"%", empty)
    lines = canonical(source).split(b"\n")
    sent = canonical(octets(prepare(source, FULL, sender="a@x.org", recipients=["b@x.org"]))).split(b"\n")
    expected = lines[:5] + lines[6:]
    assert lines[5].startswith(name)
    assert sent == expected


def canonical(octets: bytes) -> bytes:
    """Each line end as LF, as every server reads what leaves."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b"Bcc: x@y.org", b"A: b", b" c", b"y", b"\0"]), max_size=30
    )
)
def test_what_is_cut_out_is_what_the_wire_would_have_had(pieces):
    source = HEAD + b"".join(pieces)
    try:
        sent = octets(prepare(source, FULL, sender="a@x.org", recipients=["b@x.org"]))
    except InputError:
        return
    head, empty, body = canonical(source).partition(b"\n\n")
    fields = head.replace(b"\n ", b"\xff ").split(b"\n")
    kept = b"\n".join(field for field in fields if not field.startswith(b"Bcc:")).replace(b"\xff ", b"\n ")
    assert canonical(sent).rstrip(b"\n") == (kept + empty + body).rstrip(b"\n")
