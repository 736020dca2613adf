"""Who sends from the outbox where a project has Celery: a task that workers find, and that beat calls."""

from __future__ import annotations

from ....extras import needs

needs("celery", "celery")

from celery import shared_task  # noqa: E402

from .sending import send_outbox as _send_outbox  # noqa: E402

NAME = "pysmtpx.send_outbox"


@shared_task(name=NAME, ignore_result=True)  # type: ignore[untyped-decorator]
def send_outbox(mailer: str | None = None) -> None:
    """Send what is due, as ``manage.py send_outbox`` does; ``mailer`` is an alias of ``MAILERS``.

    Any number of these may run at the same time: each sends what no other one has taken.
    """
    _send_outbox(mailer)


def at_once() -> None:
    """For the option ``on_commit``: let a worker send what was committed.

    A broker that is away is not tried again: what beat calls sends it, too.
    """
    send_outbox.apply_async(retry=False)
