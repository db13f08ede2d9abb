"""The two built-in experts, run as the commands that they are, on real files, with exact expected reports."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jobfs.server.builtin.columns import MAX_DISTINCT, Column, Type
from jobfs.server.builtin.csv_profile import column_names, delimiter_of, looks_like_head, profile
from jobfs.server.builtin.histogram import histogram
from jobfs.server.builtin.workspace_texts import encoding_of
from jobfs.server.experts import BUILT_IN

SVG = "{http://www.w3.org/2000/svg}"


def run_expert(name: str, folder: Path, query: str = "") -> str:
    """Run an expert's command in a directory as the runner does; returns its output."""
    expert = BUILT_IN[name]
    environment = {"PATH": os.environ["PATH"], **expert.environment, "JOBFS_QUERY": query}
    done = subprocess.run(
        expert.command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------------------------ word-count


def test_word_count_reports_lines_words_characters_totals_and_frequent_words(tmp_path: Path) -> None:
    put(tmp_path / "b.txt", "The well-known world isn’t\nthe World\r\nof “Größe”, größe".encode())
    put(tmp_path / "a/empty.md", b"")
    put(tmp_path / "a/pipe|name.txt", b"one\n")
    put(tmp_path / "logo.png", b"\x89PNG\x00\x01")
    output = run_expert("@jobfs/word-count", tmp_path, query="Count *everything*, please")
    assert output == "wrote word-count.md\n"
    assert (tmp_path / "word-count.md").read_text(encoding="utf-8") == "\n".join(
        [
            "# Word count",
            "",
            "Asked: Count \\*everything\\*, please",
            "",
            "| File | Lines | Words | Characters |",
            "| :-- | --: | --: | --: |",
            "| a/empty.md | 0 | 0 | 0 |",
            "| a/pipe\\|name.txt | 1 | 1 | 4 |",
            "| b.txt | 3 | 9 | 55 |",
            "| **3 files** | 4 | 10 | 59 |",
            "",
            "## Most frequent words of 4 letters or more",
            "",
            "| Word | Times |",
            "| :-- | --: |",
            "| grösse | 2 |",
            "| world | 2 |",
            "| isn’t | 1 |",
            "| well-known | 1 |",
            "",
            "## Binary files, not counted",
            "",
            "- logo.png",
            "",
        ]
    )


def test_word_count_of_an_empty_workspace_says_so(tmp_path: Path) -> None:
    run_expert("@jobfs/word-count", tmp_path)
    expected = "# Word count\n\nThere are no text files in this workspace.\n"
    assert (tmp_path / "word-count.md").read_text(encoding="utf-8") == expected


def test_word_count_does_not_count_its_own_report(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", b"alpha beta\n")
    run_expert("@jobfs/word-count", tmp_path)
    first = (tmp_path / "word-count.md").read_bytes()
    run_expert("@jobfs/word-count", tmp_path)
    assert (tmp_path / "word-count.md").read_bytes() == first


def test_a_word_across_two_pieces_of_a_large_file_is_one_word(tmp_path: Path) -> None:
    size = 1 << 20
    put(tmp_path / "large.txt", b" " * (size - 3) + b"middle" + b" " * size)
    run_expert("@jobfs/word-count", tmp_path)
    report = (tmp_path / "word-count.md").read_text(encoding="utf-8")
    assert f"| large.txt | 1 | 1 | {2 * size + 3} |" in report
    assert "| middle | 1 |" in report


def test_modules_in_the_workspace_do_not_replace_those_that_the_expert_imports(tmp_path: Path) -> None:
    for name in ("csv.py", "re.py", "jobfs/__init__.py", "collections/__init__.py"):
        put(tmp_path / name, b"raise SystemExit('the workspace was imported')\n")
    put(tmp_path / "t.csv", b"a,b\n1,2\n")
    run_expert("@jobfs/word-count", tmp_path)
    run_expert("@jobfs/csv-profile", tmp_path)
    assert (tmp_path / "csv-profile/t.csv.md").exists()


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"", "utf-8"),
        (b"plain\ttext\r\n", "utf-8"),
        ("Größe".encode(), "utf-8"),
        ("é".encode() * 32_768 + b"x", "utf-8"),
        (b"x" + "é".encode() * 32_768, "utf-8"),
        ("Größe".encode("latin-1"), "latin-1"),
        ("Größe".encode("utf-8-sig"), "utf-8-sig"),
        ("Größe".encode("utf-16"), "utf-16"),
        (b"GIF89a\x00", None),
        (b"\x7fELF", None),
    ],
)
def test_the_first_bytes_decide_whether_a_file_is_text(tmp_path: Path, content: bytes, encoding: str | None) -> None:
    assert encoding_of(put(tmp_path / "file", content)) == encoding


