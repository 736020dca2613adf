"""Message objects leave as the core writes them, and everybody whom their headers name is sent to."""

from __future__ import annotations

import email
import email.policy
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.text import MIMEText
from typing import Any

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import MailServer, ReceivedMessage

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
IDN = "bob@bücher.example"
RAW_IDN = IDN.encode().decode("ascii", "surrogateescape")
A_LABELS = "bob@xn--bcher-kva.example"
RICH, BARE = ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8"], []
FEATURES = pytest.mark.parametrize("features", [RICH, ["8BITMIME"], BARE], ids=["rich", "8bit", "bare"])

KINDS = ["MIMEText", "EmailMessage", "parsed", "parsed, compat32"]
OF_EACH_KIND = pytest.mark.parametrize("kind", KINDS)


class Stepwise(smtplib.SMTP):
    """Asked for each command."""

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        return super().docmd(cmd, args)


def made(kind: str, body: str = "Hi.\n", **fields: str) -> Any:
    """A message with these fields, in each of the ways that a program may come by one."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    message: Any
    if kind == "MIMEText":
        message = MIMEText(body)
        for name, value in named.items():
            message[name] = value
        return message
    if kind == "EmailMessage":
        message = EmailMessage()
        for name, value in named.items():
            message[name] = value
        message.set_content(body)
        return message
    head = "".join(f"{name}: {value}\n" for name, value in named.items())
    policy: Any = email.policy.compat32 if kind.endswith("compat32") else email.policy.default
    return email.message_from_bytes(f"{head}\n{body}".encode(), policy=policy)


def sent(message: Any, features: list[str], **arguments: Any) -> ReceivedMessage:
    with (
        MailServer(extensions=features) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.send_message(message, **arguments) == {}
    (received,) = server.messages
    return received


def refusal(message: Any) -> str:
    """Why a message is not sent; nothing of it is."""
    with MailServer() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        smtp.ehlo()
        with pytest.raises(ValueError, match=r".") as caught:
            smtp.send_message(message)
        assert smtp.noop()[0] == 250
    assert server.ledger.commands == [["EHLO", "NOOP", "QUIT"]]
    return str(caught.value)


def read(received: ReceivedMessage) -> EmailMessage:
    return email.message_from_bytes(received.content, policy=email.policy.default)  # type: ignore[return-value]


@FEATURES
@OF_EACH_KIND
def test_an_international_domain_goes_as_a_labels(kind: str, features: list[str]) -> None:
    received = sent(made(kind, From=ANN, To=f"Bob <{IDN}>", Cc=EVE), features)
    assert received.delivered == [A_LABELS, EVE]
    assert "SMTPUTF8" not in received.params
    assert A_LABELS.encode() in received.content
    assert received.content.isascii()


@FEATURES
@pytest.mark.parametrize(
    "value", [IDN, Header(IDN, "utf-8"), IDN.encode().decode("ascii", "surrogateescape")]
)
@pytest.mark.parametrize("given", [None, [IDN], [f"Bob <{IDN}>"], IDN])
def test_however_an_international_domain_is_given(given: Any, value: Any, features: list[str]) -> None:
    message = MIMEText("Hi.\n")
    message["From"], message["To"] = ANN, value
    if isinstance(value, Header):
        # An encoded word is no address (RFC 2047 5).
        with pytest.raises(ValueError, match=r"encoded word|local-part@domain"):
            sent(message, features)
        return
    assert sent(message, features, to_addrs=given).delivered == [A_LABELS]


def test_who_is_refused_is_told_by_the_address_that_was_given() -> None:
    message = made("MIMEText", From=ANN, To=EVE)
    with (
        MailServer(extensions=RICH, refuse={A_LABELS: "550 5.1.1 none"}) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.send_message(message, to_addrs=[IDN, EVE]) == {IDN: (550, b"5.1.1 none")}


@OF_EACH_KIND
def test_a_local_part_needs_smtputf8(kind: str) -> None:
    message = made(kind, From=ANN, To="bób@bücher.example")
    received = sent(message, RICH)
    assert received.delivered == ["bób@bücher.example"]
    assert "SMTPUTF8" in received.params
    with (
        MailServer(extensions=["8BITMIME"]) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.send_message(message)
        assert smtp.noop()[0] == 250
    assert server.ledger.commands == [["EHLO", "NOOP", "QUIT"]]


# -- what `email` alters and the core does not -----------------------------------------------


@FEATURES
@OF_EACH_KIND
def test_a_line_that_begins_with_from_stays_as_it_is(kind: str, features: list[str]) -> None:
    received = sent(made(kind, "From here on\n>From there\n", From=ANN, To=BOB), features)
    assert received.content.endswith(b"\r\n\r\nFrom here on\r\n>From there\r\n")


@FEATURES
@OF_EACH_KIND
@pytest.mark.parametrize("length", [10, 60, 120, 400])
def test_a_message_identifier_stays_one(kind: str, features: list[str], length: int) -> None:
    identifier = f"<{'a' * length}@mail.example.org>"
    fields = {
        "In_Reply_To": identifier,
        "References": f"<one@x.example> {identifier}",
        "Message_ID": identifier,
    }
    received = sent(made(kind, From=ANN, To=BOB, **fields), features)
    assert b"=?" not in received.content
    assert received.content.count(identifier.encode()) == 3


@FEATURES
@pytest.mark.parametrize("kind", ["EmailMessage", "parsed", "parsed, compat32", "MIMEText"])
@pytest.mark.parametrize("name", ['"Müller, Hans"', "=?utf-8?q?M=C3=BCller=2C_Hans?=", '"Doe, Jane"'])
def test_a_name_with_a_comma_is_one_address(kind: str, name: str, features: list[str]) -> None:
    received = sent(
        made(kind, From=f"{name} <ann@x.example>", To=f"{name} <hans@z.example>, {BOB}"), features
    )
    assert (received.sender, received.delivered) == ("ann@x.example", ["hans@z.example", BOB])
    boxes = read(received)["To"].addresses
    assert [box.addr_spec for box in boxes] == ["hans@z.example", BOB]


@FEATURES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["To", "Cc", "Bcc"])
def test_an_empty_field_names_nobody(kind: str, name: str, features: list[str]) -> None:
    fields = {"To": BOB, "Cc": EVE, "Bcc": "zoe@example.net"} | {name: ""}
    received = sent(made(kind, From=ANN, **fields), features)
    assert received.delivered == [fields[each] for each in ("To", "Bcc", "Cc") if fields[each]]


# -- the envelope -------------------------------------------------------------------------


@OF_EACH_KIND
@pytest.mark.parametrize(
    "value",
    [
        "ann@y.example; bob@y.example",
        "Ann <ann@y.example>; Bob <bob@y.example>;",
        "Doe, John <ann@y.example>",
        "ann@y.example, (bob@y.example",
        "Ann <ann@y.example> Bob <bob@y.example>",
        "old@y.example <new@y.example>",
        "<ann@y.example> bob@y.example",
        "Ann <ann@y.example",
        "ann@y.example bob@y.example",
    ],
)
def test_nobody_vanishes_from_a_field_that_is_no_address_list(kind: str, value: str) -> None:
    assert refusal(made(kind, From=ANN, To=value)).lower().startswith("to: ")


@pytest.mark.parametrize("kind", [smtplib.SMTP, Stepwise])
def test_everybody_in_every_field(kind: type[smtplib.SMTP]) -> None:
    message = Message()
    for name, value in (
        ("From", f"{ANN}, other@example.org"),
        ("To", f"friends: {BOB}, Eve <{EVE}>;"),
        ("To", "zoe@example.net"),
        ("Bcc", "max@example.net"),
        ("Cc", f"{BOB}, kim@example.net"),
    ):
        message[name] = value
    message.set_payload("Hi.\n")
    with MailServer() as server, kind("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.send_message(message) == {}
    (received,) = server.messages
    everybody = [BOB, EVE, "zoe@example.net", "max@example.net", "kim@example.net"]
    assert (received.sender, received.delivered) == (ANN, everybody)
    assert b"max@example.net" not in received.content
    assert message["Bcc"] == "max@example.net"


def test_a_message_that_was_resent() -> None:
    fields = {
        "Resent_Date": "Thu, 1 Jan 2026 00:00:00 +0000",
        "Resent_From": EVE,
        "Resent_To": "zoe@example.net",
    }
    message = made("EmailMessage", From=ANN, To=BOB, **fields)
    received = sent(message, RICH)
    assert (received.sender, received.delivered) == (EVE, ["zoe@example.net"])
    message._headers.append(("Resent-Date", "Fri, 2 Jan 2026 00:00:00 +0000"))
    assert "more than one 'Resent-'" in refusal(message)


@OF_EACH_KIND
def test_a_message_that_was_resent_twice_goes_where_the_caller_says(kind: str) -> None:
    message = made(kind, From=ANN, To=BOB)
    for each in (ANN, EVE):
        for name in ("Resent-From", "Resent-To", "Resent-Date"):
            message._headers.append((name, each if "Date" not in name else "Thu, 1 Jan 2026 00:00:00 +0000"))
    received = sent(message, RICH, from_addr=EVE, to_addrs=[BOB])
    assert (received.sender, received.delivered) == (EVE, [BOB])
    assert received.content.count(b"Resent-From") == 2


def test_a_message_without_a_sender() -> None:
    with MailServer() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        with pytest.raises(ValueError, match="no From"):
            smtp.send_message(made("MIMEText", To=BOB))
        assert smtp.send_message(made("MIMEText", To=BOB), from_addr=ANN) == {}
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.send_message(made("MIMEText", From=ANN, To="undisclosed-recipients:;"))


@OF_EACH_KIND
def test_no_field_is_added_and_the_message_stays_as_it_is(kind: str) -> None:
    message = made(kind, "Grüße\n" if kind == "EmailMessage" else "Hi.\n", From=ANN, To=BOB, Bcc=EVE)
    before = message.as_string()
    received = sent(message, BARE)
    assert message.as_string() == before
    names = {name.lower() for name in read(received)}
    assert names.isdisjoint({"date", "message-id", "bcc"})


def test_a_header_that_hides_another_is_refused() -> None:
    message = EmailMessage()
    message["From"], message["To"] = ANN, BOB
    message._headers.append(("Subject", "hello\nBcc: eve@example.com"))
    assert "subject" in refusal(message).lower()
