"""Lists that no honest server gives, seen from a mount and from a folder: what is honest in them is served, nothing is
written anywhere else, and what cannot be shown is told of.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_harness import Mounted, mounted, run
from folder_harness import Desk
from hostile_studio import HostileStudio, directory_row, file_row, reply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfs.engine.listing import take_listing
from jobfs.errors import ProtocolViolation
from jobfs.model import MOST_ITEMS, Kind
from jobfs.planner.naming import check_name, is_hidden_name

pytestmark = pytest.mark.allow_log("rows of the list cannot be read|not in force")

EXAMPLES = int(os.environ.get("JOBFS_FUZZ", "30"))
ITEMS = int(os.environ.get("JOBFS_ITEMS", "50000"))
"""A list of many items; scripts/fuzz says how to ask for a million."""

patient = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize="JOBFS_FUZZ" not in os.environ,
    database=None,
)

PARTS = [
    *("a", "A", "b", "honest.txt ", "HONEST.TXT", "Café", "Cafe\u0301", "ß", "SS", "K", "\u212a"),
    *("..", ".", "", " ", "\0", "x\0y", "\n", "\x1b[31m", "\x7f", "\u202etxt.exe", "\ud800", "\uffff", "\u200d"),
    *(
        ".jobfs",
        ".JOBFS",
        "status.json",
        ".a.jobfs-12345678.new",
        ".a.jobfs-12345678.old",
        "..jobfs-12345678.new",
        ".a.jobfs-x.new",
    ),
    *("%2E%2E", "%", "%~x", "%2F", "CON", "nul.txt", "a:b", "a\\b", "C:", "*", "?", "-rf", "~", "$(x)", "`x`", "'\""),
    *("x" * 255, "x" * 256, "é" * 128, "\U0001f600" * 63, "\U0001f600" * 64, "y" * 5000),
    *(
        ".git",
        "node_modules",
        ".jobfsignore",
        "perstack",
        ".fuse_hidden0001",
        ".nfs01",
        "a.txt (conflict from h 2026-01-01 000000).txt",
    ),
]
paths = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join) | st.sampled_from(
    [
        "",
        "/",
        "//",
        "/etc/passwd",
        "../../../../../../tmp/escaped",
        "a/../../escaped",
        "a//b",
        "a/",
        "/a",
        "/".join("d" * 60),
        "honest.txt/below",
        "dir",
        "dir/..",
    ]
)
stamps = st.sampled_from(
    ["", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01Z", "never", "9999-12-31T23:59:59+14:00", "-1", "\0"]
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["workspaceItemFile", "workspaceItemDirectory", "file", "directory", "workspaceItemSymlink", "", None, 7]
        ),
        "id": st.sampled_from(["twin", "..", ".", "a/b", "", None, "x" * 300, "%2e%2e", "\0", "?take=1", "honest1", 5]),
        "size": st.sampled_from([0, 1, -1, 2**40, 2**62, 2**63, 1.5, "3", None, True, []]),
        "permission": st.sampled_from(["readOnly", "readWrite", "", None, "root"]),
        "lifecycle": st.sampled_from(["application", "expertJob", "", None, "x"]),
        "owner": st.sampled_from(["user", "expert", None, 3]),
        "updatedAt": stamps | st.none(),
        "key": st.sampled_from(["", None, "k", "\0", "x" * 2000]),
        "mimeType": st.sampled_from([None, "", "a\r\nX: y", "x" * 300]),
        "path": st.none() | st.integers() | st.lists(st.text(max_size=2), max_size=2),
    },
)
rows = st.lists(st.tuples(st.booleans(), paths, changes), max_size=8)

HONEST: dict[str, bytes | None] = {"honest.txt": b"honest", "dir": None, "dir/inner.txt": b"inner"}


def _studio(drawn: Sequence[tuple[bool, str, dict[str, Any]]]) -> HostileStudio:
    studio = HostileStudio(
        [
            file_row("honest1", "honest.txt", 6),
            directory_row("honest2", "dir"),
            file_row("honest3", "dir/inner.txt", 5),
        ],
        {"honest1": b"honest", "honest3": b"inner"},
    )
    for number, (is_file, path, change) in enumerate(drawn):
        data = b"lie" if is_file else None
        if path.strip("/") not in HONEST and not path.startswith("honest.txt/"):
            row = file_row(f"lie{number}", path, 3) if is_file else directory_row(f"lie{number}", path)
            change = {name: value for name, value in change.items() if value != "honest1"}
            studio.rows.append({**row, **change})
            if data is not None and isinstance(studio.rows[-1]["id"], str):
                studio.bodies[studio.rows[-1]["id"]] = data
    return studio


def _all_paths(mount: Mounted, above: str = "") -> list[str]:
    """Return every path that a program could see, and check that each name is one."""
    found = []
    for name, _ in list(mount.vfs.names(mount.node(above))):
        if name in (".", ".."):
            continue
        assert check_name(name) is None, name
        assert not is_hidden_name(name)
        path = f"{above}/{name}" if above else name
        found.append(path)
        record = mount.session.state.local.get(mount.node(path))
        if record is not None and record.kind is Kind.DIRECTORY:
            found += _all_paths(mount, path)
    return found


@patient
@given(drawn=rows)
def test_a_mount_serves_what_is_honest_in_any_list(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    async def main() -> None:
        base = tmp_path_factory.mktemp("hostile")
        studio = _studio(drawn)
        async with studio.workspace() as remote, mounted(base / "state", remote) as mount:  # type: ignore[arg-type]
            assert await mount.read("honest.txt") == b"honest"
            assert await mount.read("dir/inner.txt") == b"inner"
            _all_paths(mount)
            await mount.write("dir/new.txt", b"new")
            await mount.pull()
            assert [task for task in mount.session._loops if task.done()] == []
            assert studio.bodies[next(row["id"] for row in studio.rows if row.get("path") == "dir/new.txt")] == b"new"
            assert mount.session.state.check() == []
            for problem in mount.session.feed.problems:
                assert len(problem.detail) < 1000
        assert os.listdir(base) == ["state"]

    run(main())


@patient
@given(drawn=rows)
def test_a_folder_takes_what_is_honest_in_any_list_and_nothing_beside_it(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    async def main() -> None:
        base = tmp_path_factory.mktemp("hostile")
        (base / "outside").write_text("untouched")
        studio = _studio(drawn)
        async with studio.workspace() as remote:
            desk = Desk(base, remote)
            await desk.sync()
            tree = desk.tree()
            assert {path: tree.get(path, "absent") for path in HONEST} == HONEST
            desk.write("dir/new.txt", b"new")
            await desk.sync()
        assert studio.bodies[next(row["id"] for row in studio.rows if row.get("path") == "dir/new.txt")] == b"new"
        assert sorted(os.listdir(base)) == ["folder", "outside", "state"]
        assert (base / "outside").read_text() == "untouched"

    run(main())


# --------------------------------------------------------------------------------------------- lies with a name


def _honest() -> HostileStudio:
    return _studio([])


def test_a_time_beyond_all_calendars_keeps_no_file_from_its_folder(tmp_path: Path) -> None:
    async def main() -> None:
        studio = _honest()
        for number, stamp in enumerate(["9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00Z", "1601-01-01T00:00:00Z"]):
            studio.add(f"{number}.txt", b"late", updatedAt=stamp)
        async with studio.workspace() as remote:
            desk = Desk(tmp_path, remote)
            await desk.sync()
            assert desk.tree() == {**HONEST, "0.txt": b"late", "1.txt": b"late", "2.txt": b"late"}
            async with mounted(tmp_path / "mount", remote) as mount:  # type: ignore[arg-type]
                assert await mount.read("0.txt") == b"late"

    run(main())


def test_a_file_of_another_length_than_listed_is_a_problem_and_stops_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        studio = _honest()
        studio.add("long.txt", b"much", size=1)
        studio.add("short.txt", b"", size=9)
        async with studio.workspace() as remote:
            desk = Desk(tmp_path, remote)
            summary = await desk.sync()
        assert desk.tree() == HONEST
        assert [problem.path for problem in summary.problems] == ["long.txt", "short.txt"]

    run(main())


def test_a_file_that_the_list_and_its_own_record_never_agree_on_is_given_up_with_a_problem(tmp_path: Path) -> None:
    async def main() -> None:
        studio = _honest()
        row = studio.add("torn.txt", b"torn", size=9)
        studio.lies["get"] = lambda request, honest: reply({"data": {"workspaceItem": {**row, "key": "other"}}})
        async with studio.workspace() as remote:
            desk = Desk(tmp_path, remote)
            summary = await desk.sync()
        assert desk.tree() == HONEST
        assert [problem.path for problem in summary.problems] == ["torn.txt"]
        assert studio.asked.count("list") < 20

    run(main())


def test_a_file_whose_row_can_no_longer_be_read_stays_and_the_user_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        studio = _honest()
        async with studio.workspace() as remote, mounted(tmp_path, remote) as mount:  # type: ignore[arg-type]
            studio.rows[0]["size"] = None
            await mount.pull()
            assert mount.names() == ["dir", "honest.txt"]
            assert await mount.read("dir/inner.txt") == b"inner"
            assert [problem.detail[:7] for problem in mount.session.feed.problems] == ["1 items"]
            studio.rows[0]["size"] = 6
            await mount.pull()
            assert await mount.read("honest.txt") == b"honest"
            assert mount.session.feed.problems == ()

    run(main())


def test_a_directory_is_never_deleted_with_a_row_in_it_that_cannot_be_read(tmp_path: Path) -> None:
    async def main() -> None:
        studio = _honest()
        hidden = studio.add("dir/unread.txt", b"unread", size="x")
        async with studio.workspace() as remote, mounted(tmp_path, remote) as mount:  # type: ignore[arg-type]
            mount.vfs.unlink(*mount.place("dir/inner.txt"))
            mount.vfs.rmdir(*mount.place("dir"))
            await mount.session.drain(5)
            assert hidden in studio.rows

    run(main())


@pytest.mark.parametrize("size", [2 << 20, 6], ids=["too large", "of another length"])
def test_ignore_rules_that_cannot_be_had_are_a_problem_and_keep_nothing_else_back(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        studio = _honest()
        studio.add(".jobfsignore", b"*.txt\n" * 1000, size=size)
        async with studio.workspace() as remote, mounted(tmp_path, remote) as mount:  # type: ignore[arg-type]
            assert await mount.read("honest.txt") == b"honest"
            assert [problem.path for problem in mount.session.feed.problems] == [".jobfsignore"]

    run(main())


def _total(total: object) -> Any:
    def lie(_: httpx.Request, honest: httpx.Response) -> httpx.Response:
        return reply({**json.loads(honest.content), "meta": {"total": total}})

    return lie


@pytest.mark.parametrize("total", [-1, 0, 2, 4, 10_000, 1.5, "3", None, [], 10**400], ids=str)
def test_a_wrong_total_costs_a_few_requests_and_shows_every_row(total: object) -> None:
    async def main() -> None:
        studio = _honest()
        studio.lies["list"] = _total(total)
        async with studio.workspace() as remote:
            listing = await take_listing(remote)
        assert sorted(item.path for item in listing.items) == sorted(HONEST)
        assert listing.requests <= 30

    run(main())


@pytest.mark.parametrize("total", [MOST_ITEMS + 1, 10**15])
def test_a_total_beyond_the_limit_is_refused_in_words_before_anything_is_made_ready_for_it(total: int) -> None:
    async def main() -> None:
        studio = _honest()
        studio.lies["list"] = _total(total)
        async with studio.workspace() as remote:
            with pytest.raises(ProtocolViolation) as refused:
                await take_listing(remote)
        assert f"lists {total} items, more than {MOST_ITEMS}" in refused.value.cause
        assert studio.asked == ["list"]

    run(main())


def test_a_list_without_a_total_that_leads_nowhere_ends() -> None:
    made = 0

    def one_more(_: httpx.Request, honest: httpx.Response) -> httpx.Response:
        nonlocal made
        made += 1
        return reply({"data": {"workspaceItems": [file_row(f"new{made}", f"{made}.txt", 1)]}})

    async def main() -> None:
        studio = _honest()
        studio.lies["list"] = one_more
        async with studio.workspace() as remote:
            listing = await take_listing(remote)
        assert not listing.is_stable
        assert made <= 10

    run(main())


def test_names_of_ten_megabytes_are_shown_under_names_that_a_disk_can_hold(tmp_path: Path) -> None:
    async def main() -> None:
        studio = _honest()
        for number in range(4):
            studio.add("x" * 10_000_000 + str(number), b"x")
        async with studio.workspace() as remote, mounted(tmp_path, remote) as mount:  # type: ignore[arg-type]
            assert len(mount.names()) == 6
            assert max(map(len, mount.names())) <= 255
            for name in mount.names():
                if name not in ("dir", "honest.txt"):
                    assert await mount.read(name) == b"x"
            assert all(len(problem.path) + len(problem.detail) < 5000 for problem in mount.session.feed.problems)

    run(main())


@patient
@given(
    trees=st.lists(
        st.fixed_dictionaries(
            {name: st.sampled_from(["a", "b", "a/b", "b/a", "a/b/c", "c", "c/a", "b/a/c"]) for name in "xyz"}
        ),
        min_size=2,
        max_size=4,
    )
)
def test_directories_that_swap_places_however_end_where_the_last_list_has_them(
    tmp_path_factory: pytest.TempPathFactory, trees: list[dict[str, str]]
) -> None:
    async def main() -> None:
        base = tmp_path_factory.mktemp("cycles")
        studio = _honest()
        async with studio.workspace() as remote:
            async with mounted(base / "mount", remote) as mount:  # type: ignore[arg-type]
                for places in trees:
                    studio.rows[3:] = [directory_row(name, path) for name, path in places.items()]
                    await mount.pull()
                shown = set(_all_paths(mount))
            desk = Desk(base, remote)
            await desk.sync()
        last = {*trees[-1].values(), *HONEST}
        expected = (
            last | {path.rpartition("/")[0] for path in last} - {""} | {"a" for path in last if path.startswith("a/")}
        )
        expected |= {"b" for path in last if path.startswith("b/")}
        assert shown == expected
        assert set(desk.tree()) == expected

    run(main())


def test_tens_of_thousands_of_items_are_shown_in_bounded_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def main() -> None:
        studio = HostileStudio(file_row(f"item{number}", f"d{number % 100}/{number}.txt", 1) for number in range(ITEMS))
        async with studio.workspace() as remote, mounted(tmp_path, remote) as mount:  # type: ignore[arg-type]
            await mount.session.drain(ITEMS / 250)
            assert len(mount.names("d7")) == ITEMS // 100
            assert len(mount.session.state.local) == ITEMS + 101

    asyncio.run(asyncio.wait_for(main(), ITEMS / 250))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ITEMS * 8
