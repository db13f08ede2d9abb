"""Play a recorded trace (``edit_traces``) through a mount and through a folder, and find where they differ.

Each player has a server of its own, in memory, and simulated time; the mount is spoken to through its vfs, the folder's
files are real. Batch by batch: another client edits the server, unseen; programs edit here; then the session takes a
listing and brings both sides together.

Compared after each batch are: which edits could be done, the server's items, the files here, the conflicts that were
reported, with the names of the copies, what lost a conflict and is kept in the history, and what could not be done.
Also, both sides of each player must be equal, and nothing may be logged as a warning.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from edit_traces import Batch, Edit, Trace, is_in
from engine_harness import Mounted, mounted
from kept_versions import lost_bytes
from model_remote import ModelRemote
from trace_hands import Careful, FolderHand, Hand, MountHand, perform, perform_there
from virtual_loop import FIRST_MOMENT_S, VirtualLoop, run_virtually

from jobfs.engine.feed import FeedTimes
from jobfs.engine.session import Options
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.model import ROOT, Kind, LocalNode, NodeId, Permission
from jobfs.planner.ignore import Ignore
from jobfs.planner.naming import OWN_FOLDER
from jobfs.planner.plan import Conflict
from jobfs.store.state import State

HOST = "testhost"
BATCH_S = 1000.0
"""Each batch begins at a multiple of this, whoever plays: conflict copies are named after the second."""

SETTLE_S = 300.0
"""So long, in simulated time, both sides may take to become equal."""

_NEVER_S = 1e9
TIMES = FeedTimes(ended_s=_NEVER_S, ended_max_s=_NEVER_S, status_s=_NEVER_S, status_max_s=_NEVER_S)
"""Nothing is asked of the server by the way: a listing between two edits would make another trace of them."""

Tree: TypeAlias = dict[str, str]
"""What is where: path to bytes and permission, in words."""


@dataclass
class Result:
    """What came of one batch."""

    failed: list[str] = field(default_factory=list)
    server: Tree = field(default_factory=dict)
    here: Tree = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)


PARTS = ("failed", "server", "here", "conflicts", "history", "left", "logged")


class Side(Protocol):
    """One way to keep files here in step with the server."""

    hand: Hand
    state: State

    async def begin(self) -> None:
        """Come to rest, so that nothing is done while programs work."""

    async def settle(self) -> tuple[Iterable[Conflict], list[str]]:
        """Bring both sides together; return the conflicts, and what could not be done."""

    def tree(self) -> Tree:
        """Return what a program finds here."""


Player: TypeAlias = Callable[[Trace, VirtualLoop, Path, ModelRemote], AbstractAsyncContextManager[Side]]


# -- the mount


@asynccontextmanager
async def mount(trace: Trace, loop: VirtualLoop, directory: Path, remote: ModelRemote) -> AsyncIterator[Side]:
    """Play in a mount."""
    # What a program deletes in a mount is the user's word, in a folder it is evidence of nothing: the deletion guard,
    # which knows the difference, is off in both.
    options = Options(policy=trace.policy, max_deletions=None, times=TIMES)

    def token() -> str:
        return "".join(loop.dice.choice("abcdefgh") for _ in range(8))

    async with mounted(directory / "state", remote, options=options, clock=loop.clock, tokens=token) as opened:
        yield _MountSide(opened, is_read=trace.is_read)


class _MountSide:
    def __init__(self, opened: Mounted, *, is_read: bool) -> None:
        self.hand = MountHand(opened)
        self.state = opened.session.state
        self._mount = opened
        self._session = opened.session
        self._is_read = is_read

    async def begin(self) -> None:
        await self._session.feed.poll()
        await self._session.drain(None)

    async def settle(self) -> tuple[Iterable[Conflict], list[str]]:
        known = len(self._session.conflicts)
        await self._session.feed.poll()
        left = await self._session.drain(None)
        if self._is_read:
            for path, node in self._nodes():
                if node.kind is Kind.FILE:
                    await self._mount.read(path)
        return self._session.conflicts[known:], [f"{one.path}: {one.reason}" for one in left]

    def tree(self) -> Tree:
        return {path: self._described(node) for path, node in self._nodes()}

    def _nodes(self) -> list[tuple[str, LocalNode]]:
        found: list[tuple[str, LocalNode]] = []
        pending: list[tuple[NodeId, str]] = [(ROOT, "")]
        for directory, prefix in pending:
            for name, node in self._mount.vfs.namespace.children(directory):
                record = self._mount.vfs.namespace.record(node)
                found.append((prefix + name, record))
                if record.kind is Kind.DIRECTORY:
                    pending.append((node, f"{prefix}{name}/"))
        return sorted(found, key=lambda one: one[0])

    def _described(self, node: LocalNode) -> str:
        """Say what a node is, without reading what is not here yet: that would change what a mount knows."""
        if node.content is None:
            return described(None)
        revision, data = node.content.revision, b""
        if node.blob is not None:
            data = self.state.blobs.path(node.blob).read_bytes()
        elif revision is not None and revision.size:
            data = self._mount.remote.bytes[revision.item]
        return described(data, is_writable=node.permission is Permission.READ_WRITE)


# -- the folder


@asynccontextmanager
async def folder(trace: Trace, loop: VirtualLoop, directory: Path, remote: ModelRemote) -> AsyncIterator[Side]:
    """Play in a folder that is synchronised once after each batch."""
    root = directory / "folder"
    root.mkdir()
    state = State.open(directory / "state")
    try:
        options = SyncOptions(conflict=trace.policy, max_deletions=None, host=HOST, times=TIMES)
        yield _FolderSide(state, remote, root, options, loop)
    finally:
        state.close()


class _FolderSide:
    def __init__(self, state: State, remote: ModelRemote, root: Path, options: SyncOptions, loop: VirtualLoop) -> None:
        self.hand = FolderHand(root, loop.clock)
        self.state = state
        self._remote = remote
        self._root = root
        self._options = options
        self._clock = loop.clock

    async def begin(self) -> None:
        """Do nothing: between two synchronisations nothing runs."""

    async def settle(self) -> tuple[Iterable[Conflict], list[str]]:
        sync = FolderSync(self.state, self._remote, self._root, options=self._options, clock=self._clock)
        summary = await sync.run()
        left = [f"{one.path}: {one.reason}" for one in summary.skipped]
        left += [f"{one.path}: {one.detail}" for one in summary.problems]
        return summary.conflicts, left

    def tree(self) -> Tree:
        found: Tree = {}
        pending = [""]
        for prefix in pending:
            for entry in os.scandir(self._root / prefix):
                path = prefix + entry.name
                if entry.is_dir() and path != OWN_FOLDER:
                    found[path] = described(None)
                    pending.append(f"{path}/")
                elif entry.is_file():
                    found[path] = described(Path(entry).read_bytes(), is_writable=self.hand.is_writable(path))
        return found


# -- both


def described(data: bytes | None, *, is_writable: bool = True) -> str:
    """Say what is at a path: bytes and permission, or a directory."""
    if data is None:
        return "directory"
    return repr(data.decode()) if is_writable else f"{data.decode()!r} read-only"


def play(trace: Trace, player: Player, directory: Path) -> list[Result]:
    """Play a trace in a directory of its own, which is removed afterwards. Blocks for some tens of milliseconds."""

    async def work(loop: VirtualLoop) -> list[Result]:
        remote = ModelRemote()
        async with player(trace, loop, Path(own), remote) as side:
            return [await _batch(number, batch, loop, remote, side) for number, batch in enumerate(trace.batches, 1)]

    with tempfile.TemporaryDirectory(dir=directory) as own:
        return run_virtually(trace.number, work)


async def _batch(number: int, batch: Batch, loop: VirtualLoop, remote: ModelRemote, side: Side) -> Result:
    await asyncio.sleep(FIRST_MOMENT_S + number * BATCH_S - loop.time())
    await side.begin()
    with _listening() as logged:
        for edit in batch.there:
            await perform_there(edit, remote)
        hand = Careful(side.hand)
        failed = [str(edit) for edit in batch.here if not await _is_done(edit, hand)]
        async with asyncio.timeout(SETTLE_S):
            conflicts, left = await side.settle()
    rows = sorted(remote.items.values(), key=lambda item: item.path)
    return Result(
        failed,
        {row.path: described(remote.bytes.get(row.id), is_writable=_is_writable(row.permission)) for row in rows},
        side.tree(),
        sorted({_told(conflict) for conflict in conflicts}),
        _history(side.state),
        sorted({*left, *side.state.check()}),
        logged,
    )


async def _is_done(edit: Edit, hand: Hand) -> bool:
    try:
        await perform(edit, hand)
    except OSError:
        return False
    return True


def _history(state: State) -> list[str]:
    """Return what lost, as far as it has bytes, without the places: a directory may have been on its way.

    What else is kept differs: of what a program does to its own files a folder sees only the result.
    """
    return sorted(f"{data.decode()!r}" for data in lost_bytes(state) if data)


def _is_writable(permission: Permission) -> bool:
    return permission is Permission.READ_WRITE


def _told(conflict: Conflict) -> str:
    copy = f", now {conflict.copy}" if conflict.copy else ""
    return f"{conflict.kind.value} at {conflict.path}{copy}"


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.heard.append(f"{record.name}: {record.getMessage()}" + (f" ({error!r})" if error is not None else ""))


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what is logged at WARNING and above, instead of handing it on."""
    ear = _Ear()
    loggers = [logging.getLogger(name) for name in ("jobfs", "asyncio")]
    for logger in loggers:
        logger.addHandler(ear)
        logger.propagate = False
    try:
        yield ear.heard
    finally:
        for logger in loggers:
            logger.removeHandler(ear)
            logger.propagate = True


