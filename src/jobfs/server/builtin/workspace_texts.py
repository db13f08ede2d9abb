"""Which files of a working directory are text, in which encoding, and how to show their words in a Markdown report."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

SAMPLE_BYTES = 64 * 1024
"""How much of a file decides whether it is text."""

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b")) + b"\x7f"


def files_below(root: Path, *, skip: Path) -> list[Path]:
    """Return the regular files below a directory in the order of their paths, without links and without a report.

    :param skip: a file or directory relative to the root that is left out: what the caller itself writes.
    """
    found: list[Path] = []
    for folder, directories, names in os.walk(root):
        here = Path(folder)
        directories[:] = [name for name in directories if (here / name).relative_to(root) != skip]
        paths = [here / name for name in names if (here / name).relative_to(root) != skip]
        found += [path for path in paths if path.is_file() and not path.is_symlink()]
    return sorted(found)


def encoding_of(path: Path) -> str | None:
    """Return the encoding to read a file with, or None for a binary one. Decides by the first bytes."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    if sample.translate(None, _CONTROLS) != sample:
        return None
    try:
        # An incremental decoder does not mind that the sample may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        # Text without control characters that is not UTF-8 is most likely the older western encoding, in which every
        # byte means something.
        return "latin-1"
    return "utf-8"


def inline(text: str, *, limit: int = 60) -> str:
    """Return a text as it can stand in a Markdown table cell: one line, nothing special, clipped."""
    line = " ".join(text.split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    for character in "\\`*_[]|":
        line = line.replace(character, "\\" + character)
    return line.replace("&", "&amp;").replace("<", "&lt;")


def table(heads: list[str], rows: list[list[str]], *, left: int) -> list[str]:
    """Return the lines of a Markdown table.

    :param left: how many columns, from the first, hold words and not numbers.
    """
    rule = [":--" if index < left else "--:" for index in range(len(heads))]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows)]


def write_report(path: Path, lines: list[str]) -> None:
    """Write a report so that nobody ever sees half of it, and say so on standard output."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    text = "\n".join(lines).rstrip("\n") + "\n"
    draft.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    draft.replace(path)
    print(f"wrote {path.as_posix()}", flush=True)  # noqa: T201  (the command's output)
