"""What a synchronisation came to, in the words of the command line: counts, conflicts, what was skipped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from jobfs.cli.failures import TO_DO, UNSENT
from jobfs.cli.order import Order
from jobfs.cli.terminal import human_size
from jobfs.engine.session import Options, Session
from jobfs.errors import ServerFailure
from jobfs.folder.report import Summary, SyncEvent, What
from jobfs.folder.sync import FolderSync
from jobfs.model import Trouble, path_of
from jobfs.planner.plan import Conflict, ConflictKind, ConflictPolicy, is_same_content

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class _Words:
    """How one kind of event is called.

    :param plan: what a trial would do.
    :param event: for programs; ``side`` says where, as far as the name does not.
    """

    plan: str
    event: str
    side: str = ""


_WORDS = {
    What.PUSHED: _Words("push", "pushed"),
    What.PULLED: _Words("pull", "pulled"),
    What.MADE_HERE: _Words("make here", "made", "here"),
    What.MADE_THERE: _Words("make on the server", "made", "server"),
    What.MOVED_HERE: _Words("move here", "moved", "here"),
    What.MOVED_THERE: _Words("move on the server", "moved", "server"),
    What.DELETED_HERE: _Words("delete here", "deleted", "here"),
    What.DELETED_THERE: _Words("delete on the server", "deleted", "server"),
    What.CHANGED_HERE: _Words("change mode here", "changed", "here"),
    What.CHANGED_THERE: _Words("change mode on the server", "changed", "server"),
    What.CONFLICT: _Words("conflict", "conflict"),
    What.COMPARED: _Words("compare", "compared"),
    What.POLLING: _Words("poll", "polling"),
}

_UNCOUNTED = frozenset({What.CONFLICT, What.COMPARED, What.POLLING})
"""Conflicts are counted as the planner finds them; the others change nothing."""


@dataclass(frozen=True, slots=True)
class Named:
    """A path, and what is to be said of it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or would be.

    :param conflicts: disagreements, each with how it was settled.
    :param skipped: what was left as it is, with the reason.
    :param unsent: how many changes the server was to get and did not.
    :param missing: how many files of the server were to come here and did not, for it does not give what it lists.
    """

    summary: Summary
    is_trial: bool
    conflicts: tuple[Named, ...]
    skipped: tuple[Named, ...]
    unsent: int
    missing: int = 0

    @property
    def counts(self) -> Mapping[What, int]:
        """How often each thing was done, or would be."""
        return Counter(step.what for step in self.summary.steps) if self.is_trial else self.summary.counts

    @property
    def sent(self) -> int:
        """Bytes of the files that were sent, or would be."""
        return self._planned(What.PUSHED) if self.is_trial else self.summary.sent

    @property
    def received(self) -> int:
        """Bytes of the files that were received, or would be."""
        return self._planned(What.PULLED, What.CONFLICT) if self.is_trial else self.summary.received

    def _planned(self, *kinds: What) -> int:
        return sum(step.size for step in self.summary.steps if step.what in kinds)

    @property
    def code(self) -> int:
        """The exit code."""
        if self.is_trial:
            return TO_DO if self.summary.steps else 0
        return UNSENT if self.unsent else 0


def check_complete(outcome: Outcome) -> None:
    """Refuse to call a synchronisation done that could not bring every file here.

    :raises ServerFailure:
    """
    if outcome.missing:
        cause = f"{outcome.missing} files could not be brought here: the server does not give what it lists"
        raise ServerFailure(cause, "try again; tell who runs the server if it stays so")


def outcome_of(order: Order, sync: FolderSync, summary: Summary) -> Outcome:
    """Return what a synchronisation came to, once it has ended."""
    session = sync.session
    conflicts = tuple(Named(one.path, _settled(one, order.conflict, session.options)) for one in summary.conflicts)
    skipped = {one.path: "held; see 'jobfs diff'" if one.is_held else one.reason for one in summary.skipped}
    if not session.options.pushes:
        skipped = dict.fromkeys(skipped, "changed here, and only pulling was asked for")
    if not session.options.pulls:
        skipped |= dict.fromkeys(_newer_there(session), "changed on the server, and only pushing was asked for")
    skipped |= {problem.path: problem.detail for problem in summary.problems}
    disputed = {one.path for one in conflicts}
    named = tuple(Named(path, reason) for path, reason in sorted(skipped.items()) if path not in disputed)
    unread = {problem.path for problem in summary.problems if problem.trouble is Trouble.UNREADABLE}
    unread -= set(_newer_there(session))  # these were to come here
    unsent = len({one.path for one in summary.skipped if not one.is_held} | unread) if session.options.pushes else 0
    refused = {problem.path for problem in summary.problems if problem.trouble is Trouble.REFUSED}
    missing = len(refused.intersection(_newer_there(session))) if refused and session.options.pulls else 0
    return Outcome(summary, sync.options.is_trial, conflicts, named, unsent, missing)


def _settled(conflict: Conflict, policy: str, options: Options) -> str:
    """Say what becomes of a conflict: most are settled in the folder, and those that the folder wins on the server."""
    is_won_here = conflict.kind is ConflictKind.CONTENT and policy == ConflictPolicy.LOCAL.value
    if conflict.kind is not ConflictKind.DELETION and not (options.pushes if is_won_here else options.pulls):
        return "changed on both sides, and left as it is on both: only one direction was asked for"
    match conflict.kind:
        case ConflictKind.CONTENT if conflict.copy:
            return f"changed on both sides; the version from here is now {conflict.copy}"
        case ConflictKind.CONTENT:
            loser = "from the server" if is_won_here else "from here"
            return f"changed on both sides; the version {loser} is in the history"
        case ConflictKind.PLACE:
            return "moved on both sides; it is where the server has it"
        case ConflictKind.NAME:
            return f"two files of one name; the one from here is now {conflict.copy}"
        case ConflictKind.KIND:
            return f"a file and a directory of one name; the one from here is now {conflict.copy}"
        case ConflictKind.DELETION:
            return "deleted on one side, changed on the other; it stays"
        case _:
            assert_never(conflict.kind)


def _newer_there(session: Session) -> Iterator[str]:
    """Yield the paths of the files that the server has otherwise than base."""
    base, remote = session.state.base, session.trees.remote
    for entry in remote.entries():
        if entry.content is not None:
            known = base.get(entry.id)
            if known is None or is_same_content(known.content, entry.content) is not True:
                yield path_of(remote, entry.id) or ""


def merged(first: Summary, second: Summary) -> Summary:
    """Return what two synchronisations, one after the other, came to."""
    return Summary(
        counts=dict(Counter(first.counts) + Counter(second.counts)),
        sent=first.sent + second.sent,
        received=first.received + second.received,
        conflicts=tuple(dict.fromkeys((*first.conflicts, *second.conflicts))),
        skipped=second.skipped,
        problems=second.problems,
        steps=second.steps,
        guard=second.guard,
    )


# -- for people


def describe(event: SyncEvent) -> str:
    """Return what was done as one line."""
    return _line(event.what.value, event)


def _line(verb: str, event: SyncEvent) -> str:
    size = f"  {human_size(event.size)}" if event.size else ""
    detail = f"  ({event.detail})" if event.detail else ""
    return f"{verb}: {event.path}{size}{detail}"


def describe_outcome(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a summary: of a trial its plan, then the counts, conflicts, and what was skipped and why."""
    for step in outcome.summary.steps:
        if step.what is not What.CONFLICT:
            yield _line(_WORDS[step.what].plan, step)
    yield _totals(outcome)
    yield from _listed("conflict", outcome.conflicts)
    yield from _listed("skipped", outcome.skipped)


