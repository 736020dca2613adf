"""Private keys that a caller names, for signers: from a file, a text, or a variable of the environment."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError
from .frames import conceals


@conceals
def octets_of(
    key_file: str | os.PathLike[str] | None, key: str | bytes | None, key_variable: str | None
) -> bytes:
    """What is in the one that is given. Raises ``InputError``, which tells nothing of it."""
    if [key_file, key, key_variable].count(None) != 2:
        raise InputError("give one of key_file, key and key_variable")
    if key_file is not None:
        return of_file("key_file", key_file)
    if key_variable is not None:
        key = os.environ.get(key_variable)
        if not key:
            raise InputError(f"there is nothing in the variable {key_variable}")
    if isinstance(key, str):
        # Variables often have their line ends written as \n.
        key = key.replace("\\n", "\n").encode("utf-8", "replace")
    if not isinstance(key, bytes):
        raise InputError("key is the text or the octets of a PEM file; a path goes into key_file")
    return key


def of_file(what: str, file: str | os.PathLike[str]) -> bytes:
    """What is in a file. Raises ``InputError``."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}") from error
