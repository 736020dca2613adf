"""Only what setup.cfg cannot say: the README, with links that work where its neighbours are not."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def _source() -> str:
    """The address below which the files of the repository can be read."""
    config = ConfigParser(interpolation=None)
    config.read(HERE / "setup.cfg", "utf-8")
    urls = config["metadata"]["project_urls"].strip().splitlines()
    return dict(line.split(" = ") for line in urls)["Source"]


def description() -> str:
    """The README, its relative links and images made absolute."""
    base, text = _source(), (HERE / "README.md").read_text("utf-8")

    def absolute(link: "re.Match[str]") -> str:
        return f"{link[1]}({base}{link[2]}{'?raw=true' if link[1].startswith('!') else ''})"

    return re.sub(r"(!?\[[^]]*\])\((?!https?:|#)([^)]+)\)", absolute, text)


setup(long_description=description(), long_description_content_type="text/markdown")
