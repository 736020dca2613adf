"""Who gets a message by its header fields: everybody whom they name, or an error that shows the field.

The same text means the same however the message is given, and stays as it was written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.headerregistry import Address, Group
from email.message import EmailMessage
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.messages import FULL, octets

from pysmtpx import SmtpPool, connect
from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.message import prepare
from pysmtpx.mime import raw, words
from pysmtpx.testing import MailServer
from pysmtpx.wire.envelope import MailObject

pytestmark = pytest.mark.slow

A, B, C = "ann@y.example", "bob@y.example", "cid@z.example"

Fields = list[tuple[str, str]]


def as_email_message(fields: Fields) -> Any:
    message = EmailMessage()
    for name, value in fields:
        try:
            message[name] = value
        except (HeaderParseError, IndexError, AttributeError) as error:
            raise InputError(f"{name}: the standard library cannot read {value}") from error
    message.set_content("Hello\n")
    return message


def as_mime_text(fields: Fields) -> Any:
    message = MIMEText("Hello\n")
    for name, value in fields:
        message[name] = value
    return message


def as_octets(fields: Fields) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode() + b"\r\nHello\r\n"


FORMS: dict[str, Callable[[Fields], Any]] = {
    "EmailMessage": as_email_message,
    "MIMEText": as_mime_text,
    "octets": as_octets,
    "file": lambda fields: io.BytesIO(as_octets(fields)),
    "parsed": lambda fields: message_from_bytes(as_octets(fields), policy=policy.default),
    "parsed compat32": lambda fields: message_from_bytes(as_octets(fields)),
}
form = pytest.mark.parametrize("form", FORMS)


def sent(form: str, *fields: tuple[str, str], **given: Any) -> MailObject:
    return prepare(FORMS[form](list(fields)), FULL, **given)


DESTINATIONS = ("To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc")
ORIGINATORS = ("From", "Sender", "Resent-From", "Resent-Sender")


@contextmanager
def case(name: str) -> Iterator[None]:
    """A failure in the block says for which field; a test for each would take longer than what it does."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"In the field {name}")
        raise


def value_of(mail: MailObject, name: str) -> str:
    (found,) = [field.text for field in raw.section(octets(mail)).fields if field.name == name.lower()]
    return found


def written(text: str) -> str:
    """The text with its encoded words decoded: these may be encoded in another way."""
    return words.decoded(text)


READ = [
    (A, [A]),
    (f"{A}, {B}", [A, B]),
    (f"{A},{B},", [A, B]),
    (f", {A}, ,, {B} ,", [A, B]),
    (f"Ann <{A}>, Bob <{B}>", [A, B]),
    ("robot@x.example (Build Robot)", ["robot@x.example"]),
    (f"(first) Ann (the (real) one) <{A} (work)> (last), {B}", [A, B]),
    ('"j..k"@y.example', ['"j..k"@y.example']),
    ('"a b"@y.example, "q\\"<@,;:"@y.example', ['"a b"@y.example', '"q\\"<@,;:"@y.example']),
    (f'"Doe, John; (x" <{A}>', [A]),
    (f'"Ann \\"The <{C}>, \\\\" <{A}>', [A]),
    (f'J. R. "Q" Doe <{A}>', [A]),
    (f"Team: {A}, Bob <{B}>;, {C}", [A, B, C]),
    (f"A: {A};, B:;, C: {B}, {C};", [A, B, C]),
    (f"undisclosed-recipients:;, {A}", [A]),
    (f"=?utf-8?q?M=C3=BCller=2C_H=2E?= <{A}>, {B}", [A, B]),
    (f"=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?w7w=?= <{A}>", [A]),
    (f"{A} <{A}>", [A]),
    ("user.@docomo.ne.jp", ["user.@docomo.ne.jp"]),
    ("J <j..k@y.example>", ["j..k@y.example"]),
    ("ann@[192.0.2.1]", ["ann@[192.0.2.1]"]),
    ("root", ["root"]),
    ("root (Cron Daemon)", ["root"]),
    (f"<root>, Ann <{A}>, root", ["root", A]),
    (f"Größe <root>, {A}", ["root", A]),
    (f"Größe <{A}> (the, (<{B}> ü))", [A]),
]
REFUSED = [
    f"{A}; {B}",
    f"{A}; {B};",
    f"Ann <{A}> Bob <{B}>",
    f"{A} {B}",
    f"{A} <{B}>",
    f"Ann <{A}>; Bob <{B}>",
    f"Ann <{A}>, Bob <{B}",
    f"Ann <{A}> and Bob <{B}>",
    f"Ann <<{A}>>",
    f"<{A}>>",
    f"<{A}",
    f"{A}>",
    f"{A}, <>",
    f"{A}, @",
    f"{A}, b@",
    f"{A}, @y.example",
    f"{A}, b@@y.example",
    f"{A}, b@y..example",
    f"{A} (never closed, {B}",
    f"{A} (x)), {B}",
    f'"Ann <{A}>, {B}',
    f'Ann" <{A}>, {B}',
    f"Team: {A}, {B}",
    f"Team: Sub: {A};, {B};",
    f"{A}, : {B};",
    f"mailto:{A}",
    f"Ann <mailto:{A}>",
    f"<@relay.example:{A}>, {B}",
    f"Doe, John <{A}>",
    f"Müller, Hans <{A}>",
    f"{A}, Dr. {B}",
    f"{A}, b . c@y.example",
    f"{A}, [192.0.2.1",
    f"{A}, =?utf-8?q?b=40y.example=2C?=c@y.example",
    f"{A}, =?utf-8?q?b=2E=2Ec=40y.example=2C?=d@y.example",
    f"{A}, =?utf-8?q?b?=@y.example",
    f"{A}, \\b@y.example",
    f"{A}, b@y.example\\",
    f"{A}, b＠y.example",
    f"{A}, jörg",
    f"{A}, Jörg <jörg>",
    f"{A}，{B}",
    f"{A}, Ann <>",
    f"{A}/{B}",
]


