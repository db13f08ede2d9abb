"""The system's limits of watching, lowered for real: in a user namespace each of them can be set for oneself alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from folder_harness import QUICK, Desk, eventually, run

from jobfs.folder.report import What
from jobfs.folder.sync import SyncOptions

WATCH = SyncOptions(watch=True, host="testhost", times=QUICK, poll_s=0.2)
SETTING = Path("/proc/sys/user")


def watch_with_limits(base: Path) -> None:
    """Run in the namespace: work in a folder that is watched as far as the system lets us; print what was told."""
    desk = Desk(base)
    for number in range(6):
        desk.write(f"before/{number}/file", "before")

    async def story() -> None:
        async with desk.watching(WATCH):
            await desk.agrees()
            for number in range(20):
                desk.write(f"after/{number}/file", "after", is_old=False)
            await eventually(lambda: any(event.what is What.POLLING for event in desk.events))
            await desk.agrees()
            desk.write("after/19/file", "changed", is_old=False)
            (desk.root / "before" / "5" / "file").unlink()
            await desk.agrees()

    run(story())
    print(json.dumps([event.detail for event in desk.events if event.what is What.POLLING]))


def is_limitable() -> bool:
    probe = ["unshare", "--user", "--map-root-user", "true"]
    return (
        shutil.which("unshare") is not None and SETTING.is_dir() and subprocess.run(probe, check=False).returncode == 0
    )


@pytest.mark.skipif(not is_limitable(), reason="this system gives no user namespace in which to lower the limits")
@pytest.mark.parametrize(
    ("limit", "value", "named"),
    [
        pytest.param("max_inotify_watches", 4, "fs.inotify.max_user_watches", id="too few for what is there"),
        pytest.param("max_inotify_watches", 14, "fs.inotify.max_user_watches", id="too few for what is made later"),
        pytest.param("max_inotify_instances", 0, "fs.inotify.max_user_instances", id="none at all"),
    ],
)
def test_where_the_systems_limit_is_reached_the_folder_is_polled_the_setting_is_named_and_nothing_is_missed(
    tmp_path: Path, limit: str, value: int, named: str
) -> None:
    program = "import sys, pathlib, test_folder_limits as own; own.watch_with_limits(pathlib.Path(sys.argv[1]))"
    lower = f'echo {value} > {SETTING / limit} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", lower, "sh", sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [detail] = json.loads(done.stdout)
    assert f"raise {named} with sysctl; until then the folder is looked at every" in detail
