"""What an item of an answer has to be, as a shape: the other opinion beside the reader's own, for tests.

Said once more and in another way, by a library that reads shapes, so that a reader written by hand cannot be wrong
unseen about a null, a number spelt as a text or a lone surrogate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from pydantic.alias_generators import to_camel

from jobfs.model import Kind, Lifecycle, Permission

_MOST = 2**63 - 1
_KINDS = {
    "workspaceItemFile": Kind.FILE,
    "workspaceItemDirectory": Kind.DIRECTORY,
    "file": Kind.FILE,
    "directory": Kind.DIRECTORY,
}


def _or(default: object) -> WrapValidator:
    """Return what makes a field that cannot be read count as absent."""

    def read(value: object, handler: Any) -> object:
        try:
            return handler(value)
        except ValidationError:
            return default

    return WrapValidator(read)


def _storable(value: object) -> object:
    """Refuse a text with half a surrogate pair, wherever it stands: no store holds it."""
    if isinstance(value, str):
        value.encode()
    return value


def _counting(value: object) -> object:
    """Refuse a yes or no, which Python counts among its numbers."""
    if isinstance(value, bool):
        raise ValueError("no number")
    return value


Text = Annotated[str, _or("")]
Stored = Annotated[Text, BeforeValidator(_storable)]
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int | None, Field(ge=0, le=_MOST), BeforeValidator(_counting), _or(None)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)


class ItemShape(_Shape):
    """An item of either dialect."""

    type: Name
    id: Name
    path: str
    owner: Text = ""
    lifecycle: Text = ""
    permission: Text = ""
    created_at: Text = ""
    updated_at: Stored = ""
    key: Stored = ""
    mime_type: Stored = ""
    size: Count = None


class _Meta(_Shape):
    total: Count = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a page tells: its items as plain tuples, the total, and how many rows could not be read."""

    items: list[tuple[object, ...]]
    total: int | None
    malformed: int


def read_page(body: bytes) -> Told | None:
    """Return what a page of a list tells; None where it is no page at all."""
    try:
        answer = json.loads(body, parse_int=_number)
    except (ValueError, RecursionError):
        return None
    data = answer.get("data") if isinstance(answer, dict) else None
    names = ("workspaceItems", "items")
    rows = next((data[name] for name in names if data.get(name) is not None), None) if isinstance(data, dict) else None
    if not isinstance(rows, list):
        return None
    read = [_item(row) for row in rows]
    meta = answer.get("meta")
    total = _Meta.model_validate(meta).total if isinstance(meta, Mapping) else None
    return Told([item for item in read if item is not None], total, read.count(None))


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float("inf")


def _item(row: object) -> tuple[object, ...] | None:
    try:
        shape = ItemShape.model_validate(row)
        shape.path.encode()
    except ValueError:
        return None
    kind = _KINDS.get(shape.type)
    if shape.id in (".", "..") or (kind is Kind.FILE and shape.size is None):
        return None
    writable = shape.permission in ("", "readWrite")
    private = shape.lifecycle in ("", "expertJob")
    return (
        shape.id,
        kind,
        shape.path,
        Permission.READ_WRITE if writable else Permission.READ_ONLY,
        Lifecycle.EXPERT_JOB if private else Lifecycle.APPLICATION,
        shape.owner,
        shape.created_at,
        shape.updated_at,
        shape.size if kind is Kind.FILE else 0,
        shape.key,
        shape.mime_type,
    )
