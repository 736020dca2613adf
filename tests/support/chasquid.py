"""A chasquid of our own, which takes 100 recipients of a message, and ends a session after some more."""

from __future__ import annotations

from pathlib import Path

from support import certs
from support.realserver import RealServer
from support.unpacked import TREES

_CONFIG = """\
hostname: "mail.test"
smtp_address: "127.0.0.1:{port}"
data_dir: "{base}/data"
mail_log_path: "<stderr>"
max_data_size_mb: 8
"""
_DELIVER = """\
file=$(mktemp -p "{base}/mail/$1@mail.test/tmp") && cat >"$file" && mv "$file" "{base}/mail/$1@mail.test/new"
"""


class ChasquidServer(RealServer):
    """A running chasquid."""

    programs = (str(TREES / "chasquid/usr/bin/chasquid"),)
    undelivered = ("data/queue/*",)

    def write_files(self) -> None:
        """Write the configuration, and an alias that delivers for each user."""
        etc = self.base / "etc"
        domain, certificates = etc / "domains/mail.test", etc / "certs/mail.test"
        for folder in (domain, certificates, self.base / "data"):
            folder.mkdir(parents=True)
        (etc / "chasquid.conf").write_text(_CONFIG.format(base=self.base, port=self.port))
        (self.base / "deliver").write_text(_DELIVER.format(base=self.base))
        aliases = ""
        for user in ("alice", "bob"):
            aliases += f"{user}: | /bin/sh {self.base}/deliver {user}\n"
            for name in ("new", "tmp"):
                (self.base / "mail" / f"{user}@mail.test" / name).mkdir(parents=True)
        (domain / "aliases").write_text(aliases)
        (etc / "domains/mail.test/config").write_text("")
        chain, key = certs.server_files(Path(certificates))
        chain.rename(certificates / "fullchain.pem")
        key.rename(certificates / "privkey.pem")

    def command(self) -> list[str]:
        """Return what runs chasquid in the foreground."""
        return [*self.programs, "-config_dir", str(self.base / "etc")]
