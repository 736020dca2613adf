"""``compose``, judged by parsers that it does not use: another policy, the old API, icalendar."""

from __future__ import annotations

import email
import email.policy
import tracemalloc
from email.headerregistry import Address
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import icalendar
import pytest

import pysmtpx
from pysmtpx import InputError, compose
from pysmtpx.testing import MailServer

CALENDAR = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//example//EN\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:1@example.org\n"
    "DTSTAMP:20261128T120000Z\nDTSTART:20261201T090000Z\nSUMMARY:Größe\nEND:VEVENT\nEND:VCALENDAR\n"
)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def made(**given: Any) -> EmailMessage:
    return compose(**{"from_": "robot@example.org", "to": "ann@example.com", **given})


def sent(message: EmailMessage) -> tuple[list[str], Message[Any, Any]]:
    """The envelope and the message as they arrive, read by the oldest of Python's parsers."""
    with MailServer() as server:
        with pysmtpx.connect(server.url) as smtp:
            smtp.send_message(message)
        (received,) = server.wait_for(1)
    parsed = email.message_from_bytes(received.content, policy=email.policy.compat32)
    assert [part.defects for part in parsed.walk() if part.defects] == []
    return received.addresses, parsed


def kinds(message: Message[Any, Any]) -> Any:
    """The tree of content types."""
    if not message.is_multipart():
        return message.get_content_type()
    return {message.get_content_type(): [kinds(part) for part in message.get_payload()]}


