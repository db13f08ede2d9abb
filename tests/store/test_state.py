"""The durable state: what a transaction promises, what survives, and what a damaged store says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobfs.errors import StateCorrupt, StateFull, StateLocked
from jobfs.model import ROOT, Content, Entry, ItemId, Kind, LocalNode, NodeId, Revision
from jobfs.store.blobs import Blobs, disk_errors
from jobfs.store.schema import VERSION
from jobfs.store.state import Aside, State


def a_file(state: State, name: str, *, content: Content | None = None) -> LocalNode:
    node = LocalNode(state.allocate(), ROOT, name, Kind.FILE, content=content or Content(0, "x"), mtime_ns=5)
    with state.transaction():
        state.put_local(node)
    return node


def test_what_a_transaction_did_is_there_after_reopening(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    revision = Revision(ItemId("i1"), "2026-01-01T00:00:00.000Z", 3, "k")
    node = a_file(state, "ä\U0001f600", content=Content(3, "ab", revision))
    with state.transaction():
        state.put_base(Entry(node.id, ROOT, node.name, Kind.FILE, content=node.content, item=ItemId("i1")))
        state.put_aside(Aside("abcdefgh", node.id, "a", revision))
        state.remember("dir_move", "cascade")
    state.close()
    again = State.open(tmp_path)
    assert again.local.get(node.id) == node
    assert again.base.get(node.id).content is again.local.get(node.id).content
    assert again.asides() == [Aside("abcdefgh", node.id, "a", revision)]
    assert again.setting("dir_move") == "cascade"
    assert again.check() == []
    again.close()


def test_what_is_only_shown_is_forgotten_with_its_node_unless_the_deletion_is_undone(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    kept, gone = a_file(state, "kept"), a_file(state, "gone")
    for node in (kept, gone):
        state.show_local(replace(node, mtime_ns=9))
    with state.transaction():
        state.drop_local(gone.id)
    with pytest.raises(ZeroDivisionError), state.transaction():
        state.drop_local(kept.id)
        raise ZeroDivisionError
    assert state._shown == {kept.id}
    state.close()
    again = State.open(tmp_path)
    assert again.local.get(kept.id) == replace(kept, mtime_ns=9)
    again.close()


def test_a_transaction_that_raises_leaves_memory_and_disk_as_they_were(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    node = a_file(state, "a")
    removed: list[str] = []
    with pytest.raises(ZeroDivisionError), state.transaction():
        state.put_local(replace(node, name="b"))
        state.put_base(Entry(node.id, ROOT, "b", Kind.FILE))
        state.drop_local(node.id)
        state.after_commit(lambda: removed.append("blob"))
        raise ZeroDivisionError
    assert state.local.get(node.id) == node
    assert state.local.child(ROOT, "a") == node.id
    assert state.base.get(node.id) is None
    assert removed == []
    state.close()
    again = State.open(tmp_path)
    assert again.local.get(node.id) == node
    again.close()


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    node = a_file(state, "a")
    pages = state._database.execute("PRAGMA page_count").fetchone()[0]
    state._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StateFull), state.transaction():
        for number in range(2000):
            state.put_local(replace(node, id=NodeId(1000 + number), name=f"{number}" * 20))
    assert state.local.children(ROOT) == {"a": node.id}
    assert state.check() == []
    state.close()


def test_no_space_for_a_blob_is_a_full_disk() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(StateFull), disk_errors():
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def test_what_local_contents_take_is_known_after_every_change(tmp_path: Path) -> None:
    def held() -> int:
        nodes = [node for node in state.local.entries() if node.blob is not None]
        return sum(node.content.size for node in nodes if node.content is not None)

    state = State.open(tmp_path)
    nodes = [a_file(state, str(size), content=Content(size)) for size in (3, 50, 700)]
    kept, moved, gone = (replace(node, blob=state.blobs.allocate()) for node in nodes)
    for node in (kept, moved, gone):
        state.blobs.path(node.blob).parent.mkdir(exist_ok=True)
        state.blobs.path(node.blob).write_bytes(bytes(node.content.size))
        with state.transaction():
            state.put_local(node)
    assert (state.local.held_bytes, held()) == (753, 753)
    with pytest.raises(ZeroDivisionError), state.transaction():
        state.drop_local(kept.id)
        state.put_local(replace(moved, content=Content(9000)))
        raise ZeroDivisionError
    assert (state.local.held_bytes, held()) == (753, 753)
    with state.transaction():
        state.put_local(replace(moved, name="elsewhere"))
        state.put_local(replace(kept, blob=None))
        state.drop_local(gone.id)
    assert (state.local.held_bytes, held()) == (50, 50)
    state.close()
    state = State.open(tmp_path)
    assert (state.local.held_bytes, held()) == (50, 50)
    state.close()


def test_a_second_process_is_told_who_has_the_state(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    code = "import sys; from pathlib import Path; from jobfs.store.state import State; State.open(Path(sys.argv[1]))"
    source = Path(__file__).parents[2] / "src"
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StateLocked" in other.stderr
    assert f"process {os.getpid()}" in other.stderr
    with pytest.raises(StateLocked):
        State.open(tmp_path)
    state.close()
    State.open(tmp_path).close()


@pytest.mark.parametrize("damage", [b"no database at all", b""])
def test_a_damaged_database_is_said_with_the_remedy(tmp_path: Path, damage: bytes) -> None:
    State.open(tmp_path).close()
    path = tmp_path / "state.db"
    path.write_bytes(damage + path.read_bytes()[len(damage) : 2048] if damage else path.read_bytes()[:3000])
    with pytest.raises(StateCorrupt) as caught:
        State.open(tmp_path)
    assert "fsck" in caught.value.remedy


def test_a_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state._database.execute(f"PRAGMA user_version = {VERSION + 1}")
    state.close()
    with pytest.raises(StateCorrupt, match="newer version"):
        State.open(tmp_path)


def test_a_node_number_is_never_used_twice(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    first = a_file(state, "a")
    with state.transaction():
        state.drop_local(first.id)
    state.close()
    again = State.open(tmp_path)
    assert again.allocate() > first.id
    again.close()


def test_the_size_of_a_dirty_file_after_a_crash_is_that_of_its_blob(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    node = a_file(state, "a")
    blob = state.blobs.allocate()
    descriptor = state.blobs.open(blob, create=True)
    with state.transaction():
        state.put_local(replace(node, blob=blob, content=Content(0)))
    os.write(descriptor, b"written after the row")
    os.close(descriptor)
    state._lock.release()
    again = State.open(tmp_path)
    assert again.local.get(node.id).content == Content(21)
    assert again.check() == []
    again.close()


def test_blobs_that_no_row_names_are_swept_and_named_ones_stay(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    node = a_file(state, "a")
    kept, litter = state.blobs.allocate(), state.blobs.allocate()
    for blob in (kept, litter):
        os.close(state.blobs.open(blob, create=True))
    with state.transaction():
        state.put_local(replace(node, blob=kept, content=Content(0)))
    state.close()
    again = State.open(tmp_path)
    assert (again.blobs.has(kept), again.blobs.has(litter)) == (True, False)
    assert again.blobs.allocate() > kept
    again.close()


def test_a_pinned_blob_is_removed_after_its_last_pin(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blob = blobs.allocate()
    os.close(blobs.open(blob, create=True))
    with blobs.pinned(blob), blobs.pinned(blob):
        blobs.remove(blob)
        assert blobs.has(blob)
        blobs.finish_removals()
        assert blobs.has(blob)
    blobs.finish_removals()
    assert not blobs.has(blob)


def test_a_copy_of_a_sparse_blob_is_sparse_and_equal(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blob = blobs.allocate()
    descriptor = blobs.open(blob, create=True)
    os.pwrite(descriptor, b"end", 64 << 20)
    os.close(descriptor)
    copy = blobs.copy(blob)
    assert blobs.sha256(copy) == blobs.sha256(blob)
    assert blobs.path(copy).stat().st_blocks * 512 < 1 << 20


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    node = a_file(state, "a")
    with state.transaction():
        state.put_local(replace(node, content=Content(10), blob=None))
        state.put_base(Entry(NodeId(900), NodeId(901), "orphan", Kind.FILE, item=ItemId("i")))
        state.put_base(Entry(NodeId(902), ROOT, "twin", Kind.FILE, item=ItemId("i")))
    assert [line[:2] for line in state.check()] == ["I1", "I3", "I5", "I4"]
    state.close()
