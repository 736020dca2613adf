"""Servers of this process: what they say is what they did."""

from __future__ import annotations

import contextlib
import errno
import json
import mailbox as standard
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.patience import LONG

import pysmtpx
from pysmtpx import InputError, Server, SmtpPool, connect, development
from pysmtpx.development import mailbox

CONTENT = b"Subject: hi\r\nFrom: ann@x.example\r\n\r\n.a dot\r\nand \xc3\xa9\r\n"


def send(smtp: Any, content: Any = CONTENT, to: str = "bob@x.example") -> Any:
    return smtp.send("ann@x.example", to, content, timeout=30)


@pytest.fixture(autouse=True)
def _nothing_before() -> None:
    mailbox().clear()


@pytest.fixture(params=["memory://", "maildir", "console://", "null://"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.param if "://" in request.param else f"maildir://{tmp_path}/box"


def test_each_takes_mail_by_a_connection_and_a_pool(url: str) -> None:
    with connect(url) as smtp:
        assert send(smtp).accepted_recipients == ("bob@x.example",)
        assert not smtp.is_tls
    with SmtpPool(url, max_connections=3) as pool:
        messages = [pysmtpx.MailObject("ann@x.example", [f"b{n}@x.example"], CONTENT) for n in range(50)]
        assert [outcome.status for outcome in pool.send_many(messages)] == ["accepted"] * 50
        assert url.rstrip("/") in repr(pool)


def test_no_thread_is_left_when_connections_are_closed(url: str) -> None:
    before = {*threading.enumerate()}  # perhaps one of the test before
    with connect(url) as smtp:
        send(smtp)
        name = f"pysmtpx {Server.from_url(url).host}"
        (mine,) = (each for each in {*threading.enumerate()} - before if each.name == name)
    mine.join(LONG)
    assert not mine.is_alive()


# memory://


def test_a_test_reads_what_was_sent() -> None:
    box = mailbox("Shop")
    with SmtpPool("memory://shop") as pool:
        send(pool, to="bob@x.example")
        pool.submit(pysmtpx.MailObject("", ["cid@x.example", "dan@x.example"], CONTENT))
    assert box is mailbox("memory://shop")
    assert [message.addresses for message in box.wait_for(2)] == [
        ["bob@x.example"],
        ["cid@x.example", "dan@x.example"],
    ]
    assert box.messages[0].sender == "ann@x.example"
    assert box.messages[0].content == CONTENT
    assert len(mailbox("nobodys")) == len(mailbox()) == 0
    box.clear()
    assert box.messages == []
    with pytest.raises(TimeoutError, match="0 of 1 messages"):
        box.wait_for(1, timeout=0.01)


def test_the_oldest_make_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(development, "_MOST_MESSAGES", 3)
    box = mailbox()
    with connect("memory://") as smtp:
        for number in range(5):
            send(smtp, b"Subject: %d\r\n\r\n" % number)
        assert [message.content[9:10] for message in box.messages] == [b"2", b"3", b"4"]
        assert box.dropped == 2
        monkeypatch.setattr(development, "_MOST_OCTETS", 64)
        send(smtp, b"Subject: 5\r\n\r\n" + b"x" * 40 + b"\r\n")
    assert [message.content[9:10] for message in box.messages] == [b"5"]


def test_what_is_too_large_is_refused_and_not_kept() -> None:
    most = development._MOST_OCTETS

    def chunks() -> Iterator[bytes]:
        line = b"x" * 510 + b"\r\n"
        yield b"Subject: long\r\n\r\n"
        for _ in range(most // (512 * 128) + 1):
            yield line * 128

    with connect("memory://") as smtp:
        with pytest.raises(pysmtpx.MessageTooLarge):
            send(smtp, b"x\r\n" * (most // 3 + 1))
        with pytest.raises(pysmtpx.RejectedError, match="552"):
            send(smtp, chunks())
    assert mailbox().messages == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_has_a_mailbox_of_its_own() -> None:
    with SmtpPool("memory://") as pool:
        send(pool)
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                send(pool)
                code = 0 if len(mailbox()) == 2 else 2
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        send(pool)
    assert len(mailbox()) == 2


def test_nothing_is_left_at_exit() -> None:
    program = (
        "import pysmtpx\n"
        "pool = pysmtpx.SmtpPool('memory://')\n"
        "smtp = pysmtpx.connect('memory://')\n"
        "mail = pysmtpx.MailObject('', ['bob@x.example'], b'Subject: hi')\n"
        "pool.send('', 'bob@x.example', b'')\n"
        "smtp.send('', 'bob@x.example', b'')\n"
        "pool.submit(mail).add_done_callback(lambda done: print(done.result().reply.code))\n"
        "smtp.quit()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "250\n", "")


# maildir://


def test_a_maildir_is_read_by_who_reads_maildirs(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "box"
    path.parent.mkdir()
    server = Server.from_url(f"maildir://{str(path).replace(' ', '%20')}")
    with connect(server) as smtp:
        send(smtp)
        smtp.send("", ["bob@x.example", "cid@x.example"], CONTENT)
    first, second = sorted(
        standard.Maildir(str(path), create=False), key=lambda each: -len(each["Return-Path"])
    )
    assert first["Return-Path"] == "<ann@x.example>"
    assert first["Subject"] == "hi"
    assert first.get_payload(decode=True) == b".a dot\nand \xc3\xa9\n"
    assert second["Return-Path"] == "<>"
    assert second.get_all("Delivered-To") == ["bob@x.example", "cid@x.example"]
    assert list((path / "tmp").iterdir()) == []
    assert {each.stat().st_mode & 0o777 for each in (path, *path.iterdir())} == {0o700}


@pytest.mark.skipif(shutil.which("notmuch") is None, reason="needs notmuch")
def test_notmuch_finds_every_part_of_a_composed_message(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"[database]\npath={tmp_path}\n[new]\ntags=new\n")
    message = pysmtpx.compose(
        from_="Zoë <zoe@x.example>",
        to="bob@x.example",
        subject="Größe",
        text="plain text\n",
        html='<img src="cid:l">',
        images={"l": ("l.png", b"PNG")},
        attachments=[("größe.txt", "ä\n")],
    )
    with connect(f"maildir://{tmp_path}/box") as smtp:
        smtp.send_message(message)

    def notmuch(*words: str) -> str:
        environment = {**os.environ, "NOTMUCH_CONFIG": str(tmp_path / "config")}
        return subprocess.run(
            ["notmuch", *words], env=environment, capture_output=True, check=True
        ).stdout.decode()

    assert "Added 1 new message" in notmuch("new")
    ((thread,),) = json.loads(notmuch("show", "--format=json", "--entire-thread=false", "subject:Größe"))
    told = json.dumps(thread, ensure_ascii=False)
    for expected in ("Zoë <zoe@x.example>", '"größe.txt"', '"multipart/related"', "plain text"):
        assert expected in told


def test_many_deliveries_at_once_have_a_file_each(tmp_path: Path) -> None:
    with SmtpPool(f"maildir://{tmp_path}/box", max_connections=8) as pool, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: send(pool, b"Subject: %d\r\n\r\n" % n), range(100)))
    subjects = {each["Subject"] for each in standard.Maildir(f"{tmp_path}/box", create=False)}
    assert subjects == {str(number) for number in range(100)}


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 452), (errno.EDQUOT, 452), (errno.EIO, 451), (errno.EACCES, 451)],
)
@pytest.mark.parametrize("step", ["open", "fsync", "rename"])
def test_what_could_not_be_stored_is_not_accepted(
    number: int, code: int, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with connect(f"maildir://{tmp_path}/box") as smtp:
        send(smtp)
        with monkeypatch.context() as patch:
            patch.setattr(development.os, step, fail)
            with pytest.raises(pysmtpx.DataRejected) as caught:
                send(smtp)
        assert caught.value.reply is not None
        assert caught.value.reply.code == code
        assert caught.value.temporary
        assert os.strerror(number) in str(caught.value)
        send(smtp)
    assert len(standard.Maildir(f"{tmp_path}/box", create=False)) == 2
    assert list((tmp_path / "box" / "tmp").iterdir()) == []


def test_a_limit_of_the_system_is_one_too(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    program = (
        "import resource, sys, pysmtpx\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with pysmtpx.connect('maildir://' + sys.argv[1]) as smtp:\n"
        "    try: smtp.send('', 'bob@x.example', b'x' * 900 + b'\\r\\n' + b'x' * 900 + b'\\r\\n')\n"
        "    except pysmtpx.DataRejected as error: print(error.reply.code)\n"
        "    print(smtp.send('', 'bob@x.example', b'Subject: hi').reply.code)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "box")], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("452\n250\n", "")
    assert len(standard.Maildir(f"{tmp_path}/box", create=False)) == 1


# console://


def test_the_console_shows_what_matters_and_obeys_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    message = pysmtpx.compose(
        from_="ann@x.example",
        to="bob@x.example",
        subject="Größe",
        text="hello \x1b]0;owned\x07 \u202e\n",
        html="<p>",
        attachments=[("a.pdf", b"xyz")],
    )
    with connect("console://") as smtp:
        smtp.send_message(message)
    with connect("console://stderr") as smtp:
        send(smtp)
    shown = capsys.readouterr()
    assert "<ann@x.example> to bob@x.example" in shown.out
    assert "Subject: Größe\n" in shown.out
    assert "hello \\x1b]0;owned\\x07 \\u202e\n" in shown.out
    assert "[a.pdf: application/pdf, 3 octets]" in shown.out
    assert "\x1b" not in shown.out
    assert ".a dot\n" in shown.err


def test_the_console_takes_parts_within_parts_however_deep(capsys: pytest.CaptureFixture[str]) -> None:
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(999)
    )
    with connect("console://") as smtp:
        send(smtp, b"Subject: deep\r\n" + nested + b"\r\nhello\r\n")
    assert "Subject: deep\n" in capsys.readouterr().out


def test_a_console_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with connect("console://") as smtp, pytest.raises(pysmtpx.DataRejected, match="451"):
        send(smtp)


# How they are named.


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "memory://a-b.c",
        "maildir:///tmp/a%20b/%C3%A9",
        "console://",
        "console://stderr",
        "null://",
    ],
)
def test_a_server_is_made_of_its_url_and_the_other_way_round(url: str) -> None:
    server = Server.from_url(url, connect_timeout=5)
    assert Server.from_url(server.url) == server == pickle.loads(pickle.dumps(server))
    assert Server(server.host, connect_timeout=5) == server
    assert (server.port, server.tls, server.is_local) == (0, "none", True)
    assert server.replace(local_hostname="me.example").local_hostname == "me.example"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("memory://a/b", {}),
        ("memory://a b", {}),
        ("memory://ann:secret@a", {}),
        ("memory://a:25", {}),
        ("memory://a#b", {}),
        ("memory://a?tls=starttls", {}),
        ("memory://a", {"port": 25}),
        ("memory://a", {"username": "ann", "password": "secret"}),
        ("memory://a", {"tls": "implicit", "server_hostname": "a"}),
        ("memory://a", {"protocol": "lmtp"}),
        ("memory://a", {"source_address": "127.0.0.1"}),
        ("memory://a", {"proxy": "socks5://ann:secret@127.0.0.1:1080"}),
        ("maildir://relative", {}),
        ("maildir://", {}),
        ("maildir:///", {}),
        ("maildir:///a%00b", {}),
        ("console://stdin", {}),
        ("null://a", {}),
    ],
)
def test_what_cannot_be_right_is_said_and_no_secret_with_it(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Server.from_url(url, **options)
    assert "secret" not in str(caught.value)


def test_check_looks_at_them_too() -> None:
    assert Server("memory://").check(sender="ann@x.example", recipients="bob@x.example").ok


def test_nothing_of_it_is_loaded_by_who_does_not_use_it() -> None:
    program = (
        "import sys, pysmtpx.pool\n"
        "print('pysmtpx.testing' in sys.modules, 'pysmtpx.development' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False False\n"