@form
@pytest.mark.parametrize(("text", "everybody"), READ)
def test_everybody_gets_it(form, text, everybody):
    for name in DESTINATIONS:
        with case(name):
            author = "Resent-From" if name.startswith("Resent") else "From"
            mail = sent(form, (author, C), (name, text))
            assert list(mail.recipients) == everybody
            if not name.endswith("Bcc"):
                assert written(value_of(mail, name)) == written(text)


@form
@pytest.mark.parametrize("text", REFUSED)
def test_nobody_is_lost_without_a_word(form, text):
    for name in DESTINATIONS:
        with case(name):
            author = "Resent-From" if name.startswith("Resent") else "From"
            with pytest.raises(InputError) as caught:
                sent(form, (author, C), (name, text))
            told = str(caught.value)
            assert name.lower() in told.lower()
            assert len(told) < 300
            assert A in told


SENDERS = [(text, found[0]) for text, found in READ if len(found) == 1]


@form
@pytest.mark.parametrize(("text", "sender"), SENDERS)
def test_who_sends_it(form, text, sender):
    for name in ORIGINATORS:
        with case(name):
            fields = (
                [(name, text)]
                if "From" in name
                else [(name.replace("Sender", "From"), f"{A}, {B}"), (name, text)]
            )
            mail = sent(form, *fields, ("Resent-To" if "Resent" in name else "To", B))
            assert (mail.sender, list(mail.recipients)) == (sender, [B])
            assert written(value_of(mail, name)) == written(text)


@form
@pytest.mark.parametrize("text", [*REFUSED, f"{A}, {B}", f"Team: {A}, {B};"])
def test_a_wrong_sender_is_nobody(form, text):
    for name in ORIGINATORS:
        with case(name):
            fields = [(name, text)] if "From" in name else [(name.replace("Sender", "From"), A), (name, text)]
            with pytest.raises(InputError, match=rf"(?i)\b{name}\b"):
                sent(form, *fields, ("Resent-To" if "Resent" in name else "To", B))


@form
def test_several_fields_of_a_name(form):
    mail = sent(form, ("From", C), ("Cc", A), ("To", B)) if form == "EmailMessage" else None
    mail = mail or sent(form, ("From", C), ("To", f"x {A}"[2:]), ("To", B), ("Cc", A))
    assert set(mail.recipients) == {A, B}


@form
def test_a_folded_list(form):
    fields = [("From", C), ("To", f'Ann\r\n <{A}>,\r\n\t{B}, "x,\r\n y" <{C}>')]
    if form in ("EmailMessage", "MIMEText"):
        fields[1] = ("To", fields[1][1].replace("\r\n", ""))
    assert list(sent(form, *fields).recipients) == [A, B, C]


