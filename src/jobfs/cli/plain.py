"""Command lines that need no parser: ``jobfs mount JOB DIR``, with options that are switches or choices among words.

To load the parser and have it look at all that a mount can be told takes as long as all else that the command does.
What is read here means the same to the parser, which a test holds it to; whatever else a command line has in it, a
help, a word that is no option or no choice, is the parser's, and so is every complaint.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobfs.cli.loading import load
from jobfs.errors import Interrupted, JobfsError

SWITCHES: dict[str, tuple[str, bool]] = {
    "--foreground": ("is_foreground", True),
    "--read-only": ("is_read_only", True),
    "--fallback": ("may_fall_back", True),
    "--no-fallback": ("may_fall_back", False),
    "--allow-other": ("allow_other", True),
    "--write-through": ("write_through", True),
    "--hold": ("is_held", True),
    "--yes": ("may_delete", True),
}
CHOICES: dict[str, tuple[str, frozenset[str]]] = {
    "--transport": ("transport", frozenset({"auto", "kernel", "fusepy"})),
    "--wake": ("wake", frozenset({"auto", "on", "off"})),
    "--conflict": ("conflict", frozenset({"keep-both", "local", "remote"})),
    "--prefetch": ("prefetch", frozenset({"none", "small", "all"})),
    "--fsync": ("fsync", frozenset({"local", "remote"})),
    "--log-level": ("log_level", frozenset({"debug", "info", "warning", "error"})),
}
"""The options that are read here, and which of ``wishes.Wishes`` they are."""

_COMMAND = "mount"
_PLACES = ("job", "directory")


def read(words: Sequence[str]) -> dict[str, str | bool] | None:
    """Return the wishes that a command line tells; None where the parser has to read it.

    :param words: without the program's name.
    """
    if not words or words[0] != _COMMAND:
        return None
    told: dict[str, str | bool] = {}
    places: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word in SWITCHES:
            name, value = SWITCHES[word]
            told[name] = value
        elif word in CHOICES:
            name, choices = CHOICES[word]
            chosen = next(rest, "")
            if chosen not in choices:
                return None
            told[name] = chosen
        elif not word or word.startswith("-"):
            return None
        else:
            places.append(word)
    return {**told, **dict(zip(_PLACES, places, strict=True))} if len(places) == len(_PLACES) else None


def run_words(words: Sequence[str]) -> int | None:
    """Run a command line and return its exit code; None, with nothing done, where the parser has to read it.

    :param words: without the program's name.
    """
    told = read(words)
    if told is None:
        return None
    failures = load("failures")
    try:
        code: int = load("wishes").begin_told(told)
        return code
    except BrokenPipeError:
        return 1  # whoever read our output has seen enough: no message
    except KeyboardInterrupt:
        failure: JobfsError = Interrupted("stopped")
    except Exception as error:  # noqa: BLE001  (whatever it is, the user gets a message and not a traceback)
        failure = failures.failure_of(error)
    failures.show(failure, is_debug=False)
    return failure.exit_code
