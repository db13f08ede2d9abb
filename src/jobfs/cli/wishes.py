"""What a user wishes of a mount, and how that becomes its order; without the parser, which not every mount needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobfs.cli.order import Order, server_of, settings_of
from jobfs.cli.overview import tell_ready
from jobfs.cli.points import check_mount_point
from jobfs.cli.starting import serve_here, start_in_background
from jobfs.engine.patience import DEFAULT_DEADLINE_S
from jobfs.errors import SettingsError
from jobfs.workspace.places import RUN_PREFIX, parse_place
from jobfs.workspace.profiles import parse_size
from jobfs.workspace.settings import Chosen, Settings
from jobfs.workspace.states import real_directory, state_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The arguments and options of ``jobfs mount``, whose help says what they mean; choices by their words."""

    job: str
    directory: Path
    is_foreground: bool = False
    is_read_only: bool = False
    may_fall_back: bool = True
    transport: str = "auto"
    allow_other: bool = False
    wake: str = "auto"
    ignore: tuple[str, ...] = ()
    conflict: str = "keep-both"
    prefetch: str = "small"
    fsync: str = "local"
    write_through: bool = False
    cache_size: str | None = None
    is_held: bool = False
    history_size: str | None = None
    history_days: float | None = None
    max_delete: int | None = None
    may_delete: bool = False
    timeout_s: float = DEFAULT_DEADLINE_S
    drain_timeout_s: float = 30.0
    log_level: str = "info"


def begin(general: Chosen, wishes: Wishes) -> int:
    """Mount, and say so; return the exit code.

    :raises JobfsError: it cannot be mounted so, or at all.
    """
    order = order_of(settings_of(general), wishes)
    if wishes.is_foreground:
        return serve_here(order)
    tell_ready(start_in_background(order))
    return 0


def begin_told(told: Mapping[str, Any]) -> int:
    """Mount as ``plain`` has read the command line; see ``begin``."""
    return begin(Chosen(), wishes_of(told))


def wishes_of(told: Mapping[str, Any]) -> Wishes:
    """Return the wishes that ``plain`` has read."""
    return Wishes(**{**told, "directory": Path(told["directory"])})


def order_of(settings: Settings, wishes: Wishes) -> Order:
    """Return the order.

    :raises SettingsError: a wish makes no sense. :raises MountPointBusy: nothing can be mounted there.
    """
    job = _whole(wishes.job)
    if Path(job).is_dir() and not wishes.directory.exists():
        raise SettingsError(f"{job} is a directory", f"the job comes first: jobfs mount {wishes.directory} {job}")
    if wishes.is_held and (wishes.is_read_only or job.startswith(RUN_PREFIX)):
        raise SettingsError("nothing is sent from a read-only mount, so there is nothing to hold", "leave out --hold")
    return Order(
        job=job,
        directory=_usable(wishes.directory),
        **server_of(settings),
        state_root=str(state_root().absolute()),
        transport=wishes.transport,
        may_fall_back=wishes.may_fall_back,
        is_read_only=wishes.is_read_only or settings.is_read_only,
        allow_other=wishes.allow_other,
        wake=wishes.wake,
        ignore=wishes.ignore,
        conflict=wishes.conflict,
        prefetch=wishes.prefetch,
        fsync_remote=wishes.fsync == "remote",
        write_through=wishes.write_through,
        max_deletions=allowed_deletions(wishes.max_delete, is_any=wishes.may_delete),
        timeout_s=wishes.timeout_s,
        drain_timeout_s=wishes.drain_timeout_s,
        is_held=wishes.is_held,
        log_level=wishes.log_level,
        cache_bytes=None if wishes.cache_size is None else parse_size(wishes.cache_size),
        **kept_for(wishes.history_size, wishes.history_days),
    )


def _usable(directory: Path) -> str:
    point = real_directory(directory)
    check_mount_point(Path(point))
    return point


def _whole(job: str) -> str:
    place = parse_place(job)
    if place.path:
        raise SettingsError("only a whole workspace can be mounted", f"write jobfs mount {place.job} DIR")
    return place.job


def allowed_deletions(number: int | None, *, is_any: bool) -> int | None:
    """Return what ``--max-delete`` and ``--yes`` come to: None is any number."""
    return None if is_any else number or 0


def kept_for(size: str | None, days: float | None) -> dict[str, Any]:
    """Return what an order says about the history, as its values by name."""
    return {"history_bytes": None if size is None else parse_size(size), "history_days": days}
