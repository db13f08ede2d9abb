"""What one call of an API is, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique

from jobfs.api.body import Body
from jobfs.api.failures import Envelope
from jobfs.api.hedge import FIRST_PATIENCE_S
from jobfs.api.keys import KeyKind

MOST_JSON_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    :param connect_s: for a connection.
    :param idle_s: for the next bytes of an answer, or for the server to take the next bytes of a body.
    :param quiet_s: for any sign of life before a read is asked again (see ``hedge``).
    :param dead_s: for the other end's system to acknowledge anything (see ``sockets``).
    :param total_s: for a call with all its tries.
    :param slowest_bytes_per_s: what an upload must reach; its length at this rate is added to its ``total_s``.
    """

    connect_s: float = 10.0
    idle_s: float = 30.0
    quiet_s: float = FIRST_PATIENCE_S
    dead_s: float = 8.0
    total_s: float = 120.0
    slowest_bytes_per_s: int = 16 * 1024


@unique
class Redirects(Enum):
    """What to do about a redirect of a GET (contract T-8, E-3, E-4)."""

    FOLLOW = "follow"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the API.

    :param path: below the base, encoded, in the documented spelling; or an absolute address, then with no key.
    :param subject: what it is about, for messages: ``job abc``.
    :param query: encoded here.
    :param headers: further ones; dropped when a redirect leaves the origin.
    :param can_repeat: whether repeating it changes nothing; None means so for GET and DELETE only.
    :param has_slash_twin: whether another spelling of the final slash may be tried (contract T-1).
    :param is_transfer: whether it carries content, up or down, other than a small file that goes out at once.
    :param content: whose content it carries, for displays: a path going up, an item coming down.
    :param is_sensitive: it or its answer holds secrets: the body of an answer is never kept in an exception.
    :param secret: a value it carries, which is cut out of the reason that a refusal gives.
    :param is_endless: an event stream: holds no slot.
    :param most_bytes: cap of a JSON body.
    """

    method: str
    path: str
    subject: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    key: KeyKind = KeyKind.API
    envelope: Envelope = Envelope.STUDIO
    redirects: Redirects = Redirects.FOLLOW
    can_repeat: bool | None = None
    has_slash_twin: bool = True
    is_transfer: bool = False
    content: str = ""
    is_sensitive: bool = False
    secret: str = field(default="", repr=False)
    is_endless: bool = False
    most_bytes: int = MOST_JSON_BYTES

    @property
    def repeats(self) -> bool:
        """Whether another try after an unclear outcome does no harm."""
        return self.method in ("GET", "DELETE") if self.can_repeat is None else self.can_repeat
