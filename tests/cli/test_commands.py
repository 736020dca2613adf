"""`pysmtpx check` and `send`: what they say and send, and their exit codes."""

from __future__ import annotations

import argparse
import email
import io
import socket
import subprocess
import sys
from collections.abc import Callable
from email import policy
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import certs

from pysmtpx import InputError, Server
from pysmtpx.cli.servers import _WAYS, add_server, server_of
from pysmtpx.oauth import Microsoft
from pysmtpx.options import SessionOptions
from pysmtpx.testing import Cut, MailServer

from .conftest import Ran

Run = Callable[..., Ran]
SECRET = "s3cret-word"
ENVELOPE = ("--from", "ann@example.org", "--to", "bob@example.com")


def test_check_tells_people_and_programs(run: Run) -> None:
    with MailServer() as server:
        told = run("check", server.url, "--from", "ann@example.org", "--to", "bob@example.com")
        as_json = run("check", server.url, "--json")
    assert told.code == as_json.code == 0
    assert "PIPELINING" in told.out
    assert "RCPT" in told.out
    assert "Mail can be sent" in told.out
    assert as_json.value["ok"] is True
    assert as_json.value["before_tls"]["SIZE"] == ["104857600"]


@pytest.mark.parametrize("is_trusted", [True, False])
def test_check_names_the_mechanism(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_trusted: bool
) -> None:
    """The one that logged in; where it does not come to that, the one that would be tried."""
    (certs.authority() if is_trusted else certs.stranger()).cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    monkeypatch.setenv("PYSMTPX_PASSWORD", SECRET)
    with MailServer(ssl_context=certs.server_context(), users={"ann": SECRET}) as server:
        arguments = ("check", f"localhost:{server.port}", "--tls", "starttls", "--username", "ann")
        told, as_json = run(*arguments), run(*arguments, "--json")
    said = (
        "Log-in by SCRAM-SHA-512-PLUS: succeeded" if is_trusted else "A log-in would be by SCRAM-SHA-512-PLUS"
    )
    assert said in told.out
    kind = as_json.value["tls"]["channel_binding"]
    assert kind in ("tls-server-end-point", "tls-exporter")
    assert "Channel binding" in told.out
    assert kind in told.out
    assert as_json.value["mechanism"] == "SCRAM-SHA-512-PLUS"
    assert as_json.value["logged_in"] is (True if is_trusted else None)


def test_check_without_a_server(run: Run) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        told = run("check", f"127.0.0.1:{sock.getsockname()[1]}")
    assert told.code == 5
    assert "Cure:" in told.out


def test_cures_name_the_options_of_the_command(run: Run) -> None:
    """Whoever types a command has no keywords of Python to change."""
    with MailServer(strict=False) as server:
        told = run("check", server.url, "--tls", "implicit")
        assert f"Cure: Use smtp://127.0.0.1:{server.port}, or --tls starttls." in told.out
        as_json = run("check", server.url, "--tls", "implicit", "--json")
        assert "--tls starttls" in as_json.value["findings"][0]["cure"]
        assert as_json.value["error"]["text"].endswith(", or --tls starttls.")
        told = run("send", server.url, "--tls", "starttls", *ENVELOPE)
        assert "--tls none (?tls=none in the URL). [tlserror]" in told.err
        as_json = run("send", server.url, "--tls", "starttls", *ENVELOPE, "--json")
        assert as_json.value["text"].endswith("--tls none (?tls=none in the URL).")
    with MailServer(refuse={"bob@example.com": "450 4.7.1 Greylisted"}, strict=False) as server:
        told = run("send", server.url, *ENVELOPE)
        assert "send it again then" in told.err
        assert "RetryPolicy" not in told.err


def test_check_of_an_envelope_that_is_refused(run: Run) -> None:
    with MailServer(refuse={"bob@example.com": "550 5.1.1 unknown"}) as server:
        assert run("check", server.url, "--to", "bob@example.com").code == 1


