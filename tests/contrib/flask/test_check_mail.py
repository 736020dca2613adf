"""``flask check-mail`` looks at the servers of an application, and says by its exit code what it found."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from flask import Flask

from pysmtpx.contrib.flask import Mail
from pysmtpx.testing import MailServer

Make = Callable[..., Flask]


def test_a_server_in_order_is_told_and_nobody_gets_a_message(make_app: Make) -> None:
    with MailServer(users={"ann": "s3cret-word"}) as server:
        app = make_app(server, MAIL_USERNAME="ann", MAIL_PASSWORD="s3cret-word")
        told = app.test_cli_runner().invoke(args=["check-mail", "--to", "bob@example.com"])
        assert server.messages == []
    assert told.exit_code == 0, told.output
    assert "Mail can be sent to this server." in told.output
    assert "s3cret" not in told.output


def test_each_server_has_a_document_in_json(make_app: Make) -> None:
    with MailServer() as first, MailServer(refuse={"bob@example.com": "550 5.1.1 unknown"}) as second:
        app = make_app(MAIL_URL=[first.url, second.url])
        told = app.test_cli_runner().invoke(args=["check-mail", "--json", "--to", "bob@example.com"])
    assert told.exit_code == 1
    assert [json.loads(line)["ok"] for line in told.stdout.splitlines()] == [True, False]


def test_a_cure_names_the_settings(make_app: Make) -> None:
    with MailServer(strict=False) as server:
        app = make_app(server, MAIL_USE_SSL=True)
        told = app.test_cli_runner().invoke(args=["check-mail"])
    assert told.exit_code == 5
    assert "or MAIL_USE_TLS = True." in told.output


def test_where_sending_is_suppressed_the_server_is_looked_at(make_app: Make) -> None:
    with MailServer() as server:
        app = make_app(server, MAIL_SUPPRESS_SEND=True)
        assert app.test_cli_runner().invoke(args=["check-mail"]).exit_code == 0


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        ({"MAIL_USE_TLS": True, "MAIL_USE_SSL": True}, [], "MAIL_USE_TLS"),
        ({"MAIL_PORT": "x"}, [], "MAIL_PORT"),
        ({}, ["--to", "a b@example.com"], "a b"),
    ],
)
def test_settings_and_addresses_that_cannot_be_right(
    make_app: Make, config: dict[str, object], arguments: list[str], said: str
) -> None:
    app = make_app(MAIL_SERVER="127.0.0.1", **config)
    told = app.test_cli_runner().invoke(args=["check-mail", *arguments])
    assert told.exit_code == 2
    assert said in told.output


def test_a_command_of_the_application_stays(make_app: Make) -> None:
    app = Flask(__name__)

    @app.cli.command("check-mail")
    def own() -> None:
        print("own")

    Mail(app)
    assert app.test_cli_runner().invoke(args=["check-mail"]).output == "own\n"
