"""What a try of a message came to: judged, noted, counted and told. For calls and workers alike."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Final

from .. import observing
from ..errors import SessionLimitReached, SmtpError
from ..events import LEVELS, PARTLY, Event, Events, Kind
from ..net.deadline import now
from ..records import fields
from ..retry import RetryPolicy
from ..wire.result import SendResult
from .connection import PooledConnection
from .connections import Connections
from .job import Job

_log: Final = logging.getLogger("pysmtpx")

_NOT_WEIGHED: Final = "the outcome of a message could not be weighed; it stands as it is"


class Outcomes:
    """The rules and the books of one pool."""

    def __init__(self, connections: Connections, events: Events, policy: RetryPolicy) -> None:
        self._connections = connections
        self._events = events
        self._policy = policy
        self.abandon()

    def abandon(self) -> None:
        """Begin with nothing, as after a fork."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def is_excused(
        self,
        job: Job,
        connection: PooledConnection,
        outcome: SendResult | SmtpError,
        *,
        trouble: bool = False,
        by_bdat: bool = False,
    ) -> bool:
        """Whether the connection alone is to blame, so that this was no try of the message."""
        failed = isinstance(outcome, SmtpError)
        blame = self._connections.heard(
            connection,
            outcome,
            was_tried=job.attempts > 0,
            may_spare=failed and job.may_spare,
            trouble=trouble,
            by_bdat=by_bdat,
        )
        if blame is not None:
            job.spare(blame)
            return True
        if job.suspicion is not None:
            suspicion, job.suspicion = job.suspicion, None
            self._connections.judge(suspicion, outcome)
        return False

    def goes_on(self, job: Job, outcome: SendResult | SmtpError, connection: PooledConnection) -> bool:
        """Whether the session had room for some recipients only, and the rest goes over another one at once.

        That part is noted then, and is no try of its own.
        """
        if not isinstance(outcome, SessionLimitReached):
            return False
        connections, server = self._connections, connection.server
        try:
            moves = connections.has_several and connections.moves_on(server, outcome, self._policy)
            return job.goes_on(outcome, self._policy, now(), moves=moves)
        except Exception:
            _log.exception(_NOT_WEIGHED, extra=fields(event="failed"))
            return job.has_noted(outcome)  # what is entered must not be entered again as a try

    def note(
        self, job: Job, outcome: SendResult | SmtpError, connection: PooledConnection | None = None
    ) -> float | None:
        """Note a try, on this connection; seconds until the next one, or None: it is over."""
        moves = False
        try:
            if connection is not None and self._connections.has_several:
                moves = self._connections.moves_on(connection.server, outcome, self._policy)
            return job.note(outcome, self._policy, now(), moves=moves)
        except Exception:
            _log.exception(_NOT_WEIGHED, extra=fields(event="failed"))
            job.stand(outcome)
            return None
        except BaseException:
            # ``retryable`` raised SystemExit, which ends this thread. The message ends with what is known.
            job.stand(outcome)
            raise

    # -- counted and told -----------------------------------------------------------------

    def ended(self, job: Job, server: str = "") -> None:
        """A message has its outcome."""
        if isinstance(job.outcome, SendResult):
            level = PARTLY if job.outcome.rejected_recipients else LEVELS["sent"]
            self._tell("sent", "accepted", job, server, level)
        else:
            self._tell("refused", job.status, job, server, LEVELS["refused"])

    def retried(self, job: Job, server: str, delay: float) -> None:
        """A message is to be tried again in so many seconds."""
        self._tell("retried", "retried", job, server, LEVELS["retried"], delay)

    def _tell(
        self, kind: Kind, name: str, job: Job, server: str, level: int, delay: float | None = None
    ) -> None:
        with self._lock:
            self._counts[name] += 1
        if self._events.hook is not None or observing.observers or _log.isEnabledFor(level):
            seconds = now() - job.began
            event = Event(
                kind, server, seconds, job.mail, job.outcome, job.attempts, delay, written=job.whole
            )
            with observing.within(job.step):
                self._events.emit(event)

    def counts(self) -> dict[str, int]:
        """Messages by what became of them, and tries after the first."""
        with self._lock:
            return dict(self._counts)
