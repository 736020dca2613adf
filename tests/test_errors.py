"""What errors say: enough to act on, and never the content of a message."""

from __future__ import annotations

import copy
import pickle
from email.message import EmailMessage, Message

import pytest
from support.messages import FULL, NOTHING, legacy, simple

from pysmtpx import errors
from pysmtpx.errors import AllRecipientsFailed, RecipientsRejected, SmtpError
from pysmtpx.message import prepare
from pysmtpx.wire.address import ForwardPath
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.params import MailFromParams, RcptToParams
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import RejectedRecipient

pytestmark = pytest.mark.slow

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
        assert each.text.endswith("y…")
        assert each.reply == reply
    no, end = Reply(550, (b"no",)), f"[{kind.__name__.lower()}]"
    assert str(kind("short", reply=no)) == f"short: 550 no {end}"
    assert str(kind("short", reply=no, cure="Do this.")) == f"short: 550 no. Do this. {end}"
    assert (str(kind("short")), str(kind(reply=no)), str(kind())) == (f"short {end}", f"550 no {end}", end)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cure_is_kept_and_the_name_of_the_section_ends_the_text(kind):
    """Also in what somebody derives from it: docs/troubleshooting.md has a section for each of ours only."""
    error = type("Own", (kind,), {})("short", cure="Do this.")
    assert str(error) == f"short. Do this. [{kind.__name__.lower()}]"
    for each in (pickle.loads(pickle.dumps(kind("short", cure="Do this."))), copy.copy(error)):
        assert (each.text, each.cure) == ("short. Do this.", "Do this.")


def _refused(*texts: str) -> AllRecipientsFailed:
    replies = [Reply(550, (text.encode(),)) for text in texts]
    error = AllRecipientsFailed(len(texts), replies)
    error.rejected_recipients = tuple(
        RejectedRecipient(f"user{place}@x.example", reply, Stage.RCPT) for place, reply in enumerate(replies)
    )
    return error


def test_who_was_refused():
    """The first three with their replies, and how many more."""
    assert _refused("no").text == "1 of 1 recipients were refused: user0@x.example (550 no)"
    assert _refused("no", "never").text == (
        "2 of 2 recipients were refused: user0@x.example (550 no), user1@x.example (550 never)"
    )
    assert _refused(*["relay denied"] * 1000).text == (
        "1000 of 1000 recipients were refused: user0@x.example, user1@x.example, user2@x.example"
        " and 997 more (550 relay denied)"
    )
    text = _refused("a", "b", "c", "d", "e").text
    assert text.endswith("user2@x.example (550 c) and 2 more")
    assert len(_refused(*(f"{n}{'y' * MILLION}" for n in range(5))).text) < 800


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
    message = make((secret * 1000)[:10_000])
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
