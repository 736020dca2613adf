"""Messages in the database of the project, and what became of each recipient."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

_LAST = 253_370_764_800.0
"""Seconds since the epoch that a date can still tell; whatever is later is never."""


def moment(seconds: float | None = None) -> datetime:
    """Seconds since the epoch, by default now, as the database has them."""
    found = datetime.fromtimestamp(time.time() if seconds is None else min(seconds, _LAST), UTC)
    return found if settings.USE_TZ else timezone.make_naive(found)


def moment_or_never(seconds: float) -> datetime | None:
    """The same for an end; None where there is none."""
    return moment(seconds) if seconds < _LAST else None


class Priority(models.IntegerChoices):  # type: ignore[misc]
    """Which goes first of those that are due."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


class Message(models.Model):  # type: ignore[misc]
    """A message, from when its transaction committed until it is purged."""

    key = models.CharField(max_length=255, null=True, unique=True, editable=False)
    mailer = models.CharField(max_length=255, default="", editable=False)
    """The alias of ``MAILERS`` that it is sent by; empty where the ``EMAIL_*`` settings say that."""
    sender = models.TextField(editable=False)
    subject = models.TextField(default="", editable=False)
    payload = models.TextField(editable=False)
    """JSON in ASCII: what ``pysmtpx.payload.pack`` makes."""
    size = models.PositiveIntegerField(editable=False)
    """Octets of the payload."""
    priority = models.SmallIntegerField(choices=Priority.choices, default=Priority.NORMAL, editable=False)
    queued = models.DateTimeField(editable=False)
    due = models.DateTimeField(editable=False)
    expires = models.DateTimeField(null=True, editable=False)
    tries = models.PositiveIntegerField(default=0, editable=False)
    is_owed = models.BooleanField("owed", default=True, editable=False)
    """Whether somebody of its recipients is queued."""
    is_told = models.BooleanField(default=True, editable=False)
    """Whether the receivers of signals are told of it: not of mail that one of them sent."""
    owner = models.CharField(max_length=64, default="", editable=False)
    """Who holds it."""
    until = models.FloatField(default=0.0, editable=False)
    """The end of its lease in seconds since the epoch, whatever the time zone; 0 where nobody has it."""

    class Meta:
        """Its indices: what is taken, and what is forgotten, is found in either without a look at others."""

        ordering = ("-id",)
        verbose_name = "message"
        indexes = (
            models.Index(fields=("mailer", "is_owed", "priority", "due", "id"), name="pysmtpx_outbox_ready"),
            models.Index(fields=("is_owed", "queued"), name="pysmtpx_outbox_done"),
            models.Index(fields=("until",), name="pysmtpx_outbox_held"),
        )

    def __str__(self) -> str:
        return f"{self.pk}: {self.subject}"


class State(models.TextChoices):  # type: ignore[misc]
    """What is known of a recipient: see ``pysmtpx.journal.store``."""

    QUEUED = "queued"
    DOUBT = "doubt", "in doubt"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Recipient(models.Model):  # type: ignore[misc]
    """A recipient, and what became of it."""

    message = models.ForeignKey(
        Message, models.CASCADE, related_name="recipients", db_index=False, editable=False
    )
    place = models.PositiveIntegerField(editable=False)
    """In the payload."""
    address = models.TextField(editable=False)
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED, editable=False)
    doubter = models.CharField(max_length=64, default="", editable=False)
    """Who brought it into doubt."""
    reply = models.TextField(default="", editable=False)
    stage = models.CharField(max_length=32, default="", editable=False)
    changed = models.DateTimeField(editable=False)

    class Meta:
        """In the order of the payload; one for each place.

        The index of a state has the message, too. Of the state alone it would have a whole backlog under one
        value, and a database that guesses wrong how many those are would look through it for each message.
        """

        ordering = ("message", "place")
        indexes = (models.Index(fields=("state", "message"), name="pysmtpx_outbox_state"),)
        constraints = (
            models.UniqueConstraint(fields=("message", "place"), name="pysmtpx_outbox_recipient_place"),
        )

    def __str__(self) -> str:
        return str(self.address)
