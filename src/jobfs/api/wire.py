"""The shapes of answers, read openly.

Only the fields without which a client cannot work are demanded (``x-client-minimum`` of the contract). Unknown fields
are ignored, unknown enum values kept as text, and any other field that is missing, null or of a wrong type counts as
absent. A broken row of a list costs that row alone, and is counted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, SecretStr, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from jobfs import errors
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission

log = logging.getLogger("jobfs.api")

_MOST_BYTES = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Else:
    """Field marker: what cannot be read as the field's type counts as absent.

    :param make: makes the default, of what is not to be made before it is needed.
    """

    default: object = None
    make: Callable[[], object] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        # pydantic has this schema, in Rust, but no annotation for its ``on_error``; the alternative is a validator in
        # Python for every field of every row.
        default = {"default": self.default} if self.make is None else {"default_factory": self.make}
        return {"type": "default", "schema": handler(source), "on_error": "default", **default}


Text = Annotated[str, Else("")]
Number = Annotated[float | None, Else(None)]
Flag = Annotated[bool | None, Else(None)]
Texts = Annotated[tuple[str, ...], Else(())]
Record = Annotated[dict[str, Any], Else({})]
Records = Annotated[tuple[Any, ...], Else(())]
Name = Annotated[str, Field(min_length=1)]
"""Text that must be there, such as an id."""


class Wire(BaseModel):
    """What every shape shares. Its validation errors never quote values, which may be secret or 10 MB long."""

    model_config = ConfigDict(
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # a command meets two or three of these shapes, and each takes a millisecond to build
    )


class Job(Wire):
    """An expert job. ``status`` is open text; see ``model.job_class``."""

    id: Name
    status: Name
    expert_key: Text = ""
    query: Text = ""
    files: Texts = ()
    interactive_tool_call_result: Flag = None
    model: Text = ""
    temperature: Number = None
    max_steps: Number = None
    max_retries: Number = None
    current_step: Number = None
    total_steps: Number = None
    total_duration: Number = None
    usage: Record = {}
    expert: Record = {}
    application_id: Text = ""
    created_at: Text = ""
    updated_at: Text = ""


class Instance(Wire):
    """The workspace instance of a job. ``count_items`` is a hint only (contract I-37); ``env_*`` are names (V-1)."""

    id: Name
    application_id: Text = ""
    application: Record = {}
    expert_job: Record = {}
    created_at: Text = ""
    updated_at: Text = ""
    items: Records = ()
    count_items: Number = None
    env_variables: Texts = ()
    env_secrets: Texts = ()


class InstanceToRun(Wire):
    """The instance with the values of its environment, which no ``repr`` shows (contract V-2)."""

    id: Name
    application_id: Text = ""
    expert_job: Record = {}
    created_at: Text = ""
    updated_at: Text = ""
    items: Records = Field(default=(), repr=False)
    count_items: Number = None
    env_variables: Annotated[dict[str, SecretStr], Else({})] = {}
    env_secrets: Annotated[dict[str, SecretStr], Else({})] = {}


class ApplicationWorkspace(Wire):
    """The defaults that every job of the application sees; environment as names only."""

    id: Name
    application_id: Text = ""
    application: Record = {}
    created_at: Text = ""
    updated_at: Text = ""
    items: Records = ()
    count_items: Number = None
    env_variables: Texts = ()
    env_secrets: Texts = ()
    count_workspace_instances: Number = None


class Action(Wire):
    """What a step did: a hint that items changed, never proof (contract C-8)."""

    model_config = ConfigDict(extra="allow")

    type: Text = ""
    path: Text = ""
    source: Text = ""
    destination: Text = ""
    error: Text = ""


class Checkpoint(Wire):
    """A step of a job."""

    id: Name
    status: Name
    step_number: float
    action: Annotated[Action, Else(make=Action)] = Field(default_factory=Action)
    run_id: Text = ""
    expert_job_id: Text = ""
    skill_name: Text = ""
    tool_name: Text = ""
    new_messages: Records = ()
    tool_call: Record = {}
    tool_result: Record = {}
    usage: Record = {}
    started_at: Text = ""
    finished_at: Text = ""


class Timing(Wire):
    """When a run did what; all of it may be absent."""

    created_at: Text = ""
    started_at: Text = ""
    completed_at: Text = ""
    duration_ms: Number = None
    cancel_requested_at: Text = ""


class Run(Wire):
    """A run. ``finished`` alone decides whether it is over (contract E-10)."""

    id: Name
    finished: bool
    type: Text = ""
    timing: Annotated[Timing, Else(make=Timing)] = Field(default_factory=Timing)
    source: Record = {}
    trigger: Record = {}
    execution: Record = {}
    eval: Record = {}
    output: Record = {}
    files: Records = ()
    error: Text = ""
    input: Record = {}
    usage: Record = {}
    debug: Record = Field(default={}, repr=False)

    @property
    def status(self) -> str:
        """The run's own status, empty where the server does not say."""
        status = self.execution.get("status")
        return status if isinstance(status, str) else ""


