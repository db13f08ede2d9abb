"""Shapes are read openly: only the minimum is demanded, and one bad row costs that row alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfs import errors, model
from jobfs.api import answer, wire
from jobfs.api.answer import parse_json
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission

FILE = {
    "type": "workspaceItemFile",
    "id": "abcdefghij0123456789abcd",
    "owner": "expert",
    "lifecycle": "application",
    "permission": "readOnly",
    "path": "/docs/a.txt",
    "createdAt": "2025-11-30T08:15:30.123Z",
    "updatedAt": "2025-11-30T08:15:31.000Z",
    "key": "objects/1",
    "mimeType": "text/plain",
    "size": 12,
    "invented": {"later": True},
}

# Building nested values is slow on a busy machine, and says nothing about what is tested.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_a_complete_file_is_read_whole() -> None:
    assert answer.to_item(FILE) == Item(
        id=ItemId("abcdefghij0123456789abcd"),
        kind=Kind.FILE,
        path="docs/a.txt",
        raw_path="/docs/a.txt",
        permission=Permission.READ_ONLY,
        lifecycle=Lifecycle.APPLICATION,
        owner="expert",
        created_at="2025-11-30T08:15:30.123Z",
        updated_at="2025-11-30T08:15:31.000Z",
        size=12,
        key="objects/1",
        mime_type="text/plain",
    )


def test_the_minimum_is_enough_and_the_later_dialect_is_mapped() -> None:
    directory = answer.to_item({"type": "directory", "id": "d", "path": "docs/"})
    file = answer.to_item({"type": "file", "id": "f", "path": "a", "size": 0})
    assert (directory.kind, directory.path, directory.permission) == (Kind.DIRECTORY, "docs", Permission.READ_WRITE)
    assert (file.kind, file.size, file.lifecycle) == (Kind.FILE, 0, Lifecycle.EXPERT_JOB)
    assert answer.to_item({"type": "directory", "id": "d", "path": "x"}, Lifecycle.APPLICATION).lifecycle == (
        Lifecycle.APPLICATION
    )


def test_an_unknown_type_is_opaque_and_unknown_enum_values_take_the_careful_side() -> None:
    item = answer.to_item({"type": "symlink", "id": "s", "path": "l", "permission": "execute", "lifecycle": "forever"})
    assert (item.kind, item.permission, item.lifecycle) == (None, Permission.READ_ONLY, Lifecycle.APPLICATION)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [("a", "a"), ("/a/", "a"), ("//a//", "/a/"), ("/", ""), ("", ""), ("../x", "../x"), ("a\x00b", "a\x00b")],
)
def test_a_path_loses_one_slash_at_each_end_and_nothing_else(raw: str, normal: str) -> None:
    item = answer.to_item({**FILE, "path": raw})
    assert (item.path, item.raw_path) == (normal, raw)


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": 2**63},
        {"size": 10**400},
        {"size": 1.5},
        {"size": float("inf")},
        {"size": None},
        {"size": "many"},
        {"path": None},
        {"path": 7},
        {"path": "\ud800"},
        {"id": ""},
        {"id": None},
        {"id": ".."},
        {"id": "\udfff"},
        {"type": None},
    ],
    ids=str,
)
def test_a_row_that_cannot_stand_costs_that_row_alone(change: dict[str, object], expected_logs) -> None:
    expected_logs.expect("1 rows of the list cannot be read")
    rows, malformed = answer.read_rows([FILE, {**FILE, **change}, FILE], answer.to_item, "workspace")
    assert (len(rows), malformed) == (2, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"createdAt": None, "updatedAt": 5, "owner": [], "key": {}, "mimeType": None},
        {"permission": None, "lifecycle": None},
        {"size": 12.0},
    ],
    ids=str,
)
def test_a_field_beyond_the_minimum_that_cannot_be_read_counts_as_absent(change: dict[str, object]) -> None:
    assert answer.to_item({**FILE, **change}).path == "docs/a.txt"


def test_a_name_of_ten_megabytes_is_passed_on() -> None:
    assert len(answer.to_item({**FILE, "path": "x" * 10_000_000}).path) == 10_000_000


def test_a_lone_surrogate_in_one_row_does_not_cost_the_list(expected_logs) -> None:
    expected_logs.expect("1 rows")
    body = json.dumps([FILE, {**FILE, "path": "\ud800"}]).encode()
    rows, malformed = answer.read_rows(parse_json(body), answer.to_item, "workspace")
    assert (len(rows), malformed) == (1, 1)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff\xfe", b'{"a":'])
def test_what_is_no_json_is_a_value_error_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(body)


@pytest.mark.parametrize("values", [None, {}, "text", 5])
def test_something_that_is_no_list_is_a_protocol_violation(values: object) -> None:
    with pytest.raises(errors.ProtocolViolation):
        answer.read_rows(values, answer.to_item, "workspace")


@patient
@given(st.dictionaries(st.sampled_from(sorted(FILE)), json_values))
def test_no_json_value_whatever_breaks_the_reading_of_an_item(change: dict[str, object]) -> None:
    try:
        item = answer.to_item({**FILE, **change})
    except ValueError:
        return
    assert item.size >= 0
    item.path.encode()


@patient
@given(json_values)
def test_no_json_value_whatever_breaks_the_reading_of_an_answer(value: object) -> None:
    for shape in (wire.Job, wire.Instance, wire.Run, wire.Checkpoint, wire.ApplicationWorkspace, wire.PoolFile):
        with pytest.raises(errors.ProtocolViolation):
            wire.read_one(shape, {"unrelated": value}, "thing")
    assert answer.total_of(value) is None
    assert answer.total_of({"meta": {"total": value}}) is None or isinstance(value, (int, float, str))


def test_a_job_needs_only_id_and_status_and_keeps_unknown_statuses() -> None:
    job = wire.read_one(wire.Job, {"id": "j", "status": "dreaming", "maxSteps": "?", "files": None, "new": 1}, "job")
    assert (job.status, job.max_steps, job.files) == ("dreaming", None, ())
    assert model.job_class(job.status) is model.JobClass.ACTIVE


def test_a_violation_names_the_field_and_quotes_no_value() -> None:
    with pytest.raises(errors.ProtocolViolation) as caught:
        wire.read_one(wire.Job, {"id": "j", "status": {"hidden": "value"}}, "job j")
    assert "status" in caught.value.cause
    assert "value" not in str(caught.value)


def test_secret_values_are_not_shown_by_repr() -> None:
    raw = {"id": "i", "envVariables": {"A": "clear-a"}, "envSecrets": {"B": "clear-b"}}
    to_run = wire.read_one(wire.InstanceToRun, raw, "instance")
    assert "clear" not in repr(to_run) + str(to_run)
    assert to_run.env_secrets["B"].get_secret_value() == "clear-b"


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2025-11-30T08:15:30.123Z", "2025-11-30T08:15:30.123000+00:00"),
        ("2025-11-30T10:15:30+02:00", "2025-11-30T08:15:30+00:00"),
        ("2025-11-30T08:15:30", "2025-11-30T08:15:30+00:00"),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_timestamps_are_read_leniently(text: str, iso: str | None) -> None:
    moment = wire.parse_time(text)
    assert (None if moment is None else moment.isoformat()) == iso


def test_the_first_name_that_is_there_counts() -> None:
    assert answer.inside({"data": {"item": 1}}, ("workspaceItem", "item"), "x") == 1
    assert answer.inside({"data": {"item": 1, "workspaceItem": 2}}, ("workspaceItem", "item"), "x") == 2
    for nothing in (None, [], {"data": None}, {"data": {}}, {"error": 1}):
        with pytest.raises(errors.ProtocolViolation):
            answer.inside(nothing, ("workspaceItem",), "x")
