"""Differences as text: what ``git apply`` and ``patch -p1`` take, and short overviews of it.

Pure: versions in, lines of bytes out. A change has one place on each side; contents that are not there are told by size
and hash. It leaves to others: which files differ, and getting their bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

MOST_BYTES = 1 << 20
"""Larger files are told by size: a diff of more is read by nobody, and takes minutes to find."""

_CONTEXT = 3
_MOST_LINES = 20_000
"""Beyond this, what is left after equal heads and tails is shown as one replacement."""

_SNIFFED = 8000
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


@dataclass(frozen=True, slots=True)
class Version:
    """One side of a change.

    :param path: from the root, without a leading slash. :param mode: permission bits.
    :param size: bytes. :param data: the bytes; None where they are too many, or cannot be had.
    :param sha256: lower-case hex, where it is known.
    """

    path: str
    mode: int
    size: int
    data: bytes | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A file that is otherwise on two sides. At least one side is there.

    :param is_same: whether the bytes are the same, also where they are not given.
    :param notes: what is to be said of it besides.
    """

    old: Version | None
    new: Version | None
    is_same: bool = False
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The new path; of what is gone, the old one."""
        side = self.new or self.old
        return side.path if side is not None else ""

    @property
    def is_shown(self) -> bool:
        """Whether the bytes can be shown as lines."""
        if self.is_same:
            return True
        return all(side is None or (side.data is not None and _is_text(side.data)) for side in (self.old, self.new))


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines of both sides that belong together.

    :param old_at, new_at: the number of the first line, from 0. :param lines: each with its mark and its end.
    """

    old_at: int
    old_count: int
    new_at: int
    new_count: int
    lines: tuple[bytes, ...]

    @property
    def heading(self) -> bytes:
        """The line that says where it is."""
        old, new = _range(self.old_at, self.old_count), _range(self.new_at, self.new_count)
        return f"@@ -{old} +{new} @@\n".encode()


def patch_lines(change: Change) -> Iterator[bytes]:
    """Yield the lines of one change, each with its end."""
    for note in change.notes:
        yield f"jobfs: {note}\n".encode()
    old, new = change.old, change.new
    before, after = (old or new), (new or old)
    if before is None or after is None:
        return
    one, other = quoted("a/" + before.path), quoted("b/" + after.path)
    yield f"diff --git {one} {other}\n".encode()
    hunks = list(hunks_of(change))
    yield from _extended(old, new, change, hunks)
    if change.is_same:
        return
    if not change.is_shown:
        yield from _told(change, one, other)
    elif hunks:
        yield f"--- {_ended(one) if old is not None else '/dev/null'}\n".encode()
        yield f"+++ {_ended(other) if new is not None else '/dev/null'}\n".encode()
        for hunk in hunks:
            yield hunk.heading
            yield from hunk.lines


def _extended(old: Version | None, new: Version | None, change: Change, hunks: Sequence[Hunk]) -> Iterator[bytes]:
    """Yield the lines between the first one and the contents."""
    if old is None or new is None:
        side = new or old
        if side is not None:
            yield f"{'new' if old is None else 'deleted'} file mode {_mode(side)}\n".encode()
        return
    if _mode(old) != _mode(new):
        yield f"old mode {_mode(old)}\nnew mode {_mode(new)}\n".encode()
    if old.path != new.path:
        yield f"similarity index {_similarity(change, hunks)}%\n".encode()
        yield f"rename from {quoted(old.path)}\nrename to {quoted(new.path)}\n".encode()


def _told(change: Change, one: str, other: str) -> Iterator[bytes]:
    """Yield what is said of bytes that are not shown. A patch program stops at the first of these lines."""
    old = one if change.old is not None else "/dev/null"
    new = other if change.new is not None else "/dev/null"
    yield f"Binary files {old} and {new} differ\n".encode()
    for label, side in (("old", change.old), ("new", change.new)):
        if side is not None:
            yield f"  {label}: {side.size:,} bytes, SHA-256 {_digest(side)}\n".encode()


def _digest(side: Version) -> str:
    if side.sha256 is None and side.data is not None:
        return hashlib.sha256(side.data).hexdigest()
    return side.sha256 or "not known here"


def hunks_of(change: Change) -> Iterator[Hunk]:
    """Yield the differing parts of a change whose bytes can be shown, each with up to three equal lines around it."""
    if change.is_same or not change.is_shown:
        return
    old, new = _lines(change.old), _lines(change.new)
    for group in _groups(old, new):
        first, last = group[0], group[-1]
        lines = tuple(line for part in group for line in _marked(part, old, new))
        yield Hunk(first[1], last[2] - first[1], first[3], last[4] - first[3], lines)


_Part = tuple[str, int, int, int, int]


