"""Who sends from the outbox where a project has ``django.tasks`` (Django 6.0 and later): a task of it."""

from __future__ import annotations

from django.tasks import task

from .sending import send_outbox as _send_outbox


@task  # type: ignore[untyped-decorator]
def send_outbox(mailer: str | None = None) -> None:
    """Send what is due, as ``manage.py send_outbox`` does; ``mailer`` is an alias of ``MAILERS``.

    Any number of these may run at the same time: each sends what no other one has taken.
    """
    _send_outbox(mailer)


def at_once() -> None:
    """For the option ``on_commit``: let a worker send what was committed."""
    send_outbox.enqueue()
