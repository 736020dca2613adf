"""The house: imports point down, functions stay small, and the public says what it does."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pysmtpx"
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if "__pycache__" not in path.parts
}
TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in FILES.items()}

# The lowest first. A file may import from the rows above its own, never from its own row.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("wire.limits", "telling", "frames", "shortening", "lock"),
    ("wire.reply",),
    ("records",),
    ("wire.result", "wire.certificate", "cures"),
    ("errors",),
    (
        "extras",
        "private_keys",
        "values",
    ),
    ("wire.certificate_request", "wire.parser", "wire.address", "wire.lines", "wire.capabilities"),
    ("wire.params", "wire.content"),
    ("wire.command",),
    ("wire.envelope",),
    ("flow.recipients",),
    ("outcome", "journal.store", "journal.owner"),
    ("journal.transactions", "journal.statements"),
    ("journal.disk", "journal.sql"),
    ("journal.messages", "journal.postgresql", "journal.recipients"),
    ("journal.opening",),
    ("sasl.saslprep", "sasl.binding", "sasl.proof"),
    ("sasl.scram",),
    ("sasl.mechanisms",),
    ("sasl.own", "sasl.gssapi"),
    ("sasl.credentials",),
    ("flow.hidden",),
    ("flow.effects",),
    ("flow.auth",),
    ("flow.allowance",),
    ("flow.session", "flow.account", "flow.plan"),
    ("flow.batches", "flow.body"),
    ("flow.transaction",),
    ("flow.pipeline",),
    ("net.deadline", "net.wait"),
    ("observing",),
    ("checking.report",),
    ("net.tls_sessions",),
    ("net.tls", "net.bridge"),
    ("net.tls_first",),
    ("net.stream",),
    ("net.dial",),
    ("net.proxy",),
    ("transcript",),
    ("driver",),
    ("channel",),
    ("mime.addresses", "mime.raw", "mime.parameters", "mime.failures"),
    ("identifiers",),
    ("events",),
    ("watching",),
    ("mime.words",),
    ("mime.header_objects",),
    ("mime.headers", "mime.signatures"),
    ("mime.parts",),
    ("mime.writing",),
    ("mime.bodies",),
    ("embedded", "presets"),
    ("url", "endpoint"),
    ("outgoing", "dkim"),
    ("options",),
    ("message", "composing"),
    ("smime",),
    ("sending",),
    ("server",),
    ("oauth.renewal", "oauth.https"),
    ("oauth.provider",),
    ("oauth.oauth2",),
    ("oauth.exchange",),
    ("oauth.google", "oauth.microsoft"),
    ("oauth.named",),
    ("oauth.__init__",),
    ("reaching",),
    ("tls_failures",),
    ("opening",),
    ("connection",),
    ("connecting",),
    ("route",),
    ("checking.looking", "checking.findings"),
    ("checking.doctor",),
    ("checking.__init__",),
    ("retry",),
    (
        "pooling.backoff",
        "pooling.process",
        "pooling.ratelimit",
        "pooling.replies",
    ),
    ("pooling.arguments", "pooling.connection", "pooling.tries"),
    ("pooling.blame", "pooling.selection"),
    ("pooling.connections", "pooling.job"),
    ("pooling.outcomes", "pooling.queue", "payload"),
    ("pooling.call", "pooling.fanout", "pooling.journaling", "pooling.worker"),
    ("pooling.engine",),
    ("pooling.overview",),
    ("pool",),
    ("logging",),
    ("cli.show", "cli.exits"),
    ("cli.checked",),
    # The faces: for smtplib, Django, Flask, Celery and RQ.
    (
        "contrib.pools",
        "contrib.opentelemetry",
        "contrib.prometheus",
        "contrib.configuration",
        "contrib.smtplib_errors",
        "contrib.queueing.signing",
        "contrib.queueing.tries",
    ),
    ("contrib.queueing.recording",),
    ("contrib.queueing.attempt", "contrib.queueing.submitting"),
    ("contrib.celery.task", "contrib.rq.job"),
    ("contrib.celery.registration", "contrib.rq.registration", "contrib.dramatiq.registration"),
    ("contrib.celery.__init__", "contrib.rq.__init__", "contrib.dramatiq.__init__"),
    ("contrib.flask.addresses", "contrib.flask.esmtp_options", "contrib.flask.command"),
    ("contrib.flask.message", "contrib.flask.settings"),
    ("contrib.flask.mail",),
    ("contrib.flask.__init__",),
    (
        "contrib.django.options",
        "contrib.django.message",
        "contrib.django.signals",
        "contrib.django.config",
        "contrib.django.log",
        "contrib.django.outbox.apps",
        "contrib.django.outbox.migrations.0001_initial",
        "contrib.django.outbox.migrations.0002_indices",
        "contrib.django.outbox.models",
    ),
    ("contrib.django.sending", "contrib.django.outbox.rows"),
    (
        "contrib.django.backend",
        "contrib.django.celery_backend",
        "contrib.django.outbox.admin",
        "contrib.django.outbox.management.commands.purge_outbox",
        "contrib.django.outbox.store",
        "contrib.django.outbox.telling",
    ),
    ("contrib.django.keeping",),
    ("contrib.django.outbox_backend", "contrib.django.task_backend"),
    ("contrib.django.mail_task",),
    ("contrib.django.outbox.sending",),
    (
        "contrib.django.outbox.django_tasks",
        "contrib.django.outbox.tasks",
        "contrib.django.checks",
        "contrib.django.management.commands.check_mail",
        "contrib.django.outbox.management.commands.send_outbox",
    ),
    ("contrib.django.__init__",),
    ("drop_in.redaction", "drop_in.standard", "drop_in.installing", "drop_in.results"),
    ("drop_in.lines",),
    ("drop_in.arguments", "drop_in.flows"),
    ("drop_in.sockets", "drop_in.login", "drop_in.messages", "drop_in.outgoing"),
    ("drop_in.commands",),
    ("drop_in.smtp",),
    ("smtplib",),
    # The command line, and the embedded server that it shows the mail of.
    ("testing.__init__",),
    ("cli.flags",),
    ("cli.compose", "cli.recipients", "cli.servers"),
    ("cli.inbox", "cli.template", "cli.running"),
    ("cli.web", "development"),
    ("cli.check", "cli.send", "cli.bulk", "cli.journal", "cli.sink"),
    ("__init__",),
    ("cli.main",),
    ("__main__",),
)
RANK = {module: rank for rank, row in enumerate(LEVELS) for module in row}

WITHOUT_IO = ("wire.", "flow.", "errors")
"""What is below net/: no socket, no clock, no thread."""
IO_MODULES = {"asyncio", "selectors", "select", "signal", "socket", "ssl", "subprocess", "threading", "time"}

MAX_FUNCTION_LINES = 60
MAX_MEDIAN_LINES = 10


def _imports(module: str) -> Iterator[str]:
    """Yield the absolute dotted name of everything that a module imports, at any depth of its code."""
    package = ["pysmtpx", *module.split(".")][: -1 if module != "__init__" else None]
    package = ["pysmtpx"] if module == "__init__" else package
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` and `from .x import y`: the longest name that is a file of ours counts.
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def _own_imports(module: str) -> set[str]:
    found = set()
    for name in _imports(module):
        parts = name.split(".")
        if parts[0] != "pysmtpx":
            continue
        found.add(_file_of(parts[1:]))
    return found


def _file_of(parts: list[str]) -> str:
    for length in range(len(parts), 0, -1):
        for candidate in (".".join(parts[:length]), ".".join([*parts[:length], "__init__"])):
            if candidate in FILES:
                return candidate
    return "__init__"


def _functions() -> Iterator[tuple[str, int]]:
    """Yield each function with its lines of code: without its docstring and its decorators."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}", _length(node)


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _public_nodes(module: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield each public class and function of a module, and each public method of a public class."""
    for node in TREES[module].body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", part


def _is_package_file(module: str) -> bool:
    """Whether it marks a folder and no more; those of ``pysmtpx`` and of each framework have public names."""
    return module.rpartition(".")[2] == "__init__" and module not in RANK


def _in_testing(module: str) -> bool:
    return module.split(".")[0] == "testing"


@pytest.mark.parametrize("module", [m for m in FILES if not _in_testing(m) and not _is_package_file(m)])
def test_imports_point_down_only(module: str) -> None:
    assert module in RANK, f"{module} has no level yet: give it one in LEVELS"
    for imported in _own_imports(module):
        assert imported in RANK, f"{module} imports {imported}"
        assert RANK[imported] < RANK[module], f"{module} imports {imported}, which is not below it"


@pytest.mark.parametrize("module", [m for m in FILES if _is_package_file(m) and not _in_testing(m)])
def test_a_package_file_hides_no_import(module: str) -> None:
    assert not list(_imports(module))


def test_every_level_has_its_file() -> None:
    assert set(RANK) <= set(FILES), f"no such file: {sorted(set(RANK) - set(FILES))}"


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith(WITHOUT_IO)])
def test_nothing_below_net_does_input_or_output(module: str) -> None:
    assert not IO_MODULES & {name.split(".")[0] for name in _imports(module)}


@pytest.mark.parametrize("module", [m for m in FILES if _in_testing(m)])
def test_the_embedded_server_shares_no_code_with_what_it_judges(module: str) -> None:
    assert all(_in_testing(imported) for imported in _own_imports(module))


def test_functions_are_short() -> None:
    lengths = dict(_functions())
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
    assert statistics.median(lengths.values()) < MAX_MEDIAN_LINES


@pytest.mark.parametrize("module", FILES)
def test_everything_public_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(TREES[module])
    missing = [name for name, node in _public_nodes(module) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert missing == []
