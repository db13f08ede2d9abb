"""What the local history of a state has."""

from __future__ import annotations

from jobfs.store.history import Version
from jobfs.store.state import State


def bytes_of(state: State, version: Version) -> bytes:
    return b"" if version.blob is None else state.blobs.path(version.blob).read_bytes()


def kept_versions(state: State) -> list[tuple[str, bytes, str]]:
    """Return path, bytes and reason of every version, the oldest first."""
    return [(version.path, bytes_of(state, version), str(version.reason)) for version in state.versions.all()]


def kept_bytes(state: State) -> list[bytes]:
    return [data for _, data, _ in kept_versions(state)]


def lost_bytes(state: State) -> list[bytes]:
    """Return the bytes of what lost a conflict."""
    return [data for _, data, reason in kept_versions(state) if reason == "lost a conflict"]
