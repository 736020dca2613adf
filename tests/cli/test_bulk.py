"""`pysmtpx bulk`: nobody twice, nobody lost, whatever happens to the process."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.certs import server_context

from pysmtpx.journal.recipients import Fate, Journal
from pysmtpx.journal.store import JournalError
from pysmtpx.testing import Cut, MailServer

from .conftest import Ran

pytestmark = pytest.mark.slow

Run = Callable[..., Ran]
MESSAGE = ("--from", "ann@example.org", "--subject", "Hello {name}", "--body", "Dear {name}.")


def people(folder: Path, count: int) -> Path:
    path = folder / "people.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["email", "name"])
        rows.writerows([f"user{n}@example.com", f"User {n}"] for n in range(count))
    return path


def report(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        return {row["recipient"]: row["fate"] for row in csv.DictReader(file)}


def test_everybody_gets_a_message_of_their_own(run: Run, tmp_path: Path) -> None:
    with MailServer() as server:
        told = run(
            "bulk", server.url, "--list", people(tmp_path, 30), *MESSAGE, "--report", tmp_path / "r.csv"
        )
        messages = server.messages
    assert told.code == 0
    assert sorted(each.addresses[0] for each in messages) == sorted(f"user{n}@example.com" for n in range(30))
    for each in messages:
        number = each.addresses[0].removeprefix("user").partition("@")[0]
        assert f"Subject: Hello User {number}\r\n".encode() in each.content
        assert f"Dear User {number}.".encode() in each.content
    assert Counter(report(tmp_path / "r.csv").values()) == {"accepted": 30}


def test_jinja_escapes_in_html_and_takes_json_lines(run: Run, tmp_path: Path) -> None:
    (tmp_path / "people.jsonl").write_text(json.dumps({"email": "bob@example.com", "name": "<b>Bob"}) + "\n")
    (tmp_path / "page.html").write_text("<p>{{ name }}{% if vip %} vip{% endif %}</p>")
    with MailServer() as server:
        arguments = ("--list", tmp_path / "people.jsonl", "--from", "ann@example.org", "--jinja")
        missing = run("bulk", server.url, *arguments, "--html-file", tmp_path / "page.html")
        assert server.messages == []
        (tmp_path / "page.html").write_text("<p>{{ name }}</p>")
        told = run(
            "bulk", server.url, *arguments, "--html-file", tmp_path / "page.html", "--journal", tmp_path / "j"
        )
        (received,) = server.messages
    assert missing.code == 1
    assert "'vip' is undefined" in missing.out
    assert told.code == 0
    assert b"<p>&lt;b&gt;Bob</p>" in received.content


def test_a_second_run_sends_nobody_anything(run: Run, tmp_path: Path) -> None:
    path = people(tmp_path, 5)
    with MailServer() as server:
        assert run("bulk", server.url, "--list", path, *MESSAGE).code == 0
        again = run("bulk", server.url, "--list", path, *MESSAGE, "--json")
        assert server.ledger.count == 5
    assert again.code == 0
    assert again.value["counts"] == {"accepted": 5}


def test_who_stands_twice_in_the_list_gets_it_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email,name\n" + "bob@example.com,Bob\nbob@EXAMPLE.com,Bobby\n" * 50)
    with MailServer() as server:
        told = run("bulk", server.url, "--list", path, *MESSAGE, "--json")
        assert server.ledger.count == 1
    assert told.value["counts"] == {"accepted": 1, "duplicate": 99}


@pytest.mark.parametrize("other", ["bob@xn--bcher-kva.example", "bob@BÜCHER.example", '"bob"@bücher.example'])
def test_who_stands_twice_in_other_spellings_gets_it_once(run: Run, tmp_path: Path, other: str) -> None:
    path = tmp_path / "people.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["email", "name"], ["bob@bücher.example", "Bob"], [other, "Bobby"]])
    with MailServer() as server:
        told = run("bulk", server.url, "--list", path, *MESSAGE, "--json")
        assert server.ledger.count == 1
    assert told.value["counts"] == {"accepted": 1, "duplicate": 1}


def test_a_journal_is_for_one_message(run: Run, tmp_path: Path) -> None:
    path = people(tmp_path, 1)
    with MailServer() as server:
        assert run("bulk", server.url, "--list", path, *MESSAGE).code == 0
        other = run("bulk", server.url, "--list", path, *MESSAGE, "--header", "X-Other: yes")
        assert server.ledger.count == 1
    assert other.code == 2
    assert "another message" in other.err


@pytest.mark.parametrize("option", ["redirect_to=dev@example.org", "allow_recipients=example.org"])
def test_a_rehearsal_is_no_run(run: Run, tmp_path: Path, option: str) -> None:
    """Nobody of the list had it: the report says so, and its journal is not that of the run."""
    with MailServer() as server:
        list_of = people(tmp_path, 2)
        told = run(
            "bulk", f"{server.url}?{option}", "--list", list_of, *MESSAGE, "--report", tmp_path / "r.csv"
        )
        assert told.code != 0
        assert set(report(tmp_path / "r.csv").values()) == {"rejected"}
        assert {address for got in server.messages for address in got.addresses} <= {"dev@example.org"}
        before = len(server.messages)
        again = run("bulk", server.url, "--list", list_of, *MESSAGE)
        assert "another" in again.err
        assert len(server.messages) == before
        run("bulk", server.url, "--list", list_of, *MESSAGE, "--journal", tmp_path / "run.journal")
        assert len(server.messages) == before + 2


def test_refused_for_now_is_tried_in_the_next_turn_and_for_good_never(run: Run, tmp_path: Path) -> None:
    tries: Counter[str] = Counter()

    def verdict(event: Any) -> str | None:
        if event.verb != "RCPT":
            return None
        tries[event.address] += 1
        if event.address == "user1@example.com":
            return "550 5.1.1 unknown"
        return "451 4.7.1 greylisted" if tries[event.address] == 1 else None

    with MailServer(verdict=verdict) as server:
        told = run(
            *("bulk", server.url, "--list", people(tmp_path, 3), *MESSAGE, "--turn-wait", "0.01"),
            *("--report", tmp_path / "r.csv"),
        )
    assert told.code == 1
    assert tries == {"user0@example.com": 2, "user1@example.com": 1, "user2@example.com": 2}
    fates = report(tmp_path / "r.csv")
    assert fates == {
        "user0@example.com": "accepted",
        "user1@example.com": "rejected",
        "user2@example.com": "accepted",
    }


def test_in_doubt_is_not_sent_again_unless_told(run: Run, tmp_path: Path) -> None:
    path = people(tmp_path, 1)
    with MailServer(replies={("FINAL", 0): Cut()}) as server:
        doubtful = run("bulk", server.url, "--list", path, *MESSAGE)
        assert doubtful.code == 3
        assert "--resend-doubtful" in doubtful.err
        assert run("bulk", server.url, "--list", path, *MESSAGE).code == 3
        assert server.ledger.commands[0].count("MAIL") == len(server.ledger.commands) == 1
    with MailServer() as server:
        assert run("bulk", server.url, "--list", path, *MESSAGE, "--resend-doubtful").code == 0
        assert server.ledger.count == 1


def test_a_server_that_is_not_there_stops_the_run_and_the_next_goes_on(run: Run, tmp_path: Path) -> None:
    path = people(tmp_path, 50)
    with MailServer(users={"ann": "right"}) as server:
        arguments = ("bulk", server.url, "--list", path, *MESSAGE, "--username", "ann")
        (tmp_path / "secret").write_text("wrong")
        stopped = run(*arguments, "--password-file", tmp_path / "secret", "--connections", "2")
        assert stopped.code == 5
        assert "run the same command again" in stopped.err
        (tmp_path / "secret").write_text("right")
        assert run(*arguments, "--password-file", tmp_path / "secret").code == 0
        assert server.ledger.count == 50


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--username", "ann", "--password-file", "password"), "does not offer AUTH"),
        (("--auth", "GSSAPI"), "pysmtpx[gssapi]"),
        (("--tls", "starttls", "--roots", "/no/such/roots.pem"), "roots cannot be loaded"),
    ],
)
def test_nobody_is_refused_for_what_is_wrong_with_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...], said: str
) -> None:
    """Once it is right, the next run sends to all of them."""
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with MailServer(ssl_context=server_context("localhost")) as server:
        arguments = ("bulk", f"localhost:{server.port}", "--list", people(tmp_path, 5), *MESSAGE)
        told = run(*arguments, *wrong)
        assert (told.code, server.messages) == (5, [])
        assert said in told.err
        assert run(*arguments).code == 0
        assert len(server.messages) == 5


def test_a_row_that_was_mended_is_sent_by_the_next_run(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('email,name\nbob@example.com,"Bob\nX-Evil: yes"\n')
    with MailServer() as server:
        assert run("bulk", server.url, "--list", path, *MESSAGE).code == 1
        path.write_text("email,name\nbob@example.com,Bob\n")
        assert run("bulk", server.url, "--list", path, *MESSAGE).code == 0
        assert server.ledger.count == 1


def test_rows_that_name_nobody_are_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        'email,name\n"a@b.example, c@d.example",Two\n,Nobody\nbob@example.com,"Bob\nX-Evil: yes"\n'
    )
    with MailServer() as server:
        told = run("bulk", server.url, "--list", path, *MESSAGE, "--json")
        assert server.messages == []
    assert told.code == 1
    assert told.value["counts"] == {"rejected": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [("name\nBob\n", "--column"), ("", None), ("email\n" + "x" * 200_000 + "\n", "cannot be read")],
)
def test_a_list_that_is_none(run: Run, tmp_path: Path, text: str, said: str | None) -> None:
    (tmp_path / "people.csv").write_text(text)
    with MailServer() as server:
        told = run("bulk", server.url, "--list", tmp_path / "people.csv", *MESSAGE)
    assert told.code == (2 if said else 0)
    assert said is None or said in told.err


def test_a_reply_is_no_formula_in_the_report(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('email,name\n"=1+1@example.com",x\n')
    with MailServer() as server:
        run("bulk", server.url, "--list", path, *MESSAGE, "--report", tmp_path / "r.csv")
    assert "'=1+1@example.com" in (tmp_path / "r.csv").read_text()


def test_the_rate_is_kept(run: Run, tmp_path: Path) -> None:
    begun = time.monotonic()
    with MailServer() as server:
        assert run("bulk", server.url, "--list", people(tmp_path, 11), *MESSAGE, "--rate", "20").code == 0
    assert time.monotonic() - begun > 0.5


def test_a_dry_run_sends_nothing(run: Run, tmp_path: Path) -> None:
    told = run("bulk", "--list", people(tmp_path, 2), *MESSAGE, "--dry-run")
    assert told.code == 0
    assert "Dear User 0." in told.out
    assert not (tmp_path / "people.csv.journal").exists()


# -- killed --------------------------------------------------------------------------------


def begin(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pysmtpx", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(180)
def test_killed_again_and_again_nobody_gets_it_twice_and_nobody_is_lost(tmp_path: Path) -> None:
    """By SIGKILL at any moment: who is neither delivered to nor in doubt is sent it by the next run."""
    count, kills, connections = 400, 6, 3
    path, journal = people(tmp_path, count), tmp_path / "journal"
    with MailServer(delay=0.002, strict=False) as server:
        arguments = (
            *("bulk", server.url, "--list", path, "--journal", journal, *MESSAGE),
            *("--connections", connections, "--report", tmp_path / "r.csv", "--json"),
        )
        for number in range(kills):
            process = begin(*arguments)
            goal = (number + 1) * count // (kills + 2)
            arrived = server.ledger.wait_until(lambda goal=goal: server.ledger.count >= goal, 30)  # type: ignore[misc]
            process.kill()
            told = process.communicate()
            assert arrived, told
            assert process.returncode == -signal.SIGKILL, told
        last = begin(*arguments)
        out, err = last.communicate(timeout=100)
    delivered = Counter(address for message in server.messages for address in message.delivered)
    everybody = {f"user{n}@example.com" for n in range(count)}
    assert {address: times for address, times in delivered.items() if times > 1} == {}
    fates = report(tmp_path / "r.csv")
    assert set(fates) == everybody
    assert {address for address, fate in fates.items() if fate == "accepted"} <= set(delivered)
    doubtful = {address for address, fate in fates.items() if fate == "unknown"}
    assert everybody - set(delivered) <= doubtful, err
    assert len(doubtful) <= kills * connections
    assert set(fates.values()) <= {"accepted", "unknown"}
    assert last.returncode == (3 if doubtful else 0), out


@pytest.mark.timeout(180)
def test_a_long_list_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pysmtpx.cli.main import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    peaks = []
    with MailServer(keep=False) as server:
        for count in (300, 3000):
            folder = tmp_path / str(count)
            folder.mkdir()
            ran = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    program,
                    "bulk",
                    server.url,
                    "--list",
                    people(folder, count),
                    *MESSAGE,
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append(int(ran.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 4 * 1024, peaks


def test_an_interrupt_leaves_nobody_in_doubt(tmp_path: Path) -> None:
    with MailServer(delay=0.005) as server:
        process = begin("bulk", server.url, "--list", people(tmp_path, 5000), *MESSAGE, "--json")
        assert server.ledger.wait_until(lambda: server.ledger.count > 20, 30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "unknown" not in json.loads(out)["counts"]
    assert json.loads(out)["counts"]["accepted"] == server.ledger.count


# -- the journal itself --------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal", "a message") as opened:
        yield opened


def test_who_is_in_doubt_is_begun_once(journal: Journal) -> None:
    assert journal.begin("bob", 1)
    assert not journal.begin("bob", 1)
    assert not journal.begin("bob", 2)
    journal.settle(Fate("bob", "queued", "451 later"))
    assert not journal.begin("bob", 1)
    assert journal.begin("bob", 2)
    journal.settle(Fate("bob", "accepted"))
    assert not journal.begin("bob", 3)
    assert journal.counts() == {"accepted": 1}


def test_a_verdict_is_not_taken_back(journal: Journal) -> None:
    journal.begin("bob", 1)
    journal.settle(Fate("bob", "accepted"))
    journal.settle(Fate("bob", "queued"))
    entry = journal.get("bob")
    assert entry is not None
    assert entry.state == "accepted"


def test_many_threads_read_one_journal(journal: Journal) -> None:
    """Whoever reads while another thread runs the same query gets its own row."""
    keys = ["bob", "ann", "joe"]
    for key in keys:
        assert journal.begin(key, 1)

    def found(key: str) -> set[str | None]:
        return {entry.key if (entry := journal.get(key)) else None for _ in range(1000)}

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(found, keys * 2)) == [{key} for key in keys * 2]


def test_a_journal_has_one_process(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysmtpx.journal.disk._WAIT", 0.1)
    journal.begin("bob", 1)
    with pytest.raises(JournalError, match="another process"):
        Journal(journal.path, "a message")


@pytest.mark.parametrize(
    "content", [b"no database, but rather long text" * 100, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_what_is_no_journal_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(JournalError):
        Journal(tmp_path / "journal", "a message")


def test_what_cannot_be_recorded_is_not_sent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        import sqlite3

        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("pysmtpx.journal.recipients._execute", full)
    with MailServer() as server:
        told = run("bulk", server.url, "--list", people(tmp_path, 5), *MESSAGE)
        assert server.ledger.count == 0
    assert told.code in (4, 5)
    assert "disk is full" in told.err
