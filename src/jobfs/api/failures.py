"""What an answer that gives nothing means, in the words of users.

Pure. By status first, then by the documented reason as a case-folded part of the text, never by equality (contract,
section 3). Both envelopes are understood; HTML, empty and broken bodies are survived.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique

from jobfs import errors
from jobfs.api.answer import parse_json
from jobfs.api.keys import KeyKind

KEPT_BODY_BYTES = 64 * 1024
_REASON_CHARACTERS = 500
_WRONG_BASE = "check the server address: it should be the API's own, with its prefix and nothing more"


@unique
class Envelope(Enum):
    """Which program's answers are expected."""

    STUDIO = "studio"
    RUNS = "runs"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as received.

    :param headers: names in lower case.
    :param body: at most ``KEPT_BODY_BYTES`` of it where it was a failure; keys already redacted.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class AnswerTooLarge(errors.ProtocolViolation):
    """A body above the cap of its call. Stays inside ``api``: a find falls back to the list (contract I-31)."""


def has_envelope(answer: Answer, envelope: Envelope) -> bool:
    """Tell whether a failure was written by the API itself and not by something in front of it."""
    value = _document(answer.body)
    if envelope is Envelope.RUNS:
        return "issues" in value
    return "error" in value and ("code" in value or "reason" in value)


def reason_of(answer: Answer) -> str:
    """Return the server's own words as one printable line; empty where there are none."""
    value = _document(answer.body)
    issues = value.get("issues")
    if isinstance(issues, list) and issues and isinstance(issues[0], dict):
        text = str(issues[0].get("message") or issues[0].get("code") or "")
        request_id = value.get("requestId") or answer.headers.get("x-request-id")
        return _one_line(f"{text} (request {request_id})" if request_id else text)
    reason = value.get("reason")
    if reason is None:
        reason = value.get("error") or value.get("message") or value.get("detail") or ""
    if isinstance(reason, list) and reason and all(isinstance(one, dict) and "message" in one for one in reason):
        reason = "; ".join(": ".join(str(one[name]) for name in ("path", "message") if name in one) for one in reason)
    return _one_line(reason if isinstance(reason, str) else json.dumps(reason, ensure_ascii=False, default=str))


def failure(
    answer: Answer, subject: str, *, key: KeyKind, method: str, envelope: Envelope = Envelope.STUDIO
) -> errors.ApiError:
    """Return the exception for a status outside 2xx.

    :param subject: what the call was about, for the message: ``job abc``. :param envelope: whose answer it is.
    """
    status = answer.status
    reason = reason_of(answer)
    words = f"{status}: {reason}" if reason else str(status)
    kind, cause, remedy = _classify(status, reason.casefold(), key=key, method=method)
    if status == 404 and envelope is Envelope.RUNS:
        remedy = "check the name or id; see jobfs runs list"
    elif status == 404 and "expert not found" in reason.casefold():
        remedy = "check the expert's name: @scope/name"
    return kind(f"{subject}: {cause} ({words})", remedy, status=status, reason=reason, body=answer.body)


_Verdict = tuple[type[errors.ApiError], str, str]
"""Class, cause and remedy."""


def _classify(status: int, reason: str, *, key: KeyKind, method: str) -> _Verdict:
    if status in (401, 403):
        return _denied(status, reason, key=key, method=method)
    if status in (400, 409, 422):
        for part, verdict in _REASONS.items():
            if part in reason:
                return verdict
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return _FAILED
    if status >= 400:
        return errors.Refused, "the server refused", "" if method != "GET" else "check the name or id"
    if status >= 300:
        return errors.ProtocolViolation, "redirected to where jobfs does not follow", _WRONG_BASE
    return errors.ProtocolViolation, "an answer outside the contract", _WRONG_BASE


def _denied(status: int, reason: str, *, key: KeyKind, method: str) -> _Verdict:
    if status == 403 and method != "GET" and any(word in reason for word in ("read-only", "readonly", "read only")):
        return errors.Refused, "it is read-only on the server", "make it writable first"
    if status == 403:
        # A firewall before the server refuses one name or content like this, so the other changes still go.
        kind = errors.Unauthenticated if method == "GET" else errors.Forbidden
        return (
            kind,
            f"the {key.value} may not do this",
            "use a key with that right, or see what the server has against it",
        )
    remedy = (
        "check the system key; an ordinary API key does not serve here"
        if key is KeyKind.SYSTEM
        else "check JOBFS_API_KEY or the file of --api-key-file, and that it belongs to this server"
    )
    return errors.Unauthenticated, f"the server does not accept the {key.value}", remedy


_FAILED: _Verdict = (errors.ServerFailure, "the server failed", "try again later; jobfs keeps what is not yet sent")
_TOO_MUCH: _Verdict = (errors.TooLarge, "the server does not take this much", "make it smaller, or free space there")
_UNKNOWN_CALL: _Verdict = (errors.Refused, "the server does not know this call", _WRONG_BASE)
_STATUSES: dict[int, _Verdict] = {
    404: (errors.NotFound, "not found on the server", "check the name or id; see jobfs jobs list"),
    405: _UNKNOWN_CALL,
    408: _FAILED,
    413: _TOO_MUCH,
    415: _UNKNOWN_CALL,
    425: _FAILED,
    429: (errors.RateLimited, "the server asks for fewer requests", "try again in a minute"),
    507: _TOO_MUCH,
}
_REASONS: dict[str, _Verdict] = {
    "env name already exists": (errors.Refused, "the name is taken", "update the variable, or choose another name"),
    "path already exists": (errors.PathExists, "the path is taken", "choose another name, or remove what is there"),
    "directory not found": (errors.ParentMissing, "its directory is not on the server", "create the directory first"),
    "invalid path": (errors.InvalidPath, "the server does not take this path", "choose another name"),
    "unable to continue": (errors.Refused, "the job cannot be continued in this state", "see jobfs jobs show"),
    "expertjobid": (errors.Refused, "that is no id of a job", "check the id; see jobfs jobs list"),
    "not directories": (errors.Refused, "only files have content", "name a file"),
}


def _document(body: bytes) -> dict[str, object]:
    """Return the body as an object, empty where it is none."""
    try:
        value = parse_json(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _one_line(text: str) -> str:
    """Make a server's text safe for one line of a terminal: no control sequences, no novels."""
    printable = "".join(character if character.isprintable() else " " for character in text[: _REASON_CHARACTERS * 2])
    line = " ".join(printable.split())
    return line if len(line) <= _REASON_CHARACTERS else line[: _REASON_CHARACTERS - 1] + "…"


def not_json(answer: Answer, subject: str) -> errors.ProtocolViolation:
    """Return the exception for a success that is not the API's."""
    kind = "an HTML page" if b"<html" in answer.body[:2048].lower() else "no JSON" if answer.body else "an empty body"
    return errors.ProtocolViolation(
        f"{subject}: the server answered {answer.status} with {kind}; its address may be wrong",
        _WRONG_BASE,
        status=answer.status,
        body=answer.body[:KEPT_BODY_BYTES],
    )
