"""jobfs: the workspace of a remote expert job as an ordinary folder."""

__version__ = "0.1.0"
