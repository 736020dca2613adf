"""`pysmtpx journal`: what is in a journal, and what somebody decides about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pysmtpx import MailObject
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import Fate
from pysmtpx.payload import make_submission, pack

from .conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a journal with a message of which one has it, one is in doubt, one was refused, and a queued one."""
    path = tmp_path / "outbox.db"
    with Journal(path) as journal:
        everybody = ["a@x.example", "b@x.example", "c@x.example"]
        mail = MailObject("s@x.example", everybody, b"Subject: Order 17\r\n\r\nThanks!\r\n")
        number = journal.add(pack(make_submission(mail)), take=True)
        assert number is not None
        journal.doubt([(number, everybody)])
        fates = [Fate("a@x.example", "accepted", "250 ok"), Fate("c@x.example", "refused", "550 no", "rcpt")]
        journal.settle(number, fates, tries=1)
        mail = MailObject("", ["d@x.example"], b"Subject: Sorry\r\n\r\nNo.\r\n")
        journal.add(pack(make_submission(mail)))
    return path


def documents(ran: Ran) -> list[dict[str, object]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def test_list_has_a_line_for_each_message(run: Run, path: Path) -> None:
    ran = run("journal", "list", path)
    assert ran.code == 0
    assert "1 accepted, 1 doubt, 1 refused" in ran.out
    first, second = documents(run("journal", "list", path, "--json"))
    assert first["states"] == {"accepted": 1, "doubt": 1, "refused": 1}
    assert second["sender"] == ""
    assert [
        each["number"] for each in documents(run("journal", "list", "--state", "queued", path, "--json"))
    ] == [2]


@pytest.mark.parametrize(("state", "numbers"), [("doubt", [1]), ("accepted", [1]), ("queued", [2])])
def test_list_by_state(run: Run, path: Path, state: str, numbers: list[int]) -> None:
    found = documents(run("journal", "list", path, "--state", state, "--json"))
    assert [each["number"] for each in found] == numbers


def test_show_has_the_fate_of_each_recipient(run: Run, path: Path) -> None:
    ran = run("journal", "show", path, 1)
    for text in ("Order 17", "a@x.example", "250 ok", "doubt", "550 no"):
        assert text in ran.out
    (shown,) = documents(run("journal", "show", path, 1, "--json"))
    assert [fate["state"] for fate in shown["fates"]] == ["accepted", "doubt", "refused"]  # type: ignore[attr-defined]


def test_retry_queues_those_in_doubt_only_where_that_is_said(run: Run, path: Path) -> None:
    assert documents(run("journal", "retry", path, 1, "--json")) == [{"number": 1, "queued": 1}]
    assert documents(run("journal", "retry", path, 1, "--doubtful", "--json")) == [{"number": 1, "queued": 1}]
    assert documents(run("journal", "stats", path, "--json")) == [
        {"queued": 3, "doubt": 0, "accepted": 1, "refused": 0}
    ]


def test_cancel_leaves_nobody_queued(run: Run, path: Path) -> None:
    assert "1 recipients are not sent it" in run("journal", "cancel", path, 2).out
    assert "queued    0" in run("journal", "stats", path).out


def test_what_is_not_there_is_told(run: Run, path: Path) -> None:
    assert run("journal", "show", path, 99).code == 2
    ran = run("journal", "list", path.with_name("none.db"))
    assert ran.code == 2
    assert "there is no journal" in ran.err
    assert not path.with_name("none.db").exists()


def test_purge_forgets_what_is_over_by_age_and_fate(run: Run, path: Path) -> None:
    with Journal(path) as journal:
        for state in ("accepted", "refused"):
            number = journal.add({"recipients": ["e@x.example"]}, take=True)
            assert number is not None
            journal.settle(number, [Fate("e@x.example", state)], tries=1)  # type: ignore[arg-type]
    assert documents(run("journal", "purge", path, "--json")) == [{"purged": 0}], "not before seven days"
    assert documents(run("journal", "purge", path, "--days", 0, "--fate", "accepted", "--json")) == [
        {"purged": 1}
    ]
    assert "1 messages are forgotten" in run("journal", "purge", "--days", "0", path).out
    left = {"queued": 1, "doubt": 1, "accepted": 1, "refused": 1}
    assert documents(run("journal", "stats", path, "--json")) == [left], "one is in doubt, one is queued"
    assert documents(run("journal", "purge", path, "--days", 0, "--fate", "doubt", "--json")) == [
        {"purged": 1}
    ]
    assert documents(run("journal", "stats", path, "--json"))[0]["queued"] == 1
    for wrong in (("--days", -1), ("--days", "nan"), ("--days", "x"), ("--fate", "queued")):
        with pytest.raises(SystemExit):
            run("journal", "purge", path, *wrong)
