"""Tokens for Microsoft 365 and Outlook, by ``msal``."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..errors import CredentialsUnavailable, InputError
from ..extras import needs
from ..frames import conceals
from ..values import above_zero, tls_context
from .exchange import Exchange, MsalClient
from .https import checked_url
from .oauth2 import Given, keep_refresh_token, refresh_token_of
from .provider import (
    TIMEOUT,
    Named,
    checked,
    checked_extra,
    checked_function,
    checked_path,
    checked_secret,
    text_of,
)
from .renewal import Secret

WORLD_WIDE: Final = "https://login.microsoftonline.com"
_AS_USER: Final = "https://outlook.office.com/SMTP.Send"
_AS_APPLICATION: Final = "https://outlook.office365.com/.default"
_TENANT: Final = re.compile(r"[A-Za-z0-9._-]+")


class Microsoft(Named):
    """Tokens of Microsoft 365, by ``msal`` (``pip install pysmtpx[microsoft]``).

    ``tenant`` is the directory's ID or domain. With ``client_secret`` or
    ``certificate`` (a PEM file with the key and the certificate) the application
    logs in as itself; it needs the permission ``SMTP.SendAsApp``, and access to the
    mailbox in Exchange. With ``refresh_token`` it acts for the user who consented to
    ``SMTP.Send``, with a secret or certificate where it is no public client. Secrets
    may be functions that return them, and are asked for and the file read at each
    renewal. ``on_refresh_token`` is called with each new refresh token, to keep
    it for the next start. ``scope`` and ``authority`` are those of the world-wide
    cloud by default. ``timeout`` is in seconds, for one renewal.

    Raises ``InputError`` for arguments that cannot be right, and ``MissingExtra``.
    """

    __slots__ = (
        "_application",
        "_certificate",
        "_client_secret",
        "_on_refresh_token",
        "_refresh_token",
        "_scope",
        "_ssl_context",
        "_timeout",
    )

    @conceals
    def __init__(
        self,
        tenant: str,
        client_id: str,
        *,
        client_secret: Given | None = None,
        certificate: str | os.PathLike[str] | None = None,
        refresh_token: Given | None = None,
        on_refresh_token: Callable[[str], object] | None = None,
        scope: str | None = None,
        authority: str = WORLD_WIDE,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        checked_extra("microsoft", "msal")
        if client_secret is not None and certificate is not None:
            raise InputError("client_secret and certificate were both given: which one is meant?")
        if client_secret is None and certificate is None and refresh_token is None:
            raise InputError("Microsoft needs a client_secret, a certificate or a refresh_token")
        base = checked_url("authority", authority).rstrip("/")
        if "?" in base:
            raise InputError("authority has no query in it")
        self._application = {
            "client_id": checked("client_id", client_id),
            "authority": f"{base}/{_checked_tenant(tenant)}",
        }
        self._client_secret = checked_secret("client_secret", client_secret)
        self._certificate = None if certificate is None else checked_path("certificate", certificate)
        self._refresh_token = checked_secret("refresh_token", refresh_token)
        self._on_refresh_token = checked_function("on_refresh_token", on_refresh_token)
        default = _AS_APPLICATION if refresh_token is None else _AS_USER
        self._scope = default if scope is None else checked("scope", scope)
        self._ssl_context = tls_context("ssl_context", ssl_context)
        self._timeout = above_zero("timeout", timeout)
        self._is(
            {
                "tenant": tenant,
                "client_id": client_id,
                "certificate": self._certificate,
                "scope": scope,
                "authority": None if authority == WORLD_WIDE else authority,
            },
            self._client_secret,
            self._refresh_token,
            on_refresh_token,
            ssl_context,
            self._timeout,
        )

    @conceals
    def fetch(self) -> Secret:
        """A new token. Raises ``CredentialsUnavailable``."""
        msal = needs("microsoft", "msal")
        credential = self._credential()
        refresh_token = ""
        if self._refresh_token is not None:
            refresh_token = refresh_token_of(self, self._refresh_token)
        secrets = [each for each in (credential, refresh_token) if isinstance(each, str) and each]
        exchange = Exchange(self._timeout, self._ssl_context, *secrets)
        kind = msal.PublicClientApplication if credential is None else msal.ConfidentialClientApplication
        # Made anew each time: nothing of it is shared with a forked child, and it keeps no token of its own.
        application = kind(
            client_credential=credential,
            http_client=MsalClient(exchange),
            instance_discovery=False,  # the authority is the caller's own word
            **self._application,
        )
        if refresh_token:
            application.acquire_token_by_refresh_token(refresh_token, self._scope.split())
        else:
            application.acquire_token_for_client(self._scope.split())
        token = exchange.obtained("Microsoft")
        keep_refresh_token(self, token.refresh_token, self._on_refresh_token)
        return Secret(token.text, token.lifetime)

    def _credential(self) -> Any:
        """The secret or the certificate, as ``msal`` wants it; None for a public client."""
        if self._client_secret is not None:
            return text_of("client secret", self._client_secret)
        if self._certificate is None:
            return None
        try:
            pem = Path(self._certificate).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise CredentialsUnavailable(f"the file of the certificate cannot be read: {why}") from None
        if "PRIVATE KEY-----" not in pem or "BEGIN CERTIFICATE-----" not in pem:
            raise CredentialsUnavailable("the file of the certificate must hold it and its key, in PEM")
        return {"private_key": pem, "public_certificate": pem}


def _checked_tenant(tenant: object) -> str:
    """What stands in the path of the authority. Raises ``InputError``."""
    text = checked("tenant", tenant).strip("/")
    if not _TENANT.fullmatch(text):
        raise InputError("tenant is the ID or a domain of the directory")
    return text
