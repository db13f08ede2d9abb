"""What the engine asks of a far side is what the client gives: in types, and in signatures at run time."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobfs.api.answer import ItemPage
from jobfs.api.items import Download
from jobfs.api.runs import RunFiles
from jobfs.api.workspace import Workspace
from jobfs.engine import remote

ROOT = Path(__file__).resolve().parents[2]

ASSIGNMENTS = """
from jobfs.api.items import Download
from jobfs.api.runs import RunFiles
from jobfs.api.workspace import Workspace
from jobfs.api.answer import ItemPage
from jobfs.engine import remote

def fit(workspace: Workspace, run: RunFiles, page: ItemPage, download: Download) -> None:
    remotes: tuple[remote.Remote, remote.Remote] = (workspace, run)
    others: tuple[remote.Page, remote.Download] = (page, download)
"""


def test_a_workspace_and_a_run_are_remotes_to_the_type_checker(tmp_path: Path) -> None:
    module = tmp_path / "assignments.py"
    module.write_text(ASSIGNMENTS)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(module)]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("kind", [Workspace, RunFiles])
def test_every_member_of_a_remote_takes_what_the_engine_passes(kind: type) -> None:
    members = {name: value for name, value in vars(remote.Remote).items() if not name.startswith("_")}
    assert members
    for name, wanted in members.items():
        given = inspect.getattr_static(kind, name)
        if isinstance(wanted, property):
            assert isinstance(given, property)
            continue
        parameters = inspect.signature(given).parameters
        for parameter in inspect.signature(wanted).parameters.values():
            assert parameters[parameter.name].kind == parameter.kind
            if parameter.default is not parameter.empty:
                assert parameters[parameter.name].default == parameter.default


@pytest.mark.parametrize(("kind", "wanted"), [(ItemPage, remote.Page), (Download, remote.Download)])
def test_pages_and_downloads_have_every_member_that_the_engine_reads(kind: type, wanted: type) -> None:
    fields = {*getattr(kind, "__dataclass_fields__", {}), *vars(kind)}
    assert {name for name in vars(wanted) if not name.startswith("_")} <= fields
