"""Debian's stunnel before a server that speaks in clear: each port of its own sort of TLS."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from support import certs
from support.daemon import Daemon, free_ports, require_files

PROGRAM = "/usr/bin/stunnel4"

_SERVICE = """\
[{name}]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {chain}
key = {key}
{options}
"""


class Stunnel:
    """A running stunnel; ``ports`` has the one of each service, by name."""

    def __init__(self, behind: int, services: Mapping[str, str]) -> None:
        require_files(PROGRAM)
        self._behind, self._services = behind, services
        self.ports = dict(zip(services, free_ports(len(services)), strict=True))
        self._start()

    def _start(self) -> None:
        base = Path(tempfile.mkdtemp(prefix="stunnel-"))
        chain, key = certs.server_files(base)
        roots = base / "roots.pem"
        certs.authority().cert_pem.write_to_path(roots)
        text = "foreground = yes\npid =\ndebug = info\n"
        for name, options in self._services.items():
            values = {
                "name": name,
                "port": self.ports[name],
                "behind": self._behind,
                "chain": chain,
                "key": key,
            }
            text += _SERVICE.format(options=options.format(roots=roots), **values)
        (base / "conf").write_text(text)
        self._daemon = Daemon([PROGRAM, str(base / "conf")], base, base / "log")
        try:
            self._daemon.wait_for_port(*self.ports.values())
        except BaseException:
            self.stop()
            raise

    def log_text(self) -> str:
        """Return what it has logged since it began."""
        return self._daemon.log_text()

    def restart(self) -> None:
        """End it and begin anew: it knows no session of before."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End it and remove its files."""
        self._daemon.stop()
