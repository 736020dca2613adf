"""Backends that a Django project makes for itself; Django has no types."""

from __future__ import annotations

from pysmtpx import RetryPolicy, Route, Server
from pysmtpx.contrib.django import CeleryEmailBackend, EmailBackend, routes, servers
from pysmtpx.contrib.django.options import BackendOptions

PYSMTPX: BackendOptions = {"max_connections": 2, "retry": {"attempts": 3}, "token": "shop.mail.token"}
BY_NAME: BackendOptions = {"oauth": {"provider": "microsoft", "tenant": "t"}, "max_connections": 3}

backend = EmailBackend(
    host="mail.example.org",
    port=587,
    use_tls=True,
    timeout=10,
    max_connections=2,
    rate=5.0,
    retry=RetryPolicy(attempts=2),
    on_event="shop.mail.told",
    local_hostname="shop.example.org",
    all_or_nothing=True,
    fail_silently=False,
)
queue = CeleryEmailBackend(task="shop.send", queue="mail", apply_async={"priority": 1})
found: list[Server] = servers()
listed: list[Route] = routes()
SEVERAL: BackendOptions = {
    "servers": ["smtps://a.example.org?weight=2", {"url": "smtps://b.example.org", "password": "secret"}],
    "balance": "weighted",
}
