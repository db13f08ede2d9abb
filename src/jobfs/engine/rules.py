"""Keep the ignore rules as ``.jobfsignore`` says, whichever side changes it, and apply a change without any deletion.

**Invariant: a rule change moves nodes between synchronised and local-only; it removes none.** What becomes ignored
stays here as it is, the server keeps its item, and base forgets it: neither side will read the other's absence as a
deletion. What is no longer ignored is compared with the server's items like anything that both sides have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from jobfs.engine.lookup import get_if_there
from jobfs.engine.remote import Remote
from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Workspace
from jobfs.errors import ApiError, NotFound, ProtocolViolation, Refused
from jobfs.model import ROOT, Item, Kind, LocalNode, NodeId, Problem, Revision, Trouble
from jobfs.planner.ignore import IGNORE_FILE

_log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 20
_MOST_TRIES = 3
"""After so many failures in a row one version of the file is given up: nobody's whole workspace waits for it."""


class Rules:
    """The ignore rules of one workspace.

    ``read_local`` gives the bytes of a local file, or None where they are not here; ``on_change`` is called when the
    rules are others.
    """

    def __init__(self, workspace: Workspace, trees: Trees, remote: Remote) -> None:
        self.workspace = workspace
        self._trees = trees
        self._remote = remote
        self._text = ""
        self._seen: Revision | None = None
        self._failures = 0
        self.problems: tuple[Problem, ...] = ()
        """Why the server's rules are not in force, where they are not."""
        self.read_local: Callable[[LocalNode], bytes | None] = self._read_blob
        self.on_change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Take the rules from the stored tree, and apply whatever changed since the last session."""
        record = self._local()
        text = self._read(record) if record is not None else None
        if text is not None:
            self._set(text)
        self._reflag()

    def see_local(self, touched: Collection[NodeId]) -> None:
        """Take the rules from here where the user changed them."""
        record = self._local()
        if record is None or record.id not in touched:
            return
        text = self._read(record)
        if text is not None and self._set(text):
            self._reflag()

    async def see_items(self, items: Iterable[Item]) -> None:
        """Take the rules from the server where a listing shows a newer version, before the listing is taken in.

        A version that cannot be had for good is passed over, with a problem: the rules stay as they are.

        :raises ApiError: the file could not be read; after a few times it counts as not to be had.
        """
        record = self._local()
        if record is not None and record.is_dirty:
            return
        item = next((item for item in items if item.path == IGNORE_FILE and item.kind is Kind.FILE), None)
        if item is None or item.revision == self._seen or (record and self._is_known(record, item.revision)):
            return
        try:
            text = await self._download(item)
        except ApiError as error:
            await self._give_up(item, error)
            return
        self._seen, self._failures, self.problems = item.revision, 0, ()
        if self._set(text):
            self._reflag()

    async def _give_up(self, item: Item, error: ApiError) -> None:
        """Pass over a version that cannot be had; raise the error where there may be a newer one, or it may pass."""
        self._failures += 1
        is_final = isinstance(error, (NotFound, ProtocolViolation, Refused)) and await self._is_newest(item)
        if not is_final and self._failures < _MOST_TRIES:
            raise error
        self._seen, self._failures = item.revision, 0
        detail = f"these rules are not in force: {error.cause}"
        self.problems = (Problem(None, IGNORE_FILE, Trouble.REFUSED, detail),)
        _log.warning("%s: %s", IGNORE_FILE, detail)

    async def _is_newest(self, item: Item) -> bool:
        try:
            found = await get_if_there(self._remote, item.id)
        except (ProtocolViolation, Refused):
            return True
        return found is not None and found.revision == item.revision

    def _is_known(self, record: LocalNode, revision: Revision) -> bool:
        is_newest = record.content is not None and record.content.revision == revision
        return is_newest and self.read_local(record) is not None

    def _local(self) -> LocalNode | None:
        local = self.workspace.state.local
        node = local.child(ROOT, IGNORE_FILE)
        record = local.get(node) if node is not None else None
        return record if record is not None and record.kind is Kind.FILE else None

    def _read(self, record: LocalNode) -> str | None:
        """Return the text where its bytes are here, else None."""
        if record.content is not None and record.content.size == 0:
            return ""
        found = self.read_local(record)
        return None if found is None else found[:_MAX_BYTES].decode("utf-8", "replace")

    def _read_blob(self, record: LocalNode) -> bytes | None:
        """Return a mount's bytes of a file, where they are here. Folder mode reads the real file instead."""
        if record.blob is None:
            return None
        with self.workspace.state.blobs.path(record.blob).open("rb") as file:
            return file.read(_MAX_BYTES)

    async def _download(self, item: Item) -> str:
        if item.size > _MAX_BYTES:
            raise ProtocolViolation(f"{IGNORE_FILE} has {item.size} bytes", "make it smaller than 1 MiB")
        received = bytearray()
        async with self._remote.download(item.id) as download:
            async for chunk in download.chunks():
                received += chunk
                if len(received) > item.size:
                    break
        if len(received) != item.size:
            raise ProtocolViolation(f"{IGNORE_FILE} has another length than the list says", "save it again")
        return received.decode("utf-8", "replace")

    def _set(self, text: str) -> bool:
        if text == self._text:
            return False
        self._text = text
        self.workspace.ignore = self.workspace.ignore.with_text(text)
        self.on_change()
        return True

    def _reflag(self) -> None:
        """Bring every node's flag, and base, in line with the rules."""
        pending = [ROOT]
        with self.workspace.state.transaction():
            while pending:
                directory = pending.pop()
                for name, node in list(self.workspace.state.local.children(directory).items()):
                    record = self.workspace.state.local.get(node)
                    if record is None:
                        continue
                    is_directory = record.kind is Kind.DIRECTORY
                    self._flag(record, self.workspace.is_ignored(directory, name, is_directory=is_directory))
                    if is_directory:
                        pending.append(node)

    def _flag(self, record: LocalNode, ignored: bool) -> None:
        ignored = ignored or record.kind not in (Kind.FILE, Kind.DIRECTORY)
        if ignored == record.is_local_only:
            return
        state = self.workspace.state
        state.put_local(replace(record, is_local_only=ignored))
        if ignored:
            state.drop_base(record.id)
            self._trees.remote.drop(record.id)
            self._trees.changes += 1
        self.workspace.touch(record.id)
