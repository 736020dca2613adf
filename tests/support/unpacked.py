"""Servers whose packages are unpacked and not installed, since Debian installs one mail server only.

Each runs in namespaces of its own: its tree lies over /usr there, what it writes to /etc, /var and /run stays
in its folder, so that two of a kind do not meet, and no process of it outlives the first.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from support.daemon import require
from support.realserver import RealServer

TREES = Path(__file__).parent.parent.parent / ".servers"

# Colons and commas have a meaning in the options of a mount: the tree is named by a link.
_ENTER = """\
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir="$1/tree/usr:/usr" /usr
for folder in etc var run; do
    mkdir "$1/$folder" "$1/$folder.work"
    mount -t overlay overlay -o lowerdir=/$folder,upperdir="$1/$folder",workdir="$1/$folder.work" /$folder
done
. "$1/prepare"
%s
exit $?
"""
# The shell stays the first process, which dies with unshare: a server that changes its user, as Postfix does,
# would lose that (prctl(2), PR_SET_PDEATHSIG). With the first process of a namespace all others end.


@cache
def _is_allowed() -> bool:
    probe = "mount --make-rprivate / && mount -t overlay overlay -o lowerdir=/etc:/usr /usr"
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", probe]
    return shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True).returncode


class UnpackedServer(RealServer):
    """A server of a package that is unpacked under ``.servers``."""

    tree: ClassVar[str]
    program: ClassVar[str]
    """Its command line in the shell, in which $1 is ``base``."""
    users: ClassVar[dict[str, int]] = {}
    """Accounts that the package would make; name and number."""

    def __init__(self) -> None:
        require(str(TREES / self.tree / ".complete"))
        if not _is_allowed():
            pytest.skip("No mount of an overlay is allowed here, over which an unpacked server runs")
        super().__init__()

    def command(self) -> list[str]:
        """Return what runs the server in its namespaces."""
        (self.base / "tree").symlink_to(TREES / self.tree)
        (self.base / "prepare").write_text(self._accounts() + self.prepare())
        enter = _ENTER % self.program
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        return [*namespaces, "sh", "-c", enter, self.tree, str(self.base)]

    def prepare(self) -> str:
        """Return shell commands that run within, before the server."""
        return ""

    def _accounts(self) -> str:
        lines = []
        for name, number in self.users.items():
            lines.append(f"echo {name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin >>/etc/passwd\n")
            lines.append(f"echo {name}:x:{number}: >>/etc/group\n")
        return "".join(lines)