def _groups(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[list[_Part]]:
    """Yield the parts of each hunk. Equal heads and tails are found first: most edits are small."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start, old_end, new_end = max(0, head - _CONTEXT), len(old) - tail, len(new) - tail
    after = min(tail, _CONTEXT)
    if old_end - head + new_end - head > _MOST_LINES:
        parts: list[_Part] = [("equal", start, head, start, head), ("replace", head, old_end, head, new_end)]
        yield [*parts, ("equal", old_end, old_end + after, new_end, new_end + after)]
        return
    matcher = SequenceMatcher(None, old[start : old_end + after], new[start : new_end + after], autojunk=False)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        yield [(tag, a + start, b + start, c + start, d + start) for tag, a, b, c, d in group]


def _marked(part: _Part, old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[bytes]:
    tag, a, b, c, d = part
    if tag == "equal":
        yield from (_ended_line(b" " + line) for line in old[a:b])
        return
    yield from (_ended_line(b"-" + line) for line in old[a:b])
    yield from (_ended_line(b"+" + line) for line in new[c:d])


def _ended_line(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def _lines(side: Version | None) -> list[bytes]:
    """Return lines with their ends; only a line feed ends one."""
    data = side.data if side is not None else None
    if not data:
        return []
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def _range(at: int, count: int) -> str:
    """Return a range of lines: counted from 1, and what is empty by the line before it."""
    first = at + 1 if count else at
    return str(first) if count == 1 else f"{first},{count}"


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:_SNIFFED] and len(data) <= MOST_BYTES


def _mode(side: Version) -> str:
    return f"100{side.mode & 0o777:03o}"


def _similarity(change: Change, hunks: Sequence[Hunk]) -> int:
    if change.is_same:
        return 100
    size = max(side.size if side is not None else 0 for side in (change.old, change.new))
    changed = max(
        sum(len(line) - 1 for hunk in hunks for line in hunk.lines if line[:1] == mark) for mark in (b"-", b"+")
    )
    return max(0, min(99, 100 - 100 * changed // size)) if size and hunks else 0


def _ended(name: str) -> str:
    """Return a name for a line that begins with dashes: where it has spaces, a tab says that it ends there."""
    return f"{name}\t" if " " in name and not name.startswith('"') else name


def quoted(name: str) -> str:
    """Return a name as git writes it: quoted, with octal bytes, where it has anything that could not be read back, or
    that a terminal would not show. Ordinary letters of any script stay as they are.
    """
    if name.isprintable() and '"' not in name and "\\" not in name:
        return name
    return '"' + "".join(map(_escaped, name)) + '"'


def _escaped(character: str) -> str:
    if (code := ord(character)) in _ESCAPES:
        return "\\" + _ESCAPES[code]
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


# -- overviews


def counts(change: Change) -> tuple[int, int] | None:
    """Return how many lines a change adds and removes; None where its bytes are not shown."""
    if not change.is_shown:
        return None
    lines = [line[:1] for hunk in hunks_of(change) for line in hunk.lines]
    return lines.count(b"+"), lines.count(b"-")


def stat_lines(changes: Iterable[Change], width: int) -> Iterator[str]:
    """Yield one line for each change, with a bar, and one for all of them.

    :param width: of a line, in characters.
    """
    rows = [(_named(change), counts(change), change) for change in changes]
    if not rows:
        return
    names = min(max(len(name) for name, _, _ in rows), max(10, width - 30))
    most = max(sum(count) if count is not None else 0 for _, count, _ in rows)
    digits = max(len(str(most)), 3)
    room = max(1, width - names - digits - 4)
    added = removed = 0
    for name, count, change in rows:
        label = name if len(name) <= names else "..." + name[len(name) - names + 3 :]
        if count is None:
            sizes = [str(side.size) if side is not None else "0" for side in (change.old, change.new)]
            yield f" {label:<{names}} | {'Bin':>{digits}} {sizes[0]} -> {sizes[1]} bytes"
            continue
        added, removed = added + count[0], removed + count[1]
        scale = min(1.0, room / most) if most else 1.0
        bar = "+" * _scaled(count[0], scale) + "-" * _scaled(count[1], scale)
        yield f" {label:<{names}} | {sum(count):>{digits}} {bar}".rstrip()
    yield f" {_many(len(rows), 'file')} changed, {_many(added, 'line')} added, {_many(removed, 'line')} removed"


def _named(change: Change) -> str:
    if change.old is not None and change.new is not None and change.old.path != change.new.path:
        return f"{quoted(change.old.path)} => {quoted(change.new.path)}"
    return quoted(change.path)


def _scaled(number: int, scale: float) -> int:
    return max(1, int(number * scale)) if number else 0


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
