"""LMTP: one final reply for each recipient (RFC 2033 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import linear

import pysmtpx.smtplib as smtplib
from pysmtpx.drop_in.results import Steps
from pysmtpx.errors import DeliveryUnknown
from pysmtpx.testing import Cut, MailServer

ANN, BOB, EVE, JOE = "ann@example.org", "bob@example.com", "eve@example.com", "joe@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
FULL = "452 4.2.2 mailbox full"


class Stepwise(smtplib.LMTP):
    """Somebody wants to be asked for each command."""

    def putcmd(self, cmd: str, args: str = "") -> None:
        super().putcmd(cmd, args)


@pytest.fixture(params=[smtplib.LMTP, Stepwise])
def kind(request: pytest.FixtureRequest) -> type[smtplib.LMTP]:
    return request.param  # type: ignore[no-any-return]


def lmtp_server(**options: Any) -> MailServer:
    return MailServer(protocol="lmtp", **options)


def test_who_is_refused_at_the_end_is_in_the_result(kind: type[smtplib.LMTP]) -> None:
    replies = {("FINAL", EVE): FULL}
    with (
        lmtp_server(replies=replies, refuse={JOE: "550 5.1.1 none"}) as server,
        kind("127.0.0.1", server.port, "me.example") as lmtp,
    ):
        assert lmtp.sendmail(ANN, [BOB, EVE, JOE], OCTETS) == {
            EVE: (452, b"4.2.2 mailbox full"),
            JOE: (550, b"5.1.1 none"),
        }
        assert lmtp.noop() == (250, b"2.0.0 ok")
        assert lmtp.sendmail(ANN, BOB, OCTETS) == {}
    assert [m.delivered for m in server.messages] == [[BOB], [BOB]]


def test_where_all_are_refused_at_the_end_each_is_named(kind: type[smtplib.LMTP]) -> None:
    with (
        lmtp_server(replies={"FINAL": FULL}) as server,
        kind("127.0.0.1", server.port, "me.example") as lmtp,
    ):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            lmtp.sendmail(ANN, [BOB, EVE], OCTETS)
        assert caught.value.recipients == dict.fromkeys((BOB, EVE), (452, b"4.2.2 mailbox full"))
        with pytest.raises(smtplib.SMTPDataError) as single:
            lmtp.sendmail(ANN, [BOB], OCTETS)
        assert single.value.smtp_code == 452
        assert lmtp.noop()[0] == 250


def test_a_loss_half_way_accounts_for_everybody() -> None:
    replies = {("FINAL", EVE): FULL, ("FINAL", JOE): Cut()}
    with lmtp_server(replies=replies) as server:
        lmtp = smtplib.LMTP("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            lmtp.sendmail(ANN, [BOB, EVE, JOE], OCTETS)
        error: Any = caught.value
        assert error.accepted_recipients == (BOB,)
        assert [refused.recipient for refused in error.rejected_recipients] == [EVE]
        assert error.unknown_recipients == (JOE,)
        assert lmtp.sock is None


def test_data_by_itself_reads_all_its_replies() -> None:
    with (
        lmtp_server(replies={("FINAL", EVE): FULL}) as server,
        smtplib.LMTP("127.0.0.1", server.port, "me.example") as lmtp,
    ):
        lmtp.ehlo()
        assert lmtp.mail(ANN)[0] == lmtp.rcpt(EVE)[0] == lmtp.rcpt(BOB)[0] == 250
        assert lmtp.data(OCTETS)[0] == 250
        assert lmtp.noop() == (250, b"2.0.0 ok")


def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    with lmtp_server(path=path) as server, smtplib.LMTP(path, local_hostname="me.example") as lmtp:
        assert lmtp.default_port == 25
        assert lmtp.sendmail(ANN, [BOB, EVE], OCTETS) == {}
        assert lmtp.sock is not None
        assert lmtp.sock.gettimeout() is None
    assert server.messages[0].delivered == [BOB, EVE]


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        smtplib.LMTP(str(tmp_path / "none"), timeout=5)


@pytest.mark.parametrize("fault", [Cut(), "421 4.3.2 bye"], ids=["cut", "421"])
@pytest.mark.parametrize("is_stepwise", [False, True], ids=["by flow", "stepwise"])
def test_an_end_between_the_final_replies_leaves_the_rest_in_doubt(fault: Any, is_stepwise: bool) -> None:
    class Stepwise(smtplib.LMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    with MailServer(
        protocol="lmtp", strict=False, replies={("FINAL", 2): fault, ("FINAL", 0): "550 no"}
    ) as server:
        lmtp = (Stepwise if is_stepwise else smtplib.LMTP)("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            lmtp.sendmail(ANN, [EVE, BOB, "cid@example.com"], OCTETS)
        error: Any = caught.value
        assert error.accepted_recipients == (BOB,)
        assert error.unknown_recipients == ("cid@example.com",)
        assert [(each.recipient, each.stage) for each in error.rejected_recipients] == [(EVE, "final")]
        assert lmtp.sock is None


def test_command_by_command_of_one_who_stands_twice_the_better_fate_is_told() -> None:
    class Stepwise(smtplib.LMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    replies: Any = {("FINAL", 0): "450 4.2.0 later", ("FINAL", 2): Cut(), ("FINAL", EVE): "550 no"}
    with MailServer(protocol="lmtp", strict=False, replies=replies) as server:
        lmtp = Stepwise("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            lmtp.sendmail(ANN, [BOB, EVE, BOB], OCTETS)
        error: Any = caught.value
        assert set(error.unknown_recipients) == {BOB}, "the second of the two may have been taken"
        assert [each.recipient for each in error.rejected_recipients] == [EVE]


def test_whom_a_loss_leaves_in_doubt_is_told_in_linear_time() -> None:
    """By single commands there may be many thousands of recipients."""

    def lose(text: str) -> None:
        paths = [f"r{number}@x.example" for number in range(len(text))]
        steps = Steps()
        for path in paths:
            steps.note_rcpt(path, (250, b"ok"))
        assert steps.lost(DeliveryUnknown(), paths, committed=True).unknown_recipients == tuple(paths)

    linear.check(lose, "x")
