"""The experts that a server knows, as far as the API shows them. What an expert does is the runner's business."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

EXPERT_KEY = (
    r"^(@[a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*"
    r"(@((0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z_.-]+)?(\+[0-9A-Za-z_.-]+)?"
    r"|[a-z0-9][a-z0-9_.-]*))?$"
)
"""Grammar of an expert key: optional scope, name, optionally a version or tag (contract, section 1)."""

_VERSION = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z_.-]+)?(\+[0-9A-Za-z_.-]+)?",
)

_MAX_VERSION = 255
"""Longest version that an answer may show."""


@dataclass(frozen=True, slots=True)
class ExpertInfo:
    """One expert.

    :param name: with its scope, without a version.
    :param description: one or two sentences for people.
    :param instruction: what it is told to do; for a local command, what the command does.
    """

    name: str
    description: str
    instruction: str
    version: str = "1.0.0"


ExpertLookup = Callable[[str], ExpertInfo | None]
"""Finds an expert by its name without version or tag."""


def expert_name(key: str) -> str:
    """Return the name in an expert key."""
    scope, slash, rest = key.rpartition("/")
    return scope + slash + rest.partition("@")[0]


def expert_version(key: str, info: ExpertInfo) -> str:
    """Return the version that a key asks for; a tag, or nothing, means the one that there is."""
    asked = key.rpartition("/")[2].partition("@")[2]
    return asked if len(asked) <= _MAX_VERSION and _VERSION.fullmatch(asked) else info.version


def no_experts(_name: str) -> ExpertInfo | None:
    """The registry of a server without experts."""
    return None


def fixed(*experts: ExpertInfo) -> ExpertLookup:
    """Return a registry of just these experts."""
    return {expert.name: expert for expert in experts}.get
