"""The fixture ``site`` for every test here."""

from support.django_site import site

__all__ = ["site"]
