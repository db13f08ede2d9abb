"""Names that jobfs makes up, and names that it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfs.model import MAX_NAME_BYTES, NodeId, Trouble
from jobfs.planner.naming import (
    ConflictStamp,
    Suffix,
    alias_name,
    alias_with_id,
    check_name,
    check_path,
    conflict_name,
    hidden_name,
    is_hidden_name,
    is_passing_name,
    parse_hidden,
    token_of,
    unalias_name,
)

STAMP = ConflictStamp("desk", "2024-05-06 070809")
MARK = "(conflict from desk 2024-05-06 070809)"
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=80)


def free(_: str) -> bool:
    return False


def size(name: str) -> int:
    return len(name.encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.md", f"report {MARK}.md"),
        ("Makefile", f"Makefile {MARK}"),
        (".bashrc", f".bashrc {MARK}"),
        ("..rc", f"..rc {MARK}"),
        ("data.tar.gz", f"data {MARK}.tar.gz"),
        (".tar.gz", f".tar {MARK}.gz"),
        ("dot.", f"dot. {MARK}"),
        ("A sentence. With words", f"A sentence. With words {MARK}"),
        ("x." + "e" * 40, f"x.{'e' * 40} {MARK}"),
    ],
)
def test_a_conflict_name_keeps_the_extension(name: str, expected: str) -> None:
    assert conflict_name(name, STAMP, free) == expected


def test_a_directory_has_no_extension() -> None:
    assert conflict_name("v1.2", STAMP, free, is_directory=True) == f"v1.2 {MARK}"


def test_taken_conflict_names_are_counted_up() -> None:
    taken = {f"a {MARK}.txt", "a (conflict from desk 2024-05-06 070809 2).txt"}
    assert conflict_name("a.txt", STAMP, taken.__contains__) == "a (conflict from desk 2024-05-06 070809 3).txt"


def test_a_host_that_is_no_good_in_a_name_is_made_harmless() -> None:
    assert conflict_name("a", ConflictStamp("a/b\n", "T"), free) == "a (conflict from a-b- T)"
    assert conflict_name("a", ConflictStamp("", "T"), free) == "a (conflict from unknown T)"


@given(NAMES, st.text(max_size=100))
def test_a_conflict_name_always_fits_and_is_a_name(name: str, host: str) -> None:
    made = conflict_name(name * 9, ConflictStamp(host, STAMP.time), free)
    assert size(made) <= MAX_NAME_BYTES
    assert "/" not in made
    assert "\0" not in made


def test_a_hidden_name_is_spelt_as_the_contract_says() -> None:
    assert hidden_name("a.txt", "0123abcd", Suffix.NEW) == ".a.txt.jobfs-0123abcd.new"
    assert hidden_name("a.txt", "0123abcd", Suffix.OLD) == ".a.txt.jobfs-0123abcd.old"


@given(NAMES, st.sampled_from(Suffix))
def test_a_hidden_name_fits_and_can_be_taken_apart(name: str, suffix: Suffix) -> None:
    hidden = hidden_name(name, "0123abcd", suffix)
    parsed = parse_hidden(hidden)
    assert parsed is not None
    assert size(hidden) <= MAX_NAME_BYTES
    assert (parsed.token, parsed.suffix) == ("0123abcd", suffix)
    assert name.startswith(parsed.name)
    assert parsed.name == name or parsed.may_be_clipped


@pytest.mark.parametrize("length", [234, 235, 236, 255])
def test_a_long_name_is_clipped_in_its_hidden_form(length: int) -> None:
    hidden = hidden_name("n" * length, "0123abcd", Suffix.OLD)
    parsed = parse_hidden(hidden)
    assert parsed is not None
    assert (len(hidden), parsed.may_be_clipped) == (min(length + 20, 255), True)


def test_a_name_is_never_clipped_within_a_character() -> None:
    parsed = parse_hidden(hidden_name("€" * 85, "0123abcd", Suffix.OLD))
    assert parsed is not None
    assert parsed.name == "€" * 78


@pytest.mark.parametrize(
    "name", ["a", ".a.jobfs-0123abcd.tmp", "a.jobfs-0123abcd.new", ".a.jobfs-0123ABCD.new", ".jobfs"]
)
def test_other_names_are_not_hidden(name: str) -> None:
    assert (parse_hidden(name), is_hidden_name(name)) == (None, False)


def test_tokens_differ_between_nodes_machines_and_moments_and_are_repeatable() -> None:
    stamps = [STAMP, ConflictStamp("lap", STAMP.time), ConflictStamp("desk", "2024-05-06 070810")]
    tokens = {token_of(NodeId(node), stamp) for node in (2, 3) for stamp in stamps}
    assert len(tokens) == 6
    assert token_of(NodeId(2), STAMP) in tokens
    assert all(is_hidden_name(hidden_name("a", token, Suffix.OLD)) for token in tokens)


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("a", None),
        ("a b.txt", None),
        ("back\\slash", None),
        ("ü" * 127, None),
        ("ü" * 128, Trouble.NAME_TOO_LONG),
        ("n" * 255, None),
        ("n" * 256, Trouble.NAME_TOO_LONG),
        ("", Trouble.INVALID_NAME),
        (".", Trouble.INVALID_NAME),
        ("..", Trouble.INVALID_NAME),
        ("a\0", Trouble.INVALID_NAME),
        ("a\x7f", Trouble.INVALID_NAME),
        ("a/b", Trouble.INVALID_NAME),
        ("\udc80", Trouble.INVALID_NAME),
        (".a.jobfs-0123abcd.old", Trouble.INVALID_NAME),
    ],
)
def test_names_are_checked(name: str, trouble: Trouble | None) -> None:
    assert check_name(name) == trouble


@pytest.mark.parametrize(
    ("path", "trouble"),
    [
        ("d/a", None),
        ("d//a", Trouble.INVALID_NAME),
        (".jobfs/status.json", Trouble.INVALID_NAME),
        ("d/.jobfs", None),
        ("/".join(["n" * 200] * 5), None),
        ("/".join(["n" * 200] * 4 + ["m" * 201]), Trouble.PATH_TOO_LONG),
        ("/".join(["😀" * 50] * 10), Trouble.PATH_TOO_LONG),
    ],
)
def test_paths_are_checked_with_room_for_a_hidden_name(path: str, trouble: Trouble | None) -> None:
    assert check_path(path) == trouble


@pytest.mark.parametrize(
    ("name", "alias"),
    [("", "%"), (".", "%2E"), ("..", "%2E%2E"), ("a\nb", "a%0Ab"), (".jobfs", "%2Ejobfs"), ("5%\x01", "5%25%01")],
)
def test_aliases_are_percent_forms(name: str, alias: str) -> None:
    assert (alias_name(name), unalias_name(alias)) == (alias, name)


@given(st.text(max_size=40))
def test_an_alias_gives_its_name_back_and_is_a_usable_name(name: str) -> None:
    alias = alias_name(name)
    assert unalias_name(alias) == name
    assert check_name(alias) is None


def test_the_alias_of_a_long_name_fits_and_tells_it_from_its_like() -> None:
    one, other = alias_name("n" * 300 + "1"), alias_name("n" * 300 + "2")
    assert one != other
    assert (size(one), check_name(one)) == (255, None)


def test_an_id_in_an_alias_is_harmless_and_does_not_change_what_it_stands_for() -> None:
    assert alias_with_id("a", "x/../1") == "a%~x----1"
    assert unalias_name(alias_with_id("a", "abc")) == "a"
    assert size(alias_with_id("n" * 255, "i" * 300)) == 255


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".report.md.x7Kq2A", True),
        ("sedAbC123", True),
        ("tmpab12cd34", True),
        (".tmpA1b2C3", True),
        ("report.md.tmp", True),
        ("report.md.tmp.4711.1795330781476", True),
        ("package.json.3735928559", True),
        (".report.md8675309", True),
        ("report.md", False),
        (".jobfsignore", False),
        ("template", False),
        ("tmp", False),
        ("sediment", False),
        ("2026-11-22.log", False),
        ("part.001", False),
    ],
)
def test_a_passing_name_is_one_that_programs_make_up_for_a_moment(name: str, expected: bool) -> None:
    assert is_passing_name(name) is expected
