"""What a disk, a file system and a clock do to a journal: it is told, and nothing that is not so.

FAULTS 124, 126, 127. Root may write to what is read-only by its mode: where that matters, a process of the
test's own gives up being root first.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.patience import LONG

from pysmtpx import MailObject, SmtpPool
from pysmtpx.journal import disk
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import Fate, JournalError
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import Event, MailServer

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def payload(*recipients: str) -> dict[str, Any]:
    return {"sender": "s@x.example", "recipients": list(recipients), "content": "Subject: x\r\n\r\n"}


def letter(*to: str) -> MailObject:
    return MailObject("s@x.example", to, b"Subject: x\r\n\r\nhello\r\n")


# -- rights --------------------------------------------------------------------------------------

OPENED = """
import os, sys
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import JournalError
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with Journal(sys.argv[1]) as journal:
        print("added", journal.add({"recipients": ["b@x.example"]}))
except JournalError as error:
    print(error)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that any user comes to."""
    folder = Path(tempfile.mkdtemp(prefix="pysmtpx-journal-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("there", "of_file", "of_folder", "said"),
    [
        (True, 0o666, 0o777, "added 2"),
        (True, 0o444, 0o777, "allowed to write to it and to its folder"),
        (True, 0o666, 0o555, "allowed to write to it and to its folder"),
        (False, 0, 0o777, "added 1"),
        (False, 0, 0o555, "allowed to write to it and to its folder"),
    ],
)
def test_without_the_right_to_write_it_says_who_needs_which(
    folder: Path, there: bool, of_file: int, of_folder: int, said: str
) -> None:
    path = folder / "outbox.db"
    if there:
        with Journal(path) as journal:
            journal.add(payload("a@x.example"))
        path.chmod(of_file)
    folder.chmod(of_folder)
    done = subprocess.run([sys.executable, "-c", OPENED, path], capture_output=True, text=True, check=False)
    assert said in done.stdout, done.stderr
    assert done.stdout.startswith("added") or str(path) in done.stdout
    folder.chmod(0o777)
    if there:
        path.chmod(0o666)
        with Journal(path) as journal:
            assert journal.counts() == {"queued": 2 if "added" in said else 1}


def test_a_file_system_that_is_read_only_by_now_sends_nothing(path: Path) -> None:
    """As when the system mounts it so behind an error; SQLite tells both alike."""

    def verdict(event: Event) -> None:
        if event.verb == "DATA":
            stores[0].execute("PRAGMA query_only = ON")

    with MailServer(verdict=verdict, extensions=["8BITMIME"]) as server, Journal(path) as journal:
        stores: list[Any] = [journal._disk._store]
        with SmtpPool(server.url, journal=journal) as pool:
            error = pool.submit(letter("a@x.example")).exception(LONG)
            assert isinstance(error, JournalError)
            assert f"{path} cannot be written" in str(error)
            assert "allowed to write" in str(error)
            assert error.unsent_recipients == ("a@x.example",)
            with pytest.raises(JournalError, match="allowed to write"):
                pool.submit(letter("b@x.example"))
        assert server.ledger.count == 0
        stores[0].execute("PRAGMA query_only = OFF")
        assert [*journal.summaries()[0].states] == ["queued"]
        assert journal.counts() == {"queued": 1}


# -- room ----------------------------------------------------------------------------------------

FULL = """
import json, os, resource, signal, sys
from pysmtpx import MailObject, SmtpPool
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import JournalError
from pysmtpx.testing import MailServer
folder, is_small = sys.argv[1], sys.argv[2] == "small"
path, filler = os.path.join(folder, "outbox.db"), os.path.join(folder, "filler")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
told, errors = [], []

def submit(pool, n):
    mail = MailObject("s@x.example", [f"r{n}@x.example"], b"Subject: x\\r\\n\\r\\n" + b"hello\\r\\n" * 500)
    try:
        told.append((n, pool.submit(mail)))
    except JournalError as error:
        errors.append(str(error))