def test_send_makes_a_message(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n")
    (tmp_path / "page.html").write_text("<p>Hello</p>")
    with MailServer() as server:
        told = run(
            *("send", server.url, *ENVELOPE, "--cc", "cid@example.com", "--bcc", "dan@example.com"),
            *("--subject", "Grüße", "--body", "Hello", "--html-file", tmp_path / "page.html"),
            *("--header", "X-Kind: test", "--attach", tmp_path / "data.csv"),
        )
        (received,) = server.messages
    assert told.code == 0
    assert "accepted" in told.out
    assert received.delivered == ["bob@example.com", "cid@example.com", "dan@example.com"]
    message = email.message_from_bytes(received.content, policy=policy.default)
    assert message["Subject"] == "Grüße"
    assert message["X-Kind"] == "test"
    assert message["Bcc"] is None
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/csv"]


def test_a_header_may_stand_twice_and_reply_to_is_one_of_them(run: Run) -> None:
    with MailServer() as server:
        told = run(
            *("send", server.url, *ENVELOPE, "--header", "Keywords: one", "--header", "Keywords: two"),
            *("--header", "reply-to: Eve <eve@example.net>"),
        )
        (received,) = server.messages
    assert told.code == 0
    message = email.message_from_bytes(received.content, policy=policy.default)
    assert message.get_all("Keywords") == ["one", "two"]
    assert message.get_all("Reply-To") == ["Eve <eve@example.net>"]


def test_send_takes_a_message_as_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"From: ann@example.org\r\nTo: bob@example.com\r\nSubject: raw\r\n\r\nas it is\r\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    with MailServer() as server:
        told = run("send", server.url, "--eml", "-", "--mail-from", "", "--rcpt-to", "eve@example.net")
        (received,) = server.messages
    assert told.code == 0
    assert received.sender == ""
    assert received.addresses == ["eve@example.net"]
    assert received.content.endswith(b"\r\n\r\nas it is\r\n")


def test_send_asks_for_notifications(run: Run) -> None:
    with MailServer() as server:
        told = run(
            *("send", server.url, *ENVELOPE, "--dsn", "success,failure", "--ret", "hdrs", "--envid", "run-7"),
        )
        (received,) = server.messages
    assert told.code == 0
    assert received.recipients[0].params["NOTIFY"] == "SUCCESS,FAILURE"
    assert received.params["RET"] == "HDRS"
    assert received.params["ENVID"] == "run-7"


def test_send_says_from_whom_it_was_kept(run: Run) -> None:
    with MailServer() as server:
        url = f"{server.url}?redirect_to=dev@example.org"
        told = run("send", url, *ENVELOPE, "--json")
    assert [each["fate"] for each in told.value["recipients"]] == ["accepted", "withheld"]


def test_send_over_lmtp(run: Run, tmp_path: Path) -> None:
    full = {("FINAL", "full@example.com"): "452 4.2.2 mailbox full"}
    with MailServer(protocol="lmtp", path=tmp_path / "lmtp", replies=full) as server:
        told = run("send", server.url, *ENVELOPE, "--to", "full@example.com", "--json")
    assert told.code == 1
    assert [each["fate"] for each in told.value["recipients"]] == ["accepted", "rejected"]


@pytest.mark.parametrize(
    ("options", "code", "fate"),
    [
        ({"refuse": {"bob@example.com": "550 5.1.1 unknown"}}, 1, "rejected"),
        ({"replies": {"FINAL": "554 5.6.0 no"}}, 1, "rejected"),
        ({"replies": {"FINAL": Cut()}}, 3, "unknown"),
        ({"replies": {"MAIL": Cut()}}, 4, "unsent"),
    ],
)
def test_an_exit_code_for_each_fate(run: Run, options: dict[str, object], code: int, fate: str) -> None:
    with MailServer(**options) as server:  # type: ignore[arg-type]
        told = run("send", server.url, *ENVELOPE, "--json")
    assert told.code == code
    assert [each["fate"] for each in told.value["recipients"]] == [fate]


def test_an_exit_code_for_no_session(run: Run) -> None:
    with MailServer(replies={"CONNECT": "554 5.3.2 closed"}) as server:
        assert run("send", server.url, *ENVELOPE).code == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no author"),
        (("--from", "ann@example.org"), "no recipient"),
        ((*ENVELOPE, "--header", "no colon"), "a header is"),
        ((*ENVELOPE, "--header", "Content-Type: text/html"), "follows from the content"),
        ((*ENVELOPE, "--subject", "two\nlines"), "control character"),
        ((*ENVELOPE, "--attach", "/nowhere/at/all"), "cannot be read"),
    ],
)
def test_what_cannot_be_right_is_told_before_anything_is_dialled(
    run: Run, arguments: tuple[str, ...], said: str
) -> None:
    with MailServer() as server:
        told = run("send", server.url, *arguments)
        assert server.ledger.connections == []
    assert told.code == 2
    assert said in told.err


