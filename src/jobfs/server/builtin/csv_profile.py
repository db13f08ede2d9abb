"""The expert ``@jobfs/csv-profile``: what is in the CSV files of the workspace, as Markdown with a histogram a column.

For each ``PATH.csv`` (and ``.tsv``) it writes ``csv-profile/PATH.csv.md`` and the charts beside it in
``csv-profile/PATH.csv/``; ``csv-profile/index.md`` leads to them. Tables are read row by row (twice where a column has
too many values to count one by one), so their size does not matter. Any delimiter among comma, semicolon, tab and bar,
any encoding that ``workspace_texts`` knows; rows that are too short or too long are counted and said.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jobfs.server.builtin.columns import Column, Type
from jobfs.server.builtin.histogram import histogram
from jobfs.server.builtin.workspace_texts import encoding_of, files_below, inline, table, write_report

FOLDER = Path("csv-profile")
SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t|"
SNIFFED_CHARACTERS = 16 * 1024
MAX_COLUMNS = 256
MAX_CELL_CHARACTERS = 16 * 1024 * 1024


@dataclass
class Profile:
    """What was found in one table.

    :param rows: data rows, the head not among them.
    :param trouble: why reading ended early, or why there was nothing to read; empty where all went well.
    """

    columns: list[Column] = field(default_factory=list)
    rows: int = 0
    short_rows: int = 0
    long_rows: int = 0
    encoding: str = ""
    delimiter: str = ","
    has_head: bool = True
    trouble: str = ""


def profile(path: Path) -> Profile:
    """Read a table and return what it holds."""
    encoding = encoding_of(path)
    if encoding is None:
        return Profile(trouble="not a text file")
    found = Profile(encoding=encoding, delimiter=delimiter_of(path, encoding))
    try:
        _read(path, found)
    except csv.Error as error:
        found.trouble = f"reading ended after {found.rows} rows: {error}"
    return found


def delimiter_of(path: Path, encoding: str) -> str:
    """Guess what separates the cells of a table."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = file.read(SNIFFED_CHARACTERS)
    try:
        return csv.Sniffer().sniff(sample, DELIMITERS).delimiter
    except csv.Error:
        # The sniffer gives up on a single column and on ragged rows; the head is then the best witness.
        head = sample.partition("\n")[0]
        return max(DELIMITERS, key=head.count)


def _rows(path: Path, found: Profile) -> Iterator[list[str]]:
    """Yield the rows that are not blank."""
    with path.open(encoding=found.encoding, errors="replace", newline="") as file:
        for row in csv.reader(file, delimiter=found.delimiter, skipinitialspace=True):
            if row:
                yield row


def _data_rows(path: Path, found: Profile) -> Iterator[list[str]]:
    rows = _rows(path, found)
    if found.has_head:
        next(rows, None)
    return rows


def _read(path: Path, found: Profile) -> None:
    first = next(_rows(path, found), None)
    if first is None:
        found.trouble = "the file is empty"
        return
    found.has_head = looks_like_head(first)
    names = column_names(first if found.has_head else [""] * len(first))
    # Where commas separate the cells, a comma inside a number groups its thousands; elsewhere it is a decimal comma.
    found.columns = [Column(name, has_decimal_comma=found.delimiter != ",") for name in names]
    kept = found.columns[:MAX_COLUMNS]
    for row in _data_rows(path, found):
        found.rows += 1
        found.short_rows += len(row) < len(found.columns)
        found.long_rows += len(row) > len(found.columns)
        for index, column in enumerate(kept):
            column.add(row[index] if index < len(row) else "")
    again = [(index, column) for index, column in enumerate(kept) if column.needs_second_look]
    for row in _data_rows(path, found) if again else ():
        for index, column in again:
            column.fill(row[index] if index < len(row) else "")


def looks_like_head(row: list[str]) -> bool:
    """Tell whether a first row names the columns: it has words and no numbers, dates or truth values."""
    types = []
    for cell in row:
        column = Column("")
        column.add(cell)
        types.append(column.type)
    return Type.TEXT in types and all(kind in (Type.TEXT, Type.EMPTY) for kind in types)


