"""The requests of one renewal, for a library that takes an HTTP client of somebody else's.

The library builds what is asked and signed; whatever goes wrong is told here,
before the library sees it: it would log an answer, or ask again by itself.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ..errors import CredentialsUnavailable
from ..net.deadline import Deadline
from .https import Answer, request
from .oauth2 import Token, refusal, token_of


class Exchange:
    """Up to the token of one renewal, within the given seconds. ``secrets`` are in no error."""

    def __init__(self, seconds: float, context: ssl.SSLContext | None, *secrets: str) -> None:
        self._deadline = Deadline.after(seconds)
        self._context = context
        self._secrets = secrets
        self.token: Token | None = None
        """The one that was given."""

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for what is public. Raises ``CredentialsUnavailable`` for anything but a JSON object."""
        answer = request("GET", url, None, headers, deadline=self._deadline, context=self._context)
        try:
            told = json.loads(answer.body)
        except (ValueError, RecursionError):
            told = None
        if answer.status != 200 or not isinstance(told, dict):
            raise refusal(answer.host, answer.status, told, self._secrets)
        return answer

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for the token. Raises ``CredentialsUnavailable`` for anything else."""
        answer = request("POST", url, body, headers, deadline=self._deadline, context=self._context)
        self.token = token_of(answer, self._secrets)
        return answer

    def obtained(self, host: str) -> Token:
        """The token, once the library is done. Raises ``CredentialsUnavailable``."""
        if self.token is None:
            raise CredentialsUnavailable(f"{host} was not asked for a token")
        return self.token


class MsalClient:
    """An HTTP client as ``msal`` wants it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def get(
        self, url: str, params: object = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> MsalResponse:
        """What is public of a tenant."""
        return MsalResponse(self._exchange.get(url, headers))

    def post(
        self,
        url: str,
        params: object = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> MsalResponse:
        """A token."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(dict(data or {})).encode("ascii")
        return MsalResponse(self._exchange.post(url, body, {**(headers or {}), **form}))

    def close(self) -> None:
        """Nothing is kept open."""


class MsalResponse:
    """An answer as ``msal`` reads it; only good ones come so far."""

    def __init__(self, answer: Answer) -> None:
        self.status_code: int = answer.status
        self.text: str = answer.body.decode("utf-8", "replace")
        self.headers: Mapping[str, str] = answer.headers

    def raise_for_status(self) -> None:
        """It is good."""


class GoogleRequest:
    """A transport as ``google-auth`` wants it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> GoogleResponse:
        """A token; nothing else is asked for."""
        if method != "POST" or body is None:
            raise CredentialsUnavailable("google-auth asks for something that is no token")
        return GoogleResponse(self._exchange.post(url, body, headers))


class GoogleResponse:
    """An answer as ``google-auth`` reads it."""

    def __init__(self, answer: Answer) -> None:
        self.status: int = answer.status
        self.data: bytes = answer.body
        self.headers: Mapping[str, str] = answer.headers
