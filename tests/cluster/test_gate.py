"""The gate bounds what runs, and lets go of places whatever happens."""

import pytest
from memory3.cluster.gate import Gate
from memory3.store.errors import ResourceExhausted


def test_more_than_the_bound_are_refused_until_one_has_ended() -> None:
    gate = Gate(2, "watches")
    with gate.passage():
        with gate.passage(), pytest.raises(ResourceExhausted, match="2 watches run"), gate.passage():
            pass
        with gate.passage():
            pass


def test_a_call_that_fails_lets_go_of_its_place() -> None:
    gate = Gate(1, "watches")
    for _ in range(3):
        with pytest.raises(ValueError, match="no good"), gate.passage():
            raise ValueError("no good")
