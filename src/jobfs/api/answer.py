"""What is read of every answer: its JSON, its envelope, its rows, and the items, nearly all that a mount reads.

Read openly, as the shapes in ``wire`` are, and by hand: the library that those are made with takes longer to load than
all else that a mount needs before its first request. Unknown fields are ignored, unknown enum values take the careful
side, and any field beyond the minimum that is missing, null or of a wrong type counts as absent. A broken row of a list
costs that row alone, and is counted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jobfs import errors
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission

log = logging.getLogger("jobfs.api")

MOST_BYTES = 2**63 - 1
WRONG_ANSWER = "check the server address; if it is right, the server and this version of jobfs do not fit"

_MOST_DIGITS = 40
"""A whole number that is longer is read as a float: no field of ours can hold it, and Python refuses very long ones."""

_KINDS = {
    "workspaceItemFile": Kind.FILE,
    "workspaceItemDirectory": Kind.DIRECTORY,
    "file": Kind.FILE,
    "directory": Kind.DIRECTORY,
}


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of an item list, in no promised order.

    :param total: the number of items that the server claims; None where it does not say.
    :param malformed: rows that could not be read. A page that has any is not the whole truth, so nothing that is
        missing from it may be taken for deleted.
    """

    items: Sequence[Item]
    total: int | None
    malformed: int = 0


def parse_json(body: bytes) -> object:
    """Return the JSON value of a body. A lone surrogate, legal in JSON and not in UTF-8, must not cost a whole list.

    :raises ValueError: where it is no JSON, or nested beyond all reason.
    """
    try:
        return json.loads(body, parse_int=_parsed_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _parsed_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def normal_path(raw: str) -> str:
    """Return the normal form of a path (contract, view rule 1): one leading and one trailing slash stripped."""
    return raw.removeprefix("/").removesuffix("/")


def to_item(value: object, default_lifecycle: Lifecycle = Lifecycle.EXPERT_JOB) -> Item:
    """Read one item of either dialect (contract I-1, I-2).

    Paths that are not clean are passed on: the view rules decide how to show them. An unknown permission reads as
    read-only and an unknown lifecycle as shared, the careful choice in both cases.

    :param default_lifecycle: for an answer that names none.
    :raises ValueError: where the minimum is missing, or a value cannot be stored at all.
    """
    row = value if isinstance(value, Mapping) else {}
    id_, path, type_ = row.get("id"), row.get("path"), row.get("type")
    if not (isinstance(id_, str) and isinstance(path, str) and isinstance(type_, str) and id_ and type_):
        raise ValueError("an item without id, path or type")
    if id_ in (".", ".."):
        raise ValueError("an id that cannot be addressed")
    kind, size = _KINDS.get(type_), 0
    if kind is Kind.FILE:
        found = whole_number(row.get("size"))
        if found is None:
            raise ValueError("a file without a usable size")
        size = found
    item = Item(
        id=ItemId(id_),
        kind=kind,
        path=normal_path(path),
        raw_path=path,
        permission=_permission(_text(row, "permission")),
        lifecycle=_lifecycle(_text(row, "lifecycle"), default_lifecycle),
        owner=_text(row, "owner"),
        created_at=_text(row, "createdAt"),
        updated_at=_text(row, "updatedAt"),
        size=size,
        key=_text(row, "key"),
        mime_type=_text(row, "mimeType"),
    )
    for text in (type_, item.id, item.raw_path, item.key, item.updated_at, item.mime_type):
        text.encode()
    return item


def _text(row: Mapping[Any, object], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def whole_number(value: object) -> int | None:
    """Return a number of bytes or rows, also where it is written as a text or with a point; None where it is none."""
    match value:
        case bool():
            return None
        case int():
            number = value
        case float() if value.is_integer():
            number = int(value)
        case str() if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
            number = int(value)
        case _:
            return None
    return number if 0 <= number <= MOST_BYTES else None


def _permission(text: str) -> Permission:
    return Permission.READ_WRITE if text in ("readWrite", "") else Permission.READ_ONLY


def _lifecycle(text: str, default: Lifecycle) -> Lifecycle:
    if not text:
        return default
    return Lifecycle.EXPERT_JOB if text == "expertJob" else Lifecycle.APPLICATION


_R = TypeVar("_R")


def read_rows(values: object, read: Callable[[object], _R], subject: str) -> tuple[list[_R], int]:
    """Read the rows of a list and count those that cannot be read; one warning names how many.

    :raises ProtocolViolation: where it is no list.
    """
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise errors.ProtocolViolation(f"{subject}: the answer has no list in it", WRONG_ANSWER)
    rows: list[_R] = []
    for value in values:
        try:
            rows.append(read(value))
        except ValueError:
            continue
    if malformed := len(values) - len(rows):
        log.warning("%s: %d rows of the list cannot be read and are left out", subject, malformed)
    return rows, malformed


def inside(answer: object, names: Iterable[str], subject: str) -> object:
    """Return what is under ``data`` by the first of these names that is there (contract I-1).

    :raises ProtocolViolation: where none is.
    """
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if isinstance(data, Mapping):
        for name in names:
            if data.get(name) is not None:
                return data[name]
    raise errors.ProtocolViolation(f"{subject}: the answer lacks what was asked for", WRONG_ANSWER)


def total_of(answer: object) -> int | None:
    """Return ``meta.total`` of a list, None where it is not given."""
    meta = answer.get("meta") if isinstance(answer, Mapping) else None
    return whole_number(meta.get("total")) if isinstance(meta, Mapping) else None


def text_in(value: object, name: str, subject: str) -> str:
    """Return a text that must be there.

    :raises ProtocolViolation: where it is not. It quotes nothing of the value.
    """
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, str) or not found:
        raise errors.ProtocolViolation(f"{subject}: the answer lacks a usable {name}", WRONG_ANSWER)
    return found
