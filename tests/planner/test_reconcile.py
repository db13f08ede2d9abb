"""What the case table cannot say: policies, opaque directories, limits, depth, and what is planned around a wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobfs.model import ROOT, Content, Entry, FrozenTree, ItemId, Kind, NodeId, Revision, Trouble, node_at, path_of
from jobfs.planner.plan import (
    AddLocal,
    ConflictPolicy,
    MarkClean,
    MoveLocal,
    Plan,
    RemoveLocal,
    SetLocalPermission,
    SplitConflict,
    Upload,
    is_same_content,
    recorded,
    shown,
)
from jobfs.planner.reconcile import reconcile

from .small_world import STAMP, World, describe, world


def at(made: World, path: str) -> NodeId:
    node = node_at(made.local, path) or node_at(made.remote, path)
    assert node is not None
    return node


def test_with_local_as_winner_the_remote_bytes_go_to_the_history() -> None:
    made = world("a", "a=22", "a=333", ConflictPolicy.LOCAL)
    assert describe(made, made.plan()) == ["1: upload over a keeps_loser", "conflict content a"]
    made.converge()
    assert (made.listing(made.remote), made.history) == ({"a": "22"}, ["333"])


def test_with_local_as_winner_the_upload_expects_the_revision_that_it_overrules() -> None:
    made = world("a", "a=22", "a=333", ConflictPolicy.LOCAL)
    (upload,) = made.plan().to_remote[0]
    entry = made.remote.get(at(made, "a"))
    assert isinstance(upload, Upload)
    assert entry is not None
    assert entry.content is not None
    assert upload.expected == entry.content.revision


def test_with_remote_as_winner_the_local_bytes_go_to_the_history() -> None:
    made = world("a", "a=22", "a=333", ConflictPolicy.REMOTE)
    assert describe(made, made.plan()) == ["split a -> history", "conflict content a"]
    made.converge()
    assert (made.listing(made.local), made.history) == ({"a": "333"}, ["22"])


def test_a_name_that_two_nodes_want_is_shared_out_whatever_the_policy_is() -> None:
    made = world("a", "c<a", "a c=5", ConflictPolicy.LOCAL)
    made.converge()
    assert made.listing(made.remote) == {"c": "5", "c (conflict from desk 2024-05-06 070809)": "1"}


def test_the_same_conflict_never_makes_a_second_copy() -> None:
    made = world("a", "a=22", "a=333")
    made.apply(made.plan())
    made.converge()
    assert made.plan() == Plan()
    assert len(made.listing(made.local)) == 2


def test_a_conflict_name_that_is_taken_gets_a_number() -> None:
    made = world("a", "a=22", "a=333")
    taken = "a (conflict from desk 2024-05-06 070809)"
    made.local.put(Entry(NodeId(50), ROOT, taken, Kind.FILE, content=Content(1, "7")))
    (split,) = (change for change in made.plan().to_local if isinstance(change, SplitConflict))
    assert split.copy_name == "a (conflict from desk 2024-05-06 070809 2)"


def test_a_directory_that_holds_items_which_no_tree_shows_is_put_back() -> None:
    made = world("d/ d/e/ d/e/a", "", "d/ d/e/ d/e/a")
    plan = made.plan(opaque=[at(made, "d"), at(made, "d/e")])
    assert describe(made, plan) == [
        "add d",
        "add d/e",
        "1: delete d/e/a",
        "problem unknown-type d",
        "problem unknown-type d/e",
    ]


def test_while_a_file_waits_for_remote_bytes_nothing_else_is_planned_for_it() -> None:
    made = world("a", "a=2:ro", "a:touched,ro")
    assert describe(made, made.plan()) == ["fetch a"]


def test_a_waiting_file_keeps_all_the_directories_above_it_on_the_side_that_has_it_there() -> None:
    made = world("d/ d/e/ d/e/a", "d/ d/e/ d/e/a=2", "a<d/e/a:touched")
    assert describe(made, made.plan()) == ["fetch d/e/a"]
    made.converge()
    assert made.listing(made.remote) == {"a": "2"}


def test_what_cannot_get_to_its_place_yet_is_named_and_its_conflict_waits_with_it() -> None:
    made = world("a b", "a=22 b=2", "b<a=333 c<b:touched")
    plan = made.plan()
    assert describe(made, plan) == ["fetch b"]
    assert plan.waiting == (at(made, "a"),)
    made.converge()
    assert len(made.conflicts) == 1
    assert sorted(made.listing(made.remote).values()) == ["2", "22", "333"]


def test_a_directory_is_not_displaced_while_something_in_it_cannot_be_moved_out() -> None:
    made = world("d/ d/a", "!d x<d/a", "d/ d/a")
    entry = made.local.get(at(made, "x"))
    assert entry is not None
    made.local.put(replace(entry, name="bad\x01name"))
    plan = made.plan()
    assert plan.is_empty
    assert [problem.trouble for problem in plan.problems] == [Trouble.INVALID_NAME, Trouble.NAME_COLLISION]


def test_a_touched_node_brings_the_directories_that_it_needs() -> None:
    made = world("", "", "d/ d/e/ d/e/a")
    assert describe(made, made.plan([at(made, "d/e/a")])) == ["add d", "add d/e", "add d/e/a"]


def test_what_waits_for_remote_bytes_keeps_the_directories_that_it_is_in() -> None:
    made = world("d/ d/a d/b", "", "d/ d/a:touched d/b")
    assert describe(made, made.plan()) == ["1: delete d/b", "fetch d/a"]


def test_a_place_that_a_waiting_file_has_is_not_taken_from_it() -> None:
    made = world("a=1", "a=2", "x<a=3 !a=77")
    assert describe(made, made.plan()) == ["fetch a"]
    made.converge()
    assert sorted(made.listing(made.remote).values()) == ["2", "3", "77"]


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("n" * 256, Trouble.NAME_TOO_LONG),
        ("ä" * 128, Trouble.NAME_TOO_LONG),
        ("line\nfeed", Trouble.INVALID_NAME),
        ("broken\udcff", Trouble.INVALID_NAME),
        (".a.jobfs-0123abcd.new", Trouble.INVALID_NAME),
    ],
)
def test_a_name_that_the_server_cannot_hold_is_a_problem_and_no_request(name: str, trouble: Trouble) -> None:
    made = world("a", "a b", "a")
    entry = made.local.get(at(made, "b"))
    assert entry is not None
    made.local.put(replace(entry, name=name))
    plan = made.plan()
    assert plan.is_empty
    assert [(problem.node, problem.trouble) for problem in plan.problems] == [(entry.id, trouble)]


def test_what_is_in_a_directory_that_cannot_be_made_waits_with_it() -> None:
    made = world("", "d/ d/a d/e/ d/e/b x", "")
    entry = made.local.get(at(made, "d"))
    assert entry is not None
    made.local.put(replace(entry, name="bad\x01name"))
    plan = made.plan()
    assert describe(made, plan)[0] == "1: upload x"
    assert sum(len(stage) for stage in plan.to_remote) == 1
    assert {problem.trouble for problem in plan.problems} == {Trouble.INVALID_NAME}


def test_a_file_whose_new_name_is_no_good_keeps_its_place_on_the_server_and_says_so_to_who_wants_it() -> None:
    made = world("a=1", "a.bad<a !a=2", "a=1")
    entry = made.local.get(at(made, "a.bad"))
    assert entry is not None
    made.local.put(replace(entry, name="bad\x01name"))
    plan = made.plan()
    assert plan.is_empty
    assert [problem.trouble for problem in plan.problems] == [Trouble.INVALID_NAME, Trouble.NAME_COLLISION]


def test_a_path_over_the_limit_is_a_problem_also_for_what_a_move_would_make_too_long() -> None:
    deep = "/".join(["d" * 200] * 4)
    words = " ".join("/".join(["d" * 200] * count) + "/" for count in range(1, 5))
    made = world(f"{words} {deep}/f", f"{words} {deep}/f", f"{words} {deep}/f")
    top = made.local.get(at(made, "d" * 200))
    assert top is not None
    made.local.put(Entry(NodeId(60), ROOT, "n" * 200, Kind.DIRECTORY))
    made.local.put(Entry(NodeId(61), NodeId(60), "n" * 100, Kind.DIRECTORY))
    made.local.put(replace(top, parent=NodeId(61)))
    plan = made.plan()
    assert [problem.trouble for problem in plan.problems] == [Trouble.PATH_TOO_LONG]
    assert [len(stage) for stage in plan.to_remote] == [1, 1]


def test_a_directory_is_not_deleted_while_something_in_it_cannot_be_moved_out() -> None:
    made = world("d/ d/a d/b", "x<d/a", "d/ d/a d/b")
    entry = made.local.get(at(made, "x"))
    assert entry is not None
    made.local.put(replace(entry, name="bad\x01name"))
    plan = made.plan()
    assert describe(made, plan)[0] == "1: delete d/b"
    assert sum(len(stage) for stage in plan.to_remote) == 1


def test_a_very_deep_tree_needs_no_recursion() -> None:
    entries, parent = [], ROOT
    for number in range(2, 5002):
        entries.append(Entry(NodeId(number), parent, "d", Kind.DIRECTORY, item=ItemId(f"i{number}")))
        parent = NodeId(number)
    empty, full = FrozenTree(), FrozenTree(entries)
    nodes = list(full)
    assert len(reconcile(empty, empty, full, nodes, stamp=STAMP).to_local) == 5000
    assert [len(stage) for stage in reconcile(full, empty, full, nodes, stamp=STAMP).to_remote] == [1]
    assert len(reconcile(full, full, empty, nodes, stamp=STAMP).to_local) == 5000
    assert reconcile(empty, full, empty, nodes, stamp=STAMP).problems[0].trouble is Trouble.PATH_TOO_LONG


def test_ten_thousand_renames_in_a_row_need_no_recursion_and_no_temporary_name() -> None:
    count = 10_000
    before = [known_file(number, f"log.{number:05}") for number in range(2, count + 2)]
    after = [replace(entry, name=f"log.{entry.id + 1:05}", item=None) for entry in before]
    plan = reconcile(FrozenTree(before), FrozenTree(after), FrozenTree(before), range_of(before), stamp=STAMP)
    assert [len(stage) for stage in plan.to_remote] == [1] * count


def known_file(number: int, name: str) -> Entry:
    item = ItemId(f"i{number}")
    return Entry(NodeId(number), ROOT, name, Kind.FILE, content=Content(1, "1", Revision(item, "1", 1, "")), item=item)


def range_of(entries: list[Entry]) -> list[NodeId]:
    return [entry.id for entry in entries]


def test_an_unknown_touched_node_and_the_root_are_passed_over() -> None:
    made = world("a", "a", "a")
    assert made.plan([ROOT, NodeId(999)]) == Plan()


def test_the_plan_looks_at_the_directory_and_the_occupants_of_a_touched_node() -> None:
    made = world("d/ d/a d/b", "", "d/ d/a d/b")
    assert made.plan([at(made, "d")]) == made.plan()
    swapped = world("a=1 b=2", "a<b b<a", "a=1 b=2")
    assert swapped.plan([at(swapped, "a")]) == swapped.plan()


class CountingTree(FrozenTree):
    """A tree that counts how often it is asked."""

    __slots__ = ("asked",)

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__(entries)
        self.asked = 0

    def get(self, node: NodeId) -> Entry | None:
        self.asked += 1
        return super().get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        self.asked += 1
        return super().child(parent, name)

    def __iter__(self) -> Iterator[NodeId]:
        raise AssertionError("a plan never goes through a whole tree")


def test_the_cost_follows_the_touched_nodes_and_not_the_tree() -> None:
    asked = []
    for size in (20, 5000):
        known = [known_file(number, f"f{number}") for number in range(2, size)]
        edited = [replace(entry, content=Content(2, "22")) if entry.id < 7 else entry for entry in known]
        trees = [CountingTree(known), CountingTree(edited), CountingTree(known)]
        plan = reconcile(trees[0], trees[1], trees[2], [NodeId(number) for number in range(2, 7)], stamp=STAMP)
        assert [len(stage) for stage in plan.to_remote] == [5]
        asked.append(sum(tree.asked for tree in trees))
    assert asked[0] == asked[1]


# --- the values -------------------------------------------------------------------------------------------------------


def test_contents_are_the_same_by_revision_by_digest_different_by_size_and_else_unknown() -> None:
    revision = Revision(ItemId("i"), "t", 3, "")
    assert is_same_content(Content(3, None, revision), Content(3, "x", revision)) is True
    assert is_same_content(Content(3, "x"), Content(3, "x", revision)) is True
    assert is_same_content(Content(3, "x"), Content(3, "y")) is False
    assert is_same_content(Content(3, None), Content(4, "y")) is False
    assert is_same_content(Content(3, None), Content(3, "y")) is None
    assert is_same_content(Content(3, None), Content(3, None)) is None
    assert is_same_content(None, None) is True
    assert is_same_content(None, Content(0)) is False


def test_each_local_change_advances_only_its_own_attribute_of_the_base_record() -> None:
    base = known_file(2, "a")
    newer = replace(base, name="b", content=Content(2, None, Revision(ItemId("i2"), "2", 2, "")))
    move = MoveLocal(base.id, NodeId(7), "b", settles=True)
    assert recorded(base, move) == replace(base, parent=NodeId(7), name="b")
    assert recorded(base, replace(move, settles=False)) == base
    assert recorded(base, MarkClean(base.id, newer)) == replace(base, content=newer.content)
    assert recorded(None, MarkClean(base.id, newer)) == newer
    assert recorded(base, RemoveLocal(base.id)) is None
    assert recorded(None, AddLocal(newer)) == newer
    mode = SetLocalPermission(base.id, base.permission)
    assert recorded(None, mode) is None


def test_what_is_shown_has_no_item_and_keeps_its_other_attributes() -> None:
    entry = known_file(2, "a")
    assert shown(None, AddLocal(entry)) == replace(entry, item=None)
    assert shown(entry, RemoveLocal(entry.id)) is None
    with pytest.raises(ValueError, match="not in the tree"):
        shown(None, MoveLocal(entry.id, ROOT, "b", settles=True))


def test_the_path_of_a_conflict_is_the_place_after_all_moves() -> None:
    made = world("d/ d/a", "d/ d/a=22", "e/<d e/a<d/a=333")
    (conflict,) = made.plan().conflicts
    assert (conflict.path, conflict.copy) == ("e/a", "e/a (conflict from desk 2024-05-06 070809)")
    made.converge()
    assert path_of(made.local, conflict.node) == "e/a"


def test_a_directory_is_not_put_below_itself_where_the_move_that_would_do_so_is_not_planned_yet() -> None:
    made = world("d/ d/e/ f/", "f/ f/x/<d f/x/e/<d/e", "d/ d/e/ d/e/y/<f")
    made.converge_by_touch([at(made, "f")])
    assert made.listing(made.local) == made.listing(made.remote) == {"d": "/", "d/e": "/", "d/e/y": "/"}


def test_what_somebody_wrote_under_a_hidden_name_comes_back_beside_what_has_its_name_by_now() -> None:
    hidden = ".a.jobfs-0123abcd.old"
    made = world(f"{hidden} a=7", "a=7", f"{hidden}=22 a=7")
    made.converge_by_touch([at(made, hidden)])
    expected = {"a": "7", "a (conflict from desk 2024-05-06 070809)": "22"}
    assert made.listing(made.local) == made.listing(made.remote) == expected


def test_what_comes_back_from_a_hidden_name_waits_for_what_is_leaving_its_name() -> None:
    hidden = ".a.jobfs-0123abcd.old"
    made = world(f"{hidden} a=7", "b<a=7", f"{hidden}=22 a=7")
    made.converge_by_touch([at(made, hidden)])
    assert made.listing(made.local) == made.listing(made.remote) == {"a": "22", "b": "7"}


def test_a_directory_that_stepped_aside_on_its_way_below_itself_comes_back_beside_what_has_its_name_by_now() -> None:
    hidden = ".e.jobfs-0123abcd.old"
    made = world(f"{hidden}/ d/ e/", f"d/ d/f/<{hidden} e/", f"{hidden}/ {hidden}/d/<d e/")
    made.converge_by_touch([at(made, "d")])
    copy = "e (conflict from desk 2024-05-06 070809)"
    assert made.listing(made.local) == made.listing(made.remote) == {"e": "/", copy: "/", f"{copy}/d": "/"}


def test_a_directory_that_was_to_be_deleted_and_gained_a_file_here_comes_back_beside_what_has_its_name_by_now() -> None:
    made = world("d/", "d/ .d.jobfs-0123abcd.old/ .d.jobfs-0123abcd.old/x", "d/")
    made.converge_by_touch([at(made, ".d.jobfs-0123abcd.old"), at(made, ".d.jobfs-0123abcd.old/x")])
    beside = "d (conflict from desk 2024-05-06 070809)"
    assert made.listing(made.local) == made.listing(made.remote) == {"d": "/", beside: "/", f"{beside}/x": "1"}
