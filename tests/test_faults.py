"""Every fault of the table has a test that cites it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

HERE = Path(__file__)
ALL = set(range(1, 129))


@cache
def _cited() -> dict[int, str]:
    """Each fault that is cited, by docstring or comment, and a file that does."""
    return {
        number: path.stem
        for path in sorted(HERE.parent.rglob("test_*.py"))
        if path != HERE
        for citation in re.finditer(r"FAULTS ((?:\d+(?:, (?:and )?| and | to )?)+)", path.read_text("utf-8"))
        for number in _numbers(citation[1])
    }


def _numbers(text: str) -> set[int]:
    """The numbers of a citation: ``5, 6``, ``44, 111``, ``101 to 106``."""
    found = set(map(int, re.findall(r"\d+", text)))
    for first, last in re.findall(r"(\d+) to (\d+)", text):
        found.update(range(int(first), int(last) + 1))
    return found


def test_every_fault_is_cited() -> None:
    cited = _cited()
    missing = sorted(ALL - cited.keys())
    assert not missing, f"no test cites FAULTS {missing}"


def test_citations_name_faults_that_exist() -> None:
    assert all(1 <= number <= 128 for number in _cited())


def test_citations_are_read_as_they_are_written() -> None:
    assert _numbers("5, 6") == {5, 6}
    assert _numbers("101 to 103, 111") == {101, 102, 103, 111}
    assert _numbers("27 to 29 and 35") == {27, 28, 29, 35}


def test_the_list_for_readers_is_whole() -> None:
    """``docs/faults.md`` is where a citation can be looked up."""
    text = (HERE.parent.parent / "docs/faults.md").read_text("utf-8")
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.M)] == list(range(1, 129))
