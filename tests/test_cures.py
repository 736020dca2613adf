"""What cures say of facts: no socket, no server."""

from __future__ import annotations

import argparse
import inspect
import re

import pytest

from pysmtpx import cures
from pysmtpx.checking import findings
from pysmtpx.cli.main import parser
from pysmtpx.wire.parser import ReplyParser
from pysmtpx.wire.reply import Reply


def reply(text: str) -> Reply:
    parser = ReplyParser()
    parser.feed(text.encode() + b"\r\n")
    found = parser.next()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "demand"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", "tls"),  # Postfix, OpenSMTPD, Gmail
        ("530 5.7.0 Must issue a STARTTLS command before AUTH", "tls"),
        ("530 Must issue a STARTTLS command first", "tls"),
        ("530 5.7.0 TLS required", "tls"),
        ("530 5.7.10 no", "tls"),
        ("530 5.7.11 no", "tls"),
        ("530 Encryption needed", "tls"),
        ("530 5.7.0 Authentication required", "login"),
        ("530 5.7.0 Must issue an AUTH command first", "login"),  # OpenSMTPD
        ("530 5.7.1 Authentication required, use SSL and your password", "login"),
        ("530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM", "login"),
        ("530 5.7.0 Please log in first", "login"),
        ("530 5.7.0 no", ""),
        ("530", ""),
    ],
)
def test_what_a_530_demands(text: str, demand: str) -> None:
    """The enhanced code is the same for both, mostly."""
    assert cures.demand_of(reply(text)) == demand
    other = cures.of_reply(reply(text.replace("530", "550", 1)), is_tls=False, is_logged_in=False)
    assert other == ""


@pytest.mark.parametrize(
    ("demand", "is_tls", "is_logged_in", "words"),
    [
        ("must issue STARTTLS", False, False, 'tls="starttls"'),
        ("must issue STARTTLS", False, True, 'tls="starttls"'),
        ("must issue STARTTLS", True, False, "TLS is on"),
        ("must issue STARTTLS", True, True, "TLS is on"),
        ("authenticate", False, False, "Give username and password"),
        ("authenticate", True, False, "Give username and password"),
        ("authenticate", True, True, "A log-in was accepted before"),
        ("no", False, False, "Neither was done"),
        ("no", True, False, "Give username and password"),
        ("no", False, True, 'tls="starttls"'),
        ("no", True, True, "A log-in was accepted before"),
    ],
)
def test_what_cures_a_530(demand: str, is_tls: bool, is_logged_in: bool, words: str) -> None:
    text = cures.of_reply(reply(f"530 5.7.0 {demand}"), is_tls=is_tls, is_logged_in=is_logged_in)
    assert words in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("421 4.7.1 mail.test Error: No client certificate presented", "client_certificate=("),
        ("554 5.7.1 <bob@x.example>: Relay access denied", "log in"),
        ("550 relay not permitted", "log in"),
        ("451 4.7.1 Greylisted, please try again later", "RetryPolicy(temporary=True)"),
        ("550 5.1.1 no such user", ""),
        ("250 relay is fine", ""),
    ],
)
def test_what_other_replies_ask_for(text: str, words: str) -> None:
    """Only where it leaves no doubt."""
    cure = cures.of_reply(reply(text), is_tls=True, is_logged_in=False)
    assert words in cure
    assert bool(words) == bool(cure)


KNOWN = ("host", "port", "connect_timeout", "username", "password", "ssl_context", "tls", "max_connections")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("timeout", "connect_timeout"),
        ("user", "username"),
        ("usernme", "username"),
        ("Username", "username"),
        ("sslcontext", "ssl_context"),
        ("use_tls", "tls"),
        ("max_connection", "max_connections"),
    ],
)
def test_a_name_that_is_none(name: str, meant: str) -> None:
    assert cures.unknown_name(name, KNOWN) == f"no such option: {name!r}; did you mean {meant}?"


def test_a_name_that_nobody_can_guess() -> None:
    text = cures.unknown_name("x\n" * 100_000, KNOWN)
    assert all(name in text for name in KNOWN)
    assert "\n" not in text
    assert len(text) < 400


def test_names_of_a_certificate_are_few_and_short() -> None:
    assert "(a.example, b.example)" in cures.wrong_name(["a.example", "b.example"])
    many = cures.wrong_name([f"{n}{'x' * 1000}" for n in range(50)])
    assert " and 45 more)" in many
    assert len(many) < 600


