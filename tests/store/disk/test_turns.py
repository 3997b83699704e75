"""Turns: one at a time, unless somebody's takes long; given up meanwhile for work of another kind."""

import threading
import time
from collections.abc import Callable

import pytest
from memory3.store.disk import turns as module
from memory3.store.disk.turns import Turns

LONG_S = 60.0


def beside(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def taking(turns: Turns, took: threading.Event) -> Callable[[], None]:
    def take() -> None:
        with turns.turn():
            took.set()

    return take


def test_turns_are_taken_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    turns, within, most = Turns(), [0], [0]

    def work() -> None:
        for _ in range(50):
            with turns.turn():
                within[0] += 1
                most[0] = max(most[0], within[0])
                time.sleep(0.0001)  # lets go of the interpreter, as a read does
                within[0] -= 1

    threads = [beside(work) for _ in range(4)]
    for thread in threads:
        thread.join(LONG_S)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]


def test_nobody_waits_for_a_turn_that_takes_long() -> None:
    turns, took = Turns(), threading.Event()
    with turns.turn():
        beside(taking(turns, took))
        assert took.wait(LONG_S)
        # Who went ahead did not end the turn of this thread.
        assert turns._lock.locked()
    assert not turns._lock.locked()


def test_who_comes_to_a_turn_that_has_taken_long_goes_ahead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    turns, took = Turns(), threading.Event()
    with turns.turn():
        turns._began -= 2 * LONG_S
        beside(taking(turns, took))
        assert took.wait(LONG_S / 2)


def test_who_went_ahead_beside_a_turn_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    with turns.turn():
        thread = beside(taking(turns, threading.Event()))
        thread.join(LONG_S)
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    took = threading.Event()
    with turns.turn():
        beside(taking(turns, took))
        assert not took.wait(0.1)
    assert took.wait(LONG_S)


def test_a_turn_is_given_up_for_work_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    turns, took, again = Turns(), threading.Event(), threading.Event()
    with turns.turn():
        with turns.aside():
            thread = beside(taking(turns, took))
            assert took.wait(LONG_S)
            thread.join(LONG_S)
        beside(taking(turns, again))
        assert not again.wait(0.1)
    assert again.wait(LONG_S)


def test_work_aside_of_no_turn_leaves_that_of_others_alone() -> None:
    turns = Turns()
    with turns.turn():

        def work() -> None:
            with turns.aside():
                pass

        beside(work).join(LONG_S)
        assert turns._lock.locked()


def test_a_turn_ends_with_the_work_that_failed() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="bad"), turns.turn(), turns.aside():
        raise ValueError("bad")
    assert not turns._lock.locked()
    with turns.turn():
        assert turns._lock.locked()


def test_a_turn_within_a_turn_is_a_part_of_it() -> None:
    turns = Turns()
    with turns.turn():
        with turns.turn():
            pass
        assert turns._lock.locked()
    assert not turns._lock.locked()
