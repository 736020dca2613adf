"""What a broker can do that is in other hands: neither write mail, nor change it, nor learn a key."""

from __future__ import annotations

import copy
import hmac
import json
import logging
import pickle
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Retry
from support.frames import shown

from pysmtpx import InputError, MailObject, MessageTooLarge, RetryPolicy
from pysmtpx.contrib.celery import SendFailed, enqueue, register
from pysmtpx.contrib.queueing import signing
from pysmtpx.contrib.queueing.signing import Keys
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import Event, MailServer

KEY = "0123456789abcdef-secret-key"
OLD = b"\x00\xff-an-older-secret-key"
QUICK = RetryPolicy(attempts=3, backoff=0.01, temporary=True)


def mail(*recipients: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> MailObject:
    return MailObject("s@x.example", recipients or ("a@x.example", "b@x.example"), content)


class Broker:
    """Keeps what is published, as JSON has it."""

    def __init__(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        monkeypatch.setattr(app, "send_task", self._take)

    def _take(self, name: str, kwargs: dict[str, Any], **_: Any) -> None:
        self.calls.append(json.loads(json.dumps(kwargs)))


@pytest.fixture
def broker(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(app, monkeypatch)


def signed(app: Celery, broker: Broker, keys: Any = KEY, name: str = "pysmtpx.send") -> dict[str, Any]:
    """What goes to the broker while the task is not known here: from a process that only enqueues."""
    enqueue(app, mail(), name=name, signing_keys=keys)
    return broker.calls[-1]


def test_what_was_signed_is_sent(app: Celery, broker: Broker) -> None:
    call = signed(app, broker)
    with MailServer() as server:
        task = register(app, server.url, signing_keys=KEY)
        assert task(**call)["status"] == "accepted"
        assert len(server.messages) == 1


def test_a_key_makes_the_difference_and_nothing_else(eager: Celery) -> None:
    with MailServer() as server:
        task = register(eager, server.url, signing_keys=[KEY, OLD])
        assert enqueue(task, mail()).get()["status"] == "accepted"  # signed by the task's own key
        with pytest.raises(InputError, match="wrong"):
            enqueue(task, mail(), signing_keys="another key of some length").get()
        assert enqueue(task, mail(), signing_keys=OLD).get()["status"] == "accepted"
        assert len(server.messages) == 2


CHANGES: dict[str, Any] = {
    "sender": lambda call: call["payload"].update(sender="evil@x.example"),
    "recipients": lambda call: call["payload"]["recipients"].append("evil@x.example"),
    "their order": lambda call: call["payload"]["recipients"].reverse(),
    "content": lambda call: call["payload"].update(content="Subject: evil\r\n\r\n"),
    "all_or_nothing": lambda call: call["payload"].update(all_or_nothing=True),
    "a number for a truth": lambda call: call["payload"].update(all_or_nothing=0),
    "parameters": lambda call: call["payload"].update(mail_params={"ret": "HDRS"}),
    "another key of the payload": lambda call: call["payload"].update(more=1),
    "an account": lambda call: call.update(account={"version": 1}),
    "no signature": lambda call: call.pop("signature"),
    "None": lambda call: call.update(signature=None),
    "empty": lambda call: call.update(signature=""),
    "octets": lambda call: call.update(signature=b"x"),
    "not ASCII": lambda call: call.update(signature="ü" * 64),
    "one digit": lambda call: call.update(signature=call["signature"][:-1] + "g"),
    "shorter": lambda call: call.update(signature=call["signature"][:-2]),
    "upper case": lambda call: call.update(signature=call["signature"].upper() + "A"),
    "nonsense": lambda call: call.update(payload=[[]]),
    "no payload": lambda call: call.update(payload=None),
    "not JSON": lambda call: call["payload"].update(content=object()),
    "not a number": lambda call: call["payload"].update(content=float("nan")),
    "a loop": lambda call: call["payload"].update(content=call["payload"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_refused(app: Celery, broker: Broker, change: str) -> None:
    call = copy.deepcopy(signed(app, broker))
    CHANGES[change](call)
    with MailServer() as server:
        task = register(app, server.url, signing_keys=KEY)
        with pytest.raises(InputError) as caught:
            task(**call)
        assert not server.messages
    assert KEY not in shown(caught.value)


def test_a_deep_payload_is_refused(app: Celery) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    task = register(app, "smtp://127.0.0.1:1", signing_keys=KEY)
    with pytest.raises(InputError):
        task({"version": deep}, None, "x" * 64)
    while deep:  # or the end of it would be as deep
        deep = deep.pop()


def test_a_call_of_one_task_is_none_of_another(app: Celery, broker: Broker) -> None:
    call = signed(app, broker, name="mail.bulk")
    with MailServer() as server:
        bulk = register(app, server.url, name="mail.bulk", signing_keys=KEY)
        other = register(app, server.url, name="mail.alarm", signing_keys=KEY)
        with pytest.raises(InputError, match="wrong"):
            other(**call)
        assert bulk(**call)["status"] == "accepted"


def test_without_a_key_a_signature_means_nothing(app: Celery, broker: Broker) -> None:
    """So that producers can begin to sign before the workers ask for it."""
    call = signed(app, broker)
    with MailServer() as server:
        assert register(app, server.url)(**call)["status"] == "accepted"
        assert register(app, server.url, name="b")(pack(make_submission(mail())))["status"] == "accepted"


@pytest.mark.parametrize(
    ("signs", "verifies", "is_taken"),
    [
        (OLD, [OLD], True),
        (OLD, [OLD, KEY], True),  # first the workers learn the new key
        (OLD, [KEY, OLD], True),
        ([KEY, OLD], [KEY, OLD], True),  # then the producers sign by it
        ([KEY, OLD], [KEY], True),  # then the old one goes
        (OLD, [KEY], False),
        ([OLD, KEY], [KEY], False),
    ],
)
def test_one_key_follows_another(
    app: Celery, broker: Broker, signs: Any, verifies: Any, is_taken: bool
) -> None:
    call = signed(app, broker, signs)
    with MailServer() as server:
        task = register(app, server.url, signing_keys=verifies)
        if is_taken:
            assert task(**call)["status"] == "accepted"
        else:
            with pytest.raises(InputError, match="wrong"):
                task(**call)
        assert len(server.messages) == is_taken


@pytest.mark.parametrize("where", ["update", "namespace"])
def test_the_key_stands_in_the_settings_of_the_app(make_app: Any, where: str) -> None:
    app = make_app(task_always_eager=True, task_store_eager_result=True)
    if where == "update":
        app.conf.pysmtpx_signing_keys = [KEY]
    else:
        app.config_from_object(
            {
                "CELERY_PYSMTPX_SIGNING_KEYS": KEY,
                "CELERY_TASK_ALWAYS_EAGER": True,
                "CELERY_BROKER_URL": "memory://",
            },
            namespace="CELERY",
        )
    with MailServer() as server:
        task = register(app, server.url)
        with pytest.raises(InputError, match="not signed"):
            task(pack(make_submission(mail())))
        assert enqueue(task, mail()).get()["status"] == "accepted"
        assert enqueue(app, mail()).get()["status"] == "accepted"
    assert KEY not in app.bugreport()
    assert KEY not in str(app.conf.humanize(with_defaults=False))


def test_the_next_try_is_signed_with_its_account(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def once(event: Event) -> str | None:
        return (
            "451 4.3.0 later"
            if event.verb == "RCPT" and event.address == "b@x.example" and not calls
            else None
        )

    with MailServer(verdict=once) as server:
        task = register(app, server.url, signing_keys=[KEY, OLD], retry=QUICK)

        def retry(**options: Any) -> Exception:
            calls.append(json.loads(json.dumps(options["kwargs"])))
            return Retry()

        monkeypatch.setattr(task, "retry", retry)
        monkeypatch.setattr(type(task.request), "called_directly", False, raising=False)
        first = {"payload": pack(make_submission(mail()))}
        first["signature"] = Keys([OLD]).sign(task.name, first["payload"], None)
        with pytest.raises(Retry):
            task(**first)
        (again,) = calls
        without = {name: value for name, value in again.items() if name != "account"}
        changed = copy.deepcopy(again)
        changed["account"]["owed"] = [0, 1]
        for wrong in (without, changed, again | {"signature": first["signature"]}):
            with pytest.raises(InputError, match="wrong"):
                task(**wrong)
        assert task(**again)["attempts"] == 2
        assert [message.addresses for message in server.messages] == [["a@x.example"], ["b@x.example"]]


# Keys.


@pytest.mark.parametrize(
    "keys",
    ["", b"", [], (), "too short", b"x" * 15, [KEY, ""], [KEY, None], [None], 7, {KEY: 1}, [[KEY]], object()],
)
def test_keys_that_are_none(app: Celery, keys: Any) -> None:
    """A variable that is not set must not switch the signatures off."""
    with pytest.raises(InputError, match="16 octets") as caught:
        register(app, "smtp://127.0.0.1:1", signing_keys=keys)
    assert KEY not in shown(caught.value)
    with pytest.raises(InputError, match="16 octets") as caught:
        enqueue(app, mail(), signing_keys=keys)
    assert KEY not in shown(caught.value)
    app.conf.pysmtpx_signing_keys = keys
    with pytest.raises(InputError, match="16 octets"):
        enqueue(app, mail())


def test_nobody_sees_a_key(app: Celery, broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = Keys.of([KEY, OLD])
    assert repr(keys) == str(keys) == "<2 signing keys>"
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(keys)
    task = register(app, "smtp://robot:pass-phrase@127.0.0.1:1", signing_keys=KEY)
    with pytest.raises(SendFailed):
        task(**signed_by(task))
    with pytest.raises(InputError) as caught:
        task(pack(make_submission(mail())))
    seen = shown(caught.value) + caplog.text + repr(task) + repr(broker.calls)
    assert KEY not in seen
    assert "pass-phrase" not in seen


def signed_by(task: Any) -> dict[str, Any]:
    payload = pack(make_submission(mail()))
    return {"payload": payload, "signature": Keys([KEY.encode()]).sign(task.name, payload, None)}


@pytest.mark.parametrize(
    "options",
    [
        {"nonsense": 1},
        {"max_connections": -1},
        {"password": "pass-phrase", "username": 7},
        {"signing_keys": "pass-phrase"},
        {"retry": "pass-phrase?"},
        {"task_options": {"bind": True}},
    ],
)
def test_a_wrong_registration_shows_no_secret(app: Celery, options: dict[str, Any]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        register(app, "smtp://robot:pass-phrase@127.0.0.1:1", **{"signing_keys": KEY} | options)
    assert KEY not in shown(caught.value)
    assert "pass-phrase" not in shown(caught.value).replace("pass-phrase?", "")


def test_a_server_that_cannot_be_made_in_the_worker_shows_no_secret(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    task = register(app, lambda: "smtp://robot:pass-phrase@127.0.0.1:1?nonsense=1", signing_keys=KEY)
    with pytest.raises(SendFailed) as caught:
        task(**signed_by(task))
    assert "pass-phrase" not in shown(caught.value) + caplog.text
    for record in caplog.records:
        if record.exc_info and record.exc_info[1]:
            assert "pass-phrase" not in shown(record.exc_info[1])


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []

    class Hmac:
        digest = hmac.digest

        @staticmethod
        def compare_digest(one: str, other: str) -> bool:
            compared.append(hmac.compare_digest(one, other))
            return compared[-1]

    monkeypatch.setattr(signing, "hmac", Hmac)
    keys = Keys([KEY.encode(), OLD])
    keys.verify(keys.sign("a", {}, None), "a", {}, None)
    assert compared == [True, False]


# The size.


def test_a_worker_refuses_what_enqueue_refuses(app: Celery) -> None:
    big = mail(content=b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n")
    with MailServer() as server:
        task = register(app, server.url, max_size=80)
        with pytest.raises(MessageTooLarge):
            enqueue(task, big)
        with pytest.raises(MessageTooLarge, match="80"):
            task(pack(make_submission(big)))
        assert (
            register(app, server.url, name="b", max_size=86)(pack(make_submission(big)))["status"]
            == "accepted"
        )
        assert len(server.messages) == 1


def test_the_size_is_looked_at_before_anything_is_made_of_the_content(app: Celery) -> None:
    payload = pack(make_submission(mail())) | {"content": "!" * 11_000_000, "encoding": "base64"}
    task = register(app, "smtp://127.0.0.1:1")
    with pytest.raises(MessageTooLarge, match=str(10 * 1024 * 1024)):
        task(payload)
