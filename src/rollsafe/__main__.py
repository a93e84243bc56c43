"""The entry of the command: `rollsafe`, or `python -m rollsafe`.

`rollsafe write` starts with each program that it logs, and lives as long. So it imports nothing that only the other
commands need.
"""

from __future__ import annotations

import sys

from rollsafe.tools.words import MISSING_PACKAGES


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] != ["write"]:
        from rollsafe import cli

        cli.main()
    try:
        from rollsafe.tools.write_command import main as main_of_write
    except ImportError:
        sys.exit(MISSING_PACKAGES)
    main_of_write(sys.argv[2:])


if __name__ == "__main__":
    main()
