"""``manage.py purge_outbox``: forgets old messages of the outbox."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand

from ...rows import purge

_DAY: Final = 86400.0


class Command(BaseCommand):  # type: ignore[misc]
    """Leaves alone what is queued or in doubt, however old it is."""

    help = "Forgets messages of the outbox of which nobody is queued or in doubt."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Make the options known."""
        parser.add_argument("--days", type=float, default=7.0, help="how old (default: 7)")
        parser.add_argument("--database", metavar="ALIAS", help="of DATABASES; else what the routers say")

    def handle(self, **options: Any) -> None:
        """Forget them, and say how many."""
        count = purge(time.time() - options["days"] * _DAY, using=options["database"])
        self.stdout.write(f"{count} messages forgotten")
