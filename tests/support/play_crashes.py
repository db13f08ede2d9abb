"""Kill a mount's daemon and its server, again and again, while programs edit. Run by ``scripts/crash``.

A round: two programs edit, each a directory of its own; the daemon is killed, and in half of the rounds the server, one
shortly after the other. Then ``jobfs fsck`` has to find the state sound, and the server's own folder has to hold
together; both are started again, and once everything is sent, mount and server have to be alike, without a hidden item,
and with every version that was closed and that no program gave up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from awaiting import wait_for_end
from commands import Outcome, in_process
from random_edits import Editor, Record, tree
from studio_process import StudioProcess

from jobfs.fuse.mounting import detach, mount_at

EDITED_S = (0.1, 0.9)
APART_S = 0.2
REST_S = 0.03
TRANSPORTS = ("kernel", "fusepy")
SETTLE_S = 60


@dataclass
class Tally:
    """What was played, and what was found to be wrong."""

    daemons: int = 0
    servers: int = 0
    closed: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.daemons} daemons and {self.servers} servers killed, {self.closed} versions closed"


class Crashes:
    """One mount on one server, both of which die."""

    def __init__(self, base: Path, seed: int) -> None:
        self._dice = random.Random(seed)
        self._base = base
        self.point = base / "mnt"
        self.point.mkdir()
        self.server = StudioProcess(base / "studio")
        self.record = Record()
        self.tally = Tally()
        self._job = ""

    def play(self, rounds: int) -> Tally:
        """Play rounds until one is wrong."""
        with ExitStack() as stack:
            stack.enter_context(self.server)
            stack.enter_context(patch.dict(os.environ, self._settings()))
            self._job = self.server.create_job()
            self._mount()
            stack.callback(self._take_away)
            editors = [self._editor(label) for label in ("first", "second")]
            for editor in editors:
                stack.callback(editor.stop)
            for number in range(rounds):
                self.tally.wrong += self._round(editors)
                self.tally.closed = len(self.record.closed)
                if self.tally.wrong:
                    self.tally.wrong.insert(0, f"round {number}:")
                    break
        return self.tally

    def _editor(self, label: str) -> Editor:
        dice = random.Random(self._dice.random())
        return Editor(self.point / label, label, self.record, dice, has_large=True, rest_s=REST_S)

    def _settings(self) -> dict[str, str]:
        return {
            "JOBFS_CONFIG_DIR": str(self._base / "config"),
            "JOBFS_STATE_DIR": str(self._base / "state"),
            "JOBFS_URL": self.server.url,
            "JOBFS_API_KEY": self.server.api_key,
        }

    def _round(self, editors: list[Editor]) -> list[str]:
        time.sleep(self._dice.uniform(*EDITED_S))
        deaths = [self._kill_daemon, self._kill_server][: self._dice.choice((1, 2))]
        self._dice.shuffle(deaths)
        for death in deaths:
            death()
            time.sleep(self._dice.uniform(0, APART_S))
        with ExitStack() as stack:
            for editor in editors:
                stack.enter_context(editor.pause)
            self._command("umount", self.point).ok()
            wrong = self._damage(is_server_dead=self._kill_server in deaths)
            if self._kill_server in deaths:
                self.server.start()
            self._mount()
            return wrong or self._difference()

    def _kill_daemon(self) -> None:
        (told,) = json.loads(self._command("status", "--json").ok())
        os.kill(told["pid"], signal.SIGKILL)
        wait_for_end(told["pid"])
        self.tally.daemons += 1

    def _kill_server(self) -> None:
        self.server.kill()
        self.tally.servers += 1

    def _mount(self) -> None:
        transport = self._dice.choice(TRANSPORTS)
        self._command("mount", self._job, self.point, "--transport", transport).ok()

    def _take_away(self) -> None:
        self._command("umount", "--force", self.point)
        if mount_at(self.point) is not None:
            detach(self.point, lazy=True)

    @staticmethod
    def _command(*words: object) -> Outcome:
        return in_process(*words)

    def _damage(self, *, is_server_dead: bool) -> list[str]:
        checked = self._command("fsck")
        wrong = [] if checked.code == 0 and ": sound" in checked.out else ["fsck:", checked.out, checked.err]
        return wrong + (server_damage(self._base / "studio") if is_server_dead else [])

    def _difference(self) -> list[str]:
        """Wait until mount and server are alike; return what is wrong then, or in the end."""
        until = time.monotonic() + SETTLE_S
        while True:
            pushed = self._command("push", self.point)
            self._command("refresh", self.point)
            there, here = self.server.contents(self._job), tree(self.point)
            wrong = [] if pushed.code == 0 else ["push:", pushed.err]
            wrong += [f"{path}: only on one side, or different" for path, _ in sorted(there.items() ^ here.items())]
            wrong += [f"{path}: a hidden item" for path in there if ".jobfs-" in path]
            if not wrong or time.monotonic() > until:
                break
        for data in self.record.lost(there):
            wrong += [f"lost version {data[:40]!r}", *self.record.acts[data]]
        return wrong + [f"{path}: a conflict with nobody" for path in there if "(conflict" in path]


def server_damage(folder: Path) -> list[str]:
    """Return what does not hold together in the data folder of a server that does not run, one line each."""
    with closing(sqlite3.connect(folder / "server.sqlite3")) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        rows = connection.execute("SELECT path, key, size FROM item WHERE NOT is_directory").fetchall()
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    wrong = [f"server: {path}: {sizes.get(key)} bytes, {size} are listed" for path, key, size in rows]
    return ([] if verdict == "ok" else [f"server: {verdict}"]) + [
        line for line, (_, key, size) in zip(wrong, rows, strict=True) if sizes.get(key) != size
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jobfs-crash-", ignore_cleanup_errors=True) as base:
        tally = Crashes(Path(base), options.seed).play(options.rounds)
    print(*tally.wrong, sep="\n", end="\n" if tally.wrong else "")
    print(f"{tally}; {time.monotonic() - began_s:.0f} s")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