# -- comparing


def difference(trace: Trace, directory: Path) -> str:
    """Play a trace both ways; say where they first differ, or what else went wrong. Empty: they are equal."""
    results: list[list[Result]] = []
    for name, player in (("mount", mount), ("folder", folder)):
        try:
            results.append(play(trace, player, directory))
        except Exception as error:  # noqa: BLE001 - whatever ends a player is what the trace has found
            return f"{name}: {type(error).__name__}: {error}"
    return compared(*results)


def compared(in_mount: list[Result], in_folder: list[Result]) -> str:
    """Say where two players' results first differ, or what is wrong with both."""
    for number, (one, other) in enumerate(zip(in_mount, in_folder, strict=True), 1):
        for part in PARTS:
            mine, others = getattr(one, part), getattr(other, part)
            if mine != others:
                return f"batch {number}, {part}: mount {_lacking(mine, others)}, folder {_lacking(others, mine)}"
        if one.logged:
            return f"batch {number}: {one.logged}"
        here, server = _synchronised(one.here, one.left), _synchronised(one.server, one.left)
        if here != server:
            return f"batch {number}: here {_lacking(here, server)}, server {_lacking(server, here)}"
    return ""


_RULES = Ignore()


def _synchronised(tree: Tree, left: list[str]) -> Tree:
    """Return a tree without what the ignore rules keep on its side, and what is left to do."""
    undone = [line.partition(": ")[0] for line in left]
    return {
        path: what
        for path, what in tree.items()
        if not _RULES.is_ignored(path, what == described(None)) and not any(is_in(path, above) for above in undone)
    }


def _lacking(one: Tree | list[str], other: Tree | list[str]) -> list[str]:
    """Return what the first has and the second has not."""
    mine = [f"{path}: {what}" for path, what in one.items()] if isinstance(one, dict) else one
    others = [f"{path}: {what}" for path, what in other.items()] if isinstance(other, dict) else other
    return [line for line in mine if line not in others]


def told(trace: Trace, directory: Path) -> Iterator[str]:
    """Yield a trace and what came of it, batch by batch, for a reader."""
    players = {"mount": play(trace, mount, directory), "folder": play(trace, folder, directory)}
    yield from trace.lines()
    for number, pair in enumerate(zip(*players.values(), strict=True), 1):
        for part in PARTS:
            mine, others = (getattr(one, part) for one in pair)
            shown = {"both": mine} if mine == others else dict(zip(players, (mine, others), strict=True))
            for name, found in shown.items():
                lines = [f"{path}: {what}" for path, what in found.items()] if isinstance(found, dict) else found
                yield from (f"{number} {part:9} {name:6} {line}" for line in (lines if lines or len(shown) > 1 else ()))
