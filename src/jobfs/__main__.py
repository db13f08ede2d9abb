"""``python -m jobfs``: the same as the command ``jobfs``."""

from jobfs.cli.app import main

if __name__ == "__main__":
    main()
