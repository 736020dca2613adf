"""Run the project against an embedded server: its check, its test mail, its views. ``python run.py``."""

import os
import subprocess
import sys
from pathlib import Path

from pysmtpx.testing import MailServer

HERE = Path(__file__).parent
PASSWORD = "an example has no secrets"


def main() -> None:
    """Start the server, and send by whatever the project has."""
    with MailServer(
        users={"shop": PASSWORD}, refuse={"gone@example.com": "550 5.1.1 no such user"}
    ) as server:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "SHOP_MAIL_HOST": server.host,
            "SHOP_MAIL_PORT": str(server.port),
            "SHOP_MAIL_PASSWORD": PASSWORD,
        }
        _by_commands(server)
        _by_views(server)


def _by_commands(server: MailServer) -> None:
    for command in (["check"], ["sendtestemail", "ann@example.com"]):
        done = subprocess.run([sys.executable, HERE / "manage.py", *command], check=True, capture_output=True)
        print("manage.py", *command, "→", done.stdout.decode().strip() or "done")
    print(f"  the server has {server.messages[0].addresses} from {server.messages[0].user}")


def _by_views(server: MailServer) -> None:
    sys.path.insert(0, str(HERE))
    import django

    django.setup()
    from django.test import Client
    from shop import views

    client = Client()
    answer = client.get("/order", {"to": ["ann@example.com", "gone@example.com"]}).json()
    print("GET /order →", answer)
    print("  bounced by now:", sorted(views.bounced))
    before = len(server.messages)
    print("GET /news →", client.get("/news").json())
    assert len(server.messages) == before + 100
    for _ in range(20):
        assert client.get("/hello").json() == {"sent": 1}
    connections = server.ledger.connections[1:]  # the first was that of sendtestemail
    print(f"GET /hello, 20 times → {len(server.messages)} messages by now in {len(connections)} connections")
    assert len(connections) <= 2


if __name__ == "__main__":
    main()