def test_a_user_in_the_url_is_asked_for_the_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET)
    with MailServer(users={"ann": SECRET}, require_auth=True) as server:
        assert run("send", server.url.replace("://", "://ann@"), *ENVELOPE).code == 0


def test_notifications_for_people_with_names_and_for_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.eml").write_text("From: a@example.org\nTo: b@example.com\n\nx\n")
    with MailServer() as server:
        named = ("--from", "ann@example.org", "--to", "Bob <bob@example.com>", "--cc", "bob@example.com")
        assert run("send", server.url, *named, "--dsn", "never").code == 0
        assert run("send", server.url, "--eml", tmp_path / "x.eml", "--dsn", "never").code == 2
        copied = ("--eml", tmp_path / "x.eml", "--cc", "cid@example.com", "--dsn", "never")
        assert run("send", server.url, *copied).code == 0
        assert [each.addresses for each in server.messages] == [["bob@example.com"] * 2, ["cid@example.com"]]


@pytest.mark.parametrize("way", ["prompt", "environment", "file"])
def test_a_password_comes_by_prompt_environment_or_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    more: tuple[object, ...] = ()
    if way == "prompt":
        monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET)
    elif way == "environment":
        monkeypatch.setenv("PYSMTPX_PASSWORD", SECRET)
    else:
        more = ("--password-file", tmp_path / "secret")
    with MailServer(users={"ann": SECRET}, require_auth=True) as server:
        told = run("send", server.url, *ENVELOPE, "--username", "ann", *more, "--transcript")
        (received,) = server.messages
    assert told.code == 0
    assert received.user == "ann"
    assert "C: MAIL FROM" in told.err
    assert SECRET not in told.out + told.err


@pytest.mark.parametrize(
    ("more", "variable"),
    [
        (("--username", "ann"), "PYSMTPX_PASSWORD"),
        (("--proxy", "socks5://u@p.example"), "PYSMTPX_PROXY_PASSWORD"),
    ],
)
def test_where_nobody_can_be_asked_it_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, more: tuple[str, str], variable: str
) -> None:
    def ask(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ask)
    told = run("send", "smtps://mail.example.org", *ENVELOPE, *more)
    assert told.code == 2
    assert f"nobody is there to give one: ${variable}" in told.err


def test_a_password_in_an_argument_is_refused_unless_insisted(run: Run) -> None:
    with MailServer(users={"ann": SECRET}, require_auth=True) as server:
        url = server.url.replace("://", f"://ann:{SECRET}@")
        refused = run("send", url, *ENVELOPE)
        assert server.ledger.connections == []
        insisted = run("send", url, *ENVELOPE, "--password-in-url")
    assert refused.code == 2
    assert "every user of this machine" in refused.err
    assert SECRET not in refused.err
    assert insisted.code == 0


def test_the_url_of_the_environment_may_have_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer(users={"ann": SECRET}, require_auth=True) as server:
        monkeypatch.setenv("PYSMTPX_URL", server.url.replace("://", f"://ann:{SECRET}@"))
        assert run("send", *ENVELOPE).code == 0


