"""Any provider of tokens that follows the standard: client credentials, or a refresh token (RFC 6749)."""

from __future__ import annotations

import json
import logging
import math
import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote_plus, urlencode

from ..errors import CredentialsUnavailable, InputError
from ..flow.hidden import Hidden
from ..frames import conceals
from ..net.deadline import Deadline
from ..records import fields
from ..shortening import shortened
from ..values import above_zero, tls_context
from .https import Answer, checked_url, request
from .provider import TIMEOUT, Named, checked, checked_function, checked_secret, text_of
from .renewal import Secret

Given: TypeAlias = str | Callable[[], str]
"""A secret, or a function that returns it; it is called for each renewal."""

_log: Final = logging.getLogger("pysmtpx")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6750 2.1
_SHOWN: Final = 300
_FOR_NOW: Final = ("temporarily_unavailable", "server_error", "slow_down")
_CLIENT_AUTH: Final = ("basic", "body")


class OAuth2(Named):
    """Tokens of any provider, from its token endpoint (RFC 6749 3.2).

    With ``refresh_token`` by that (section 6), else by client credentials
    (section 4.4). ``client_auth`` says where the client's name and secret go:
    ``"basic"``, the header that every provider must take, or ``"body"``
    (section 2.3.1); without a secret the name alone is in the body. ``parameters``
    are further ones that the provider asks for, such as ``audience``. A secret may
    be a function that returns it. Where a refresh token is replaced by a new one,
    that is used from then on, and ``on_refresh_token`` is called with it, to keep
    it for the next start. ``ssl_context`` is for the provider's TLS, by default
    that of mail servers. ``timeout`` is in seconds, for one renewal.

    Raises ``InputError`` for an argument that cannot be right.
    """

    __slots__ = (
        "_client_auth",
        "_client_id",
        "_client_secret",
        "_on_refresh_token",
        "_parameters",
        "_refresh_token",
        "_scope",
        "_ssl_context",
        "_timeout",
        "_token_url",
    )

    @conceals
    def __init__(
        self,
        token_url: str,
        client_id: str,
        *,
        client_secret: Given | None = None,
        refresh_token: Given | None = None,
        scope: str | None = None,
        client_auth: Literal["basic", "body"] = "basic",
        parameters: Mapping[str, str] | None = None,
        on_refresh_token: Callable[[str], object] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._token_url = checked_url("token_url", token_url)
        self._client_id = checked("client_id", client_id)
        self._client_secret = checked_secret("client_secret", client_secret)
        self._refresh_token = checked_secret("refresh_token", refresh_token)
        if client_secret is None and refresh_token is None:
            raise InputError("OAuth2 needs a client_secret, a refresh_token or both")
        if client_auth not in _CLIENT_AUTH:
            raise InputError(f"client_auth is one of {', '.join(_CLIENT_AUTH)}")
        self._scope = None if scope is None else checked("scope", scope)
        self._client_auth = client_auth
        self._parameters = _checked_parameters(parameters)
        self._on_refresh_token = checked_function("on_refresh_token", on_refresh_token)
        self._ssl_context = tls_context("ssl_context", ssl_context)
        self._timeout = above_zero("timeout", timeout)
        self._is(
            {"token_url": _shown(self._token_url), "client_id": client_id, "scope": scope},
            self._token_url,
            self._client_secret,
            self._refresh_token,
            client_auth,
            *sorted(self._parameters.items()),
            on_refresh_token,
            ssl_context,
            self._timeout,
        )

    @conceals
    def fetch(self) -> Secret:
        """A new token. Raises ``CredentialsUnavailable``."""
        form, headers, secrets = self._form()
        answer = request(
            "POST",
            self._token_url,
            urlencode(form).encode("ascii"),
            {"Content-Type": "application/x-www-form-urlencoded", **headers},
            deadline=Deadline.after(self._timeout),
            context=self._ssl_context,
        )
        token = token_of(answer, secrets)
        keep_refresh_token(self, token.refresh_token, self._on_refresh_token)
        return Secret(token.text, token.lifetime)

    def _form(self) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
        """What is asked, the header that says by whom, and what of it is secret."""
        secrets = []
        form = dict(self._parameters)
        if self._refresh_token is None:
            form["grant_type"] = "client_credentials"
        else:
            refresh_token = refresh_token_of(self, self._refresh_token)
            form |= {"grant_type": "refresh_token", "refresh_token": refresh_token}
            secrets.append(refresh_token)
        if self._scope is not None:
            form["scope"] = self._scope
        headers = {}
        secret = ""
        if self._client_secret is not None:
            secret = text_of("client secret", self._client_secret)
            secrets.append(secret)
        if secret and self._client_auth == "basic":
            # RFC 6749 2.3.1: both are form-encoded first.
            account = f"{quote_plus(self._client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(account.encode()).decode()}"
        else:
            form["client_id"] = self._client_id
            if secret:
                form["client_secret"] = secret
        return form, headers, tuple(secrets)


class Token:
    """What a token endpoint gave (RFC 6749 5.1)."""

    __slots__ = ("lifetime", "refresh_token", "text")

    def __init__(self, text: str, lifetime: float | None, refresh_token: str | None) -> None:
        self.text = text
        self.lifetime = lifetime
        self.refresh_token = refresh_token


@conceals
def token_of(answer: Answer, secrets: tuple[str, ...] = ()) -> Token:
    """The token in an answer. Raises ``CredentialsUnavailable``, by what the answer says instead."""
    try:
        told = json.loads(answer.body)
    except (ValueError, RecursionError):
        told = None
    if answer.status != 200 or not isinstance(told, dict) or "access_token" not in told:
        raise refusal(answer.host, answer.status, told, secrets)
    return read_token(answer.host, told)


def read_token(host: str, told: Mapping[str, Any]) -> Token:
    """The token among what a provider gave. Raises ``CredentialsUnavailable`` for what is none."""
    text, kind = told.get("access_token"), told.get("token_type", "bearer")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise CredentialsUnavailable(f"{host} gave a token that is none (RFC 6750 2.1)")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise CredentialsUnavailable(f"{host} gave a token that is no bearer token (RFC 6749 7.1)")
    refresh_token = told.get("refresh_token")
    is_new = isinstance(refresh_token, str) and bool(refresh_token)
    return Token(text, _lifetime(told.get("expires_in")), refresh_token if is_new else None)


def refusal(host: str, status: int | None, told: Any, secrets: tuple[str, ...]) -> CredentialsUnavailable:
    """The error for a provider's no (RFC 6749 5.2); it quotes nothing that repeats a secret."""
    code = told.get("error") if isinstance(told, dict) else None
    why = told.get("error_description") if isinstance(told, dict) else None
    words = [ascii(each[:_SHOWN])[1:-1] for each in (code, why) if isinstance(each, str) and each]
    hidden = Hidden(*secrets)
    text = ": ".join(words)
    if hidden.is_in(text.encode()):
        text = "(not shown: it repeats what was sent)"
    at = "" if status is None else f" (HTTP {status})"
    return CredentialsUnavailable(
        f"{host} gave no token{at}{f': {text}' if text else ''}",
        temporary=code in _FOR_NOW,
        cure=_cure(code),
    )


def _cure(code: object) -> str:
    if code == "invalid_grant":
        return "The refresh token or the assertion is no longer good: consent anew, or look at the clock."
    if code in ("invalid_client", "unauthorized_client"):
        return "Look at client_id and the secret or certificate: wrong, expired, or not allowed to do this."
    return "Look at the scope that was asked for." if code == "invalid_scope" else ""


@conceals
def refresh_token_of(provider: Named, given: Given) -> str:
    """The one that took the place of the given one, for as long as what was given is still the same."""
    renewal, text = provider._renewal, text_of("refresh token", given)
    if text != renewal.replaced:
        renewal.kept, renewal.replaced = None, text
    return renewal.kept or text


def keep_refresh_token(provider: Named, text: str | None, tell: Callable[[str], object] | None) -> None:
    """Take a new refresh token in place of the old one (RFC 6749 6)."""
    renewal = provider._renewal
    if text is None or text == renewal.kept:
        return
    renewal.kept = text
    if tell is not None:
        try:
            tell(text)
        except Exception as error:  # it is the caller's; the token is good all the same
            names = (type(provider).__name__, type(error).__name__)
            extra = fields(event="failed", error=type(error).__name__)
            _log.warning("on_refresh_token of %s raised %s", *names, extra=extra)


def _shown(url: str) -> str:
    """The URL as it may be told: what follows the path may be a secret."""
    path, mark, _ = url.partition("?")
    return f"{path}{mark}…" if mark else path


_OURS: Final = frozenset({"grant_type", "refresh_token", "scope", "client_secret"})
"""What is in each request by itself."""


def _checked_parameters(value: object) -> dict[str, str]:
    """Further parameters of a request. Raises ``InputError``, which repeats no value."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError("parameters is a mapping of names to texts")
    made = {}
    for name, text in value.items():
        if checked("the name of each of the parameters", name) in _OURS:
            raise InputError(
                f"parameters holds {name}, which has an argument of its own or is set by the grant"
            )
        if not isinstance(text, str | int) or isinstance(text, bool):
            raise InputError(f"{shortened(name, 40)} in parameters is a text")
        made[name] = str(text)
    return made


def _lifetime(value: object) -> float | None:
    """``expires_in``; some providers write the number as a text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:12])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
