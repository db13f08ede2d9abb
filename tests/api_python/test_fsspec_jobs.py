"""The fsspec file system beyond what fsspec's own tests ask for."""

from __future__ import annotations

import asyncio
import pickle
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest

from jobfs import Workspace, errors
from jobfs.filesystem.jobs import JobFileSystem
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches

ROOT = Path(__file__).resolve().parents[2]
LARGE = bytes(range(256)) * 40_000


def requests_of(studio: RunningServer, *methods: str) -> list[str]:
    return [request.path for request in studio.requests if request.method in methods]


@pytest.fixture
def fs(jobs_fs: JobFileSystem) -> Any:
    """The file system; fsspec has no types."""
    return jobs_fs


# -- how it is found


def test_it_is_registered_by_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["fsspec.specs"]["jobfs"].partition(":")
    assert getattr(import_module(module), name) is JobFileSystem


def test_a_url_is_all_that_is_needed(studio: RunningServer, job: str) -> None:
    with fsspec.open(f"jobfs://{job}/a/note.txt", "w") as file:
        file.write("hello")
    assert studio.contents(job) == {"a": None, "a/note.txt": b"hello"}
    with fsspec.open(f"jobfs://{job}/a/note.txt", "r") as file:
        assert file.read() == "hello"
    for found in list(JobFileSystem._cache.values()):
        found.close()
    JobFileSystem.clear_instance_cache()


@pytest.mark.parametrize("path", ["jobfs://JOB/a/b", "/JOB/a/b/", "JOB/a/b"])
def test_paths_are_written_in_any_way(path: str) -> None:
    assert JobFileSystem._strip_protocol(path) == "JOB/a/b"


def test_an_instance_travels_to_other_processes_and_shows_no_key(studio: RunningServer, job: str) -> None:
    fs: Any = JobFileSystem(url=studio.url, api_key=studio.api_key, skip_instance_cache=True)
    fs.pipe_file(f"{job}/note", b"1")
    other = pickle.loads(pickle.dumps(fs))
    try:
        assert other.cat_file(f"{job}/note") == b"1"
        assert studio.api_key not in repr(fs) + fs.to_json(include_password=False)
    finally:
        fs.close()
        other.close()
        JobFileSystem.clear_instance_cache()


