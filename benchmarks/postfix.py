"""The files of a Postfix of one's own in a folder: for the benchmarks here, and for tests of real servers."""

from __future__ import annotations

import shutil
from pathlib import Path

MASTER = "/usr/lib/postfix/sbin/master"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/postfix.log
maillog_file_prefixes = {base}
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_recipient_maps =
alias_maps =
alias_database =
"""

_SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

_QUEUES = "active bounce corrupt defer deferred flush hold incoming private saved trace"


def write(base: Path, settings: str, listeners: str) -> list[str]:
    """Write what Postfix needs below ``base``, and return the command that runs it in the foreground.

    ``settings`` come after those that every server has in main.cf, ``listeners`` before the services of
    master.cf.
    """
    base.chmod(0o755)
    for name in ("etc", "data", "queue", "queue/pid"):
        (base / name).mkdir()
    shutil.chown(base / "data", "postfix")
    folders = [(name, 0o700, "root") for name in _QUEUES.split()]
    for name, mode, group in [*folders, ("maildrop", 0o730, "postdrop"), ("public", 0o710, "postdrop")]:
        folder = base / "queue" / name
        folder.mkdir()
        shutil.chown(folder, "postfix", group)
        folder.chmod(mode)
    (base / "etc/main.cf").write_text(_MAIN.format(base=base) + settings)
    (base / "etc/master.cf").write_text(listeners + _SERVICES)
    return [MASTER, "-c", str(base / "etc"), "-s"]
