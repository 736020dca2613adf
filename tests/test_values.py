"""The value of an option: of the wrong kind, it is told by the option's name; nothing is dialled."""

from __future__ import annotations

import inspect
import math
import ssl
import typing
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import pytest

import pysmtpx
import pysmtpx.oauth
from pysmtpx import (
    Gssapi,
    InputError,
    MailFromParams,
    MailObject,
    RcptToParams,
    RetryPolicy,
    Route,
    Server,
    SmtpPool,
    compose,
    connect,
)
from pysmtpx.flow.plan import as_options
from pysmtpx.logging import MailHandler
from pysmtpx.net.deadline import Deadline
from pysmtpx.oauth import Cached, Google, Microsoft, OAuth2
from pysmtpx.options import ROUTE_DEFAULTS, SERVER_DEFAULTS
from pysmtpx.pooling.arguments import OWN_DEFAULTS
from pysmtpx.presets import Preset


class Numeric:
    """What converts to a number, as those of numpy do, and is neither an ``int`` nor a ``float``."""

    def __float__(self) -> float:
        return 1.0

    def __index__(self) -> int:
        return 1

    def __gt__(self, other: object) -> bool:
        return True

    __lt__ = __ge__ = __le__ = __gt__


NO_NUMBERS = {
    "huge": 10**400,
    "too long to be shown": 10**5000,
    "inf": math.inf,
    "nan": math.nan,
    "negative": -1,
    "huge and negative": -(10**400),
    "bool": True,
    "Decimal": Decimal(1),
    "Fraction": Fraction(1),
    "numeric": Numeric(),
    "text": "1",
    "octets": b"1",
    "list": [1],
    "complex": 1j,
}
NO_FLAGS = {
    "true": "true",
    "false": "false",
    "empty": "",
    "octets": b"1",
    "one": 1,
    "zero": 0,
    "None": None,
    "list": [],
    "object": object(),
}
NO_TYPES = {"object": object(), "list": [1], "complex": 1j, "octets": b"1", "huge": 10**400, "dict": {1: 2}}
HOST = "mail.example.org"
SERVER_NUMBERS = ("port", "connect_timeout")
POOL_NUMBERS = (
    *("max_connections", "max_messages", "max_age", "max_idle", "max_reconnect_delay"),
    *("rate", "recipient_rate", "in_flight", "max_queued"),
)
RETRY_NUMBERS = ("attempts", "backoff", "max_backoff", "jitter", "total", "quota_rest")


def server(**given):
    return Server(HOST, **given)


def pool(**given):
    return SmtpPool(HOST, **given)


def route(**given):
    return Route(**{"server": HOST, **given})


def cached(**given):
    return Cached(**{"function": lambda: "", "seconds": 1.0, **given})


def mail_object(**given):
    return MailObject(**{"sender": "a@example.org", "recipients": "b@example.org", "content": b"", **given})


def composed(**given):
    return compose(**{"from_": "a@example.org", **given})


def oauth2(**given):
    return OAuth2(**{"token_url": "https://token.example", "client_id": "c", "client_secret": "s", **given})


def microsoft(**given):
    secret = {} if "certificate" in given else {"client_secret": "s"}
    return Microsoft(**{"tenant": "t", "client_id": "c", **secret, **given})


def google(**given):
    if given.keys() & {"service_account_file", "subject"}:
        return Google(**{"service_account_file": "file", "subject": "ann@example.org", **given})
    return Google(**{"client_id": "c", "client_secret": "s", "refresh_token": "r", **given})


def preset(**given):
    return Preset(**{"host": HOST, "port": 465, **given})


def handler(**given):
    return MailHandler(**{"server": Server(HOST), "from_": "a@example.org", "to": "b@example.org", **given})


def deadline(timeout):
    return Deadline.after(timeout)


NUMBERS = [
    *((make, name) for name in SERVER_NUMBERS for make in (server, pool)),
    *((pool, name) for name in POOL_NUMBERS),
    *((route, name) for name in ROUTE_DEFAULTS),
    *((RetryPolicy, name) for name in RETRY_NUMBERS),
    *((make, "timeout") for make in (oauth2, microsoft, google, deadline, handler)),
    *((handler, name) for name in ("delay", "interval", "repeat", "flush_timeout")),
    (cached, "seconds"),
    (preset, "port"),
]


def check(make, name, values, **beside):
    """Each of the values is refused, by the name of the option."""
    for value in values.values():
        with pytest.raises(InputError, match=rf"\b{name}\b"):
            make(**{**beside, name: value})


def identified(value):
    return value.__name__ if callable(value) else value


@pytest.mark.parametrize(("make", "name"), NUMBERS, ids=identified)
def test_what_is_no_number_is_told_with_its_option(make, name):
    # Of a call an infinite timeout is none.
    check(
        make, name, {kind: each for kind, each in NO_NUMBERS.items() if make is not deadline or kind != "inf"}
    )


FLAGS = [
    *((make, name) for name in ("insecure_auth", "overlap") for make in (server, pool)),
    *((RetryPolicy, name) for name in ("temporary", "unknown")),
    (lambda **given: as_options(False, **{"allow_long_lines": False, **given}), "all_or_nothing"),
    (lambda **given: as_options(False, **{"all_or_nothing": False, **given}), "allow_long_lines"),
]


@pytest.mark.parametrize(("make", "name"), FLAGS, ids=identified)
def test_what_is_neither_true_nor_false_is_told_with_its_option(make, name):
    """Of the text "false" most languages think that it is true."""
    check(make, name, NO_FLAGS)


