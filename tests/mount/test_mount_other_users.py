"""Who may use a mount: nobody but its user, or with ``allow_other`` others too, who then have the rights of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_mount import served
from model_remote import ModelRemote

from jobfs.fuse.options import MountOptions

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

NOBODY = 65534
CHANGES = (
    "echo mine > file",
    "echo mine >> file",
    ": > file",
    "rm -f file",
    "rm -rf directory",
    "mv file other",
    "mv directory other",
    "touch new",
    "mkdir new",
    "ln -s file new",
    "chmod 777 file",
    "touch -d 2020-01-01 file",
    "rmdir directory",
)


@pytest.fixture
def shared_place() -> Iterator[Path]:
    """A folder of root's that everybody may look into."""
    place = Path(tempfile.mkdtemp(prefix="jobfs-shared-", dir="/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def remote() -> ModelRemote:
    made = ModelRemote()
    made.put("file", b"for all to read")
    made.put("directory", None)
    made.put("directory/inside", b"x")
    return made


def as_nobody(script: str, place: Path) -> subprocess.CompletedProcess[bytes]:
    command = ["sh", "-c", f"cd {place} && {script}"]
    return subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False)


def test_a_mount_is_closed_to_other_users(transport: str, shared_place: Path, remote: ModelRemote) -> None:
    with served(transport, shared_place, remote) as live:
        for program in ("ls", "stat", "df"):
            refused = as_nobody(f"{program} mnt", live.path.parent)
            assert (refused.returncode > 0, refused.stderr.strip().rpartition(b": ")[2]) == (True, b"Permission denied")


def test_with_allow_other_other_users_read_and_change_nothing(
    transport: str, shared_place: Path, remote: ModelRemote
) -> None:
    before = remote.tree()
    with served(transport, shared_place, remote, mount_options=MountOptions("jobfs#test", allow_other=True)) as live:
        assert as_nobody("cat file directory/inside && ls", live.path).stdout == b"for all to readxdirectory\nfile\n"
        assert [script for script in CHANGES if as_nobody(script, live.path).returncode == 0] == []
        live.settle()
        assert live.do(remote.tree) == before
