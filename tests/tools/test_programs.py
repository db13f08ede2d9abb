"""Programs of developers in a mount: right bytes on the server, and nothing there that they made for themselves."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path

import pytest
from engine_harness import run
from real_programs import TRANSPORTS, Desk, at_desk, need
from request_log import Files, RequestLog

pytestmark = pytest.mark.mount

SOURCE = b"""#include <stdio.h>
#include "greeting.h"
int main(void) { puts(GREETING); return 0; }
"""
MAKEFILE = b"""hello: main.o
\tcc -o $@ main.o
main.o: main.c greeting.h
\tcc -c -o $@ main.c
"""

Scenario = Callable[[Desk], Coroutine[object, object, None]]


def at(log: RequestLog, folder: Path, files: Files, scenario: Scenario, transport: str = "kernel") -> None:
    """Run a scenario at a workspace with some files."""

    async def bounded() -> None:
        async with at_desk(log, folder, files, transport) as desk:
            await scenario(desk)

    run(bounded())


def below(folder: Path) -> dict[str, bytes | None]:
    """Return what is in a plain directory, as the server's tree is told."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


# ----------------------------------------------------------------------------------------------------------- git


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_git_clones_commits_rebases_and_collects_garbage(log: RequestLog, tmp_path: Path, transport: str) -> None:
    need("git")

    async def scenario(desk: Desk) -> None:
        origin = desk.outside / "origin"
        await desk.programs.git("init", "-q", "-b", "main", str(origin))
        (origin / "src").mkdir()
        (origin / "src" / "a.py").write_bytes(b"print('a')\n")
        (origin / "run").write_bytes(b"#!/bin/sh\n")
        (origin / "run").chmod(0o755)
        await desk.programs.git("-C", str(origin), "add", ".")
        await desk.programs.git("-C", str(origin), "commit", "-q", "-m", "one")
        git = desk.programs.git
        await git("clone", "-q", str(origin), "work")
        await desk.settle()
        first = {"work": None, "work/run": b"#!/bin/sh\n", "work/src": None, "work/src/a.py": b"print('a')\n"}
        assert desk.tree == first

        await git("-C", "work", "switch", "-q", "-c", "topic")
        await desk.run("sh", "-c", "echo b > work/src/b.py; echo a2 > work/src/a.py")
        await git("-C", "work", "add", ".")
        await git("-C", "work", "commit", "-q", "-m", "two")
        (origin / "c.py").write_bytes(b"c\n")
        await git("-C", str(origin), "add", ".")
        await git("-C", str(origin), "commit", "-q", "-m", "three")
        await git("-C", "work", "pull", "-q", "--rebase", "origin", "main")
        await git("-C", "work", "gc", "-q", "--prune=now")
        await git("-C", "work", "fsck", "--strict", "--no-progress")
        await desk.settle()
        assert await git("-C", "work", "status", "--porcelain") == ""
        assert (await git("-C", "work", "log", "--format=%s")).split() == ["two", "three", "one"]
        assert desk.tree == first | {"work/c.py": b"c\n", "work/src/a.py": b"a2\n", "work/src/b.py": b"b\n"}
        assert desk.log.ever <= set(desk.tree)

    at(log, tmp_path, {}, scenario, transport)


# -------------------------------------------------------------------------------------------------------- sqlite


FILL = """
CREATE TABLE t (n INTEGER, s TEXT);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000)
    INSERT INTO t SELECT n, printf('row %d', n) FROM c;
BEGIN; UPDATE t SET s = 'changed' WHERE n % 7 = 0; COMMIT;
"""
COUNT = "SELECT count(*), sum(s = 'changed') FROM t; PRAGMA integrity_check;"


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_keeps_what_is_not_part_of_a_database_to_itself(log: RequestLog, tmp_path: Path, mode: str) -> None:
    need("sqlite3")

    async def scenario(desk: Desk) -> None:
        stop = desk.stop()
        words = f"PRAGMA journal_mode={mode};{FILL}BEGIN; DELETE FROM t;\n.shell {stop.words}\nROLLBACK;\n"
        script = desk.outside / "script.sql"
        script.write_text(words)
        program = asyncio.create_task(desk.run("sh", "-c", f"sqlite3 data.db < {script}"))
        await stop.reached()
        await desk.settle()  # in the middle of a transaction, with everything open
        await stop.leave()
        assert await program == f"{mode}\n"
        assert (await desk.run("sqlite3", "data.db", COUNT)).split() == ["5000|714", "ok"]
        await desk.settle()
        assert desk.log.ever == {"data.db", {"delete": "data.db-journal", "wal": "data.db-wal"}[mode]}
        assert set(desk.tree) == {"data.db"}
        assert counted(desk) == (5000, 714)

    at(log, tmp_path, {}, scenario)


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_database_that_is_open_for_a_moment_is_all_that_is_ever_on_the_server(
    log: RequestLog, tmp_path: Path, mode: str, transport: str
) -> None:
    need("sqlite3")

    async def scenario(desk: Desk) -> None:
        await desk.run("sqlite3", "data.db", f"PRAGMA journal_mode={mode};{FILL}")
        await desk.settle()
        assert (desk.asked, desk.log.ever) == (["create"], {"data.db"})
        assert counted(desk) == (5000, 714)

    at(log, tmp_path, {}, scenario, transport)


