"""Tokens for Gmail and Google Workspace, by ``google-auth``."""

from __future__ import annotations

import os
import ssl
from typing import Any, Final

from ..errors import CredentialsUnavailable, InputError
from ..extras import needs
from ..frames import conceals
from ..values import above_zero, tls_context
from .exchange import Exchange, GoogleRequest
from .https import checked_url
from .oauth2 import Given
from .provider import (
    TIMEOUT,
    Named,
    checked,
    checked_extra,
    checked_path,
    checked_secret,
    text_of,
)
from .renewal import Secret

TOKEN_URL: Final = "https://oauth2.googleapis.com/token"
_SCOPE: Final = "https://mail.google.com/"


class Google(Named):
    """Tokens of Google, by ``google-auth`` (``pip install pysmtpx[google]``).

    Either ``service_account_file``, the JSON file of a service account's key, and
    ``subject``, the mailbox that it acts for by domain-wide delegation; the file is
    read at each renewal. Or ``client_id``, ``client_secret`` and ``refresh_token``, for
    the user who consented; secrets may be functions that return them. ``timeout`` is
    in seconds, for one renewal.

    Raises ``InputError`` for arguments that cannot be right, and ``MissingExtra``.
    """

    __slots__ = (
        "_client_id",
        "_client_secret",
        "_refresh_token",
        "_scope",
        "_service_account_file",
        "_ssl_context",
        "_subject",
        "_timeout",
        "_token_url",
    )

    @conceals
    def __init__(
        self,
        service_account_file: str | os.PathLike[str] | None = None,
        subject: str | None = None,
        *,
        client_id: str | None = None,
        client_secret: Given | None = None,
        refresh_token: Given | None = None,
        scope: str = _SCOPE,
        token_url: str = TOKEN_URL,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        checked_extra("google", "google.auth")
        of_user = (client_id, client_secret, refresh_token)
        if service_account_file is not None:
            if any(each is not None for each in of_user):
                raise InputError("a service account has no client_id, client_secret or refresh_token")
            if subject is None:
                raise InputError("a service account needs the mailbox that it acts for: subject")
        elif subject is not None or any(each is None for each in of_user):
            raise InputError(
                "Google needs service_account_file and subject, or client_id, client_secret and refresh_token"
            )
        file = None
        if service_account_file is not None:
            file = checked_path("service_account_file", service_account_file)
        self._service_account_file = file
        self._subject = None if subject is None else checked("subject", subject)
        self._client_id = None if client_id is None else checked("client_id", client_id)
        self._client_secret = checked_secret("client_secret", client_secret)
        self._refresh_token = checked_secret("refresh_token", refresh_token)
        self._scope = checked("scope", scope)
        self._token_url = checked_url("token_url", token_url)
        self._ssl_context = tls_context("ssl_context", ssl_context)
        self._timeout = above_zero("timeout", timeout)
        shown = {"service_account_file": file, "subject": subject, "client_id": client_id}
        others = (scope, token_url, ssl_context, self._timeout)
        self._is(shown, self._client_secret, self._refresh_token, *others)

    @conceals
    def fetch(self) -> Secret:
        """A new token. Raises ``CredentialsUnavailable``."""
        if self._service_account_file is not None:
            credentials: Any = self._of_service()
            exchange = Exchange(self._timeout, self._ssl_context)
        else:
            secret = text_of("client secret", self._client_secret)
            refresh_token = text_of("refresh token", self._refresh_token)
            credentials = needs("google", "google.oauth2.credentials").Credentials(
                None,
                refresh_token=refresh_token,
                token_uri=self._token_url,
                client_id=self._client_id,
                client_secret=secret,
            )
            exchange = Exchange(self._timeout, self._ssl_context, secret, refresh_token)
        credentials.refresh(GoogleRequest(exchange))
        token = exchange.obtained("Google")
        return Secret(token.text, token.lifetime)

    def _of_service(self) -> Any:
        service_account = needs("google", "google.oauth2.service_account")
        try:
            return service_account.Credentials.from_service_account_file(
                self._service_account_file, scopes=self._scope.split(), subject=self._subject
            )
        except OSError as error:
            why = error.strerror or type(error).__name__
        except Exception:  # of several libraries; the texts of some quote the key
            why = "it is no key of a service account"
        raise CredentialsUnavailable(f"the file of the service account cannot be used: {why}")