# ----------------------------------------------------------------------------------------------------- csv-profile

SALES = (
    "city;price;sold on;paid;note\n"
    "Berlin;1,50;2024-01-05;yes;\n"
    'Paris;12,25;2024-01-01;no;"said ""hi""; left"\n'
    "Berlin;NA;2024-02-01;yes;-\n"
    "Rome;3\n"
    "Oslo;7;2024-01-09;yes;x;surplus\n"
)


def test_csv_profile_describes_every_column_of_a_table(tmp_path: Path) -> None:
    put(tmp_path / "data/sales.csv", SALES.encode())
    output = run_expert("@jobfs/csv-profile", tmp_path)
    assert output == "wrote csv-profile/data/sales.csv.md\nwrote csv-profile/index.md\n"
    assert (tmp_path / "csv-profile/data/sales.csv.md").read_text(encoding="utf-8") == "\n".join(
        [
            "# data/sales.csv",
            "",
            "5 rows, 5 columns; semicolon-separated, utf-8, first row names the columns.",
            "",
            "Ragged: 1 rows are too short, 1 too long.",
            "",
            "| Column | Type | Most frequent | Missing | Distinct | Smallest | Largest | Mean |",
            "| :-- | :-- | :-- | --: | --: | --: | --: | --: |",
            "| city | text | Berlin (2), Oslo (1), Paris (1) | 0 | 4 | 4 characters | 6 characters |  |",
            "| price | number | 1,50 (1), 12,25 (1), 3 (1) | 1 | 4 | 1,50 | 12,25 | 5.9375 |",
            "| sold on | date | 2024-01-01 (1), 2024-01-05 (1), 2024-01-09 (1) | 1 | 4 | 2024-01-01 | 2024-02-01 |  |",
            "| paid | boolean | yes (3), no (1) | 1 | 2 | no | yes |  |",
            '| note | text | said "hi"; left (1), x (1) | 3 | 2 | 1 characters | 15 characters |  |',
            "",
            "![city](<sales.csv/01-city.svg>)",
            "",
            "![price](<sales.csv/02-price.svg>)",
            "",
            "![sold on](<sales.csv/03-sold-on.svg>)",
            "",
            "![paid](<sales.csv/04-paid.svg>)",
            "",
            "![note](<sales.csv/05-note.svg>)",
            "",
        ]
    )


def test_csv_profile_draws_one_bar_for_each_frequent_value(tmp_path: Path) -> None:
    put(tmp_path / "data/sales.csv", SALES.encode())
    run_expert("@jobfs/csv-profile", tmp_path)
    chart = ElementTree.parse(tmp_path / "csv-profile/data/sales.csv/01-city.svg").getroot()
    tips = [bar.findtext(f"{SVG}title") for bar in chart.iter(f"{SVG}rect")]
    assert tips == ["Berlin: 2", "Oslo: 1", "Paris: 1", "Rome: 1"]
    heights = [float(bar.get("height", "0")) for bar in chart.iter(f"{SVG}rect")]
    assert heights == [152.0, 76.0, 76.0, 76.0]


