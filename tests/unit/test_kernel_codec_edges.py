"""The small pure parts around the codec: errno values, signals, mount tables, listings."""

from __future__ import annotations

import asyncio
import errno
import inspect
import stat

import pytest

from jobfs import errors
from jobfs.fuse import mounting
from jobfs.fuse.errno import entries, errno_of, is_expected
from jobfs.fuse.interrupt import is_stopped_by, is_to_stop
from jobfs.fuse.listing import Listings
from jobfs.fuse.replies import DIRENT_SIZE, ENTRY_SIZE, Lifetime, Stat
from jobfs.model import NodeId

# -- errno


def test_every_class_of_our_errors_has_its_errno() -> None:
    classes = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.JobfsError)}
    assert {kind for kind, _ in entries()} == classes


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.StateFull("full"), errno.ENOSPC),
        (errors.DeadlineExceeded("late"), errno.ETIMEDOUT),
        (errors.NotFound("gone"), errno.ESTALE),
        (errors.Unauthenticated("key"), errno.EACCES),
        (errors.Unreachable("down"), errno.EIO),
        (errors.OutcomeUnknown("cut"), errno.EIO),
        (errors.ServerFailure("500"), errno.EIO),
        (errors.RateLimited("429"), errno.EIO),
        (errors.TooLarge("413"), errno.EFBIG),
        (errors.PathExists("taken"), errno.EEXIST),
        (errors.ParentMissing("none"), errno.ENOENT),
        (errors.InvalidPath("bad"), errno.EINVAL),
        (OSError(errno.ENOTEMPTY, "full"), errno.ENOTEMPTY),
        (OSError("without a number"), errno.EIO),
        (asyncio.CancelledError(), errno.EINTR),
        (ValueError("a defect"), errno.EIO),
    ],
)
def test_failures_become_the_errno_that_a_program_can_act_on(error: BaseException, number: int) -> None:
    assert errno_of(error) == number


def test_a_class_made_elsewhere_has_the_errno_of_its_parent() -> None:
    class Special(errors.TooLarge):
        pass

    assert errno_of(Special("x")) == errno.EFBIG


def test_only_defects_are_unexpected() -> None:
    assert [is_expected(error) for error in (errors.NotFound("x"), OSError(2, "x"), ValueError("x"))] == [
        True,
        True,
        False,
    ]


# -- signals

SIGINT, SIGKILL, SIGUSR1, SIGALRM, SIGTERM, SIGCHLD, SIGWINCH = (1 << (n - 1) for n in (2, 9, 10, 14, 15, 17, 28))


@pytest.mark.parametrize(
    ("pending", "shared", "blocked", "ignored", "caught", "stops"),
    [
        (0, 0, 0, 0, 0, False),
        (SIGKILL, 0, 0, 0, 0, True),
        (0, SIGINT, 0, 0, 0, True),
        (0, SIGINT, 0, 0, SIGINT, True),
        (0, SIGINT, 0, SIGINT, 0, False),
        (0, SIGINT, SIGINT, 0, 0, False),
        (0, SIGTERM, 0, 0, SIGTERM, True),
        (0, SIGALRM, 0, 0, SIGALRM, False),
        (0, SIGALRM, 0, 0, 0, True),
        (0, SIGUSR1, 0, 0, SIGUSR1, False),
        (0, SIGCHLD | SIGWINCH, 0, 0, 0, False),
        (0, SIGWINCH | SIGINT, 0, 0, SIGWINCH, True),
    ],
)
def test_only_a_signal_that_is_to_stop_a_program_ends_its_wait(
    pending: int, shared: int, blocked: int, ignored: int, caught: int, stops: bool
) -> None:
    status = (
        f"Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n"
        f"SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
    )
    assert is_stopped_by(status) == stops


def test_a_thread_that_cannot_be_looked_at_is_not_waited_for() -> None:
    assert is_to_stop(0)
    assert is_to_stop(1 << 30)


# -- mount tables


def test_spaces_and_hashes_in_the_mount_table_are_unescaped() -> None:
    line = "42 27 0:39 / /tmp/a\\040b rw,nosuid,nodev,relatime shared:1 - fuse.jobfs jobfs\\043x rw,user_id=0"
    mounted = mounting._mounted(line)
    assert (mounted.device, str(mounted.point), mounted.file_system, mounted.source) == (
        "0:39",
        "/tmp/a b",
        "fuse.jobfs",
        "jobfs#x",
    )


