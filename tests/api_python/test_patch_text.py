"""Differences as text, judged by the programs that read them: git and patch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfs.workspace.patch import Change, Version, hunks_of, patch_lines, quoted, stat_lines

Files = Mapping[str, bytes]


def version(path: str, data: bytes | None, mode: int = 0o644) -> Version | None:
    return None if data is None else Version(path, mode, len(data), data)


def changes(before: Files, after: Files) -> list[Change]:
    paths = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return [Change(version(path, before.get(path)), version(path, after.get(path))) for path in paths]


def text_of(change: Change) -> bytes:
    return b"".join(patch_lines(change))


def write(root: Path, files: Files) -> None:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def read(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def git_apply(root: Path, patch: bytes) -> None:
    """Apply a patch as a user does, outside of any repository."""
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], cwd=root, input=patch, capture_output=True, env=environment
    )
    assert done.returncode == 0, (done.stderr.decode(), patch)


LINES = st.lists(st.sampled_from([b"", b"a", b"b", b"--- a/x", b"@@ -1 +1 @@", b" ", b"\r", b"\xff\xfe"]), max_size=12)
TEXTS = st.one_of(LINES.map(b"\n".join), LINES.map(lambda lines: b"".join(line + b"\n" for line in lines)))
NAMES = st.sampled_from(
    ["a", "b c", "ü", 'q"uote', "back\\slash", "tab\there", "d", "d/x", "d/y", "-dash", "new\nline"]
)
TREES = st.dictionaries(NAMES, TEXTS, max_size=4).filter(
    lambda files: "d" not in files or not {"d/x", "d/y"} & {*files}
)


@settings(max_examples=60, deadline=None)
@given(TREES, TREES)
def test_git_makes_one_tree_of_the_other(before: Files, after: Files) -> None:
    patch = b"".join(text_of(change) for change in changes(before, after))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        root.mkdir()
        write(root, before)
        if patch:
            git_apply(root, patch)
        assert read(root) == dict(after)


def test_the_patch_program_takes_it_too(tmp_path: Path) -> None:
    before = {"a": b"1\n2\n3\n", "gone": b"x\n"}
    after = {"a": b"1\ntwo\n3", "new": b"n\n"}
    write(tmp_path, before)
    patch = b"".join(text_of(change) for change in changes(before, after))
    done = subprocess.run(["patch", "-p1"], cwd=tmp_path, input=patch, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert read(tmp_path) == after


def test_a_rename_names_both_places_and_shows_only_what_was_edited(tmp_path: Path) -> None:
    old, new = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n"
    change = Change(version("a b", old), version("dir/c", new, 0o755))
    assert text_of(change).decode().splitlines()[:8] == [
        "diff --git a/a b b/dir/c",
        "old mode 100644",
        "new mode 100755",
        "similarity index 77%",
        "rename from a b",
        "rename to dir/c",
        "--- a/a b\t",
        "+++ b/dir/c",
    ]
    write(tmp_path, {"a b": old})
    git_apply(tmp_path, text_of(change))
    assert read(tmp_path) == {"dir/c": new}
    assert (tmp_path / "dir/c").stat().st_mode & 0o111


def test_what_only_moved_has_no_contents() -> None:
    change = Change(Version("a", 0o644, 5), Version("b", 0o644, 5), is_same=True)
    assert text_of(change) == b"diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("größe.txt", "größe.txt"),
        ("with space", "with space"),
        ('q"', '"q\\""'),
        ("a\\b", '"a\\\\b"'),
        ("line\nfeed\x1b[31m", '"line\\nfeed\\033[31m"'),
        ("turned\u202eround", '"turned\\342\\200\\256round"'),
        ("broken\udcff", '"broken\\377"'),
    ],
)
def test_names_are_quoted_as_git_reads_them(name: str, shown: str) -> None:
    assert quoted(name) == shown


def test_binary_files_are_told_by_size_and_hash_and_no_patch_program_takes_them_for_text(tmp_path: Path) -> None:
    old, new = b"\x89PNG\0old", b"\x89PNG\0newer"
    change = Change(version("i.png", old), version("i.png", new))
    assert text_of(change).decode().splitlines() == [
        "diff --git a/i.png b/i.png",
        "Binary files a/i.png and b/i.png differ",
        f"  old: 8 bytes, SHA-256 {hashlib.sha256(old).hexdigest()}",
        f"  new: 10 bytes, SHA-256 {hashlib.sha256(new).hexdigest()}",
    ]
    done = subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=text_of(change), capture_output=True)
    assert done.returncode != 0


def test_what_is_too_large_is_told_by_size_without_its_bytes() -> None:
    change = Change(None, Version("big", 0o644, 1 << 30, None, "ab" * 32))
    assert text_of(change).decode().splitlines() == [
        "diff --git a/big b/big",
        "new file mode 100644",
        "Binary files /dev/null and b/big differ",
        f"  new: 1,073,741,824 bytes, SHA-256 {'ab' * 32}",
    ]


def test_two_long_files_with_nothing_in_common_are_one_replacement() -> None:
    old = b"".join(b"old %d\n" % at for at in range(15_000))
    new = b"".join(b"new %d\n" % at for at in range(15_000))
    [hunk] = hunks_of(Change(version("a", b"same\n" + old + b"end\n"), version("a", b"same\n" + new + b"end\n")))
    assert (hunk.heading, len(hunk.lines)) == (b"@@ -1,15002 +1,15002 @@\n", 30_002)


def test_an_overview_has_a_bar_for_each_file() -> None:
    found = [
        Change(version("a", b"1\n2\n"), version("a", b"1\n3\n4\n")),
        Change(version("i.png", b"\0"), None),
        Change(Version("old", 0o644, 9), Version("new", 0o644, 9), is_same=True),
    ]
    assert list(stat_lines(found, 60)) == [
        " a          |   3 ++-",
        " i.png      | Bin 1 -> 0 bytes",
        " old => new |   0",
        " 3 files changed, 2 lines added, 1 line removed",
    ]
