"""The gate bounds what runs and what waits, and lets go of places whatever happens."""

import threading
import time

import pytest
from memory3.cluster.gate import Gate
from memory3.store.errors import Cancelled, ResourceExhausted


def test_one_runs_one_waits_a_third_is_refused() -> None:
    gate = Gate(1, 1)
    entered = threading.Event()

    def wait() -> None:
        with gate.passage(lambda: None):
            entered.set()

    waiter = threading.Thread(target=wait)
    with gate.passage(lambda: None):
        waiter.start()
        time.sleep(0.05)
        assert not entered.is_set()
        with pytest.raises(ResourceExhausted, match="try again"), gate.passage(lambda: None):
            pass
    waiter.join()
    assert entered.is_set()


def test_a_caller_that_goes_away_while_waiting_leaves_no_trace() -> None:
    gate = Gate(1, 1)

    def gone() -> None:
        raise Cancelled("gone")

    with gate.passage(lambda: None):
        for _ in range(3):
            with pytest.raises(Cancelled), gate.passage(gone):
                pass
    with gate.passage(lambda: None):
        pass


def test_an_error_inside_frees_the_place() -> None:
    gate = Gate(1, 0)
    for _ in range(2):
        with pytest.raises(RuntimeError), gate.passage(lambda: None):
            raise RuntimeError
