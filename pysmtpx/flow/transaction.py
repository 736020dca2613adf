"""One mail transaction: MAIL, RCPT, and the content by DATA or BDAT (RFC 5321 3.3).

Sequential or pipelined, DATA or BDAT, SMTP or LMTP are parameters of this one
flow: how many commands may be unanswered, how the content ends, how many final
replies come. It is in two parts, so that a stream of messages can overlap:
``begin`` leaves a ``Tail``, and ``settle`` writes that, alone or in one write
with the envelope of the next transaction (RFC 2920 3.1), and hears the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from ..errors import (
    ConnectionLost,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    shifted,
)
from ..wire import command
from ..wire.limits import FURTHER_FINALS_LIMIT, OVERLAP_LIMIT, Stage
from ..wire.reply import Reply
from .account import Account, are_refusals
from .body import LAST, MORE, ContentFailed, by_bdat, by_data, early
from .effects import CLOSE, TOO_LATE, WITHHELD, Flow, Hear, Send, Settled
from .plan import Plan
from .tail import Tail, anew

Meanwhile: TypeAlias = Callable[[], Flow[None]]
"""What to do after a write, while the server works."""

# Bound once: on Python 3.11 to look up a member of an enumeration takes longer than what is done with it.
_DATA: Final = Stage.DATA
_FINAL: Final = Stage.FINAL
_NOTHING: Final = (WITHHELD, TOO_LATE)

BROKEN: Final = (Timeout, ConnectionLost, ProtocolError, ServiceUnavailable)
"""What ends the connection, whatever it was in the middle of."""


def begin(
    plan: Plan,
    account: Account,
    lead: Tail | None = None,
    meanwhile: Meanwhile | None = None,
    *,
    idle: bool = False,
) -> Flow[Tail]:
    """The transaction up to its tail. Raises no ``SmtpError``: the tail has it.

    ``lead`` is the tail of the transaction before, which shares a write with
    this one's envelope. It is reported once that is answered and nothing is left
    over: its own answer can have been one too many. ``idle`` says that the line
    has been so since it was last looked at.
    """
    tail = Tail(plan, account)
    tail.overlapped = lead is not None
    bdat = plan.options.bdat
    try:
        yield from _envelope(plan, account, lead, meanwhile, idle)
        refusal = _refusal(plan, account)
        if refusal is None and not (bdat or account.goes_ahead):
            refusal = yield from _data(account)
        if refusal is not None:
            yield from _refuse(tail, refusal)
        if lead is not None:
            yield from _report(lead)
        if refusal is None:
            tail.left, tail.shown = yield from by_bdat(plan, account) if bdat else by_data(plan, account)
    except BROKEN as error:
        yield CLOSE
        if lead is not None:
            yield from _report(lead, error)
        tail.broken(error)
    except SmtpError as error:
        yield CLOSE
        tail.failed(error)
    except ContentFailed as error:
        yield CLOSE
        tail.failure = error.__cause__
        failed = account.content_raised(tail.failure)
        tail.failed(failed)
    return tail


def settle(tail: Tail, envelope: bytes = b"", meanwhile: Meanwhile | None = None) -> Flow[None]:
    """Write the tail, with an envelope behind it, and hear what answers it. Raises no ``SmtpError``."""
    if not tail.left:
        return
    account = tail.account
    more = bool(envelope)
    octets = b"".join((*tail.left, envelope))
    try:
        if tail.fate is not None:
            yield from _restore(tail, octets)
        else:
            account.commit()
            # In doubt from here on, unless bad news or the deadline came before its last octet.
            effect = Send(octets, tail.shown + envelope, guard=True, commits=True)
            written = yield effect
            if written in _NOTHING or effect.short > len(envelope):
                account.retract()
                if written == TOO_LATE:
                    raise Timeout("too little time is left for the server's answer to the end of data")
                is_first = tail.plan.options.bdat and bool(tail.shown)
                yield from early(account, is_begun=not is_first or written != WITHHELD)
        if meanwhile is not None:
            yield from meanwhile()
        if tail.fate is None:
            yield from finals(account, more=more)
            tail.heard(is_certain=not more)
        else:
            yield from _stepped(tail, more=more)
    except BROKEN as error:
        tail.broken(error)
    except SmtpError as error:
        tail.failed(error)
    except BaseException as error:
        account.note_doubt(error)
        if tail.tell is not None:
            tail.tell(error)
        raise
    tail.left = ()
    if tail.closed:
        yield CLOSE


def _report(lead: Tail, error: SmtpError | None = None) -> Flow[None]:
    """Tell what became of it, now that the envelope behind it was answered, or broke by this error."""
    if lead.reported:
        return
    if isinstance(error, ProtocolError) and (error.surplus or error.reply) is not None:
        doubt = anew(error)
        if error.reply is not None and error.surplus is None:
            doubt.surplus = (error.reply, None)  # a reply out of place is at another's
        lead.broken(doubt)
    lead.settled()
    if (report := lead.report(idle=lead.closed or error is not None)) is not None:
        yield report


def _restore(tail: Tail, octets: bytes) -> Flow[None]:
    """Write what brings the session back into step, unless a reply is there that was one too many."""
    if (yield Send(octets, guard=tail.is_shiftable)) == WITHHELD:
        reply: Reply = yield MORE[Stage.RSET]
        if reply.code == 421:
            raise tail.account.shutdown(reply)
        raise shifted("the server spoke without being asked", Stage.RSET, reply)


def _stepped(tail: Tail, *, more: bool) -> Flow[None]:
    """The answer to what brings the session back into step: RSET is 250, an empty message anything."""
    reply: Reply = yield (MORE if more else LAST)[Stage.RSET if tail.shown == command.RSET else Stage.DATA]
    if reply.code == 354:
        # It is the answer to DATA, so what was read as that answers a RCPT, behind a reply too many.
        raise shifted("354 is no answer to RSET", Stage.RSET, reply)
    tail.closed = reply.code == 421 or (tail.shown == command.RSET and reply.code != 250)


def finals(account: Account, *, more: bool = False) -> Flow[None]:
    """One reply, or under LMTP one for each accepted recipient, in order (RFC 2033 4.2)."""
    owed = (account.accepted_count or 1) if account.lmtp else 1
    for index in range(owed):
        effect = (MORE if more or index + 1 < owed else LAST)[_FINAL]
        if index and all(final.is_permanent for final in account.finals):
            effect = replace(effect, limit=FURTHER_FINALS_LIMIT)
        try:
            reply: Reply = yield effect
        except ProtocolError as error:
            if error.surplus is None or not are_refusals((*account.finals, *error.surplus)):
                raise
            # Whichever of them answer the content, it was refused for everybody (FAULTS 120).
            (reply, account.surplus), account.over = error.surplus, True
        except Timeout:
            if not (index and all(_is_about_size(final) for final in account.finals)):
                raise
            # Cyrus and others refuse a content that is too large once, for all (FAULTS 119). What another
            # refusal means for those who have no reply is not known.
            account.finals += [account.finals[0]] * (owed - index)
            account.over = True
            return
        code = reply.code
        if 300 <= code < 400:
            raise ProtocolError(f"{code} is no final reply", stage=_FINAL, reply=reply)
        if code == 421:
            account.shut = reply
            if account.lmtp:
                return  # not about this recipient: those without a reply are unknown
        account.finals.append(reply)


def _is_about_size(reply: Reply) -> bool:
    """Whether a refusal is about the size of the content, and so about everybody (RFC 3463 3.3, 3.4)."""
    enhanced = reply.enhanced
    if enhanced is None:
        return reply.code == 552
    return reply.is_permanent and (enhanced.subject, enhanced.detail) in ((2, 3), (3, 4))


# -- envelope ------------------------------------------------------------------


def _envelope(
    plan: Plan, account: Account, lead: Tail | None, meanwhile: Meanwhile | None, idle: bool
) -> Flow[None]:
    """MAIL, every RCPT and, where it is pipelined, DATA, within the window.

    Every reply that is owed is read before any is judged (RFC 2920 3.1). With a
    window of 1 this is the sequential path: nothing is sent on a refused MAIL,
    and no DATA where nobody was accepted.
    """
    lines = plan.commands
    count, window = len(lines), plan.window
    limit: float | None = None
    sent = read = 0
    while read < count:
        batch = _batch(lines, sent, read + window, account) if sent else lines[:window]
        if batch:
            data = b"".join(batch)
            if lead is not None:
                lead.overlapped = True
                yield from settle(lead, data, meanwhile)
                limit = OVERLAP_LIMIT
                if lead.closed:
                    yield from _report(lead)
                    raise lead.overtaken(written=lead.account.committed or lead.shown == command.RSET)
                if lead.verdict is not None and not lead.reported:
                    yield Settled(lead.verdict)
                lead = None
            elif (sent and read == sent) or (idle and not sent):
                yield from _say(account, data)
            else:
                yield Send(data)
            sent += len(batch)
            plan.mail.content.prepare()
        elif read == sent:
            return
        # Refill when half the window is free, so that the line never runs dry.
        floor = sent if not batch or sent == count else sent - window // 2
        if floor > read:
            yield Hear(account, floor - read, floor == sent, limit)
            limit = None
            read = floor


def _say(account: Account, data: bytes) -> Flow[None]:
    """Commands at a time when no reply is owed: what is said unasked must not pass for their answer."""
    if (yield Send(data, guard=True)) == WITHHELD:
        reply: Reply = yield MORE[account.stage]
        if reply.code == 421:
            raise account.shutdown(reply)
        raise ProtocolError("the server spoke without being asked", stage=account.stage, reply=reply)


def _batch(lines: tuple[bytes, ...], sent: int, end: int, account: Account) -> tuple[bytes, ...]:
    # Where all are refused only DATA can be left, and nobody is there to have the content.
    return () if account.mail_refused or account.all_refused else lines[sent:end]


# -- refusals ------------------------------------------------------------------


def _refusal(plan: Plan, account: Account) -> SmtpError | None:
    """Why the content may not follow the envelope, or None."""
    needed = len(account.recipients) if plan.options.all_or_nothing else 1
    return account.refusal() if account.mail_refused or account.accepted_count < needed else None


def _data(account: Account) -> Flow[SmtpError | None]:
    """DATA, unless it went with the envelope, and why the content may not follow it (RFC 5321 4.1.1.4)."""
    account.stage = _DATA
    if is_alone := account.data is None:
        yield from _say(account, command.DATA)
        account.note((yield LAST[_DATA]))
    reply = account.data
    assert reply is not None
    if reply.code == 354:
        return None
    if reply.code < 400:
        # A server that answers 250 would read the content as commands.
        raise _no_go_ahead(reply, is_alone=is_alone)
    return account.refusal()


def _no_go_ahead(reply: Reply, *, is_alone: bool) -> ProtocolError:
    """The error for an answer to DATA that is neither 354 nor a refusal."""
    text = f"{reply.code} is no answer to DATA"
    if is_alone or reply.code >= 300:
        return ProtocolError(text, stage=_DATA, reply=reply)
    return shifted(text, _DATA, reply)  # it may answer a RCPT


def _refuse(tail: Tail, refusal: SmtpError) -> Flow[None]:
    """A refusal of the envelope or of DATA, and what leaves the session in step.

    Where DATA was answered by 354 although nothing will be sent, that is the
    end of an empty message (RFC 2920 3.1). Where a recipient was accepted that
    could be delivered to it, and an LMTP server without recipients may answer
    nothing at all (RFC 2033 4.2): both leave only closing, as does any other
    answer that is no refusal.
    """
    account = tail.account
    if account.data is None or account.data.code >= 400:
        tail.refused(refusal, command.RSET)
        return
    if account.data.code < 300:
        raise _no_go_ahead(account.data, is_alone=False)
    tail.fate = refusal
    if account.accepted_count or account.lmtp or account.data.code != 354:
        tail.closed = True
        yield CLOSE
        return
    tail.refused(refusal, command.END_OF_DATA)
