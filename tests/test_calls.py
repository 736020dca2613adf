"""How much code a message runs through, as ``benchmarks.calls`` counts it."""

from __future__ import annotations

import _socket
import re
import socket

import pytest

from benchmarks import calls
from pysmtpx.mime import parameters
from pysmtpx.net import dial

AT_MOST = 0.75
"""Calls of ours beside one of smtplib's, which does less: it adds no Date and no Message-ID."""


def test_a_call_is_counted_with_what_it_calls():
    found = calls.count(lambda: parameters.first("A/B; c=d"))
    assert (found.calls, found.moves, found.deepest) == (5, 0, 1)  # the lambda, first and three of str
    assert [name.rpartition("/")[2] for name in found.files] == ["parameters.py"]


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        # What the guard of the tests does at each is not ours; it is lifted for loopback alone.
        patch.setattr(dial, "_GETADDRINFO", socket.getaddrinfo)
        patch.setattr(socket.socket, "connect", _socket.socket.connect)
        lines = calls.calls().markdown().splitlines()
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if " | " in line}


@pytest.mark.parametrize("kind", calls.KINDS)
def test_an_email_message_costs_less_than_by_smtplib(rows, kind):
    found = re.search(r"([\d.]+) × \|", rows[f"`send_message`, {kind}"])
    assert found is not None
    assert float(found[1]) <= AT_MOST


@pytest.mark.parametrize("name", ["SmtpConnection.send", "SmtpPool.send", "pool.connection()", "send_many"])
def test_every_way_to_send_has_a_row(rows, name):
    assert any(name in row for row in rows)


@pytest.mark.parametrize("name", calls.MOST)
def test_a_message_costs_no_more_calls_than_the_goal_says(rows, name):
    found = re.search(r"\| ([\d,]+) \| [^|]+ \| [\d.]+ × \|", rows[name])
    assert found is not None
    assert int(found[1]) <= calls.MOST[name]


@pytest.mark.parametrize("name", calls.CROSSED)
def test_a_call_crosses_no_more_files_than_the_goal_says(rows, name):
    files, moves = map(int, rows[name].split(" | ")[1:3])
    most_files, most_moves = calls.CROSSED[name]
    assert (files <= most_files, moves <= most_moves) == (True, True), (files, moves)
