"""Extended attributes: what the server says of an item, as ``user.jobfs.*``.

``user.jobfs.lifecycle`` can be set (contract I-28: an explicit call, never a side effect); the others are read-only. In
local-only places there are none, and setting any other attribute is ENOTSUP, so that programs use their fall-backs.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

from jobfs.engine.patience import LOCKED_DEADLINE_S
from jobfs.engine.session import Session
from jobfs.errors import DeadlineExceeded
from jobfs.model import Lifecycle, LocalNode, NodeId
from jobfs.vfs.namespace import Namespace, fail

_USER = "user."
_PREFIX = "user.jobfs."
ITEM = _PREFIX + "item"
LIFECYCLE = _PREFIX + "lifecycle"
PERMISSION = _PREFIX + "permission"
STATE = _PREFIX + "state"
SHA256 = _PREFIX + "sha256"
REASON = _PREFIX + "reason"


class ExtendedAttributes:
    """The extended attributes of one workspace."""

    def __init__(self, session: Session, namespace: Namespace) -> None:
        self._session = session
        self._namespace = namespace

    def names(self, node: NodeId) -> list[str]:
        """Return the attributes that a node has."""
        return sorted(self._values(self._namespace.record(node)))

    def get(self, node: NodeId, name: str) -> bytes:
        """Return an attribute's value; ENODATA where the node has none of that name, ENOTSUP outside of ``user.``."""
        if not name.startswith(_USER):
            raise fail(errno.ENOTSUP)
        value = self._values(self._namespace.record(node)).get(name)
        if value is None:
            raise fail(errno.ENODATA)
        return value.encode("utf-8")

    def _values(self, record: LocalNode) -> dict[str, str]:
        if record.is_local_only:
            return {STATE: "local-only"}
        values = {PERMISSION: record.permission.value, STATE: self.push_state(record)}
        base = self._session.state.base.get(record.id)
        if base is not None and base.item is not None:
            values[ITEM] = base.item
            values[LIFECYCLE] = (Lifecycle.APPLICATION if base.is_shared else Lifecycle.EXPERT_JOB).value
        if record.content is not None and record.content.sha256 is not None:
            values[SHA256] = record.content.sha256
        refusal = self._session.refusals.get(record.id)
        if refusal is not None:
            values[REASON] = refusal.detail
        return values

    def push_state(self, record: LocalNode) -> str:
        """Return where a node stands: clean, dirty, held, pushing, refused or problem."""
        session = self._session
        if record.id in session.refusals:
            return "refused"
        if record.id in session.plan_problems:
            return "problem"
        if record.id in session.pusher.in_flight:
            return "pushing"
        base = session.state.base.get(record.id)
        is_clean = (
            base is not None
            and (base.parent, base.name, base.permission) == (record.parent, record.name, record.permission)
            and not record.is_dirty
        )
        if is_clean:
            return "clean"
        return "held" if session.hold.keeps(record.id) else "dirty"

    async def set(self, node: NodeId, name: str, value: bytes) -> None:
        """Set the lifecycle at the server and wait for its answer; everything else is refused.

        The kernel holds the file's lock meanwhile.

        :raises OSError: ENOTSUP for other namespaces and names, EPERM for our read-only ones, EINVAL for other values.
        :raises ApiError: the server refused. :raises DeadlineExceeded: it did not answer; it may be done all the same.
        """
        if not name.startswith(_PREFIX):
            raise fail(errno.ENOTSUP)
        if name != LIFECYCLE:
            raise fail(errno.EPERM)
        try:
            lifecycle = Lifecycle(value.decode("ascii").rstrip("\0"))
        except ValueError:
            raise fail(errno.EINVAL) from None
        base = self._session.state.base.get(node)
        if base is None or base.item is None:
            raise fail(errno.EAGAIN)
        try:
            async with asyncio.timeout(LOCKED_DEADLINE_S):
                item = await self._session.remote.update(base.item, lifecycle=lifecycle)
        except TimeoutError:
            self._session.feed.request()  # which tells whether it was done all the same
            raise DeadlineExceeded("the server has not answered", f"look at {LIFECYCLE} before trying again") from None
        known = self._session.state.base.get(node)
        if known is not None:
            changed = replace(known, item=item.id, is_shared=item.lifecycle is Lifecycle.APPLICATION)
            self._session.trees.acknowledge_change(changed, item)
        self._session.feed.request()

    def remove(self, node: NodeId, name: str) -> None:
        """Refuse: none of ours can be taken away."""
        self.get(node, name)
        raise fail(errno.EPERM)
