"""What strangers have in hand, together: who gives way, and who is left alone."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from service.held import Holding, Room

MOST = 100


def nobody() -> None:
    raise AssertionError("this one is left alone")


def test_who_has_the_most_loses_its_largest() -> None:
    room, cut = Room(MOST), list[str]()
    small = room.enter("one", nobody)
    many = [room.enter("two", partial(cut.append, name)) for name in "abc"]
    small.take(30)
    for holding, count in zip(many, (20, 31, 10), strict=True):
        holding.take(count)
    assert cut == []
    small.take(10)
    assert cut == ["b"]
    assert room.bytes == 70
    assert [each.was_cut for each in many] == [False, True, False]


def test_many_small_ones_of_one_owner_give_way_before_a_larger_one_of_another() -> None:
    room, cut = Room(MOST), list[int]()
    large = room.enter("one", nobody)
    large.take(40)
    for number in range(100):
        room.enter("two", partial(cut.append, number)).take(1)
    assert len(cut) == 40
    assert room.bytes == MOST


def test_what_was_cut_or_left_counts_for_nothing_any_more() -> None:
    room, cut = Room(MOST), list[str]()
    holding = room.enter("one", lambda: cut.append("one"))
    holding.take(MOST + 1)
    assert (cut, room.bytes) == (["one"], 0)
    holding.take(MOST)
    holding.take(-MOST)
    holding.leave()
    other = room.enter("one", nobody)
    other.take(MOST)
    other.leave()
    other.leave()
    assert room.bytes == 0


def test_an_owner_has_no_more_than_its_lines_that_are_left() -> None:
    room, cut = Room(MOST), list[str]()
    first = room.enter("one", nobody)
    room.enter("one", nobody).take(10)
    first.take(85)
    first.leave()
    room.enter("two", partial(cut.append, "two")).take(MOST - 9)
    assert cut == ["two"]


def test_who_gives_something_back_cuts_nobody() -> None:
    room = Room(MOST)
    holding = room.enter("one", nobody)
    holding.take(MOST)
    holding.take(-60)
    room.enter("two", nobody).take(60)
    assert room.bytes == MOST


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-50, 60))))
def test_it_is_never_more_than_may_be_and_the_sum_of_what_is_there(
    moves: list[tuple[int, int, int]],
) -> None:
    room = Room(MOST)
    lines: dict[tuple[int, int], Holding] = {}
    for owner, number, count in moves:
        holding = lines.get((owner, number))
        if holding is None or holding.was_cut:
            holding = lines[owner, number] = room.enter(str(owner), lambda: None)
        if count == 0:
            holding.leave()
            del lines[owner, number]
        else:
            holding.take(max(count, -holding.bytes))
        assert room.bytes <= MOST
        assert room.bytes == sum(each.bytes for each in lines.values())
