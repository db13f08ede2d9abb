"""What is measured side by side: the plain disk, a mount of jobfs by each transport, and rclone's.

Every place is given the same files. A *mount* is one stretch of using a place with empty caches; for jobfs that means a
new state folder. Programs that serve a mount run at the near end of the link, servers at its far end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from link import Side

DEADLINE_S = 90.0
_START_S = 30.0
_LOOK_S = 0.002
"""How often a folder is looked at where nothing tells of changes."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Files that are there before the mount: so many of one size in a folder, or a single one at its path."""

    path: str
    files: int
    size: int
    a_directory: int = 100


class Mount(Protocol):
    """One stretch of using a place.

    Attributes: ``root``, where its files are; ``ready_s``, what it took to make it usable.
    """

    root: Path
    ready_s: float

    def arrived(self, path: str, files: int, size: int, deadline_s: float = DEADLINE_S) -> float:
        """Wait until the far end holds so many files with so many bytes in all at a path or below; return when.

        :raises TimeoutError: it does not come to that.
        """

    def resident_mib(self) -> float:
        """Return the memory of the program that serves it."""


class Place(Protocol):
    """One of the things that are compared."""

    name: str

    def prepare(self, fills: Sequence[Fill]) -> None:
        """Put the files there that every mount begins with. Once."""

    def mounted(self) -> AbstractContextManager[Mount]:
        """Mount with empty caches for the length of a block."""

    def remounted(self) -> AbstractContextManager[Mount]:
        """Mount with what the last mount left here."""


# -- the plain disk


@dataclass
class _Folder:
    root: Path
    ready_s: float = 0.0

    def arrived(self, path: str, files: int, size: int, deadline_s: float = DEADLINE_S) -> float:
        return when_folder_holds(self.root / path, files, size, deadline_s)

    def resident_mib(self) -> float:
        return 0.0


def when_folder_holds(path: Path, files: int, size: int, deadline_s: float) -> float:
    """Wait until a folder or file holds so many files with so many bytes in all; return when."""
    until_s = time.monotonic() + deadline_s
    while held(path) != (files, size):
        if time.monotonic() > until_s:
            raise TimeoutError(f"{path} does not come to hold {files} files of {size} bytes")
        time.sleep(_LOOK_S)
    return time.monotonic()


def held(path: Path) -> tuple[int, int]:
    try:
        if path.is_file():
            return 1, path.stat().st_size
        sizes = [Path(folder, name).stat().st_size for folder, _, names in os.walk(path) for name in names]
    except FileNotFoundError:  # it is being changed
        return -1, -1
    return len(sizes), sum(sizes)


def write_files(root: Path, fills: Sequence[Fill]) -> None:
    """Write the files of fills."""
    for fill in fills:
        dice = random.Random(fill.files)
        if fill.files == 1:
            (root / fill.path).write_bytes(dice.randbytes(1 << 20) * (fill.size >> 20))
            continue
        for number in range(fill.files):
            path = root / fill.path / f"d{number // fill.a_directory:03}" / f"file{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(dice.randbytes(fill.size))


class PlainDisk:
    """A folder on the disk that the caches of the others are on."""

    name = "plain disk"

    def __init__(self, base: Path) -> None:
        self._root = base / "plain"

    def prepare(self, fills: Sequence[Fill]) -> None:
        self._root.mkdir()
        write_files(self._root, fills)

    @contextmanager
    def mounted(self) -> Iterator[Mount]:
        yield _Folder(self._root)

    remounted = mounted


# -- jobfs


class FarEnd:
    """The server process.

    :param source: the checkout whose server it is.
    :param switches: of it, as ``NAME=VALUE``.
    """

    def __init__(self, folder: Path, side: Side | None, source: Path, switches: Sequence[str] = ()) -> None:
        address = side.address if side is not None else "127.0.0.1"
        command = [sys.executable, str(Path(__file__).with_name("far.py")), str(folder), address, *switches]
        if side is not None:
            command = [*side.entering, *command]
        environment = os.environ | {"PYTHONPATH": str(source / "src")}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        told = self._answer()
        self.url, self.key = told["url"], told["key"]

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def ask(self, do: str, **order: object) -> Any:
        """Have something done there; returns the answer."""
        if self._process.stdin is None:
            raise AssertionError("a pipe was asked for")
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        if self._process.stdout is None:
            raise AssertionError("a pipe was asked for")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the server has ended")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


@dataclass
class _JobfsMount:
    root: Path
    ready_s: float
    far: FarEnd
    job: str
    state: Path

    def arrived(self, path: str, files: int, size: int, deadline_s: float = DEADLINE_S) -> float:
        order = {"job": self.job, "path": path, "files": files, "size": size, "deadline_s": deadline_s}
        at_s = self.far.ask("when_holds", **order)
        if at_s is None:
            raise TimeoutError(f"{path} does not come to hold {files} files of {size} bytes")
        return float(at_s)

    def resident_mib(self) -> float:
        return resident_mib(f"JOBFS_STATE_DIR={self.state}\0".encode())


