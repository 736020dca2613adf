"""Providers of tokens and passwords, wherever one is taken."""

from __future__ import annotations

import pysmtpx
from pysmtpx import smtplib
from pysmtpx.oauth import Cached, Google, Microsoft, OAuth2, Provider, Secret, TokenProvider, by_name


class Own(TokenProvider):
    def fetch(self) -> Secret:
        return Secret("token", lifetime=3600)


class Foreign:
    """Nothing is inherited."""

    def current(self, timeout: float | None = None) -> str:
        return "token"

    def renewed(self, refused: str, timeout: float | None = None) -> str:
        return refused


def password() -> str:
    return "password"


foreign: Provider = Foreign()
providers: list[Provider] = [
    foreign,
    Own(),
    Microsoft("tenant", "id", client_secret="s"),
    Microsoft("tenant", "id", certificate="client.pem", timeout=5),
    Google("account.json", "ann@example.org"),
    Google(client_id="id", client_secret=password, refresh_token="r"),
    OAuth2("https://login.example/token", "id", client_secret=password, client_auth="body"),
    by_name("microsoft", tenant="t", client_id="i"),
]
for provider in providers:
    server = pysmtpx.Server("mail.example.org", username="ann", token=provider)
    pysmtpx.SmtpPool("mail.example.org", username="ann", token=provider).close()
rotated = pysmtpx.Server("mail.example.org", username="ann", password=Cached(password, 300))
called = pysmtpx.Server("mail.example.org", username="ann", password=password)
text: str = Own()()
with smtplib.SMTP("mail.example.org", 587) as smtp:
    smtp.login("ann", Own())
try:
    pysmtpx.connect(called)
except pysmtpx.CredentialsUnavailable as error:
    seconds: float | None = error.retry_after
