"""Real editors save in a mount: one save at the server, nothing of their own there, and no "changed on disk".

Each edits, saves, and waits until the server has it and a listing was taken in; then it asks itself whether the file is
still the one that it knows, and saves again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from engine_harness import run
from real_programs import TRANSPORTS, Desk, at_desk, need, vim_words
from request_log import RequestLog

pytestmark = pytest.mark.mount

SAVE = ["create", "update", "update", "delete"]
NAME = "notes.txt"


Scenario = Callable[[Desk], Coroutine[object, object, None]]


def at(log: RequestLog, folder: Path, scenario: Scenario, transport: str = "kernel") -> None:
    """Run a scenario at a workspace with one file."""

    async def bounded() -> None:
        async with at_desk(log, folder, {NAME: b"first\n"}, transport) as desk:
            assert await desk.read(NAME) == b"first\n"
            await scenario(desk)

    run(bounded())


async def saved(desk: Desk, content: bytes) -> None:
    """Check that a save has come to the server, as one, and that nothing else ever was there."""
    await desk.settle()
    assert desk.asked == SAVE
    assert desk.log.ever == {NAME}
    assert desk.tree == {NAME: content}
    desk.log.forget()


# ----------------------------------------------------------------------------------------------------------- vim

KEEPS_INODE = {"yes": True, "no": False, "auto": None, "yes,breakhardlink": True}


@pytest.mark.parametrize("backup_copy", KEEPS_INODE)
def test_vim_saves_twice_and_does_not_find_the_file_changed(log: RequestLog, tmp_path: Path, backup_copy: str) -> None:
    need("vim")

    async def scenario(desk: Desk) -> None:
        stop, noticed = desk.stop(), desk.outside / "noticed"
        before = await desk.stat(NAME)
        commands = [
            f"set backupskip= backup writebackup backupcopy={backup_copy}",
            f"autocmd FileChangedShell * call writefile([v:fcs_reason], '{noticed}', 'a')",
            "call setline(1, 'second') | write | preserve",
            f'call system("{stop.words}") | checktime',
            "call setline(1, 'third') | write",
            f'call system("{stop.words}") | checktime',
            "qall",
        ]
        vim = asyncio.create_task(desk.run("vim", *vim_words(commands), NAME))
        for content in (b"second\n", b"third\n"):
            await stop.reached()
            await saved(desk, content)
            after = await desk.stat(NAME)
            await stop.leave()
        await vim
        assert not noticed.exists()
        if (keeps := KEEPS_INODE[backup_copy]) is not None:
            assert (after.st_ino == before.st_ino) is keeps
        await desk.settle()
        assert (desk.asked, desk.log.ever) == ([], {NAME})  # its backup and swap files have stayed here
        assert sorted(await asyncio.to_thread(os.listdir, desk.programs.point)) == [NAME, f"{NAME}~"]

    at(log, tmp_path, scenario)


def test_vim_does_find_a_file_changed_that_the_server_changed(log: RequestLog, tmp_path: Path) -> None:
    need("vim")

    async def scenario(desk: Desk) -> None:
        stop, noticed = desk.stop(), desk.outside / "noticed"
        commands = [
            f"autocmd FileChangedShell * call writefile([v:fcs_reason], '{noticed}', 'a')",
            f'call system("{stop.words}") | checktime',
            "qall",
        ]
        vim = asyncio.create_task(desk.run("vim", *vim_words(commands), NAME))
        await stop.reached()
        await asyncio.to_thread(desk.log.server.put_item, desk.job, NAME, b"theirs, and longer\n")
        await desk.settle()
        await stop.leave()
        await vim
        assert noticed.read_text() == "changed\n"

    at(log, tmp_path, scenario)


# --------------------------------------------------------------------------------------------------------- emacs

BACKUPS = {
    "by renaming": "(setq backup-by-copying nil)",
    "by copying": "(setq backup-by-copying t)",
    "none": "(setq make-backup-files nil)",
    "precious": "(setq file-precious-flag t)",
}


@pytest.mark.parametrize("backup", BACKUPS)
def test_emacs_saves_twice_and_does_not_find_the_file_changed(log: RequestLog, tmp_path: Path, backup: str) -> None:
    need("emacs")

    async def scenario(desk: Desk) -> None:
        stop = desk.stop()
        program = f"""
            {BACKUPS[backup]}
            (setq create-lockfiles t)
            (defun save-and-wait (text)
              (erase-buffer) (insert text)
              (unless (file-symlink-p "{desk.programs.point}/.#{NAME}") (error "There is no lock"))
              (save-buffer)
              (call-process "sh" nil nil nil "-c" "{stop.words}")
              (unless (verify-visited-file-modtime) (error "The file was changed on disk")))
            (find-file "{desk.programs.point}/{NAME}")
            (save-and-wait "second\n")
            (save-and-wait "third\n")
        """
        script = desk.outside / "save.el"
        script.write_text(program)
        emacs = asyncio.create_task(desk.run("emacs", "-Q", "--batch", "-l", script))
        for content in (b"second\n", b"third\n"):
            await stop.reached()
            await saved(desk, content)
            await stop.leave()
        await emacs
        await desk.settle()
        assert (desk.asked, desk.log.ever) == ([], {NAME})

    at(log, tmp_path, scenario)


# ---------------------------------------------------------------------------------------------------------- nano


SAVE_AND_STAY, LEAVE = b"\x13", b"\x18"


@pytest.mark.parametrize("option", ["--softwrap", "--backup", "--locking"])
def test_nano_saves_twice_and_does_not_find_the_file_changed(log: RequestLog, tmp_path: Path, option: str) -> None:
    need("nano")

    async def scenario(desk: Desk) -> None:
        before = await desk.stat(NAME)
        async with desk.programs.on_terminal("nano", "--ignorercfiles", option, NAME) as terminal:
            await terminal.shows(b"first")
            for keyed, content in ((b"second ", b"second first\n"), (b"third ", b"second third first\n")):
                terminal.type(keyed + SAVE_AND_STAY)
                await terminal.shows(b"Wrote 1 line")
                await saved(desk, content)
            terminal.type(LEAVE)
        await desk.settle()
        assert (desk.asked, desk.log.ever) == ([], {NAME})
        assert (await desk.stat(NAME)).st_ino == before.st_ino
        left = {NAME, f"{NAME}~"} if option == "--backup" else {NAME}
        assert set(await asyncio.to_thread(os.listdir, desk.programs.point)) == left

    at(log, tmp_path, scenario)


# --------------------------------------------------------------------------------------------------- in one line

ONE_LINERS = {
    "sed -i": ("sed", "-i", "s/first/second/", NAME),
    "perl -i": ("perl", "-i", "-pe", "s/first/second/", NAME),
    "ed": ("sh", "-c", f"printf '1s/first/second/\\nw\\nq\\n' | ed -s {NAME}"),
    "a shell": ("sh", "-c", f"echo second > {NAME}"),
    "mv": ("sh", "-c", f"echo second > .{NAME}.tmp && mv .{NAME}.tmp {NAME}"),
    "cp": ("sh", "-c", f"echo second > ../outside/new && cp ../outside/new {NAME}"),
    "install": ("sh", "-c", f"echo second > ../outside/new && install -m 644 ../outside/new {NAME}"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("words", ONE_LINERS.values(), ids=list(ONE_LINERS))
def test_a_program_that_edits_in_place_makes_one_save(
    log: RequestLog, tmp_path: Path, words: tuple[str, ...], transport: str
) -> None:
    need(words[0], *(["ed"] if "| ed" in words[-1] else []))

    async def scenario(desk: Desk) -> None:
        await desk.run(*words)
        await saved(desk, b"second\n")

    at(log, tmp_path, scenario, transport=transport)
