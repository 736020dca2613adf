"""No error holds more of a stranger's text than one can read, whoever raises it and however it is shown."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from django.core.exceptions import ImproperlyConfigured

import pysmtpx
from pysmtpx import smtplib
from pysmtpx.contrib import django, flask
from pysmtpx.contrib.django.message import path_of
from pysmtpx.contrib.queueing.tries import SendFailed
from pysmtpx.shortening import listed, shortened, shown
from pysmtpx.wire.result import RejectedRecipient

MUCH = "a stranger's text " * 100_000
MOST = 700
REPLY = pysmtpx.Reply(550, tuple(b"x" * 500 for _ in range(100)))


def of_lines(text: str) -> object:
    return smtplib.SMTP().putcmd(f"NOOP {text}\r\nMAIL")


CALLS: dict[str, Callable[[], object]] = {
    "putcmd with a line end": lambda: of_lines(MUCH),
    "putcmd with NUL": lambda: smtplib.SMTP().putcmd(f"NOOP {MUCH}\0"),
    "docmd": lambda: smtplib.SMTP().docmd("NOOP", f"{MUCH}\n"),
    "helo": lambda: smtplib.SMTP().helo(f"{MUCH}\n"),
    "verify": lambda: smtplib.SMTP().verify(f"{MUCH}\n"),
    "mail": lambda: smtplib.SMTP().mail(f"a@x.example\n{MUCH}"),
    "rcpt": lambda: smtplib.SMTP().rcpt(f"<a@x.example> {MUCH}"),
    "a path": lambda: pysmtpx.ForwardPath(MUCH),
    "a domain": lambda: pysmtpx.ForwardPath(f"a@{MUCH}"),
    "a host": lambda: pysmtpx.Server(MUCH),
    "a URL": lambda: pysmtpx.Server.from_url(f"smtp://{MUCH}:1:2"),
    "a mechanism": lambda: pysmtpx.Server("h", username="u", password="p", auth=(MUCH,)),  # type: ignore[arg-type]
    "a recipient of Django's": lambda: path_of(pysmtpx.ForwardPath, "To", MUCH),
    "an option of Django's": lambda: django.EmailBackend(host="h", **{MUCH: 1}),
    "an address of Flask's": lambda: flask.sanitize_address(MUCH[:8000]),
    "octets of Flask's": lambda: flask.force_text(b"\xff" + MUCH.encode()),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_argument(name: str) -> None:
    with pytest.raises((ValueError, ImproperlyConfigured)) as caught:
        CALLS[name]()
    said = [str(caught.value), *traceback.format_exception_only(caught.value)]
    if not isinstance(caught.value, UnicodeError):  # whose repr is that of the standard library
        said.append(repr(caught.value))
    assert max(map(len, said)) < MOST


def test_all_that_an_error_of_ours_shows() -> None:
    refused = pysmtpx.AllRecipientsFailed(1000, [REPLY] * 1000)
    refused.rejected_recipients = (RejectedRecipient("a@x.example", REPLY, pysmtpx.Stage.RCPT),) * 1000
    failed = SendFailed({"status": "unsent", "unsent": [MUCH] * 10})
    for error in (refused, failed, pysmtpx.DataRejected(MUCH, reply=REPLY)):
        for text in (str(error), repr(error)):
            assert 10 < len(text) < 2 * MOST


def test_a_list_names_as_many_as_can_be_read() -> None:
    assert listed(["a@x.example", "b@x.example"]) == "a@x.example, b@x.example"
    many = [f"user{number}@x.example" for number in range(10_000)]
    text = listed(many)
    assert text.startswith("user0@x.example, user1@x.example, ")
    named, _, rest = text.rpartition(" and ")
    assert len(named.split(", ")) + int(rest.removesuffix(" more")) == len(many)
    assert len(text) < 4100
    assert len(listed([MUCH])) < MOST


def test_what_is_short_stays() -> None:
    assert (shortened("x" * 500), shown("a\nb"), listed([])) == ("x" * 500, r"'a\nb'", "")
    assert len(shortened(MUCH)) == 500
