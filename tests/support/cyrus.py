"""A Cyrus lmtpd of our own, with a small limit on the size of a message."""

from __future__ import annotations

from pathlib import Path

from support.mailbox import DELIVERY_LIMIT, Maildir
from support.unpacked import UnpackedServer

SIZE_LIMIT = 100_000

_IMAPD = """\
configdirectory: {base}/conf
partition-default: {base}/mail
defaultpartition: default
mailbox_legacy_dirs: yes
admins: cyrus
virtdomains: off
autocreate_post: yes
autocreate_quota: 0
autocreate_users: alice bob
sasl_mech_list: PLAIN
maxmessagesize: {limit}
duplicatesuppression: no
servername: mail.test
"""
_MASTER = """\
START {{
  recover cmd="ctl_cyrusdb -r"
}}
SERVICES {{
  lmtp cmd="lmtpd -a" listen="127.0.0.1:{port}" prefork=0 maxchild=20
}}
"""


class _Numbered(Maildir):
    """A folder of Cyrus: numbered files, with the line ends that came."""

    def _files(self) -> list[Path]:
        return [path for path in self.path.glob("[0-9]*.") if path.is_file()]

    def take(self, count: int = 1, *, limit: float = DELIVERY_LIMIT) -> list[bytes]:
        """Wait for ``count`` messages, remove and return them with LF line ends, as the others store them."""
        return [stored.replace(b"\r\n", b"\n") for stored in super().take(count, limit=limit)]


class CyrusServer(UnpackedServer):
    """A running lmtpd; users are ``alice`` and ``bob``, with a domain or without."""

    tree = "cyrus"
    program = '/usr/lib/cyrus/bin/master -M "$1/cyrus.conf" -p "$1/pid" -D'
    users = {"cyrus": 874}  # noqa: RUF012

    def write_files(self) -> None:
        """Write the configuration."""
        (self.base / "imapd.conf").write_text(_IMAPD.format(base=self.base, limit=SIZE_LIMIT))
        (self.base / "cyrus.conf").write_text(_MASTER.format(port=self.port))

    def prepare(self) -> str:
        """Its programs read /etc/imapd.conf."""
        return (
            'cp "$1/imapd.conf" /etc/imapd.conf && mkdir "$1/conf"\n'
            'chown -R cyrus:cyrus "$1/conf" "$1/mail"\n'
        )

    def mailbox(self, user: str) -> Maildir:
        """Return the user's mailbox: Cyrus numbers its messages in one folder."""
        return _Numbered(self.base / "mail" / "user" / user.partition("@")[0])

    def empty(self) -> None:
        """Remove every message of every user; the log begins anew."""
        self._log_start = len(self._daemon.log_text())
        for user in ("alice", "bob"):
            self.mailbox(user).clear()
