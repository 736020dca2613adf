"""Programs of users, checked by mypy and by pyright: good ones pass, and each mistake in the others is told.

A line with a mistake ends in ``# wrong:`` with the code of mypy and the rule of pyright that it must meet.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.checkers import NEEDS_CHECKERS, output

PROGRAMS = Path(__file__).parent / "programs"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.py"))
MARK = re.compile(r"# wrong: ([\w-]+), (\w+)$")

Place = tuple[str, int, str]
"""A program, its line, and the code or rule."""

pytestmark = NEEDS_CHECKERS


def marked(place: int) -> set[Place]:
    """What the programs say that a checker must tell: mypy's codes stand first, pyright's rules second."""
    return {
        (path.stem, number, match[place])
        for path in PROGRAMS.glob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := MARK.search(line))
    }


@pytest.fixture(scope="module")
def of_mypy(stranger: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Place, str]:
    folder = tmp_path_factory.mktemp("mypy")
    command = ["mypy", "--strict", "--output", "json", "--cache-dir", ".cache", *PROGRAMS.glob("*.py")]
    lines = output(folder, stranger, *command).splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        (Path(each["file"]).stem, each["line"], each["code"]): each["message"]
        for each in told
        if each["severity"] == "error"
    }


@pytest.fixture(scope="module")
def of_pyright(stranger: Path) -> dict[Place, str]:
    told = json.loads(output(PROGRAMS, stranger, "pyright", "--outputjson", "-p", PROGRAMS))
    assert told["summary"]["filesAnalyzed"] == len(NAMES)
    return {
        (Path(each["file"]).stem, each["range"]["start"]["line"] + 1, each.get("rule", "")): each["message"]
        for each in told["generalDiagnostics"]
        if each["severity"] != "information"
    }


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", NAMES)
def test_a_checker_tells_each_mistake_and_nothing_else(name, checker, request):
    found = request.getfixturevalue(f"of_{checker}")
    told = {place: text for place, text in found.items() if place[0] == name}
    due = {place for place in marked(1 if checker == "mypy" else 2) if place[0] == name}
    assert not due - told.keys(), "it was silent there"
    assert not {place: told[place] for place in told.keys() - due}, "it complained there"


def test_there_are_good_programs_and_bad_ones():
    with_mistakes = {name for name, _, _ in marked(1)}
    assert {name.partition("_")[0] for name in NAMES} == {"good", "bad"}
    assert with_mistakes == {name for name in NAMES if name.startswith("bad_")}
