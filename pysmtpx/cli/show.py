"""How the command tells what it found: tables for people (by rich in a terminal), JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

from ..checking.report import told
from ..errors import SmtpError

_GAP: Final = "  "


def clean(text: object) -> str:
    """A text without what writes to a terminal beside letters: much of it comes from strangers."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


class Show:
    """Where output goes, and in which form."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None, console: Any = None) -> None:
        """``console`` is one of rich's to be written to in place of ``out``."""
        self.as_json = as_json
        self._out = out or sys.stdout
        self._console = None if as_json else console or _console(self._out)

    def value(self, value: Any) -> None:
        """One JSON document on one line, where JSON was asked for."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False), file=self._out, flush=True)

    def line(self, text: str = "", style: str = "") -> None:
        """One line for people."""
        if self.as_json:
            return
        if self._console is not None:
            self._console.print(clean(text), style=style, markup=False, highlight=False, soft_wrap=True)
        else:
            print(clean(text), file=self._out, flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table for people, where it has a row."""
        cells = [[clean(cell) for cell in row] for row in rows]
        if self.as_json or not cells:
            return
        if self._console is None:
            self._plain(title, columns, cells)
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        self._console.print(table)

    def _plain(self, title: str, columns: Sequence[str], rows: list[list[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        print(f"{title}", file=self._out)
        for row in (columns, *rows):
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(_GAP + _GAP.join(padded).rstrip(), file=self._out)
        print(file=self._out, flush=True)


def _console(out: TextIO) -> Any:
    """Rich's, for a terminal if it is installed; what is written elsewhere must not be folded."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=out)
    return console if console.is_terminal else None


def error_text(error: SmtpError) -> str:
    """What an error says to whoever gives options to the command."""
    return told(error, "command")


def complain(text: object) -> None:
    """One line to standard error; an error with the name of its section in the docs."""
    said = f"{error_text(text)} [{text.anchor}]" if isinstance(text, SmtpError) else text
    print(f"pysmtpx: {clean(said)}", file=sys.stderr, flush=True)