SAID_BY_CHECK = re.findall(r"^ +f?[\"']([A-Z].{20,})[\"'],?$", inspect.getsource(findings), re.M)
"""Sentences of the doctor's own."""
TLS = ("must issue STARTTLS", "authenticate", "no")
TEXTS = [
    cures.look_up(),
    *(
        cures.dial(port, why, is_path=is_path)
        for port in (25, 587)
        for why in ([], ["refused"])
        for is_path in (0, 1)
    ),
    cures.tls_first("mail.example", 587),
    cures.tls_first("/run/lmtp", 0),
    cures.clear_first("mail.example", 465),
    cures.no_mail_server(80),
    *map(cures.no_starttls, (25, 465, 587)),
    cures.expired(),
    cures.wrong_name(["mail.example"]),
    cures.untrusted(),
    *(cures.client_certificate(is_given=given) for given in (True, False)),
    *map(cures.handshake, ("WRONG_VERSION_NUMBER", "HANDSHAKE_FAILURE", "EOF in violation of protocol")),
    *(cures.no_auth(starttls=offered) for offered in (True, False)),
    cures.exposed(),
    cures.no_mechanism(),
    cures.no_binding(),
    *(
        cures.refused_login(name, has_token=a, is_temporary=b)
        for name in ("PLAIN", "EXTERNAL", "GSSAPI")
        for a in (True, False)
        for b in (True, False)
    ),
    *(
        cures.of_reply(reply(f"530 5.7.0 {text}"), is_tls=a, is_logged_in=b)
        for text in TLS
        for a in (True, False)
        for b in (True, False)
    ),
    *(
        cures.of_reply(reply(f"450 {text}"), is_tls=True, is_logged_in=False)
        for text in ("No client certificate presented", "relay access denied", "greylisted")
    ),
    cures.no_smtputf8(),
    cures.several_addresses(2),
]
PYTHON = r"\w=[\"'(…]|\w\(|_\w+=|True|False|None|\bauth\b|ssl_context|RetryPolicy|SmtpPool|username"


@pytest.mark.parametrize("text", [*TEXTS, *SAID_BY_CHECK])
def test_the_command_hears_of_its_own_options(text: str) -> None:
    """Whoever types a command has no Python to write."""
    said = re.sub(r"--[a-z-]+|{.+?}|SSL_CERT_FILE=", "", cures.worded(text, "command"))
    assert re.findall(PYTHON, said) == []


@pytest.mark.parametrize("face", ["flask", "django", "mailers"])
@pytest.mark.parametrize("text", [*TEXTS, *SAID_BY_CHECK])
def test_a_web_application_hears_of_its_own_settings(text: str, face: cures.Face) -> None:
    """``tls`` is a keyword of Python and of no setting."""
    said = cures.worded(text, face)
    assert re.findall(r"\btls=|insecure_auth=|client_certificate=|token=|server_hostname=", said) == []
    assert face == "flask" or "://" not in said


def test_every_wording_is_of_a_text_that_is_said() -> None:
    told = " ".join([*TEXTS, *SAID_BY_CHECK])
    assert [phrase for phrase in cures._WORDINGS if phrase not in told] == []


def test_what_stands_for_an_option_is_not_taken_for_another_one() -> None:
    """As if all were replaced at once."""
    phrases = "|".join(map(re.escape, sorted(cures._WORDINGS, key=len, reverse=True)))
    for column, face in enumerate(cures._FACES[:2]):
        for text in [*TEXTS, *SAID_BY_CHECK]:
            at_once = re.sub(phrases, lambda found, at=column: cures._WORDINGS[found[0]][at], text)
            assert cures.worded(text, face) == at_once


def test_the_options_that_a_cure_names_exist() -> None:
    """Of the command, and of Django and Flask."""
    help_ = "".join(
        choice.format_help()
        for action in parser()._actions
        for choice in (action.choices or {}).values()
        if isinstance(choice, argparse.ArgumentParser)
    )
    named = {option for texts in cures._WORDINGS.values() for option in re.findall(r"--[a-z-]+", texts[0])}
    assert named
    assert all(re.search(rf"{option}\b", help_) for option in named)
