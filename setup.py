"""Only what setup.cfg cannot say: the README as it is read on an index, without its neighbours."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)]+)\)")


def source() -> str:
    """The address below which the files of the repository can be read; empty where there is none."""
    config = ConfigParser(interpolation=None)
    config.read(HERE / "setup.cfg", "utf-8")
    urls = config["metadata"].get("project_urls", "").strip().splitlines()
    return dict(line.split(" = ") for line in urls).get("Source", "")


def description(text: str, base: str) -> str:
    """The README with links that begin with ``base``; without one they become the paths that they are."""

    def plain(link: "re.Match[str]") -> str:
        return f"{link[2]} (`{link[3]}`)"

    def absolute(link: "re.Match[str]") -> str:
        return f"{link[1]}[{link[2]}]({base}{link[3]}{'?raw=true' if link[1] else ''})"

    return LINK.sub(absolute if base else plain, text)


if __name__ == "__main__":
    setup(
        long_description=description((HERE / "README.md").read_text("utf-8"), source()),
        long_description_content_type="text/markdown",
    )
