#!/usr/bin/env python3
"""The container's health check: asks the node's admin port whether it is ready. Standard library only, for speed.

TWINLOG_HEALTH_URL names another place to ask. Exit code 0: ready, 1: not; the reason is printed, and Docker keeps it.
"""

import os
import sys
import urllib.error
import urllib.request

URL_DEFAULT = "http://127.0.0.1:6902/readyz"
TIMEOUT_SECONDS = 2


def main() -> int:
    url = os.environ.get("TWINLOG_HEALTH_URL", URL_DEFAULT)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            print(answer.read(500).decode(errors="replace"))
            return 0
    except urllib.error.HTTPError as error:
        print(f"{error.code}: {error.read(500).decode(errors='replace')}")
    except OSError as error:
        print(f"{url}: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
