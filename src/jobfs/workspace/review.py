"""Requests about the changes of a workspace, and their answers as values: what goes through the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobfs.engine.backlog import waiting
from jobfs.engine.leftover import told_of
from jobfs.engine.review import Difference, Published, Review
from jobfs.model import Entry, LocalNode, NodeId
from jobfs.workspace.answering import Handler, Send

_COUNT_S = 0.5


def handlers_of(review: Review) -> Mapping[str, Handler]:
    """Return who answers requests about the changes of a workspace, by name."""

    async def hold(request: Mapping[str, Any], send: Send) -> object:
        return await review.hold(is_on=bool(request["on"]))

    async def differences(request: Mapping[str, Any], send: Send) -> object:
        return [_difference(one) for one in await review.differences(str(request["path"]))]

    async def versions(request: Mapping[str, Any], send: Send) -> object:
        found = await review.fetch(map(NodeId, request["nodes"]), Path(request["directory"]))
        return {str(node): failures for node, failures in found.items()}

    async def drain(request: Mapping[str, Any], send: Send) -> object:
        draining = review.drain(float(request["deadline_s"]), allow=request.get("allow", 0))
        return _published(await _counted(asyncio.ensure_future(draining), review, send))

    async def publish(request: Mapping[str, Any], send: Send) -> object:
        publishing = review.publish(str(request["path"]), float(request["deadline_s"]), allow=request.get("allow", 0))
        return _published(await _counted(asyncio.ensure_future(publishing), review, send))

    async def revert(request: Mapping[str, Any], send: Send) -> object:
        return await review.revert(str(request["path"]))

    async def approve(request: Mapping[str, Any], send: Send) -> object:
        await review.approve(str(request["path"]))
        return None

    handlers = (hold, differences, versions, drain, publish, approve, revert)
    return {handler.__name__: handler for handler in handlers}


async def _counted(publishing: asyncio.Future[Published], review: Review, send: Send) -> Published:
    """Wait for a publication; tell twice a second how many changes are still to be sent."""
    try:
        while not publishing.done():
            if left := waiting(review.session.state, review.session.hold):
                await send(left)
            await asyncio.wait({publishing}, timeout=_COUNT_S)
        return await publishing
    finally:
        publishing.cancel()


def _difference(one: Difference) -> dict[str, object]:
    return {
        "node": one.node,
        "kind": one.kind.value,
        "old": _side(one.old_path, one.known, one.here),
        "new": _side(one.new_path, one.here, one.here),
        "isSame": one.is_same,
        "isOvertaken": one.is_overtaken,
    }


def _side(path: str | None, entry: Entry | None, here: LocalNode | None) -> dict[str, object] | None:
    """Return one side as a value. The execute bit is kept here only, so it is the same on both sides."""
    if path is None or entry is None:
        return None
    size, sha256 = (entry.content.size, entry.content.sha256) if entry.content is not None else (0, None)
    execute = here.mode & 0o111 if here is not None else 0
    mode = execute | (0o444 if entry.permission.value == "readOnly" else 0o644)
    return {"path": path, "mode": mode, "permission": entry.permission.value, "size": size, "sha256": sha256}


def _published(published: Published) -> dict[str, object]:
    return {"sent": list(published.sent), "along": list(published.along), "left": told_of(published.left)}
