"""``pytest --processes N``: collect the tests once, then run them in N processes, file by file.

The processes are forked when all is collected, so that none collects, or imports, anything again. Each takes
the next file when it begins the last test of the one that it has. What they tell is reported as of one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import pytest

_WIDTH = 4
"""Octets of the place of a file, in the pipe that the processes take them from."""

_BRIEF = 1.0
"""Seconds; a preparation that passes in less is not told, and so not among the slowest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--processes",
        type=int,
        metavar="N",
        help="run the tests in N processes; no file of tests is in two of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    if number := config.getoption("processes"):
        config.pluginmanager.register(Processes(number))


class Processes:
    """The plugin of the process that collects, forks the others and reports."""

    def __init__(self, number: int) -> None:
        self._number = number

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly:
            return None  # pytest's own way says why it runs nothing
        files = _by_file(session.items)
        queue = _queue(len(files))
        session.config.get_terminal_writer().flush()
        session.config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        workers: list[_Worker] = []
        for _ in range(min(self._number, len(files))):
            incoming, outgoing = Pipe(duplex=False)
            if not (pid := os.fork()):
                _work(session, _taken(files, queue), outgoing)
                return True
            outgoing.close()
            workers.append(_Worker(pid, incoming))
        try:
            _report(session, workers)
        finally:
            while os.read(queue, 1 << 16):  # the others find nothing more to take
                pass
            for worker in workers:
                worker.end()
        return True


@dataclass
class _Worker:
    """One of the processes, as the one that reports knows it."""

    pid: int
    incoming: Connection
    last: str = "the start"
    """The name of the test that it told of last."""

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def end(self) -> int:
        self.incoming.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _by_file(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    return list(files.values())


def _queue(length: int) -> int:
    """Return the descriptor of a pipe that holds the numbers up to this one; a number is read whole."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(place.to_bytes(_WIDTH, "big") for place in range(length)))
    os.close(writing)
    return reading


def _taken(files: list[list[pytest.Item]], queue: int) -> Iterator[pytest.Item]:
    while place := os.read(queue, _WIDTH):
        yield from files[int.from_bytes(place, "big")]


def _work(session: pytest.Session, items: Iterator[pytest.Item], outgoing: Connection) -> None:
    """Run what is taken, in a process of its own, which then ends as every session does."""
    config = session.config
    config.workerinput = {}  # type: ignore[attr-defined]  # pytest's mark of a process that reports to another
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(_Telling(config, outgoing))
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    capture.start_global_capturing()
    capture.suspend_global_capture()
    item = next(items, None)
    while item is not None and not (session.shouldfail or session.shouldstop):
        following = next(items, None)
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item = following


class _Telling:
    """The plugin of a process that runs tests: it tells what became of them."""

    def __init__(self, config: pytest.Config, outgoing: Connection) -> None:
        self._config = config
        self._outgoing = outgoing

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when != "call" and report.duration < _BRIEF:
            return
        told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._outgoing.send(told | {"keywords": {}})  # nobody asks for them, and they are the most of it

    def pytest_internalerror(self, excrepr: object) -> None:
        self._outgoing.send(str(excrepr))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._outgoing.send(None)


def _report(session: pytest.Session, workers: list[_Worker]) -> None:
    """Report what the processes tell, until each has said that it is done."""
    hook = session.config.hook
    busy = {worker.incoming: worker for worker in workers}
    missing = {item.nodeid: None for item in session.items}
    while busy:
        for incoming in wait(list(busy)):
            worker = busy[incoming]
            try:
                told = incoming.recv()
            except (EOFError, OSError):  # the latter in the middle of a report
                del busy[incoming]
                hook.pytest_runtest_logreport(report=_broken(worker.last, f"process {worker.pid} ended"))
                continue
            if told is None:
                del busy[incoming]
            elif isinstance(told, str):
                hook.pytest_runtest_logreport(report=_broken(worker.last, told))
            else:
                report = hook.pytest_report_from_serializable(config=session.config, data=told)
                worker.last = report.nodeid
                missing.pop(report.nodeid, None)
                hook.pytest_runtest_logreport(report=report)
                hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
        if session.shouldfail or session.shouldstop:
            for worker in busy.values():
                worker.interrupt()
            raise session.Failed(session.shouldfail or session.shouldstop)
    if missing:  # by a process that ended, or was interrupted
        why = f"{len(missing)} tests were not run to their end"
        hook.pytest_runtest_logreport(report=_broken(next(iter(missing)), why))


def _broken(last: str, why: str) -> pytest.TestReport:
    """The failure of a process that told of this test last."""
    return pytest.TestReport(
        nodeid=f"{last} (what came behind it)",
        location=(last.partition("::")[0], None, ""),
        keywords={},
        outcome="failed",
        longrepr=why,
        when="call",
    )
