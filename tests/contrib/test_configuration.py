"""Configurations are compared by what they say, and nothing of them is shown, in error pages neither."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.frames import is_ours

from pysmtpx import InputError, RetryPolicy, Server, SmtpPool
from pysmtpx.contrib.configuration import Key, hooks, listed_routes, made, policy

SECRET = "hunter2"


def frames(error: BaseException) -> str:
    """What an error page shows of our own code: every variable of every frame."""
    found = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if is_ours(frame.f_code.co_filename):
            found.append(repr(dict(frame.f_locals)))
    return "".join(found)


def test_a_key_is_what_it_holds() -> None:
    one = Key("a", {"x": [1, {"y": 2}], "z": None})
    assert one == Key("a", {"z": None, "x": (1, {"y": 2})})
    assert hash(one) == hash(Key("a", {"z": None, "x": (1, {"y": 2})}))
    assert one != Key("a", {"z": None, "x": (1, {"y": 3})})
    assert one != Key("b", {"x": [1, {"y": 2}], "z": None})
    assert one != "a"
    assert Key({1: 2, "1": None}) == Key({1: 2, "1": None})


def test_the_module_of_a_path_that_raises_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signs_mail.py").write_text(
        "from pysmtpx.extras import needs\nneeds('dkim', 'no_such_package')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError) as caught:
        hooks("MAIL_BEFORE_SEND", "signs_mail.signer")
    needed = "no_such_package is needed and not installed: pip install 'pysmtpx[dkim]'"
    assert str(caught.value) == f"MAIL_BEFORE_SEND: {needed} [inputerror]"


def test_a_key_shows_nothing() -> None:
    assert SECRET not in repr(Key({"password": SECRET}))
    with pytest.raises(InputError, match="cannot be told from another") as caught:
        Key({"password": SECRET, "retry": {1}})
    assert caught.value.__suppress_context__
    assert SECRET not in str(caught.value) + frames(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SmtpPool(f"smtps://user:{SECRET}@h.example:1:2"),
        lambda: SmtpPool("h.example", username="user", password=SECRET + "\n"),
        lambda: Server("h.example", username="user", password=SECRET, nonsense=1),  # type: ignore[call-arg]
    ],
)
def test_what_is_wrong_is_told_without_the_secrets_around_it(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError) as caught:
        made("MAIL_POOL", make)
    assert caught.value.__suppress_context__
    assert SECRET not in str(caught.value) + frames(caught.value)


def test_a_policy_by_its_fields() -> None:
    assert policy("retry", {"attempts": 5}) == RetryPolicy(attempts=5)
    mine = RetryPolicy()
    assert policy("retry", mine) is mine
    for wrong in ({"tries": 5}, {"attempts": 0}, {1: 2}):
        with pytest.raises(InputError):
            policy("retry", wrong)


PROXY = {"proxy": "socks5://ann@p.example", "proxy_password": "of p"}


def own(value: Any, **shared: Any) -> Server:
    (route,) = listed_routes("servers", [value], shared)
    return route.server


@pytest.mark.parametrize(
    "value",
    [
        {"host": "a.example", "proxy": None},
        {"host": "a.example", "proxy": "socks5://q.example"},
        "smtps://a.example?proxy=socks5://q.example",
        Server("a.example", proxy="socks5://q.example"),
        {"host": "a.example", "dial": print},
        Server("a.example", dial=print),
    ],
)
def test_a_server_that_is_reached_its_own_way(value: Any) -> None:
    """The password of the shared proxy goes to no other one."""
    server = own(value, **PROXY)
    assert server.proxy_password is None
    assert server.proxy in (None, "socks5://q.example:1080")


def test_a_server_that_trusts_others() -> None:
    context = ssl.create_default_context()
    assert own({"host": "a.example", "ssl_context": context}, roots="system").ssl_context is context
    assert own({"host": "a.example", "roots": "certifi"}, ssl_context=context).roots == "certifi"


@pytest.mark.parametrize("wrong", [5, {"host": "b.example", "proxie": "x"}, "smtps://b.example?x=1", {}])
def test_an_error_says_of_which_server(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"^servers\[1\]: "):
        listed_routes("servers", ["smtps://a.example", wrong], {})
