"""Run every measurement and print its table: ``python -m benchmarks [name …]``."""

from __future__ import annotations

import platform
import sys

from . import core

MEASURES = {
    "small": core.small_messages,
    "large": core.large_message,
    "file": core.large_file,
    "drip": core.dripping_server,
}


def main(names: list[str]) -> None:
    """Run the measurements of these names, or all."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}", flush=True)
    for name in names or MEASURES:
        print(f"\n{MEASURES[name]()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
