"""From a mail object and what a server offers to exact lines; whatever is wrong is found here."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pysmtpx.errors import InputError, MessageTooLarge, NotSupportedError, UsageError
from pysmtpx.flow.effects import Send
from pysmtpx.flow.plan import DEFAULT, Options, Plan, make_plan
from pysmtpx.flow.transaction import delivery
from pysmtpx.wire.address import ForwardPath, ReversePath
from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.limits import WINDOW
from pysmtpx.wire.params import DeliverBy, MailFromParams, RcptToParams
from pysmtpx.wire.reply import Reply

PLAIN = b"Subject: x\r\n\r\nhello\r\n"
EIGHT_BIT = "Subject: x\r\n\r\nhällo\r\n".encode()
UTF8_HEADER = "Subject: hällo\r\n\r\nx\r\n".encode()
LONG_LINE = b"Subject: x\r\n\r\n" + b"z" * 999 + b"\r\n"
NUL = b"Subject: x\r\n\r\na\0b\r\n"
A = "a@x.example"


def caps(*lines: str) -> Capabilities:
    return Capabilities.from_reply(Reply(250, (b"mail.example", *(line.encode() for line in lines))))


FULL = caps(
    "PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "AUTH PLAIN"
)


def plan(
    content: Any = PLAIN,
    capabilities: Capabilities = FULL,
    *,
    sender: str = "s@x.example",
    recipients: Any = A,
    mail_params: MailFromParams | None = None,
    rcpt_params: Any = None,
    protocol: Protocol = Protocol.SMTP,
    is_tls: bool = False,
    **options: Any,
) -> Plan:
    mail = MailObject(sender, recipients, content, mail_params=mail_params, rcpt_params=rcpt_params)
    return make_plan(mail, capabilities, protocol=protocol, is_tls=is_tls, options=Options(**options))


def mail_line(*args: Any, **options: Any) -> str:
    return plan(*args, **options).envelope[0].decode().rstrip("\r\n").removeprefix("MAIL FROM:<s@x.example>")


def test_one_line_for_mail_and_one_a_recipient() -> None:
    lines = plan(recipients=[A, "b@x.example"], capabilities=caps()).envelope
    assert lines == (
        b"MAIL FROM:<s@x.example>\r\n",
        b"RCPT TO:<a@x.example>\r\n",
        b"RCPT TO:<b@x.example>\r\n",
    )
    assert plan(sender="", capabilities=caps()).envelope[0] == b"MAIL FROM:<>\r\n"


# -- windows -----------------------------------------------------------------------------


@pytest.mark.parametrize(("offered", "window"), [(True, WINDOW), (False, 1)])
def test_the_window(offered: bool, window: int) -> None:
    """FAULTS 45: only what is offered."""
    assert plan(capabilities=FULL if offered else caps("SIZE")).window == window


@pytest.mark.parametrize(
    ("options", "pipelined"),
    [({}, True), ({"bdat": True}, False), ({"all_or_nothing": True}, False)],
)
def test_whether_data_goes_with_the_envelope(options: dict[str, bool], pipelined: bool) -> None:
    """FAULTS 38, 49: never with all-or-nothing, and BDAT not at all."""
    first = next(delivery(plan(**options)))
    assert isinstance(first, Send)
    assert bytes(first.data).endswith(b"DATA\r\n") == pipelined


def test_the_protocol() -> None:
    assert not plan().lmtp
    assert plan(protocol=Protocol.LMTP).lmtp


def test_the_default_options_change_nothing() -> None:
    assert Options() == DEFAULT


# -- SIZE ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (PLAIN, len(PLAIN)),
        (b"a: b\n\nc", 11),
        (b"a: b\r\n\r\n.\r\n..\r\n", 15),
        (b"", 0),
        (bytearray(b"a: b\n"), 6),
        (io.BytesIO(b"a: b\n"), 6),
        ([b"a: b\r", b"\n"], 6),
    ],
)
def test_size_is_counted_after_line_ends_and_before_stuffing(content: Any, size: int) -> None:
    """RFC 1870 5."""
    assert f"SIZE={size}" in mail_line(content).split()


def test_size_is_stated_only_where_it_is_offered() -> None:
    assert mail_line(PLAIN, caps()) == ""
    assert mail_line(PLAIN, caps("SIZE")) == f" SIZE={len(PLAIN)}"


def test_size_of_what_is_read_once_is_not_known() -> None:
    assert "SIZE" not in mail_line(iter([PLAIN]))
    assert "SIZE=7" in mail_line(iter([PLAIN]), mail_params=MailFromParams(size=7))


def test_our_own_count_outranks_the_callers() -> None:
    assert f"SIZE={len(PLAIN)}" in mail_line(mail_params=MailFromParams(size=7))


@pytest.mark.parametrize("limit", ["SIZE", "SIZE 0"])
def test_no_limit_is_no_limit(limit: str) -> None:
    assert plan(b"x" * 100_000, caps(limit), as_is=True)


@pytest.mark.parametrize(("octets", "fits"), [(100, True), (101, False), (99, True), (10_000_000, False)])
def test_a_message_over_the_servers_size(octets: int, fits: bool) -> None:
    """FAULTS 20."""
    content = b"a: b\r\n" * (octets // 6) + b"c" * max(0, octets % 6 - 2) + b"\r\n" * (octets % 6 > 1)
    content = (b"x" * 60 + b"\r\n") * (octets // 62) + b"y" * (octets % 62 - 2) + b"\r\n"
    assert len(content) == octets
    if fits:
        assert plan(content, caps("SIZE 100"))
    else:
        with pytest.raises(MessageTooLarge) as caught:
            plan(content, caps("SIZE 100"))
        assert str(octets) in str(caught.value)
        assert "100" in str(caught.value)


def test_a_stated_size_over_the_limit_of_what_cannot_be_counted() -> None:
    """FAULTS 20."""
    with pytest.raises(MessageTooLarge):
        plan(iter([PLAIN]), caps("SIZE 100"), mail_params=MailFromParams(size=101))


# -- BODY -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "body"),
    [(PLAIN, None), (EIGHT_BIT, "8BITMIME"), (iter([PLAIN]), "8BITMIME")],
    ids=["7bit", "8bit", "unknown"],
)
def test_body_is_stated_where_it_is_needed(content: Any, body: str | None) -> None:
    made = plan(content)
    assert made.body == body
    assert (b"BODY=8BITMIME" in made.envelope[0]) == (body is not None)


def test_8_bit_content_without_8bitmime() -> None:
    """FAULTS 109 (RFC 6152)."""
    with pytest.raises(NotSupportedError) as caught:
        plan(EIGHT_BIT, caps())
    assert caught.value.keyword == "8BITMIME"
    assert plan(EIGHT_BIT, caps(), as_is=True).body is None


@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize(("content", "as_is"), [(LONG_LINE, True), (NUL, False)], ids=["long line", "NUL"])
def test_what_only_binarymime_can_carry(content: bytes, as_is: bool, bdat: bool) -> None:
    """FAULTS 109."""
    with pytest.raises(NotSupportedError) as caught:
        plan(content, bdat=bdat)
    assert caught.value.keyword == "BINARYMIME"
    if as_is:
        assert plan(content, bdat=bdat, as_is=True)
    binary = plan(content, bdat=True, mail_params=MailFromParams(body="BINARYMIME"))
    assert binary.body == "BINARYMIME"
    assert f"SIZE={len(content)}".encode() in binary.envelope[0]


def test_binarymime_counts_raw_octets() -> None:
    """RFC 3030 3: line ends stay as they are."""
    made = plan(b"a\nb\n", bdat=True, mail_params=MailFromParams(body="BINARYMIME"))
    assert b"SIZE=4 " in made.envelope[0]


def test_binarymime_needs_bdat_and_the_extension() -> None:
    """RFC 3030 3."""
    binary = MailFromParams(body="BINARYMIME")
    with pytest.raises(UsageError):
        plan(mail_params=binary)
    with pytest.raises(NotSupportedError) as caught:
        plan(capabilities=caps("CHUNKING"), bdat=True, mail_params=binary)
    assert caught.value.keyword == "BINARYMIME"


def test_7bit_that_is_not() -> None:
    with pytest.raises(InputError):
        plan(EIGHT_BIT, mail_params=MailFromParams(body="7BIT"))
    assert "BODY=7BIT" in mail_line(PLAIN, mail_params=MailFromParams(body="7BIT"))


def test_bdat_needs_chunking() -> None:
    with pytest.raises(NotSupportedError) as caught:
        plan(capabilities=caps("PIPELINING"), bdat=True)
    assert caught.value.keyword == "CHUNKING"


# -- SMTPUTF8 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"recipients": [A, "jörg@x.example"]},
        {"sender": "jörg@x.example"},
        {"content": UTF8_HEADER},
        {"mail_params": MailFromParams(smtputf8=True)},
    ],
)
def test_smtputf8_where_it_is_needed(options: dict[str, Any]) -> None:
    """RFC 6531 3.4."""
    assert b" SMTPUTF8" in plan(**options).envelope[0]


def test_a_domain_alone_needs_none() -> None:
    """FAULTS 106: it goes as A-labels."""
    made = plan(recipients="a@bücher.example")
    assert b"SMTPUTF8" not in made.envelope[0]
    assert made.envelope[1] == b"RCPT TO:<a@xn--bcher-kva.example>\r\n"


def test_smtputf8_where_it_is_not_offered() -> None:
    """FAULTS 107: the error names who needs it."""
    bare = caps("8BITMIME")
    with pytest.raises(NotSupportedError, match=r"jörg@x\.example") as caught:
        plan(capabilities=bare, recipients=[A, "jörg@x.example"])
    assert caught.value.keyword == "SMTPUTF8"
    with pytest.raises(NotSupportedError):
        plan(UTF8_HEADER, bare)
    assert b"SMTPUTF8" not in plan(UTF8_HEADER, bare, as_is=True).envelope[0]
    with pytest.raises(NotSupportedError):
        plan(capabilities=bare, recipients="jörg@x.example", as_is=True)


# -- parameters ------------------------------------------------------------------------------------------


def test_parameters_are_written() -> None:
    made = plan(
        capabilities=caps("DSN"),
        recipients=[A, "b@x.example"],
        mail_params=MailFromParams(ret="HDRS", envid="id=1"),
        rcpt_params=[RcptToParams(notify=("NEVER",)), RcptToParams(orcpt="b+c@x.example")],
    )
    assert made.envelope == (
        b"MAIL FROM:<s@x.example> RET=HDRS ENVID=id+3D1\r\n",
        b"RCPT TO:<a@x.example> NOTIFY=NEVER\r\n",
        b"RCPT TO:<b@x.example> ORCPT=rfc822;b+2Bc@x.example\r\n",
    )


@pytest.mark.parametrize(
    ("options", "keyword"),
    [
        ({"mail_params": MailFromParams(envid="x")}, "DSN"),
        ({"rcpt_params": [RcptToParams(notify=("NEVER",))]}, "DSN"),
        ({"mail_params": MailFromParams(extra={"X-A": None})}, "X-A"),
        ({"mail_params": MailFromParams(requiretls=True), "is_tls": True}, "REQUIRETLS"),
        ({"mail_params": MailFromParams(smtputf8=True)}, "SMTPUTF8"),
    ],
)
def test_a_parameter_that_is_not_offered(options: dict[str, Any], keyword: str) -> None:
    """FAULTS 111."""
    with pytest.raises(NotSupportedError) as caught:
        plan(capabilities=caps("PIPELINING"), **options)
    assert caught.value.keyword == keyword


def test_requiretls_goes_over_tls_only() -> None:
    """RFC 8689 2."""
    params = MailFromParams(requiretls=True)
    assert (
        b" REQUIRETLS" in plan(capabilities=caps("REQUIRETLS"), mail_params=params, is_tls=True).envelope[0]
    )
    with pytest.raises(NotSupportedError):
        plan(capabilities=caps("REQUIRETLS"), mail_params=params)


@pytest.mark.parametrize(
    ("params", "line", "fits"),
    [
        (MailFromParams(holdfor=60), "FUTURERELEASE 60 2099-01-01T00:00:00Z", True),
        (MailFromParams(holdfor=61), "FUTURERELEASE 60 2099-01-01T00:00:00Z", False),
        (MailFromParams(by=DeliverBy(60, "R")), "DELIVERBY 60", True),
        (MailFromParams(by=DeliverBy(59, "R")), "DELIVERBY 60", False),
        (MailFromParams(by=DeliverBy(-59, "N")), "DELIVERBY 60", True),
        (MailFromParams(by=DeliverBy(1, "R")), "DELIVERBY", True),
    ],
)
def test_times_that_the_server_said_it_would_refuse(params: MailFromParams, line: str, fits: bool) -> None:
    """RFC 4865 3, RFC 2852 3."""
    if fits:
        assert plan(capabilities=caps(line), mail_params=params)
    else:
        with pytest.raises(NotSupportedError) as caught:
            plan(capabilities=caps(line), mail_params=params)
        assert caught.value.keyword == line.split()[0]


LONG = "x" * 100 + "@y.example"


@pytest.mark.parametrize("name", ["root", '"a user"', LONG])
@pytest.mark.parametrize("field", ["sender", "recipients"])
class TestMailboxesThatOneServerKnows:
    """No domain, or a local part over 64 octets: where the mailbox is, or where the caller insists."""

    def made(self, field: str, path: str, **where: Any) -> tuple[bytes, ...]:
        envelope = {"sender": "s@x.example", "recipients": A} | {field: path}
        return make_plan(MailObject(**envelope, content=PLAIN), caps(), is_tls=False, **where).envelope

    def test_over_lmtp_and_on_this_host(self, field: str, name: str) -> None:
        for where in ({"protocol": Protocol.LMTP}, {"protocol": Protocol.SMTP, "is_local": True}):
            line = self.made(field, name, **where)[field == "recipients"]
            assert f":<{name}>\r\n".encode() in line

    def test_elsewhere_with_a_word_on_how_to_insist(self, field: str, name: str) -> None:
        with pytest.raises(InputError, match="strict=False") as caught:
            self.made(field, name, protocol=Protocol.SMTP)
        assert name[:60] in str(caught.value)
        kind = ReversePath if field == "sender" else ForwardPath
        assert kind.__name__ in str(caught.value)
        line = self.made(field, kind(name, strict=False), protocol=Protocol.SMTP)[field == "recipients"]
        assert f":<{name}>\r\n".encode() in line
