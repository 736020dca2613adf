"""ESMTP parameters: values, their form on the wire, and the extension that each needs."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.params import DeliverBy, MailFromParams, RcptToParams, xtext

CONTROLS = [chr(n) for n in (*range(0x20), *range(0x7F, 0xA0))]
BERLIN = timezone(timedelta(hours=2))
MOMENT = "2030-01-01T00:00:00Z"

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "SIZE": ("1000",),
    "8BITMIME": (),
    "BINARYMIME": (),
    "CHUNKING": (),
    "SMTPUTF8": (),
    "DSN": (),
    "AUTH": ("PLAIN",),
    "REQUIRETLS": (),
    "MT-PRIORITY": (),
    "FUTURERELEASE": ("9999", "2099-01-01T00:00:00Z"),
    "DELIVERBY": (),
    "RRVS": (),
    "XVERP": (),
}

MAIL_CASES: list[tuple[dict[str, Any], tuple[str, str | None], str]] = [
    ({"size": 0}, ("SIZE", "0"), "SIZE"),
    ({"size": 10**20 - 1}, ("SIZE", "9" * 20), "SIZE"),
    ({"body": "7BIT"}, ("BODY", "7BIT"), "8BITMIME"),
    ({"body": "8BITMIME"}, ("BODY", "8BITMIME"), "8BITMIME"),
    ({"body": "BINARYMIME"}, ("BODY", "BINARYMIME"), "BINARYMIME"),
    ({"smtputf8": True}, ("SMTPUTF8", None), "SMTPUTF8"),
    ({"ret": "FULL"}, ("RET", "FULL"), "DSN"),
    ({"ret": "HDRS"}, ("RET", "HDRS"), "DSN"),
    ({"envid": "QQ 1+1=2"}, ("ENVID", "QQ+201+2B1+3D2"), "DSN"),
    ({"envid": "e" * 100}, ("ENVID", "e" * 100), "DSN"),
    ({"auth": "<>"}, ("AUTH", "<>"), "AUTH"),
    ({"auth": "e=mc2@example.com"}, ("AUTH", "e+3Dmc2@example.com"), "AUTH"),
    ({"auth": '"a b"@bücher.de'}, ("AUTH", '"a+20b"@xn--bcher-kva.de'), "AUTH"),
    ({"requiretls": True}, ("REQUIRETLS", None), "REQUIRETLS"),
    ({"mt_priority": -9}, ("MT-PRIORITY", "-9"), "MT-PRIORITY"),
    ({"mt_priority": 0}, ("MT-PRIORITY", "0"), "MT-PRIORITY"),
    ({"holdfor": 1}, ("HOLDFOR", "1"), "FUTURERELEASE"),
    (
        {"holduntil": datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=BERLIN)},
        ("HOLDUNTIL", "2030-01-02T01:04:05Z"),
        "FUTURERELEASE",
    ),
    ({"holduntil": "2030-01-02T03:04:05+02:00"}, ("HOLDUNTIL", "2030-01-02T01:04:05Z"), "FUTURERELEASE"),
    ({"holduntil": datetime(9, 1, 1, tzinfo=UTC)}, ("HOLDUNTIL", "0009-01-01T00:00:00Z"), "FUTURERELEASE"),
    ({"by": DeliverBy(120, "R", trace=True)}, ("BY", "120;RT"), "DELIVERBY"),
    ({"by": DeliverBy(-5)}, ("BY", "-5;N"), "DELIVERBY"),
    ({"extra": {"xverp": None}}, ("XVERP", None), "XVERP"),
    ({"extra": {"XVERP": "-+"}}, ("XVERP", "-+"), "XVERP"),
]
RCPT_CASES: list[tuple[dict[str, Any], tuple[str, str | None], str]] = [
    ({"notify": ["NEVER"]}, ("NOTIFY", "NEVER"), "DSN"),
    ({"notify": "SUCCESS,DELAY"}, ("NOTIFY", "SUCCESS,DELAY"), "DSN"),
    ({"notify": iter(["FAILURE", "SUCCESS", "DELAY"])}, ("NOTIFY", "FAILURE,SUCCESS,DELAY"), "DSN"),
    ({"orcpt": "a+b@example.com"}, ("ORCPT", "rfc822;a+2Bb@example.com"), "DSN"),
    ({"orcpt": "x400;/C=de/ O=x"}, ("ORCPT", "x400;/C+3Dde/+20O+3Dx"), "DSN"),
    ({"orcpt": '"a;b"@x'}, ("ORCPT", 'rfc822;"a;b"@x'), "DSN"),
    ({"orcpt": "ü+1\\@bücher.de"}, ("ORCPT", r"utf-8;\x{FC}\x{2B}1\x{5C}@b\x{FC}cher.de"), "DSN"),
    ({"orcpt": "UTF-8;用 \U0001f600"}, ("ORCPT", r"UTF-8;\x{7528}\x{20}\x{1F600}"), "DSN"),
    ({"rrvs": datetime(2020, 1, 2, tzinfo=UTC)}, ("RRVS", "2020-01-02T00:00:00Z"), "RRVS"),
    ({"rrvs": "2020-01-02T00:00:00Z;C"}, ("RRVS", "2020-01-02T00:00:00Z;C"), "RRVS"),
    ({"extra": {"XVERP": "1"}}, ("XVERP", "1"), "XVERP"),
]
CASES = [(MailFromParams, *case) for case in MAIL_CASES] + [(RcptToParams, *case) for case in RCPT_CASES]


BAD_MAIL: dict[str, list[Any]] = {
    "size": [-1, 10**20, 1.5, "1", True, "1 BODY=7BIT"],
    "body": ["8bit", "8BITMIME SIZE=1", "", 8, ["7BIT"]],
    "smtputf8": [1, "yes", 0],
    "requiretls": ["1", 1],
    "ret": ["full", "FULL ENVID=x", 1],
    "envid": ["", "e" * 101, "+" * 34, "ü", 5, "a\ud800"],
    "auth": ["nobody", "Bob <a@x>", "a@x> BODY=7BIT", "ü@x", 7],
    "mt_priority": [-10, 10, True, "1"],
    "holdfor": [0, -1, 10**9, "60", 1.0],
    "holduntil": [
        *("", 5, "tomorrow", "2030-01-01", "2030-01-01T00:00:00", "2030-01-01 00:00:00Z", f"{MOMENT} SIZE=1"),
        *("2030-02-30T00:00:00Z", "0001-01-01T00:00:00+05:00", datetime(2030, 1, 1)),
    ],
    "by": ["120;R", 120, (120, "R")],
    "extra": [
        *({"A B": None}, {"": None}, {"-A": None}, {"A=": "1"}, {"Ü": None}, {5: None}, {"A": "b c"}),
        *({"A": ""}, {"A": "b=c"}, {"A": "ü"}, {"A": 5}, {"A": "1", "a": "2"}),
        *({"SIZE": "1"}, {"size": "1"}, {"Body": "7BIT"}, {"NOTIFY": "NEVER"}),
    ],
}
BAD_RCPT: dict[str, list[Any]] = {
    "notify": ["", "never", "DELAY,", "SUCCESS ORCPT=x", ["NEVER", "SUCCESS"], ["DELAY", "DELAY"], 5, [5]],
    "orcpt": [
        "",
        "rfc822;",
        "rfc822;ü",
        "utf-8;",
        "a" * 494,
        "utf-8;a\u2028",
        "ü\ud800",
        "ü\x85",
        "a=b;c",
        "=;c",
        5,
    ],
    "rrvs": [f"{MOMENT};X", f"{MOMENT};", ";C", 1, "2020-01-02T00:00:00"],
    "extra": [{"NOTIFY": "NEVER"}, {"orcpt": "x"}, {"X": "a\r\nDATA"}],
}


def offering(*without: str) -> Capabilities:
    keywords = {name: values for name, values in EXTENSIONS.items() if name not in without}
    return Capabilities(keywords=keywords, greeting_name="mx.example")


def unhex(encoded: str, pattern: str) -> str:
    return re.sub(pattern, lambda match: chr(int(match[1], 16)), encoded)


@pytest.mark.parametrize(("kind", "fields", "pair", "extension"), CASES)
def test_each_parameter(
    kind: Any, fields: dict[str, Any], pair: tuple[str, str | None], extension: str
) -> None:
    """FAULTS 111: on the wire as its RFC writes it, and only where the server offers it."""
    params = kind(**fields)
    assert params.items() == [pair]
    assert params
    params.check(offering(), is_tls=True)
    with pytest.raises(NotSupportedError, match="RFC") as caught:
        params.check(offering(extension), is_tls=True)
    assert caught.value.keyword == extension


@pytest.mark.parametrize("kind", [MailFromParams, RcptToParams])
def test_nothing_set_needs_nothing(kind: Any) -> None:
    assert not kind()
    assert kind().items() == []
    kind().check(Capabilities.none())


def test_requiretls_needs_tls() -> None:
    with pytest.raises(NotSupportedError, match="TLS") as caught:
        MailFromParams(requiretls=True).check(offering(), is_tls=False)
    assert caught.value.keyword == "REQUIRETLS"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(MailFromParams, {name: value}) for name, values in BAD_MAIL.items() for value in values]
    + [(RcptToParams, {name: value}) for name, values in BAD_RCPT.items() for value in values],
)
def test_values_that_are_refused(kind: Any, fields: dict[str, Any]) -> None:
    """FAULTS 111; FAULTS 101: a space would begin another parameter."""
    with pytest.raises(InputError):
        kind(**fields)


@pytest.mark.parametrize(
    ("kind", "name", "victim"),
    [
        (MailFromParams, "body", "7BIT"),
        (MailFromParams, "ret", "FULL"),
        (MailFromParams, "envid", "id"),
        (MailFromParams, "auth", "a@x"),
        (MailFromParams, "auth", "<>"),
        (MailFromParams, "holduntil", MOMENT),
        (RcptToParams, "notify", "NEVER"),
        (RcptToParams, "orcpt", "a@x"),
        (RcptToParams, "orcpt", "rfc822;a@x"),
        (RcptToParams, "orcpt", "ü@x"),
        (RcptToParams, "orcpt", "x;y"),
        (RcptToParams, "rrvs", f"{MOMENT};C"),
    ],
)
def test_a_control_is_refused_at_every_place(kind: Any, name: str, victim: str) -> None:
    """FAULTS 100."""
    for control in CONTROLS:
        for index in range(len(victim) + 1):
            with pytest.raises(InputError):
                kind(**{name: victim[:index] + control + victim[index:]})


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("kind", [MailFromParams, RcptToParams])
def test_a_control_is_refused_in_unknown_parameters(kind: Any, control: str) -> None:
    """FAULTS 100."""
    for extra in ({f"X{control}": None}, {f"{control}X": "1"}, {"X": f"1{control}"}, {"X": f"{control}1"}):
        with pytest.raises(InputError):
            kind(extra=extra)


def test_holdfor_and_holduntil_exclude_each_other() -> None:
    with pytest.raises(InputError, match="RFC 4865"):
        MailFromParams(holdfor=5, holduntil="2030-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "arguments", [(0, "R"), (-1, "R"), (10**9,), (-(10**9),), (5, "X"), (5, "R;T"), ("5",), (5.0,), (True,)]
)
def test_deliver_by_refuses(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        DeliverBy(*arguments)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_xtext_decodes_to_what_it_was(text: str) -> None:
    encoded = xtext(text)
    assert re.fullmatch(r"([!-*,-<>-~]|\+[0-9A-F]{2})*", encoded)
    assert unhex(encoded, r"\+([0-9A-F]{2})") == text


@given(st.text())
def test_xtext_is_ascii_or_refused(text: str) -> None:
    """FAULTS 100."""
    if text.isascii() and not re.search(r"[\x00-\x1f\x7f]", text):
        assert xtext(text).isascii()
    else:
        with pytest.raises(InputError):
            xtext(text)


@given(st.text(min_size=1, max_size=30))
def test_international_orcpt_decodes_to_what_it_was(text: str) -> None:
    """RFC 6533 3: ASCII on the wire, so DSN without SMTPUTF8 takes it too."""
    try:
        ((keyword, value),) = RcptToParams(orcpt=f"utf-8;{text}").items()
    except InputError:
        return
    assert keyword == "ORCPT"
    assert value is not None
    assert re.fullmatch(r"utf-8;([!-*,-<>-\[\]-~]|\\x\{[0-9A-F]{2,6}\})+", value)
    assert unhex(value.removeprefix("utf-8;"), r"\\x\{([0-9A-F]+)\}") == text


def test_orcpt_at_its_longest() -> None:
    value = RcptToParams(orcpt="a" * 493).items()[0][1]
    assert value is not None
    assert len(value) == 500


def test_order_is_that_of_the_fields() -> None:
    params = MailFromParams(extra={"X": "1"}, by=DeliverBy(1), requiretls=True, body="8BITMIME", size=5)
    assert [keyword for keyword, _ in params.items()] == ["SIZE", "BODY", "REQUIRETLS", "BY", "X"]


@pytest.mark.parametrize(
    "params",
    [MailFromParams(size=5, extra={"X": None}), RcptToParams(notify=["SUCCESS"], orcpt="a@x"), DeliverBy(5)],
)
def test_parameters_are_values(params: Any) -> None:
    for twin in (pickle.loads(pickle.dumps(params)), copy.deepcopy(params), dataclasses.replace(params)):
        assert twin == params
        assert hash(twin) == hash(params)
        assert isinstance(params, DeliverBy) or twin.items() == params.items()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(params, dataclasses.fields(params)[0].name, 7)


def test_a_change_of_the_callers_mapping_or_list_changes_nothing() -> None:
    extra: dict[str, str | None] = {"X": "1"}
    mail = MailFromParams(extra=extra)
    extra["Y"] = "a b\r\n"
    mail.items().append(("Z", None))
    assert mail.items() == [("X", "1")]
    assert mail == MailFromParams(extra={"X": "1"})


def test_replace_validates_again() -> None:
    with pytest.raises(InputError):
        dataclasses.replace(MailFromParams(size=5), size=-1)
    assert dataclasses.replace(MailFromParams(size=5), size=6).items() == [("SIZE", "6")]
