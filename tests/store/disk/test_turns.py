"""Turns: one at a time and in order, unless somebody's takes long."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

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


def waiting(turns: Turns, name: str, order: list[str], ahead: bool = False) -> threading.Thread:
    """A thread that waits already for the turn that this one has."""

    def take() -> None:
        with turns.turn(ahead):
            order.append(name)

    before = len(turns._waiting)
    thread = beside(take)
    while len(turns._waiting) == before:
        assert thread.is_alive()
        time.sleep(0.001)
    return thread


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
        assert turns._taken.locked()
    assert not turns._taken.locked()


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


def test_turns_come_in_the_order_of_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who has just ended one comes behind them."""
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    turns = Turns()
    order: list[str] = []
    with turns.turn():
        threads = [waiting(turns, name, order) for name in "abc"]
    with turns.turn():
        order.append("again")
    for thread in threads:
        thread.join(LONG_S)
    assert order == ["a", "b", "c", "again"]


def test_some_go_ahead_of_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    turns = Turns()
    order: list[str] = []
    with turns.turn():
        threads = [waiting(turns, name, order, ahead=name == "change") for name in ("a", "b", "change")]
    for thread in threads:
        thread.join(LONG_S)
    assert order == ["change", "a", "b"]


def test_who_comes_as_a_turn_ends_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After nobody was found to hand it over to, and before it is free."""
    monkeypatch.setattr(module, "PATIENCE_S", LONG_S)
    turns = Turns()
    order: list[str] = []
    threads: list[threading.Thread] = []
    hand_over = turns._hand_over

    def late() -> bool:
        if threads:
            return hand_over()
        threads.append(waiting(turns, "late", order))
        return False

    monkeypatch.setattr(turns, "_hand_over", late)
    with turns.turn():
        pass
    threads[0].join(LONG_S / 2)
    assert order == ["late"]
    assert not turns._taken.locked()


def test_who_has_gone_on_beside_a_turn_is_handed_none() -> None:
    turns = Turns()
    with turns.turn():
        beside(taking(turns, threading.Event())).join(LONG_S)
        assert not turns._waiting
    assert not turns._taken.locked()


@pytest.mark.parametrize("handed_over", [False, True])
def test_no_turn_is_handed_over_to_one_who_was_interrupted(monkeypatch: pytest.MonkeyPatch, handed_over: bool) -> None:
    turns = Turns()

    class Interrupted:
        """What one waits for who is interrupted, before or just after the turn is handed over to him."""

        def acquire(self, timeout: float | None = None) -> bool:
            if timeout is None:
                return True
            if handed_over:
                turns._waiting.clear()
            raise KeyboardInterrupt

    def wait() -> None:
        with pytest.raises(KeyboardInterrupt), turns.turn():
            pass
        interrupted.set()

    interrupted = threading.Event()
    with turns.turn():
        monkeypatch.setattr(module, "threading", SimpleNamespace(Lock=Interrupted))
        beside(wait).join(LONG_S)
        assert interrupted.is_set() and not turns._waiting
        # In the one case it was his, and he has passed it on.
        assert turns._taken.locked() is not handed_over
        turns._own.has_it = not handed_over
    assert not turns._taken.locked()


def test_a_turn_ends_with_the_work_that_failed() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="bad"), turns.turn():
        raise ValueError("bad")
    assert not turns._taken.locked()
    with turns.turn():
        assert turns._taken.locked()


def test_a_turn_within_a_turn_is_a_part_of_it() -> None:
    turns = Turns()
    with turns.turn():
        with turns.turn():
            pass
        assert turns._taken.locked()
    assert not turns._taken.locked()
