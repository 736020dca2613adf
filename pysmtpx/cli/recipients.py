"""A list of recipients, row by row: CSV with a head line, or JSON lines. It is never in memory as a whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import InputError
from ..wire.address import ForwardPath, plainest

_JSON_LINES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_LONGEST: Final = 1024 * 1024
"""Characters of one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number, from 1, whom it names, and all its values."""

    number: int
    address: str
    """Empty where the row names nobody."""
    values: dict[str, Any]

    @property
    def key(self) -> str:
        """Who it is, for the journal, in one form, however the domain is spelt."""
        if not self.address:
            return f"row {self.number}"
        local, at, domain = self.address.rpartition("@")
        try:
            path = ForwardPath(self.address)
        except InputError:  # which is told when it is sent to
            return f"{local}{at}{domain.lower()}"
        if not path.domain or domain.endswith("."):  # a To field has no such dot: that row is refused alone
            return f"{local}{at}{domain.lower()}"
        return f"{plainest(path.local_part)}@{path.domain.lower()}"

    def check(self) -> None:
        """Raise ``InputError`` for what is no address."""
        if not self.address:
            raise InputError("the row names nobody")
        ForwardPath(self.address)


def read_rows(path: str, column: str) -> Iterator[Row]:
    """The rows of a file, whose suffix tells its form.

    Raises ``InputError`` for a file that cannot be read, that has no such column, or holds a line that is no
    JSON object.
    """
    read = _json_lines if Path(path).suffix.lower() in _JSON_LINES else _csv
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            for number, values in enumerate(read(file, path), 1):
                if number == 1 and column not in values:
                    names = ", ".join(map(str, values))
                    raise InputError(f"{path} has no column {column!r}, but {names}: name it by --column")
                yield Row(number, str(values.get(column) or "").strip(), values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _csv(file: Any, path: str) -> Iterator[dict[str, Any]]:
    for values in csv.DictReader(file, restkey="", restval=""):
        yield {name: value for name, value in values.items() if name}


def _json_lines(file: Any, path: str) -> Iterator[dict[str, Any]]:
    number = 0
    while line := file.readline(_LONGEST):
        number += 1
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}, line {number} is no JSON object")
        yield values
