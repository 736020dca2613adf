"""The app, which listens to what becomes of its mail."""

from typing import Any

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Connects the receiver once Django is ready."""

    name = "shop"

    def ready(self) -> None:
        """Connect it."""
        from pysmtpx.contrib.django import recipient_refused

        recipient_refused.connect(_strike_off, dispatch_uid="shop")


def _strike_off(recipient: str, temporary: bool, **_: Any) -> None:
    """An address that was refused for good gets no more mail."""
    from . import views

    if not temporary:
        views.bounced.add(recipient)