def _totals(outcome: Outcome) -> str:
    counts = outcome.counts
    kinds = [what for what in What if counts.get(what) and what not in _UNCOUNTED]
    if outcome.is_trial:
        words = [f"{counts[what]} to {_WORDS[what].plan}" for what in kinds]
    else:
        words = [f"{counts[what]} {what.value}" for what in kinds]
    tense = ("to send", "to receive") if outcome.is_trial else ("sent", "received")
    bytes_ = [
        f"{human_size(size)} {word}" for size, word in zip((outcome.sent, outcome.received), tense, strict=True) if size
    ]
    sizes = f" ({', '.join(bytes_)})" if bytes_ else ""
    words += [f"{len(outcome.conflicts)} in conflict"] if outcome.conflicts else []
    words += [f"{len(outcome.skipped)} skipped"] if outcome.skipped else []
    return (", ".join(words) or "nothing to do: both sides agree") + sizes


def _listed(word: str, named: Sequence[Named]) -> Iterator[str]:
    for one in named[:_MOST_NAMED]:
        yield f"{word}: {one.path}: {one.reason}"
    if len(named) > _MOST_NAMED:
        yield f"{word}: and {len(named) - _MOST_NAMED} more"


# -- for programs


def event_json(event: SyncEvent) -> dict[str, Any]:
    """Return an event as a value."""
    words = _WORDS[event.what]
    value: dict[str, Any] = {"event": words.event, "path": event.path}
    if words.side:
        value["side"] = words.side
    if event.what in (What.PUSHED, What.PULLED):
        value["bytes"] = event.size
    if event.detail:
        value["reason"] = event.detail
    return value


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return the counts as a value, every one of them always there."""
    names = dict.fromkeys((words.event for what, words in _WORDS.items() if what not in _UNCOUNTED), 0)
    for what, number in outcome.counts.items():
        if what not in _UNCOUNTED:
            names[_WORDS[what].event] += number
    return {
        "event": "end",
        "dryRun": outcome.is_trial,
        "counts": {**names, "conflict": len(outcome.conflicts), "skipped": len(outcome.skipped)},
        "sentBytes": outcome.sent,
        "receivedBytes": outcome.received,
        "guard": outcome.summary.guard or None,
    }