def test_each_option_that_is_a_number_or_a_flag_is_in_the_matrix():
    """By what stands in the table: a new one needs its row."""
    named = {name for _, name in (*NUMBERS, *FLAGS)}
    tables = {**SERVER_DEFAULTS, **OWN_DEFAULTS, **ROUTE_DEFAULTS}
    tables |= {field.name: field.default for field in fields(RetryPolicy)}
    assert {name for name, default in tables.items() if isinstance(default, bool | int | float)} <= named


WITH_USER = {"password": {"username": "ann"}, "token": {"username": "ann"}, "username": {"password": "p"}}
WITH_USER |= {name: {"username": "ann", "password": "p"} for name in ("auth", "authzid")}
BESIDE = {**WITH_USER, "proxy_password": {"proxy": "socks5://ann@proxy.example"}}


@pytest.mark.parametrize("way", [server, pool, lambda **given: connect(HOST, **given)], ids=identified)
@pytest.mark.parametrize("name", [name for name in SERVER_DEFAULTS if name != "allow_recipients"])
def test_every_option_of_a_server_tells_a_wrong_type_by_its_name(name, way):
    check(way, name, NO_TYPES, **BESIDE.get(name, {}))


@pytest.mark.parametrize("name", [*OWN_DEFAULTS, "retry"])
def test_every_option_of_a_pool_tells_a_wrong_type_by_its_name(name):
    # Any text is the path of a journal.
    check(pool, name, {**NO_TYPES, "text": "" if name == "journal" else "no"})


MAKERS = {
    Route: route,
    RetryPolicy: RetryPolicy,
    MailHandler: handler,
    OAuth2: oauth2,
    Microsoft: microsoft,
    Google: google,
    Cached: cached,
    Gssapi: Gssapi,
    Preset: preset,
    MailFromParams: MailFromParams,
    RcptToParams: RcptToParams,
    MailObject: mail_object,
    compose: composed,
}
"""What takes arguments besides ``Server``, ``connect`` and ``SmtpPool``, each with whatever it needs."""
TAKEN = {
    "parameters": {"dict"},
    "extra": set(),
    "content": {"octets", "list", "dict"},  # an iterable is read later
    "level": {"huge"},
}
"""Of ``NO_TYPES`` what these do take."""
NAMED_OTHERWISE = {"attachments": "attachment", "headers": "header", "recipients": "recipient"}
"""In a list it is the item that is wrong."""


MADE_BY_US = {
    *("Capabilities", "CredentialsUnavailable", "EnhancedCode", "Event", "Outcome", "PoolStats", "Protocol"),
    *("RejectedRecipient", "Reply", "SaslLogin", "SendResult", "ServerStats", "SmtpConnection", "Stage"),
}
"""Whose arguments nobody gives."""
ELSEWHERE = {"DeliverBy", "ForwardPath", "ReversePath", "Secret", "TokenProvider", "by_name"}
"""tests/wire and tests/oauth have theirs."""


def takes_arguments(each):
    is_kind = isinstance(each, type)
    return callable(each) and not (
        typing.is_typeddict(each)
        or getattr(each, "_is_protocol", False)
        or (is_kind and issubclass(each, BaseException))
        or typing.get_origin(each) is not None
    )


def test_everything_public_that_takes_arguments_is_in_a_matrix():
    """A new class or function of the package needs its row."""
    public = [(module, name) for module in (pysmtpx, pysmtpx.oauth) for name in module.__all__]
    found = {name for module, name in public if takes_arguments(getattr(module, name))}
    rows = {each.__name__ for each in (*MAKERS, Server, SmtpPool, connect)}
    assert found - MADE_BY_US - ELSEWHERE <= rows
    assert rows - found == {"MailHandler", "Preset"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in MAKERS
        for name in inspect.signature(kind).parameters
        if not (kind is MailHandler and name in SERVER_DEFAULTS)
    ],
    ids=identified,
)
def test_every_argument_tells_a_wrong_type_by_its_name(kind, name):
    kinds = {each: value for each, value in NO_TYPES.items() if each not in TAKEN.get(name, ())}
    said = NAMED_OTHERWISE.get(name, name).replace("_", "[-_]")
    for value in kinds.values():
        with pytest.raises(InputError, match=rf"(?i)\b{said}"):
            MAKERS[kind](**{name: value})


@pytest.mark.parametrize("name", ["ordered", "all_or_nothing", "allow_long_lines", "timeout"])
def test_every_option_of_a_stream_tells_a_wrong_type_by_its_name(name):
    with pool() as sending:
        check(lambda **given: list(sending.send_many([], **given)), name, NO_TYPES)


@pytest.mark.parametrize(
    "host", ["{0}", "{}{}", "{name}", "a b", "mail.example.org/x", "ann@mail.example.org", ""]
)
def test_the_host_of_a_preset_is_a_name(host):
    with pytest.raises(InputError, match="host"):
        Preset(host, 465)


def test_a_context_of_ones_own_kind_is_one():
    class Own(ssl.SSLContext):
        pass

    context = Own(ssl.PROTOCOL_TLS_CLIENT)
    assert server(ssl_context=context).ssl_context is context


@pytest.mark.parametrize("url", ["?connect_timeout=1e400", "?connect_timeout=nan", "?connect_timeout=true"])
def test_a_number_in_a_url(url):
    with pytest.raises(InputError, match="connect_timeout"):
        Server.from_url(f"smtp://{HOST}{url}")


@pytest.mark.parametrize("name", ROUTE_DEFAULTS)
@pytest.mark.parametrize("text", ["9" * 5000, "inf", "nan", "-1", "true", "", "0"])
def test_a_limit_in_a_url(name, text):
    with pytest.raises(InputError, match=name):
        Route(f"smtp://{HOST}?{name}={text}")