def counted(desk: Desk) -> tuple[int, int]:
    """Return what is in the server's copy of the database."""
    copy = desk.outside / "copy.db"
    copy.write_bytes(desk.tree["data.db"] or b"")
    with closing(sqlite3.connect(copy)) as database:
        return database.execute("SELECT count(*), sum(s = 'changed') FROM t").fetchone()


# ----------------------------------------------------------------------------------------------- rsync, tar, cp


@pytest.mark.parametrize("options", ["-a", "-a --inplace", "-a --checksum", "-a --delay-updates"])
def test_rsync_sends_each_file_once_and_nothing_the_second_time(log: RequestLog, tmp_path: Path, options: str) -> None:
    need("rsync")

    async def scenario(desk: Desk) -> None:
        source = desk.outside / "source"
        (source / "d").mkdir(parents=True)
        for name, size in (("a", 10), ("d/b", 300_000), ("run", 20)):
            (source / name).write_bytes(os.urandom(size))
            os.utime(source / name, ns=(10**18, 10**18 + 123_456_789))
        (source / "run").chmod(0o755)
        words = ["rsync", *options.split(), "--itemize-changes", f"{source}/", "copy/"]
        await desk.run(*words)
        await desk.settle()
        assert desk.tree == {"copy": None} | {f"copy/{path}": data for path, data in below(source).items()}
        assert desk.log.ever <= set(desk.tree)
        assert desk.asked.count("create") == 5
        assert await desk.run(*words) == ""  # times and modes are as rsync set them, also after the push
        (source / "d" / "b").write_bytes(os.urandom(300_000))
        desk.log.forget()
        assert (await desk.run(*words)).split() == [">f..t......", "d/b"] or "--checksum" in options
        await desk.settle()
        assert desk.asked == ["create", "update", "update", "delete"]
        assert desk.tree["copy/d/b"] == (source / "d" / "b").read_bytes()
        assert desk.log.ever <= set(desk.tree)

    at(log, tmp_path, {}, scenario)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_tar_and_cp_take_trees_in_and_out_with_times_and_modes(log: RequestLog, tmp_path: Path, transport: str) -> None:
    need("tar")

    async def scenario(desk: Desk) -> None:
        source = desk.outside / "source"
        (source / "deep" / "er").mkdir(parents=True)
        (source / "deep" / "er" / "run").write_bytes(b"#!/bin/sh\n")
        (source / "deep" / "er" / "run").chmod(0o755)
        (source / "deep" / "read only").write_bytes(b"r")
        (source / "deep" / "read only").chmod(0o444)
        (source / "empty").touch()
        for path in (*source.rglob("*"), source):
            os.utime(path, ns=(10**18, 10**18 + 7))
        await desk.run("sh", "-c", f"tar -C {desk.outside} --format=posix -cf - source | tar -xf -")
        await desk.settle()
        assert desk.tree == {"source": None} | {f"source/{path}": data for path, data in below(source).items()}
        assert desk.log.ever <= set(desk.tree)
        assert await desk.run("tar", "-C", ".", "-df", await packed(desk, source)) == ""  # compared: no difference
        await desk.run("cp", "-a", "source", "copy")
        await desk.settle()
        assert await desk.run("diff", "-r", "source", "copy") == ""
        await desk.run("cp", "-a", "copy", desk.outside / "back")
        assert {path: stat_of(desk.outside / "back" / path) for path in below(source)} == {
            path: stat_of(source / path) for path in below(source)
        }

    at(log, tmp_path, {}, scenario, transport)


async def packed(desk: Desk, source: Path) -> Path:
    """Return an archive of a directory."""
    archive = desk.outside / "source.tar"
    await desk.run("tar", "-C", source.parent, "--format=posix", "-cf", archive, source.name)
    return archive


def stat_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mode, found.st_mtime_ns, found.st_size if path.is_file() else 0


