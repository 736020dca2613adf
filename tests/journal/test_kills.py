"""Killed by SIGKILL at any instant: nothing lost, nothing twice, and who is in doubt is named (FAULTS 123).

The full number by ``python tests/journal/kills.py 2000``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import WAYS, Account, at_each_effect, at_random

CONNECTIONS, FLIGHT = 4, 8


def judge(account: Account) -> None:
    assert account.lost == []
    assert account.twice == []
    assert account.submitted


@pytest.mark.timeout(180)
def test_killed_at_random_instants(tmp_path: Path) -> None:
    account = at_random(tmp_path, 40, seed=7)
    judge(account)
    assert account.kills == 40
    assert len(account.doubtful) <= account.kills * CONNECTIONS * FLIGHT


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_third_effect_of_a_dialogue(tmp_path: Path, way: str) -> None:
    account = at_each_effect(tmp_path, WAYS[way], step=3)
    judge(account)
    assert account.kills > 4
    if way != "in flight":
        assert account.unseen == [], "nobody is in doubt whose content was not asked for"
