"""A worker of the outbox that is killed by SIGKILL at each effect of a dialogue, and at each statement.

A child of one thread forks each worker, so that a kill does not cost the start of Django.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pysmtpx.contrib.django.outbox import rows
from pysmtpx.contrib.django.outbox.models import Recipient
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import Event, MailServer
from pysmtpx.wire.envelope import MailObject

FORKING = """
import os, signal, sys, warnings
import django
from django.conf import settings
warnings.simplefilter("ignore")
settings.configure(
    INSTALLED_APPS=["pysmtpx.contrib.django", "pysmtpx.contrib.django.outbox"],
    SECRET_KEY="not secret", USE_TZ=True, DATABASES={{"default": {database!r}}},
    EMAIL_BACKEND="pysmtpx.contrib.django.OutboxEmailBackend",
    EMAIL_HOST={host!r}, EMAIL_PORT={port!r}, PYSMTPX={options!r},
)
django.setup()
from django.db.backends.signals import connection_created
from pysmtpx import driver
from pysmtpx.contrib.django.outbox import sending, store
from pysmtpx.pooling import journaling
journaling._POLL = 0.02
store.LEASE = 0.0  # whoever is killed holds nothing for a minute: the next one takes it up at once

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(call):
    def run(*arguments):
        global left
        left -= 1
        if left == 0 and not behind:
            die()
        try:
            return call(*arguments)
        finally:
            if left == 0 and behind:
                die()
    return run

def at_statements(connection, **_):
    connection.execute_wrappers.append(lambda execute, *arguments: counted(execute)(*arguments))

for line in sys.stdin:
    what, left, behind = eval(line)
    child = os.fork()
    if not child:
        try:
            if what == "effect":
                for kind, perform in list(driver._PERFORM.items()):
                    driver._PERFORM[kind] = counted(perform)
            elif what == "statement":
                connection_created.connect(at_statements, weak=False)
            sending.send_outbox()
        finally:
            os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""


class Account(NamedTuple):
    """What all those workers came to."""

    kills: int
    lost: list[str]
    twice: list[str]
    doubtful: list[str]
    unseen: list[str]
    """In doubt, though the server never saw an envelope: in flight it is in the write of the content."""


@dataclass
class Victims:
    """A server, and workers that send to it from the outbox of a database until they are killed."""

    alias: str
    database: Mapping[str, Any]
    options: Mapping[str, Any]
    server: MailServer = field(init=False)
    begun: set[str] = field(default_factory=set)
    count: int = 0
    kills: int = 0

    def __enter__(self) -> Victims:
        self.server = MailServer(verdict=self._seen, strict=False).start()
        place = {"host": self.server.host, "port": self.server.port, "database": dict(self.database)}
        self._forker = subprocess.Popen(
            [sys.executable, "-c", FORKING.format(options=dict(self.options), **place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._forker.communicate()
        self.server.stop()

    def _seen(self, event: Event) -> None:
        if event.verb == "RCPT":
            self.begun.add(event.address)

    def add(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            mail = MailObject("s@x.example", [f"r{self.count}@x.example"], b"Subject: x\r\n\r\nx\r\n")
            rows.put(pack(make_submission(mail)), using=self.alias)

    def run(self, what: str = "", number: int = 0, *, behind: bool = False) -> bool:
        """A worker that is killed there; whether it was, before it came to its end."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(f"{(what, number, behind)!r}\n")
        self._forker.stdin.flush()
        is_killed = int(self._forker.stdout.readline()) != 0
        self.kills += is_killed
        return is_killed

    def account(self) -> Account:
        """Send what is owed still, and compare."""
        assert not self.run()
        states = dict(Recipient.objects.using(self.alias).values_list("address", "state"))
        arrived = Counter(address for message in self.server.messages for address in message.delivered)
        doubtful = sorted(address for address, state in states.items() if state == "doubt")
        sent = {address for address, state in states.items() if state == "accepted"}
        all_of_them = {f"r{n}@x.example" for n in range(1, self.count + 1)}
        return Account(
            self.kills,
            sorted((all_of_them - sent - {*doubtful}) | (sent - arrived.keys())),
            [address for address, times in arrived.items() if times > 1],
            doubtful,
            [address for address in doubtful if address not in self.begun],
        )


def at_each(
    what: str, alias: str, database: Mapping[str, Any], options: Mapping[str, Any], step: int
) -> Account:
    """Kill at every such point of a worker that sends three messages: before it, and behind it."""
    with Victims(alias, database, options) as victims:
        for behind in (False, True):
            number = 1
            while True:
                victims.add(3)
                if not victims.run(what, number, behind=behind):
                    break
                number += step
        return victims.account()
