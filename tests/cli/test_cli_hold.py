"""Review before it is sent, from the command line: on both transports, of folders, and with nothing running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from awaiting import Requests, wait_for_end
from commands import COMMAND, in_process
from live_mount import look_until
from terminals import on_terminal

from jobfs.server.running import RunningServer

pytestmark = pytest.mark.mount


def status_of(point: Path) -> dict[str, Any]:
    told: list[dict[str, Any]] = json.loads(in_process("status", "--json").ok())
    (found,) = [one for one in told if one["directory"] == str(point)]
    return found


def files(studio: RunningServer, job: str) -> dict[str, bytes]:
    return {path: data for path, data in studio.contents(job).items() if data is not None}


def put(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "src/a.py", b"one\ntwo\nthree\n")
    studio.put_item(job, "notes", b"kept\n")


PATCH = """\
diff --git a/new file b/new file
new file mode 100644
--- /dev/null
+++ b/new file\t
@@ -0,0 +1 @@
+new
diff --git a/notes b/notes
deleted file mode 100644
--- a/notes
+++ /dev/null
@@ -1 +0,0 @@
-kept
diff --git a/src/a.py b/src/a.py
--- a/src/a.py
+++ b/src/a.py
@@ -1,3 +1,3 @@
 one
-two
+2
 three
