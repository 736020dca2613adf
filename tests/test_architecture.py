"""docs/architecture.md is true to the code: which rooms import which, and the files that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TOP = Path(__file__).parent.parent
ROOT = TOP / "pysmtpx"
PAGE = (TOP / "docs" / "architecture.md").read_text("utf-8")
HEAD = "| room | imports |\n|---|---|\n"


def room_of(names: list[str]) -> str:
    """``flow/`` for a file in a folder, else ``errors.py``; ``pysmtpx`` for what the user imports."""
    if not names or names == ["__init__"]:
        return "pysmtpx"
    if (ROOT / names[0]).is_dir():
        return f"{names[0]}/"
    return f"{names[0]}.py" if (ROOT / f"{names[0]}.py").exists() else "pysmtpx"


def imported(path: Path) -> set[str]:
    """The rooms from which a file imports anything, at any depth of its code."""
    here = ["pysmtpx", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            names = [*here[: len(here) - node.level + 1], *module] if node.level else module
            for alias in node.names:
                target = names if names != ["pysmtpx"] else [*names, alias.name]
                found |= {room_of(target[1:])} if target[:1] == ["pysmtpx"] else set()
        elif isinstance(node, ast.Import):
            found |= {room_of(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "pysmtpx"}
    return found


def rooms() -> dict[str, set[str]]:
    """Each room with the others from which it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(list(path.relative_to(ROOT).with_suffix("").parts))
        found.setdefault(room, set()).update(imported(path))
    return {room: targets - {room, "pysmtpx"} for room, targets in found.items()}


def test_the_table_of_imports_is_that_of_the_code():
    rows = PAGE.partition(HEAD)[2].partition("\n\n")[0].splitlines()
    told = {}
    for row in rows:
        room, targets = re.fullmatch(r"\| `(.+?)` \| (.*) \|", row).groups()
        told[room] = set(re.findall("`(.+?)`", targets))
    assert told == rooms()


def test_every_file_that_is_named_is_there():
    text = PAGE.replace(HEAD, "")
    places = [ROOT, TOP, ROOT / "pooling", TOP / "docs"]
    for name in set(re.findall(r"[\w/]+\.py|\w+(?:/\w+)*/(?=[`,; ])", text)):
        assert any((place / name).exists() for place in places), name
    for file, owner in re.findall(r"`([\w/]+\.py): (\w+)`", text):
        assert f"class {owner}" in (ROOT / file).read_text("utf-8"), (file, owner)


def test_every_folder_of_tests_is_in_their_readme():
    rows = re.findall(r"^\| (`.*?/`) \|", (TOP / "tests" / "README.md").read_text("utf-8"), re.M)
    told = {name for row in rows for name in re.findall(r"`(\w+)/`", row)}
    assert told == {path.parent.name for path in (TOP / "tests").glob("*/*.py")}


def test_every_thread_is_named():
    files = "\n".join(path.read_text("utf-8") for path in ROOT.rglob("*.py"))
    names = set(re.findall(r'"(pysmtpx-[\w-]+)"', files))
    assert set(re.findall(r"`(pysmtpx-[\w-]+)`", PAGE)) == names


def test_every_lock_that_is_named_is_there():
    files = "\n".join(path.read_text("utf-8") for path in ROOT.rglob("*.py"))
    for owner in re.findall(r"\| `(\w+)\._lock`", PAGE):
        body = files.partition(f"class {owner}")[2].partition("\nclass ")[0]
        assert re.search(r"self\._lock = (threading\.)?Lock\(\)", body), owner