def test_a_missing_key_is_said_and_not_taken_for_a_missing_file(
    studio: RunningServer, fs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBFS_API_KEY")
    for look in (fs.exists, fs.isdir, fs.ls):
        with pytest.raises(errors.SettingsError, match="no API key"):
            look("abc")


# -- looking


def test_the_root_lists_the_jobs(studio: RunningServer, fs: Any, job: str) -> None:
    found = {one["name"]: one for one in fs.ls("")}
    assert (found[job]["type"], found[job]["status"]) == ("directory", "queued")
    assert fs.isdir(job)
    assert not fs.exists("z" * 24)


def test_a_pattern_finds_files_of_all_jobs(studio: RunningServer, fs: Any) -> None:
    jobs = [studio.create_job() for _ in range(3)]
    for job in jobs:
        studio.expert_writes(job, "out/totals.csv", job.encode())
    found = fs.glob("jobfs://*/out/totals.csv")
    assert found == sorted(f"{job}/out/totals.csv" for job in jobs)
    assert fs.cat(found) == {f"{job}/out/totals.csv": job.encode() for job in jobs}


def test_everything_that_is_known_of_a_file_is_in_its_info(studio: RunningServer, fs: Any, job: str) -> None:
    item = studio.put_item(job, "a/note", b"12345", permission="readOnly", mime_type="text/x-note")
    info = fs.info(f"{job}/a/note")
    assert {name: info[name] for name in ("name", "type", "size", "id", "permission", "owner", "mimetype")} == {
        "name": f"{job}/a/note",
        "type": "file",
        "size": 5,
        "id": item.id,
        "permission": "readOnly",
        "owner": "user",
        "mimetype": "text/x-note",
    }
    assert fs.modified(f"{job}/a/note") == info["updated"]
    assert fs.created(f"{job}/a/note") <= info["updated"]
    assert info["mtime"] == info["updated"].timestamp()


def test_sizes_and_contents_of_a_tree(studio: RunningServer, fs: Any, job: str) -> None:
    for path in ("a/one", "a/b/two", "three"):
        studio.put_item(job, path, path.encode())
    studio.clear_requests()
    assert fs.du(job) == len("a/one" + "a/b/two" + "three")
    assert fs.find(job) == [f"{job}/a/b/two", f"{job}/a/one", f"{job}/three"]
    assert [(above, names) for above, _, names in fs.walk(f"{job}/a")] == [
        (f"{job}/a", ["one"]),
        (f"{job}/a/b", ["two"]),
    ]
    assert len(studio.requests) <= 2  # a look at the path, and one listing for all of it


def test_the_contents_of_a_tree_are_those_of_its_files(studio: RunningServer, fs: Any, job: str) -> None:
    for path in ("a/one", "a/b/two", "three"):
        studio.put_item(job, path, path.encode())
    assert fs.cat(f"{job}/a", recursive=True) == {f"{job}/a/one": b"a/one", f"{job}/a/b/two": b"a/b/two"}
    assert fs.cat([f"{job}/three"]) == {f"{job}/three": b"three"}
    assert fs.cat(f"{job}/three") == b"three"


def test_what_others_do_is_seen_after_a_refresh_and_what_they_made_at_once(
    studio: RunningServer, fs: Any, job: str
) -> None:
    studio.put_item(job, "a/old", b"1")
    assert fs.ls(f"{job}/a", detail=False) == [f"{job}/a/old"]
    studio.expert_deletes(job, "a/old")
    studio.put_item(job, "a/new", b"1")
    assert fs.exists(f"{job}/a/new")
    assert fs.ls(f"{job}/a", detail=False) == [f"{job}/a/new"]
    studio.put_item(job, "a/newer", b"1")
    assert fs.ls(f"{job}/a", detail=False) == [f"{job}/a/new"]
    assert fs.ls(f"{job}/a", detail=False, refresh=True) == [f"{job}/a/new", f"{job}/a/newer"]


def test_a_directory_that_somebody_else_made_since_the_listing_is_found(
    studio: RunningServer, fs: Any, job: str
) -> None:
    assert fs.ls(job) == []
    studio.put_item(job, "theirs/note", b"1")
    assert fs.find(f"{job}/theirs") == [f"{job}/theirs/note"]
    studio.put_item(job, "also-theirs", None)
    fs.mv(f"{job}/theirs/note", f"{job}/also-theirs/note")
    assert studio.contents(job) == {"theirs": None, "also-theirs": None, "also-theirs/note": b"1"}


def test_without_the_cache_every_look_is_a_listing(studio: RunningServer, job: str) -> None:
    fs: Any = JobFileSystem(use_listings_cache=False, skip_instance_cache=True)
    try:
        for names in ([], ["a"], ["a", "b"]):
            assert fs.ls(job, detail=False) == [f"{job}/{name}" for name in names]
            studio.put_item(job, "ab"[len(names) % 2], b"")
    finally:
        fs.close()


# -- reading


def test_a_file_that_was_replaced_since_the_listing_is_read_as_it_is_now(
    studio: RunningServer, fs: Any, job: str
) -> None:
    studio.put_item(job, "note", b"old")
    assert fs.size(f"{job}/note") == 3
    with Workspace(job) as other:
        other.write("note", b"newer")
    assert fs.cat_file(f"{job}/note") == b"newer"


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (2, None), (None, 3), (2, 5), (-3, None), (1, -1), (5, 2), (90, 99)]
)
def test_parts_are_cut_as_slices_are(studio: RunningServer, fs: Any, job: str, start: int, end: int) -> None:
    studio.put_item(job, "letters", b"abcdefghij")
    assert fs.cat_file(f"{job}/letters", start=start, end=end) == b"abcdefghij"[start:end]


def test_a_large_file_is_read_where_it_is_wanted(studio: RunningServer, fs: Any, job: str) -> None:
    studio.put_item(job, "large", LARGE)
    studio.switches = Switches(range="honour")
    try:
        with fs.open(f"{job}/large", block_size=1000, cache_type="none") as file:
            file.seek(10_000_000)
            assert file.read(100) == LARGE[10_000_000:10_000_100]
            assert file.tell() == 10_000_100
            file.seek(-5, 2)
            assert file.read() == LARGE[-5:]
        starts = [0, 10_000_000]
        assert fs.cat_ranges([f"{job}/large"] * 2, starts, [5, 10_000_005]) == [LARGE[at : at + 5] for at in starts]
    finally:
        studio.switches = Switches()


def test_lines_are_read_through_any_buffer(studio: RunningServer, fs: Any, job: str) -> None:
    lines = [f"line {n}\n" for n in range(1000)]
    studio.put_item(job, "text", "".join(lines).encode())
    with fs.open(f"{job}/text", "r", block_size=64) as file:
        assert list(file) == lines


