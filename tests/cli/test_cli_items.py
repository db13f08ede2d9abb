"""Commands on files, without a mount, against a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from commands import COMMAND, as_process, in_process

from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches

ALL_BYTES = bytes(range(256)) * 40


def local(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# -- looking


def test_ls_names_what_a_directory_holds(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "b.txt", b"b")
    studio.put_item(job, "a/inner.txt", b"inner")
    assert in_process("ls", job).ok() == "a/\nb.txt\n"
    assert in_process("ls", f"{job}:/a").ok() == "inner.txt\n"
    assert in_process("ls", f"{job}:/b.txt").ok() == "b.txt\n"


def test_ls_long_in_a_pipe_is_one_line_an_item_with_tabs(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a.txt", b"12345", permission="readOnly")
    access, owner, size, updated, name = in_process("ls", "-l", job).ok().rstrip("\n").split("\t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", updated)
    assert (access, owner, size, name) == ("ro", "user", "5 B", "a.txt")


def test_ls_json_tells_all_that_is_known(studio: RunningServer, job: str) -> None:
    item = studio.put_item(job, "a.txt", b"12345", mime_type="text/x-a")
    (entry,) = json.loads(in_process("ls", "--json", job).ok())
    del entry["updatedAt"]
    assert entry == {
        "path": "a.txt",
        "type": "file",
        "size": 5,
        "id": item.id,
        "permission": "readWrite",
        "lifecycle": "expertJob",
        "owner": "user",
        "mimeType": "text/x-a",
    }


def test_ls_shows_control_characters_of_names_as_text(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "plain", b"")
    studio.expert_writes(job, "right\u202eto-left", b"")
    assert in_process("ls", job).ok() == "plain\nright\\u202eto-left\n"


def test_tree_draws_everything_below(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a/b/c.txt", b"123")
    studio.put_item(job, "a/d.txt", b"")
    studio.put_item(job, "e", None)
    assert in_process("tree", job).ok().splitlines() == [
        f"{job}:/",
        "├── a/",
        "│   ├── b/",
        "│   │   └── c.txt  3 B",
        "│   └── d.txt  0 B",
        "└── e/",
    ]


def test_tree_json_lists_directories_before_what_they_hold(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a/b.txt", b"1")
    found = [entry["path"] for entry in json.loads(in_process("tree", "--json", job).ok())]
    assert found == ["a", "a/b.txt"]


def test_find_matches_names_and_kinds(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a/one.csv", b"")
    studio.put_item(job, "a/two.txt", b"")
    studio.put_item(job, "b.csv/three", b"")
    assert in_process("find", job, "--name", "*.csv").ok() == f"{job}:/a/one.csv\n{job}:/b.csv\n"
    assert in_process("find", job, "--name", "*.csv", "--type", "f").ok() == f"{job}:/a/one.csv\n"
    assert in_process("find", f"{job}:/a", "--type", "d").ok() == ""


def test_cat_prints_every_byte_of_each_file(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "all", ALL_BYTES)
    studio.put_item(job, "more", b"more")
    assert as_process("cat", f"{job}:/all", f"{job}:/more").raw == ALL_BYTES + b"more"


def test_cat_into_a_closed_pipe_is_quiet(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "large", b"x" * 4_000_000)
    with subprocess.Popen(
        [*COMMAND, "cat", f"{job}:/large"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read(3) == b"xxx"
        running.stdout.close()
        assert running.stderr.read() == b""


@pytest.mark.parametrize("place", ["/none", "/a.txt/", "/a.txt/below"])
def test_a_path_that_is_not_there_ends_with_4(studio: RunningServer, job: str, place: str) -> None:
    studio.put_item(job, "a.txt", b"")
    for command in ("cat", "ls", "get"):
        outcome = in_process(command, f"{job}:{place}")
        assert (outcome.code, outcome.out) == (4, "")
        assert outcome.err.splitlines()[-1] == f"  next: see 'jobfs tree {job}:'"


def test_a_file_that_is_cut_on_the_way_is_never_left_behind(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "a.bin", ALL_BYTES)
    studio.faults = Faults((Fault("wrong_length", path="/download"),))
    try:
        outcome = in_process("get", f"{job}:/a.bin", tmp_path / "a.bin")
    finally:
        studio.faults = Faults()
    assert outcome.code == 5
    assert list(tmp_path.glob("*.bin*")) == []
    assert list(tmp_path.glob(".*")) == []


# -- get


def test_get_brings_a_file_under_its_name_or_another(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "dir/all", ALL_BYTES)
    in_process("get", f"{job}:/dir/all", tmp_path).ok()
    in_process("get", f"{job}:/dir/all", tmp_path / "other").ok()
    assert ((tmp_path / "all").read_bytes(), (tmp_path / "other").read_bytes()) == (ALL_BYTES, ALL_BYTES)


def test_get_replaces_a_local_file(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "a", b"new")
    local(tmp_path, "a", b"old and longer")
    in_process("get", f"{job}:/a", tmp_path).ok()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_get_of_a_directory_needs_to_be_asked_for(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "d/a", b"1")
    assert in_process("get", f"{job}:/d", tmp_path).code == 2


def test_get_recursively_brings_a_tree(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "d/a", b"1")
    studio.put_item(job, "d/e/b", b"22")
    studio.put_item(job, "d/empty", None)
    in_process("get", "-r", f"{job}:/d", tmp_path).ok()
    found = {
        str(path.relative_to(tmp_path / "d")): path.is_dir() or path.read_bytes()
        for path in (tmp_path / "d").rglob("*")
    }
    assert found == {"a": b"1", "e": True, "e/b": b"22", "empty": True}


def test_get_never_writes_through_a_link_out_of_the_target(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "d/link/a", b"escaped")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to(outside)
    outcome = in_process("get", "-r", f"{job}:/d", tmp_path)
    assert (outcome.code, list(outside.iterdir())) == (1, [])


@pytest.mark.parametrize("hostile", ["../../escaped", "/escaped", "a/../../escaped", "a//escaped", ".."])
def test_hostile_artifact_paths_stay_below_the_target(studio: RunningServer, tmp_path: Path, hostile: str) -> None:
    run = studio.create_job()
    studio.put_item(run, "honest", b"1")
    studio.put_item(run, "hostile", b"2")
    studio.set_status(run, "completed")

    def rename() -> None:
        with studio.state.transaction():
            studio.state.storage.run("UPDATE artifact SET path = ? WHERE path = 'hostile'", hostile)

    studio.call(rename)
    target = tmp_path / "one" / "two"
    target.mkdir(parents=True)
    in_process("get", "-r", f"run:{run}", target)
    assert (target / "honest").read_bytes() == b"1"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if not path.is_relative_to(target)] == []


# -- put


def test_put_makes_a_file_with_every_byte(studio: RunningServer, job: str, tmp_path: Path) -> None:
    in_process("put", local(tmp_path, "all", ALL_BYTES), f"{job}:/").ok()
    in_process("put", local(tmp_path, "all", ALL_BYTES), f"{job}:/other").ok()
    assert studio.contents(job) == {"all": ALL_BYTES, "other": ALL_BYTES}


def test_put_from_standard_input(studio: RunningServer, job: str) -> None:
    in_process("put", "-", f"{job}:/from-stdin", stdin=b"typed").ok()
    assert studio.contents(job) == {"from-stdin": b"typed"}


def test_put_over_a_file_keeps_the_old_one_until_the_new_one_is_in_its_place(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    studio.put_item(job, "a", b"old", permission="readWrite")
    studio.clear_requests()
    in_process("put", local(tmp_path, "a", b"new"), f"{job}:/a").ok()
    writes = [request.method for request in studio.requests if request.method != "GET"]
    assert writes == ["POST", "POST", "POST", "DELETE"]  # create aside, move away, move in, delete
    assert studio.contents(job) == {"a": b"new"}


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
def test_a_put_whose_requests_fail_loses_neither_version_and_the_next_one_mends(
    studio: RunningServer, job: str, tmp_path: Path, spare: int
) -> None:
    studio.put_item(job, "a", b"old")
    source = local(tmp_path, "a", b"new")
    studio.faults = Faults((Fault("drop_before", method="POST", path="/items", spare=spare),))
    try:
        in_process("put", source, f"{job}:/a")
    finally:
        studio.faults = Faults()
    held = studio.contents(job)
    assert b"old" in held.values() or held["a"] == b"new"
    in_process("put", source, f"{job}:/b").ok()  # any command that writes mends first
    held = studio.contents(job)
    assert held in ({"a": b"old", "b": b"new"}, {"a": b"new", "b": b"new"})


def test_put_whose_answer_is_lost_makes_one_file(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.faults = Faults((Fault("lose_response", method="POST", path="/items", count=1),))
    try:
        in_process("put", local(tmp_path, "a", b"once"), f"{job}:/a").ok()
    finally:
        studio.faults = Faults()
    assert studio.contents(job) == {"a": b"once"}


def test_put_refuses_a_read_only_file(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "a", b"old", permission="readOnly")
    outcome = in_process("put", local(tmp_path, "a", b"new"), f"{job}:/a")
    assert (outcome.code, studio.contents(job)) == (1, {"a": b"old"})
    assert f"jobfs chmod +w {job}:/a" in outcome.err


def test_put_over_a_default_of_all_jobs_makes_a_private_file(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(None, "shared.txt", b"of all")
    in_process("put", local(tmp_path, "shared.txt", b"mine"), f"{job}:/").ok()
    assert in_process("cat", f"{job}:/shared.txt").ok() == "mine"
    assert in_process("cat", f"{studio.create_job()}:/shared.txt").ok() == "of all"


def test_put_recursively_sends_a_tree_and_names_what_it_leaves_out(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    local(tmp_path, "d/a", b"1")
    local(tmp_path, "d/e/b", b"22")
    (tmp_path / "d" / "empty").mkdir()
    (tmp_path / "d" / "link").symlink_to("a")
    outcome = in_process("put", "-r", tmp_path / "d", f"{job}:/")
    assert outcome.ok() == ""
    assert outcome.err == f"left out: {tmp_path / 'd' / 'link'} is no ordinary file\n"
    assert private(studio, job) == {"d": None, "d/a": b"1", "d/e": None, "d/e/b": b"22", "d/empty": None}


def private(studio: RunningServer, job: str) -> dict[str, bytes | None]:
    return {path: content for path, content in studio.contents(job).items() if path != "shared.txt"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("DIR", "JOB:/"), 2),
        (("NONE", "JOB:/"), 2),
        (("FILE",), 2),
        (("FILE", "JOB:/no/where"), 4),
        (("FILE", "JOB:/none/"), 4),
        (("FILE", "FILE", "JOB:/a"), 2),
        (("FILE", "JOB:/x\x01y"), 2),
        (("FILE", "run:r1:/x"), 1),
    ],
)
def test_what_cannot_be_put_is_refused(
    studio: RunningServer, job: str, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    names = {"FILE": str(local(tmp_path, "f", b"1")), "DIR": str(tmp_path), "NONE": str(tmp_path / "none")}
    outcome = in_process("put", *(names.get(word, word).replace("JOB", job) for word in words))
    assert (outcome.code, private(studio, job)) == (code, {})
    assert 1 <= len(outcome.err.splitlines()) <= 3


# -- rm, mv, mkdir, chmod


def test_rm_of_files_lists_no_workspace(studio: RunningServer, job: str) -> None:
    for name in ("a", "b", "c"):
        studio.put_item(job, name, b"1")
    studio.clear_requests()
    in_process("rm", f"{job}:/a", f"{job}:/b").ok()
    asked = [(request.method, request.path.rpartition("/")[2]) for request in studio.requests]
    assert [method for method, _ in asked] == ["GET", "DELETE"] * 2
    assert {name for method, name in asked if method == "GET"} == {"find"}
    assert {"a", "b", "c"} & studio.contents(job).keys() == {"c"}


def test_mkdir_of_many_lists_the_workspace_once(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "there", b"1")
    studio.clear_requests()
    in_process("mkdir", f"{job}:/a", f"{job}:/a/inner", f"{job}:/b").ok()
    in_process("mkdir", "-p", f"{job}:/b", f"{job}:/c/d/e", f"{job}:/c/d/f").ok()
    methods = "".join("L" if request.method == "GET" else "+" for request in studio.requests)
    assert methods == "L+++" + "L++++"
    assert studio.contents(job).keys() >= {"a", "a/inner", "b", "c", "c/d", "c/d/e", "c/d/f"}


def test_mkdir_of_what_was_made_a_moment_ago_is_refused(studio: RunningServer, job: str) -> None:
    refused = in_process("mkdir", f"{job}:/a", f"{job}:/a")
    assert refused.code == 1
    assert "is there already" in refused.err


def test_mkdir_in_two_workspaces(studio: RunningServer, job: str) -> None:
    other = studio.create_job()
    in_process("mkdir", f"{job}:/a", f"{other}:/a", f"{job}:/b").ok()
    assert [{"a", "b"} & studio.contents(one).keys() for one in (job, other)] == [{"a", "b"}, {"a"}]


def test_rm_deletes_files_and_with_r_directories(studio: RunningServer, job: str) -> None:
    for path in ("a", "b", "d/e/f"):
        studio.put_item(job, path, b"")
    in_process("rm", f"{job}:/a").ok()
    assert in_process("rm", f"{job}:/d").code == 1
    in_process("rm", "-r", f"{job}:/d").ok()
    assert private(studio, job) == {"b": b""}


def test_rm_refuses_what_belongs_to_all_jobs_the_runtime_and_the_root(studio: RunningServer, job: str) -> None:
    studio.put_item(None, "shared.txt", b"of all")
    studio.put_item(job, "perstack/log", b"")
    for place in ("/shared.txt", "/perstack/log", "/perstack", "/"):
        assert in_process("rm", "-r", f"{job}:{place}").code == 1
    assert in_process("cat", f"{job}:/shared.txt").ok() == "of all"


def test_mv_renames_moves_into_directories_and_replaces(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a", b"a")
    studio.put_item(job, "b", b"b")
    studio.put_item(job, "d", None)
    in_process("mv", f"{job}:/a", f"{job}:/c").ok()
    in_process("mv", f"{job}:/c", f"{job}:/d/").ok()
    in_process("mv", f"{job}:/b", f"{job}:/d/c").ok()
    assert private(studio, job) == {"d": None, "d/c": b"b"}


@pytest.mark.parametrize("dir_move", ["cascade", "orphan"])
def test_mv_of_a_directory_brings_its_children_along(studio: RunningServer, job: str, dir_move: str) -> None:
    studio.put_item(job, "old/e/f", b"1")
    studio.switches = Switches(dir_move=dir_move)  # type: ignore[arg-type]
    try:
        in_process("mv", f"{job}:/old", f"{job}:/new").ok()
    finally:
        studio.switches = Switches()
    assert private(studio, job) == {"new": None, "new/e": None, "new/e/f": b"1"}


def test_mv_that_cannot_be_done_changes_nothing(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "d/e", None)
    studio.put_item(job, "f/d", None)
    studio.put_item(job, "ro", b"", permission="readOnly")
    studio.put_item(job, "a", b"a")
    before = private(studio, job)
    refusals = [("/d", "/d/e/x"), ("/d", "/f"), ("/none", "/x"), ("/a", "/ro"), ("/", "/x"), ("/a", "/no/where")]
    codes = [in_process("mv", f"{job}:{one}", f"{job}:{other}").code for one, other in refusals]
    assert (codes, private(studio, job)) == ([1, 1, 4, 1, 1, 4], before)


def test_mkdir_makes_one_or_with_p_all(studio: RunningServer, job: str) -> None:
    in_process("mkdir", f"{job}:/a").ok()
    assert in_process("mkdir", f"{job}:/a").code == 1
    assert in_process("mkdir", f"{job}:/x/y").code == 4
    in_process("mkdir", "-p", f"{job}:/x/y", f"{job}:/a").ok()
    assert private(studio, job) == {"a": None, "x": None, "x/y": None}


def test_chmod_sets_the_write_bit(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a", b"")
    modes = []
    for mode in ("-w", "+w", "ro", "u+w"):
        in_process("chmod", mode, f"{job}:/a").ok()
        modes.append(json.loads(in_process("ls", "--json", f"{job}:/a").ok())[0]["permission"])
    assert modes == ["readOnly", "readWrite", "readOnly", "readWrite"]
    assert in_process("chmod", "0644", f"{job}:/a").code == 2


def test_commands_with_a_final_slash_and_spaces_in_names(studio: RunningServer, job: str, tmp_path: Path) -> None:
    in_process("mkdir", f"{job}:/with space").ok()
    in_process("put", local(tmp_path, "ä ö.txt", b"1"), f"{job}:/with space/").ok()
    assert private(studio, job) == {"with space": None, "with space/ä ö.txt": b"1"}
    assert os.listdir(tmp_path / "state" / "journals") != []


def test_a_name_that_the_locale_cannot_say_is_told_all_the_same(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "maße/größe.txt", b"1")
    assert as_process("ls", f"{job}:/maße", PYTHONIOENCODING="ascii").ok() == "gr\\xf6\\xdfe.txt\n"


def test_du_counts_what_a_directory_holds_the_largest_first(studio: RunningServer, job: str) -> None:
    for path, size in (("t/small", 3), ("t/d/a", 2000), ("t/d/deep/b", 48), ("t/e/c", 10)):
        studio.put_item(job, path, b"x" * size)
    told = in_process("du", f"{job}:/t").ok().splitlines()
    assert told == ["2.0 KiB\t2\td/", "10 B\t1\te/", "3 B\t\tsmall", "2.0 KiB in 4 files"]
    inner = json.loads(in_process("du", f"{job}:/t/d", "--json").ok())
    assert (inner["total"]["size"], [one["path"] for one in inner["parts"]]) == (2048, ["t/d/a", "t/d/deep"])
    assert in_process("du", f"{job}:/t/small").ok() == "3 B in 1 file\n"
    assert in_process("du", f"{job}:/nothing").code == 4
    in_process("mkdir", f"{job}:/empty").ok()
    assert in_process("du", f"{job}:/empty").ok() == "0 B in 0 files\n"
