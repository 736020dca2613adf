"""No text makes a regular expression of the package slower than linear: each is tried in the way it is used.

They are found in the source: a pattern that is compiled at the top of a module, with the methods that are
called on it there, and what ``re.fullmatch`` and the like are given.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from support import django_site, linear  # noqa: F401  (models are imported where Django has settings)

ROOT = Path(__file__).parent.parent / "pysmtpx"
METHODS = ("match", "fullmatch", "search", "finditer", "findall", "split", "sub", "subn")

UNITS = [
    *(
        " ",
        "\t",
        "\r",
        "\n",
        "\r\n",
        "\r\n ",
        "a",
        "A",
        "0",
        "_",
        "-",
        ".",
        "@",
        "<",
        ">",
        "(",
        ")",
        "[",
        "]",
        '"',
    ),
    *(
        "\\",
        ":",
        ";",
        ",",
        "=",
        "?",
        "%",
        "+",
        "*",
        "/",
        "'",
        "!",
        "#",
        "{",
        "}",
        "ü",
        "日",
        "\udcfc",
        "\0",
        "\x7f",
    ),
    *(
        " a",
        "a ",
        "a.",
        "a-",
        "-a",
        "a,",
        "a;",
        "a=",
        "a=b ",
        "a:",
        '"a',
        '\\"',
        "\\a",
        "(a",
        "a)",
        "<a>",
        "=?",
        "?=",
    ),
    *(
        "=?a?q?",
        "=?a?q?a?= ",
        "%C3",
        "+2B",
        "\\x{",
        "a@",
        "a@b",
        "1.",
        "1,",
        "1;",
        "250-",
        "250 ",
        "5.1.1 ",
        "[a]",
    ),
    *(
        "250 |a",
        "=?|a",
        "a@|b.",
        '"|a',
        '"|\\"',
        "(|a",
        "[|a",
        "a=|b",
        "a;|b",
        " | ",
        "a|-",
        "a|_",
        "1|0",
        "2020-01-01T",
    ),
]
"""A beginning up to the bar, and what comes over and over."""
ENDS = ("", "!", "\0")
"""What may make a match fail at the very end."""
_SIZE = 20_000
_SUSPICIOUS = 0.2
"""Seconds for that many characters; linear is some milliseconds, quadratic some seconds."""


def patterns() -> dict[str, tuple[re.Pattern[Any], str]]:
    """By a name for the test: each pattern with the method that is called on it."""
    found: dict[str, tuple[re.Pattern[Any], str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text("utf-8")
        if "import re\n" not in source:
            continue
        module = ".".join(("pysmtpx", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in METHODS:
                name = node.value.id
                value = getattr(importlib.import_module(module), name, None)
                if isinstance(value, re.Pattern):
                    found[f"{module}.{name}.{node.attr}"] = value, node.attr
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{name}" for name in METHODS}:
                source_of = ast.literal_eval(node.args[0])
                method = ast.unparse(node.func).removeprefix("re.")
                found[f"{module}:{node.lineno}.{method}"] = re.compile(source_of), method
    return found


PATTERNS = patterns()


def run(pattern: re.Pattern[Any], method: str) -> Callable[[str], object]:
    def on(text: str) -> None:
        subject: Any = text
        if isinstance(pattern.pattern, bytes):
            subject = text.encode("utf-8", "surrogateescape")
        if method in ("sub", "subn"):
            getattr(pattern, method)(lambda match: match[0], subject)
        elif method == "finditer":
            for _ in pattern.finditer(subject):
                pass
        else:
            getattr(pattern, method)(subject)

    return on


def test_those_that_are_compiled_are_found() -> None:
    assert len(PATTERNS) > 30
    compiled = sum(path.read_text("utf-8").count("re.compile(") for path in ROOT.rglob("*.py"))
    assert len({id(pattern) for pattern, _ in PATTERNS.values()}) > compiled / 2


@pytest.mark.parametrize("name", PATTERNS)
def test_no_text_is_slower_than_linear(name: str) -> None:
    pattern, method = PATTERNS[name]
    on = run(pattern, method)
    for unit in UNITS:
        for end in ENDS:
            begin = process_time()
            on(linear.filled(unit, _SIZE) + end)
            if process_time() - begin > _SUSPICIOUS:
                linear.check(lambda text, end=end: on(text + end), unit)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_group_is_possessive(name: str) -> None:
    """CPython before 3.11.5 matches such a group wrongly if what is in it can match in several ways."""
    source = PATTERNS[name][0].pattern
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    assert not re.search(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+|\(\?>", text)
