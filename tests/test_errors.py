"""What errors say: enough to act on, and never the content of a message."""

from __future__ import annotations

import pickle
from email.message import EmailMessage, Message

import pytest
from support.messages import FULL, NOTHING, legacy, simple

from pysmtpx import errors
from pysmtpx.errors import AllRecipientsFailed, RecipientsRejected, SmtpError
from pysmtpx.message import prepare
from pysmtpx.wire.address import ForwardPath
from pysmtpx.wire.params import MailFromParams, RcptToParams
from pysmtpx.wire.reply import Reply

MILLION = 1_000_000
KINDS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, SmtpError) and not issubclass(each, RecipientsRejected)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_cut_and_the_reply_kept(kind):
    reply = Reply(550, (b"y" * MILLION,))
    error = kind("x" * MILLION, reply=reply)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert len(str(each)) < 1100
        assert len(repr(each)) < 1100
        assert str(each).startswith("xxx")
        assert str(each).endswith("y…")
        assert each.reply == reply
    assert str(kind("short", reply=Reply(550, (b"no",)))) == "short: 550 no"
    assert (str(kind("short")), str(kind(reply=Reply(550, (b"no",)))), str(kind())) == ("short", "550 no", "")


@pytest.mark.parametrize("kind", [RecipientsRejected, AllRecipientsFailed])
def test_of_refused_recipients(kind):
    error = kind(2, [Reply(550, (b"y" * MILLION,))])
    assert len(str(error)) < 600


@pytest.mark.once
def test_an_argument_of_a_million_characters():
    long = "secret " * (MILLION // 7)
    calls = [
        lambda: ForwardPath(long),
        lambda: ForwardPath(f"a@{long}"),
        lambda: MailFromParams(envid=long + "\n"),
        lambda: MailFromParams(extra={long: None}),
        lambda: RcptToParams(notify=[long]),
        lambda: RcptToParams(orcpt=long),
        lambda: prepare(simple(), FULL, recipients=[f"{n}ü@x.org\n" for n in range(100_000)]),
        lambda: prepare(simple(), NOTHING, recipients=[f"ü{n}@x.org" for n in range(100_000)]),
        lambda: prepare(b"From: " + long.encode() + b"\n\n", FULL),
        lambda: prepare(long.encode(), FULL),
    ]
    for call in calls:
        with pytest.raises(SmtpError) as caught:
            call()
        assert len(str(caught.value)) < 600
        assert len(repr(caught.value)) < 700


def _body(text: str) -> Message:
    return legacy(body=text)


@pytest.mark.parametrize("capabilities", [NOTHING, FULL])
@pytest.mark.parametrize("secret", ["geheimé ", "secret\udcff", "secret" * 200, "secret\0"])
@pytest.mark.parametrize(
    "make",
    [
        _body,
        lambda text: legacy(("Subject", text)),
        lambda text: legacy(("Content-Type", f"multipart/signed; x={text}")),
        lambda text: legacy(("Content-Type", f"message/x; x={text}"), body=text),
        lambda text: legacy(("Content-Transfer-Encoding", "base64"), body=f"x{text}"),
        lambda text: legacy(("DKIM-Signature", "v=1"), body=text),
        lambda text: legacy(("DKIM-Signature", "v=1"), ("Subject", text)),
        lambda text: legacy(("Content-Disposition", f"{text}; x={text}")),
    ],
)
def test_no_content_of_a_message(make, secret, capabilities):
    """A refusal names the place, and says nothing of what stands there."""
    message = make(secret * 1000)
    told = ""
    try:
        prepare(message, capabilities, sender="a@x.org", recipients=["b@x.org"])
    except SmtpError as error:
        told = f"{error}{error!r}"
    assert "secretsecret" not in told
    assert "geheim" not in told


def test_text_in_no_charset_is_not_told():
    message = EmailMessage()
    message["From"], message["To"] = "a@x.org", "b@x.org"
    message.set_payload("geheimé" * (MILLION // 7))
    with pytest.raises(SmtpError, match="text/plain part has text in no charset") as caught:
        prepare(message, FULL)
    error: BaseException | None = caught.value
    while error is not None:
        assert "geheim" not in repr(error)[:10_000]
        error = error.__cause__
