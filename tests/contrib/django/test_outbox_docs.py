"""The page on the outbox: its settings send, its Python is run, its table names what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from django.test import override_settings
from support import outbox, pages
from support.django_site import HAS_MAILERS

from pysmtpx.contrib.django.outbox import tasks
from pysmtpx.contrib.django.outbox.models import Message
from pysmtpx.contrib.django.outbox_backend import OutboxOptions
from pysmtpx.testing import MailServer

PATH = pages.DOCS / "how-to/django-outbox.md"
PAGE = PATH.read_text("utf-8")
SNIPPETS = pages.sources_of(PATH)
ALIAS = "documented"


def snippet(words: str) -> str:
    (found,) = [each for each in SNIPPETS if words in each]
    return found


def settings_of(words: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(snippet(words), PATH.name, "exec"), names)
    return {name: value for name, value in names.items() if name.isupper()}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[None]:
    outbox.add_database(ALIAS, outbox.sqlite(tmp_path))
    yield
    outbox.forget_database(ALIAS)


def test_the_page(database: None, site: Any) -> None:
    with MailServer() as server:
        place = {"host": server.host, "port": server.port}
        if site.by_mailers:
            mailers = settings_of("MAILERS")["MAILERS"]
            mailers["default"]["OPTIONS"]["using"] = ALIAS
            mailers["smtp"]["OPTIONS"] = place
            changes = {"MAILERS": mailers}
        else:
            changes = settings_of("EMAIL_BACKEND")
            changes |= {"EMAIL_HOST": server.host, "EMAIL_PORT": server.port, "EMAIL_USE_TLS": False}
            changes["PYSMTPX_OUTBOX"]["using"] = ALIAS
            assert "pysmtpx.contrib.django.outbox" in changes.pop("INSTALLED_APPS")
        site._stack.enter_context(override_settings(**changes))
        names: dict[str, Any] = {}
        code = snippet("def order").replace("atomic()", f"atomic({ALIAS!r})")
        exec(compile(code, PATH.name, "exec"), names)
        names["order"]("ann@example.com", True)
        with pytest.raises(ValueError, match="sold out"):
            names["order"]("bob@example.com", False)
        exec(compile(snippet("def remind"), PATH.name, "exec"), names)
        number = names["remind"]("ann@example.com")
        assert number is not None
        assert names["remind"]("ann@example.com") is None
        call_command("send_outbox")
        assert [each.addresses for each in server.messages] == [["ann@example.com"]]
        waiting = Message.objects.using(ALIAS).get(is_owed=True)
        assert waiting.pk == number
        assert waiting.expires > waiting.due


def test_the_tasks() -> None:
    app = Celery("documented", set_as_current=False)
    exec(compile(snippet("beat_schedule"), PATH.name, "exec"), {"app": app})
    (entry,) = app.conf.beat_schedule.values()
    assert entry["task"] == tasks.NAME == tasks.send_outbox.name
    assert settings_of("outbox.tasks.at_once")["PYSMTPX_OUTBOX"]["on_commit"] == f"{tasks.__name__}.at_once"
    hook = settings_of("django_tasks")["PYSMTPX_OUTBOX"]["on_commit"]
    assert hook == f"{tasks.__package__}.django_tasks.at_once"
    app.close()


def test_the_table_names_every_option() -> None:
    table = PAGE[PAGE.index("| option |") :]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(OutboxOptions.__annotations__)
    assert HAS_MAILERS or "MAILERS" in PAGE
