"""The server's switches: every answer to a question that the API's documents leave open (contract, section 8).

The first value of each switch is its default, and the defaults together are the documented behaviour. A client has to
work with each value, so tests turn them one at a time. The values travel as text (``name=value``) because they come
from a command line.

Pure values; anybody in the server may import this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jobfs.errors import SettingsError


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests a second that one key may send, and how a refusal names the wait.

    :param per_second: whole requests; the burst is the same number.
    :param style: ``Retry-After`` as seconds or as an HTTP date.
    """

    per_second: int
    style: Literal["seconds", "date"] = "seconds"

    @classmethod
    def parse(cls, text: str) -> RateLimit | None:
        """Read ``off``, ``5``, ``5:seconds`` or ``5:date``. Raises ``ValueError``."""
        if text == "off":
            return None
        number, _, style = text.partition(":")
        if not number.isascii() or not number.isdigit() or int(number) < 1:
            raise ValueError("expected off, N, N:seconds or N:date")
        match style:
            case "" | "seconds":
                return cls(int(number))
            case "date":
                return cls(int(number), "date")
            case _:
                raise ValueError("expected off, N, N:seconds or N:date")


@dataclass(frozen=True, slots=True)
class Switches:
    """One field a switch; the contract number in the comment says which question it answers."""

    slash_mode: Literal["both", "docs_only", "redirect_308"] = "both"  # T-1
    dialect: Literal["v1", "later", "both"] = "v1"  # I-1, V-1
    create_existing: Literal["error", "replace", "duplicate"] = "error"  # I-6
    dir_move: Literal["cascade", "orphan"] = "cascade"  # I-18
    find_mode: Literal["exact", "prefix", "glob"] = "exact"  # I-30
    delete_body: Literal["json", "empty", "no_content"] = "json"  # I-24
    leading_slash: Literal["strip", "keep", "reject"] = "strip"  # I-9
    content_update: Literal["off", "on"] = "off"  # I-17
    shared_change: Literal["shared", "detach"] = "shared"  # I-27
    readonly: Literal["advisory", "enforced"] = "advisory"  # I-29
    range: Literal["ignore", "honour"] = "ignore"  # I-42
    etag: Literal["off", "on"] = "off"  # section 7
    download_type: Literal["text_plain", "item_mime", "octet_stream"] = "text_plain"  # I-40
    chunked: Literal["off", "on"] = "off"  # I-41
    list_order: Literal["created", "shuffled"] = "created"  # I-35
    updated_at: Literal["tick", "coarse", "frozen"] = "tick"  # I-38
    embedded_items: Literal["100", "0", "all"] = "100"  # I-37
    unknown_job_list: Literal["404", "empty"] = "404"  # T-7
    reserve_runtime_dir: Literal["off", "on"] = "off"  # I-14
    model_check: Literal["off", "on"] = "off"  # J-8
    accept_response: Literal["on", "off"] = "on"  # J-9
    resume_from: Literal["off", "on"] = "off"  # J-13
    hold_queued: Literal["off", "on"] = "off"  # I-47
    checkpoint_key: Literal["system", "ordinary"] = "system"  # C-9; ordinary takes both kinds
    sse: Literal["lf", "crlf", "multiline", "cut"] = "lf"  # C-6
    artifact_redirect: Literal["off", "same_origin", "cross_origin"] = "off"  # E-3
    artifact_size: Literal["known", "null"] = "known"  # E-7
    upload_transport: Literal["multipart", "presigned"] = "multipart"  # E-20
    zip_limit: int = 32 * 1024 * 1024  # E-18, bytes before compression
    rate_limit: str = "off"  # T-9; off, N, N:seconds or N:date

    def __post_init__(self) -> None:
        for name, allowed in choices().items():
            value = getattr(self, name)
            if allowed and value not in allowed:
                raise _unusable(name, str(value))
        if self.zip_limit < 0:
            raise _unusable("zip_limit", str(self.zip_limit))
        try:
            RateLimit.parse(self.rate_limit)
        except ValueError:
            raise _unusable("rate_limit", self.rate_limit) from None


def choices() -> dict[str, tuple[str, ...]]:
    """Return the values of each switch by name, the default first; empty for the two that take a number."""
    return dict(_CHOICES)


def parse(words: Iterable[str], *, start: Switches | None = None) -> Switches:
    """Read ``name=value`` words. Raises ``SettingsError`` that names the values which the switch does take.

    :param start: what to change; the defaults where it is not given.
    """
    changes: dict[str, Any] = {}
    for word in words:
        name, found, value = word.partition("=")
        name = name.replace("-", "_")
        if not found or name not in _CHOICES:
            raise SettingsError(f"no such switch: {word!r}", f"write NAME=VALUE with one of: {', '.join(_CHOICES)}")
        if name == "zip_limit":
            if not value.isascii() or not value.isdigit():
                raise _unusable(name, value)
            changes[name] = int(value)
        else:
            changes[name] = value
    return replace(start or Switches(), **changes)


def _unusable(name: str, value: str) -> SettingsError:
    match name:
        case "zip_limit":
            remedy = "give a number of bytes"
        case "rate_limit":
            remedy = "give off, N, N:seconds or N:date"
        case _:
            remedy = f"give one of: {', '.join(_CHOICES[name])}"
    return SettingsError(f"switch {name} does not take {value!r}", remedy)


def _read_choices() -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(Switches)
    return {
        field.name: get_args(hints[field.name]) if get_origin(hints[field.name]) is Literal else ()
        for field in fields(Switches)
    }


_CHOICES = _read_choices()
