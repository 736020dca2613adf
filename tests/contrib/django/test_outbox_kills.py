"""A worker of the outbox killed by SIGKILL at any point: nothing lost, nothing twice (FAULTS 123)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import outbox
from support.outbox_kills import at_each

ALIAS = "killed"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[dict[str, Any]]:
    settings = outbox.sqlite(tmp_path)
    outbox.add_database(ALIAS, settings)
    yield settings
    outbox.forget_database(ALIAS)


@pytest.mark.once
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("what", "options", "step"),
    [
        ("effect", {}, 7),
        ("effect", {"in_flight": 8}, 5),
        ("statement", {}, 97),
    ],
    ids=["effects", "effects in flight", "statements"],
)
def test_killed_at_many_points(
    database: dict[str, Any], what: str, options: dict[str, Any], step: int
) -> None:
    account = at_each(what, ALIAS, database, {"max_connections": 1, **options}, step)
    assert account.lost == []
    assert account.twice == []
    assert account.kills > 4
    if not options:
        assert account.unseen == [], "nobody is in doubt whose transaction had not begun"
