"""What RQ's workers call with one message: one try, what is written down of it, and when the next one is."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rq import Queue, Retry, Worker, get_current_job
from rq.job import Job

from ...records import fields
from ..queueing.attempt import QueueSender
from ..queueing.tries import SendFailed

_log: Final = logging.getLogger("pysmtpx")

_OURS: Final = "pysmtpx"
"""The key of what is ours in the ``meta`` of a job."""
_MARGIN: Final = 0.9
"""The share of RQ's time limit that a try may take: it would end it without an outcome."""
_KILLED: Final = "the process that tried it ended without a word"


@dataclass(eq=False, repr=False)  # it holds secrets
class MailJob:
    """The function that RQ's workers call: where it sends, and how."""

    name: str
    """By which a worker finds it: ``package.module.attribute``."""
    sender: QueueSender
    resend_killed: bool

    def __call__(self, payload: object) -> Any:
        """Make one try; the report, or RQ's ``Retry`` for another one.

        Raises ``SendFailed`` where it is over and nobody accepted the message,
        or somebody perhaps has it, and ``InputError`` for a payload that cannot be read.
        """
        job = get_current_job()
        if job is None:  # called as a function: there is no next try
            attempt = self.sender.attempt(payload, None, task_id=None, timeout=self.sender.timeout)
            return self.sender.finish(attempt.report)
        try:
            return self._run(job, payload)
        finally:
            if _process_ends_with(job):
                self.sender.close()

    def _run(self, job: Job, payload: object) -> Any:
        state = _state_of(job)
        if "end" in state:  # somebody put the job back into its queue
            if not _is_unsent(state["report"]):
                _leave_to_the_policy(job)
                raise SendFailed(state["report"])
            state = {}
        doubt = _KILLED if state.get("begun") and not self.resend_killed else None
        # In Redis before anything is sent: if this process is killed, the next one knows that it tried.
        _write(job, {**state, "begun": True})
        attempt = self.sender.attempt(
            state.get("payload", payload),
            state.get("account"),
            task_id=job.id,
            timeout=_seconds(job, self.sender.timeout),
            doubt=doubt,
        )
        if attempt.delay is not None:
            screened = {} if attempt.payload is payload else {"payload": attempt.payload}
            _write(job, {"account": attempt.account, "report": attempt.report, **screened})
            # RQ's own count is out of reach: the policy counts. Its pauses are whole seconds.
            return Retry(max=sys.maxsize, interval=math.ceil(attempt.delay))
        try:
            _write(job, {"end": True, "report": attempt.report})
        except Exception:  # without Redis: whoever listens to on_outcome hears of it all the same
            _log.exception("the report could not be kept", extra=fields(event="failed", task=job.id))
        _leave_to_the_policy(job)
        return self.sender.finish(attempt.report)


def report_of(job: Job) -> dict[str, Any] | None:
    """The report of a job that ``enqueue`` returned, as it stands in Redis; None before the first try ended.

    It is there whether the message was accepted or not, and between two tries,
    for as long as RQ keeps the job.
    """
    job.refresh()  # type: ignore[no-untyped-call]
    report: dict[str, Any] | None = _state_of(job).get("report")
    return report


# The parts of it.


def _state_of(job: Job) -> Mapping[str, Any]:
    state: Mapping[str, Any] = job.meta.get(_OURS, {})
    return state


def _write(job: Job, state: Mapping[str, Any]) -> None:
    job.meta[_OURS] = state
    job.save_meta()  # type: ignore[no-untyped-call]


def _is_unsent(report: Mapping[str, Any]) -> bool:
    """Whether nobody has the message, so that it can be sent anew to all."""
    return not report["accepted"] and not report["unknown"]


def _leave_to_the_policy(job: Job) -> None:
    """RQ makes no more tries: those of its own are for processes that were killed."""
    job.retries_left = 0


def _seconds(job: Job, timeout: float | None) -> float | None:
    """For one try: less than RQ's limit for the job, where that has one."""
    limit = job.timeout or Queue.DEFAULT_TIMEOUT
    limits = [_MARGIN * limit] if limit > 0 else []
    return min([*limits, *([] if timeout is None else [timeout])], default=None)


def _process_ends_with(job: Job) -> bool:
    """Whether this process is one that a worker made for this job alone; it ends without a good-bye then."""
    if not job.worker_name:
        return False
    pid = job.connection.hget(f"{Worker.redis_worker_namespace_prefix}{job.worker_name}", "pid")
    return pid is not None and int(pid) != os.getpid()
