"""The expert ``@jobfs/word-count``: a Markdown report on the text files of the workspace, ``word-count.md``.

For each text file its lines, words and characters; the totals; the most frequent words; and the names of the binary
files, which are left out. A word is a run of letters and digits with single apostrophes or hyphens inside. Files are
read piece by piece, so their size does not matter.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jobfs.server.builtin.workspace_texts import encoding_of, files_below, inline, table, write_report

REPORT = Path("word-count.md")
CHUNK_CHARACTERS = 1 << 20
MIN_LETTERS = 4
"""Shorter words say little about a text."""
TOP_WORDS = 20
MAX_VOCABULARY = 500_000
"""Different words kept at most; the rarest are dropped above it, so that memory is bounded."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_INSIDE_WORD = re.compile(r"[\w'’-]*\Z")


@dataclass
class Count:
    """What was counted in one file, or in all."""

    lines: int = 0
    words: int = 0
    characters: int = 0
    vocabulary: Counter[str] = field(default_factory=Counter)

    def add(self, other: Count) -> None:
        """Add what another count found."""
        self.lines += other.lines
        self.words += other.words
        self.characters += other.characters
        self.vocabulary.update(other.vocabulary)
        _trim(self.vocabulary)


def count_file(path: Path, encoding: str) -> Count:
    """Count one text file. A last line without a line feed counts as a line."""
    count = Count()
    last = "\n"
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        for text in _whole_words(iter(lambda: file.read(CHUNK_CHARACTERS), "")):
            words = _WORD.findall(text)
            count.lines += text.count("\n")
            count.characters += len(text)
            count.words += len(words)
            count.vocabulary.update(word.casefold() for word in words if len(word) >= MIN_LETTERS)
            _trim(count.vocabulary)
            last = text[-1]
    count.lines += last != "\n"
    return count


def _whole_words(chunks: Iterator[str]) -> Iterator[str]:
    """Yield the same text, cut so that no word lies across a cut, unless it is longer than a chunk."""
    rest = ""
    for chunk in chunks:
        text = rest + chunk
        inside = _INSIDE_WORD.search(text)
        cut = inside.start() if inside and len(text) - inside.start() < CHUNK_CHARACTERS else len(text)
        if cut:
            yield text[:cut]
        rest = text[cut:]
    if rest:
        yield rest


def _trim(vocabulary: Counter[str]) -> None:
    if len(vocabulary) > MAX_VOCABULARY:
        kept = vocabulary.most_common(MAX_VOCABULARY // 2)
        vocabulary.clear()
        vocabulary.update(dict(kept))


def report(root: Path, query: str) -> list[str]:
    """Return the lines of the report on the files below a directory."""
    total = Count()
    rows: list[list[str]] = []
    binary: list[str] = []
    for path in files_below(root, skip=REPORT):
        name = path.relative_to(root).as_posix()
        encoding = encoding_of(path)
        if encoding is None:
            binary.append(name)
            continue
        count = count_file(path, encoding)
        total.add(count)
        rows.append([inline(name, limit=120), str(count.lines), str(count.words), str(count.characters)])
    lines = ["# Word count", ""]
    if query:
        lines += [f"Asked: {inline(query, limit=200)}", ""]
    if not rows:
        lines += ["There are no text files in this workspace.", ""]
    else:
        files = f"**{len(rows)} {'file' if len(rows) == 1 else 'files'}**"
        rows.append([files, str(total.lines), str(total.words), str(total.characters)])
        lines += [*table(["File", "Lines", "Words", "Characters"], rows, left=1), ""]
    return lines + _frequent(total.vocabulary) + _skipped(binary)


def _frequent(vocabulary: Counter[str]) -> list[str]:
    # Sorted by count and then by the word itself, so that the same files always give the same report.
    ranked = sorted(vocabulary.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP_WORDS]
    if not ranked:
        return []
    rows = [[inline(word), str(times)] for word, times in ranked]
    head = f"## Most frequent words of {MIN_LETTERS} letters or more"
    return [head, "", *table(["Word", "Times"], rows, left=1), ""]


def _skipped(binary: list[str]) -> list[str]:
    if not binary:
        return []
    return ["## Binary files, not counted", "", *(f"- {inline(name, limit=120)}" for name in binary), ""]


if __name__ == "__main__":
    write_report(REPORT, report(Path(), os.environ.get("JOBFS_QUERY", "")))
