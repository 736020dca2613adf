"""Celery apps of a test's own, whose pools are closed when it ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from pysmtpx.contrib.pools import close_pools

Make = Callable[..., Celery]


@pytest.fixture
def make_app() -> Iterator[Make]:
    """Return what makes an app: a broker and results in memory, and a queue that no other test knows."""
    apps: list[Celery] = []

    def make(**conf: Any) -> Celery:
        app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
        app.conf.update({"task_default_queue": f"q-{uuid.uuid4()}", **conf})
        apps.append(app)
        return app

    yield make
    close_pools(0)
    for app in apps:
        app.close()


@pytest.fixture
def eager(make_app: Make) -> Celery:
    """Return an app that runs tasks at once, here, and goes through JSON all the same."""
    return make_app(task_always_eager=True, task_store_eager_result=True)


@pytest.fixture
def app(make_app: Make) -> Celery:
    """Return an app that hands tasks to its broker, where nobody takes them."""
    return make_app()