with MailServer() as server:
    with SmtpPool(server.url, journal=path, max_connections=2) as pool:
        for n in range(5):
            submit(pool, n)
        for _, future in told:
            future.result(60)  # else one of these, too, could find the disk full
        if is_small:
            with open(filler, "wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 1000):
                        pass
                except OSError:
                    pass
        else:
            size = os.path.getsize(path + "-wal")
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        for n in range(5, 60):
            submit(pool, n)
        for _, future in told:
            future.exception(60)
        if is_small:
            os.unlink(filler)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        submit(pool, 60)
    got = [address for message in server.messages for address in message.addresses]
with Journal(path) as journal:
    states = {f.address: f.state for each in journal.summaries(most=1000) for f in journal.fates(each.number)}
fates = {f"r{n}@x.example": repr(future.exception()) if future.exception() else "" for n, future in told}
print(json.dumps([fates, errors, got, states]))
"""
SMALL = 'mount --make-rprivate / && mount -t tmpfs -o size=1m none "$1" && exec "$0" -c "$2" "$1" small'


def run_full(folder: Path) -> subprocess.CompletedProcess[str]:
    """On a file system of a megabyte where this user may mount one, else where no file may grow."""
    plain = [sys.executable, "-c", FULL, str(folder), "limit"]
    mounted = ["unshare", "--mount", "sh", "-c", SMALL, sys.executable, str(folder), FULL]
    probe = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$1"', "sh", str(folder)]
    may_mount = os.geteuid() == 0 and not subprocess.run(probe, capture_output=True, check=False).returncode
    return subprocess.run(mounted if may_mount else plain, capture_output=True, text=True, check=False)


def test_a_full_disk_is_told_and_what_was_told_is_so(tmp_path: Path) -> None:
    done = run_full(tmp_path)
    assert done.returncode == 0, done.stderr
    fates, errors, got, states = json.loads(done.stdout)
    assert errors, "it was full"
    for error in errors:
        assert "outbox.db cannot be written" in error
        assert "make room" in error
    assert fates["r0@x.example"] == ""
    assert fates["r60@x.example"] == "", "there was room again"
    assert len(set(got)) == len(got)
    for address, error in fates.items():
        if not error:
            assert address in got
    assert set(got) <= set(states), "nothing was sent that is not recorded"
    assert {states[address] for address in got} <= {"accepted", "doubt"}
    assert set(states) == set(fates), "whoever was told an error by submit has nothing there"


def test_a_log_that_does_not_come_to_the_disk_is_no_promise(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a disk that fails: the system tells it once, and what was written is lost with the power."""

    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        with monkeypatch.context() as patched:
            patched.setattr(disk, "_sync", broken)
            with pytest.raises(JournalError, match=r"outbox\.db cannot be written: .*Input/output error"):
                journal.add(payload("b@x.example"))
        with pytest.raises(JournalError, match="Input/output error"):
            journal.doubt([(number, ["a@x.example"])])
        assert journal.counts() == {"queued": 1}
        journal.settle(number, [Fate("a@x.example", "refused", "no")], tries=1)
        assert journal.counts() == {"refused": 1}


# -- damage --------------------------------------------------------------------------------------


def test_a_damaged_page_is_told_or_not_needed(path: Path) -> None:
    """FAULTS 127."""
    with Journal(path) as journal:
        for n in range(60):
            journal.add(payload(f"r{n}@x.example") | {"content": "x" * 500})
    whole = path.read_bytes()
    told = 0
    for page in range(len(whole) // PAGE):
        for garbage in (bytes(PAGE), b"\xa5" * PAGE):
            path.write_bytes(whole[: page * PAGE] + garbage + whole[(page + 1) * PAGE :])
            taken: list[tuple[str, ...]] | str
            try:
                taken = used(path)
            except JournalError as error:
                taken = str(error)
            if isinstance(taken, str):
                told += 1
                assert str(path) in taken
                assert ".recover" in taken
            else:
                assert taken == [(f"r{n}@x.example",) for n in range(60)]
            for beside in ("-wal", "-shm"):
                path.with_name(path.name + beside).unlink(missing_ok=True)
    assert told > len(whole) // PAGE


def used(path: Path) -> list[tuple[str, ...]]:
    with Journal(path) as journal:
        taken = journal.take(100)
        for owed in taken:
            assert owed.payload is not None
            journal.doubt([(owed.number, owed.recipients)])
            fates = [Fate(address, "accepted") for address in owed.recipients]
            journal.settle(owed.number, fates, tries=1)
        assert journal.counts() == {"accepted": 60}
        return [owed.recipients for owed in taken]


def test_a_page_that_is_damaged_under_way_sends_nothing(path: Path) -> None:
    """FAULTS 127."""

    def verdict(event: Event) -> None:
        if event.verb == "DATA":
            store = sqlite3.connect(path, isolation_level=None)
            store.execute("UPDATE journal SET value = value")  # whoever has read pages reads them again
            ((is_busy, *_),) = store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert not is_busy
            store.close()
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(PAGE)
                file.write(b"\xa5" * (size - PAGE))

    with (
        MailServer(verdict=verdict, extensions=["8BITMIME"]) as server,
        SmtpPool(server.url, journal=path) as pool,
    ):
        error = pool.submit(letter("a@x.example")).exception(LONG)
        assert isinstance(error, JournalError)
        assert ".recover" in str(error)
        assert error.unsent_recipients == ("a@x.example",)
        assert server.ledger.count == 0


def test_an_address_that_a_disk_has_changed_gets_nothing(path: Path) -> None:
    """FAULTS 127."""
    with Journal(path) as journal:
        journal.add(payload("ann@x.example", "bob@x.example"))
    whole = path.read_bytes()
    at = whole.find(b"ann@x.example")
    seen = 0
    while at >= 0:
        path.write_bytes(whole[:at] + b"dan" + whole[at + 3 :])
        with Journal(path) as journal:
            assert [owed.payload for owed in journal.take(10)] == [None]
        at, seen = whole.find(b"ann@x.example", at + 1), seen + 1
    assert seen == 2, "of the content, and of the fate"


# -- the clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [1.0, 4e9])
def test_a_clock_that_is_set_ends_what_is_under_way_as_it_is(
    path: Path, moment: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 126."""

    def verdict(event: Event) -> None:
        if event.verb == "DATA":
            monkeypatch.setattr(time, "time", lambda: moment)

    with (
        MailServer(verdict=verdict, extensions=["8BITMIME"]) as server,
        Journal(path, keep=None) as other,
        Journal(path, keep=None) as journal,
    ):
        with SmtpPool(server.url, journal=journal) as pool:
            assert pool.submit(letter("a@x.example")).result(LONG).accepted_recipients
        assert other.take(10) == []
        assert other.counts() == {"accepted": 1}
        assert server.ledger.count == 1
        monkeypatch.undo()


def test_what_was_queued_by_a_clock_ahead_is_sent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 126."""
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with Journal(path) as journal:
        journal.add(pack(make_submission(letter("a@x.example"))))
    monkeypatch.undo()
    with MailServer() as server:
        with SmtpPool(server.url, journal=path):
            server.wait_for(1, LONG)
        assert server.ledger.count == 1
