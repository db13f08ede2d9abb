"""Running one command: its ending, its output, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from jobfs.server.command import Ending, Outcome, Output, environment, run

DEADLINE_S = 10.0


def start(
    folder: Path,
    script: str,
    *,
    variables: Mapping[str, str] = {},
    secrets: Iterable[str] = (),
    timeout_s: float = 30,
    stop_when: Path | None = None,
) -> Outcome:
    """Run a shell script to its end.

    :param stop_when: a file; when the script has made it, the command is told to stop.
    """

    async def both() -> Outcome:
        stop = asyncio.Event()
        command = asyncio.create_task(
            run(
                ["sh", "-c", script],
                folder=folder,
                variables=environment(variables),
                secrets=secrets,
                timeout_s=timeout_s,
                stop=stop,
                grace_s=0.2,
            )
        )
        while stop_when is not None and not stop_when.exists():
            await asyncio.wait({command}, timeout=0.01)
            assert not command.done()
        if stop_when is not None:
            stop.set()
        return await command

    return asyncio.run(both())


def has_ended(pid: int) -> bool:
    """Wait until a process, whosever child it is, has ended; false when the deadline comes first."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], DEADLINE_S)[0])
    finally:
        os.close(pidfd)


def test_a_command_that_ends_well_leaves_its_output_and_exit_code(tmp_path: Path) -> None:
    outcome = start(tmp_path, "echo out; echo err >&2")
    assert outcome == Outcome(Ending.EXITED, 0, "out\nerr\n")


def test_an_exit_code_is_kept(tmp_path: Path) -> None:
    assert start(tmp_path, "exit 75") == Outcome(Ending.EXITED, 75, "")


def test_a_command_that_a_signal_killed_has_its_negative_number(tmp_path: Path) -> None:
    assert start(tmp_path, "kill -9 $$") == Outcome(Ending.EXITED, -9, "")


def test_a_command_works_in_its_directory_with_its_variables_and_no_input(tmp_path: Path) -> None:
    outcome = start(tmp_path, 'pwd; echo "$GIVEN"; cat', variables={"GIVEN": "a b"})
    assert outcome.output == f"{tmp_path}\na b\n"


def test_nothing_of_the_servers_own_environment_but_the_usual_places_reaches_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOBFS_API_KEY", "secret")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    monkeypatch.setenv("LC_TIME", "C")
    seen = environment({"A": "1", "B": "1"}, {"B": "2"})
    assert {name: seen[name] for name in ("A", "B", "LC_TIME", "PATH")} == {
        "A": "1",
        "B": "2",
        "LC_TIME": "C",
        "PATH": os.environ["PATH"],
    }
    assert "secret" not in seen.values()


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    outcome = start(tmp_path, "echo begun; exec sleep 60", timeout_s=0.3)
    assert (outcome.ending, outcome.output) == (Ending.TIMED_OUT, "begun\n")


def test_a_command_is_asked_to_end_before_it_is_killed(tmp_path: Path) -> None:
    script = "trap 'echo asked; exit 3' TERM; touch ready; while :; do sleep 0.02; done"
    outcome = start(tmp_path, script, stop_when=tmp_path / "ready")
    assert (outcome.ending, outcome.exit_code) == (Ending.STOPPED, 3)
    assert "asked\n" in outcome.output


def test_a_command_that_will_not_end_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; touch ready; while :; do sleep 0.02; done"
    outcome = start(tmp_path, script, stop_when=tmp_path / "ready")
    assert (outcome.ending, outcome.exit_code) == (Ending.STOPPED, -9)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux lets one wait for somebody else's process")
def test_what_a_command_leaves_running_in_the_background_ends_with_it(tmp_path: Path) -> None:
    outcome = start(tmp_path, "sleep 600 & echo $!")
    assert outcome.ending is Ending.EXITED
    assert has_ended(int(outcome.output))


@pytest.mark.parametrize(
    ("words", "variables"),
    [(["/no/such/program"], {}), (["sh", "-c", "a\0b"], {}), (["sh", "-c", ":"], {"A": "x\0y"})],
)
def test_a_command_that_cannot_be_started_says_why(tmp_path: Path, words: list[str], variables: dict[str, str]) -> None:
    outcome = asyncio.run(
        run(words, folder=tmp_path, variables=variables, secrets=(), timeout_s=5, stop=asyncio.Event())
    )
    assert outcome.ending is Ending.NOT_STARTED
    assert outcome.trouble.startswith(f"cannot start {words[0]}: ")
    assert "\0" not in outcome.trouble


def test_only_the_end_of_a_long_output_is_kept(tmp_path: Path) -> None:
    outcome = start(tmp_path, "seq 1 200000")
    assert outcome.output.startswith("[...]\n")
    assert outcome.output.endswith("199999\n200000\n")
    assert len(outcome.output) <= 64 * 1024 + len("[...]\n")


def test_the_values_of_secrets_do_not_stay_in_the_output(tmp_path: Path) -> None:
    secrets = ["tops3cret", "tops3cret-longer", "abc"]
    outcome = start(tmp_path, "echo tops3cret-longer tops3cret abc", secrets=secrets)
    assert outcome.output == "*** *** abc\n"


def test_the_rest_of_a_secret_at_the_cut_is_removed_too() -> None:
    output = Output(["0123456789"], limit=20)
    output.add(b"x" * 20 + b"0123456789 and the end.")
    assert output.text() == "[...]\n" + " and the end."
    assert len(" and the end.") < 20


def test_output_that_is_not_text_is_shown_as_far_as_it_goes() -> None:
    output = Output([])
    output.add(b"a\xffb")
    assert output.text() == "a\ufffdb"
