"""Every flow judged by the strict server: any pattern of replies, any window, any limit, any cut.

The invariants, against the server's ledger: accepted here is accepted there;
rejected or unsent is not accepted there; unknown only after the end of data was
written; each recipient has exactly one outcome; no octet after 421; the client
never breaks the protocol; and a connection that is kept is in step.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from hypothesis import event, example, given
from hypothesis import strategies as st
from support.judge import Line, Records, Surplus, surpluses
from support.opening import open_session

from pysmtpx.errors import DeliveryUnknown, SmtpError
from pysmtpx.flow.plan import Options, make_plan
from pysmtpx.flow.session import Opening
from pysmtpx.flow.transaction import delivery
from pysmtpx.testing.config import Config
from pysmtpx.testing.protocol import ServerSession
from pysmtpx.testing.script import Event
from pysmtpx.wire.capabilities import Protocol
from pysmtpx.wire.envelope import MailObject

BODY = b"Subject: one\r\n\r\n.dot\r\nhello\r\n"
LONG = b"Subject: long\r\n\r\n" + b"x" * 500 + (b"\r\n" + b"y" * 600) * 400

CODES = st.sampled_from([250] * 12 + [251, 421, 450, 452, 550, 551, 552, 553, 354])


@dataclass(frozen=True)
class Case:
    """One conversation: what the server says, and how the client sends."""

    lmtp: bool
    pipelining: bool
    bdat: bool
    all_or_nothing: bool
    one_shot: bool
    limit: int | None
    window: int
    body: bytes
    mail: int
    rcpts: tuple[int, ...]
    data: int
    finals: tuple[int, ...]
    rset: int
    slices: tuple[int, ...]
    to_client: int | None
    to_server: int | None
    unrecorded: tuple[bool, ...] = ()
    surplus: Surplus | None = None

    def verdict(self, event: Event) -> str | None:
        """The scripted answer for the first transaction; the second is left in peace."""
        if event.transaction:
            return None
        code = {
            "MAIL": self.mail,
            "DATA": self.data,
            "RSET": self.rset,
            "RCPT": self.rcpts[event.index] if event.verb == "RCPT" else 0,
            "FINAL": self.finals[event.index % len(self.finals)],
        }.get(event.verb)
        # A server that does not do what it says would be at fault, not the client.
        if event.reply[:1] == b"5" and code != 421:
            return None
        return None if code is None else f"{code} scripted"


cases = st.integers(1, 5).flatmap(
    lambda n: st.builds(
        Case,
        lmtp=st.booleans(),
        pipelining=st.booleans(),
        bdat=st.booleans(),
        all_or_nothing=st.booleans(),
        one_shot=st.booleans(),
        limit=st.sampled_from([None, None, 1, 2, 3]),
        window=st.sampled_from([1000, 1, 2, 3, 4]),
        body=st.sampled_from([BODY, LONG, b""]),
        mail=st.sampled_from([250] * 12 + [421, 451, 550, 354]),
        rcpts=st.tuples(*[CODES] * n),
        data=st.sampled_from([354] * 12 + [250, 421, 451, 503, 554]),
        finals=st.tuples(*[CODES] * n),
        rset=st.sampled_from([250, 250, 500, 421]),
        slices=st.lists(st.integers(1, 30), min_size=1, max_size=4).map(tuple),
        to_client=st.none() | st.integers(0, 400),
        to_server=st.none() | st.integers(0, 400) | st.integers(400, len(LONG) + 500),
        unrecorded=st.sampled_from([(), (), (), (True,), (False, True)]),
    )
)


def with_surplus(case: Case, surplus: Surplus) -> Case:
    """The same with one reply too many (FAULTS 9, 43, 54).

    Left out is 421 as a final reply or beside one. Behind 250 it is what a
    server says that closes after it delivered, and nobody can tell that from a
    true 421 behind a 250 too many. In front of 250 it is told as a refusal. Left
    out too is a line that is cut where the server speaks: between the two replies
    it hides that there were two.
    """
    finals = tuple(451 if code == 421 else code for code in case.finals)
    return replace(case, surplus=surplus, finals=finals, to_client=None)


shifted = st.builds(with_surplus, cases, surpluses())


def outcomes(recipients: tuple[str, ...], sent) -> dict[str, str]:
    """Each recipient with its one outcome, from a result or an error."""
    rows = [(p, "accepted") for p in sent.accepted_recipients]
    rows += [(r.recipient, "rejected") for r in sent.rejected_recipients]
    if isinstance(sent, SmtpError):
        rows += [(p, "unknown") for p in sent.unknown_recipients]
        rows += [(p, "unsent") for p in sent.unsent_recipients]
    assert sorted(p for p, _ in rows) == sorted(recipients), "each recipient exactly once"
    return dict(rows)


def attempt(case: Case, line: Line, mail: MailObject, *, first: bool, records: Records | None = None):
    try:
        plan = make_plan(
            mail,
            line_capabilities(line),
            protocol=Protocol.LMTP if case.lmtp else Protocol.SMTP,
            is_tls=False,
            options=Options(bdat=case.bdat, all_or_nothing=case.all_or_nothing and first),
        )
        plan = plan._replace(window=min(plan.window, case.window), recorder=records if first else None)
        return line.run(delivery(plan))
    except SmtpError as error:
        if not error.accounts_for_anyone:  # as SmtpConnection does
            error.unsent_recipients = mail.recipients
        return error


def line_capabilities(line: Line):
    return line.capabilities  # type: ignore[attr-defined]


def opened(case: Case) -> Line:
    """A line with its session open; cuts count from here."""
    extensions = ["CHUNKING", "8BITMIME", "SIZE", *(["PIPELINING"] if case.pipelining else [])]
    extensions += [f"LIMITS RCPTMAX={case.limit}"] if case.limit else []
    config = Config(protocol="lmtp" if case.lmtp else "smtp", extensions=extensions, verdict=case.verdict)
    line = Line(ServerSession(config), itertools.cycle(case.slices))
    line._take(line.session.greeting())
    opening = Opening(protocol=Protocol.LMTP if case.lmtp else Protocol.SMTP, name="client.example")
    line.capabilities = line.run(open_session(opening))  # type: ignore[attr-defined]
    line.written, line.to_client, line.to_server = b"", case.to_client, case.to_server
    line.said, line.surplus = 0, case.surplus
    return line


TWO_FINALS = Case(
    *(
        True,
        True,
        False,
        False,
        False,
        None,
        1000,
        BODY,
        250,
        (250, 250),
        354,
        (250, 250),
        250,
        (7,),
        None,
        None,
    )
)


@example(with_surplus(TWO_FINALS, Surplus(4, 450, is_behind=False)))
@given(cases | shifted)
def test_every_flow_tells_the_truth(case: Case) -> None:
    """All-or-nothing by BDAT (FAULTS 50) too: the chunk waits for the replies to RCPT, in two round trips."""
    line = opened(case)
    recipients = tuple(f"r{i}@x.example" for i in range(len(case.rcpts)))
    content = iter([case.body]) if case.one_shot else case.body
    records = Records(case.unrecorded)
    sent = attempt(case, line, MailObject("s@x.example", recipients, content), first=True, records=records)
    event(type(sent).__name__)
    told = outcomes(recipients, sent)
    ledger = line.session.ledger

    delivered = {path for message in ledger.messages for path in message.delivered}
    for path, outcome in told.items():
        if outcome == "accepted":
            assert path in delivered
        elif outcome != "unknown":
            assert path not in delivered
    assert delivered <= records.doubtful, "each was recorded before it could have the message"
    assert {path for path, outcome in told.items() if outcome == "unknown"} <= records.doubtful
    if "unknown" in told.values():
        assert isinstance(sent, DeliveryUnknown)
        end = b"LAST\r\n" + case.body if case.bdat else b".\r\n"
        assert end in line.written
    for message in ledger.messages:
        assert message.content == case.body or (
            not case.body.endswith(b"\r\n") and message.content[:-2] == case.body
        )
    if not line.is_shifted:
        ledger.assert_clean()

    if line.written and not (line.closed or line.dead):
        line.to_client = line.to_server = line.surplus = None
        again = attempt(case, line, MailObject("s@x.example", ["z@x.example"], BODY), first=False)
        if line.is_shifted:
            # It lies there still, or passed for the answer to RSET.
            if outcomes(("z@x.example",), again)["z@x.example"] == "accepted":
                assert ledger.messages[-1].delivered == ["z@x.example"]
            return
        assert not isinstance(again, SmtpError), again
        assert ledger.messages[-1].delivered == ["z@x.example"]
        ledger.assert_clean()
