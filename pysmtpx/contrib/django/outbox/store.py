"""The journal of a pool over the models: what ``pysmtpx.journal.store.Store`` asks for."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Self, TypeVar

from django.db import Error, connections, transaction

from ....journal.owner import Owner
from ....journal.store import LEASE, NEVER, Fate, JournalError, NotHeld, Owed
from .models import Priority, Recipient, State, moment
from .rows import MOST_FORGOTTEN, begin, count, database, held_until, locked, messages, purge, put, recipients

_T = TypeVar("_T")
_MOST_OCTETS: Final = 64 * 1024 * 1024
"""Of payloads that are taken at once, unless one alone is larger."""
_LONGEST_STAGE: Final = 32


class OutboxStore:
    """The messages of one mailer, for an ``SmtpPool``; a context manager.

    Every call is done by one thread, which has one connection to the database, however many threads the pool
    has; it is closed with the store. ``mailer`` is that of ``Message``, ``using`` the alias of the database.
    ``told`` is called with the number of a message of which nobody is queued any more, in its own thread.
    """

    def __init__(
        self, *, mailer: str = "", using: str | None = None, told: Callable[[Any], None] | None = None
    ) -> None:
        self._using = database(using)
        self._mailer = mailer
        self._told = told
        self._holder = Owner()
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, "pysmtpx-outbox")
        self._teller = ThreadPoolExecutor(1, "pysmtpx-outbox-signals")
        self._changed = threading.Condition()
        self._held: set[Any] = set()
        self._looks = 0
        self._has_more = True
        self._failure: Exception | None = None

    @property
    def _owner(self) -> str:
        return self._holder.name

    def _run(self, action: Callable[[], _T]) -> _T:
        """Do it in a transaction of its own; what it did is on disk when this returns."""
        if self._process != os.getpid():
            self._begin()
        try:
            done = self._thread.submit(self._transact, action)
        except RuntimeError as error:
            raise JournalError("the outbox is closed") from error
        return done.result()

    def _transact(self, action: Callable[[], _T]) -> _T:
        try:
            connections[self._using].close_if_unusable_or_obsolete()
            with transaction.atomic(self._using, durable=True):
                begin(self._using)
                return action()
        except Error as error:
            raise JournalError(f"the outbox cannot be read or written: {error}") from error

    # -- what a pool asks of it: see Store ----------------------------------------------------

    def add(
        self,
        payload: Mapping[str, Any],
        *,
        key: str | None = None,
        due: float = 0.0,
        expires: float = NEVER,
        take: bool = False,
        durable: bool = True,
    ) -> Any:
        """Queue a message, in a transaction of its own, which is always durable; see ``Store.add``."""
        owner = self._owner if take else ""
        put_it = partial(put, payload, using=self._using, mailer=self._mailer, owner=owner)
        number = self._run(lambda: put_it(key=key, due=due, expires=expires))
        if take and number is not None:
            self._hold([number])
        return number

    def take(self, most: int) -> list[Owed]:
        """Messages that are due and that nobody holds, by priority; see ``Store.take``."""
        try:
            taken, has_more = self._run(lambda: self._take(most))
        except JournalError as error:
            self._looked(error)
            raise
        self._hold([owed.number for owed in taken])
        self._looked(None, has_more=has_more)
        return taken

    def _take(self, most: int) -> tuple[list[Owed], bool]:
        """And whether there may be more."""
        now = time.time()
        self._cut(now)
        self._free()
        numbers, has_more = self._ready(most, now)
        owed = {each.pk: _owed(each) for each in messages(self._using, numbers)}
        found: dict[Any, list[str]] = {number: [] for number in numbers}
        queued = recipients(self._using, numbers).filter(state=State.QUEUED)
        for number, address in queued.values_list("message_id", "address"):
            found[number].append(address)
        messages(self._using, numbers).update(owner=self._owner, until=now + LEASE)
        return [owed[number](tuple(found[number])) for number in numbers], has_more

    def _ready(self, most: int, now: float) -> tuple[list[Any], bool]:
        """The numbers of those to take, which nobody else takes meanwhile, and whether there may be more."""
        # Of a list, since SQLite finds nothing by an index that is asked only whether a column is true.
        free = messages(self._using).filter(mailer=self._mailer, is_owed__in=[True], until__lte=now)
        free = free.filter(due__lte=moment(now)).exclude(owner=self._owner).order_by("due", "id")
        if connections[self._using].features.has_select_for_update_skip_locked:
            free = free.select_for_update(skip_locked=True)
        else:
            free = free.select_for_update()
        numbers: list[Any] = []
        octets = 0
        for priority in sorted(Priority.values, reverse=True):  # for each by the index
            ready = free.filter(priority=priority).values_list("pk", "size")
            for number, size in ready[: most - len(numbers)]:
                octets += size
                if numbers and octets > _MOST_OCTETS:
                    return numbers, True
                numbers.append(number)
            if len(numbers) >= most:
                return numbers, True
        return numbers, False

    def _free(self) -> None:
        """Give back what processes of this machine held that have ended, without waiting for their leases."""
        if gone := self._holder.left_by(lambda: {*held_until(self._using, 0.0).values()}):
            numbers = [number for number, name in held_until(self._using, 0.0).items() if name in gone]
            locked(self._using, numbers, owner__in=gone).update(owner="", until=0.0)

    def _cut(self, now: float) -> None:
        """The clock was set back: nobody holds anything for longer than one who took it just now."""
        if late := held_until(self._using, now + LEASE + 1):
            locked(self._using, late).update(until=now + LEASE)

    def renew(self, numbers: Collection[Any]) -> None:
        """Put off the end of these leases; see ``Store.renew``."""
        owner = self._owner
        self._run(lambda: locked(self._using, numbers, owner=owner).update(until=time.time() + LEASE))

    def release(self, numbers: Collection[Any]) -> None:
        """Give these back; see ``Store.release``."""
        owner = self._owner
        self._run(lambda: locked(self._using, numbers, owner=owner).update(owner="", until=0.0))
        self._let_go(numbers)

    def doubt(self, entries: Sequence[tuple[Any, Sequence[str]]]) -> None:
        """Record who is about to be in doubt; see ``Store.doubt``."""
        self._run(lambda: self._doubt(entries))

    def _doubt(self, entries: Sequence[tuple[Any, Sequence[str]]]) -> None:
        numbers = [number for number, _ in entries]
        held = set(locked(self._using, numbers, owner=self._owner).values_list("pk", flat=True))
        lost = []
        for number, addresses in entries:
            wanted = set(addresses)
            mine = [
                each
                for each in recipients(self._using, [number])
                if each.address in wanted and (each.state == State.QUEUED or self._is_ours(each))
            ]
            if number not in held or {each.address for each in mine} != wanted:
                lost.append(number)
                continue
            found = Recipient.objects.using(self._using).filter(pk__in=[each.pk for each in mine])
            found.update(state=State.DOUBT, doubter=self._owner, reply="", stage="", changed=moment())
            count(self._using, number)
        if lost:
            raise NotHeld(lost)

    def _is_ours(self, recipient: Recipient) -> bool:
        return bool(recipient.state == State.DOUBT and recipient.doubter == self._owner)

    def settle(
        self, number: Any, fates: Sequence[Fate], *, tries: int, due: float | None = None, keep: bool = False
    ) -> None:
        """Record what became of recipients; see ``Store.settle``."""
        is_over = self._run(lambda: self._settle(number, fates, tries=tries, due=due, keep=keep))
        if keep:
            return
        if is_over and self._told is not None:
            self._teller.submit(self._told, number)
        self._let_go([number])

    def _settle(
        self, number: Any, fates: Sequence[Fate], *, tries: int, due: float | None, keep: bool
    ) -> bool:
        """Whether there were changes, and nobody is queued now."""
        is_held = locked(self._using, [number], owner=self._owner).exists()
        told: dict[str, Fate] = {}
        for fate in fates:
            told.setdefault(fate.address, fate)
        changes = []
        for each in recipients(self._using, [number]):
            known = told.get(each.address)
            if known is None or not (self._is_ours(each) or (is_held and each.state == State.QUEUED)):
                continue
            each.state, each.reply, each.changed = known.state, known.reply.replace("\x00", ""), moment()
            each.stage = known.stage[:_LONGEST_STAGE]
            changes.append(each)
        known_as = ("state", "reply", "stage", "changed")
        Recipient.objects.using(self._using).bulk_update(changes, known_as, batch_size=100)
        count(self._using, number)
        if is_held:
            values: dict[str, Any] = {"tries": tries}
            values |= {} if due is None else {"due": moment(due)}
            values |= {} if keep else {"owner": "", "until": 0.0}
            messages(self._using, [number]).update(**values)
        return bool(changes) and messages(self._using, [number]).filter(is_owed=False).exists()

    def purge(self, before: float) -> int:
        """Forget messages queued before this moment of which nobody is queued or in doubt; how many.

        Some at a time: whoever sends meanwhile waits for these alone.
        """
        forgotten = 0
        while True:
            found = self._run(lambda: purge(before, MOST_FORGOTTEN, using=self._using))
            forgotten += found
            if found < MOST_FORGOTTEN:
                return forgotten

    # -- at rest --------------------------------------------------------------------------------

    def _hold(self, numbers: Collection[Any]) -> None:
        with self._changed:
            self._held.update(numbers)

    def _let_go(self, numbers: Collection[Any]) -> None:
        with self._changed:
            self._held.difference_update(numbers)
            self._changed.notify_all()

    def _looked(self, failure: Exception | None, *, has_more: bool = True) -> None:
        with self._changed:
            self._failure, self._has_more = failure, has_more
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is due and nothing under way; False where that is not so in time.

        Raises ``JournalError`` where the last look for what is due failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._is_at_rest(), seconds)
            if self._failure is not None:
                raise self._failure
            return self._is_at_rest()

    def _is_at_rest(self) -> bool:
        return not (self._has_more or self._held)

    def close(self) -> None:
        """Give back what is held, and the connection; does nothing twice."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._run(self._release_all)
        finally:
            for thread in (self._thread, self._teller):
                thread.submit(connections.close_all)
                thread.shutdown()

    def _release_all(self) -> None:
        mine = [number for number, owner in held_until(self._using, 0.0).items() if owner == self._owner]
        locked(self._using, mine).update(owner="", until=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _owed(message: Any) -> Callable[[tuple[str, ...]], Owed]:
    """The message, to those recipients."""
    try:
        payload = json.loads(message.payload)
    except ValueError:
        payload = None
    expires = NEVER if message.expires is None else message.expires.timestamp()
    return lambda to: Owed(message.pk, payload, to, message.tries, message.queued.timestamp(), expires)
