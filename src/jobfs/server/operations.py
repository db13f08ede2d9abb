"""Operations: what a route is, and the checks that come before its handler.

The order of checks is the contract's (T-6): 401, then 422 for path and query, then 404, then 422 for the body, then
400. The first two happen here for every operation; the rest follows from how handlers are written: look up, then read
the body, then change.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from jobfs.server.answers import eigenpal_refusal, perstack_refusal
from jobfs.server.bodies import Body, EnvName
from jobfs.server.forms import BodyReader
from jobfs.server.ids import is_well_formed, random_id
from jobfs.server.internal_api import is_internal
from jobfs.server.items import View
from jobfs.server.jobs import JobRecord
from jobfs.server.keys import Caller, KeyKind
from jobfs.server.refusals import FAILED_TO_AUTHENTICATE, Refused, failure
from jobfs.server.state import ServerState
from jobfs.server.switches import RateLimit

_log = logging.getLogger("jobfs.server")


@unique
class Audience(Enum):
    """Who may call an operation."""

    ORDINARY = "ordinary"
    SYSTEM = "system"
    RUNTIME = "runtime"  # the system key, or both by the switch checkpoint_key
    LINK = "link"  # an ordinary key, or a signed link in the query


@unique
class Family(Enum):
    """Which of the two APIs an operation belongs to: they differ in their envelopes."""

    PERSTACK = "perstack"
    EIGENPAL = "eigenpal"


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter.

    :param read: turns its text into a value, or raises ``ValueError`` with what is wrong.
    :param schema: its JSON schema, for the OpenAPI page.
    """

    name: str
    read: Callable[[str], Any]
    default: Any = None
    is_required: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    :param path: in the documented spelling: with or without its final slash.
    :param body: shape of its body, for the OpenAPI page; handlers read bodies themselves, after they looked things up.
    :param file_field: name of the form field that carries a file.
    :param answers: statuses that it may answer besides 401, with what they mean.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Response]]
    summary: str
    tag: str
    audience: Audience = Audience.ORDINARY
    family: Family = Family.PERSTACK
    query: tuple[Query, ...] = ()
    body: type[Body] | None = None
    file_field: str = ""
    answers: Mapping[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One admitted request.

    :param ids: the path's parameters, decoded and checked.
    :param query: the declared parameters' values.
    """

    state: ServerState
    caller: Caller
    request: Request
    ids: Mapping[str, str]
    query: Mapping[str, Any]
    request_id: str

    @property
    def application(self) -> str:
        """The application of an ordinary key."""
        if self.caller.application is None:
            raise Refused(401, FAILED_TO_AUTHENTICATE)
        return self.caller.application

    def job(self) -> JobRecord:
        """Return the job of the path; 404 where the caller sees none."""
        return self.state.jobs.get(self.caller.application, self.ids["expertJobId"])

    def view(self) -> View:
        """Return whose items the path means: a job's instance, or the application's workspace."""
        if "expertJobId" in self.ids:
            return self.state.jobs.view_of(self.caller.application, self.ids["expertJobId"])
        return View(self.state.jobs.application_space(self.application))

    def body(self) -> BodyReader:
        """Open the body for reading."""
        return BodyReader(self.request, self.state.storage.contents, self.state.upload_limit)

    def is_struck_by(self, kind: str) -> bool:
        """Tell whether a fault of this kind strikes this request."""
        return any(fault.kind == kind for fault in self.request.scope.get("jobfs.faults", ()))


def endpoint(operation: Operation, state: ServerState) -> Callable[[Request], Awaitable[Response]]:
    """Return what the router calls for an operation."""

    async def answer(request: Request) -> Response:
        request_id = random_id() if operation.family is Family.EIGENPAL else ""
        try:
            caller = admit(state, request, operation.audience)
            response = _respell(operation, state, request)
            if response is None:
                ids, query = _path_parameters(request), _query_parameters(operation, request)
                response = await operation.handler(Call(state, caller, request, ids, query, request_id))
        except Refused as refused:
            response = refusal(operation.family, refused, request_id)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except Exception as error:  # noqa: BLE001  (logged; raised any further, it would break the connection)
            response = refusal(operation.family, _failed(error, operation), request_id)
        if request_id:
            response.headers["x-request-id"] = request_id
        return response

    return answer


def _failed(error: Exception, operation: Operation) -> Refused:
    """Log what went wrong and return what the client is told: never more than that."""
    known = failure(error)
    if known is not None:
        _log.error("%s %s: %s", operation.method, operation.path, known.reason)
        return known
    _log.error("%s %s failed", operation.method, operation.path, exc_info=error)
    return Refused(500, "The server failed; its log says why")


def refusal(family: Family, refused: Refused, request_id: str) -> Response:
    """Return the envelope of a family."""
    match family:
        case Family.PERSTACK:
            return perstack_refusal(refused)
        case Family.EIGENPAL:
            if refused.status == 422:  # which this API does not have
                refused = Refused(400, refused.reason, headers=refused.headers)
            return eigenpal_refusal(refused, request_id)


def admit(state: ServerState, request: Request, audience: Audience) -> Caller:
    """Return who calls; 401 unless the key is of the right kind (V-3), 429 beyond the rate limit."""
    caller = state.keys.caller(request.headers.get("authorization"))
    if caller is None and audience is Audience.LINK:
        caller = _link_holder(state, request)
    if caller is None or caller.kind not in _kinds(audience, state):
        raise Refused(401, FAILED_TO_AUTHENTICATE)
    limit = RateLimit.parse(state.switches.rate_limit)
    if limit is not None and not is_internal(request.scope):
        state.limiter.count(caller.digest, limit)
    return caller


def _link_holder(state: ServerState, request: Request) -> Caller | None:
    """Return who follows a signed link. It opens the archive of one run and nothing else."""
    query = request.query_params
    if query.get("zip") != "1" or "token" not in query:
        return None
    try:
        application, run = state.signer.open("zip", query["token"])
    except Refused:
        return None
    return Caller(KeyKind.ORDINARY, application, "link") if run == request.path_params["id"] else None


def _kinds(audience: Audience, state: ServerState) -> tuple[KeyKind, ...]:
    match audience:
        case Audience.ORDINARY | Audience.LINK:
            return (KeyKind.ORDINARY,)
        case Audience.SYSTEM:
            return (KeyKind.SYSTEM,)
        case Audience.RUNTIME:
            both = state.switches.checkpoint_key == "ordinary"
            return (KeyKind.SYSTEM, KeyKind.ORDINARY) if both else (KeyKind.SYSTEM,)


def _respell(operation: Operation, state: ServerState, request: Request) -> Response | None:
    """Answer the spelling that the documents do not have, where the switch says so (contract T-1)."""
    path: str = request.scope["path"]
    if path.endswith("/") == operation.path.endswith("/") or operation.family is Family.EIGENPAL:
        return None
    match state.switches.slash_mode:
        case "both":
            return None
        case "docs_only":
            return JSONResponse({"detail": "Not Found"}, 404)
        case "redirect_308":
            other = path.rstrip("/") if path.endswith("/") else path + "/"
            query = request.scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{other}?{query}" if query else other, 308)


def _path_parameters(request: Request) -> dict[str, str]:
    """Decode the path's parameters and refuse malformed ones with 422 (contract T-14)."""
    found = {}
    for name, raw in request.path_params.items():
        try:
            text = unquote(raw, errors="strict")
        except UnicodeDecodeError:
            raise Refused(422, [{"path": name, "message": "not UTF-8"}]) from None
        if name in _ID_PARAMETERS and not is_well_formed(text):
            raise Refused(422, [{"path": name, "message": "not an id: 24 lower-case letters and digits"}])
        if name in _NAME_PARAMETERS:
            _check_env_name(name, text)
        found[name] = text
    return found


_ID_PARAMETERS = frozenset({"expertJobId", "workspaceItemId", "checkpointId"})
_NAME_PARAMETERS = frozenset({"envVariableName", "envSecretName"})
_ENV_NAME: TypeAdapter[str] = TypeAdapter(EnvName)


def _check_env_name(name: str, text: str) -> None:
    try:
        _ENV_NAME.validate_python(text)
    except ValidationError:
        raise Refused(422, [{"path": name, "message": "not a name of letters, digits, _ and -"}]) from None


def _query_parameters(operation: Operation, request: Request) -> dict[str, Any]:
    """Read the declared parameters; unknown ones are ignored, of a repeated one the last counts."""
    if not operation.query:
        return {}
    try:
        text = request.scope["query_string"].decode("ascii")
        given = dict(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except ValueError:
        raise Refused(422, [{"path": "", "message": "the query is not UTF-8"}]) from None
    return {parameter.name: _query_value(parameter, given) for parameter in operation.query}


def _query_value(parameter: Query, given: Mapping[str, str]) -> Any:
    text = given.get(parameter.name)
    if text is None:
        if parameter.is_required:
            raise Refused(422, [{"path": parameter.name, "message": "missing"}])
        return parameter.default
    try:
        return parameter.read(text)
    except ValueError as error:
        raise Refused(422, [{"path": parameter.name, "message": str(error)}]) from None


# ---------------------------------------------------------------------- kinds of query parameters


def number(name: str, *, default: int, low: int, high: int | None = None) -> Query:
    """A whole number between bounds."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 100:
            raise ValueError("not a whole number")
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError(f"not between {low} and {high}" if high is not None else f"below {low}")
        return value

    bounds = {"minimum": low} | ({"maximum": high} if high is not None else {})
    return Query(name, read, default, schema={"type": "integer", "default": default, **bounds})


def text(name: str, *, high: int | None = None, is_required: bool = False) -> Query:
    """A text of at least one character."""

    def read(value: str) -> str:
        if not value or (high is not None and len(value) > high):
            raise ValueError(f"not of 1 to {high} characters" if high is not None else "empty")
        return value

    bounds = {"minLength": 1} | ({"maxLength": high} if high is not None else {})
    return Query(name, read, is_required=is_required, schema={"type": "string", **bounds})


def anything(name: str) -> Query:
    """A text without rules."""
    return Query(name, str, schema={"type": "string"})


def choice(name: str, *values: str, default: str | None = None) -> Query:
    """One of a few words."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"not one of {', '.join(values)}")
        return value

    return Query(name, read, default, schema={"type": "string", "enum": list(values)})


def identifier(name: str) -> Query:
    """An id."""

    def read(value: str) -> str:
        if not is_well_formed(value):
            raise ValueError("not an id: 24 lower-case letters and digits")
        return value

    return Query(name, read, schema={"type": "string", "pattern": "^[a-z0-9]+$", "minLength": 24, "maxLength": 24})


TAKE = number("take", default=100, low=1, high=100)
SKIP = number("skip", default=0, low=0)
ORDER = choice("order", "asc", "desc")