class Jobfs:
    """The program as a user runs it.

    :param source: the checkout that it comes from.
    """

    def __init__(self, base: Path, far: FarEnd, transport: str, near: Side | None, *, source: Path) -> None:
        self.name = f"jobfs ({transport})"
        self._base = base / f"jobfs-{transport}"
        self._far = far
        self._transport = transport
        self._source = source
        self._entering = near.entering if near is not None else []
        self._job = ""
        self._count = 0

    def prepare(self, fills: Sequence[Fill]) -> None:
        self._base.mkdir()
        self._job = self._far.ask("job")
        for fill in fills:
            if fill.files == 1:
                self._far.ask("put", job=self._job, path=fill.path, size=fill.size)
            else:
                self._far.ask(
                    "fill",
                    job=self._job,
                    folder=fill.path,
                    files=fill.files,
                    size=fill.size,
                    a_directory=fill.a_directory,
                )

    def mounted(self) -> AbstractContextManager[Mount]:
        self._count += 1
        return self.remounted()

    @property
    def state(self) -> Path:
        """The state folder of the present mount."""
        return self._base / f"state-{self._count}"

    def plain_download(self, path: str) -> None:
        """Download a file with the library that this is made with, and nothing else."""
        url = self._far.url + self._far.ask("download_path", job=self._job, path=path)
        command = [*self._entering, sys.executable, str(Path(__file__).with_name("download.py")), url]
        subprocess.run(command, env=os.environ | {"JOBFS_API_KEY": self._far.key}, check=True)

    @contextmanager
    def remounted(self) -> Iterator[Mount]:
        point, state = self._base / "mnt", self.state
        point.mkdir(exist_ok=True)
        began_s = time.monotonic()
        self._jobfs(state, "mount", "--transport", self._transport, "--no-fallback", "--yes", self._job, str(point))
        ready_s = time.monotonic() - began_s
        try:
            yield _JobfsMount(point, ready_s, self._far, self._job, state)
        finally:
            self._jobfs(state, "umount", str(point))

    def _jobfs(self, state: Path, *arguments: str) -> None:
        environment = os.environ | {
            "JOBFS_URL": self._far.url,
            "JOBFS_API_KEY": self._far.key,
            "JOBFS_STATE_DIR": str(state),
            "PYTHONPATH": str(self._source / "src"),
            "PYTHONPYCACHEPREFIX": str(self._base.parent / "bytecode"),  # compiled once, as an installed package is
            "PYTHONDONTWRITEBYTECODE": "",
        }
        command = [*self._entering, sys.executable, "-m", "jobfs", *arguments]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def resident_mib(mark: bytes) -> float:
    """Return the memory of the largest process that has some bytes in its environment or its command."""
    found = [0.0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() or mark in (process / "cmdline").read_bytes():
                found.append(int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
        except OSError:
            continue  # it has ended
    return max(found)


# -- rclone


@dataclass
class _RcloneMount:
    root: Path
    ready_s: float
    served: Path

    def arrived(self, path: str, files: int, size: int, deadline_s: float = DEADLINE_S) -> float:
        return when_folder_holds(self.served / path, files, size, deadline_s)

    def resident_mib(self) -> float:
        return resident_mib(f"\0{self.root}\0".encode())


class Rclone:
    """rclone's mount over rclone's WebDAV server, tuned: everything cached, long lifetimes, writes sent at once."""

    name = "rclone"
    _TUNED = (
        "--vfs-cache-mode=full",
        "--vfs-write-back=30ms",
        "--dir-cache-time=1h",
        "--attr-timeout=1h",
        "--transfers=16",
        "--webdav-vendor=other",
    )

    def __init__(self, base: Path, near: Side | None, far: Side | None) -> None:
        self._base = base / "rclone"
        self._served = self._base / "served"
        self._near = near.entering if near is not None else []
        self._far = far
        self._count = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._url = ""

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("rclone") is not None

    def prepare(self, fills: Sequence[Fill]) -> None:
        self._served.mkdir(parents=True)
        write_files(self._served, fills)
        address = self._far.address if self._far is not None else "127.0.0.1"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        entering = self._far.entering if self._far is not None else []
        serve = ["rclone", "serve", "webdav", str(self._served), "--addr", f"{address}:{port}", "--dir-cache-time=0s"]
        self._server = subprocess.Popen([*entering, *serve], stderr=subprocess.DEVNULL)
        self._url = f"http://{address}:{port}"

    def mounted(self) -> AbstractContextManager[Mount]:
        self._count += 1
        return self.remounted()

    @contextmanager
    def remounted(self) -> Iterator[Mount]:
        point, cache = self._base / "mnt", self._base / f"cache-{self._count}"
        point.mkdir(exist_ok=True)
        mount = ["rclone", "mount", ":webdav:", str(point), "--webdav-url", self._url, "--cache-dir", str(cache)]
        began_s = time.monotonic()
        daemon = subprocess.Popen([*self._near, *mount, *self._TUNED], stderr=subprocess.DEVNULL)
        while not point.is_mount():
            if daemon.poll() is not None or time.monotonic() - began_s > _START_S:
                raise SystemExit("rclone mount failed")
            time.sleep(_LOOK_S)
        try:
            yield _RcloneMount(point, time.monotonic() - began_s, self._served)
        finally:
            daemon.send_signal(signal.SIGINT)
            daemon.wait()
            if point.is_mount():
                subprocess.run(["fusermount3", "-uz", str(point)], check=True)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
