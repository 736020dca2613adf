"""A project of a stranger: a folder with tests of its own, and pysmtpx installed beside it."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def project(folder: Path) -> Path:
    """An empty project; what is installed is the package, with its entry points as setup.cfg has them."""
    site, made = folder / "site", folder / "project"
    metadata = site / "pysmtpx-0.dist-info"
    metadata.mkdir(parents=True)
    made.mkdir()
    (site / "pysmtpx").symlink_to(ROOT / "pysmtpx")
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    points = config["options.entry_points"]["pytest11"].strip()
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{points}\n", "utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pysmtpx\nVersion: 0\n", "utf-8")
    return made


def run_pytest(project: Path, *arguments: str, **variables: str) -> str:
    """What pytest says of the project, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, **variables, "PYTHONPATH": str(project.parent / "site")}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    return done.stdout + done.stderr
