"""``flask check-mail``: looks at the mail servers of an application."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from ...cli.checked import tell_all
from ...cli.exits import Exit
from ...cli.show import Show
from ...errors import InputError


@click.command("check-mail")
@click.option("--from", "sender", metavar="ADDRESS", help="Try whether MAIL is accepted.")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, help="Try RCPT.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a server.")
@with_appcontext
def check_mail(sender: str | None, recipients: tuple[str, ...], as_json: bool) -> None:
    """Look at each mail server: DNS, TLS, log-in, and by MAIL and RCPT where asked for.

    Exits as ``pysmtpx check`` does.
    """
    try:
        settings = current_app.extensions["mail"]
        checks = settings.pool().check(sender=sender, recipients=recipients)
    except InputError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(Exit.USAGE) from None
    raise click.exceptions.Exit(tell_all(checks, Show(as_json=as_json), "flask"))
