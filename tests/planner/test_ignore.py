"""Which names stay local."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from jobfs.planner.ignore import Ignore


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        "a/b/.git",
        ".hg",
        ".svn",
        "node_modules",
        "web/node_modules",
        ".venv",
        "venv",
        "pkg/__pycache__",
        ".mypy_cache",
        ".jobfs",
        ".Trash-1000",
    ],
)
def test_directories_of_tools_stay_local_with_all_that_is_in_them(path: str) -> None:
    rules = Ignore()
    assert rules.is_ignored(path, True)
    assert rules.is_ignored(f"{path}/x/y.txt", False)


@pytest.mark.parametrize(
    "path",
    [
        ".git",  # a worktree's
        ".report.txt.swp",
        "d/.a.swx",
        "4913",
        "a.txt~",
        ".#a.txt",
        "#a.txt#",
        ".goutputstream-ABC123",
        "a.py___jb_tmp___",
        "a.py___jb_old___",
        ".a.txt.kate-swp",
        ".~lock.report.odt#",
        "lu1234xyz.tmp",
        "~$report.docx",
        ".DS_Store",
        "._a",
        "Thumbs.db",
        ".nfs00000000abcdef",
        ".fuse_hidden0000000100000002",
        ".jobfs/status.json",
    ],
)
def test_files_of_editors_and_systems_stay_local(path: str) -> None:
    assert Ignore().is_ignored(path, False)


@pytest.mark.parametrize(
    "path",
    [
        "build/out.o",
        "dist/a.whl",
        "a.bak",
        "run.log",
        "data.tmp",
        "lunch.tmp",
        ".env",
        ".gitignore",
        ".github/workflows/ci.yml",
        ".jobfsignore",
        "d/.jobfs/a",
        ".a.txt.Xy12Zq",  # rsync on its way
        "sedAbC123",
        "node_modules",  # a file
        "target/a",
        ".vscode/settings.json",
        "14913",
        "report.odt",
        "#1.txt",
    ],
)
def test_whatever_may_be_an_output_is_pushed(path: str) -> None:
    assert not Ignore().is_ignored(path, False)


def test_the_users_file_has_gitignore_syntax() -> None:
    rules = Ignore("# a comment\n*.o\n!keep.o\n/top\nout/\ndoc/**/draft\r\n\\!odd\n")
    ignored = ["a.o", "d/a.o", "top", "out/x", "d/out/x", "doc/a/b/draft", "!odd"]
    pushed = ["keep.o", "d/top", "a.oo", "draft", "doc"]
    assert [path for path in [*ignored, *pushed] if rules.is_ignored(path, False)] == ignored


def test_the_users_patterns_win_over_the_built_in_ones_and_the_last_one_wins() -> None:
    assert not Ignore("!__pycache__/").is_ignored("__pycache__/a.pyc", False)
    assert Ignore("!a~", ["*~"]).is_ignored("a~", False)
    assert not Ignore("*~", ["!a~"]).is_ignored("a~", False)


def test_nothing_comes_back_from_below_an_ignored_directory() -> None:
    assert Ignore("out/\n!out/keep\n").is_ignored("out/keep", False)


def test_our_own_folder_cannot_be_taken_out() -> None:
    assert Ignore("!.jobfs\n!.jobfs/**\n").is_ignored(".jobfs/problems.json", False)


def test_without_the_built_in_list_only_our_own_folder_stays_local() -> None:
    rules = Ignore(builtin=False)
    assert [path for path in (".git", "a~", ".jobfs") if rules.is_ignored(path, True)] == [".jobfs"]


def test_a_directory_pattern_matches_no_file() -> None:
    rules = Ignore("out/")
    assert (rules.is_ignored("out", True), rules.is_ignored("out", False)) == (True, False)


def test_rules_are_equal_when_their_patterns_are() -> None:
    assert Ignore("a\nb") == Ignore("a", ["b"])
    assert hash(Ignore("a\nb")) == hash(Ignore("a", ["b"]))
    assert Ignore("a") != Ignore("b")


def test_the_memo_is_bounded_and_answers_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobfs.planner.ignore._MEMO_LIMIT", 10)
    rules = Ignore("*.o\nout/")
    found = [rules.is_ignored(f"d{n}/out", True) and rules.is_ignored(f"d{n}/a{n}.o", False) for n in range(100)]
    assert found == [True] * 100
    assert not rules.is_ignored("", True)


def test_a_warm_answer_takes_under_five_microseconds() -> None:
    rules = Ignore()
    rules.is_ignored("a/b/c/d.txt", False)
    runs = 2000
    best = min(timeit.repeat(lambda: rules.is_ignored("a/b/c/d.txt", False), number=runs, repeat=5)) / runs
    assert best < 5e-6


NAMES = (
    "a",
    "b",
    ".git",
    "node_modules",
    "lu1x.tmp",
    "~$a",
    "a~",
    "#a#",
    ".#a",
    "4913",
    ".a.swp",
    "._b",
    ".nfs0",
    "(a|b)",
)
LINES = (
    "a",
    "/a",
    "a/",
    "a/b",
    "**/b",
    "a/**",
    "!a",
    "!*.swp",
    "*",
    "?",
    "[ab]",
    r"\(a|b)",
    "# not",
    "",
    " ",
    "a*b",
    "/*/b",
)


@given(
    st.lists(st.sampled_from(LINES), max_size=4),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_a_path_is_ignored_exactly_where_the_patterns_one_by_one_say_so(
    patterns: list[str], parts: list[str], is_directory: bool, has_builtin: bool
) -> None:
    rules = Ignore("\n".join(patterns), builtin=has_builtin)
    spec = GitIgnoreSpec.from_lines(rules.patterns)
    paths = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))] + ["/".join(parts) + "/" * is_directory]
    assert rules.is_ignored("/".join(parts), is_directory) is any(bool(spec.check_file(path).include) for path in paths)
