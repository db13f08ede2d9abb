"""What an address may be: the base of an API, a path below it, the target of a redirect.

Pure. One strict grammar is applied before an address reaches the HTTP stack, so that what is checked here and what is
connected to there cannot differ by a parser's opinion about backslashes, user names or blanks.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from jobfs import errors

DEFAULT_BASE = "https://api.perstack.ai"
"""Where the API of jobs is, where nobody says otherwise."""

DEFAULT_RUNS_BASE = "https://studio.eigenpal.com/api/v1"
"""The same for the API of runs."""

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^\s\\?#]*)?(?P<query>\?[^\s\\#]*)?(?:\#.*)?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REMEDY = "give an address such as https://studio.example or http://127.0.0.1:8000; plain http for this machine only"


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute address in the strict grammar, without user name and fragment.

    :param path: starts with a slash, or is empty.
    :param query: starts with a question mark, or is empty.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides whether credentials may be sent there."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host, and the port where it is not the scheme's own; for messages."""
        return self.host if self.port == _DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether nobody else can read what is sent there: TLS, or this very machine (contract T-3)."""
        return self.scheme == "https" or is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}{self.query}"


def is_loopback(host: str) -> bool:
    """Tell whether a host name means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse(text: str) -> Url | None:
    """Return the address, or None where it is not in the grammar."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        return None
    return Url(scheme, match["host"].lower(), port, match["path"] or "", match["query"] or "")


def parse_base(text: str) -> Url:
    """Return the base of an API with one final slash trimmed (contract T-2).

    :raises SettingsError: where it is not an http address, holds a query, or is plain http to another machine (T-3).
    """
    base = parse(text.strip())
    if base is None or base.query or "#" in text:
        raise errors.SettingsError("the server address is not a usable http address", _REMEDY)
    if not base.is_private:
        raise errors.SettingsError(f"plain http to {base.host} would show the API key to the network", _REMEDY)
    return Url(base.scheme, base.host, base.port, base.path.removesuffix("/"), "")


def redirect_target(source: Url, location: str) -> Url | None:
    """Return where a redirect leads, or None where it must not be followed: unreadable, or to plain http elsewhere."""
    encoded = quote(location.strip(), safe="/:?#[]@!$&'()*+,;=%-._~")
    try:
        target = parse(urljoin(str(source), encoded))
    except ValueError:
        return None
    if target is None or not target.is_private or (source.scheme == "https" and target.scheme == "http"):
        return None
    return target


def segment(identifier: str) -> str:
    """Return an identifier as one path segment (contract T-14: opaque, percent-encoded).

    :raises InvalidPath: for an empty one and for dots alone, which HTTP stacks resolve before they send.
    """
    if identifier in ("", ".", ".."):
        raise errors.InvalidPath(f"{identifier!r} cannot be the identifier of anything", "copy it from a listing")
    try:
        return quote(identifier, safe="")
    except UnicodeEncodeError:
        raise errors.InvalidPath("an identifier is not valid text", "copy it from a listing") from None


def base_of_runs(url: str) -> str:
    """Return the address with its prefix: ``/v1`` on a host named ``api.``, ``/api/v1`` on any other."""
    base = parse_base(url)
    if base.path:
        return str(base)
    return f"{base}/v1" if base.host.startswith("api.") else f"{base}/api/v1"