@form
def test_who_gives_the_envelope_may_write_what_he_likes(form):
    for text in ("undisclosed recipients", f"{A}; {B}", "((", '"x', "Ann <>", "<>", "Team: ann", "(a (b (c"):
        mail = sent(form, ("From", "nobody at all"), ("To", text), sender=C, recipients=[B])
        assert (mail.sender, list(mail.recipients)) == (C, [B])
        assert value_of(mail, "To") == text


def test_an_object_with_a_list_for_a_domain():
    """``Address`` checks no domain, and nobody is added by one."""
    for evil in (Address("Ann", "ann", f"y.example, {B}"), Address("", "ann", f"y.example>, <{B}")):
        for value in (evil, Group("Team", (evil,)), (Address("", "cid", "z.example"), evil)):
            message = EmailMessage()
            message["From"] = C
            message["To"] = value
            with pytest.raises(InputError, match=r"(?i)to: "):
                prepare(message, FULL)


def test_objects_as_addresses():
    message = EmailMessage()
    message["From"] = Address("Doe, J.", "j..k", "y.example")
    message["To"] = [Address("Größe, X", "a b", "y.example"), Group("T", (Address("", "j.", "y.example"),))]
    message["Cc"] = Address("", "root")
    mail = prepare(message, FULL)
    assert mail.sender.wire == '<"j..k"@y.example>'
    assert [path.wire for path in mail.recipients] == ['<"a b"@y.example>', '<"j."@y.example>', "<root>"]


_WORDS = st.sampled_from(
    [
        *(
            A,
            B,
            f"<{A}>",
            f"<{B}>",
            "Ann",
            "Ü",
            "jörg@x.org",
            '"Q, x"',
            '"j..k"@y.example',
            "root",
            "u.@x.org",
        ),
        *('"', "(", ")", "(c (d))", ",", ";", ":", " ", "\t", "<", ">", "@", ".", "\\", "[", "[127.0.0.1]"),
        *("=?utf-8?q?M=C3=BC=2C_H?=", "=?utf-8?b?YQ==?=", "=?utf-8?q?a=40b=2E=2Ec=2C?=", "=?", "?=", "T: "),
        *('""', "(=?utf-8?q?=29?=)", "undisclosed-recipients:;", "@r:"),
    ]
)


@settings(max_examples=400)
@given(st.lists(_WORDS, min_size=1, max_size=8).map("".join), st.sampled_from(["To", "From", "Sender"]))
def test_a_header_object_tells_of_nobody_whom_the_text_does_not(text, name):
    """What ``email`` made of it is read as the text is, or refused.

    Left out is a misplaced dot in a local part that begins with an encoded word: ``email`` decodes the word
    and reads it again, and nothing in the object tells that from a local part without one.
    """
    assume(re.search(r"\?=\s*\.|\?=[^@]*\.\s*(?:[.@]|\Z)", text) is None)
    message = EmailMessage()
    try:
        message[name] = text.strip()
    except Exception:  # the standard library cannot read it at all
        return

    def escape(pair: re.Match[str]) -> str:
        return pair[0] if pair[1] in '"\\' else pair[1]

    found: list[Any] = []
    for given_as in (message, as_mime_text([(name, text.strip())])):
        try:
            mail = prepare(given_as, FULL, **({"sender": C} if name == "To" else {"recipients": [C]}))
            # A backslash that escapes nothing is gone from the object, and means nothing (RFC 5321 4.1.2).
            found.append([re.sub(r"\\(.)", escape, path) for path in (mail.sender, *mail.recipients)])
        except InputError:
            found.append(None)
    assert found[0] in (found[1], None)


# How the fields arrive.

MANY = [f"r{number}@y.example" for number in range(400)]
LONG_LISTS = {
    "To": ",".join(MANY),
    "Cc": ",".join(f'"Doe, {at}"<{at}>' for at in MANY),
    "Reply-To": "Team:" + ",".join(f"{at}(a,b)" for at in MANY) + ";",
    "References": "".join(f"<{at}>" for at in MANY),
    "In-Reply-To": "".join(f"<{at}>" for at in MANY),
    "Keywords": ",".join(["one", '"two,three"'] * 200),
    "List-Unsubscribe": ",".join(f"<https://y.example/{at},{at}>" for at in MANY),
}


