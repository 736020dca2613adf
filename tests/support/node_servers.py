"""Haraka and smtp-server of our own, which are written in JavaScript."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.realserver import RealServer
from support.unpacked import TREES

_HERE = Path(__file__).parent / "node"
_MODULES = TREES / "node" / "node_modules"

RECIPIENTS = 30
"""That smtp-server takes for a message; then it says 452."""


def _node() -> str:
    return shutil.which("node") or "/usr/bin/node"


class HarakaServer(RealServer):
    """A running Haraka: PIPELINING, but not behind an end of data, which it answers by 503."""

    programs = (_node(), str(_MODULES / "Haraka/bin/haraka"))

    def write_files(self) -> None:
        """Write the configuration and the plugin that delivers."""
        for folder in ("config", "plugins"):
            (self.base / folder).mkdir()
        defaults = (_MODULES / "Haraka/config/connection.ini").read_text("utf-8")
        settings = {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\n",
            "plugins": "keep\n",
            "me": "mail.test\n",
            "databytes": "8000000\n",
            "loglevel": "NOTICE\n",
            # By default it breaks lines of more than 992 octets.
            "connection.ini": defaults.replace("data_line_length=992", "data_line_length=100000"),
        }
        for name, text in settings.items():
            (self.base / "config" / name).write_text(text)
        shutil.copy(_HERE / "keep.js", self.base / "plugins")

    def command(self) -> list[str]:
        """Return what runs Haraka in the foreground."""
        return ["env", f"MAIL={self.base / 'mail'}", *self.programs, "-c", str(self.base)]


class SmtpServerServer(RealServer):
    """A running smtp-server, which takes 30 recipients a message."""

    programs = (_node(), str(_MODULES / "smtp-server/package.json"))

    def command(self) -> list[str]:
        """Return what runs smtp-server in the foreground."""
        script, mail = str(_HERE / "smtp-server.js"), str(self.base / "mail")
        modules = f"NODE_PATH={_MODULES}"
        return ["env", modules, self.programs[0], script, str(self.port), mail, str(RECIPIENTS)]
