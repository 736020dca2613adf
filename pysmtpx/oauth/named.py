"""Providers by name, for URLs and settings: what they do not say comes from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, Final

from ..cures import unknown_secret_name
from ..errors import InputError
from ..extras import MissingExtra
from ..frames import conceals
from ..shortening import shown
from .google import Google
from .microsoft import Microsoft
from .oauth2 import OAuth2
from .provider import TokenProvider

_KINDS: Final[dict[str, Callable[..., TokenProvider]]] = {
    "microsoft": Microsoft,
    "google": Google,
    "oauth2": OAuth2,
}
_ARGUMENTS: Final = {
    "microsoft": (
        *("tenant", "client_id", "client_secret", "certificate"),
        *("refresh_token", "scope", "authority"),
    ),
    "google": ("service_account_file", "subject", "client_id", "client_secret", "refresh_token", "scope"),
    "oauth2": ("token_url", "client_id", "client_secret", "refresh_token", "scope", "client_auth"),
}
"""What of each may come from the environment; anything else is given."""
_INSTEAD: Final = {
    "certificate": ("client_secret",),
    "client_secret": ("certificate", "service_account_file", "subject"),
    "service_account_file": ("client_id", "client_secret", "refresh_token"),
}
"""What an argument that is given stands in place of: that is not looked for."""
_PREFIX: Final = "PYSMTPX"


@conceals
def by_name(name: str, *, username: str | None = None, env: str = _PREFIX, **options: Any) -> TokenProvider:
    """Make a provider from its name (``microsoft``, ``google``, ``oauth2``) and its arguments.

    An argument that is not given comes from the environment: ``client_secret``
    from ``PYSMTPX_CLIENT_SECRET``, and so on; ``env`` is the word before the
    underscore. ``username`` is the mailbox: the subject of a Google service account,
    where no other is given.

    Raises ``InputError``, which says what is missing, and ``MissingExtra``.
    """
    make = _KINDS.get(name) if isinstance(name, str) else None
    if make is None:
        told = shown(name) if isinstance(name, str) else type(name).__name__
        raise InputError(f"no such provider for oauth: {told}; there are {', '.join(sorted(_KINDS))}")
    if not isinstance(env, str) or not env.isidentifier():
        raise InputError("env is the word that the names of the environment's variables begin with")
    values = _completed(name, options, env)
    if name == "google" and "service_account_file" in values:
        values.setdefault("subject", username)
    _check_names(name, signature(make).parameters, values, env)
    try:
        return make(**values)
    except MissingExtra:
        raise
    except InputError as error:
        text = str(error.args[0])
    raise InputError(
        f"{text}; what is not given is looked for in ${env}_…, in capitals, as in ${env}_CLIENT_SECRET;"
        f" oauth={name} has {', '.join(_ARGUMENTS[name])}"
    )


def _check_names(name: str, known: Mapping[str, Parameter], values: Mapping[str, Any], env: str) -> None:
    """Raises ``InputError``, which says what is missing; it repeats no unknown name."""
    if unknown := values.keys() - known.keys():
        # What was given by mistake in place of a name may be a secret.
        raise InputError(f"oauth={name} has an unknown argument; {unknown_secret_name(unknown, known)}")
    required = [each for each, parameter in known.items() if parameter.default is Parameter.empty]
    if missing := [each for each in required if each not in values]:
        variables = " and ".join(f"${env}_{each.upper()}" for each in missing)
        raise InputError(f"oauth={name} needs {' and '.join(missing)}: give it, or set {variables}")


@conceals
def configured(value: object, username: str | None) -> TokenProvider:
    """The provider that a setting names: a name, or a mapping with ``provider`` and arguments.

    Raises what ``by_name`` raises.
    """
    if isinstance(value, str):
        return by_name(value, username=username)
    if isinstance(value, Mapping) and "provider" in value:
        options = {str(name): each for name, each in value.items() if name != "provider"}
        return by_name(value["provider"], **{"username": username, **options})
    raise InputError("oauth is the name of a provider, or a dict with 'provider' and its arguments")


def _completed(name: str, options: Mapping[str, Any], env: str) -> dict[str, Any]:
    values = {each: value for each, value in options.items() if value is not None}
    for argument in _ARGUMENTS[name]:
        stands_in = any(argument in _INSTEAD.get(given, ()) for given in values)
        text = os.environ.get(f"{env}_{argument.upper()}")
        if text and argument not in values and not stands_in:
            values[argument] = text
    return values