class Artifact(Wire):
    """A file of a run. ``path`` is its identity; ``size`` is None where the server does not know it (contract E-7)."""

    path: Name
    name: Text = ""
    role: Text = ""
    step_name: Text = ""
    content_type: Text = ""
    size: Annotated[int | None, Field(ge=0, le=_MOST_BYTES), Else(None)] = None


class PoolFile(Wire):
    """A reusable file."""

    id: Name
    filename: Text = ""
    content_type: Text = ""
    size: Number = None
    created_at: Text = ""
    purpose: Text = ""


class UploadOrder(Wire):
    """How a file is to be uploaded (contract E-20). The address is a secret for as long as it lives."""

    transport: Name
    url: Name = Field(repr=False)
    upload_id: Text = ""
    file_id: Text = ""
    headers: Annotated[dict[str, str], Else({})] = Field(default={}, repr=False)
    max_file_size_bytes: Number = None


class _Meta(Wire):
    total: Annotated[int | None, Field(ge=0, le=_MOST_BYTES), Else(None)] = None


class _RawItem(Wire):
    """An item of either dialect. The size is demanded of files only, so it is checked apart."""

    type: Name
    id: Name
    path: str
    owner: Text = ""
    lifecycle: Text = ""
    permission: Text = ""
    created_at: Text = ""
    updated_at: Text = ""
    key: Text = ""
    mime_type: Text = ""
    size: Annotated[int, Field(ge=0, le=_MOST_BYTES), Else(-1)] = -1


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


_W = TypeVar("_W", bound=Wire)


@dataclass(frozen=True, slots=True)
class Rows(Generic[_W]):
    """One page of any other list."""

    rows: Sequence[_W]
    total: int | None
    malformed: int = 0


_JSON: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(defer_build=True))


def parse_json(body: bytes) -> object:
    """Return the JSON value of a body.

    A lone surrogate, legal in JSON and not in UTF-8, must not cost a whole list, so the slower parser that lets it
    through has the second word.

    :raises ValueError: where it is no JSON, or nested beyond all reason.
    """
    try:
        return _JSON.validate_json(body)
    except ValueError:
        try:
            return json.loads(body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


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
    raw = _RawItem.model_validate(value)
    kind = _KINDS.get(raw.type)
    if kind is Kind.FILE and raw.size < 0:
        raise ValueError("a file without a usable size")
    if raw.id in (".", ".."):
        raise ValueError("an id that cannot be addressed")
    for text in (raw.id, raw.path, raw.key, raw.updated_at, raw.mime_type):
        text.encode()
    return Item(
        id=ItemId(raw.id),
        kind=kind,
        path=normal_path(raw.path),
        raw_path=raw.path,
        permission=_permission(raw.permission),
        lifecycle=_lifecycle(raw.lifecycle, default_lifecycle),
        owner=raw.owner,
        created_at=raw.created_at,
        updated_at=raw.updated_at,
        size=raw.size if kind is Kind.FILE else 0,
        key=raw.key,
        mime_type=raw.mime_type,
    )


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


def read_one(shape: type[_W], value: object, subject: str) -> _W:
    """Read one value.

    :raises ProtocolViolation: where the minimum is missing. It quotes nothing of the value.
    """
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, detail["loc"])) or "all" for detail in error.errors(include_input=False))
        raise errors.ProtocolViolation(f"{subject}: the answer lacks a usable {fields[:200]}", WRONG_ANSWER) from None


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
    return _Meta.model_validate(meta).total if isinstance(meta, Mapping) else None


def parse_time(text: str) -> datetime | None:
    """Return a timestamp in UTC, None where it cannot be read (contract T-13); one without a zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


WRONG_ANSWER = "check the server address; if it is right, the server and this version of jobfs do not fit"
