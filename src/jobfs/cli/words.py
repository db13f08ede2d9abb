"""The words of a command line before they are parsed: the general options, and which command it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_VALUED = ("--url", "--api-key-file", "--profile", "--limit-up", "--limit-down", "--connections")
_FLAGS = ("--debug",)
_HELP = "help"


def hoisted(words: Sequence[str]) -> list[str]:
    """Return the arguments with the general options in front, where the parser wants them.

    ``help COMMAND`` is what other programs call ``COMMAND --help``.
    """
    front, rest = _parted(words)
    if rest[:1] == [_HELP]:
        rest = [*rest[1:], "--help"]
    return front + rest


def chosen_in(words: Sequence[str]) -> str:
    """Return the first word that is no general option: the command, where there is one."""
    _, rest = _parted(words)
    return rest[0] if rest else ""


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the general options, and everything else."""
    front: list[str] = []
    rest: list[str] = []
    source = iter(words)
    for word in source:
        if word == "--":
            rest += [word, *source]
        elif word in _VALUED:
            front += [word, *([value] if (value := next(source, None)) is not None else [])]
        elif word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(word)
        else:
            rest.append(word)
    return front, rest
