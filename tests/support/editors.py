"""What editors and programs do to the files of a folder, step by step, when they save a document."""

from __future__ import annotations

import asyncio

from engine_harness import Mounted

DOCUMENT = "docs/report.odt"

EDITORS = {
    "vim backupcopy=no": "write .NAME.swp, rest, move NAME NAME~, save NAME, remove NAME~, remove .NAME.swp",
    "vim backupcopy=yes": "write .NAME.swp, rest, write NAME~, save NAME, remove NAME~, remove .NAME.swp",
    "vim backupcopy=auto": "write .NAME.swp, rest, write 4913, remove 4913, move NAME NAME~, save NAME, remove NAME~,"
    " remove .NAME.swp",
    "VS Code": "save NAME",
    "JetBrains": "save NAME___jb_tmp___, move NAME NAME___jb_old___, move NAME___jb_tmp___ NAME,"
    " remove NAME___jb_old___",
    "gedit": "save .goutputstream-AB12CD, move .goutputstream-AB12CD NAME",
    "emacs": "write .#NAME, rest, move NAME NAME~, save NAME, remove .#NAME",
    "LibreOffice": "write .~lock.NAME#, rest, save lu8731x5j.tmp, move lu8731x5j.tmp NAME, remove .~lock.NAME#",
    "Word": "write ~$NAME, rest, save ~WRD0000.tmp, move NAME ~WRL0001.tmp, move ~WRD0000.tmp NAME,"
    " remove ~WRL0001.tmp, remove ~$NAME",
    "Excel": "write ~$NAME, rest, save 5C3A1F00, move NAME A1B2C3D4.tmp, move 5C3A1F00 NAME, remove A1B2C3D4.tmp,"
    " remove ~$NAME",
    "a temporary file": "save NAME.tmp, move NAME.tmp NAME",
    "sed -i": "save sedAbc123, move sedAbc123 NAME",
}
"""From opening a document to closing it. ``save`` writes the new version, ``write`` something of the editor's own; at
``rest`` the user types, and whatever the editor has made so far would go out if it could."""


async def edit(mount: Mounted, steps: str, *, pause_s: float = 0.0) -> None:
    """Do what an editor does, each step a pause after the one before."""
    above, _, name = DOCUMENT.rpartition("/")
    for step in steps.split(", "):
        verb, *places = step.split()
        paths = [f"{above}/{place.replace('NAME', name)}" for place in places]
        match verb:
            case "rest":
                await mount.settle()
            case "save":
                await mount.write(*paths, b"new")
            case "write":
                await mount.write(*paths, b"the editor's own")
            case "move":
                await mount.rename(*paths)
            case "remove":
                mount.vfs.unlink(*mount.place(*paths))
            case _:
                raise AssertionError(step)
        if pause_s:
            await asyncio.sleep(pause_s)
