"""Options of the command that cannot be right: told before anything is read, written or dialled."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pysmtpx import InputError, Server
from pysmtpx.cli.main import main, parser
from pysmtpx.cli.servers import add_server, server_of

from .conftest import Ran

Run = Callable[..., Ran]
SECRET = "s3cret-word"
NO_NUMBERS = (
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "",
    "ten",
    "0x10",
    "9" * 5000,
    "-" + "9" * 5000,
    "1,5",
    "1\n2",
)
FROM_ZERO = {"--turn-wait", "--days", "--port", "--web-port"}
NEEDED = {"bulk": ["--list", "/nowhere"], "send": ["localhost:1"], "check": ["localhost:1"]}


def numbers() -> Iterator[tuple[tuple[str, ...], argparse.Action]]:
    """Each option, of each command, whose text is read as something else."""

    def walk(of: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[Any]:
        for action in of._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, each in action.choices.items():
                    yield from walk(each, (*path, name))
            elif action.type is not None:
                yield path, action

    return walk(parser(), ())


NUMBERS = [(path, (action.option_strings or [""])[0]) for path, action in numbers()]


@pytest.mark.parametrize(("command", "option"), NUMBERS, ids=lambda each: " ".join(each) if each else "")
def test_what_is_no_number_is_a_usage_error(
    command: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = NO_NUMBERS if option in FROM_ZERO else (*NO_NUMBERS, "0")
    for text in wrong:
        given = [f"{option}={text}"] if option else ["--", text]
        place = [str(tmp_path / "journal")] if command[0] == "journal" else []
        with pytest.raises(SystemExit) as ended:
            main([*command, *NEEDED.get(command[0], []), *(place if not option else []), *given, *place])
        assert ended.value.code == 2, text
        said = capsys.readouterr().err
        assert (option or "NUMBER") in said
        assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_there_are_number_flags_in_each_command() -> None:
    assert {path[0] for path, _ in NUMBERS} == {"check", "send", "bulk", "sink", "journal"}


def test_each_is_read_by_a_rule_of_ours() -> None:
    """``float`` itself takes ``nan``, and ``int`` what is below nothing."""
    assert not [(path, action.dest) for path, action in numbers() if action.type in (int, float)]


@pytest.mark.parametrize(
    ("option", "text"), [("--timeout", "1e300"), ("--connect-timeout", "1e300"), ("--timeout", "1e-9")]
)
def test_seconds_that_no_clock_counts_are_as_long_as_it_counts(run: Run, option: str, text: str) -> None:
    told = run("send", "192.0.2.1", "--tls", "none", "--auth", "PLAIN", option, text)
    assert told.code == 2  # for what is missing, and not for the number
    assert "auth" in told.err or "author" in told.err


CONTRADICTIONS = [
    ("send", "--body", "x", "--body-file", "y"),
    ("bulk", "--list", "l", "--body", "x", "--body-file", "y"),
    *(("send", "--eml", "x", f"--{name}", "y: z") for name in ("subject", "body", "body-file", "html-file")),
    ("send", "--eml", "x", "--header", "y: z"),
    ("send", "--eml", "x", "--attach", "y"),
    ("send", "--eml", "x", "--from", "a@example.org", "--mail-from", "b@example.org"),
    ("send", "--eml", "x", "--to", "a@example.org", "--rcpt-to", "b@example.org"),
    ("send", "--eml", "x", "--bcc", "a@example.org", "--rcpt-to", "b@example.org"),
    ("check", "--password-file", "x", "--token-file", "y"),
    ("check", "--oauth", "google", "--token-file", "y"),
    ("check", "--oauth", "google", "--password-file", "y"),
    ("check", "--ca-file", "x", "--roots", "system"),
    ("check", "--client-key", "x"),
    ("send", "--body-file", "-", "--html-file", "-"),
    ("send", "--attach", "-", "--attach", "-"),
    ("send", "--password-file", "-", "--eml", "-"),
    ("sink", "--key", "x"),
    ("sink", "--tls", "implicit"),
    ("sink", "--no-web", "--web-port", "8025"),
    ("sink", "--port", "8025", "--web-port", "8025"),
    ("sink", "--account", "ann:x", "--account", "ann:y"),
    ("bulk", "--list", "l.csv", "--report", "./l.csv", "--from", "a@example.org"),
    ("bulk", "--list", "l.csv", "--journal", "l.csv", "--from", "a@example.org"),
    ("bulk", "--list", "l.csv", "--report", "l.csv.journal", "--from", "a@example.org"),
]


@pytest.mark.parametrize("arguments", CONTRADICTIONS, ids=" ".join)
def test_options_that_contradict_are_told_by_name(
    run: Run, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a file is read or a server is dialled: there is neither."""
    monkeypatch.chdir(tmp_path)
    told = run(*arguments, "--json")
    assert told.code == 2
    assert told.value["status"] == "usage"
    named = {each for each in arguments if each.startswith("--") and each not in ("--list", "--from")}
    assert any(each in told.err for each in named)
    assert "Traceback" not in told.err
    assert not list(tmp_path.iterdir())


def parsed(*arguments: str) -> Server:
    of_server = argparse.ArgumentParser()
    add_server(of_server)
    return server_of(of_server.parse_args(arguments))


@pytest.fixture
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("getpass.getpass", pytest.fail)
    for name in ("PYSMTPX_PASSWORD", "PYSMTPX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("mechanism", ["GSSAPI", "external"])
@pytest.mark.parametrize(
    "arguments",
    [("smtps://a.example", "--username", "ann", "--auth"), ("smtps://ann@a.example", "--auth")],
)
@pytest.mark.parametrize("is_set", [False, True])
def test_a_mechanism_without_a_password_asks_for_none(
    nobody_asks: pytest.MonkeyPatch, mechanism: str, arguments: tuple[str, ...], is_set: bool
) -> None:
    """Nor is the one of the environment meant for it."""
    if is_set:
        nobody_asks.setenv("PYSMTPX_PASSWORD", SECRET)
    server = parsed(*arguments, mechanism)
    in_url = parsed(f"smtps://ann@a.example?auth={mechanism}")
    assert (server.username, server.password, server.auth) == ("ann", None, (mechanism.upper(),))
    assert in_url == server


def test_of_two_secrets_of_the_environment_the_mechanism_decides(nobody_asks: pytest.MonkeyPatch) -> None:
    nobody_asks.setenv("PYSMTPX_PASSWORD", SECRET)
    nobody_asks.setenv("PYSMTPX_TOKEN", "t0ken")
    with pytest.raises(InputError, match=r"PYSMTPX_TOKEN and .PYSMTPX_PASSWORD are both set") as caught:
        parsed("smtps://ann@a.example")
    assert SECRET not in str(caught.value)
    assert parsed("smtps://ann@a.example", "--auth", "XOAUTH2").token == "t0ken"
    assert parsed("smtps://ann@a.example", "--auth", "PLAIN").password == SECRET
    assert parsed("smtps://a.example").credentials is None


def test_a_token_is_not_asked_for_as_a_password(nobody_asks: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="username without password or token"):
        parsed("smtps://ann@a.example", "--auth", "XOAUTH2")
