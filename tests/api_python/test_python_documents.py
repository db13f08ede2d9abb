"""What the documents show is run: every block of docs/python.md, and the example with Dask on a local cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jobfs import Workspace
from jobfs.server.running import RunningServer

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
DEADLINE_S = 120


@pytest.fixture
def environment(studio: RunningServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a program that has jobfs installed as pyproject.toml says, wherever it really lies."""
    installed = tmp_path / "installed" / "jobfs-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: jobfs\nVersion: 0\n")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [f"[{group}]\n{name} = {place}\n" for group, found in points.items() for name, place in found.items()]
    (installed / "entry_points.txt").write_text("".join(lines))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed.parent), str(ROOT / "src")])}


def run(environment: dict[str, str], cwd: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_guide_runs_from_top_to_bottom(studio: RunningServer, environment: dict[str, str], tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "notes.md").write_text("# Notes\n\n" + "A line of notes.\n" * 20)
    (here / "guide.py").write_text("\n".join(BLOCKS))
    told = run(environment, here, "-W", "error::ResourceWarning", "guide.py")
    assert "word-count.md" in told
    (job,) = set(re.findall(r"'(\w{24})/table\.csv'", told))
    held = studio.contents(job)
    assert (held["inputs/today.txt"], held["counter"], held["b.txt"]) == (b"better\n", b"2", b"or none")
    assert {path for path in held if path.startswith(("archive", "copies"))} == {"archive", "archive/notes.md"}
    assert len(held["short.md"] or b"") == 100


def test_every_method_that_the_guide_names_is_there() -> None:
    named = set(re.findall(r"`(\w+)`", re.search(r"\| \| \|\n(.*?)\n\n", GUIDE, re.DOTALL)[1]))  # type: ignore[index]
    assert (len(named) > 12, sorted(name for name in named - {"x", "a", "with"} if not hasattr(Workspace, name))) == (
        True,
        [],
    )


def test_the_example_counts_the_words_of_many_jobs(
    studio: RunningServer, environment: dict[str, str], tmp_path: Path
) -> None:
    jobs = [studio.create_job() for _ in range(6)]
    for n, job in enumerate(jobs):
        studio.expert_writes(job, "out/report.md", f"harbour harbour lighthouse number{n}\n".encode())
        studio.expert_writes(job, "out/other.txt", b"harbour " * 100)
    example = str(ROOT / "examples" / "dask_outputs.py")
    told = run(environment, tmp_path, example, "--report", f"jobfs://{jobs[0]}/made/words.csv", *jobs)
    assert [line.split() for line in told.splitlines()[:3]] == [["6", "files"], ["12", "harbour"], ["6", "lighthouse"]]
    report = (studio.contents(jobs[0])["made/words.csv"] or b"").decode().splitlines()
    assert report[:3] == ["word,count", "harbour,12", "lighthouse,6"]
