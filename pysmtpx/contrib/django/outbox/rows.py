"""What changes the rows of the outbox: each in the transaction of whoever calls it, or in one of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db import connections, router, transaction
from django.db.models import Exists, OuterRef

from ....journal.store import LEASE, NEVER
from ..signals import is_announcing
from .models import Message, Priority, Recipient, State, moment, moment_or_never

_MOST_HELD: Final = 10_000
"""Messages that all workers together have at a time, and more."""
MOST_FORGOTTEN: Final = 500
"""Messages by one transaction: others wait for it."""


def database(using: str | None = None) -> str:
    """The alias of the database that has the outbox: ``using``, else what the routers say."""
    return using or str(router.db_for_write(Message))


def begin(using: str) -> None:
    """To be called first in a transaction that writes.

    SQLite takes its lock here, and waits for it. Who first reads and then writes is not let wait for
    whoever has written meanwhile, but told that the database is locked.
    """
    if connections[using].vendor == "sqlite":
        messages(using, [-1]).update(until=0.0)


def messages(using: str, numbers: Iterable[Any] | None = None) -> Any:
    """These messages, or all."""
    found = Message.objects.using(using)
    return found if numbers is None else found.filter(pk__in=tuple(numbers))


def recipients(using: str, numbers: Iterable[Any]) -> Any:
    """Those of these messages, in the order of their places."""
    found = Recipient.objects.using(using).filter(message_id__in=tuple(numbers))
    return found.order_by("message_id", "place")


def locked(using: str, numbers: Iterable[Any], **which: Any) -> Any:
    """These messages as far as they are as said, kept from everybody else until the transaction ends.

    Always in the order of their numbers, so that two who want the same ones do not wait for each other. All
    that changes a recipient has the lock of its message.
    """
    found = messages(using, numbers).order_by("pk").select_for_update().filter(**which)
    return messages(using, list(found.values_list("pk", flat=True)))


def held_until(using: str, end: float) -> dict[Any, str]:
    """The messages whose leases end later, by their numbers, and who has each.

    So few, and in the order of the index that has them, that no database would rather look at all messages:
    SQLite does so for the sake of another order, PostgreSQL as long as it knows nothing of the table.
    """
    found = messages(using).filter(until__gt=end).order_by("-until")
    return dict(found.values_list("pk", "owner")[:_MOST_HELD])


def count(using: str, number: Any) -> None:
    """Write down whether somebody is queued still."""
    is_owed = recipients(using, [number]).filter(state=State.QUEUED).exists()
    messages(using, [number]).update(is_owed=is_owed)


def put(
    payload: Mapping[str, Any],
    *,
    using: str,
    mailer: str = "",
    key: str | None = None,
    subject: str = "",
    priority: int = Priority.NORMAL,
    due: float = 0.0,
    expires: float = NEVER,
    owner: str = "",
) -> Any:
    """Write a message, which is there if and only if the transaction that this is in commits; its number.

    None if one with this ``key`` is there already. ``due`` and ``expires`` are seconds since the epoch.
    """
    octets, now = json.dumps(payload, separators=(",", ":")), time.time()
    row = {
        "mailer": mailer,
        "sender": str(payload.get("sender", "")),
        "subject": subject.replace("\x00", ""),
        "payload": octets,
        "size": len(octets),
        "priority": priority,
        "queued": moment(now),
        "due": moment(max(due, now)),
        "expires": moment_or_never(expires),
        "is_told": not is_announcing(),
        "owner": owner,
        "until": now + LEASE if owner else 0.0,
    }
    with transaction.atomic(using):
        if key is None:
            message = messages(using).create(**row)
        else:
            message, is_new = messages(using).get_or_create(key=key, defaults=row)
            if not is_new:
                return None
        Recipient.objects.using(using).bulk_create(
            [
                Recipient(message=message, place=place, address=address, changed=row["queued"])
                for place, address in enumerate(payload["recipients"])
            ]
        )
    return message.pk


# -- by hand ---------------------------------------------------------------------------------


def retry(number: Any, *, using: str | None = None, doubtful: bool = False) -> int:
    """Queue again who was refused, and who is in doubt if that is said; how many those are.

    Whoever is in doubt may get it twice. Those of a message that a process has are left alone: it is about
    to know what became of them. Who waits for another try is due at once.
    """
    using = database(using)
    with transaction.atomic(using):
        begin(using)
        found = locked(using, [number])
        changed = recipients(using, [number]).filter(state=State.REFUSED).order_by()
        changed = changed.update(state=State.QUEUED)
        if doubtful and found.filter(until__lte=time.time()).exists():
            doubt = recipients(using, [number]).filter(state=State.DOUBT).order_by()
            changed += doubt.update(state=State.QUEUED)
        found.update(due=moment(), tries=0)
        if changed:
            found.update(expires=None)
        count(using, number)
    return int(changed)


def cancel(number: Any, *, using: str | None = None) -> int:
    """Refuse all who are still queued, so that nobody is sent it any more; how many those are.

    Also where a process has it: whoever is not in doubt by now will not be.
    """
    using = database(using)
    with transaction.atomic(using):
        begin(using)
        locked(using, [number])
        waiting = recipients(using, [number]).filter(state=State.QUEUED).order_by()
        changed = waiting.update(state=State.REFUSED, reply="cancelled", stage="input", changed=moment())
        count(using, number)
    return int(changed)


def purge(before: float, most: int | None = None, *, using: str | None = None) -> int:
    """Forget messages queued before this moment of which nobody is queued or in doubt; how many."""
    using, forgotten = database(using), 0
    while True:
        limit = MOST_FORGOTTEN if most is None else min(MOST_FORGOTTEN, most - forgotten)
        found = _purge(using, before, limit)
        forgotten += found
        if found < limit or forgotten == most:
            return forgotten


def _purge(using: str, before: float, most: int) -> int:
    with transaction.atomic(using):
        begin(using)
        doubt = Recipient.objects.using(using).filter(message=OuterRef("pk"), state=State.DOUBT)
        old = messages(using).filter(~Exists(doubt), is_owed__in=[False], queued__lt=moment(before))
        numbers = list(old.order_by("queued").values_list("pk", flat=True)[:most])
        # Somebody may have them queued again meanwhile.
        gone = list(locked(using, numbers, is_owed=False).values_list("pk", flat=True))
        messages(using, gone).only("pk").delete()  # else it would first read every payload
    return len(gone)