# -- writing


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_block_that_fails_writes_nothing(studio: RunningServer, fs: Any, job: str, mode: str) -> None:
    def fail() -> None:
        with fs.open(f"{job}/note", mode) as file:
            file.write("half" if mode == "w" else b"half")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert studio.contents(job) == {}


def test_appending_and_touching(studio: RunningServer, fs: Any, job: str) -> None:
    for part in (b"one,", b"two"):
        with fs.open(f"{job}/log", "ab") as file:
            file.write(part)
    fs.touch(f"{job}/empty")
    assert studio.contents(job) == {"log": b"one,two", "empty": b""}


def test_compressed_files_go_both_ways(studio: RunningServer, fs: Any, job: str) -> None:
    with fs.open(f"{job}/a.gz", "wb", compression="infer") as file:
        file.write(b"plain" * 100)
    with fs.open(f"{job}/b.txt.bz2", "w", compression="bz2", newline="") as file:
        file.write("text\r\n")
    assert [(content or b"")[:2] for content in studio.contents(job).values()] == [b"\x1f\x8b", b"BZ"]
    with fs.open(f"{job}/a.gz", "rb", compression="infer") as file:
        assert file.read() == b"plain" * 100
    with fs.open(f"{job}/b.txt.bz2", "r", compression="infer", newline="") as file:
        assert file.read() == "text\r\n"


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_block_that_fails_writes_nothing_compressed_either(
    studio: RunningServer, fs: Any, job: str, mode: str
) -> None:
    def fail() -> None:
        with fs.open(f"{job}/a.gz", mode, compression="gzip") as file:
            file.write("half" if mode == "w" else b"half")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert studio.contents(job) == {}


def test_a_transaction_is_all_or_nothing(studio: RunningServer, fs: Any, job: str) -> None:
    def write(*names: str) -> None:
        for name in names:
            with fs.open(f"{job}/{name}", "wb") as file:
                file.write(name.encode())
        assert studio.contents(job) == {}

    def failing() -> None:
        with fs.transaction:
            write("a", "b")
            raise LookupError

    with pytest.raises(LookupError):
        failing()
    assert studio.contents(job) == {}
    with fs.transaction:
        write("a", "b")
    assert studio.contents(job) == {"a": b"a", "b": b"b"}


def test_a_replaced_version_is_gone_when_the_write_returns(studio: RunningServer, fs: Any, job: str) -> None:
    fs.pipe_file(f"{job}/note", b"1")
    studio.clear_requests()
    fs.pipe_file(f"{job}/note", b"2")
    assert [request.method for request in studio.requests if request.method != "GET"] == ["POST"] * 3 + ["DELETE"]
    assert studio.contents(job) == {"note": b"2"}


def test_many_new_files_cost_a_look_and_a_request_each(studio: RunningServer, fs: Any, job: str) -> None:
    fs.makedirs(f"{job}/many")
    studio.clear_requests()
    fs.pipe({f"{job}/many/{n}": str(n).encode() for n in range(20)})
    assert (len(requests_of(studio, "POST")), len(requests_of(studio, "GET"))) == (20, 20)


