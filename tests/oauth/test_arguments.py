"""Arguments of providers that cannot be right are told at once and by name; no secret of them is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pysmtpx import InputError
from pysmtpx.oauth import Cached, Google, Microsoft, OAuth2, TokenProvider

GOOD: dict[str, tuple[Callable[..., TokenProvider], dict[str, Any]]] = {
    "OAuth2": (
        OAuth2,
        {"token_url": "https://x.example/token", "client_id": "me", "client_secret": "s3cret", "timeout": 5},
    ),
    "Microsoft": (Microsoft, {"tenant": "example.org", "client_id": "me", "client_secret": "s3cret"}),
    "Microsoft certificate": (Microsoft, {"tenant": "a-b", "client_id": "me", "certificate": "key.pem"}),
    "Google": (Google, {"client_id": "me", "client_secret": "s3cret", "refresh_token": "s3cret"}),
    "Google service": (Google, {"service_account_file": "key.json", "subject": "a@example.org"}),
    "Cached": (Cached, {"function": str, "seconds": 5}),
}
SECRETS = ("client_secret", "refresh_token")
WRONG: list[tuple[str, str, object]] = [
    *[
        ("OAuth2", name, value)
        for name in ("token_url", "client_id", "scope", "client_auth")
        for value in (5, b"x", "", [], object())
    ],
    *[
        ("Microsoft", name, value)
        for name in ("tenant", "client_id", "scope", "authority")
        for value in (5, b"x", "", [], object())
    ],
    *[("Microsoft", "tenant", value) for value in ("/", "a/b", "a?b", "a#b", "a b", "ä")],
    ("Microsoft", "authority", "https://login.example.org/?a=b"),
    *[("Google", name, value) for name in ("client_id", "scope", "token_url") for value in (5, b"x", "", [])],
    *[("Google service", "subject", value) for value in (5, b"x", "", [])],
    *[
        (kind, name, value)
        for kind in ("OAuth2", "Microsoft", "Google")
        for name in SECRETS
        for value in (5, b"x", "", [])
    ],
    *[
        (kind, name, value)
        for kind, name in (
            ("Microsoft certificate", "certificate"),
            ("Google service", "service_account_file"),
        )
        for value in (5, b"x", "", [], "a\0b", True)
    ],
    *[
        (kind, "ssl_context", value)
        for kind in ("OAuth2", "Microsoft", "Google", "Google service")
        for value in (5, True, "x")
    ],
    *[
        (kind, "timeout", value)
        for kind in ("OAuth2", "Microsoft", "Google")
        for value in (0, -1, "5", True, float("nan"), float("inf"), [])
    ],
    *[(kind, "on_refresh_token", value) for kind in ("OAuth2", "Microsoft") for value in (5, "x", [])],
    *[
        ("OAuth2", "parameters", value)
        for value in (
            5,
            [1],
            "a=b",
            {1: "x"},
            {"": "x"},
            {"audience": None},
            {"audience": ["x"]},
            {"grant_type": "password"},
            {"scope": "s3cret"},
            {"refresh_token": "s3cret"},
            {"client_secret": "s3cret"},
        )
    ],
    *[("Cached", "function", value) for value in (5, "s3cret", None)],
    *[("Cached", "seconds", value) for value in (0, -1, "5", True, float("nan"), [], None)],
]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_what_cannot_be_right_is_told_by_name(kind: str, name: str, value: object) -> None:
    make, good = GOOD[kind]
    with pytest.raises(InputError) as caught:
        make(**{**good, name: value})
    assert (name if kind != "Cached" else "Cached") in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_right_is_taken(kind: str) -> None:
    make, good = GOOD[kind]
    assert make(**good) == make(**good)
    assert "s3cret" not in repr(make(**good))


@pytest.mark.parametrize("name", ["client_secret", "refresh_token", "on_refresh_token"])
def test_a_function_may_be_an_object_that_cannot_be_hashed(name: str) -> None:
    class Vault:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, *_: object) -> str:
            return "s3cret"

    vault = Vault()
    made = [
        OAuth2("https://x.example/", "me", **{"client_secret": "x", name: each})
        for each in (vault, vault, Vault())
    ]
    assert made[0] == made[1] != made[2]
    assert len({*made}) == 2
    assert Cached(vault, 5) == Cached(vault, 5) != Cached(Vault(), 5)


def test_the_query_of_a_token_url_is_not_shown() -> None:
    first, second = (
        OAuth2(f"https://x.example/token?key=s3cret{each}", "me", client_secret="s3cret") for each in (1, 2)
    )
    assert "https://x.example/token?…" in repr(first)
    assert "s3cret" not in repr(first)
    assert first != second
