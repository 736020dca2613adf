"""Any message and envelope comes out of JSON as it went in, and nothing else is taken for one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import (
    DeliverBy,
    ForwardPath,
    InputError,
    MailFromParams,
    MailObject,
    MessageTooLarge,
    NotSupportedError,
    RcptToParams,
    ReversePath,
    UsageError,
)
from pysmtpx.payload import Submission, make_submission, pack, unpack
from pysmtpx.pooling.job import Envelope

LINE = b"Subject: x\r\n\r\nhello\r\n"

atoms = st.text("abcxyz0189!#$%&'*+/=?^_`{|}~-äßλ中", min_size=1, max_size=20)
domains = st.sampled_from(["x.example", "münchen.example", "[192.0.2.1]", "a-b.example"])
addresses = st.builds("{}@{}".format, atoms, domains) | st.just('"a b"@x.example')
times = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
bys = st.builds(DeliverBy, st.integers(1, 1000), st.sampled_from("NR"), st.booleans())
extras = st.dictionaries(st.sampled_from(["XONE", "X-TWO"]), st.none() | st.just("value"))
mail_params = st.builds(
    MailFromParams,
    size=st.none() | st.integers(0, 10**12),
    body=st.sampled_from([None, "7BIT", "8BITMIME", "BINARYMIME"]),
    smtputf8=st.booleans(),
    ret=st.sampled_from([None, "FULL", "HDRS"]),
    envid=st.none() | st.text("ab+= ", min_size=1, max_size=20),
    auth=st.sampled_from([None, "<>", "a@x.example"]),
    requiretls=st.booleans(),
    mt_priority=st.none() | st.integers(-9, 9),
    holduntil=st.none() | times,
    by=st.none() | bys,
    extra=extras,
)
notify = st.just(("NEVER",)) | st.sets(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"])).map(sorted)
rcpt_params = st.builds(
    RcptToParams,
    notify=notify,
    orcpt=st.sampled_from([None, "rfc822;a@x.example", "ä@x.example"]),
    rrvs=st.none() | times | st.just("2014-04-03T23:01:00Z;C"),
    extra=extras,
)
recipients = st.lists(addresses, min_size=1, max_size=5)


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    paths = draw(recipients)
    each = st.lists(st.none() | rcpt_params, min_size=len(paths), max_size=len(paths))
    mail = MailObject(
        draw(addresses | st.just("")),
        paths,
        draw(st.binary(max_size=300) | st.text("ab\r\n.\0\x7f", max_size=300).map(str.encode)),
        mail_params=draw(st.none() | mail_params),
        rcpt_params=draw(st.none() | each),
    )
    return Submission(mail, draw(st.booleans()), draw(st.booleans()))


def octets(mail: MailObject) -> bytes:
    return b"".join(mail.content.for_bdat(binary=True))


def pairs(mail: MailObject) -> list[Any]:
    return [
        [] if params is None else params.items() for params in (mail.mail_params, *(mail.rcpt_params or ()))
    ]


@given(submissions())
def test_a_submission_survives_json(sent: Submission) -> None:
    arrived = unpack(json.loads(json.dumps(pack(sent))))
    assert (arrived.all_or_nothing, arrived.allow_long_lines) == (sent.all_or_nothing, sent.allow_long_lines)
    assert (arrived.mail.sender, arrived.mail.recipients) == (sent.mail.sender, sent.mail.recipients)
    assert octets(arrived.mail) == octets(sent.mail)
    assert pairs(arrived.mail) == pairs(sent.mail)


@given(submissions())
def test_a_payload_is_what_its_reader_would_write(sent: Submission) -> None:
    payload = pack(sent)
    assert pack(unpack(payload)) == payload


text = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)


@given(text, text, text)
def test_an_email_message_is_whole_before_it_travels(subject: str, name: str, body: str) -> None:
    message = EmailMessage()
    message["From"] = "s@x.example"
    message["To"] = f'"{name.translate(str.maketrans("", "", chr(34) + chr(92)))}" <a@x.example>'
    message["Bcc"] = "b@x.example"
    message["Subject"] = subject
    message.set_content(body)
    payload = json.loads(json.dumps(pack(make_submission(message))))
    assert payload["encoding"] == "7bit", "a server without 8BITMIME could not take it"
    mail = unpack(payload).mail
    assert mail.recipients == ("a@x.example", "b@x.example")
    arrived = message_from_bytes(octets(mail), policy=policy.default)
    assert "Bcc:" not in arrived
    assert len(arrived.get_all("Date", [])) == len(arrived.get_all("Message-ID", [])) == 1
    assert arrived["Subject"] == subject
    assert arrived.get_content().splitlines() == [body]
    assert "Bcc" in message, "the caller's message stays as it is"


def test_what_can_be_read_once_is_read_when_it_is_enqueued() -> None:
    chunks = MailObject("s@x.example", "a@x.example", iter([LINE, b"more\r\n"]))
    assert pack(make_submission(chunks))["content"] == (LINE + b"more\r\n").decode()
    file = BytesIO(b"From: s@x.example\r\nTo: a@x.example\r\nBcc: b@x.example\r\n\r\nhello\r\n")
    payload = pack(make_submission(file))
    assert payload["recipients"] == ["a@x.example", "b@x.example"]
    assert "Bcc:" not in payload["content"]


def test_a_signed_message_keeps_its_octets() -> None:
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"] = "s@x.example", "a@x.example"
    message["DKIM-Signature"] = "v=1; b=abc"
    message.set_content("grüße\n", cte="8bit")
    payload = pack(make_submission(message))
    assert payload["encoding"] == "base64"
    assert "grüße".encode() in octets(unpack(payload).mail)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"Subject: x\r\n\r\nnul \0\r\n", NotSupportedError),
        (b"Subject: x\r\n\r\n" + b"a" * 999 + b"\r\n", NotSupportedError),
        (b"Subject: x\r\n\r\n" + b"hello\r\n" * 100, MessageTooLarge),
    ],
)
def test_what_no_server_takes_is_found_at_once(content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        make_submission(
            MailObject("s@x.example", "a@x.example", content),
            max_size=500 if error is MessageTooLarge else 9999,
        )


def test_base64_counts_for_the_size() -> None:
    mail = MailObject("s@x.example", "a@x.example", b"Subject: x\r\n\r\n" + "ä".encode() * 100)
    with pytest.raises(MessageTooLarge, match="250 octets"):
        pack(make_submission(mail, max_size=250), 250)
    assert pack(make_submission(mail, max_size=300), 300)["encoding"] == "base64"


def test_long_lines_and_parameters_pass_where_they_were_asked_for() -> None:
    params = MailFromParams(requiretls=True, holdfor=60, extra={"XFOO": "bar"})
    content = b"Subject: x\r\n\r\n" + b"a" * 1200 + b"\r\n"
    mail = MailObject(
        "s@x.example",
        "a@x.example",
        content,
        mail_params=params,
        rcpt_params=[RcptToParams(extra={"XBAR": None})],
    )
    arrived = unpack(pack(make_submission(mail, allow_long_lines=True)))
    assert arrived.allow_long_lines
    assert pairs(arrived.mail) == pairs(mail)


def test_a_mail_object_has_an_envelope_of_its_own() -> None:
    with pytest.raises(UsageError):
        make_submission(MailObject("s@x.example", "a@x.example", LINE), Envelope("t@x.example"))


GOOD = pack(make_submission(MailObject("s@x.example", ["a@x.example"], LINE)))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(plain)
def test_no_other_value_is_taken_for_a_payload(value: Any) -> None:
    with pytest.raises(InputError):
        unpack(value)


@given(st.sampled_from(sorted(GOOD)), plain)
def test_a_payload_with_another_value_in_it_is_refused_or_means_it(key: str, value: Any) -> None:
    payload = {**GOOD, key: value}
    try:
        arrived = unpack(payload)
    except InputError:
        return
    again = pack(arrived)
    assert {**again, key: None} == {**payload, key: None}
    # An empty set of parameters is one where nothing is set.
    assert again[key] == value or key in ("mail_params", "rcpt_params")


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1]])
def test_another_version_is_refused_by_name(version: object) -> None:
    with pytest.raises(InputError, match="version"):
        unpack({**GOOD, "version": version})


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"sender": "a@x>\r\nRCPT TO:<b@x"},
        {"recipients": []},
        {"recipients": "a@x.example"},
        {"content": "ä", "encoding": "7bit"},
        {"content": "ab c", "encoding": "base64"},
        {"encoding": "8bit"},
        {"mail_params": {"_pairs": [["X", "Y"]]}},
        {"mail_params": {"by": 3}},
        {"mail_params": {"nonsense": 3}},
        {"mail_params": {"envid": "\n"}},
        {"rcpt_params": [{}, {}]},
        {"rcpt_params": 7},
        {"all_or_nothing": 1},
    ],
)
def test_a_malformed_payload_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="malformed"):
        unpack({**GOOD, **change})


def test_what_only_some_servers_take_is_for_the_worker_to_judge() -> None:
    """Who insisted does so after the journey too."""
    insisted = [ForwardPath("root", strict=False), "ann@x.example", "daemon"]
    sent = make_submission(MailObject(ReversePath("me", strict=False), insisted, LINE))
    payload = json.loads(json.dumps(pack(sent)))
    arrived = unpack(payload).mail
    assert (arrived.sender, arrived.recipients) == ("me", ("root", "ann@x.example", "daemon"))
    assert [bool(path.doubt) for path in (arrived.sender, *arrived.recipients)] == [False, False, False, True]
    assert pack(unpack(payload)) == payload
    for wrong in ("root", [1], None, [["root"]]):
        with pytest.raises(InputError):
            unpack({**payload, "insisted": wrong})
