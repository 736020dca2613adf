"""Tokens and passwords that renew themselves, for ``token=`` and ``password=`` of a ``Server``.

``Microsoft``, ``Google`` and ``OAuth2`` get tokens, ``Cached`` keeps what a
function of yours returns, and ``TokenProvider`` is for one of your own. By name,
as in URLs and settings, ``by_name`` makes them.
"""

from __future__ import annotations

from ..errors import CredentialsUnavailable
from ..sasl.credentials import Provider
from .google import Google
from .microsoft import Microsoft
from .named import by_name
from .oauth2 import OAuth2
from .provider import Cached, TokenProvider
from .renewal import Secret

__all__ = [
    "Cached",
    "CredentialsUnavailable",
    "Google",
    "Microsoft",
    "OAuth2",
    "Provider",
    "Secret",
    "TokenProvider",
    "by_name",
]
