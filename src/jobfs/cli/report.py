"""What jobfs knows of a running workspace, as JSON values: for ``jobfs status`` and the files of ``.jobfs/``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from itertools import islice

from jobfs.cli.overview import describe_status
from jobfs.engine.leftover import Unsynced
from jobfs.engine.session import Session
from jobfs.errors import StateFull
from jobfs.model import Kind, NodeId, Problem, Trouble, path_of
from jobfs.planner.guards import Side
from jobfs.planner.naming import parse_hidden
from jobfs.vfs.control import Report
from jobfs.workspace.conflicts import conflict_copies
from jobfs.workspace.instance import Instance, identity
from jobfs.workspace.meter import Meter

_MOST_LISTED = 1000
"""Paths that one report names at most; counts are always exact."""

NEXT_STEPS = {
    Trouble.NAME_TOO_LONG: "rename it here to something shorter",
    Trouble.PATH_TOO_LONG: "move it up, or shorten the names of its directories",
    Trouble.INVALID_NAME: "rename it here without that",
    Trouble.NAME_COLLISION: "rename one of the two",
    Trouble.KIND_COLLISION: "rename one of the two",
    Trouble.SHADOWED: "look at it with 'jobfs ls'; rename the item that covers it",
    Trouble.UNKNOWN_TYPE: "get a newer version of jobfs, or leave it: it is not touched",
    Trouble.SHARED_ITEM: "change it in the application; it belongs to all of its jobs",
    Trouble.REFUSED: "change what the server names and save it again; it is kept here until then",
    Trouble.UNREADABLE: "let this user read it: chmod u+r",
    Trouble.UNSUPPORTED_KIND: "replace it by an ordinary file, or name it in .jobfsignore",
    Trouble.GUARD: "if that is meant: run it again with --yes, or with --max-delete",
    Trouble.HIDDEN: "give it another name there: 'jobfs mv JOB:/PATH JOB:/NAME'; or 'jobfs rm' it",
}
"""What the user can do about each trouble."""


class Reporter:
    """Reports on one session.

    :param meter: knows what is passing.
    """

    def __init__(self, session: Session, instance: Instance, meter: Meter) -> None:
        self._session = session
        self.instance = instance
        self._meter = meter
        self.more_problems: Callable[[], Iterable[Problem]] = tuple

    def reports(self) -> dict[str, Report]:
        """Return the files of ``.jobfs/`` by name."""
        return {
            "status.txt": self._text,
            "status": self.status,
            "problems": self.problems,
            "conflicts": self.conflicts,
            "pending": lambda: self._pending(one for one in self._session.unsynced() if not one.is_held),
            "held": lambda: self._pending(one for one in self._session.unsynced() if one.is_held),
            "transfers": self.transfers,
        }

    def _text(self) -> str:
        return "".join(f"{line}\n" for line in describe_status({**self.status(), "isRunning": True}))

    def status(self) -> dict[str, object]:
        """Return everything that ``jobfs status`` shows."""
        session = self._session
        state = session.state
        left = session.unsynced()
        unsynced = [one for one in left if not one.is_held]
        requests = self._meter.requests
        files = [node for node in state.local.entries() if node.kind is Kind.FILE]
        return {
            **identity(self.instance),
            "jobStatus": session.feed.status or None,
            "items": max(len(state.local) - 1, 0),
            "files": len(files),
            "cachedBytes": sum(node.content.size for node in files if node.blob is not None and node.content),
            "historyBytes": state.versions.held_bytes,
            "pending": len(unsynced),
            "pendingPaths": self._pending(unsynced),
            "isHeld": session.hold.is_on,
            "held": len(left) - len(unsynced),
            "inFlight": self.transfers(),
            "problems": self.problems(),
            "conflicts": self.conflicts(),
            "lastListingSecondsAgo": self._ago_s(session.feed.listed_at_s),
            "listings": session.feed.listings,
            "offline": session.offline.cause if session.offline is not None else None,
            "isDiskFull": isinstance(session.offline, StateFull),
            "isFrozen": session.feed.is_frozen,
            "guard": session.guard.detail or None,
            "guardNext": _guard_next(session, self.instance),
            "requests": {"total": requests.total, "failed": requests.failed, **requests.by_method},
        }

    def _ago_s(self, at_s: float | None) -> float | None:
        return None if at_s is None else round(self._session.workspace.clock.monotonic_s() - at_s, 1)

    # -- what is on its way

    def _pending(self, unsynced: Iterable[Unsynced]) -> list[dict[str, object]]:
        return [
            {"path": one.path, "reason": one.reason, "secondsAgo": self._age_s(one.node)}
            for one in islice(unsynced, _MOST_LISTED)
        ]

    def _age_s(self, node: NodeId) -> float | None:
        """Return for how long a change has been waiting: since the last one to the node, or, where the node is gone
        from here, to the directory that held it."""
        state = self._session.state
        record = state.local.get(node)
        known = state.base.get(node)
        while record is None and known is not None and known.parent != known.id:
            record, known = state.local.get(known.parent), state.base.get(known.parent)
        if record is None:
            return None
        return round(max(0, self._session.workspace.clock.wall_ns() - record.ctime_ns) / 1e9, 1)

    def transfers(self) -> list[dict[str, object]]:
        """Return the requests that change the server, and the contents that are on their way in either direction.

        ``moved`` and ``size`` are bytes; a content that goes in one piece is told without.
        """
        uploads = {_plain(one.content): one for one in self._meter.passing if one.is_upload}
        found: list[dict[str, object]] = []
        for node, what in list(self._session.pusher.in_flight.items()):
            path = self._path(node)
            passing = uploads.get(path)
            found.append(_transfer(path, what, *((passing.moved, passing.size) if passing else (None, None))))
        arriving = self._session.hydrator.arriving()
        found += [_transfer(self._path(node), "Download", moved, size) for node, moved, size in arriving]
        return (found + self._downloads({node for node, _, _ in arriving}))[:_MOST_LISTED]

    def _downloads(self, told: set[NodeId]) -> list[dict[str, object]]:
        """Return what passes and is no download into a mount: contents of a folder."""
        downloads = {one.content: one for one in self._meter.passing if not one.is_upload}
        if not downloads:
            return []
        nodes = {str(entry.item): entry.id for entry in self._session.trees.remote.entries() if entry.item is not None}
        return [
            _transfer(self._path(nodes[item]) if item in nodes else item, "Download", one.moved, one.size)
            for item, one in downloads.items()
            if nodes.get(item) not in told
        ]

    def _path(self, node: NodeId) -> str:
        trees = self._session.trees
        return path_of(self._session.state.local, node) or path_of(trees.remote, node) or f"#{node}"

    # -- what the user has to know

    def problems(self) -> list[dict[str, str]]:
        """Return what jobfs cannot settle by itself."""
        session = self._session
        every = (*self.more_problems(), *session.feed.problems, *session.plan_problems.values())
        found = [_problem(problem) for problem in dict.fromkeys(every)]
        for node, refusal in session.refusals.items():
            path = session.workspace.path(node) or f"#{node}"
            found.append(_problem(Problem(node, path, refusal.trouble, refusal.detail)))
        return found[:_MOST_LISTED]

    def conflicts(self) -> list[dict[str, str]]:
        """Return the conflict copies that are there."""
        return conflict_copies(self._session.state, self.instance.directory)


def _guard_next(session: Session, instance: Instance) -> str | None:
    """Return what the user can do where too much would be deleted."""
    place = shlex.quote(instance.directory)
    if session.guard.side is Side.REMOTE:
        return f"if that is meant: jobfs push --yes {place}; to have the files back: jobfs revert {place}"
    if session.guard.side is Side.LOCAL:
        return f"if that is meant: jobfs refresh --yes {place}; until then the files stay here"
    return None


def _plain(path: str) -> str:
    """Return the path that a content will have; while it is sent it may have a hidden name."""
    above, slash, name = path.rpartition("/")
    hidden = parse_hidden(name)
    return path if hidden is None else f"{above}{slash}{hidden.name}"


def _transfer(path: str, what: str, moved: int | None, size: int | None) -> dict[str, object]:
    return {"path": path, "what": what, "moved": moved, "size": size}


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "path": problem.path,
        "trouble": problem.trouble.value,
        "detail": problem.detail,
        "next": NEXT_STEPS[problem.trouble],
    }