"""


def edit(point: Path) -> None:
    (point / "src/a.py").write_text("one\n2\nthree\n")
    (point / "new file").write_text("new\n")
    (point / "notes").unlink()


@pytest.mark.parametrize("transport", ["kernel", "fusepy"])
def test_held_edits_are_shown_pushed_in_part_and_reverted(
    studio: RunningServer, job: str, mount_point: Path, requests: Requests, transport: str, tmp_path: Path
) -> None:
    put(studio, job)
    in_process("mount", job, mount_point, "--hold", "--transport", transport).ok()
    before = files(studio, job)
    edit(mount_point)
    shown = in_process("diff", mount_point).ok()
    assert shown == PATCH
    assert files(studio, job) == before
    assert (status_of(mount_point)["held"], status_of(mount_point)["pending"]) == (3, 0)

    copy = tmp_path / "copy"
    for path, data in before.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    subprocess.run(["git", "apply", "-"], cwd=copy, input=shown.encode(), check=True)
    assert {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == {
        "src/a.py": b"one\n2\nthree\n",
        "new file": b"new\n",
    }

    assert in_process("push", mount_point / "src").ok() == "sent: 1 change\n"
    assert files(studio, job) == {"src/a.py": b"one\n2\nthree\n", "notes": b"kept\n"}
    assert in_process("revert", mount_point / "notes").ok() == "reverted: notes\n"
    assert (mount_point / "notes").read_bytes() == b"kept\n"
    (mount_point / "src/a.py").write_text("edited again\n")
    assert (mount_point / "src/a.py").read_text() == "edited again\n"
    in_process("revert", "--yes", mount_point).ok()
    assert (mount_point / "src/a.py").read_bytes() == b"one\n2\nthree\n"
    assert sorted(os.listdir(mount_point)) == ["notes", "src"]
    assert in_process("diff", mount_point, "--exit-code").ok() == ""


def test_the_end_of_a_held_mount_says_what_waits_and_neither_that_nor_kill_9_ends_the_holding(
    studio: RunningServer, job: str, mount_point: Path
) -> None:
    put(studio, job)
    in_process("mount", job, mount_point, "--hold").ok()
    edit(mount_point)
    ended = in_process("umount", mount_point)
    assert (ended.code, "3 changes held" in ended.err) == (0, True)
    assert in_process("diff", mount_point, "--name-only").ok() == "new file\nnotes\nsrc/a.py\n"  # with nothing running
    again = in_process("mount", job, mount_point)
    assert (again.code, "changes are held" in again.err) == (0, True)
    pid = status_of(mount_point)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    in_process("umount", mount_point).ok()
    assert in_process("diff", mount_point).ok() == PATCH
    assert files(studio, job) == {"src/a.py": b"one\ntwo\nthree\n", "notes": b"kept\n"}
    told = in_process("push")
    assert (told.code, "3 changes held" in told.err, files(studio, job)["notes"]) == (0, True, b"kept\n")
    assert in_process("push", mount_point).ok() == "everything is sent\n"
    assert files(studio, job) == {"src/a.py": b"one\n2\nthree\n", "new file": b"new\n"}


def test_with_nothing_running_changes_are_shown_sent_reverted_and_let_go(
    studio: RunningServer, job: str, mount_point: Path
) -> None:
    put(studio, job)
    in_process("mount", job, mount_point, "--hold").ok()
    edit(mount_point)
    in_process("umount", mount_point).ok()
    assert in_process("diff", mount_point / "notes").ok().splitlines()[0] == "diff --git a/notes b/notes"
    in_process("revert", mount_point / "notes").ok()
    assert in_process("push", mount_point / "src/a.py").ok() == "sent: 1 change\n"
    assert files(studio, job)["src/a.py"] == b"one\n2\nthree\n"
    let_go = in_process("hold", mount_point, "--off").ok()
    assert let_go == f"changes in {mount_point} are no longer held; 'jobfs push' sends 1 change\n"
    in_process("push").ok()
    assert files(studio, job)["new file"] == b"new\n"


def test_a_running_mount_can_be_held_and_let_go(studio: RunningServer, job: str, mount_point: Path) -> None:
    put(studio, job)
    in_process("mount", job, mount_point).ok()
    assert in_process("hold", mount_point).ok() == f"changes in {mount_point} are held\n"
    edit(mount_point)
    assert in_process("hold", mount_point, "--off").ok() == f"changes in {mount_point} are sent again, 3 changes now\n"
    in_process("umount", mount_point).ok()
    assert files(studio, job) == {"src/a.py": b"one\n2\nthree\n", "new file": b"new\n"}


def test_a_folder_is_held_shown_and_pushed_likewise(studio: RunningServer, job: str, tmp_path: Path) -> None:
    put(studio, job)
    folder = tmp_path / "folder"
    in_process("sync", job, folder, "--once").ok()
    assert in_process("hold", folder).ok() == f"changes in {folder} are held\n"
    edit(folder)
    held = in_process("sync", job, folder, "--once")
    assert (held.code, "held; see 'jobfs diff'" in held.out) == (0, True)
    assert in_process("diff", folder).ok() == PATCH
    in_process("push", folder / "src").ok()
    assert files(studio, job) == {"src/a.py": b"one\n2\nthree\n", "notes": b"kept\n"}
    in_process("revert", "--yes", folder).ok()
    assert sorted(os.listdir(folder)) == [".jobfs", "notes", "src"]
    edit(folder)
    in_process("push", job, folder).ok()
    assert files(studio, job) == {"src/a.py": b"one\n2\nthree\n", "new file": b"new\n"}


def test_a_folder_kept_in_step_is_asked_while_it_runs(studio: RunningServer, job: str, mount_point: Path) -> None:
    put(studio, job)
    in_process("sync", job, mount_point, "--background", "--hold").ok()
    try:
        edit(mount_point)
        assert in_process("diff", mount_point).ok() == PATCH
        in_process("revert", mount_point / "notes").ok()
        assert (mount_point / "notes").read_bytes() == b"kept\n"
        in_process("push", mount_point / "src/a.py").ok()
        assert files(studio, job) == {"src/a.py": b"one\n2\nthree\n", "notes": b"kept\n"}
    finally:
        ended = in_process("umount", mount_point)
    assert ended.code == 0, ended.err


def test_what_the_server_got_meanwhile_is_told(studio: RunningServer, job: str, mount_point: Path) -> None:
    put(studio, job)
    in_process("mount", job, mount_point, "--hold").ok()
    (mount_point / "notes").write_text("mine\n")
    studio.put_item(job, "notes", b"theirs, and longer\n")
    in_process("refresh", mount_point).ok()
    look_until(lambda: (mount_point / "notes").read_bytes() == b"theirs, and longer\n")
    shown = in_process("diff", mount_point).ok().splitlines()
    note = "jobfs: this is the version from here of notes, which was changed on the server meanwhile"
    assert (shown[0], shown[-1]) == (note, "+mine")
    assert "conflict from" in shown[1]


def test_overviews_and_values_for_programs(studio: RunningServer, job: str, mount_point: Path) -> None:
    put(studio, job)
    in_process("mount", job, mount_point, "--hold").ok()
    edit(mount_point)
    os.mkdir(mount_point / "empty")
    (mount_point / "src").rename(mount_point / "lib")
    assert in_process("diff", mount_point, "--stat").ok().splitlines()[:3] == [
        "jobfs: new directory empty",
        "jobfs: directory src is now lib",
        " src/a.py => lib/a.py |   2 +-",
    ]
    told = json.loads(in_process("diff", mount_point / "lib", "--json").ok())
    assert [(one["old"]["path"], one["new"]["path"], one["kind"], one["isSame"]) for one in told] == [
        ("src", "lib", "directory", True),
        ("src/a.py", "lib/a.py", "file", False),
    ]
    assert in_process("diff", mount_point, "--exit-code", "--name-only").code == 12
    words = [*COMMAND, "diff", "--name-only"]  # without a path: the whole workspace that the current directory is in
    done = subprocess.run(words, cwd=mount_point / "lib", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "empty/\nlib/\nlib/a.py\nnew file\nnotes\n"), done.stderr


def test_hostile_names_and_bytes_do_not_steer_a_terminal(studio: RunningServer, job: str, mount_point: Path) -> None:
    in_process("mount", job, mount_point, "--hold").ok()
    (mount_point / "a\u202eb").write_bytes(b"\x1b[2Jred\ttab\n")
    assert in_process("diff", mount_point).raw.endswith(b"+\x1b[2Jred\ttab\n")
    code, shown = on_terminal("diff", mount_point)
    assert code == 0
    assert "\x1b[2J" not in shown
    assert "\\x1b[2Jred" in shown
    assert 'diff --git "a/a\\342\\200\\256b" "b/a\\342\\200\\256b"' in shown
    assert "\x1b[32m+" in shown


def test_everything_is_reverted_only_after_a_question(studio: RunningServer, job: str, mount_point: Path) -> None:
    put(studio, job)
    in_process("mount", job, mount_point, "--hold").ok()
    edit(mount_point)
    refused = in_process("revert", mount_point)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    code, shown = on_terminal("revert", mount_point, until="[y/N]", then=b"n\n")
    assert (code, (mount_point / "notes").exists()) == (130, False)
    assert re.search(r"revert all 3 changes in .*\?", shown.replace("\r\n", ""))
    code, _ = on_terminal("revert", mount_point, until="[y/N]", then=b"y\n")
    assert (code, (mount_point / "notes").read_bytes()) == (0, b"kept\n")


def test_a_path_elsewhere_is_told(state_dir: Path, tmp_path: Path) -> None:
    for command in ("diff", "revert", "hold"):
        told = in_process(command, tmp_path)
        assert (told.code, "is in no mount or synchronised folder of jobfs" in told.err) == (6, True)


@pytest.mark.mount
def test_where_nothing_is_ever_sent_there_is_nothing_to_hold(
    studio: RunningServer, job: str, mount_point: Path, tmp_path: Path
) -> None:
    refused = in_process("mount", job, mount_point, "--read-only", "--hold")
    assert (refused.code, "nothing to hold" in refused.err) == (2, True)
    in_process("mount", job, mount_point, "--read-only").ok()
    refused = in_process("hold", mount_point)
    assert (refused.code, "nothing to hold" in refused.err) == (1, True)
    in_process("hold", "--off", mount_point).ok()
    in_process("umount", mount_point).ok()
    studio.set_status(job, "completed")
    in_process("pull", f"run:{job}", tmp_path / "run").ok()
    refused = in_process("hold", tmp_path / "run")
    assert (refused.code, "nothing to hold" in refused.err) == (1, True)