def test_csv_profile_leads_from_its_index_to_every_table_and_says_what_it_could_not_read(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", b"")
    put(tmp_path / "b.tsv", b"x\ty\n1\t2\n")
    put(tmp_path / "c.CSV", b"PK\x00\x01")
    run_expert("@jobfs/csv-profile", tmp_path, query="Look closely")
    assert (tmp_path / "csv-profile/index.md").read_text(encoding="utf-8") == "\n".join(
        [
            "# CSV profile",
            "",
            "Asked: Look closely",
            "",
            "| File | State | Rows | Columns |",
            "| :-- | :-- | --: | --: |",
            "| [a.csv](<a.csv.md>) | the file is empty | 0 | 0 |",
            "| [b.tsv](<b.tsv.md>) | read in full | 1 | 2 |",
            "| [c.CSV](<c.CSV.md>) | not a text file | 0 | 0 |",
            "",
        ]
    )


def test_csv_profile_of_a_workspace_without_tables_says_so(tmp_path: Path) -> None:
    run_expert("@jobfs/csv-profile", tmp_path)
    expected = "# CSV profile\n\nThere are no CSV files in this workspace.\n"
    assert (tmp_path / "csv-profile/index.md").read_text(encoding="utf-8") == expected


def test_csv_profile_does_not_describe_its_own_output(tmp_path: Path) -> None:
    put(tmp_path / "csv-profile/left-over.csv", b"a,b\n1,2\n")
    run_expert("@jobfs/csv-profile", tmp_path)
    assert "no CSV files" in (tmp_path / "csv-profile/index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "delimiter"),
    [
        ("a.csv", "a,b,c\n1,2,3\n", ","),
        ("a.csv", "a;b\n1,5;2,5\n3,25;4\n", ";"),
        ("a.csv", "a|b\n1|2\n", "|"),
        ("a.csv", "a\tb\n1\t2\n", "\t"),
        ("a.tsv", "a,b\tc\n", "\t"),
        ("a.csv", "name\nalice\nbob\n", ","),
        ("a.csv", "", ","),
        ("a.csv", 'a,b\n"x; y; z",1\n"u; v",2\n', ","),
        ("a.csv", "a;b;c\n1;2\n3\n", ";"),
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, name: str, content: str, delimiter: str) -> None:
    assert delimiter_of(put(tmp_path / name, content.encode()), "utf-8") == delimiter


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "+3"], Type.INTEGER),
        (["1", "2.5", "1e3", ".5"], Type.NUMBER),
        (["1,234", "2,000,000.5"], Type.NUMBER),
        (["true", "No", "YES"], Type.BOOLEAN),
        (["2024-02-29", "1999-12-31"], Type.DATE),
        (["2023-02-29"], Type.TEXT),
        (["2024-01-01T10:00:00Z", "2024-01-01 11:00"], Type.TIME),
        (["2024-01-01", "2024-01-01T10:00"], Type.TIME),
        (["1", "two"], Type.TEXT),
        (["", "NA", "null", " "], Type.EMPTY),
        (["1e999", "1"], Type.TEXT),
    ],
)
def test_a_column_has_the_narrowest_type_that_all_its_cells_have(cells: list[str], expected: Type) -> None:
    column = Column("x")
    for cell in cells:
        column.add(cell)
    assert column.type is expected


def test_a_decimal_comma_is_one_where_commas_do_not_separate_cells() -> None:
    column = Column("x", has_decimal_comma=True)
    for cell in ("1.234,5", "0,5"):
        column.add(cell)
    assert (column.type, column.range.low, column.range.high) == (Type.NUMBER, 0.5, 1234.5)


def test_a_column_of_many_numbers_is_shown_in_parts_of_its_range() -> None:
    column = Column("x")
    for number in range(100):
        column.add(str(number))
    assert column.bars() == [(f"part {index} of 10", 10) for index in range(1, 11)]


def test_a_column_with_more_values_than_are_kept_still_has_an_exact_histogram(tmp_path: Path) -> None:
    rows = 2 * MAX_DISTINCT
    put(tmp_path / "t.csv", b"n,id\n" + b"".join(b"%d,id-%d\n" % (number, number) for number in range(rows)))
    found = profile(tmp_path / "t.csv")
    number, name = found.columns
    assert (found.rows, number.distinct, number.mean) == (rows, f"more than {MAX_DISTINCT}", (rows - 1) / 2)
    assert number.bars() == [(f"part {index} of 20", rows // 20) for index in range(1, 21)]
    assert number.frequent(3) == []
    assert sum(count for _, count in name.bars()) == rows


@pytest.mark.parametrize(
    ("row", "is_head"),
    [
        (["id", "name"], True),
        (["", "name"], True),
        (["1", "Berlin"], False),
        (["2024-01-01", "x"], False),
        (["", ""], False),
    ],
)
def test_a_first_row_of_words_names_the_columns(row: list[str], is_head: bool) -> None:
    assert looks_like_head(row) is is_head


def test_columns_without_a_name_or_with_the_same_one_can_be_told_apart() -> None:
    assert column_names(["a", "", "a", " b\nc "]) == ["a", "column 2", "a (3)", "b c"]


def test_a_chart_survives_what_xml_cannot_hold() -> None:
    root = ElementTree.fromstring(histogram("<a> & \x00\x1b", [('"x"', 0), ("]]>", 3)]))
    assert root.findtext(f"{SVG}title") == "<a> &   "
    assert [bar.get("height") for bar in root.iter(f"{SVG}rect")] == ["0.0", "152.0"]


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    assert list(ElementTree.fromstring(histogram("empty", [])).iter(f"{SVG}rect")) == []


def test_a_table_of_one_huge_cell_does_not_end_the_expert(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", b"a,b\n" + json.dumps("x" * 300_000).encode() + b",2\n")
    run_expert("@jobfs/csv-profile", tmp_path)
    assert "1 rows, 2 columns" in (tmp_path / "csv-profile/t.csv.md").read_text(encoding="utf-8")
