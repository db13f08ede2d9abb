"""Which mount or folder a path is in: found from the records, without a look at what is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobfs.store.state import State
from jobfs.workspace.instance import FOLDER, Instance, holding


def began(state_dir: Path, name: str, directory: Path, *, started: float = 1.0) -> Instance:
    """Leave the record of something that has ended."""
    state = state_dir / "workspaces" / name
    State.open(state).close()
    found = Instance(state, FOLDER, str(directory), "http://127.0.0.1:1", name, "sync", 0, started, None)
    found.write()
    return found


@pytest.mark.parametrize(
    ("path", "name", "inner"),
    [
        ("outer", "outer", ""),
        ("outer/a/b", "outer", "a/b"),
        ("outer/inner/a", "inner", "a"),
        ("link/a", "outer", "a"),
        ("link/inner", "inner", ""),
    ],
)
def test_a_path_is_in_the_innermost_directory_however_it_is_spelled(
    state_dir: Path, tmp_path: Path, path: str, name: str, inner: str
) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "outer")
    records = {
        one: began(state_dir, one, tmp_path / place) for one, place in [("outer", "outer"), ("inner", "outer/inner")]
    }
    assert holding(tmp_path / path) == (records[name], inner)


def test_of_what_was_at_one_directory_the_last_counts_and_elsewhere_is_nothing(state_dir: Path, tmp_path: Path) -> None:
    began(state_dir, "z", tmp_path / "one")
    last = began(state_dir, "a", tmp_path / "one", started=3.0)
    began(state_dir, "m", tmp_path / "one", started=2.0)
    assert (holding(tmp_path / "one" / "a"), holding(tmp_path / "ones")) == ((last, "a"), None)
