"""Download an address with httpx, as its documentation does it, and throw the bytes away.

    download.py URL

The key comes in the environment.
"""

from __future__ import annotations

import os
import sys

import httpx


def main() -> int:
    key = {"Authorization": f"Bearer {os.environ['JOBFS_API_KEY']}"}
    with httpx.Client(headers=key, timeout=60.0) as client, client.stream("GET", sys.argv[1]) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw():
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
