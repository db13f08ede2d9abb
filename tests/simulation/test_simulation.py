"""The engine in simulated time, seed by seed (``simulation``): what a seed plays follows from its number alone.

A failing seed is played again, with its whole trace, by ``scripts/simulate --replay SEED``, one with folders among the
clients by ``scripts/simulate --folders --replay SEED``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import simulated_machine
from simulated_machine import Scene
from virtual_loop import VirtualLoop

from jobfs.folder.contents import Contents
from simulation import MakeScene, memory_directory, simulate

pytestmark = pytest.mark.allow_log(
    "changed by two others at once|the local store failed|the history keeps more than its limit"
)

SEEDS = 1200
FOLDER_SEEDS = 800
STORE_SEEDS = 100
CHUNK = 100

FOUND = {
    73: "a session that ended left deletions of its replaces running on a closed store",
    130: "a directory renamed while a replace in it was given up: its hidden file stayed for ever",
    468: "a listing's newer row was passed over because the file was acknowledged meanwhile, and the file deleted",
    604: "of two others' versions of a file one stayed under a hidden name",
    652: "a directory was adopted by a lookup and deleted before any listing told what was in it",
    687: "a deleted file that was put back had the number of the one that was still open: two versions in one file",
    796: "a late request left a hidden item after the replace had been forgotten",
    963: "two nodes at one place: the server had room for ours, and a listing's older row still stood there",
    2322: "a create done late, after another of the same path had been refused, came back as a stranger",
    2446: "a create whose answer was lost, of a file that was then renamed, came back as a stranger",
    2521: "the hash of the server's version was asked for again and again while a program had the file open",
    2864: "a version that somebody wrote while another client had the file under a hidden name was deleted",
    10101: "an old place of a directory was taken for the place of a replace whose answer was lost",
    10318: "a deletion that waited for earlier requests was sent although a listing had shown a new version",
    118137: "a directory that somebody filled while another was renamed over it kept its hidden name",
    410456: "what was to come after a request that the server refused waited for ever",
    411107: "a file stepped aside once more, late, after it had gone on to its place, and stayed hidden",
    454184: "a reader of a version that was replaced while it arrived was given the rest of another one",
    530870: "a directory to be removed was given up, under a hidden name, while something could not yet move out of it",
    300582: "a directory was deleted on a listing that was older than what a request had found in it",
    1025602: "what somebody wrote under a hidden name stayed there: a settled file had the name to come back to",
    2010629: "a directory was deleted while it was unknown whose the file in it was",
    2015060: "a file that moved out of a renamed directory was taken along with it, and its bytes could not be had",
    2018659: "a version that somebody had under a hidden name while our deletion waited was deleted",
    2106528: "one child that somebody deleted left its neighbours under their directory's hidden name",
    2405546: "a directory that came back from a hidden name left its children there, where they do not follow",
    2420082: "what stepped aside in a directory that somebody replaced stayed under its hidden name",
    2406717: "a directory moved into one that stepped aside on its way into it: neither came to its place",
    2456713: "of two creates at one path only one was remembered, and what the other made late was a stranger",
    3014202: "a version written into what a replace had put aside was deleted although a listing had shown it",
    3314112: "a directory was deleted with what somebody had put where its last file was being deleted",
    3531725: "what somebody wrote over a save before its answer came was taken for the save",
    3526535: "a file somebody wrote to was seen where it was before we moved it, and stayed under its hidden name",
    3601258: "what we had displaced to delete it was forgotten when nothing else implied its directory any more",
    3529857: "what an unanswered create had made was not found in its directory, which was renamed since",
    11808: "what somebody moved into a directory that another directory was renamed over was deleted with it",
}
"""Seeds that once found something, and what."""

FOUND_WITH_FOLDERS = {
    36: "a disk that failed to show one file ended the synchronisation",
    39: "a file that could not be read once, since the disk failed, was never sent",
    52: "a deletion that died or failed half-way left its file under a hidden name",
    2300985: "a file known by its hash alone, after a death, was downloaded again and again",
    2602587: "a file whose conflict copy was made, while its winner could not be placed, was two files to its writer",
    2641517: "a version written into a file of ours, and listed before our create was answered, was deleted",
    2609440: "a file that was written again with the same bytes was never deleted for what was renamed over it",
    2608425: "a new file whose name the disk did not keep was the user's when he moved it",
    2305962: "a file known by its hash alone, after a death, was to be removed again and again",
    2642435: "what was made in a directory that another one had replaced was forgotten, and came back as a stranger",
    2649000: "a directory stepped aside at the second try, and was moved back because of the first",
    3104570: "a version that somebody wrote into what a replace had put aside, and another had taken, was deleted",
    98: "a download into a directory that the user renamed left its hidden file",
}
"""Seeds with folders among the clients, likewise."""

FOUND_WITH_BAD_STORES = {
    29: "what a plan was to send waited for ever where the store failed while its local half was applied",
    665: "a create that the store could not remember hid somebody's file for ever",
    2549: "a file whose removal failed lost its bytes with the last program that had it open",
}
"""Seeds with stores on disks that fail, likewise."""


def play(seed: int, directory: Path, make_scene: MakeScene = Scene.of) -> str:
    outcome = simulate(seed, memory_directory() or directory, make_scene)
    return f"seed {seed}: {outcome.problem}" if outcome.problem else ""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds_keep_every_promise(tmp_path: Path, first: int) -> None:
    problems = [problem for seed in range(first, first + CHUNK) if (problem := play(seed, tmp_path))]
    assert problems == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, FOLDER_SEEDS, CHUNK))
def test_seeds_with_folders_keep_every_promise(tmp_path: Path, first: int) -> None:
    seeds = range(first, first + CHUNK)
    problems = [problem for seed in seeds if (problem := play(seed, tmp_path, Scene.with_folders))]
    assert problems == []


def with_bad_stores(loop: VirtualLoop) -> Scene:
    return Scene.of(loop).with_bad_stores(loop)


@pytest.mark.slow
def test_seeds_with_stores_on_bad_disks_keep_every_promise(tmp_path: Path) -> None:
    problems = [problem for seed in range(STORE_SEEDS) if (problem := play(seed, tmp_path, with_bad_stores))]
    assert problems == []


@pytest.mark.parametrize("seed", FOUND_WITH_BAD_STORES)
def test_seeds_with_stores_on_bad_disks_that_once_found_something(tmp_path: Path, seed: int) -> None:
    assert play(seed, tmp_path, with_bad_stores) == ""


@pytest.mark.parametrize("seed", FOUND_WITH_FOLDERS)
def test_seeds_with_folders_that_once_found_something(tmp_path: Path, seed: int) -> None:
    assert play(seed, tmp_path, Scene.with_folders) == ""


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_once_found_something(tmp_path: Path, seed: int) -> None:
    assert play(seed, tmp_path) == ""


def test_a_seed_gives_the_same_trace_in_every_process(tmp_path: Path) -> None:
    """Neither the order of hashes nor that of addresses, which garbage collection changes, decides anything."""
    program = (
        f"import gc, sys; gc.set_threshold(int(sys.argv[1])); sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        "from simulation import simulate; from simulated_machine import Scene; from pathlib import Path\n"
        f"made = [simulate(seed, Path({str(tmp_path)!r})) for seed in [50134, *range(12)]]\n"
        f"made += [simulate(seed, Path({str(tmp_path)!r}), Scene.with_folders) for seed in range(12)]\n"
        "print(*(outcome.digest for outcome in made))"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", program, threshold],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        for hash_seed, threshold in (("1", "700"), ("2", "137"))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests[0].split())) == 25


def test_a_broken_promise_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks themselves: a world in which every version counts as written, and one that forgets, must fail."""
    monkeypatch.setattr(simulated_machine.World, "fresh", _boastful(simulated_machine.World.fresh))
    outcome = simulate(1, tmp_path)
    assert outcome.problem.startswith("lost: ['never']")


@pytest.mark.parametrize("seed", [1, 3])
def test_a_file_of_the_user_that_is_destroyed_unseen_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(Contents, "_secure", lambda *_: None)  # what loses a conflict is not kept
    outcomes = [simulate(seed * 100 + number, tmp_path, Scene.with_folders) for number in range(40)]
    assert any(" destroyed " in outcome.problem for outcome in outcomes)


def _boastful(fresh):  # type: ignore[no-untyped-def]
    def boast(world: simulated_machine.World, who: str) -> bytes:
        world.written.add(b"never.")
        return fresh(world, who)

    return boast


def test_scratch_directories_are_removed(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as own:
        simulate(3, Path(own))
        assert list(Path(own).iterdir()) == []
