"""What keeps one session from deleting too much, and remembers what it keeps until the user has decided.

**Invariants.** What was stopped is told, and stays stopped, for as long as it is neither allowed nor undone, whatever
else is sent meanwhile, also by a later session. What the user allowed is those deletions that were there to be seen
when he did: they are made without another word, this session long, also where they fail at first, and no others are.
Others are judged by themselves, beside what will be left once all that was stopped or allowed is gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from jobfs.engine.trees import Trees
from jobfs.model import NodeId
from jobfs.planner.difference import is_different
from jobfs.planner.guards import GuardVerdict, Side, Word, check_deletions, doomed_nodes
from jobfs.planner.plan import Plan
from jobfs.store.state import State

_log = logging.getLogger(__name__)

_STOPPED = "guard_stopped"
_NO_LIMIT = 1 << 60
_CLEAR = GuardVerdict(is_stopped=False)


@dataclass(slots=True, eq=False)
class Given:
    """A word of the user, while he waits for what it allows."""

    word: Word

    def is_about(self, nodes: Collection[NodeId]) -> None:
        """Note what there is to be seen now: the word is for no other nodes."""
        self.word = Word(self.word.side, self.word.most, frozenset(nodes))


class Guard:
    """Judges plans.

    :param judges_pushes: whether deletions found here are doubtful (a scan) rather than asked for (a system call).
    """

    def __init__(self, state: State, trees: Trees, *, judges_pushes: bool) -> None:
        self._state = state
        self._trees = trees
        self._judges_pushes = judges_pushes
        self._verdict = _CLEAR
        self._given: list[Given] = []
        self._allowed: dict[Side, Set[NodeId]] = {side: frozenset() for side in Side}
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
    def allowing(self, side: Side, most: int | None) -> Iterator[Given]:
        """Take the user's word, while the context lasts, that so many deletions on one side are meant; None: any.

        Several words may be given at once: each counts until its own end. What a plan is made for meanwhile stays
        allowed, however it ends.
        """
        given = Given(Word(side, most))
        self._given.append(given)
        try:
            yield given
        finally:
            self._given.remove(given)

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
            return True
        if not self._stopped.isdisjoint(due):
            self._remember(self._stopped - due)
        self._note_allowed(plan, due)
        return False

    def judge(self, plan: Plan, allow: int | None) -> GuardVerdict:
        """Return whether a plan deletes too much, and remember nothing."""
        return check_deletions(
            plan,
            local_size=len(self._state.local) - 1,
            # What the server has gained since is no part of what would be lost.
            remote_size=min(len(self._trees.remote), len(self._state.base)) - 1 if self._judges_pushes else _NO_LIMIT,
            allow=allow,
            words=self._words(),
            doubted=self._stopped,
            leaving={side: self._leaving(side) if doomed_nodes(plan, side) else frozenset() for side in Side},
        )

    def _words(self) -> list[Word]:
        return [*(given.word for given in self._given), *(Word(side, None, self._allowed[side]) for side in Side)]

    def _leaving(self, side: Side) -> Set[NodeId]:
        """Return what is there, and is to go once it is allowed, or can be done."""
        there = self._state.local if side is Side.LOCAL else self._trees.remote
        nodes = self._stopped | self._allowed[side]
        return {node for node in nodes if there.get(node) is not None and self._is_missing(node, side)}

    def _note_allowed(self, plan: Plan, due: set[NodeId]) -> None:
        """Keep what is allowed until it is done or undone, for a plan may fail, and is made again then."""
        if not self._given and not any(self._allowed.values()):
            return
        decided = due if self._trees.is_observed else set()  # else nobody knows what the server has
        for side in Side:
            doomed = doomed_nodes(plan, side)
            meant = frozenset().union(*(word.covers(side, doomed) for word in self._words()))
            waiting = (node for node in self._allowed[side] - decided if self._state.base.get(node) is not None)
            self._allowed[side] = meant.union(waiting)

    def _remember(self, nodes: set[NodeId]) -> None:
        """Keep what is stopped also for the next session: by then the folder may hold more, and look less empty."""
        if nodes != self._stopped:
            with self._state.transaction():
                self._state.remember(_STOPPED, json.dumps(sorted(nodes)))
            self._stopped = nodes

    def _current(self) -> GuardVerdict:
        """Return the verdict, unless what it was about has been done or undone since."""
        side = self._verdict.side
        if side is not None and not any(self._is_missing(node, side) for node in self._stopped):
            self._verdict = _CLEAR
            self._remember(set())
        return self._verdict

    def _is_missing(self, node: NodeId, side: Side) -> bool:
        """Tell whether a node would be deleted on a side: it is there, and missing on the other."""
        known, here, there = self._state.base.get(node), self._state.synced.get(node), self._trees.remote.get(node)
        if known is None:
            return False
        if side is Side.REMOTE:
            return here is None and is_different(known, here)
        return there is None and here is not None
