"""What is installed only where somebody asked for it: the packages of the extras."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import InputError


class MissingExtra(InputError, ImportError):
    """What was asked for needs a package that is not installed."""


def needs(extra: str, module: str) -> Any:
    """A module of a package that ``pysmtpx[extra]`` brings; imported where it is used, never before.

    Raises ``MissingExtra``, which says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # it is there, and broken
    raise MissingExtra(f"{package} is needed and not installed: pip install 'pysmtpx[{extra}]'")
