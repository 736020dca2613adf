"""A relay that counts the round trips of a connection, whatever the machine is busy with.

An answer counts when the server has something to say after the client had, or before it said anything: a
client that is far away waits for that. A server whose TLS sends tickets counts one more now and then, which
nobody waits for: take a context with ``num_tickets = 0``.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Relay:
    """Stands before a server for one connection after the other, and counts its answers."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.answers = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._server))
                # A pool does not wait for the answer to QUIT: that is a reset.
                with near, far, contextlib.suppress(ConnectionError):
                    self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        self.answers, is_client_heard = 0, True
        while True:
            ready, _, _ = select.select([near, far], [], [])
            for source, target in ((near, far), (far, near)):
                if source not in ready:
                    continue
                if not (data := source.recv(1 << 16)):
                    return
                if source is near:
                    is_client_heard = True
                elif is_client_heard:
                    self.answers, is_client_heard = self.answers + 1, False
                target.sendall(data)

    def close(self) -> None:
        """Take no further connection; the last one must have ended."""
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread
        self._thread.join()
        self._listener.close()
