"""Owners take turns; within an owner, first come, first served."""

from memory3.model.engine.fair_queue import FairQueue


def queue_of(*items: tuple[str, int]) -> FairQueue[int]:
    queue = FairQueue[int]()
    for owner, item in items:
        queue.put(owner, item)
    return queue


def drained(queue: FairQueue[int]) -> list[int]:
    found = []
    while (item := queue.peek()) is not None:
        assert queue.pop() == item
        found.append(item)
    return found


def test_one_owner_with_many_requests_does_not_hold_up_the_others() -> None:
    queue = queue_of(("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6))
    assert len(queue) == 6 and drained(queue) == [1, 4, 5, 2, 6, 3] and len(queue) == 0


def test_an_owner_that_comes_again_stands_last() -> None:
    queue = queue_of(("a", 1), ("a", 2), ("b", 3))
    assert queue.pop() == 1
    queue.put("c", 4)
    queue.put("a", 5)
    assert drained(queue) == [3, 2, 4, 5]


def test_what_is_removed_does_not_come() -> None:
    queue = queue_of(("a", 1), ("a", 2), ("b", 3), ("c", 4))
    queue.remove([2, 3])
    assert len(queue) == 2 and sorted(queue.items()) == [1, 4] and drained(queue) == [1, 4]


def test_who_will_be_next_is_told_in_the_order_of_turns() -> None:
    queue = queue_of(("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6))
    assert queue.first(4) == [1, 4, 5, 2] and len(queue) == 6
    assert queue.first(9) == drained(queue) and queue.first(1) == []