@pytest.mark.parametrize("form", ["EmailMessage", "MIMEText", "parsed", "parsed compat32"])
@pytest.mark.parametrize("name", LONG_LISTS)
def test_a_long_list_without_a_space_is_folded_where_it_may_be(form, name):
    mail = sent(form, ("From", C), (name, LONG_LISTS[name]), recipients=[C])
    (field,) = [field for field in raw.section(octets(mail)).fields if field.name == name.lower()]
    lines = field.octets.removesuffix(b"\r\n").split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(line[:1] == b" " and line.strip() for line in lines[1:])
    assert b"".join(lines).decode().replace(" ", "") == f"{name}:{LONG_LISTS[name]}".replace(" ", "")
    assert not any(line.count(b'"') % 2 for line in lines if name == "Keywords")
    if name in ("To", "Cc"):
        assert list(sent(form, ("From", C), (name, LONG_LISTS[name])).recipients) == MANY


@form
@pytest.mark.parametrize("given", [{}, {"sender": C, "recipients": [A]}])
@pytest.mark.parametrize("text", ["", " "])
@pytest.mark.parametrize(
    "name", ["To", "Cc", "Bcc", "Reply-To", "Sender", "Resent-Cc", "Resent-Bcc", "Errors-To"]
)
def test_a_list_of_nobody_is_no_field(form, name, text, given):
    fields = [("From", C), (name, text), ("Cc" if name == "To" else "To", A), ("Subject", "")]
    mail = sent(form, *fields, **given)
    assert (mail.sender, list(mail.recipients)) == (C, [A])
    names = [field.name for field in raw.section(octets(mail)).fields]
    assert name.lower() not in names
    assert "subject" in names


@form
@pytest.mark.parametrize("text", ["Ann <ann@faß.example>", "Ann <ann@σίσυφος.example>", "ann@ΒΌΛΟΣ.example"])
@pytest.mark.parametrize("name", ["From", "To"])
def test_header_and_envelope_name_the_same_domain(form, text, name):
    other = "To" if name == "From" else "From"
    mail = sent(form, (name, text), (other, B))
    path = mail.sender if name == "From" else mail.recipients[0]
    assert path.domain.startswith("xn--")
    if form in ("octets", "file"):  # these go as they are
        assert value_of(mail, name) == text
        assert mail.mail_params is not None
        assert mail.mail_params.smtputf8
    else:
        assert f"@{path.domain}" in value_of(mail, name)


@pytest.mark.parametrize("offered", [[], ["8BITMIME", "SMTPUTF8"]])
@pytest.mark.parametrize(
    ("domain", "labels"), [("faß.example", "xn--fa-hia.example"), ("βόλος.example", "xn--nxasmm1c.example")]
)
def test_what_arrives_names_one_domain(domain, labels, offered):
    """FAULTS 106."""
    text = f"Ann <ann@{domain}>"
    forms = [each for each in FORMS if offered or each not in ("octets", "file")]
    with MailServer(extensions=offered) as server, connect(server.url) as conn, SmtpPool(server.url) as pool:
        for each in forms:
            for send in (conn.send_message, pool.send_message):
                send(FORMS[each]([("From", text), ("To", text), ("Reply-To", text), ("Cc", B)]))
        if not offered:
            with pytest.raises(NotSupportedError, match="SMTPUTF8"):
                conn.send_message(as_octets([("From", text), ("To", text)]))
    assert len(server.messages) == 2 * len(forms)
    for got in server.messages:
        assert (got.sender, got.addresses) == (f"ann@{labels}", [f"ann@{labels}", B])
        fields = {field.name: field.text for field in raw.section(got.content).fields}
        written = {fields[name].rpartition("@")[2] for name in ("from", "to", "reply-to")}
        assert written in ({f"{labels}>"}, {f"{domain}>"})
        assert ("SMTPUTF8" in got.params) == (written == {f"{domain}>"})


def test_resent_twice_with_an_envelope():
    fields = [(name, A) for name in ("From", "To", "Resent-From", "Resent-To", "Resent-Bcc") * 2]
    fields = [pair for number, pair in enumerate(fields) if number not in (5, 6)]
    mail = sent("MIMEText", *fields, sender=C, recipients=[B])
    assert (mail.sender, list(mail.recipients)) == (C, [B])
    assert octets(mail).count(b"Resent-To") == 2
    for given_part in ({"sender": C}, {"recipients": [B]}):
        with pytest.raises(InputError, match="more than once"):
            sent("MIMEText", *fields, **given_part)
