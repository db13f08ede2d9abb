"""fsck's repair: each invariant broken by hand, mended on the rows, and nothing that was not sent is lost."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from kept_versions import kept_bytes
from state_workshop import NOW_NS, Workshop, free_name

from jobfs.errors import StateCorrupt
from jobfs.model import BlobId, Content, LocalNode, NodeId, path_of
from jobfs.store.history import Version
from jobfs.store.repair import decide
from jobfs.store.schema import VERSION
from jobfs.store.state import Creation, Refusal, State, StateTooNew, Trouble
from jobfs.store.stock import Repair, read_stock, write_repair


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """``docs`` with a dirty, a new, a hydrated and a remote file; ``empty``; something local-only; a lost version."""
    shop = Workshop(tmp_path / "state")
    shop.directory_at("docs")
    shop.file("docs/edited", b"edited here", b"as it was")
    shop.file("docs/new", b"never sent", None)
    shop.file("docs/read", b"read before", b"read before")
    shop.file("docs/remote", None, b"only there")
    shop.directory_at("empty")
    shop.local_only(".env", b"secret")
    shop.lost_version("docs/old", b"lost version")
    shop.close()
    return shop


UNSENT = {b"edited here", b"never sent", b"secret", b"lost version"}
SOUND = {
    "docs": None,
    "docs/edited": b"edited here",
    "docs/new": b"never sent",
    "docs/read": b"read before",
    "docs/remote": "on the server",
    "empty": None,
    ".env": b"secret",
}


def look(directory: Path, lost: bytes = b"") -> dict[str, bytes | str | None]:
    """Open a repaired state, check it, and return what is in it by path.

    :param lost: the only bytes that may be gone, since the test took them away.
    """
    state = State.open(directory)
    try:
        assert state.check() == []
        found = {path_of(state.local, node.id) or "": held(state, node) for node in state.local.entries()}
        bytes_kept = {data for data in found.values() if isinstance(data, bytes)}
        bytes_kept |= set(kept_bytes(state))
        assert bytes_kept >= UNSENT - {lost}
        del found[""]
        return found
    finally:
        state.close()


def held(state: State, node: LocalNode) -> bytes | str | None:
    if node.content is None:
        return None
    return "on the server" if node.blob is None and node.content.size else content(state, node)


def content(state: State, node: LocalNode) -> bytes:
    return state.blobs.path(node.blob).read_bytes() if node.blob is not None else b""


def complaints(shop: Workshop) -> list[str]:
    """Return the invariants that ``State.check`` finds broken, once each."""
    with closing(State.open(shop.directory)) as state:
        return sorted({line[:2] for line in state.check()})


def remedies(repair: Repair) -> list[str]:
    return [f"{finding.what[:2]} {finding.remedy}" for finding in repair.findings]


def test_a_sound_state_has_no_findings_and_is_not_changed(shop: Workshop) -> None:
    assert shop.repair() == Repair()
    assert look(shop.directory) == SOUND


# ------------------------------------------------------------------------------------------------------- I1, parents


def test_a_directory_that_base_still_has_is_made_anew_around_what_is_in_it(shop: Workshop) -> None:
    shop.sql("DELETE FROM local WHERE id = {docs}")
    assert remedies(shop.repair()) == ["I1 it is made anew as base has it"]
    assert look(shop.directory) == SOUND


def test_a_node_whose_directory_nobody_knows_is_put_into_the_root_under_a_free_name(shop: Workshop) -> None:
    shop.sql("UPDATE local SET parent = 99999 WHERE id = {docs/new}")
    shop.sql("UPDATE local SET name = 'lost-new' WHERE id = {empty}")
    assert remedies(shop.repair())[0] == "I1 it is now 'lost-2-new' in the root"
    found = look(shop.directory)
    assert (found["lost-2-new"], found["lost-new"]) == (b"never sent", None)


def test_a_node_below_a_file_goes_back_to_where_the_server_has_it(shop: Workshop) -> None:
    shop.sql("UPDATE local SET parent = {docs/new} WHERE id = {docs/edited}")
    assert remedies(shop.repair()) == ["I1 it is put back where the server has it, as 'edited'"]
    assert look(shop.directory) == SOUND


def test_what_is_local_only_stays_so_when_it_is_put_into_the_root(shop: Workshop) -> None:
    shop.sql("UPDATE local SET parent = 99999 WHERE id = {.env}")
    shop.repair()
    assert look(shop.directory)["lost-.env~"] == b"secret"


def test_directories_in_each_other_are_taken_apart_where_the_server_has_them(shop: Workshop) -> None:
    shop.sql("UPDATE local SET parent = {empty} WHERE id = {docs}")
    shop.sql("UPDATE local SET parent = {docs} WHERE id = {empty}")
    assert complaints(shop) == ["I1"]
    assert remedies(shop.repair()) == ["I1 it is put back where the server has it, as 'docs'"]
    assert look(shop.directory) == {**{path: SOUND[path] for path in SOUND if path != "empty"}, "docs/empty": None}


def test_of_a_circle_the_directory_goes_back_that_was_moved_into_it(shop: Workshop) -> None:
    for table in ("local", "base"):
        shop.sql(f"UPDATE {table} SET parent = {{empty}} WHERE id = {{docs}}")
    shop.sql("UPDATE local SET parent = {docs} WHERE id = {empty}")
    assert remedies(shop.repair()) == ["I1 it is put back where the server has it, as 'empty'"]
    assert look(shop.directory)["empty/docs/edited"] == b"edited here"


def test_a_circle_that_the_server_does_not_know_is_put_into_the_root(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "state")
    shop.directory_at("a", on_server=False)
    shop.directory_at("a/b", on_server=False)
    shop.file("a/b/new", b"never sent", None)
    shop.local_only("e", b"edited here")
    shop.local_only("s", b"secret")
    shop.lost_version("o", b"lost version")
    shop.close()
    shop.sql("UPDATE local SET parent = {a/b} WHERE id = {a}")
    shop.repair()
    assert look(shop.directory)["lost-a/b/new"] == b"never sent"


def test_a_broken_root_is_made_anew(shop: Workshop) -> None:
    shop.sql(
        "INSERT INTO local SELECT 1, 7, 'r', 'file', permission, mode, 1, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, "
        "'', 0, 0 FROM local LIMIT 1"
    )
    shop.repair()
    assert look(shop.directory) == SOUND


# -------------------------------------------------------------------------------------------------------- I2, places


def test_two_nodes_at_one_place_are_told_apart_and_the_one_that_base_has_there_keeps_it(shop: Workshop) -> None:
    shop.sql("UPDATE local SET name = 'edited' WHERE id = {docs/new}")
    with pytest.raises(StateCorrupt, match="do not fit together"):
        State.open(shop.directory)
    assert remedies(shop.repair()) == ["I2 it is now 'edited (2)'"]
    found = look(shop.directory)
    assert (found["docs/edited"], found["docs/edited (2)"]) == (b"edited here", b"never sent")


def test_a_local_only_node_that_has_to_be_renamed_stays_local_only(shop: Workshop) -> None:
    shop.sql("UPDATE local SET name = 'empty' WHERE id = {.env}")
    shop.repair()
    assert look(shop.directory)["lost-empty~"] == b"secret"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_no_directory_can_hold_is_replaced(shop: Workshop, name: str) -> None:
    shop.sql("UPDATE local SET name = ? WHERE id = {docs/new}", name)
    shop.repair()
    assert look(shop.directory)["docs/lost-" + name.replace("/", "_")] == b"never sent"


@pytest.mark.parametrize(
    "link", ["({docs}, 'more', 900)", "(99999, 'more', {.env})", "({docs/new}, 'm', {.env})", "(1, 'docs', {.env})"]
)
def test_a_further_name_that_does_not_fit_is_dropped_and_the_file_keeps_its_first_one(
    shop: Workshop, link: str
) -> None:
    shop.sql(f"INSERT INTO link VALUES {link}")
    assert complaints(shop) == ["I2"]
    assert remedies(shop.repair()) == ["I2 the name is dropped"]
    assert look(shop.directory) == SOUND


# --------------------------------------------------------------------------------------------------------- I3, bytes


def test_a_clean_file_without_its_bytes_is_brought_here_again(shop: Workshop) -> None:
    shop.blob_path("docs/read").unlink()
    shop.repair()
    assert look(shop.directory) == {**SOUND, "docs/read": "on the server"}


def test_a_clean_file_of_another_length_is_brought_here_again_and_what_it_was_is_kept(shop: Workshop) -> None:
    shop.blob_path("docs/read").write_bytes(b"written before a power cut")
    repair = shop.repair()
    assert [(kept.path, kept.content.size) for kept in repair.kept] == [("docs/read", 26)]
    assert look(shop.directory) == {**SOUND, "docs/read": "on the server"}
    assert shop.blob_path("docs/read").read_bytes() == b"written before a power cut"


def test_a_dirty_file_without_its_bytes_shows_the_servers_version_again(shop: Workshop) -> None:
    shop.blob_path("docs/edited").unlink()
    with pytest.raises(StateCorrupt, match="missing"):
        State.open(shop.directory)
    repair = shop.repair()
    assert remedies(repair) == ["I3 the server's version is shown again"]
    assert look(shop.directory, lost=b"edited here") == {**SOUND, "docs/edited": "on the server"}


def test_a_new_file_without_its_bytes_is_named_and_goes(shop: Workshop) -> None:
    shop.blob_path("docs/new").unlink()
    assert remedies(shop.repair()) == ["I3 docs/new is gone, and the server never had it"]
    assert look(shop.directory, lost=b"never sent") == {path: SOUND[path] for path in SOUND if path != "docs/new"}


def test_a_dirty_file_that_names_no_bytes_at_all_is_one_without_its_bytes(shop: Workshop) -> None:
    shop.sql("UPDATE local SET blob = NULL WHERE id = {docs/edited}")
    repair = shop.repair()
    assert remedies(repair) == ["I3 the server's version is shown again"]
    assert [kept.content.size for kept in repair.kept] == [len(b"edited here")]
    assert look(shop.directory) == {**SOUND, "docs/edited": "on the server"}


def test_bytes_that_two_dirty_files_name_are_copied_for_the_second(shop: Workshop) -> None:
    shop.sql("UPDATE local SET blob = ? WHERE id = {docs/new}", shop.blobs["docs/edited"])
    repair = shop.repair()
    assert (len(repair.copies), [kept.content.size for kept in repair.kept]) == (1, [len(b"never sent")])
    assert look(shop.directory) == {**SOUND, "docs/new": b"edited here"}


def test_bytes_that_a_clean_and_a_dirty_file_name_are_the_dirty_ones(shop: Workshop) -> None:
    shop.sql("UPDATE local SET blob = ? WHERE id = {docs/read}", shop.blobs["docs/edited"])
    shop.repair()
    assert look(shop.directory) == {**SOUND, "docs/read": "on the server"}


def test_bytes_that_a_file_and_a_lost_version_name_are_copied_for_the_latter(shop: Workshop) -> None:
    shop.sql("UPDATE history SET blob = ?", shop.blobs["docs/new"])
    shop.repair()
    assert look(shop.directory) == SOUND


def test_a_lost_version_without_its_bytes_goes(shop: Workshop) -> None:
    shop.sql("INSERT INTO history (path, blob, size, reason, at_ns) VALUES ('x', 777, 3, 'r', 1)")
    assert complaints(shop) == ["I3"]
    assert remedies(shop.repair()) == ["I3 its record is dropped"]
    assert look(shop.directory) == SOUND


# ------------------------------------------------------------------------------------------------------- I4, numbers


@pytest.mark.parametrize("stored", ["3", "many", None])
def test_the_counter_is_raised_above_every_number(shop: Workshop, stored: str | None) -> None:
    if stored is None:
        shop.sql("DELETE FROM meta WHERE key = 'next_node'")
    else:
        shop.sql("UPDATE meta SET value = ? WHERE key = 'next_node'", stored)
    shop.sql("INSERT INTO creation VALUES (1, 'gone', NULL, 5000, NULL, NULL)")
    assert remedies(shop.repair()) == ["I4 the counter is raised"]
    assert look(shop.directory) == SOUND
    state = State.open(shop.directory)
    assert state.allocate() > 5000
    state.close()


# ---------------------------------------------------------------------------------------------------------- I5, base


def test_base_records_of_one_item_go_and_what_is_only_on_the_server_is_left_to_the_next_listing(
    shop: Workshop,
) -> None:
    shop.sql("UPDATE base SET item = 'item-docs/edited' WHERE id = {docs/remote}")
    shop.repair()
    assert look(shop.directory) == {path: SOUND[path] for path in SOUND if path != "docs/remote"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE base SET item = NULL WHERE id = {docs/edited}",
        "UPDATE base SET parent = 99999 WHERE id = {docs/edited}",
        "UPDATE base SET parent = {docs/new} WHERE id = {docs/edited}",
        "UPDATE base SET parent = id WHERE id = {docs/edited}",
        "UPDATE base SET name = 'read' WHERE id = {docs/edited}",
        "UPDATE base SET name = '' WHERE id = {docs/edited}",
        "UPDATE base SET kind = 'symlink' WHERE id = {docs/edited}",
        "UPDATE base SET kind = 'nonsense' WHERE id = {docs/edited}",
        "UPDATE base SET permission = 5 WHERE id = {docs/edited}",
    ],
)
def test_a_base_record_that_does_not_fit_goes_and_nothing_here_goes_with_it(shop: Workshop, damage: str) -> None:
    shop.sql(damage)
    shop.repair()
    assert look(shop.directory) == SOUND


# ---------------------------------------------------------------------------------------------- rows that are no rows


def test_a_row_that_is_no_directory_any_more_is_made_anew_from_base(shop: Workshop) -> None:
    shop.sql("UPDATE local SET kind = 'nonsense' WHERE id = {docs}")
    shop.repair()
    assert look(shop.directory) == SOUND


@pytest.mark.parametrize(
    "damage",
    ["mode = 'rw'", "kind = 5", "size = NULL", "rev_key = NULL, rev_item = 'i'", "name = CAST(x'ff' AS TEXT)"],
)
def test_the_bytes_of_a_row_that_cannot_be_read_are_kept(shop: Workshop, damage: str) -> None:
    shop.sql(f"UPDATE local SET {damage} WHERE id = {{docs/edited}}")
    repair = shop.repair()
    assert [kept.content.size for kept in repair.kept] == [len(b"edited here")]
    assert look(shop.directory) == {path: SOUND[path] for path in SOUND if path != "docs/edited"}
    assert shop.numbers["docs/edited"] not in read_stock(shop.directory).base


@pytest.mark.parametrize(
    "row",
    [
        "link VALUES ('x', 'y', 3)",
        "aside VALUES ('t', 'x', 'p', NULL, NULL, NULL, NULL)",
        "creation VALUES (1, 'p', NULL, 'x', NULL, NULL)",
        "refusal VALUES (3, 'nonsense', 'd')",
        "history (path, blob, size, reason, at_ns) VALUES ('p', 'x', 1, 'r', 1)",
    ],
)
def test_a_row_of_another_table_that_cannot_be_read_is_dropped(shop: Workshop, row: str) -> None:
    shop.sql(f"INSERT INTO {row}")
    assert [finding.remedy for finding in shop.repair().findings] == ["it is dropped"]
    assert shop.repair() == Repair()
    assert look(shop.directory) == SOUND


def test_what_was_sent_and_not_answered_is_remembered_though_its_node_is_gone(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    creation = Creation(1, "deleted-since", None, NodeId(77), None)
    shop.journal(lambda state: state.put_creation(creation))
    shop.journal(lambda state: state.put_refusal(NodeId(78), Refusal(Trouble.REFUSED, "too large")))
    shop.close()
    shop.repair()
    state = State.open(tmp_path)
    assert (state.creations(), state.refusals()) == ([creation], {})
    state.close()


def test_bytes_that_no_row_names_any_more_are_kept_when_rows_were_lost(shop: Workshop) -> None:
    shop.sql("DELETE FROM local WHERE id IN ({docs}, {docs/new})")
    repair = shop.repair()
    assert [kept.content.size for kept in repair.kept] == [len(b"never sent")]
    assert look(shop.directory) == {path: SOUND[path] for path in SOUND if path != "docs/new"}


# ------------------------------------------------------------------------------------------------------ whole states


def test_a_state_of_a_newer_version_is_not_read(shop: Workshop) -> None:
    shop.sql(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StateTooNew):
        read_stock(shop.directory)


@pytest.mark.parametrize("fault", ["a copy", "a row"])
def test_a_repair_that_fails_half_way_changes_nothing(shop: Workshop, fault: str) -> None:
    shop.sql("UPDATE local SET blob = ? WHERE id = {docs/new}", shop.blobs["docs/edited"])
    before = read_stock(shop.directory)
    repair = decide(before, free_name, now_ns=NOW_NS)
    if fault == "a copy":
        repair.copies[BlobId(500)] = BlobId(400)
    else:
        repair.kept.append(Version("p", BlobId(1), Content(1), object(), object()))  # type: ignore[arg-type]
    with pytest.raises((StateCorrupt, FileNotFoundError)):
        write_repair(shop.directory, repair)
    assert read_stock(shop.directory) == before


def test_the_record_of_a_folder_forgets_what_does_not_fit_and_deletes_nothing_there(shop: Workshop) -> None:
    shop.sql("UPDATE local SET inode = id + 1000, blob = NULL WHERE kind = 'file'")
    shop.sql("UPDATE local SET parent = 99999 WHERE id = {docs/edited}")
    shop.sql("UPDATE local SET name = 'read' WHERE id = {docs/new}")
    shop.repair()
    stock = read_stock(shop.directory)
    gone = {shop.numbers["docs/edited"], shop.numbers["docs/new"]}
    assert (gone & stock.local.keys(), gone & stock.base.keys()) == (set(), set())
    state = State.open(shop.directory)
    assert state.check() == []
    state.close()


VALUES = [None, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99999, "", "x", "docs", "edited", "new", "file", "directory", b"\xff"]
COLUMNS = {
    "local": ["id", "parent", "name", "kind", "permission", "size", "sha256", "rev_item", "rev_key", "blob", "inode"],
    "base": ["id", "parent", "name", "kind", "permission", "item", "size", "updated_at", "key"],
    "history": ["path", "blob", "size"],
    "meta": ["value"],
}


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_in_the_rows_is_repaired_in_one_go_without_losing_bytes_or_implying_a_deletion(
    shop: Workshop, seed: int
) -> None:
    dice = random.Random(seed)
    before = read_stock(shop.directory)
    numbers = {"local": sorted(before.local), "base": sorted(before.base), "history": sorted(before.history)}
    for _ in range(dice.choice([1, 2, 5])):
        table = dice.choice([*COLUMNS, "local", "local", "base"])
        column = dice.choice(COLUMNS[table])
        row = "key = 'next_node'" if table == "meta" else f"id = {dice.choice(numbers[table])}"
        try:
            if table in ("base", "meta") and dice.random() < 0.2:  # of others no trace is left: that is no damage
                shop.sql(f"DELETE FROM {table} WHERE {row}")
            else:
                shop.sql(f"UPDATE {table} SET {column} = ? WHERE {row}", dice.choice(VALUES))
        except sqlite3.IntegrityError:
            continue  # what the schema itself does not take
    before = read_stock(shop.directory)
    shop.repair()
    after = read_stock(shop.directory)
    assert decide(after, free_name, now_ns=NOW_NS).findings == []
    assert [node for node in before.local.keys() - after.local.keys() if node in after.base] == []
    look(shop.directory)


@pytest.mark.parametrize(
    "damage",
    ["blob = NULL", "permission = 'rw'", "mode = 'x'", "rev_item = 'i'", "blob = 777"],
)
def test_a_version_that_cannot_be_read_or_has_no_bytes_is_dropped_and_its_bytes_are_kept(
    shop: Workshop, damage: str
) -> None:
    shop.sql(f"UPDATE history SET {damage}")
    repair = shop.repair()
    assert len(repair.findings) == 1
    state = State.open(shop.directory)
    try:
        assert state.check() == []
        kept = [(version.reason, version.content.size) for version in state.versions.all()]
    finally:
        state.close()
    assert kept == [("found by fsck", len(b"lost version"))]