# -- listings


class Directory:
    """One directory in memory."""

    def __init__(self, names: dict[str, int]) -> None:
        self.entries = {name: NodeId(node) for name, node in names.items()}
        self.sorted = 0

    def names(self, directory: NodeId) -> list[tuple[str, NodeId]]:
        self.sorted += 1
        return list(self.entries.items())

    def parent(self, directory: NodeId) -> NodeId:
        return NodeId(1)

    def is_there(self, directory: NodeId, name: str, node: NodeId) -> bool:
        return self.entries.get(name) == node

    def stat(self, node: NodeId) -> tuple[Stat, Lifetime]:
        return Stat(node, 0, 0, 0, stat.S_IFREG | 0o644, 1, 0, 0), Lifetime(1, 1)


def names_in(data: bytes, *, plus: bool = False) -> list[tuple[str, int]]:
    """Return the (name, cookie) pairs of a listing's answer."""
    found = []
    at = 0
    while at < len(data):
        at += ENTRY_SIZE if plus else 0
        cookie = int.from_bytes(data[at + 8 : at + 16], "little")
        length = int.from_bytes(data[at + 16 : at + 20], "little")
        found.append((data[at + DIRENT_SIZE : at + DIRENT_SIZE + length].decode(), cookie))
        at += (DIRENT_SIZE + length + 7) // 8 * 8
    return found


def listed(listings: Listings, size: int, on_page: object = None) -> list[str]:
    """Return the names that a reader sees who asks for so many bytes at a time."""
    seen: list[str] = []
    offset = 0
    while page := names_in(listings.read(NodeId(9), offset, size)):
        seen += [name for name, _ in page]
        offset = page[-1][1]
        if callable(on_page):
            on_page(page)
    return seen


def test_a_listing_in_small_pieces_gives_each_name_once_in_the_order_of_nodes() -> None:
    directory = Directory({f"n{i}": 100 - i for i in range(50)})
    listings = Listings(directory, directory.stat)
    assert listed(listings, 100) == [".", "..", *(f"n{i}" for i in reversed(range(50)))]
    assert directory.sorted == 1


def test_names_deleted_during_a_listing_are_left_out_and_no_other_is_missed() -> None:
    directory = Directory({f"n{i:02d}": 10 + i for i in range(50)})
    listings = Listings(directory, directory.stat)

    def delete(page: list[tuple[str, int]]) -> None:
        for name, _ in page:
            directory.entries.pop(name, None)

    assert listed(listings, 100, delete) == [".", "..", *(f"n{i:02d}" for i in range(50))]
    assert directory.entries == {}


def test_a_listing_goes_on_where_it_was_after_others_pushed_it_out_of_memory() -> None:
    directory = Directory({f"n{i:02d}": 10 + i for i in range(20)})
    listings = Listings(directory, directory.stat)
    first = names_in(listings.read(NodeId(9), 0, 200))
    for other in range(100, 120):
        listings.read(NodeId(other), 0, 200)
    del directory.entries["n01"]
    directory.entries["late"] = NodeId(99)
    rest = names_in(listings.read(NodeId(9), first[-1][1], 10_000))
    expected = [f"n{i:02d}" for i in range(20)]
    assert [name for name, _ in first + rest] == [".", "..", *expected, "late"]


def test_several_names_of_one_node_have_cookies_of_their_own() -> None:
    directory = Directory({"a": 7, "b": 7, "c": 7, "d": 8})
    listings = Listings(directory, directory.stat)
    pages = names_in(listings.read(NodeId(9), 0, 10_000))
    assert len({cookie for _, cookie in pages}) == len(pages)
    assert listed(listings, 40) == [".", "..", "a", "b", "c", "d"]


def test_readdirplus_counts_a_lookup_for_what_it_gives_and_not_for_dots() -> None:
    directory = Directory({"a": 7, "b": 8, "c": 9})
    listings = Listings(directory, directory.stat)
    counted: list[NodeId] = []
    data = listings.read_plus(NodeId(9), 0, 4 * (ENTRY_SIZE + 32), counted.append)
    assert [name for name, _ in names_in(data, plus=True)] == [".", "..", "a", "b"]
    assert counted == [7, 8]
