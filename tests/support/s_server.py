"""``openssl s_server`` before a server of SMTP that says yes to everything: it tells of each handshake."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self

from support import certs
from support.daemon import free_ports, require_files, wait_until

OPENSSL = "/usr/bin/openssl"

_REPLIES = {"EHLO": "250 mail.test", "MAIL": "250 yes", "RCPT": "250 yes", "DATA": "354 go on"}
"""None to QUIT: s_server would give it to the next connection where this one is gone."""


class SServer:
    """A running s_server; ``resumed`` has of each handshake whether it resumed a session, as it says."""

    def __init__(self, *options: str, port: int = 0) -> None:
        require_files(OPENSSL)
        self.port = port or free_ports(1)[0]
        self.resumed: list[bool] = []
        self.subjects: list[str] = []
        """Of the certificate of each client."""
        self._options = options
        self._is_reused, self._subject, self._is_content = False, "", False

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="s_server-")
        base = Path(self._folder.name)
        chain, key = certs.server_files(base)
        certs.authority().cert_pem.write_to_path(base / "roots.pem")
        command = [OPENSSL, "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", str(chain)]
        command += ["-cert_chain", str(chain), "-key", str(key), "-CAfile", str(base / "roots.pem")]
        self._process = subprocess.Popen(
            [*command, *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="latin-1",
        )
        self._accepts = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        wait_until(self._accepts.is_set, 60.0, "s_server listens")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; does nothing twice."""
        self._process.kill()
        self._thread.join()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._look_at(line.strip())

    def _look_at(self, line: str) -> None:
        """What s_server says of a connection stands between the lines of the client."""
        if line == "ACCEPT":
            self._accepts.set()
        elif line == "-----BEGIN SSL SESSION PARAMETERS-----":
            self._is_reused, self._subject, self._is_content = False, "", False
        elif line.startswith("subject="):
            self._subject = line.rpartition("CN = ")[2]
        elif line == "Reused session-id":
            self._is_reused = True
        elif line.startswith("Secure Renegotiation IS "):
            self.resumed.append(self._is_reused)
            self.subjects.append(self._subject)
            self._say("220 mail.test")
        elif self._is_content:
            if line == ".":
                self._is_content = False
                self._say("250 taken")
        elif line[:4] in _REPLIES:
            self._is_content = line == "DATA"
            self._say(_REPLIES[line[:4]])

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\r\n")
        self._process.stdin.flush()
