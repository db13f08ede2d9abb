"""Conflict copies: which files are, whose, and how a conflict is ended."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from jobfs.model import LocalNode, path_of
from jobfs.store.state import State

_CONFLICT_COPY = re.compile(r" \(conflict from .+ \d{4}-\d{2}-\d{2} \d{6}(?: \d+)?\)(?:\.[^/]*)?$", re.DOTALL)

MOST_LISTED = 1000
"""Paths that one report names at most."""


def conflict_copies(state: State, directory: str) -> list[dict[str, str]]:
    """Return the conflict copies of a workspace: they are in conflict for as long as they are there.

    :param directory: where it is mounted or kept in step.
    """
    return [
        {"path": path, "original": original_of(path), "next": resolve_command(directory, path)}
        for path in _paths(state, state.local.entries())
    ][:MOST_LISTED]


def resolve_command(directory: str, path: str) -> str:
    """Return the command that ends a conflict."""
    return f"jobfs resolve {shlex.quote(f'{directory}/{path}')} --keep local|remote|both"


def is_conflict_copy(name: str) -> bool:
    """Tell whether a name says that the file is a conflict copy."""
    return " (conflict from " in name and _CONFLICT_COPY.search(name) is not None


def original_of(path: str) -> str:
    """Return the path of the file beside which a conflict copy was made."""
    return _CONFLICT_COPY.sub(lambda match: _extension(match[0]), path)


def _paths(state: State, nodes: Iterable[LocalNode]) -> list[str]:
    found = []
    for node in nodes:
        if is_conflict_copy(node.name):
            path = path_of(state.local, node.id)
            if path is not None:
                found.append(path)
    return sorted(found)


def _extension(mark: str) -> str:
    return mark.rpartition(")")[2]
