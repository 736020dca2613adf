"""What backends have in common that keep messages for another one, which sends them later and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend

from ...payload import MAX_SIZE
from ...values import whole
from ..configuration import number, switched_on
from .backend import EmailBackend
from .options import OWN_SETTING, mailer, right, wrong
from .sending import Sending


class KeepingBackend(Sending, BaseEmailBackend):  # type: ignore[misc]
    """Keeps messages for the ``EmailBackend`` of ``MAILERS`` called ``mailer``, or that of the settings."""

    def _take(self, own: Mapping[str, Any], alias: str | None, *, fail_silently: bool) -> None:
        """Take the options that all of them have. Raises ``ImproperlyConfigured``."""
        self.alias = alias
        self.fail_silently = fail_silently
        self.mailer: str = own.get("mailer") or ""
        if alias is not None and not self.mailer:
            raise wrong("mailer must name the entry of MAILERS that sends", alias)
        self._max_size: int = right(
            alias, lambda: whole("max_size", number(int, own.get("max_size", MAX_SIZE)))
        )
        shared = getattr(settings, OWN_SETTING, None) if alias is None else None
        default = shared.get("all_or_nothing") if isinstance(shared, Mapping) else None
        value = own.get("all_or_nothing", default)
        self._all_or_nothing = right(alias, lambda: switched_on("all_or_nothing", value))

    def sends_by(self) -> EmailBackend:
        """The backend whose options say where messages go. Raises ``ImproperlyConfigured``."""
        backend = mailer(self.mailer) if self.mailer else EmailBackend()
        if not isinstance(backend, EmailBackend):
            raise wrong(f"the mailer {self.mailer!r} is no EmailBackend of pysmtpx", self.alias)
        return backend

    def _is_ours(self, error: Exception | None) -> bool:
        return False  # nothing is sent here: it is wrong with the message, or with what keeps it
