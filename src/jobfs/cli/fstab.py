"""``mount.jobfs``: what mount(8) calls for a line of /etc/fstab, or for ``mount -t jobfs``.

::

    jobfs#JOB  /mnt/job  jobfs  profile=work,allow_other,_netdev  0  0

Options of ``jobfs mount`` are written without dashes; those of the general ones that name server and key as well; and
``config=DIR`` and ``state=DIR``, for root has folders of its own. What other file systems take is taken and left aside.
Exit codes are those of mount(8): 0 done, 1 not understood, 32 failed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobfs.cli.app import general, run_words
from jobfs.cli.mount import mount
from jobfs.cli.parser import Parameter, options_of
from jobfs.cli.terminal import tell
from jobfs.workspace.states import STATE_DIRECTORY
from jobfs.workspace.variables import CONFIG_DIRECTORY

NOT_UNDERSTOOD = 1
FAILED = 32
_SOURCE = "jobfs#"
_FOLDERS = {"config": CONFIG_DIRECTORY, "state": STATE_DIRECTORY}
_SPELT_OTHERWISE = {"ro": "read-only"}
_LEFT_ASIDE = re.compile(
    r"(no)?(auto|user|users|owner|group|exec|suid|dev|atime|diratime|relatime|strictatime|fail|lazytime)"
    r"|defaults|rw|_netdev|sync|async|remount|x-[\w.-]+(=.*)?|comment=.*|user=.*"
)


class NotUnderstood(Exception):
    """The arguments make no sense; its text says which."""


@dataclass(slots=True)
class Wish:
    """What mount(8) wants.

    :param words: the command line after ``jobfs``. :param is_fake: only check (mount -f).
    """

    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    is_fake: bool = False


def main() -> None:
    """Do what mount(8) wants."""
    try:
        wish = read(sys.argv[1:])
    except NotUnderstood as error:
        tell(f"mount.jobfs: {error}")
        tell("  next: mount.jobfs jobfs#JOB DIR [-o OPTIONS], with options of 'jobfs mount' without dashes")
        sys.exit(NOT_UNDERSTOOD)
    if wish.is_fake:
        sys.exit(0)
    os.environ.update(wish.environment)
    code = run_words(wish.words)
    sys.exit(code and (NOT_UNDERSTOOD if code == 2 else FAILED))


def read(arguments: Sequence[str]) -> Wish:
    """Read the arguments that mount(8) gives its helpers.

    :raises NotUnderstood:
    """
    places: list[str] = []
    options: list[str] = []
    is_fake = False
    source = iter(arguments)
    for word in source:
        if word in ("-o", "-t", "-N"):
            value = next(source, None)
            if value is None:
                raise NotUnderstood(f"{word} needs a value")
            options += value.split(",") if word == "-o" else []
        elif re.fullmatch(r"-[sfnvrw]+", word):
            is_fake |= "f" in word
            options += ["ro"] if "r" in word else []
        elif word.startswith("-"):
            raise NotUnderstood(f"{word} is not understood")
        else:
            places.append(word)
    if len(places) != 2:
        raise NotUnderstood("a job and a directory are wanted")
    wish = Wish(["mount"], is_fake=is_fake)
    for option in filter(None, options):
        _add(wish, option)
    wish.words += ["--", places[0].removeprefix(_SOURCE), places[1]]
    return wish


def _add(wish: Wish, option: str) -> None:
    name, has_value, value = option.partition("=")
    if name in _FOLDERS:
        wish.environment[_FOLDERS[name]] = value
        return
    known = _options().get("--" + _SPELT_OTHERWISE.get(name, name).replace("_", "-"))
    if known is None:
        if not _LEFT_ASIDE.fullmatch(option):
            raise NotUnderstood(f"the option {option} is not understood")
        return
    if bool(known.value) is not bool(has_value):
        raise NotUnderstood(f"the option {name} {'needs a' if known.value else 'takes no'} value")
    wish.words += [known.names[0], value] if has_value else ["--" + _SPELT_OTHERWISE.get(name, name).replace("_", "-")]


def _options() -> dict[str, Parameter]:
    """Return the options that a line may have, by each of their names."""
    every = (*options_of(mount), *options_of(general))
    return {name: one for one in every for name in one.names if name != "--version"}
