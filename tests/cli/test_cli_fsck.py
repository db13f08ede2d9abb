"""``jobfs fsck``: what it says of a state, what it mends, and what it leaves alone."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import in_process

from jobfs.model import ROOT, Content, Kind, LocalNode, path_of
from jobfs.store.schema import VERSION
from jobfs.store.state import State
from jobfs.workspace.instance import MOUNT, Instance


class Known:
    """The state of one workspace that was mounted once, with files that were never sent."""

    def __init__(self, root: Path, name: str = "0123456789abcdef") -> None:
        self.directory = root / "workspaces" / name
        self.point = root.parent / f"mnt-{name}"
        self.names = {number: f"file-{number}" for number in range(300)}
        with closing(State.open(self.directory)) as state, state.transaction():
            for name_ in self.names.values():
                self._file(state, name_)
        Instance(self.directory, MOUNT, str(self.point), "http://127.0.0.1:1", f"job-{name}", "kernel", 0, 0.0).write()

    @staticmethod
    def _file(state: State, name: str) -> None:
        blob, data = state.blobs.allocate(), f"bytes of {name}".encode()
        with os.fdopen(state.blobs.open(blob, create=True), "wb") as file:
            file.write(data)
        node = LocalNode(state.allocate(), ROOT, name, Kind.FILE, content=Content(len(data)), blob=blob)
        state.put_local(node)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.directory / "state.db", isolation_level=None)) as database:
            database.execute(statement)

    def tree(self) -> dict[str, bytes]:
        with closing(State.open(self.directory)) as state:
            nodes = [node for node in state.local.entries() if node.blob is not None]
            return {
                path_of(state.local, node.id) or "": state.blobs.path(node.blob).read_bytes()
                for node in nodes
                if node.blob is not None
            }

    def files(self) -> dict[str, bytes]:
        """Return every file of the state but the lock."""
        found = {str(path): path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}
        return {path: data for path, data in found.items() if not path.endswith(("lock", "-shm", "-wal"))}


@pytest.fixture
def known(state_dir: Path) -> Known:
    return Known(state_dir)


def report(*words: object) -> tuple[int, Any]:
    outcome = in_process("fsck", "--json", *words)
    (told,) = json.loads(outcome.out)
    return outcome.code, told


def test_without_any_state_there_is_nothing_to_check(state_dir: Path) -> None:
    assert in_process("fsck").ok() == "there is no state of any workspace\n"


def test_rows_that_do_not_fit_are_told_and_nothing_is_changed_without_repair(known: Known) -> None:
    known.sql("UPDATE local SET name = 'file-1' WHERE name = 'file-2'")
    before = known.files()
    outcome = in_process("fsck")
    assert (outcome.code, known.files()) == (7, before)
    assert outcome.out.splitlines()[0] == f"job-0123456789abcdef at {known.point}: damaged"
    assert "I2: node 4 ('file-1') does not have a place of its own: it is now 'file-1 (conflict from " in outcome.out
    assert "--repair does that" in outcome.err


def test_rows_that_do_not_fit_are_mended_and_the_workspace_goes_on(known: Known) -> None:
    known.sql("UPDATE local SET name = 'file-1' WHERE name = 'file-2'")
    known.sql("UPDATE local SET parent = 4000 WHERE name = 'file-3'")
    outcome = in_process("fsck", "--repair")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == f"job-0123456789abcdef at {known.point}: repaired"
    assert in_process("fsck").ok() == f"job-0123456789abcdef at {known.point}: sound\n"
    tree = known.tree()
    assert set(tree.values()) == {f"bytes of {name}".encode() for name in known.names.values()}
    assert tree["lost-file-3"] == b"bytes of file-3"


def test_bytes_that_are_kept_without_a_name_are_told_with_the_file_that_holds_them(known: Known) -> None:
    known.sql("UPDATE local SET mode = 'none' WHERE name = 'file-7'")
    code, told = report("--repair")
    (kept,) = told["kept"]
    assert (code, told["verdict"], told["remedies"]) == (0, "repaired", ["it is dropped"])
    assert Path(kept.partition(": ")[2]).read_bytes() == b"bytes of file-7"


def test_a_state_that_is_in_use_is_not_repaired(known: Known) -> None:
    known.sql("UPDATE local SET parent = 4000 WHERE name = 'file-3'")
    with closing(State.open(known.directory)):
        before = known.files()
        assert [report()[0], report("--repair")[0]] == [0, 6]
        assert report("--repair")[1]["verdict"] == "in use"
        assert known.files() == before
    assert report("--repair")[1]["verdict"] == "repaired"


def test_a_state_of_a_newer_version_is_never_touched(known: Known) -> None:
    known.sql(f"PRAGMA user_version = {VERSION + 1}")
    before = known.files()
    for words in ((), ("--repair",)):
        outcome = in_process("fsck", *words)
        assert (outcome.code, known.files()) == (7, before)
        assert outcome.out.splitlines() == [
            f"job-0123456789abcdef at {known.point}: made by a newer version of jobfs",
            f"  the state in {known.directory} was made by a newer version of jobfs",
        ]
        assert "Traceback" not in outcome.err


def test_a_sound_state_beside_a_damaged_one_is_left_alone(state_dir: Path, known: Known) -> None:
    other = Known(state_dir, "fedcba9876543210")
    other.sql("UPDATE local SET parent = 4000 WHERE name = 'file-3'")
    assert in_process("fsck", known.point).code == 0
    assert in_process("fsck", other.point).code == 7
    told = json.loads(in_process("fsck", "--repair", "--json").ok())
    assert {one["job"]: one["verdict"] for one in told} == {
        "job-0123456789abcdef": "sound",
        "job-fedcba9876543210": "repaired",
    }


def test_of_a_damaged_database_the_rows_before_and_after_the_damage_are_saved(known: Known) -> None:
    with closing(sqlite3.connect(known.directory / "state.db")) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        pages = database.execute("SELECT pageno FROM dbstat WHERE name = 'local' AND pagetype = 'leaf'").fetchall()
    middle = sorted(pages)[len(pages) // 2][0]
    with (known.directory / "state.db").open("r+b") as file:
        file.seek((middle - 1) * size)
        file.write(b"\xff" * size)
    assert report()[0] == 7
    code, told = report("--repair")
    saved = {Path(path).name for path in told["saved"]}
    assert (code, told["verdict"], len(told["saved"]) == len(saved)) == (0, "set aside", True)
    assert {"file-0", "file-299"} <= saved
    assert len(saved) > 200
    assert not known.directory.exists()
    lost = sorted(set(known.names.values()) - saved)
    held = {path.read_bytes() for path in (Path(told["aside"]) / "blobs").rglob("*") if path.is_file()}
    assert [name for name in lost if f"bytes of {name}".encode() not in held] == []


def test_two_unsent_files_of_one_name_are_both_saved(known: Known) -> None:
    known.sql("UPDATE local SET name = 'file-1' WHERE name = 'file-2'")
    known.sql("UPDATE local SET parent = (SELECT id FROM local WHERE name = 'file-5') WHERE name = 'file-6'")
    known.sql("PRAGMA user_version = 0")
    code, told = report("--repair")
    saved = {Path(path).read_bytes() for path in told["saved"]}
    assert (code, told["verdict"]) == (0, "set aside")
    assert saved == {f"bytes of {name}".encode() for name in known.names.values()}