# ----------------------------------------------------------------------------------------------------- compilers


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_make_builds_what_is_new_and_nothing_the_second_time(log: RequestLog, tmp_path: Path, transport: str) -> None:
    need("make", "cc")

    async def scenario(desk: Desk) -> None:
        await desk.run("make")
        assert await desk.run("./hello") == "hello\n"
        await desk.settle()
        assert set(desk.tree) == {*files, "hello", "main.o"}
        assert desk.log.ever == set(desk.tree)
        assert "up to date" in await desk.run("make")  # as times are after the push
        await desk.run("sed", "-i", "s/hello/goodbye/", "greeting.h")
        await desk.settle()
        await desk.run("make")
        assert await desk.run("./hello") == "goodbye\n"
        await desk.settle()
        assert b"goodbye" in (desk.tree["hello"] or b"")
        assert desk.log.ever == set(desk.tree)

    files = {"main.c": SOURCE, "Makefile": MAKEFILE, "greeting.h": b'#define GREETING "hello"\n'}
    at(log, tmp_path, files, scenario, transport)


# ------------------------------------------------------------------------------------------------------ packages


def archive_of(folder: Path) -> Path:
    """Make a package for npm."""
    path = folder / "thing-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (
            ("package/package.json", b'{"name": "thing", "version": "1.0.0", "bin": {"thing": "./thing.js"}}'),
            ("package/thing.js", b"#!/usr/bin/env node\nconsole.log('the thing');\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return path


def test_npm_installs_and_only_what_the_user_keeps_is_on_the_server(log: RequestLog, tmp_path: Path) -> None:
    need("npm", "node")

    async def scenario(desk: Desk) -> None:
        words = ("--offline", "--no-audit", "--no-fund", "--no-update-notifier")
        await desk.run("npm", "install", *words, archive_of(desk.outside))
        assert await desk.run("node_modules/.bin/thing") == "the thing\n"  # by a symbolic link
        await desk.settle()
        assert set(desk.tree) == {"package.json", "package-lock.json"}
        assert b"thing-1.0.0.tgz" in (desk.tree["package.json"] or b"")
        assert desk.log.ever == set(desk.tree)
        await desk.run("npm", "uninstall", *words, "thing")
        await desk.settle()
        assert desk.tree["package.json"] == b"{}\n"
        assert desk.log.ever == set(desk.tree)

    at(log, tmp_path, {"package.json": b"{}\n"}, scenario)


def wheel_of(folder: Path) -> Path:
    """Make a package for pip."""
    path = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("thing.py", "def main():\n    print('the thing')\n")
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr(
            "thing-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("thing-1.0.dist-info/entry_points.txt", "[console_scripts]\nthing = thing:main\n")
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    return path


def test_pip_installs_into_an_environment_that_stays_local_and_into_a_folder_that_does_not(
    log: RequestLog, tmp_path: Path
) -> None:
    async def scenario(desk: Desk) -> None:
        wheel = wheel_of(desk.outside)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "--python")
        install = ("install", "--no-index", "--no-deps", "--no-compile")
        await desk.run(sys.executable, "-m", "venv", "--without-pip", ".venv")
        await desk.run(*pip, ".venv/bin/python", *install, wheel)
        assert await desk.run(".venv/bin/thing") == "the thing\n"
        await desk.settle()
        assert (desk.tree, desk.log.ever) == ({}, set())
        await desk.run(*pip, ".venv/bin/python", *install, "--target", "vendor", wheel)
        assert (
            await desk.run(".venv/bin/python", "-c", "import thing; thing.main()", PYTHONPATH="vendor") == "the thing\n"
        )
        await desk.settle()
        assert desk.tree["vendor/thing.py"] == b"def main():\n    print('the thing')\n"
        assert desk.log.ever <= set(desk.tree)

    at(log, tmp_path, {}, scenario)


# --------------------------------------------------------------------------------------------------- LibreOffice


def test_libreoffice_converts_in_place_twice(log: RequestLog, tmp_path: Path) -> None:
    need("soffice")

    async def scenario(desk: Desk) -> None:
        profile = f"-env:UserInstallation=file://{desk.outside}/profile"
        words = ("soffice", profile, "--headless", "--convert-to", "odt", "--outdir", "docs", "docs/report.txt")
        await desk.run(*words)
        await desk.settle()
        assert set(desk.tree) == {"docs", "docs/report.txt", "docs/report.odt"}
        assert desk.log.ever == set(desk.tree)
        assert text_of(desk.tree["docs/report.odt"]) == "The first report"
        assert desk.asked.count("create") == 1
        desk.log.forget()
        await desk.run("sed", "-i", "s/first/second/", "docs/report.txt")
        await desk.run(*words)
        await desk.settle()
        assert text_of(desk.tree["docs/report.odt"]) == "The second report"
        assert desk.asked.count("create") == 2  # one for each of the two files
        assert desk.log.ever == set(desk.tree)

    at(log, tmp_path, {"docs/report.txt": b"The first report\n"}, scenario)


def text_of(document: bytes | None) -> str:
    """Return the text of an OpenDocument file."""
    with zipfile.ZipFile(io.BytesIO(document or b"")) as archive:
        content = archive.read("content.xml").decode()
    return re.sub("<[^>]*>", "", content.partition("<office:body>")[2])
