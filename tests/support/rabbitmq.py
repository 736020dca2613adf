"""A RabbitMQ of a session's own: on ports of 127.0.0.1 that nobody else has, in a folder of its own."""

from __future__ import annotations

import itertools
import socket
import tempfile
from pathlib import Path

from .celery_app import Broker
from .daemon import START_LIMIT, Daemon, free_ports, require_files, wait_until

_PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The one in the path becomes another user, and reads what the machine's own RabbitMQ is configured with."""
_START = f"""
epmd & names=$!
{_PROGRAM} & broker=$!
trap 'kill $broker' TERM
wait $broker
wait $broker # until it has ended, where it was the signal that ended the first
kill $names
wait $names
"""
"""The name server of Erlang is ours: the broker would start one that stays when it has ended."""

_CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 1MB
"""


class RabbitServer:
    """It takes connections from the constructor on, until ``stop``."""

    def __init__(self) -> None:
        require_files(_PROGRAM, "/usr/bin/epmd")
        folder = Path(tempfile.mkdtemp(prefix="pysmtpx-rabbitmq-"))
        self._results = folder / "results"
        self._results.mkdir()
        self._port, names, nodes = free_ports(3)
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self._port))
        (folder / "plugins").write_text("[].")
        environment = {
            "HOME": folder,  # of the cookie
            "ERL_EPMD_PORT": names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"rabbit{self._port}@localhost",
            "RABBITMQ_DIST_PORT": nodes,
            "RABBITMQ_CONF_ENV_FILE": folder / "none",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": folder / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_MNESIA_BASE": folder / "database",
            "RABBITMQ_LOG_BASE": folder / "logs",
            # One scheduler that does not wait busily: there are few processors, and others want them.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }
        pairs = [f"{name}={value}" for name, value in environment.items()]
        self._daemon = Daemon(["/usr/bin/env", *pairs, "/bin/sh", "-c", _START], folder, folder / "log")
        self._numbers = itertools.count()
        try:
            wait_until(self._answers, START_LIMIT, "RabbitMQ answers")
        except BaseException:
            print(self.log_text())
            self.stop()
            raise

    def broker(self) -> Broker:
        """It as the broker of one test, with a queue that no other one knows; results are files."""
        return Broker(
            f"amqp://guest:guest@127.0.0.1:{self._port}//",
            results=f"file://{self._results}",
            queue=f"tests-{next(self._numbers)}",
        )

    def log_text(self) -> str:
        """Return what it has logged so far."""
        return self._daemon.log_text()

    def stop(self) -> None:
        """End it."""
        self._daemon.stop()

    def _answers(self) -> bool:
        """Whether it does as AMQP wants: to a header of another version it says which one it speaks."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as probe:
                probe.sendall(b"AMQP\x00\x00\x00\x00")
                return probe.recv(8).startswith(b"AMQP")
        except OSError:
            return False
