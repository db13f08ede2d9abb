"""Request bodies: their shapes, and the 422 that follows when one does not fit.

Unknown fields are ignored. A field that may be left out must not be ``null`` (contract I-15): its default below only
stands in when it is absent, which ``given`` tells apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
)

from jobfs.server.ids import is_well_formed
from jobfs.server.items import Access
from jobfs.server.refusals import Refused
from jobfs.server.registry import EXPERT_KEY

MODELS = (
    "claude-opus-4-5",
    "claude-opus-4-1",
    "claude-opus-4-20250514",
    "claude-sonnet-4-5",
    "claude-sonnet-4-20250514",
    "claude-3-7-sonnet-20250219",
    "claude-haiku-4-5",
    "claude-3-5-haiku-latest",
    "gemini-3-pro-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-5-chat-latest",
    "o4-mini",
    "o3",
    "o3-mini",
    "gpt-4.1",
    "deepseek-chat",
    "deepseek-reasoner",
)
"""The documents' closed list, enforced under ``model_check=on`` (contract J-8)."""

JobStatus = Literal[
    "queued",
    "processing",
    "completed",
    "requestInteractiveToolResult",
    "requestDelegateResult",
    "exceededMaxSteps",
    "failed",
    "canceling",
    "canceled",
    "expired",
]


Purpose = Literal["run-input", "builder-attachment"]
"""Either makes a file of the pool temporary."""


def _storable(text: str) -> str:
    """JSON can spell lone surrogates, which no UTF-8 text can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("not a Unicode text") from None
    return text


def _id(text: str) -> str:
    if not is_well_formed(text):
        raise ValueError("not an id: 24 lower-case letters and digits")
    return text


def _number(value: object) -> object:
    """Numbers travel as text in forms and as either in JSON (contract J-4)."""
    if isinstance(value, str):
        if not value.isascii() or not all(part.isdigit() for part in value.split(".", 1)):
            raise ValueError("not a decimal number")
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    return value


def _integral(value: object) -> object:
    """To JSON Schema 5.0 is an integer as good as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _many(value: object) -> object:
    return value if isinstance(value, list) else [value]


Text = Annotated[StrictStr, AfterValidator(_storable)]
ShortText = Annotated[Text, StringConstraints(min_length=1, max_length=255)]
HeaderText = Annotated[Text, StringConstraints(pattern=r"^[\t\x20-\x7e]*$")]
Identifier = Annotated[StrictStr, AfterValidator(_id)]
ItemPathText = Annotated[Text, StringConstraints(min_length=1, max_length=1024)]
QueryText = Annotated[Text, StringConstraints(min_length=1, max_length=20480)]
EnvName = Annotated[Text, StringConstraints(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$")]
ExpertKey = Annotated[Text, StringConstraints(min_length=1, max_length=511, pattern=EXPERT_KEY)]
ModelName = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Number, Field(ge=0)]
Steps = Annotated[Number, Field(ge=1)]
Flag = Annotated[StrictBool, BeforeValidator(_flag)]
FileNames = Annotated[list[QueryText], BeforeValidator(_many)]


class Body(BaseModel):
    """What all bodies share."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    def given(self, name: str) -> Any:
        """Return a field that the request has, or None where it was left out."""
        return getattr(self, name) if name in self.model_fields_set else None


class JobParameters(Body):
    """What a start and a continuation have in common."""

    query: QueryText = ""
    files: FileNames = []
    temperature: Fraction = 0
    maxSteps: Steps = 1
    maxRetries: Count = 0
    model: ModelName = ""


class StartJob(JobParameters):
    """Body of endpoint 2."""

    expertKey: ExpertKey


class ContinueJob(JobParameters):
    """Body of endpoint 5; ``response`` is the later client's word for the query (contract J-9)."""

    interactiveToolCallResult: Flag = False
    response: QueryText = ""


class ResumeJob(ContinueJob):
    """Body of endpoint 15."""

    checkpointId: Identifier


class UpdateStatus(Body):
    """Body of endpoint 4."""

    status: JobStatus


class CreateItem(Body):
    """Body of endpoints 8 and 21 in the documented shape; a file's bytes are another part of the same form."""

    type: Literal["workspaceItemDirectory", "workspaceItemFile"]
    permission: Access
    path: ItemPathText


class CreateItemBase64(Body):
    """Body of endpoints 8 and 21 as the later client sends it: a file, with its bytes in the JSON (contract I-3)."""

    path: ItemPathText
    permission: Access = "readWrite"
    content: StrictStr


class UpdateItem(Body):
    """Body of endpoints 10 and 22; ``content`` counts only under ``content_update=on`` (contract I-17)."""

    path: ItemPathText = ""
    permission: Access = "readWrite"
    lifecycle: Literal["application", "expertJob"] = "expertJob"
    content: StrictStr = ""


class CreateEnv(Body):
    """Body of endpoint 25."""

    name: EnvName
    value: Text


class UpdateEnv(Body):
    """Body of endpoint 26."""

    name: EnvName = ""
    value: Text = ""


class CreateUpload(Body):
    """Body of endpoint 36."""

    filename: Text
    contentType: HeaderText
    size: Annotated[StrictInt, BeforeValidator(_integral), Field(ge=0)]
    purpose: Purpose = "run-input"
    idempotencyKey: Text = ""


_BodyT = TypeVar("_BodyT", bound=Body)


def read_body(model: type[_BodyT], fields: Mapping[str, Any]) -> _BodyT:
    """Check a body. Raises ``Refused`` with 422 whose reason lists each field and what is wrong with it."""
    try:
        body = model.model_validate(fields)
    except ValidationError as error:
        raise Refused(422, _complaints(error)) from None
    return body


def _complaints(error: ValidationError) -> list[dict[str, str]]:
    """Say where and what, without the values: a body may hold secrets."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [{"path": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in found]


def whole(number: float) -> float | int:
    """Return a number as JSON shows it best: without a fraction where there is none."""
    return int(number) if math.isfinite(number) and number == int(number) else number
