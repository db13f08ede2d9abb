"""What keeps one session from deleting too much, and remembers what it keeps until the user has decided.

**Invariant.** What was stopped is told, and stays stopped, for as long as it is neither allowed nor undone, whatever
else is sent meanwhile, also by a later session.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from jobfs.engine.trees import Trees
from jobfs.model import NodeId
from jobfs.planner.difference import is_different
from jobfs.planner.guards import GuardVerdict, Side, check_deletions
from jobfs.planner.plan import Plan
from jobfs.store.state import State

_log = logging.getLogger(__name__)

_STOPPED = "guard_stopped"
_NO_LIMIT = 1 << 60
_CLEAR = GuardVerdict(is_stopped=False)


class Guard:
    """Judges plans.

    :param judges_pushes: whether deletions found here are doubtful (a scan) rather than asked for (a system call).
    """

    def __init__(self, state: State, trees: Trees, *, judges_pushes: bool) -> None:
        self._state = state
        self._trees = trees
        self._judges_pushes = judges_pushes
        self._verdict = _CLEAR
        self._words: list[tuple[Side, int | None]] = []
        self._stopped: set[NodeId] = set(map(NodeId, json.loads(state.setting(_STOPPED) or "[]")))

    @property
    def detail(self) -> str:
        """Why deletions are stopped; empty where none are."""
        return self._current().detail

    @property
    def side(self) -> Side | None:
        """Where too much would be deleted; None where nothing is stopped."""
        return self._current().side

    @property
    def stopped(self) -> Collection[NodeId]:
        """The nodes of plans that were stopped, and not decided since."""
        return self._stopped

    @contextmanager
    def allowing(self, side: Side, number: int | None) -> Iterator[None]:
        """Take the user's word, while the context lasts, that so many deletions on one side are meant; None: any.

        Several words may be given at once: each counts until its own end.
        """
        word = side, number
        self._words.append(word)
        try:
            yield
        finally:
            self._words.remove(word)

    def keeps(self, node: NodeId) -> bool:
        """Tell whether a node's deletion on the server is stopped."""
        return node in self._stopped and self.side is Side.REMOTE

    def stops(self, plan: Plan, due: set[NodeId], allow: int | None) -> bool:
        """Tell whether a plan deletes too much.

        :param due: the nodes that it was made for. :param allow: so many deletions are allowed; None: any number.
        """
        verdict = self.judge(plan, allow)
        if verdict.is_stopped:
            if verdict.detail != self._verdict.detail:
                _log.warning("stopped: %s", verdict.detail)
            self._verdict = verdict
            self._remember(self._stopped | due)
        elif not self._stopped.isdisjoint(due):
            self._remember(self._stopped - due)
        return verdict.is_stopped

    def judge(self, plan: Plan, allow: int | None) -> GuardVerdict:
        """Return whether a plan deletes too much, and remember nothing."""
        return check_deletions(
            plan,
            local_size=len(self._state.local) - 1,
            # What the server has gained since is no part of what would be lost.
            remote_size=min(len(self._trees.remote), len(self._state.base)) - 1 if self._judges_pushes else _NO_LIMIT,
            allow=allow,
            besides=self._words,
            doubted=self._stopped,
        )

    def _remember(self, nodes: set[NodeId]) -> None:
        """Keep what is stopped also for the next session: by then the folder may hold more, and look less empty."""
        if nodes != self._stopped:
            with self._state.transaction():
                self._state.remember(_STOPPED, json.dumps(sorted(nodes)))
            self._stopped = nodes

    def _current(self) -> GuardVerdict:
        """Return the verdict, unless what it was about has been done or undone since."""
        if self._verdict.is_stopped and not any(map(self._is_missing, self._stopped)):
            self._verdict = _CLEAR
            self._remember(set())
        return self._verdict

    def _is_missing(self, node: NodeId) -> bool:
        """Tell whether a node is missing on the side where it was deleted, and there on the other."""
        known, here, there = self._state.base.get(node), self._state.synced.get(node), self._trees.remote.get(node)
        if known is None:
            return False
        if self._verdict.side is Side.REMOTE:
            return here is None and is_different(known, here)
        return there is None and here is not None
