"""The rules of a workspace: what may be created, moved, changed and deleted, and what happens then.

Apart from HTTP and from SQLite: the embedded server runs these rules over its database, a simulation over memory. Clock
and ids are parameters. Every public call is one step that the caller wraps in a transaction; a refused call has changed
nothing. The contract's numbers (section 5.2) stand beside what they decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from jobfs.server.ids import IdSource
from jobfs.server.items import Access, ItemRecord, ItemStore, Owner, View
from jobfs.server.paths import MAX_PATH, ItemPath, is_below, is_runtime_path, normal_form, parent_of, parse_path
from jobfs.server.refusals import (
    DIRECTORY_NOT_FOUND,
    INVALID_PATH,
    ITEM_NOT_FOUND,
    NEEDS_JOB,
    NO_FIELD,
    PATH_EXISTS,
    READ_ONLY,
    Refused,
)
from jobfs.server.switches import Switches
from jobfs.server.times import Clock


@dataclass(frozen=True, slots=True)
class Draft:
    """An item that is to be made.

    :param path: as the caller spelt it.
    :param key: of content that is already stored; empty for a directory.
    """

    path: str
    is_directory: bool
    permission: Access = "readWrite"
    owner: Owner = "user"
    key: str = ""
    mime_type: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What an update gives; None leaves a field as it is."""

    path: str | None = None
    permission: Access | None = None
    is_shared: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given."""
        return self.path is None and self.permission is None and self.is_shared is None


class WorkspaceRules:
    """Apply the rules to a store.

    :param switches: read at each call, since tests turn them while the server runs.
    """

    def __init__(
        self, store: ItemStore, *, clock: Clock, new_id: IdSource, switches: Callable[[], Switches] = Switches
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._switches = switches

    # ------------------------------------------------------------------ reading

    def get(self, view: View, item_id: str) -> ItemRecord:
        """Return an item that the view sees; 404 otherwise."""
        record = self._store.get(item_id)
        if record is not None and (
            record.space == view.own or (record.space == view.application and not self._is_hidden(view, record))
        ):
            return record
        raise Refused(404, ITEM_NOT_FOUND)

    def find(self, view: View, text: str) -> Sequence[ItemRecord]:
        """Return what a view sees at a path, or under the other values of ``find_mode`` at all that match (I-30)."""
        wanted = normal_form(text)
        match self._switches().find_mode:
            case "exact":
                return self.seen_at(view, wanted)
            case "prefix":
                return [record for record in self._everything(view) if record.path.startswith(wanted)]
            case "glob":
                return [record for record in self._everything(view) if fnmatchcase(record.path, wanted)]

    # ------------------------------------------------------------------ creating

    def create(self, view: View, draft: Draft) -> ItemRecord:
        """Make an item; its parent must exist and, by default, its path must be free (I-6, I-8, I-10)."""
        path = self._parse(draft.path, is_directory=draft.is_directory, owner=draft.owner)
        self._require_parent(view, path.normal)
        occupants = self._store.at(view.own, path.normal)
        match self._switches().create_existing:
            case "error" if occupants:
                raise Refused(400, PATH_EXISTS)
            case "replace" if occupants:
                return self._replace(occupants[-1], draft)
        return self._insert(view.own, path, draft)

    def overwrite(self, view: View, draft: Draft) -> ItemRecord:
        """Make an item or give an existing one new content, as the expert's own tools do inside its sandbox.

        Missing parents are made. A default of the application is never written: the view's own item goes beside it.
        """
        path = self._parse(draft.path, is_directory=draft.is_directory, owner=draft.owner)
        occupants = self._store.at(view.own, path.normal)
        if occupants and draft.is_directory and occupants[-1].is_directory:
            return occupants[-1]
        if occupants:
            return self._replace(occupants[-1], replace(draft, permission=occupants[-1].permission))
        missing = self._missing_parents(view, path.normal)
        if any(self._store.at(view.own, parent) for parent in missing):
            raise Refused(400, DIRECTORY_NOT_FOUND)
        for parent in missing:
            self._insert(view.own, ItemPath(parent, parent), Draft(parent, is_directory=True, owner=draft.owner))
        return self._insert(view.own, path, draft)

    def _missing_parents(self, view: View, path: str) -> list[str]:
        """Return the ancestors that are no directories in this view, the topmost first."""
        missing: list[str] = []
        parent = parent_of(path)
        while parent and not any(record.is_directory for record in self.seen_at(view, parent)):
            missing.append(parent)
            parent = parent_of(parent)
        return missing[::-1]

    def _insert(self, space: str, path: ItemPath, draft: Draft) -> ItemRecord:
        now = self._clock()
        record = ItemRecord(
            id=self._new_id(),
            space=space,
            is_directory=draft.is_directory,
            owner=draft.owner,
            permission=draft.permission,
            path=path.normal,
            shown=path.shown,
            created_ms=now,
            updated_ms=now,
            key=draft.key,
            mime_type=draft.mime_type,
            size=draft.size,
        )
        self._store.put(record)
        self._store.touch(space, now)
        return record

    def _replace(self, old: ItemRecord, draft: Draft) -> ItemRecord:
        if old.is_directory != draft.is_directory:
            raise Refused(400, PATH_EXISTS)
        self._require_writable(old)
        new = replace(old, permission=draft.permission, key=draft.key, mime_type=draft.mime_type, size=draft.size)
        return self._commit(old, new)

    # ------------------------------------------------------------------ changing

    def update(self, view: View, item_id: str, change: Change) -> ItemRecord:
        """Change path, permission and lifecycle together or not at all (I-15 to I-22, I-27 to I-29)."""
        old = self.get(view, item_id)
        if change.is_empty:
            raise Refused(400, NO_FIELD)
        new = self._changed(view, old, change)
        if new == old:
            return old
        if self._detaches(view, old):
            return self._detach(view, old, new)
        if (new.space, new.path) == (old.space, old.path):
            return self._commit(old, new)
        return self._move(view, old, new)

    def set_content(self, view: View, item_id: str, *, key: str, size: int) -> ItemRecord:
        """Give a file new bytes in place (I-17, ``content_update=on``)."""
        old = self.get(view, item_id)
        if old.is_directory:
            raise Refused(400, INVALID_PATH)
        self._require_writable(old)
        new = replace(old, key=key, size=size)
        return self._detach(view, old, new) if self._detaches(view, old) else self._commit(old, new)

    def renew(self, view: View) -> None:
        """Give the oldest file of a view's own space a new id and a new date: the ``mutate_pages`` fault.

        To a reader between two pages it is a deletion plus an insertion, so ``total`` stays and a row is skipped.
        """
        for record in self._everything(view):
            if record.space == view.own and not record.is_directory:
                now = self._clock()
                self._store.put(replace(record, id=self._new_id(), created_ms=now, updated_ms=now))
                self._store.remove([record])
                return

    def _changed(self, view: View, old: ItemRecord, change: Change) -> ItemRecord:
        """Return the item as the change would have it; nothing is checked against other items yet."""
        new = old
        if change.permission is not None:
            new = replace(new, permission=change.permission)
        if change.is_shared is not None:
            if not change.is_shared and view.instance is None:
                raise Refused(400, NEEDS_JOB)
            new = replace(new, space=view.application if change.is_shared else view.own)
        if change.path is not None:
            path = self._parse(change.path, is_directory=old.is_directory, owner="user")
            if path.normal != old.path:
                self._require_writable(old)
            new = replace(new, path=path.normal, shown=path.shown)
        return new

    def _move(self, view: View, old: ItemRecord, new: ItemRecord) -> ItemRecord:
        self._require_target(view, old, new)
        self._store.carry(_at_path(record, path) for record, path in self._carried(view, old, new))
        if new.space != old.space:
            self._store.touch(old.space, self._clock())
        return self._commit(old, new)

    def _require_target(self, view: View, old: ItemRecord, new: ItemRecord) -> None:
        if old.is_directory and is_below(new.path, old.path):
            raise Refused(400, INVALID_PATH)
        self._require_parent(view if new.space == view.instance else View(view.application), new.path)
        if any(record.id != old.id for record in self._store.at(new.space, new.path)):
            raise Refused(400, PATH_EXISTS)

    def _carried(self, view: View, old: ItemRecord, new: ItemRecord) -> Sequence[tuple[ItemRecord, str]]:
        """Return what moves along with a directory, each with its new path (I-18, I-21)."""
        if not old.is_directory or new.path == old.path or self._switches().dir_move == "orphan":
            return ()
        carried = [(record, new.path + record.path[len(old.path) :]) for record in self._contents(view, old)]
        if any(len(path) + len(record.shown) - len(record.path) > MAX_PATH for record, path in carried):
            raise Refused(400, INVALID_PATH)
        spaces = {record.space for record, _ in carried}
        taken = {(space, record.path) for space in spaces for record in self._store.below(space, new.path)}
        if any((record.space, path) in taken for record, path in carried):
            raise Refused(400, PATH_EXISTS)
        return carried

    def _commit(self, old: ItemRecord, new: ItemRecord) -> ItemRecord:
        now = self._clock()
        new = replace(new, updated_ms=max(now, old.updated_ms + 1))
        self._store.put(new)
        self._store.touch(new.space, now)
        return new

    # ------------------------------------------------------------------ deleting

    def delete(self, view: View, item_id: str) -> None:
        """Delete an item, a directory with everything in it, in one step (I-23, I-25 to I-27)."""
        record = self.get(view, item_id)
        doomed = [record, *(self._contents(view, record) if record.is_directory else ())]
        if self._detaches(view, record):
            self._store.hide(view.own, [item for item in doomed if item.space == view.application])
            doomed = [item for item in doomed if item.space == view.own]
        self._store.remove(doomed)
        self._store.touch(record.space, self._clock())
        if view.own != record.space:
            self._store.touch(view.own, self._clock())

    # ------------------------------------------------------------------ application items seen through an instance

    def _detaches(self, view: View, record: ItemRecord) -> bool:
        """Tell whether a change of this item becomes a private copy instead of a change for all jobs (I-27)."""
        return record.space == view.application != view.own and self._switches().shared_change == "detach"

    def _detach(self, view: View, old: ItemRecord, new: ItemRecord) -> ItemRecord:
        """Leave the default to the other jobs and put the changed item into this job's instance.

        A moved default is hidden from this job, else it would still stand at its old place. One that only changed is
        shadowed by its copy and shows again when the copy is deleted (I-26).
        """
        if new.space == view.application:
            new = replace(new, space=view.own)
        self._require_target(view, old, new)
        carried = self._carried(view, old, new)
        now = self._clock()
        for record, path in carried:
            moved = _at_path(record, path)
            if record.space == view.application:
                moved = replace(moved, id=self._new_id(), space=view.own, created_ms=now, updated_ms=now)
            self._store.put(moved)
        if new.path != old.path:
            gone = [old, *(record for record, _ in carried if record.space == view.application)]
            self._store.hide(view.own, gone)
        return self._commit(old, replace(new, id=self._new_id(), created_ms=now))

    # ------------------------------------------------------------------ shared checks

    def _parse(self, raw: str, *, is_directory: bool, owner: Owner) -> ItemPath:
        switches = self._switches()
        path = parse_path(raw, is_directory=is_directory, leading_slash=switches.leading_slash)
        if switches.reserve_runtime_dir == "on" and owner == "user" and is_runtime_path(path.normal):
            raise Refused(400, INVALID_PATH)
        return path

    def _require_parent(self, view: View, path: str) -> None:
        """A parent is a directory that the view sees; a private file hides a default directory of the same name."""
        parent = parent_of(path)
        if not parent:
            return
        own = self._store.at(view.own, parent)
        seen = own or self.seen_at(view, parent)
        if not any(record.is_directory for record in seen):
            raise Refused(400, DIRECTORY_NOT_FOUND)

    def _require_writable(self, record: ItemRecord) -> None:
        if record.permission == "readOnly" and self._switches().readonly == "enforced":
            raise Refused(403, READ_ONLY)

    def _contents(self, view: View, directory: ItemRecord) -> list[ItemRecord]:
        """Return what goes where a directory goes.

        That is everything below it in its own space, unless a twin at the same path keeps it; and, when a default is
        looked at through an instance, what the instance holds below it, unless a directory of its own keeps that.
        """

        def below(space: str) -> Sequence[ItemRecord]:
            twins = [record for record in self._store.at(space, directory.path) if record.id != directory.id]
            return () if any(twin.is_directory for twin in twins) else self._store.below(space, directory.path)

        contents = list(below(directory.space))
        if view.instance is not None and directory.space != view.instance:
            hidden = self._store.hidden_from(view.instance)
            contents = [record for record in contents if record.id not in hidden]
            contents.extend(below(view.instance))
        return contents

    def seen_at(self, view: View, path: str) -> list[ItemRecord]:
        """Return what a view sees at a normal path."""
        seen = list(self._store.at(view.own, path))
        if view.instance is not None:
            defaults = self._store.at(view.application, path)
            seen.extend(record for record in defaults if not self._is_hidden(view, record))
        return seen

    def _is_hidden(self, view: View, record: ItemRecord) -> bool:
        return view.instance is not None and record.id in self._store.hidden_from(view.instance)

    def _everything(self, view: View) -> Sequence[ItemRecord]:
        return self._store.page(view, order="created", skip=0, take=-1)


def _at_path(record: ItemRecord, path: str) -> ItemRecord:
    """Return an item carried to a new path. Its own ``updatedAt`` stays: only the directory above it was changed."""
    return replace(record, path=path, shown="/" + path if record.shown.startswith("/") else path)
