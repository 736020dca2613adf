"""``manage.py check_mail``: looks at the mail servers of the settings; for ``INSTALLED_APPS``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from .....checking.report import Check
from .....cli.checked import tell_all
from .....cli.exits import Exit
from .....cli.show import Show
from .....errors import InputError
from ...backend import EmailBackend, servers
from ...options import backends, is_by_mailers


class Command(BaseCommand):  # type: ignore[misc]
    """As ``pysmtpx check`` does, with the servers that our backends know."""

    help = (
        "Looks at each mail server of the settings: DNS, TLS, log-in, and by MAIL and RCPT where asked for."
    )
    requires_system_checks = ()
    """The mail's own would stop it where it is there to help."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Make the options known."""
        parser.add_argument("--mailer", metavar="ALIAS", help="of MAILERS; else each that is ours")
        parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="try whether MAIL is accepted")
        parser.add_argument(
            "--to", dest="recipients", metavar="ADDRESS", action="append", default=[], help="try RCPT"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document a server")

    def handle(self, **options: Any) -> None:
        """Look and tell. Raises ``CommandError``, with the exit code of ``pysmtpx check``."""
        # What print and rich write has its line ends.
        self.stdout.ending = ""
        show = Show(as_json=options["json"], out=self.stdout)
        try:
            checks = _checks(options["mailer"], options["sender"], options["recipients"] or ())
        except (ImproperlyConfigured, InputError) as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        code = tell_all(checks, show, "mailers" if is_by_mailers() else "django")
        if code:
            raise CommandError("Mail cannot be sent to every server as the settings are.", returncode=code)


def _checks(mailer: str | None, sender: str | None, recipients: Sequence[str]) -> list[Check]:
    found = [server for alias in _aliases(mailer) for server in servers(alias)]
    return [server.check(sender=sender, recipients=recipients) for server in found]


def _aliases(mailer: str | None) -> list[str | None]:
    """The mailers to look at. One that is named is looked at whatever it is: it tells why it cannot be."""
    if mailer is not None:
        return [mailer]
    ours = [alias for alias, backend in backends() if issubclass(backend, EmailBackend)]
    if not ours:
        raise ImproperlyConfigured("No backend of the settings is pysmtpx.contrib.django.EmailBackend.")
    return ours
