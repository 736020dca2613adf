"""An OpenSMTPD of our own, which takes 100 messages of a connection, without PIPELINING in this version."""

from __future__ import annotations

from support.unpacked import UnpackedServer

_CONFIG = """\
table virtuals {{ "@" = "nobody" }}
table mailboxes {{ "alice@mail.test", "bob@mail.test" }}
listen on 127.0.0.1 port {port} hostname mail.test
smtp max-message-size 8000000
action "in" maildir "{base}/mail/%{{rcpt.user}}@%{{rcpt.domain}}" user nobody virtual <virtuals>
match from any for rcpt-to <mailboxes> action "in"
match from any for rcpt-to regex "^(alice|bob)[+].*@mail.test$" action "in"
"""


class OpensmtpdServer(UnpackedServer):
    """A running OpenSMTPD."""

    tree = "opensmtpd"
    program = 'smtpd -d -f "$1/smtpd.conf"'
    users = {"opensmtpd": 872, "opensmtpq": 873}  # noqa: RUF012
    undelivered = ("var/spool/smtpd/incoming/*", "var/spool/smtpd/queue/*/*/*")

    def write_files(self) -> None:
        """Write the configuration."""
        (self.base / "smtpd.conf").write_text(_CONFIG.format(base=self.base, port=self.port))

    def prepare(self) -> str:
        """Make the folder in which it confines itself."""
        return "mkdir -p /var/lib/opensmtpd/empty && chmod 711 /var/lib/opensmtpd/empty /var/spool\n"
