"""The workloads: ordinary programs on a mount, and how long each takes. Each gives samples by the key of its figure."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from figures import BIG_BYTES, MANY, SMALL_BYTES
from places import Fill, Mount, write_files

Samples = dict[str, float]
Workload = Callable[[Mount, "Material"], Samples]

COLD = 500
UNTARRED = 1000
CLONED = 500
_SAVED_BYTES = 2000
_RANDOM_READS = 100
_READERS = 8
_SETTLE_S = 30.0

NEAR_FILLS = (
    Fill("many", MANY, SMALL_BYTES),
    Fill("big", 1, BIG_BYTES),
)
FAR_FILLS = (
    Fill("many", MANY - 2 * COLD, SMALL_BYTES),
    Fill("cold-1", COLD, SMALL_BYTES),
    Fill("cold-8", COLD, SMALL_BYTES),
    Fill("big-first", 1, BIG_BYTES),
    Fill("big-whole", 1, BIG_BYTES),
    Fill("big-random", 1, BIG_BYTES),
)
SMALL_FILLS = (Fill("some", 989, SMALL_BYTES),)
"""With their directories a thousand items."""


class Material:
    """An archive and a git repository on the plain disk, for all places alike."""

    def __init__(self, base: Path) -> None:
        self.archive = base / "files.tar"
        self.repository = base / "repository"
        self._count = 0
        with tempfile.TemporaryDirectory(dir=base) as folder:
            write_files(Path(folder), [Fill("tree", UNTARRED, SMALL_BYTES)])
            with tarfile.open(self.archive, "w") as archive:
                archive.add(Path(folder, "tree"), ".")
        write_files(base, [Fill("repository", CLONED, 1000, 50)])
        git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.test", "-C", str(self.repository)]
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
            subprocess.run([*git, *command], check=True)

    def fresh(self, word: str) -> str:
        """Return a name that nothing has had."""
        self._count += 1
        return f"{word}-{self._count}"


def timed(folder: Path, command: str) -> float:
    """Run a shell command in a folder; return its seconds."""
    began_s = time.monotonic()
    subprocess.run(["sh", "-c", command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began_s


def settle(mount: Mount, name: str) -> None:
    """Wait until what was removed is gone at the far end too, so that it is not in the way of what comes next.

    Not everything that is compared gets that far: rclone may send a file again that was removed just after its upload.
    """
    with suppress(TimeoutError):
        mount.arrived(name, 0, 0, _SETTLE_S)


# -- reading what is here


def warm_many(mount: Mount, _: Material) -> Samples:
    cat = "find many -type f -print0 | xargs -0 cat"
    timed(mount.root, cat)  # a machine that takes memory back from caches may have done so since the last round
    sizes = r"find many -type f -printf '%s\n'"
    timed(mount.root, sizes)  # and a kernel forgets the times of what it has read
    return {
        "find": timed(mount.root, "find many -type f"),
        "stat": timed(mount.root, sizes),
        "cat": timed(mount.root, cat),
    }


def warm_big(mount: Mount, _: Material) -> Samples:
    timed(mount.root, "cat big")
    return {"reread": timed(mount.root, "cat big")}


# -- writing


def trees(mount: Mount, material: Material) -> Samples:
    name, moved = material.fresh("tree"), material.fresh("moved")
    (mount.root / name).mkdir()
    began_s = time.monotonic()
    untar_s = timed(mount.root, f"tar xf {material.archive} -C {name}")
    there_s = mount.arrived(name, UNTARRED, UNTARRED * SMALL_BYTES) - began_s
    began_s = time.monotonic()
    (mount.root / name).rename(mount.root / moved)
    moved_s = mount.arrived(moved, UNTARRED, UNTARRED * SMALL_BYTES) - began_s
    began_s = time.monotonic()
    rm_s = timed(mount.root, f"rm -r {moved}")
    gone_s = mount.arrived(moved, 0, 0) - began_s
    return {"untar": untar_s, "untar-there": there_s, "rename-there": moved_s, "rm": rm_s, "rm-there": gone_s}


def big_write(mount: Mount, material: Material) -> Samples:
    name = material.fresh("written")
    began_s = time.monotonic()
    write_s = timed(mount.root, f"dd if=/dev/zero of={name} bs=1M count={BIG_BYTES >> 20} status=none")
    there_s = mount.arrived(name, 1, BIG_BYTES) - began_s
    (mount.root / name).unlink()
    settle(mount, name)
    return {"write": write_s, "write-there": there_s}


def save(mount: Mount, material: Material) -> Samples:
    path = mount.root / material.fresh("saved")
    path.write_bytes(os.urandom(_SAVED_BYTES))
    mount.arrived(path.name, 1, _SAVED_BYTES)
    size = _SAVED_BYTES + 1 + random.randrange(1000)
    began_s = time.monotonic()
    path.write_bytes(os.urandom(size))
    there_s = mount.arrived(path.name, 1, size) - began_s
    path.unlink()
    settle(mount, path.name)
    return {"save-there": there_s}


def git(mount: Mount, material: Material) -> Samples:
    name = material.fresh("clone")
    clone_s = timed(mount.root, f"git clone -q --no-hardlinks {material.repository} {name}")
    timed(mount.root / name, "git status")
    status_s = timed(mount.root / name, "git status")
    shutil.rmtree(mount.root / name)
    settle(mount, name)
    return {"clone": clone_s, "status": status_s}


# -- reading what is not here


def cold_tree(mount: Mount, _: Material) -> Samples:
    return {"mount": mount.ready_s, "ls": timed(mount.root, "ls -lR")}


def cold_files(mount: Mount, _: Material) -> Samples:
    return {
        "cat": timed(mount.root, "cat cold-1/*/*"),
        "cat-8": timed(mount.root, f"printf '%s\\n' cold-8/*/* | xargs -P {_READERS} -n {COLD // _READERS + 1} cat"),
    }


def cold_big(mount: Mount, _: Material) -> Samples:
    """What goes on in the background is waited for after each: the files are read to their ends."""
    first_s = first_bytes(mount.root / "big-first")
    timed(mount.root, "cat big-first")
    random_s = random_reads(mount.root / "big-random")
    timed(mount.root, "cat big-random")
    return {"first": first_s, "random": random_s, "whole": timed(mount.root, "cat big-whole")}


def first_bytes(path: Path) -> float:
    """Return how long the first 64 KiB of a file take."""
    began_s = time.monotonic()
    with path.open("rb", buffering=0) as file:
        file.read(64 << 10)
        return time.monotonic() - began_s


def random_reads(path: Path) -> float:
    """Return how long a hundred small reads anywhere in the large file take, one after the other."""
    began_s = time.monotonic()
    with path.open("rb", buffering=0) as file:
        for at in random_places():
            if len(os.pread(file.fileno(), SMALL_BYTES, at)) != SMALL_BYTES:
                raise SystemExit("a short read")
    return time.monotonic() - began_s


def random_places() -> Iterator[int]:
    """Yield page-aligned places in the large file, the same each time."""
    dice = random.Random(2)
    for _ in range(_RANDOM_READS):
        yield dice.randrange(BIG_BYTES // SMALL_BYTES) * SMALL_BYTES


def memory(mount: Mount, _: Material) -> Samples:
    return {"resident": mount.resident_mib()}


NEAR_WORKLOADS: dict[str, Workload] = {
    "many": warm_many,
    "big": warm_big,
    "trees": trees,
    "write": big_write,
    "save": save,
    "git": git,
}
FAR_WORKLOADS: dict[str, Workload] = {
    "tree": cold_tree,
    "files": cold_files,
    "cold": cold_big,
    "trees": trees,
    "write": big_write,
    "save": save,
    "git": git,
    "memory": memory,
}