def test_a_password_of_the_environment_goes_nowhere_unasked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSMTPX_PASSWORD", SECRET)
    with MailServer(users={"ann": SECRET}) as server:
        assert run("send", server.url, *ENVELOPE).code == 0
        assert "AUTH" not in server.ledger.commands[0]


def test_a_server_cannot_write_to_the_terminal(run: Run) -> None:
    hostile = b"550 5.1.1 \x1b]0;owned\x07\x1b[31mred \xc2\x9b31m\r\n"
    with MailServer(refuse={"bob@example.com": hostile}) as server:
        told = run("send", server.url, *ENVELOPE)
    assert told.code == 1
    assert not {"\x1b", "\x07", "\x9b"} & set(told.out + told.err)


def test_it_runs_as_a_module() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pysmtpx", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("pysmtpx ")


def test_a_url_that_names_a_provider_asks_for_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets of the provider come from the environment."""
    monkeypatch.setattr("getpass.getpass", pytest.fail)
    monkeypatch.setenv("PYSMTPX_CLIENT_SECRET", SECRET)
    for name in ("PYSMTPX_PASSWORD", "PYSMTPX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    parser = argparse.ArgumentParser()
    add_server(parser)
    url = "smtps://robot@mail.example?oauth=microsoft&tenant=t&client_id=i"
    for options, user in (([], "robot"), (["--username", "other"], "other")):
        server = server_of(parser.parse_args([url, *options]))
        assert (server.username, server.password) == (user, None)
        assert server.token == Microsoft("t", "i", client_secret=SECRET)


def parsed(*arguments: str) -> Server:
    parser = argparse.ArgumentParser()
    add_server(parser)
    return server_of(parser.parse_args(arguments))


def test_the_way_to_a_server_has_options_by_the_names_of_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _WAYS.keys() <= SessionOptions.__annotations__.keys()
    monkeypatch.setenv("PYSMTPX_PROXY_PASSWORD", SECRET)
    prints = ["sha256:" + "ab" * 32, "sha256:" + "cd" * 32]
    ways = ("--roots", "certifi", "--fingerprint", prints[0], "--fingerprint", prints[1])
    more = ("--proxy", "socks5://ann@p.example", "--without", "CHUNKING,PIPELINING", "--without", "DSN")
    assert parsed("smtps://a.example", *ways, *more) == Server(
        "a.example",
        tls="implicit",
        roots="certifi",
        fingerprint=prints,
        proxy="socks5://ann@p.example",
        proxy_password=SECRET,
        without=("CHUNKING", "PIPELINING", "DSN"),
    )
    assert parsed("smtps://a.example").proxy_password is None
    assert parsed("smtps://a.example?proxy=socks5://ann@p.example").proxy_password == SECRET


def test_the_password_of_a_proxy_is_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSMTPX_PROXY_PASSWORD", raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET)
    assert parsed("a.example", "--proxy", "http://ann@p.example").proxy_password == SECRET
    assert parsed("a.example", "--proxy", "socks4a://ann@p.example").proxy_password is None
    with pytest.raises(InputError, match="PYSMTPX_PROXY_PASSWORD") as caught:
        parsed("a.example", "--proxy", f"socks5://ann:{SECRET}@p.example")
    assert SECRET not in str(caught.value)


def test_a_provider_by_its_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("getpass.getpass", pytest.fail)
    for name, value in (("TENANT", "t"), ("CLIENT_ID", "i"), ("CLIENT_SECRET", SECRET)):
        monkeypatch.setenv(f"PYSMTPX_{name}", value)
    token = Microsoft("t", "i", client_secret=SECRET)
    for arguments in (["smtps://robot@a.example"], ["smtps://a.example", "--username", "robot"]):
        server = parsed(*arguments, "--oauth", "microsoft")
        assert (server.username, server.token) == ("robot", token)
    for wrong in (["--oauth", "nobody"], ["--oauth", "google", "--password-file", str(tmp_path)]):
        with pytest.raises(InputError):
            parsed("smtps://robot@a.example", *wrong)
