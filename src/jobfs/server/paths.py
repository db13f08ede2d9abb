"""The grammar of item paths on the server (contract I-9 to I-13). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jobfs.server.refusals import INVALID_PATH, Refused

MAX_PATH = 1024
"""Longest path in code points (contract, section 1)."""

RUNTIME_DIR = "perstack"
"""Where the runtime keeps its own data, at the root of each workspace (contract I-14)."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class ItemPath:
    """A path that passed the grammar.

    :param normal: without slashes at its ends; all comparisons use it (contract, view rule 1).
    :param shown: as answers spell it: with the leading slash where the switch keeps one.
    """

    normal: str
    shown: str


def parse_path(raw: str, *, is_directory: bool, leading_slash: Literal["strip", "keep", "reject"]) -> ItemPath:
    """Check a path and bring it to its normal form. Raises ``Refused`` with 400 ``Invalid path``."""
    has_slash = raw.startswith("/")
    if has_slash and leading_slash == "reject":
        raise Refused(400, INVALID_PATH)
    normal = raw[1:] if has_slash else raw
    if is_directory and normal.endswith("/"):
        normal = normal[:-1]
    if (
        len(raw) > MAX_PATH
        or _FORBIDDEN.search(normal)
        or not all(name not in ("", ".", "..") for name in normal.split("/"))
    ):
        raise Refused(400, INVALID_PATH)
    return ItemPath(normal, "/" + normal if has_slash and leading_slash == "keep" else normal)


def normal_form(raw: str) -> str:
    """Strip one slash from each end and nothing else: what ``find`` compares."""
    return raw.removeprefix("/").removesuffix("/")


def parent_of(normal: str) -> str:
    """Return the path of the directory that holds a path; "" is the root."""
    return normal.rpartition("/")[0]


def is_below(normal: str, directory: str) -> bool:
    """Tell whether a path lies strictly below a directory."""
    return normal.startswith(directory + "/")


def is_runtime_path(normal: str) -> bool:
    """Tell whether a path is the runtime's own."""
    return normal == RUNTIME_DIR or is_below(normal, RUNTIME_DIR)
