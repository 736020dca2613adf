"""No argument becomes a command or a parameter of its own (FAULTS 100, 101); what one address is."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import MailServer

ANN, BOB = "ann@example.org", "bob@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"


class Stepwise(smtplib.SMTP):
    """Asked for each command."""

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        return super().docmd(cmd, args)


ANY = r"."
KINDS = pytest.mark.parametrize("kind", [smtplib.SMTP, Stepwise])
INJECTIONS = [
    '"v@x.test> NOTIFY=NEVER ORCPT=rfc822;z',
    "v@x.test> NOTIFY=NEVER <b@x.test",
    "<v@x.test> NOTIFY=NEVER",
    " <v@x.test> NOTIFY=NEVER",
    "<v@x.test>> SIZE=1",
    "v@x.test NOTIFY=NEVER",
    'v"> NOTIFY=NEVER "@x.test',
    '"v"> NOTIFY=NEVER "@x.test',
    '"v"@x.test> BODY=8BITMIME',
    '"v\\"@x.test> BODY=8BITMIME',
    "v\\> NOTIFY=NEVER@x.test",
    "v@x.test>\tSIZE=1",
    "v@x.test>\xa0SIZE=1",
    "v@x.test\u3000SIZE=1",
    "v@x.test\r\nRCPT TO:<eve@x.test>",
    "v@x.test\0",
    "v@x.test\x1b[2J",
    '"v\x7f"@x.test',
    "(" * 1_500 + "v@x.test",
    "v" * 100_000 + "@x.test",
]


def taken(call: Callable[[smtplib.SMTP], object], kind: type[smtplib.SMTP], **options: Any) -> list[str]:
    """The commands that a call which must be refused came to."""
    with MailServer(**options) as server, kind("127.0.0.1", server.port, "me.example", timeout=10) as smtp:
        smtp.ehlo()
        with pytest.raises(ValueError, match=ANY):
            call(smtp)
        assert smtp.noop()[0] == 250
    return [verb for verbs in server.ledger.commands for verb in verbs]


@KINDS
@pytest.mark.parametrize("features", [["PIPELINING", "DSN", "SIZE", "8BITMIME", "SMTPUTF8"], []])
@pytest.mark.parametrize("address", INJECTIONS, ids=lambda address: ascii(address[:40]))
def test_no_address_becomes_a_parameter(address: str, features: list[str], kind: type[smtplib.SMTP]) -> None:
    calls: list[Callable[[smtplib.SMTP], object]] = [
        lambda smtp: smtp.sendmail(ANN, [BOB, address], OCTETS),
        lambda smtp: smtp.sendmail(address, BOB, OCTETS),
        lambda smtp: smtp.mail(address),
    ]
    if "SMTPUTF8" in features:
        calls.append(lambda smtp: smtp.sendmail(ANN, [BOB, address], OCTETS, ["SMTPUTF8"]))
    for number, call in enumerate(calls):
        done = taken(call, kind, extensions=features)
        allowed = ["EHLO", "NOOP", "QUIT"]
        if kind is Stepwise and number in (0, 3):
            # The first recipient may have been told by then; the transaction is given up.
            done = [verb for verb in done if verb not in ("MAIL", "RCPT", "RSET")]
        assert done == allowed


@KINDS
@pytest.mark.parametrize("address", INJECTIONS, ids=lambda address: ascii(address[:40]))
def test_no_address_of_a_single_rcpt_becomes_a_parameter(address: str, kind: type[smtplib.SMTP]) -> None:
    with MailServer() as server, kind("127.0.0.1", server.port, "me.example") as smtp:
        smtp.ehlo()
        assert smtp.mail(ANN)[0] == 250
        with pytest.raises(ValueError, match=ANY):
            smtp.rcpt(address)
        assert smtp.rset()[0] == 250
    assert server.ledger.commands == [["EHLO", "MAIL", "RSET", "QUIT"]]


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ('"v > NOTIFY=NEVER"@x.test', '"v > NOTIFY=NEVER"@x.test'),
        ('"a\\"> b"@x.test', '"a\\"> b"@x.test'),
        ("Ann <v@x.test>", "v@x.test"),
        ("<v@x.test>", "v@x.test"),
        ('"Ann > Bob" <v@x.test>', "v@x.test"),
        ("v@x.test (Ann > Bob)", "v@x.test"),
        ("v@x.test(Ann)", "v@x.test"),
        ("Ann\r\n <v@x.test>", "v@x.test"),
        ("  v@x.test ", "v@x.test"),
        ('"a  b"@x.test', '"a  b"@x.test'),
        ("Ann\n\t<v@x.test>", "v@x.test"),
    ],
)
def test_what_is_quoted_stays_one_address(module: ModuleType, address: str, sent: str) -> None:
    with (
        MailServer(strict=False, extensions=["PIPELINING"]) as server,
        module.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.sendmail(ANN, address, OCTETS) == {}
    assert server.messages[0].delivered == [sent]


# -- control characters ------------------------------------------------------------------


CONTROLS = ["\0", "\t", "\n", "\r", "\r\nNOOP", "\x1b[2J", "\x7f", "\x85", "\x9b"]
COMMANDS: dict[str, Callable[[smtplib.SMTP, str], object]] = {
    "helo": lambda smtp, text: smtp.helo(f"me{text}"),
    "ehlo": lambda smtp, text: smtp.ehlo(f"me{text}"),
    "vrfy": lambda smtp, text: smtp.vrfy(f'"ann{text}x"@x.test'),
    "verify": lambda smtp, text: smtp.verify(f'"ann{text}x"@x.test'),
    "expn": lambda smtp, text: smtp.expn(f'"list{text}x"@x.test'),
    "help": lambda smtp, text: smtp.help(f"mail{text}x"),
    "putcmd": lambda smtp, text: smtp.putcmd(f"noop{text}"),
    "putcmd argument": lambda smtp, text: smtp.putcmd("noop", f"x{text}x"),
    "docmd": lambda smtp, text: smtp.docmd(f"noop{text}x"),
    "docmd argument": lambda smtp, text: smtp.docmd("noop", f"x{text}x"),
    "mail option": lambda smtp, text: smtp.mail(ANN, [f"RET=HDRS{text}x"]),
    "sendmail option": lambda smtp, text: smtp.sendmail(ANN, BOB, OCTETS, [f"RET=HDRS{text}x"]),
    "recipient option": lambda smtp, text: smtp.sendmail(ANN, BOB, OCTETS, [], [f"NOTIFY=NEVER{text}x"]),
}


@KINDS
@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_control_character_reaches_the_line(name: str, control: str, kind: type[smtplib.SMTP]) -> None:
    done = taken(lambda smtp: COMMANDS[name](smtp, control), kind)
    if kind is Stepwise and name == "recipient option":
        done = [verb for verb in done if verb not in ("MAIL", "RSET")]
    assert done == ["EHLO", "NOOP", "QUIT"]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_no_control_character_of_the_hosts_own_name_reaches_the_line(control: str) -> None:
    with MailServer() as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, local_hostname=f"me{control}x")
        for call in (smtp.ehlo, smtp.helo, lambda: smtp.sendmail(ANN, BOB, OCTETS)):
            with pytest.raises(ValueError, match=ANY):
                call()
        smtp.local_hostname = "me.example"
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        smtp.quit()
    assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]]


# -- lists ----------------------------------------------------------------------------------


@KINDS
def test_a_list_of_one_is_its_address(kind: type[smtplib.SMTP]) -> None:
    with MailServer() as server, kind("127.0.0.1", server.port, "me.example") as smtp:
        smtp.ehlo()
        assert smtp.mail([ANN])[0] == smtp.rcpt([BOB])[0] == smtp.data(OCTETS)[0] == 250  # type: ignore[arg-type]
        assert smtp.sendmail([ANN], [[BOB], ("Eve <eve@example.com>",)], OCTETS) == {}  # type: ignore[arg-type, list-item]
    first, second = server.messages
    assert (first.sender, first.delivered) == (ANN, [BOB])
    assert (second.sender, second.delivered) == (ANN, [BOB, "eve@example.com"])


@KINDS
def test_a_list_of_more_loses_nobody(kind: type[smtplib.SMTP]) -> None:
    both: Any = [BOB, "eve@example.com"]
    for call in (
        lambda smtp: smtp.mail(both),
        lambda smtp: smtp.sendmail(both, BOB, OCTETS),
        lambda smtp: smtp.sendmail(ANN, [both], OCTETS),
    ):
        assert taken(call, kind) == ["EHLO", "NOOP", "QUIT"]


def test_a_refused_list_is_told_by_its_address() -> None:
    recipients: Any = [[BOB], "eve@example.com"]
    with (
        MailServer(refuse={BOB: "550 5.1.1 none"}) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.sendmail(ANN, recipients, OCTETS) == {BOB: (550, b"5.1.1 none")}


@KINDS
@pytest.mark.parametrize("form", ["{}", "<{}>", "Ann <{}>", " {} (Ann)"])
@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("user.@docomo.ne.jp", '"user."@docomo.ne.jp'),
        ("a..b@example.org", '"a..b"@example.org'),
        (".a@bücher.example", '".a"@xn--bcher-kva.example'),
        ('"a..b"@example.org', '"a..b"@example.org'),
        ("a.b@example.org", "a.b@example.org"),
        ("root", "root"),
        ("x" * 100 + "@example.org", "x" * 100 + "@example.org"),
    ],
)
def test_dots_that_no_grammar_has_are_quoted(
    kind: type[smtplib.SMTP], form: str, address: str, wire: str
) -> None:
    with (
        MailServer(local_mailboxes=True, extensions=[]) as server,
        kind("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.sendmail(form.format(address), [form.format(address), BOB], OCTETS) == {}
    (received,) = server.messages
    assert (received.sender, received.addresses) == (wire, [wire, BOB])
