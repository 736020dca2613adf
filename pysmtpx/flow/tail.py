"""What a transaction leaves to be written and heard, and what became of its message."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, Timeout
from ..wire import command
from ..wire.limits import Stage
from ..wire.result import SendResult
from .account import Account
from .effects import Octets, Report
from .plan import Plan
from .recipients import Ledger

Fate: TypeAlias = SendResult | SmtpError

_E = TypeVar("_E", bound=SmtpError)

OUT_OF_STEP: Final = (500, 501, 502, 503)
"""Replies of a server that does not know where it is, or where we are (RFC 5321 4.2.2)."""


class Tail:
    """What a transaction has still to write and to hear once all before is settled.

    The end of its content, where the doubt begins with that write; after a
    refusal what brings the session back into step; or nothing.
    """

    __slots__ = (
        "account",
        "cause",
        "closed",
        "conclude",
        "failure",
        "fate",
        "left",
        "overlapped",
        "plan",
        "reported",
        "shown",
        "tell",
        "token",
        "trouble",
        "verdict",
    )

    def __init__(self, plan: Plan, account: Account) -> None:
        self.plan = plan
        self.account = account
        self.left: tuple[Octets, ...] = ()
        """The pieces to be written."""
        self.shown = b""
        """What of them is a command."""
        self.fate: Fate | None = None
        """What became of the message; None while that is open."""
        self.verdict: Fate | None = None
        """What its replies say, as long as none was too many."""
        self.closed = False
        """The connection is not to be used any more."""
        self.cause: SmtpError | None = None
        """What broke the connection."""
        self.failure: BaseException | None = None
        """What the caller's content raised, where it is none of our errors."""
        self.conclude: Callable[[Fate], Fate] | None = None
        """Makes of this transaction's fate that of a message which had several."""
        self.tell: Callable[[BaseException], None] | None = None
        """Says on an error that is not ours what transactions before this one came to."""
        self.token: Any = None
        self.reported = False
        self.overlapped = False
        """Its envelope went behind another's end of data, or another's behind its own."""
        self.trouble = False
        """The server is known to have broken on that."""

    def broken(self, error: SmtpError) -> None:
        """The connection broke; a fate that is known stands."""
        self.closed = True
        self.cause = error
        surplus = error.surplus if isinstance(error, ProtocolError) else None
        if surplus is not None and self.is_shiftable:
            self.fate = None
        self.left = ()
        if self.fate is None:
            # 354 came where it was due: nothing before it was shifted.
            is_behind = self.overlapped and not (self.account.committed or self.account.goes_ahead)
            if is_behind:
                self.account.doubt()
            elif surplus is not None:
                self.account.doubt(surplus, is_alone=self.plan.window == 1)
            verdict = self.account.verdict(error)
            if isinstance(verdict, SmtpError) and verdict is not error:
                verdict.__cause__ = error
            self._settled(verdict)

    def failed(self, error: SmtpError) -> None:
        """The content was refused, or could not be read, half-way: only closing takes it back."""
        self.closed = True
        self.left = ()
        error.stage = self.account.stage
        self._settled(self.account.verdict(error))

    def refused(self, error: SmtpError, then: bytes) -> None:
        """The envelope or DATA was refused; ``then`` brings the session back into step."""
        self.fate = self.verdict = error
        self.left, self.shown = (then,), then

    def heard(self, *, is_certain: bool) -> None:
        """The final replies are there; not ``is_certain`` while more may show that one was too many."""
        account = self.account
        # A server that refuses a chunk and does not swallow it reads content as commands.
        is_over = account.over or account.shut is not None
        self.closed = is_over or (self.plan.options.bdat and account.is_refused)
        self.verdict = account.verdict()
        if is_certain or self.closed:
            self.settled()

    def settled(self) -> None:
        """What was heard stands."""
        if self.fate is None and self.verdict is not None:
            self._settled(self.verdict)

    def _settled(self, fate: Fate) -> None:
        self.fate = fate if self.conclude is None else self.conclude(fate)

    def overtaken(self, *, written: bool) -> SmtpError:
        """What the end of this connection means for a message that was next on it."""
        error: SmtpError
        if self.cause is not None:
            error = anew(self.cause)
            error.__cause__ = self.cause
        elif self.account.shut is not None:
            error = ServiceUnavailable("the server is closing the connection", reply=self.account.shut)
        else:
            error = ConnectionLost("the connection was closed behind the message before")
        error.stage = Stage.MAIL if written else Stage.INPUT
        return error

    def report(self, *, idle: bool) -> Report | None:
        """What the stream's owner is to be told, once."""
        if self.reported or self.fate is None or (self.left and self.is_shiftable):
            return None
        self.reported = True
        return Report(self.token, self.fate, idle, self.trouble or self._broke_on_overlap())

    def _broke_on_overlap(self) -> bool:
        """Whether the connection broke, or the end of data was out of step, where envelopes overlapped."""
        if not self.overlapped:
            return False
        final = self.account.finals[0] if self.account.finals else None
        return isinstance(self.cause, Timeout | ConnectionLost | ProtocolError) or (
            final is not None and final.code in OUT_OF_STEP
        )

    @property
    def is_shiftable(self) -> bool:
        """It was refused, and a reply too many may have passed for that, since commands went together.

        That shows by the answer to RSET at the latest, so the message is not reported before.
        """
        return self.plan.window > 1 and self.shown == command.RSET

    @property
    def is_out_of_step(self) -> bool:
        """The envelope was refused as out of step, as by a server that hears none behind an end of data.

        Nothing of the content was written, and the session is in step.
        """
        account = self.account
        replies = [] if account.mail is None else [account.mail, *account.rcpts]
        return (
            self.overlapped
            and not (self.closed or account.accepted_count)
            and any(reply.code in OUT_OF_STEP for reply in replies)
        )

    def value(self) -> SendResult:
        """The result; raises the error where that is what it came to, or what the content raised."""
        if self.failure is not None:
            if self.tell is not None:
                self.tell(self.failure)
            raise self.failure
        if isinstance(self.fate, SendResult):
            return self.fate
        assert self.fate is not None
        raise self.fate


def anew(error: _E) -> _E:
    """The same error for another message: who has the one it was about is not said of the other."""
    twin = copy(error)
    twin.__cause__ = error.__cause__
    twin.transcript = ()
    return Ledger(()).on(twin)
