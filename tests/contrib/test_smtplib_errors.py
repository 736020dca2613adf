"""Errors that are both: what pysmtpx tells, and what a handler for smtplib catches and reads."""

from __future__ import annotations

import errno
import inspect
import pickle
import smtplib
import socket
import ssl

import pytest

from pysmtpx import AllRecipientsFailed, RejectedRecipient, Reply, Stage, errors
from pysmtpx.contrib.smtplib_errors import joined, smtplib_errors
from pysmtpx.extras import MissingExtra

KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.SmtpError)
]
NO = Reply(550, (b"5.1.1 unknown", b"5.1.1 really"))


def made(kind: type[errors.SmtpError], reply: Reply | None) -> errors.SmtpError:
    if issubclass(kind, errors.RecipientsRejected):
        return kind(1, [reply or NO])
    return kind("it failed", stage=Stage.MAIL, reply=reply)


@pytest.mark.parametrize("reply", [None, NO])
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_each_kind(kind: type[errors.SmtpError], reply: Reply | None) -> None:
    error = made(kind, reply)
    error.unsent_recipients = ("a@x.example",)
    error.add_note("a note")
    both = joined(error)
    assert isinstance(both, kind)
    assert isinstance(both, smtplib.SMTPException)
    assert both.errno is None
    assert (str(both), repr(both), both.args) == (str(error), repr(error), error.args)
    assert (both.temporary, both.safe_to_retry) == (error.temporary, error.safe_to_retry)
    assert {**vars(both), **vars(error)} == vars(both)
    assert joined(both) is both
    again = pickle.loads(pickle.dumps(both))
    assert type(again) is type(both)
    assert (str(again), vars(again)) == (str(both), vars(both))
    both.add_note("one more")
    assert error.__notes__ == ["a note"]


@pytest.mark.parametrize(
    ("kind", "standard"),
    [
        (errors.SenderRejected, smtplib.SMTPSenderRefused),
        (errors.DataRejected, smtplib.SMTPDataError),
        (errors.AuthenticationError, smtplib.SMTPAuthenticationError),
        (errors.MechanismUnavailable, smtplib.SMTPAuthenticationError),
        (errors.ConnectError, smtplib.SMTPConnectError),
        (errors.ServiceUnavailable, smtplib.SMTPResponseException),
        (errors.NotSupportedError, smtplib.SMTPNotSupportedError),
        (errors.ConnectionLost, smtplib.SMTPServerDisconnected),
        (errors.Timeout, smtplib.SMTPServerDisconnected),
    ],
)
def test_its_counterpart(kind: type[errors.SmtpError], standard: type[smtplib.SMTPException]) -> None:
    both = joined(made(kind, NO), "me@x.example")
    assert isinstance(both, standard)
    if isinstance(both, smtplib.SMTPResponseException):
        assert (both.smtp_code, both.smtp_error) == (550, b"5.1.1 unknown\n5.1.1 really")
    if isinstance(both, smtplib.SMTPSenderRefused):
        assert both.sender == "me@x.example"


def test_a_missing_extra() -> None:
    """It is an ``ImportError`` too, which cannot be an ``OSError``, as the exceptions of ``smtplib`` are."""
    error = MissingExtra("x is needed and not installed: pip install 'pysmtpx[x]'")
    both = joined(error)
    assert isinstance(both, errors.InputError)
    assert isinstance(both, smtplib.SMTPException)
    assert (str(both), type(both).__name__) == (str(error), "MissingExtra")
    assert joined(both) is both
    again = pickle.loads(pickle.dumps(both))
    assert (type(again), str(again)) == (type(both), str(both))


def test_in_doubt_is_no_lost_connection() -> None:
    assert not isinstance(joined(errors.DeliveryUnknown("x")), smtplib.SMTPServerDisconnected)


def test_refused_recipients() -> None:
    error = AllRecipientsFailed(1, [NO])
    error.rejected_recipients = (RejectedRecipient("a@x.example", NO, Stage.RCPT),)
    both = joined(error)
    assert isinstance(both, smtplib.SMTPRecipientsRefused)
    assert both.recipients == {"a@x.example": (550, b"5.1.1 unknown\n5.1.1 really")}


def test_where_it_was_raised_and_why() -> None:
    cause = OSError("the line")

    def fail() -> None:
        raise errors.ConnectionLost("gone") from cause

    with pytest.raises(smtplib.SMTPServerDisconnected, match="gone") as caught, smtplib_errors():
        fail()
    assert caught.value.__cause__ is cause
    assert caught.traceback[-1].name == "fail"
    with pytest.raises(KeyError), smtplib_errors():
        raise KeyError("not ours")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (errors.ConnectError, ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        (errors.ConnectError, socket.gaierror(socket.EAI_NONAME, "unknown")),
        (errors.TlsError, ssl.SSLCertVerificationError(1, "no")),
        (errors.TlsError, ssl.SSLEOFError(8, "gone")),
        (errors.TlsError, ConnectionResetError(errno.ECONNRESET, "reset")),
        (errors.TlsError, ValueError("no name")),
    ],
)
def test_the_error_of_the_system_behind_it(kind: type[errors.SmtpError], cause: Exception) -> None:
    error = kind("it failed")
    error.__cause__ = cause
    both = joined(error)
    for each in (both, pickle.loads(pickle.dumps(both))):
        assert isinstance(each, kind)
        assert isinstance(each, smtplib.SMTPException)
        assert isinstance(each, type(cause))
        assert each.errno == getattr(cause, "errno", None)
        assert each.text == "it failed"


def test_a_class_of_somebody_else_is_not_mixed_in() -> None:
    class Theirs(PermissionError):
        def __new__(cls, *args: object) -> Theirs:
            raise AssertionError("made without its arguments")

    error = errors.ConnectError("no")
    error.__cause__ = PermissionError.__new__(Theirs, errno.EPERM, "no")
    both = joined(error)
    assert isinstance(both, PermissionError)
    assert not isinstance(both, Theirs)
