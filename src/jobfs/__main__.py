"""The command ``jobfs``, also as ``python -m jobfs``."""

from __future__ import annotations

import sys

from jobfs.cli.launch import ahead
from jobfs.cli.loading import load


def main() -> None:
    """Run the command line of this process."""
    words = sys.argv[1:]
    with ahead(words):
        code: int = load("app").run_words(words)
    sys.exit(code)


if __name__ == "__main__":
    main()
