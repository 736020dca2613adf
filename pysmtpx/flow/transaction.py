"""One mail transaction: MAIL, RCPT, and the content by DATA or BDAT (RFC 5321 3.3).

Sequential or pipelined, DATA or BDAT, SMTP or LMTP are parameters of this one
flow: how many commands may be unanswered, how the content ends, how many final
replies come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..errors import (
    ConnectionLost,
    DataRejected,
    InputError,
    NotSupportedError,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from ..wire import command
from ..wire.limits import BDAT_CHUNK, Stage
from ..wire.reply import Reply
from ..wire.result import SendResult
from .account import Account
from .effects import CLOSE, WITHHELD, Flow, Octets, Receive, Send
from .plan import Plan

_MORE: Final = {stage: Receive(stage, last=False) for stage in Stage}
_LAST: Final = {stage: Receive(stage) for stage in Stage}


def transaction(plan: Plan, account: Account | None = None) -> Flow[SendResult]:
    """Send one mail object and return who was accepted.

    ``account``, where given, is filled with every reply by position.

    Raises ``SenderRejected``, ``RecipientsRejected``, ``AllRecipientsFailed``
    or ``DataRejected`` for a refusal, ``ServiceUnavailable`` for a 421,
    ``Timeout``, ``ConnectionLost`` or ``ProtocolError`` where the line broke
    before the end of data was written, and ``DeliveryUnknown`` after it.
    """
    if account is None:
        account = Account(plan.mail.recipients, lmtp=plan.lmtp)
    try:
        yield from _envelope(plan, account)
        refusal = _refusal(plan, account)
        if refusal is not None:
            yield from _refuse(account, refusal)
        if plan.options.bdat:
            yield from _bdat(plan, account)
        else:
            yield from _data(plan, account)
        yield from _finals(plan, account)
    except (Timeout, ConnectionLost, ProtocolError, ServiceUnavailable) as error:
        yield CLOSE
        verdict = account.broken(error)
        if verdict is error:
            raise
        raise verdict from error
    except BaseException as error:
        account.note_doubt(error)
        if account.stage is Stage.CONTENT and isinstance(error, Exception):
            # Refused half-way, or the caller's content failed: only closing takes it back.
            yield CLOSE
            account.content_failed(error)
        raise
    try:
        return account.result()
    except BaseException as error:
        account.note_doubt(error)
        raise


# -- envelope ------------------------------------------------------------------


def _envelope(plan: Plan, account: Account) -> Flow[None]:
    """MAIL, every RCPT and, where it is pipelined, DATA, within the window.

    Every reply that is owed is read before any is judged (RFC 2920 3.1). With a
    window of 1 this is the sequential path: nothing is sent on a refused MAIL,
    and no DATA where nobody was accepted.
    """
    lines = plan.envelope + ((command.DATA,) if plan.pipelines_data else ())
    count = len(plan.envelope) - 1
    sent = read = 0
    while read < len(lines):
        batch = _batch(lines, sent, read + plan.window, account) if sent else lines[: plan.window]
        if batch:
            if sent and read == sent:
                yield from _say(account, b"".join(batch))
            else:
                yield Send(b"".join(batch))
            sent += len(batch)
            plan.content.prepare()
        elif read == sent:
            return
        # Refill when half the window is free, so that the line never runs dry.
        floor = sent if not batch or sent == len(lines) else sent - plan.window // 2
        while read < floor:
            account.stage = stage = Stage.MAIL if not read else Stage.RCPT if read <= count else Stage.DATA
            account.note((yield (_LAST if read + 1 == sent else _MORE)[stage]))
            read += 1


def _say(account: Account, data: bytes) -> Flow[None]:
    """Commands at a time when no reply is owed: what is said unasked must not pass for their answer."""
    if (yield Send(data, guard=True)) == WITHHELD:
        reply: Reply = yield _MORE[account.stage]
        if reply.code == 421:
            raise account.shutdown(reply)
        raise ProtocolError("the server spoke without being asked", stage=account.stage, reply=reply)


def _batch(lines: tuple[bytes, ...], sent: int, end: int, account: Account) -> tuple[bytes, ...]:
    # Where all are refused only DATA can be left, and nobody is there to have the content.
    return () if account.mail_refused or account.all_refused else lines[sent:end]


def _refusal(plan: Plan, account: Account) -> SmtpError | None:
    """Why the content may not follow the envelope, or None."""
    if account.mail_refused:
        return account.sender_refused()
    if account.accepted_count < (len(account.recipients) if plan.options.all_or_nothing else 1):
        return account.nobody()
    return None


def _refuse(account: Account, refusal: SmtpError) -> Flow[None]:
    """Raise a refusal of the envelope or of DATA, leaving the session in step."""
    if account.data is not None and account.data.code < 400:
        yield from _end_nothing(account)
    else:
        yield from reset()
    raise refusal


def _end_nothing(account: Account) -> Flow[None]:
    """Leave the data state that DATA entered although nothing will be sent (RFC 2920 3.1).

    Where a recipient was accepted the empty message could be delivered to it,
    and an LMTP server without recipients may answer nothing at all (RFC 2033
    4.2): both leave only closing, as does an answer that is not 354.
    """
    if account.accepted_count or account.lmtp or account.data is None or account.data.code != 354:
        yield CLOSE
        return
    try:
        yield Send(command.END_OF_DATA)
        yield _LAST[Stage.DATA]  # whatever it says, there is nobody to have it
    except SmtpError:
        yield CLOSE


def reset() -> Flow[None]:
    """RSET, best effort: where it is not answered by 250 the connection is closed."""
    try:
        yield Send(command.RSET)
        reply: Reply = yield _LAST[Stage.RSET]
    except SmtpError:
        return
    if reply.code != 250:
        yield CLOSE


# -- content by DATA -------------------------------------------------------------


def _data(plan: Plan, account: Account) -> Flow[None]:
    account.stage = Stage.DATA
    if account.data is None:
        yield from _say(account, command.DATA)
        account.note((yield _LAST[Stage.DATA]))
    if account.data is not None and account.data.code != 354:
        yield from _refuse(account, _data_refusal(account, account.data))
    account.stage = Stage.CONTENT
    held = yield from _write(account, b"", plan.content.for_data(**_allowed(plan)))
    # The terminator goes in the last write, so that the doubt begins with that.
    yield from _commit(account, b"".join((held, command.END_OF_DATA)))


def _data_refusal(account: Account, reply: Reply) -> SmtpError:
    """What an answer to DATA other than 354 amounts to (RFC 5321 4.1.1.4)."""
    if reply.code < 400:
        # A server that answers 250 would read the content as commands.
        raise ProtocolError(f"{reply.code} is no answer to DATA", stage=Stage.DATA, reply=reply)
    return account.refusal(DataRejected, reply, "DATA was refused")


def _allowed(plan: Plan) -> dict[str, bool]:
    """What the content may hold, where it could not be measured or has changed since."""
    as_is = plan.options.as_is
    return {
        "allow_8bit": as_is or plan.body not in (None, "7BIT"),
        "allow_long_lines": as_is,
        "allow_nul": False,
    }


def _write(account: Account, head: bytes, pieces: Iterator[Octets]) -> Flow[Octets]:
    """Write ``head`` and the pieces, all but the last, which is returned."""
    held: Octets = b""
    while (piece := _next(pieces)) is not None:
        if held and (yield Send(held, watch=True)):
            yield from _early(account)
        held = piece if held or not head else b"".join((head, piece))
    return held or head


def _next(pieces: Iterator[Octets]) -> Octets | None:
    """The next piece, where an error of another connection must not pass for one of ours."""
    try:
        return next(pieces, None)
    except (InputError, NotSupportedError):
        raise
    except SmtpError as error:
        raise InputError("the content could not be read", stage=Stage.CONTENT) from error


def _commit(account: Account, data: Octets) -> Flow[None]:
    """The write after which delivery is in doubt, unless bad news or the deadline came first."""
    account.commit()
    if (yield Send(data, guard=True)) == WITHHELD:
        account.retract()
        yield from _early(account)


def _early(account: Account) -> Flow[None]:
    """A reply while the content is still being written: stop and report it."""
    reply: Reply = yield _MORE[Stage.CONTENT]
    # A server that says it has the message before its end is out of step, and
    # may have delivered what it had.
    account.committed = reply.is_positive
    yield from _refuse_content(account, reply, "the content was refused while it was written")


def _refuse_content(account: Account, reply: Reply, text: str) -> Flow[None]:
    """Report a reply that ends the content before its time; nothing but closing ends it for us."""
    if reply.code < 400:
        raise ProtocolError(f"{reply.code} came before the end of data", stage=Stage.CONTENT, reply=reply)
    if reply.code == 421:
        raise account.shutdown(reply)
    raise account.refusal(DataRejected, reply, text)


# -- content by BDAT -------------------------------------------------------------


def _bdat(plan: Plan, account: Account) -> Flow[None]:
    """Write the content in chunks (RFC 3030 2), each after the reply to the one before.

    Content of known size is one chunk and costs one round trip. A server that
    refuses a chunk without swallowing it reads content as commands, so after
    any refusal the connection is closed.
    """
    account.stage = Stage.CONTENT
    binary = plan.body == "BINARYMIME"
    slices = plan.content.for_bdat(binary=binary, **_allowed(plan))
    measure = plan.content.measure
    size = None if measure is None else measure.raw_size if binary else measure.size
    for pieces, octets, last in _chunks(slices, size):
        held = yield from _write(account, command.bdat(octets, last=last), pieces)
        if last:
            yield from _commit(account, held)
        else:
            yield Send(held)
            yield from _chunk_reply(account)


def _chunk_reply(account: Account) -> Flow[None]:
    reply: Reply = yield _LAST[Stage.CONTENT]
    if not reply.is_positive:
        yield from _refuse_content(account, reply, "a chunk was refused")


def _chunks(slices: Iterator[Octets], size: int | None) -> Iterator[tuple[Iterator[Octets], int, bool]]:
    """Slices as chunks: (slices, octets, whether the last).

    Where the size is known the slices pass through as one chunk; otherwise they
    are gathered, since a chunk's size stands before it.
    """
    if size is not None:
        yield slices, size, True
        return
    gathered: list[Octets] = []
    octets = 0
    for piece in slices:
        if octets >= BDAT_CHUNK:
            yield iter(gathered), octets, False
            gathered, octets = [], 0
        gathered.append(piece)
        octets += len(piece)
    yield iter(gathered), octets, True


# -- final replies ---------------------------------------------------------------


def _finals(plan: Plan, account: Account) -> Flow[None]:
    """One reply, or under LMTP one for each accepted recipient, in order (RFC 2033 4.2)."""
    owed = len(account.accepted) if plan.lmtp else 1
    for index in range(owed):
        last = index + 1 == owed
        reply: Reply = yield (_LAST if last else _MORE)[Stage.FINAL]
        if reply.code < 400 and not reply.is_positive:
            raise ProtocolError(f"{reply.code} is no final reply", stage=Stage.FINAL, reply=reply)
        if reply.code == 421 and plan.lmtp:
            break  # not about this recipient: those without a reply are unknown
        account.finals.append(reply)
    if plan.options.bdat and not all(reply.is_positive for reply in account.finals):
        yield CLOSE
