"""The package as a stranger has it: a wheel, installed into an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python for which the built wheel is installed, beside what else is installed here."""
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(ROOT / "pysmtpx", folder / "source" / "pysmtpx")
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder / "source")
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "source", check=True, capture_output=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(
        subprocess.run([python, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    )
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    return python
