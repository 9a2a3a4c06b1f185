"""`python -m storage.check DIR`: findings, one a line, a count for each database, and an exit code."""

from __future__ import annotations

import sys

from ..errors import NewerFormat
from . import Severity, check_database, locate

CLEAN, FINDINGS, NOT_CHECKED = 0, 1, 2


def main(arguments: list[str]) -> int:
    """The exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m storage.check DIR   (a node's data directory, or one database in it)\n")
        return NOT_CHECKED
    code = CLEAN
    try:
        disk, names = locate(arguments[0])
        for name in names:
            count = 0
            for finding in check_database(disk, name):
                sys.stdout.write(f"{finding}\n")
                count += 1
                if finding.severity is not Severity.NOTE:
                    code = FINDINGS
            sys.stdout.write(f"{name}: {count} finding{'s' if count != 1 else ''}\n")
    except (OSError, NewerFormat) as error:
        sys.stderr.write(f"cannot check: {error}\n")
        return NOT_CHECKED
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
