"""Names as other file systems see them: which they take for one, and which Windows cannot hold. Pure."""

from __future__ import annotations

import re
import unicodedata

_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE | re.DOTALL)
_WINDOWS_CHARACTERS = re.compile(r'[<>:"|?*\\]')


def composed(name: str) -> str:
    """Return what two names have in common that differ in nothing but how their characters are composed."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return what two names have in common where a file system takes them for one."""
    return composed(name).casefold()


def is_copy_name(name: str, original: str) -> bool:
    """Tell whether a name is that of a conflict copy of a file (``planner.naming.conflict_name``)."""
    stem, mark, _ = name.partition(" (conflict from ")
    return bool(mark) and original.startswith(stem)


def why_not_on_windows(name: str) -> str:
    """Tell why Windows cannot hold a name; empty where it can.

    None of these fails cleanly there: a device is opened, a colon names a hidden stream, a backslash leads to another
    directory, and what is at the end is dropped.
    """
    if (found := _WINDOWS_CHARACTERS.search(name)) is not None:
        return f"Windows has no names with {found[0]}"
    if _DEVICES.fullmatch(name):
        return "Windows keeps this name for a device"
    return "Windows has no names that end in a dot or a space" if name.endswith((".", " ")) else ""
