"""What an index and a stranger see of the package, as files tell; `scripts/package` builds and tries it."""

from __future__ import annotations

import configparser
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def setup_py() -> Any:
    pytest.importorskip("setuptools")
    spec = importlib.util.spec_from_file_location("setup_of_pysmtpx", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def test_on_an_index_no_link_of_the_readme_leads_nowhere(setup_py: Any) -> None:
    told = setup_py.description(README, setup_py.source())
    assert len(links(README)) > 10
    assert [link for link in links(told) if not link.startswith(("https://", "#"))] == []
    assert "Ten minutes from nothing to a checked bulk send" in told
    assert "docs/tutorial.md" in told


def test_a_home_on_the_net_is_what_the_links_begin_with(setup_py: Any) -> None:
    told = setup_py.description(
        "See [this](docs/a.md#b), [that](https://x.example/), ![plot](p.svg).", "https://h/"
    )
    assert (
        told
        == "See [this](https://h/docs/a.md#b), [that](https://x.example/), ![plot](https://h/p.svg?raw=true)."
    )


def test_no_address_is_named_that_is_nobodys() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", "utf-8")
    metadata = config["metadata"]
    urls = metadata.get("url", "") + metadata.get("project_urls", "")
    assert ".example" not in urls
    assert ".invalid" not in urls


def test_every_extra_that_the_pages_name_is_one() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", "utf-8")
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        extra.strip()
        for page in pages
        for extras in re.findall(r"(?:pysmtpx|\.)\[([a-z, ]+)\]", page.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert {"cli", "docs", "django", "flask", "celery"} <= named <= set(config["options.extras_require"])
