"""Names, signatures, attributes and classes: those of the standard library of this Python."""

from __future__ import annotations

import inspect
import pickle
import smtplib as standard
import socket
from types import ModuleType

import pytest

import pysmtpx.smtplib as ours
from pysmtpx.testing import MailServer

CLASSES = ("SMTP", "SMTP_SSL", "LMTP")
OF_THE_MODULE = {"__builtins__", "__cached__", "__doc__", "__file__", "__loader__", "__name__", "__package__"}
OF_THE_MODULE |= {"__spec__", "__annotations__"}
METHODS = [
    (kind, name)
    for kind in CLASSES
    for name, found in inspect.getmembers(getattr(standard, kind), inspect.isfunction)
]


def test_the_module_has_every_name_of_the_standard_one() -> None:
    assert set(vars(standard)) - OF_THE_MODULE <= set(vars(ours))
    assert sorted(ours.__all__) == sorted(standard.__all__)
    exec("from pysmtpx.smtplib import *", found := {})
    assert set(standard.__all__) <= set(found)


def test_what_is_no_class_of_connections_is_the_standard_librarys_own() -> None:
    for name in set(vars(standard)) - OF_THE_MODULE - set(CLASSES) - {"__all__"}:
        assert getattr(ours, name) is getattr(standard, name), name


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_takes_the_same_arguments(kind: str) -> None:
    assert _shape(getattr(ours, kind)) == _shape(getattr(standard, kind))


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_a_method_takes_the_same_arguments(kind: str, name: str) -> None:
    method = getattr(getattr(ours, kind), name)
    assert _shape(method) == _shape(getattr(getattr(standard, kind), name))
    assert (
        inspect.getfullargspec(method)[:4]
        == inspect.getfullargspec(getattr(getattr(standard, kind), name))[:4]
    )


def _shape(callable_: object) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(callable_).parameters.values()  # type: ignore[arg-type]
    return [(each.name, each.kind, each.default) for each in parameters]


def test_attributes_of_the_classes_are_the_same() -> None:
    for kind in CLASSES:
        theirs, mine = getattr(standard, kind), getattr(ours, kind)
        for name in ("debuglevel", "sock", "file", "helo_resp", "ehlo_msg", "ehlo_resp", "does_esmtp"):
            assert getattr(mine, name) == getattr(theirs, name)
        assert mine.default_port == theirs.default_port
    assert ours.SMTP.vrfy is ours.SMTP.verify


def test_a_new_object_has_the_same_attributes(module: ModuleType) -> None:
    smtp = module.SMTP(local_hostname="me.example", timeout=7, source_address=("127.0.0.1", 0))
    assert (smtp.local_hostname, smtp.timeout, smtp.source_address) == ("me.example", 7, ("127.0.0.1", 0))
    assert (smtp.esmtp_features, smtp.command_encoding) == ({}, "ascii")
    assert getattr(smtp, "_host", "") == ""  # the standard library of 3.14.5 has none yet
    assert (smtp._auth_challenge_count, smtp.debuglevel, smtp.sock, smtp.file) == (0, 0, None, None)
    assert module.SMTP("").timeout is socket._GLOBAL_DEFAULT_TIMEOUT


def test_a_session_leaves_the_same_attributes(module: ModuleType) -> None:
    with MailServer(users={"u": "p"}, mechanisms=["PLAIN"], extensions=["SIZE 1000", "AUTH=LOGIN"]) as server:
        smtp = module.SMTP("127.0.0.1", server.port, "me.example", 5)
        assert smtp.sock.gettimeout() == 5
        assert smtp.ehlo() == (250, smtp.ehlo_resp)
        assert smtp.does_esmtp
        assert smtp.esmtp_features == {"size": "1000", "auth": " LOGIN"}
        assert smtp.has_extn("SIZE")
        assert smtp.helo_resp is None
        assert smtp.quit()[0] == 221
        assert (smtp.sock, smtp.file, smtp.ehlo_resp, smtp.esmtp_features) == (None, None, None, {})
        assert smtp.does_esmtp == 0
        smtp.close()


@pytest.mark.parametrize("kind", CLASSES)
def test_an_object_is_one_of_the_standard_class(kind: str) -> None:
    smtp = getattr(ours, kind)()
    assert isinstance(smtp, getattr(standard, kind))
    assert isinstance(smtp, standard.SMTP)
    assert isinstance(smtp, ours.SMTP)
    assert type(smtp).__module__ == "pysmtpx.smtplib"


@pytest.mark.parametrize(
    "error",
    [
        ours.SMTPSenderRefused(550, b"no", "ann@example.org"),
        ours.SMTPRecipientsRefused({"bob@example.com": (550, b"no")}),
        ours.SMTPDataError(451, b"later"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_are_pickled(error: OSError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, again.errno) == (type(error), error.args, None)


def test_the_name_for_ehlo_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> str:
        raise AssertionError("a resolver was asked")

    with MailServer() as server:
        monkeypatch.setattr(socket, "getfqdn", look_up)
        monkeypatch.setattr(socket, "gethostbyname", look_up)
        monkeypatch.setattr(socket, "gethostname", lambda: "short")
        with ours.SMTP("127.0.0.1", server.port) as smtp:
            assert smtp.local_hostname == "[127.0.0.1]"
            assert smtp.ehlo()[0] == 250
            smtp.local_hostname = "other.example"
            assert smtp.local_hostname == "other.example"
        assert ours.SMTP().local_hostname == "[127.0.0.1]"
        monkeypatch.setattr(socket, "gethostname", lambda: "mail.example.org")
        assert ours.SMTP().local_hostname == "mail.example.org"
