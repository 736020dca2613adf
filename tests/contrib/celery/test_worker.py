"""Workers in processes of their own: each kind has one pool of connections, and closes it in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.celery_app import Worker, closing_app

from pysmtpx import MailObject
from pysmtpx.contrib.celery import enqueue
from pysmtpx.testing import Event, MailServer

LINE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.mark.parametrize("kind", ["threads", "prefork"])
def test_a_worker_sends_tries_again_and_says_good_bye(kind: str, tmp_path: Path) -> None:
    seen: set[str] = set()

    def fickle(event: Event) -> str | None:
        if event.verb != "RCPT" or event.address in seen:
            return None
        seen.add(event.address)
        return "450 4.2.1 come back" if event.address.startswith("r3@") else None

    broker = str(tmp_path)
    with MailServer(verdict=fickle) as server, closing_app(broker) as app:
        mails = [MailObject("s@x.example", f"r{number}@x.example", LINE) for number in range(5)]
        results = [enqueue(app, mail) for mail in mails]
        with Worker(broker, server.url, kind):
            assert server.ledger.wait_until(lambda: len(server.messages) == 5, 100)
        # Where the second try is quick its result can be overwritten by the first one's "to be tried again".
        del results[3]
        assert [result.get(timeout=60)["attempts"] for result in results] == [1] * 4
        assert sorted(message.delivered for message in server.messages) == [
            [mail.recipients[0]] for mail in mails
        ]
        connections = server.ledger.connections
        # Six tries. Two run at a time, and one that dials may be given what becomes free sooner.
        assert 1 <= len(connections) <= 4
        assert server.ledger.wait_until(lambda: {each.ending for each in connections} == {"QUIT"}, 5)