def test_trees_go_both_ways(studio: RunningServer, fs: Any, job: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for path in ("a.txt", "deep/er/b.txt"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    fs.put(str(source), f"{job}/tree", recursive=True)
    assert studio.contents(job) == {
        "tree": None,
        "tree/a.txt": b"a.txt",
        "tree/deep": None,
        "tree/deep/er": None,
        "tree/deep/er/b.txt": b"deep/er/b.txt",
    }
    fs.get(f"{job}/tree", str(target), recursive=True)
    assert (target / "deep" / "er" / "b.txt").read_text() == "deep/er/b.txt"


def test_missing_directories_are_a_failure_where_they_are_not_to_be_made(studio: RunningServer, job: str) -> None:
    fs: Any = JobFileSystem(auto_mkdir=False, skip_instance_cache=True)
    try:
        with pytest.raises(FileNotFoundError):
            fs.pipe_file(f"{job}/a/note", b"1")
        fs.mkdir(f"{job}/b/c")
        fs.pipe_file(f"{job}/b/c/note", b"1")
    finally:
        fs.close()
    assert studio.contents(job) == {"b": None, "b/c": None, "b/c/note": b"1"}


def test_a_workspace_is_a_mapping_as_arrays_are_stored_in(studio: RunningServer, fs: Any, job: str) -> None:
    store = fs.get_mapper(f"{job}/array")
    store["0.0"] = b"chunk"
    store[".zarray"] = b"{}"
    assert (sorted(store), store["0.0"], "1.0" in store) == ([".zarray", "0.0"], b"chunk", False)
    del store["0.0"]
    assert studio.contents(job) == {"array": None, "array/.zarray": b"{}"}


class FewOpen(JobFileSystem):
    """The file system with room for two workspaces."""

    most_open = 2


def test_any_number_of_workspaces_can_be_written_with_few_of_them_open(studio: RunningServer) -> None:
    jobs = [studio.create_job() for _ in range(7)]
    fs: Any = FewOpen(skip_instance_cache=True)
    try:
        fs.pipe({f"{job}/note": job.encode() for job in jobs})
        fs.pipe({f"{job}/note": job[::-1].encode() for job in jobs})
        fs.ls(jobs[0])
        assert sum(files.is_open for files in fs._files.values()) == 2
    finally:
        fs.close()
    assert [studio.contents(job) for job in jobs] == [{"note": job[::-1].encode()} for job in jobs]


# -- moving, copying, removing


def test_a_move_within_a_workspace_is_one_request(studio: RunningServer, fs: Any, job: str) -> None:
    studio.put_item(job, "a/b/c", b"1")
    studio.put_item(job, "into", None)
    studio.clear_requests()
    fs.mv(f"{job}/a", f"{job}/moved", recursive=True)
    assert requests_of(studio, "POST", "DELETE") != []
    assert len(requests_of(studio, "POST", "DELETE")) == 1
    fs.mv(f"{job}/moved/b/c", f"{job}/into")
    assert studio.contents(job) == {"into": None, "into/c": b"1", "moved": None, "moved/b": None}


def test_a_move_or_copy_to_another_workspace_takes_the_bytes_along(studio: RunningServer, fs: Any, job: str) -> None:
    other = studio.create_job()
    studio.put_item(job, "a/one", b"1")
    fs.cp(f"{job}/a", f"{other}/copy", recursive=True)
    fs.mv(f"{job}/a/one", f"{other}/moved")
    assert studio.contents(other) == {"copy": None, "copy/one": b"1", "moved": b"1"}
    assert studio.contents(job) == {"a": None}


def test_a_tree_is_removed_by_one_request(studio: RunningServer, fs: Any, job: str) -> None:
    for path in ("a/one", "a/b/two", "stays"):
        studio.put_item(job, path, b"")
    studio.clear_requests()
    fs.rm(f"{job}/a", recursive=True)
    assert len(requests_of(studio, "DELETE")) == 1
    assert studio.contents(job) == {"stays": b""}


def test_removing_to_a_depth_keeps_what_is_deeper(studio: RunningServer, fs: Any, job: str) -> None:
    for path in ("a/one", "a/b/two"):
        studio.put_item(job, path, b"")
    fs.rm(f"{job}/a", recursive=True, maxdepth=1)
    assert studio.contents(job) == {"a": None, "a/b": None, "a/b/two": b""}


# -- failures


def test_failures_look_as_on_a_disk(studio: RunningServer, fs: Any, job: str) -> None:
    studio.put_item(job, "locked", b"1", permission="readOnly")
    studio.put_item(job, "a/b", b"1")
    expected: list[tuple[type[OSError], Any]] = [
        (FileNotFoundError, lambda: fs.cat_file(f"{job}/none")),
        (FileNotFoundError, lambda: fs.ls(f"{job}/none")),
        (FileNotFoundError, lambda: fs.open(f"{job}/none")),
        (FileNotFoundError, lambda: fs.info("z" * 24)),
        (FileExistsError, lambda: fs.mkdir(f"{job}/a")),
        (FileExistsError, lambda: fs.mkdir(job)),
        (FileExistsError, lambda: fs.makedirs(f"{job}/a")),
        (FileExistsError, lambda: fs.open(f"{job}/a/b", "xb")),
        (IsADirectoryError, lambda: fs.cat_file(f"{job}/a")),
        (IsADirectoryError, lambda: fs.rm_file(f"{job}/a")),
        (IsADirectoryError, lambda: fs.rm(f"{job}/a")),
        (NotADirectoryError, lambda: fs.rmdir(f"{job}/a/b")),
        (PermissionError, lambda: fs.pipe_file(f"{job}/locked", b"2")),
        (PermissionError, lambda: fs.rm(job, recursive=True)),
        (PermissionError, lambda: fs.pipe_file("", b"")),
        (OSError, lambda: fs.rmdir(f"{job}/a")),
        (OSError, lambda: fs.cat_file(f"{job}/a/../b")),
    ]
    for kind, fails in expected:
        with pytest.raises(kind) as raised:
            fails()
        assert type(raised.value) is kind
    assert studio.contents(job) == {"locked": b"1", "a": None, "a/b": b"1"}


def test_the_cause_of_a_failure_is_one_of_ours(studio: RunningServer, fs: Any, job: str) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or directory") as raised:
        fs.cat_file(f"{job}/none")
    assert isinstance(raised.value.__cause__, errors.NotFound)
    assert raised.value.filename == f"{job}/none"


# -- beside other parts of fsspec


def test_a_local_cache_can_be_put_before_it(studio: RunningServer, job: str, tmp_path: Path) -> None:
    item = studio.put_item(job, "note", b"12345")
    options = {"url": studio.url, "api_key": studio.api_key, "skip_instance_cache": True}
    for _ in range(2):
        fs: Any = fsspec.filesystem(
            "filecache", target_protocol="jobfs", target_options=options, cache_storage=str(tmp_path / "cache")
        )
        with fs.open(f"{job}/note") as file:
            assert file.read() == b"12345"
        fs.fs.close()
    downloads = [path for path in requests_of(studio, "GET") if path.endswith(f"{item.id}/download")]
    assert len(downloads) == 1


# -- options


def test_an_option_that_means_nothing_is_told(studio: RunningServer, job: str) -> None:
    with pytest.raises(errors.SettingsError, match="jobfs:// has no option 'api_kye'") as raised:
        fsspec.filesystem("jobfs", api_kye=studio.api_key)
    assert "api_key," in raised.value.remedy
    assert studio.api_key not in str(raised.value) + raised.value.remedy
    with pytest.raises(errors.SettingsError, match="no option 'anon'"):
        fsspec.open(f"jobfs://{job}/note", anon=True)
    with pytest.raises(errors.SettingsError, match="listings_expiry_time is of the wrong type, str"):
        JobFileSystem(listings_expiry_time="soon")


def test_the_options_of_fsspec_itself_are_taken(studio: RunningServer) -> None:
    own: dict[str, Any] = {"use_listings_cache": True, "listings_expiry_time": 1, "max_paths": 10}
    fs: Any = fsspec.filesystem("jobfs", skip_instance_cache=True, asynchronous=False, batch_size=4, **own)
    copies = [pickle.loads(pickle.dumps(fs)), fsspec.AbstractFileSystem.from_json(fs.to_json())]
    assert [one.storage_options for one in copies] == [fs.storage_options] * 2
    for one in (fs, *copies, JobFileSystem(loop=None, skip_instance_cache=True)):
        one.close()
    JobFileSystem.clear_instance_cache()


# -- runs, and those who await


def test_the_files_of_a_run_are_read_and_not_written(studio: RunningServer, fs: Any, job: str) -> None:
    studio.expert_writes(job, "report.md", b"done")
    studio.set_status(job, "completed")
    assert fs.find(f"jobfs://run:{job}") == [f"run:{job}/report.md"]
    assert fs.cat_file(f"jobfs://run:{job}/report.md") == b"done"
    with pytest.raises(PermissionError):
        fs.pipe_file(f"run:{job}/note", b"")


@pytest.fixture
def awaited(studio: RunningServer) -> Any:
    return JobFileSystem(asynchronous=True, skip_instance_cache=True)


def test_it_can_be_awaited(studio: RunningServer, awaited: Any, job: str) -> None:
    async def use() -> None:
        await awaited._pipe({f"{job}/{n}": str(n).encode() for n in range(10)})
        assert sorted((await awaited._cat([f"{job}/{n}" for n in range(10)])).values()) == [
            str(n).encode() for n in range(10)
        ]
        async with await awaited.open_async(f"{job}/streamed", "wb") as file:
            await file.write(b"one")
            await file.write(b"two")
        async with await awaited.open_async(f"{job}/streamed") as file:
            assert (await file.read(4), await file.read()) == (b"onet", b"wo")
        with pytest.raises(LookupError):
            async with await awaited.open_async(f"{job}/half", "wb") as file:
                await file.write(b"half")
                raise LookupError
        assert not await awaited._exists(f"{job}/half")
        await awaited.aclose()

    asyncio.run(use())
