"""What jobfs knows of a running workspace, as JSON values: for ``jobfs status`` and the files of ``.jobfs/``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from jobfs.cli.instance import Instance
from jobfs.engine.session import Session
from jobfs.model import Kind, LocalNode, Problem, path_of
from jobfs.store.state import State
from jobfs.vfs.control import Report

_CONFLICT_COPY = re.compile(r" \(conflict from .+ \d{4}-\d{2}-\d{2} \d{6}(?: \d+)?\)(?:\.[^/]*)?$", re.DOTALL)
_MOST_LISTED = 1000
"""Paths that one report names at most; counts are always exact."""


@dataclass(slots=True)
class RequestCount:
    """Counts what was asked of the server; its ``note`` is a transport's request hook."""

    total: int = 0
    failed: int = 0
    by_method: dict[str, int] = field(default_factory=dict)

    def note(self, method: str, path: str, status: int) -> None:
        """Count one exchange."""
        self.total += 1
        self.failed += status == 0 or status >= 400
        self.by_method[method] = self.by_method.get(method, 0) + 1


class Reporter:
    """Reports on one session."""

    def __init__(self, session: Session, instance: Instance, requests: RequestCount) -> None:
        self._session = session
        self.instance = instance
        self._requests = requests
        self.more_problems: Callable[[], Iterable[Problem]] = tuple

    def reports(self) -> dict[str, Report]:
        """Return the files of ``.jobfs/`` by name."""
        return {"status": self.status, "problems": self.problems, "conflicts": self.conflicts}

    def status(self) -> dict[str, object]:
        """Return everything that ``jobfs status`` shows."""
        session = self._session
        state = session.state
        clock = session.workspace.clock
        unsynced = session.unsynced()
        listed = session.feed.listed_at_s
        files = [node for node in state.local.entries() if node.kind is Kind.FILE]
        return {
            **identity(self.instance),
            "jobStatus": session.feed.status or None,
            "items": max(len(state.local) - 1, 0),
            "files": len(files),
            "cachedBytes": sum(node.content.size for node in files if node.blob is not None and node.content),
            "pending": len(unsynced),
            "pendingPaths": [{"path": one.path, "reason": one.reason} for one in unsynced[:_MOST_LISTED]],
            "inFlight": [
                {"path": path_of(state.local, node) or "", "what": what}
                for node, what in list(session.pusher.in_flight.items())[:_MOST_LISTED]
            ],
            "problems": self.problems(),
            "conflicts": self.conflicts(),
            "lastListingSecondsAgo": None if listed is None else round(clock.monotonic_s() - listed, 1),
            "listings": session.feed.listings,
            "offline": session.offline.cause if session.offline is not None else None,
            "isFrozen": session.feed.is_frozen,
            "guard": session.guard_detail or None,
            "requests": {"total": self._requests.total, "failed": self._requests.failed, **self._requests.by_method},
        }

    def problems(self) -> list[dict[str, str]]:
        """Return what jobfs cannot settle by itself."""
        session = self._session
        every = (*self.more_problems(), *session.feed.problems, *session.plan_problems.values())
        found = [_problem(problem) for problem in dict.fromkeys(every)]
        for node, refusal in session.refusals.items():
            path = session.workspace.path(node) or f"#{node}"
            found.append({"path": path, "trouble": refusal.trouble.value, "detail": refusal.detail})
        return found[:_MOST_LISTED]

    def conflicts(self) -> list[dict[str, str]]:
        """Return the conflict copies that are there."""
        return conflict_copies(self._session.state)


def identity(instance: Instance) -> dict[str, object]:
    """Return what is known of an instance without asking it."""
    return {
        "kind": instance.kind,
        "directory": instance.directory,
        "job": instance.job,
        "url": instance.url,
        "transport": instance.transport,
        "pid": instance.pid,
        "started": instance.started,
        "state": str(instance.state),
    }


def conflict_copies(state: State) -> list[dict[str, str]]:
    """Return the conflict copies of a workspace: they are in conflict for as long as they are there."""
    return [{"path": path, "original": original_of(path)} for path in _paths(state, state.local.entries())][
        :_MOST_LISTED
    ]


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


def _problem(problem: Problem) -> dict[str, str]:
    return {"path": problem.path, "trouble": problem.trouble.value, "detail": problem.detail}
