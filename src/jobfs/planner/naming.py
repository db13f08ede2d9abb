"""Names that jobfs makes up, and names that it cannot use.

Three families: conflict names, which the user sees; hidden names, under which a replacement waits for its turn on the
server; and percent aliases, under which items with unusable names are shown. Pure; anybody may call it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, unique

from jobfs.model import MAX_NAME_BYTES, MAX_PATH_UNITS, NodeId, Trouble

OWN_FOLDER = ".jobfs"
"""The folder in the root of every view in which jobfs reports; no item may have its name there."""

TOKEN_LENGTH = 8


@unique
class Suffix(Enum):
    """What a hidden name stands for (contract, protocol R)."""

    NEW = "new"
    """The replacement, complete, not yet in its place."""
    OLD = "old"
    """What was moved out of the way, to be checked and then deleted."""


@dataclass(frozen=True, slots=True)
class ConflictStamp:
    """What a conflict name says about its origin.

    :param host: name of this machine, as the user knows it.
    :param time: ``YYYY-MM-DD HHMMSS``; the planner has no clock, so the caller tells it.
    """

    host: str
    time: str

    @classmethod
    def at(cls, host: str, wall_ns: int) -> ConflictStamp:
        """Return the stamp of a moment, in nanoseconds since the epoch; names show it in UTC."""
        return cls(host, f"{datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC):%Y-%m-%d %H%M%S}")


@dataclass(frozen=True, slots=True)
class Hidden:
    """A hidden name, taken apart.

    :param name: the name that it stands for, or the first part of it.
    :param may_be_clipped: whether the name was perhaps longer: it filled the limit.
    """

    name: str
    token: str
    suffix: Suffix
    may_be_clipped: bool


_HIDDEN = re.compile(r"\.(?P<name>.+)\.jobfs-(?P<token>[0-9a-z]{8})\.(?P<suffix>new|old)", re.DOTALL)
_PASSING = re.compile(
    r"\..+\.[0-9A-Za-z]{6}"  # rsync
    r"|sed[0-9A-Za-z]{6}"
    r"|\.?tmp[0-9A-Za-z_]{6,10}"  # tempfile modules
    r"|.+\.(?:tmp|temp|vsctmp)(?:\..+)?"
    r"|.+\.[0-9]{8,}"  # write-file-atomic
    r"|\..+[0-9]{6,}",  # renameio
    re.DOTALL,
)
_HIDDEN_EXTRA = len("..jobfs-.new") + TOKEN_LENGTH
_LONGEST_UTF8 = 4
_BAD_CHARACTER = re.compile("[\x00-\x1f\x7f/\ud800-\udfff]")
_MAX_HOST_BYTES = 64
_MAX_EXTENSION_BYTES = 32


def hidden_name(name: str, token: str, suffix: Suffix) -> str:
    """Return ``.NAME.jobfs-TOKEN.new`` or ``.old``; a long name is clipped so that the result fits.

    :param token: eight characters of ``[0-9a-z]``.
    """
    return f".{_clipped(name, MAX_NAME_BYTES - _HIDDEN_EXTRA)}.jobfs-{token}.{suffix.value}"


def parse_hidden(name: str) -> Hidden | None:
    """Take a hidden name apart; None for any other name."""
    match = _HIDDEN.fullmatch(name)
    if match is None:
        return None
    may_be_clipped = _byte_length(name) > MAX_NAME_BYTES - _LONGEST_UTF8
    return Hidden(match["name"], match["token"], Suffix(match["suffix"]), may_be_clipped)


def is_hidden_name(name: str) -> bool:
    """Tell whether a name is one of our temporaries."""
    return ".jobfs-" in name and _HIDDEN.fullmatch(name) is not None


def is_passing_name(name: str) -> bool:
    """Tell whether a name is like those under which programs write what they are about to rename.

    A user may have such names too: it is a reason to wait for a moment, and for nothing else.
    """
    return _PASSING.fullmatch(name) is not None


def visible_name(name: str) -> str:
    """Return what a hidden name stands for, as far as it tells; any other name as it is."""
    hidden = parse_hidden(name)
    return name if hidden is None else hidden.name


def token_of(node: NodeId, stamp: ConflictStamp) -> str:
    """Return the token for a temporary name that the planner chooses.

    It differs between nodes, machines and moments, so that two clients never fight for one temporary name.
    """
    text = f"{node}\0{stamp.host}\0{stamp.time}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:TOKEN_LENGTH]


def conflict_name(
    name: str, stamp: ConflictStamp, is_taken: Callable[[str], bool], *, is_directory: bool = False
) -> str:
    """Return ``NAME (conflict from HOST TIME).EXT``, at most 255 bytes, with a number where that is taken.

    :param is_taken: tells whether the directory has the name already, on either side.
    """
    stem, extension = (name, "") if is_directory else _split_extension(name)
    host = _clipped(_BAD_CHARACTER.sub("-", stamp.host), _MAX_HOST_BYTES) or "unknown"
    count = 1
    while True:
        number = f" {count}" if count > 1 else ""
        mark = f" (conflict from {host} {stamp.time}{number})"
        room = MAX_NAME_BYTES - _byte_length(mark) - _byte_length(extension)
        candidate = f"{_clipped(stem, room)}{mark}{extension}"
        if not is_taken(candidate):
            return candidate
        count += 1


def _split_extension(name: str) -> tuple[str, str]:
    """Split a name before its extension; ``.tar.gz`` counts as one, a leading dot and a sentence do not."""
    stem, dot, extension = name.rpartition(".")
    if not stem.strip(".") or not extension or " " in extension:
        return name, ""
    if stem.endswith(".tar") and stem != ".tar":
        stem, extension = stem.removesuffix(".tar"), f"tar.{extension}"
    if _byte_length(extension) > _MAX_EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension


def check_name(name: str) -> Trouble | None:
    """Tell why the server cannot hold a name, or None (contract I-10, section 1)."""
    if name in ("", ".", "..") or _BAD_CHARACTER.search(name) or is_hidden_name(name):
        return Trouble.INVALID_NAME
    if len(name) * _LONGEST_UTF8 > MAX_NAME_BYTES and _byte_length(name) > MAX_NAME_BYTES:
        return Trouble.NAME_TOO_LONG
    return None


def check_path(path: str) -> Trouble | None:
    """Tell why the server cannot hold a path, or None. Room is left for the hidden name that a save needs beside it."""
    names = path.split("/")
    if names[0] == OWN_FOLDER:
        return Trouble.INVALID_NAME
    for name in names:
        if (trouble := check_name(name)) is not None:
            return trouble
    return Trouble.PATH_TOO_LONG if path_units(path) + _HIDDEN_EXTRA > MAX_PATH_UNITS else None


def path_units(path: str) -> int:
    """Return the length of a path in UTF-16 units, the stricter of the two counts in use (contract, section 1)."""
    return len(path) if path.isascii() else len(path.encode("utf-16-le", errors="surrogatepass")) // 2


def alias_name(name: str) -> str:
    """Return the percent alias of an unusable name (view rules 5 and 6); ``unalias_name`` gives the name back.

    Only a name over 255 bytes cannot be given back: it is clipped, and a digest keeps it apart from its like.
    """
    if name in ("", "."):
        alias = "%" if not name else "%2E"
    else:
        alias = re.sub("[\x00-\x1f\x7f/%\ud800-\udfff]", _percent, name)
        if name == ".." or name == OWN_FOLDER or is_hidden_name(name):
            alias = alias.replace(".", "%2E")
    if _byte_length(alias) <= MAX_NAME_BYTES:
        return alias
    return _marked(alias, hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:TOKEN_LENGTH])


def alias_with_id(name: str, item: str) -> str:
    """Return a name with an item's id in it, for a name that another item has already (view rule 4)."""
    return _marked(name, re.sub("[^0-9A-Za-z]", "-", item)[:_MAX_EXTENSION_BYTES])


def unalias_name(alias: str) -> str:
    """Return the name that an alias stands for, without an id that was added to it."""
    body = alias.partition("%~")[0]
    if body == "%":
        return ""
    return re.sub("%([0-9A-F]{2}|u[0-9A-F]{4})", lambda found: chr(int(found[1].lstrip("u"), 16)), body)


def _percent(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"%{code:02X}" if code < 256 else f"%u{code:04X}"


def _marked(name: str, mark: str) -> str:
    return f"{_clipped(name, MAX_NAME_BYTES - len(mark) - 2)}%~{mark}"


def _clipped(text: str, size: int) -> str:
    """Return the longest start of a text that fits into a number of bytes."""
    raw = text.encode(errors="surrogatepass")
    if len(raw) <= size:
        return text
    end = size
    while end > 0 and raw[end] & 0xC0 == 0x80:  # never in the middle of a character
        end -= 1
    return raw[:end].decode(errors="surrogatepass")


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
