"""``manage.py send_outbox``: sends what is due in the outbox, once or for ever."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from ......errors import SmtpError
from ...sending import send_outbox

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Command(BaseCommand):  # type: ignore[misc]
    """Any number of these may run at the same time, on any number of machines."""

    help = "Sends what is due in the outbox, and ends when nothing is; with --forever at SIGTERM or SIGINT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Make the options known."""
        parser.add_argument("--forever", action="store_true", help="wait for more")
        parser.add_argument("--mailer", metavar="ALIAS", help="the outbox of MAILERS; else each one")

    def handle(self, **options: Any) -> None:
        """Send. Raises ``CommandError`` for settings that cannot be right, and a database that fails."""
        stopped = threading.Event()
        # Only the main thread may; in any other one, as in tests, there is nobody to ask.
        is_main = threading.current_thread() is threading.main_thread()
        before = {each: signal.signal(each, lambda *_: stopped.set()) for each in _SIGNALS if is_main}
        try:
            send_outbox(options["mailer"], forever=options["forever"], is_stopped=stopped.is_set)
        except (ImproperlyConfigured, SmtpError) as error:
            raise CommandError(str(error)) from error
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