def column_names(head: list[str]) -> list[str]:
    """Return a different name for every column: its own, its number where it has none, marked where it repeats."""
    names: list[str] = []
    for index, cell in enumerate(head, 1):
        name = " ".join(cell.split()) or f"column {index}"
        # A name in use twice gets the number of its column, which no other column has.
        names.append(name if name not in names else f"{name} ({index})")
    return names


def write_profile(path: Path, name: str) -> list[str]:
    """Profile one table, write its report and charts, and return its row of the index."""
    found = profile(path)
    target = FOLDER / f"{name}.md"
    lines = [f"# {inline(name, limit=120)}", ""]
    if found.trouble:
        lines += [f"**{inline(found.trouble, limit=200)}**", ""]
    if found.columns:
        lines += _summary(found) + _chapters(found, FOLDER / name)
    write_report(target, lines)
    link = f"[{inline(name, limit=120)}](<{name}.md>)"
    return [link, inline(found.trouble, limit=80) or "read in full", str(found.rows), str(len(found.columns))]


def _summary(found: Profile) -> list[str]:
    names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
    head = "first row names the columns" if found.has_head else "no row with names"
    shape = f"{found.rows} rows, {len(found.columns)} columns"
    lines = [f"{shape}; {names[found.delimiter]}-separated, {found.encoding}, {head}.", ""]
    if found.short_rows or found.long_rows:
        lines += [f"Ragged: {found.short_rows} rows are too short, {found.long_rows} too long.", ""]
    if len(found.columns) > MAX_COLUMNS:
        lines += [f"Only the first {MAX_COLUMNS} columns are described.", ""]
    heads = ["Column", "Type", "Most frequent", "Missing", "Distinct", "Smallest", "Largest", "Mean"]
    return [*lines, *table(heads, [_described(column) for column in found.columns[:MAX_COLUMNS]], left=3), ""]


def _described(column: Column) -> list[str]:
    spread = column.range
    unit = " characters" if column.type is Type.TEXT else ""
    ends = ["", ""] if column.type is Type.EMPTY else [spread.low_text + unit, spread.high_text + unit]
    mean = "" if column.mean is None else f"{column.mean:.6g}"
    frequent = ", ".join(f"{inline(value, limit=24)} ({times})" for value, times in column.frequent(3))
    return [inline(column.name), column.type.value, frequent, str(column.missing), column.distinct, *ends, mean]


def _chapters(found: Profile, folder: Path) -> list[str]:
    lines: list[str] = []
    for index, column in enumerate(found.columns[:MAX_COLUMNS], 1):
        if column.type is Type.EMPTY:
            continue
        chart = folder / f"{index:02d}-{_file_name(column.name)}.svg"
        chart.parent.mkdir(parents=True, exist_ok=True)
        chart.write_text(_chart(column), encoding="utf-8", newline="\n")
        lines += [f"![{inline(column.name)}](<{chart.relative_to(folder.parent).as_posix()}>)", ""]
    return lines


def _chart(column: Column) -> str:
    bars = column.bars()
    if not column.has_axis:
        return histogram(column.name, bars)
    if column.type is Type.TEXT:
        ends = (f"{column.range.low_text} characters", f"{column.range.high_text} characters")
        return histogram(f"{column.name}: length of the texts", bars, ends=ends)
    return histogram(column.name, bars, ends=(column.range.low_text, column.range.high_text))


def _file_name(name: str) -> str:
    """Return a name for a file that every system can hold."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "column"


def main() -> None:
    """Profile every table below the working directory."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    lines = ["# CSV profile", ""]
    query = os.environ.get("JOBFS_QUERY", "")
    if query:
        lines += [f"Asked: {inline(query, limit=200)}", ""]
    tables = [path for path in files_below(Path(), skip=FOLDER) if path.suffix.lower() in SUFFIXES]
    rows = [write_profile(path, path.as_posix()) for path in tables]
    if rows:
        lines += table(["File", "State", "Rows", "Columns"], rows, left=2)
    else:
        lines += ["There are no CSV files in this workspace."]
    write_report(FOLDER / "index.md", lines)


if __name__ == "__main__":
    main()