FORMS = {
    "text": ({"text": "hello"}, "text/plain"),
    "nothing": ({}, "text/plain"),
    "html": ({"html": "<p>"}, "text/html"),
    "both": ({"text": "a", "html": "<p>"}, {"multipart/alternative": ["text/plain", "text/html"]}),
    "a file": (
        {"text": "a", "attachments": [("a.pdf", b"x")]},
        {"multipart/mixed": ["text/plain", "application/pdf"]},
    ),
    "image": (
        {"html": "<img src='cid:l'>", "images": {"l": ("l.png", PNG)}},
        {"multipart/related": ["text/html", "image/png"]},
    ),
    "image and file": (
        {"html": "<img src='cid:l'>", "images": {"l": ("l.png", PNG)}, "attachments": [("a.zip", b"x")]},
        {"multipart/mixed": [{"multipart/related": ["text/html", "image/png"]}, "application/zip"]},
    ),
    "invitation alone": (
        {"invitation": CALENDAR},
        {"multipart/mixed": [{"multipart/alternative": ["text/plain", "text/calendar"]}, "application/ics"]},
    ),
    "invitation with html alone": (
        {"html": "<p>", "invitation": CALENDAR},
        {"multipart/mixed": [{"multipart/alternative": ["text/html", "text/calendar"]}, "application/ics"]},
    ),
    "all": (
        {
            "text": "a",
            "html": "<img src='cid:l'>",
            "images": {"l": ("l.png", PNG)},
            "invitation": CALENDAR,
            "attachments": [("a.txt", "ä")],
        },
        {
            "multipart/mixed": [
                {
                    "multipart/alternative": [
                        "text/plain",
                        {"multipart/related": ["text/html", "image/png"]},
                        "text/calendar",
                    ]
                },
                "application/ics",
                "text/plain",
            ]
        },
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_parts_stand_in_the_order_that_programs_expect(form: str) -> None:
    given, tree = FORMS[form]
    _, parsed = sent(made(**given))
    assert kinds(parsed) == tree


def test_the_envelope_is_that_of_the_header_and_bcc_stays_here() -> None:
    message = made(
        to=["Zoë <zoe@example.com>", ("Müller, Jörg", "joerg@example.com")],
        cc="a@example.com, b@example.com",
        bcc=Address("Boss", "boss", "example.com"),
        reply_to="help@example.org",
        subject="Größe",
    )
    addresses, parsed = sent(message)
    assert addresses == [
        "zoe@example.com",
        "joerg@example.com",
        "a@example.com",
        "b@example.com",
        "boss@example.com",
    ]
    assert parsed["Bcc"] is None
    assert parsed["Reply-To"] == "help@example.org"
    told = email.message_from_bytes(bytes(parsed), policy=email.policy.default)
    assert [each.display_name for each in told["To"].addresses] == ["Zoë", "Müller, Jörg"]
    assert told["Subject"] == "Größe"


def test_an_image_has_a_content_id_of_its_own_and_the_html_names_it() -> None:
    found = set()
    for _ in range(2):
        _, parsed = sent(
            made(html='<img src="cid:logo"> <b style="a:url(cid:logo)">', images={"logo": ("ü.png", PNG)})
        )
        assert parsed.get_param("type") == "text/html"  # RFC 2387 3.1
        html, image = parsed.get_payload()
        identity = image["Content-ID"].strip("<>")
        assert identity.startswith("logo.")
        assert identity.endswith("@example.org")
        assert html.get_payload(decode=True).decode().count(f"cid:{identity}") == 2
        assert image.get_content_disposition() == "inline"
        assert image.get_payload(decode=True) == PNG
        assert (
            email.utils.collapse_rfc2231_value(image.get_param("filename", header="content-disposition"))
            == "ü.png"
        )
        found.add(identity)
    assert len(found) == 2


def test_a_whole_content_id_is_left_as_it_is() -> None:
    _, parsed = sent(made(html='<img src="cid:a%40x.example">', images={"<a@x.example>": ("a.gif", b"GIF")}))
    html, image = parsed.get_payload()
    assert image["Content-ID"] == "<a@x.example>"
    assert "cid:a@x.example" in html.get_payload(decode=True).decode()


@pytest.mark.parametrize("form", ["text", "octets", "path", "pathlike", "object"])
def test_an_invitation_is_read_by_who_reads_invitations(form: str, tmp_path: Path) -> None:
    path = tmp_path / "meeting.ics"
    path.write_text("\ufeff" + CALENDAR, "utf-8")
    given = {
        "text": CALENDAR,
        "octets": CALENDAR.encode(),
        "path": str(path),
        "pathlike": path,
        "object": icalendar.Calendar.from_ical(CALENDAR),
    }
    _, parsed = sent(made(text="See you.", invitation=given[form]))
    card, file = (
        part for part in parsed.walk() if part.get_content_type() in ("text/calendar", "application/ics")
    )
    assert card.get_param("method") == "REQUEST"  # RFC 6047 2.4
    assert card.get_content_charset() == "utf-8"
    assert file.get_filename() == "invite.ics"
    for part in (card, file):
        octets = part.get_payload(decode=True)
        assert octets.count(b"\n") == octets.count(b"\r\n") > 5
        (event,) = icalendar.Calendar.from_ical(octets).events
        assert event["SUMMARY"] == "Größe"


def test_files_by_path_have_their_name_type_and_octets(tmp_path: Path) -> None:
    names = {
        "a.pdf": "application/pdf",
        "größe 1.txt": "text/plain",
        "a.tar.gz": "application/gzip",
        "old.eml": "application/octet-stream",
        "no suffix": "application/octet-stream",
    }
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 3)
    _, parsed = sent(made(text="", attachments=[str(tmp_path / name) for name in names]))
    files = parsed.get_payload()[1:]
    assert [part.get_content_type() for part in files] == list(names.values())
    assert [part.get_payload(decode=True) for part in files] == [name.encode() * 3 for name in names]
    read = email.message_from_bytes(bytes(parsed), policy=email.policy.SMTP)
    assert [part.get_filename() for part in read.iter_attachments()] == list(names)
    assert files[1].get_content_charset() == "utf-8"


def test_one_path_is_one_file_and_a_message_is_one_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a;\xff\n")
    _, parsed = sent(made(attachments=path))
    assert parsed.get_payload()[1].get_content_charset() is None
    _, parsed = sent(made(attachments=[made(subject="inner")]))
    assert parsed.get_payload()[1].get_payload(0)["Subject"] == "inner"
    _, parsed = sent(made(attachments=("a.bin", b"\x00\xff", "application/x-own")))
    assert parsed.get_payload()[1].get_content_type() == "application/x-own"


def test_a_big_file_takes_little_more_memory_than_it_takes_encoded(tmp_path: Path) -> None:
    size = 16 * 1024 * 1024
    path = tmp_path / "big.bin"
    path.write_bytes(b"\xa5" * size)
    tracemalloc.start()
    message = made(attachments=path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4.5 * size
    assert message.get_payload(1).get_payload(decode=True) == b"\xa5" * size


HARM = ("\r\n", "\n", "\r", "\x00", "\x0b", "\x85", "\u2028", "\ud800")


@pytest.mark.parametrize("bad", HARM)
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: {"subject": f"a{bad}Bcc: eve@example.com"},
        lambda bad: {"to": f"ann@example.com{bad}Bcc: eve@example.com"},
        lambda bad: {"to": [("An" + bad + "n", "ann@example.com")]},
        lambda bad: {"to": [("Ann", f"ann@example.com{bad}")]},
        lambda bad: {"from_": f"Robot{bad} <robot@example.org>"},
        lambda bad: {"cc": [f"x{bad}@example.com"]},
        lambda bad: {"bcc": f"x@example{bad}.com"},
        lambda bad: {"reply_to": f"{bad}x@example.com"},
        lambda bad: {"headers": {"X-A": f"a{bad} b"}},
        lambda bad: {"headers": {f"X-A{bad}": "a"}},
        lambda bad: {"attachments": [(f"a{bad}.txt", b"")]},
        lambda bad: {"html": "cid:l", "images": {"l": (f"a{bad}.png", b"")}},
        lambda bad: {"html": "cid:l", "images": {f"l{bad}": ("a.png", b"")}},
        lambda bad: {"attachments": [("a.txt", b"", f"text/plain{bad}")]},
    ],
)
def test_no_value_can_begin_another_line(make: Any, bad: str) -> None:
    with pytest.raises(InputError):
        made(**make(bad))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": "ann at example.com"}, "ann at example.com"),
        ({"to": [("ann@example.com", "bob@example.com")]}, "'ann@example.com' looks like an address"),
        ({"to": ["ann@example.com", 7]}, "to: no mailbox: '7'"),
        ({"to": b"ann@example.com"}, "not bytes"),
        ({"to": "ann"}, "'ann'"),
        ({"to": [("Ann", "postmaster")]}, "without a domain: 'postmaster'"),
        ({"to": [("Ann", "ann@exa mple.com")]}, "exa mple"),
        ({"from_": "a@example.org, b@example.org"}, "from_ names 2 mailboxes"),
        ({"from_": ""}, "from_ names 0 mailboxes"),
        ({"headers": {"Content-Type": "text/html"}}, "Content-Type follows from the content"),
        ({"headers": {"BCC": "x@example.com"}}, "argument of its own: bcc"),
        ({"headers": {"X A": "x"}}, "'X A'"),
        ({"headers": {"X-A": 7}}, "header X-A is text, and not int"),
        ({"headers": "X-A: 7"}, "headers are a mapping, or pairs, and not str"),
        ({"headers": 7}, "headers are a mapping, or pairs, and not int"),
        ({"headers": ["X-A: 7"]}, "not a name and a value"),
        ({"headers": [("X-A", "7", "8")]}, "not a name and a value"),
        ({"headers": [("Sender", "a@example.org"), ("sender", "b@example.org")]}, "at most 1 sender"),
        ({"html": "<p>", "images": ["l.png"]}, "images is a dict, and not list"),
        ({"text": b"octets"}, "text is text, and not bytes"),
        ({"text": "a\ud800"}, "half a character at 1"),
        ({"attachments": "/nowhere/a.pdf"}, "'/nowhere/a.pdf' cannot be read: No such file"),
        ({"attachments": "/"}, "'/' cannot be read"),
        ({"attachments": b"octets"}, "not bytes"),
        ({"attachments": [b"octets"]}, "not bytes"),
        ({"attachments": [("a.txt", None)]}, "octets or text, and not NoneType"),
        ({"attachments": [("a" * 256, b"")]}, "1 to 255 characters"),
        ({"attachments": [("a.eml", b"", "message/rfc822")]}, "give the message itself"),
        ({"images": {"l": ("l.png", b"")}}, "html, which was not given"),
        ({"html": "<p>", "images": {"l": ("l.png", b"")}}, "html does not show cid:l"),
        ({"html": "cid:x cid:l", "images": {"l": ("l.png", b"")}}, "'cid:x', which is not among images"),
        ({"invitation": "BEGIN:VCALENDAR\nEND:VCALENDAR"}, "it has no METHOD"),
        ({"invitation": b"hello"}, "no iCalendar object: 'hello'"),
        ({"invitation": b"BEGIN:VCALENDAR\nMETHOD:REQUEST\n\xff\nEND:VCALENDAR"}, "UTF-8"),
        ({"invitation": 7}, "not int"),
    ],
)
def test_an_error_says_what_was_given(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        made(**given)
    assert told in str(caught.value)


def test_further_fields_go_as_they_are() -> None:
    link = "https://example.org/unsubscribe/" + "x" * 120
    _, parsed = sent(made(headers={"List-Unsubscribe": f"<{link}>", "X-A": "é", "Sender": "s@example.org"}))
    assert parsed["List-Unsubscribe"].replace("\r\n", "").strip() == f"<{link}>"
    assert parsed["Sender"] == "s@example.org"


def test_a_field_may_stand_several_times() -> None:
    _, parsed = sent(made(headers=[("Keywords", "one"), ("Keywords", "two")]))
    assert parsed.get_all("Keywords") == ["one", "two"]


def test_a_domain_that_is_not_ascii_goes_by_its_a_label() -> None:
    addresses, parsed = sent(made(to="j@exämple.com"))
    assert addresses == ["j@xn--exmple-cua.com"]
    assert parsed["To"] == "j@xn--exmple-cua.com"


def test_odd_local_parts_keep_their_quotes() -> None:
    addresses, _ = sent(made(to=['"a b"@example.com', "Ann <a.b+c@example.com>"]))
    assert addresses == ['"a b"@example.com', "a.b+c@example.com"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\\\windows\\\\passwd", "/passwd"])
def test_a_given_name_has_no_folder(name: str) -> None:
    message = compose(from_="a@x.example", to="b@x.example", text="x", attachments=[(name, b"x")])
    assert [part.get_filename() for part in message.iter_attachments()] == ["passwd"]
