"""The shapes of answers, read openly; ``answer`` reads what all of them share, and the items.

Only the fields without which a client cannot work are demanded (``x-client-minimum`` of the contract). Unknown fields
are ignored, unknown enum values kept as text, and any other field that is missing, null or of a wrong type counts as
absent. A broken row of a list costs that row alone, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from jobfs import errors
from jobfs.api.answer import MOST_BYTES, WRONG_ANSWER


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
    size: Annotated[int | None, Field(ge=0, le=MOST_BYTES), Else(None)] = None


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


_W = TypeVar("_W", bound=Wire)


@dataclass(frozen=True, slots=True)
class Rows(Generic[_W]):
    """One page of any other list."""

    rows: Sequence[_W]
    total: int | None
    malformed: int = 0


def read_one(shape: type[_W], value: object, subject: str) -> _W:
    """Read one value.

    :raises ProtocolViolation: where the minimum is missing. It quotes nothing of the value.
    """
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, detail["loc"])) or "all" for detail in error.errors(include_input=False))
        raise errors.ProtocolViolation(f"{subject}: the answer lacks a usable {fields[:200]}", WRONG_ANSWER) from None


def parse_time(text: str) -> datetime | None:
    """Return a timestamp in UTC, None where it cannot be read (contract T-13); one without a zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
