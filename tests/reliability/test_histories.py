"""Short form of the concurrent histories; the long one is `python bench/reliability.py --only model`."""

from pathlib import Path

import pytest
from memory3.tests.reliability.histories import DELETE, EXPIRY, UPSERT, Event, histories, stale_reads


def test_no_read_is_stale(tmp_path: Path) -> None:
    outcome = histories(tmp_path, operations=7_000)
    assert outcome.violations == []
    assert outcome.counts["operations"] == 7_000 and outcome.counts["writes"] > 300


WRITTEN = [Event(0, 1, UPSERT, 5, "five"), Event(2, 3, UPSERT, 9, "nine"), Event(6, 7, DELETE, 10)]

EXPIRING = [Event(0, 1, UPSERT, 5, "five"), Event(4, 4, EXPIRY, 5.5)]

POSSIBLE = [
    [Event(0.5, 0.6, "get", None), Event(0.7, 0.8, "get", 5, "five"), Event(2.5, 2.6, "get", 5, "five")],
    [Event(2.1, 2.2, "get", 9, "nine"), Event(4, 5, "get", 9, "nine"), Event(4, 6.5, "get", None)],
    [Event(2.1, 9, "get", 5, "five"), Event(2.2, 2.3, "get", 9, "nine"), Event(8, 9, "get", None)],
]
IMPOSSIBLE = [
    [Event(4, 5, "get", 5, "five")],
    [Event(4, 5, "get", None)],
    [Event(1.5, 1.6, "get", 9, "nine")],
    [Event(2.1, 2.2, "get", 9, "nine"), Event(2.3, 2.4, "get", 5, "five")],
    [Event(6.1, 6.2, "get", None), Event(6.3, 6.4, "get", 9, "nine")],
    [Event(8, 9, "get", 9, "nine")],
    [Event(4, 5, "get", 9, "five")],
    [Event(4, 5, "get", 7, "seven")],
]


@pytest.mark.parametrize("reads", POSSIBLE)
def test_a_history_that_can_be(reads: list[Event]) -> None:
    assert list(stale_reads([*WRITTEN, *reads])) == []


@pytest.mark.parametrize("reads", IMPOSSIBLE)
def test_a_history_that_cannot_be(reads: list[Event]) -> None:
    assert len(list(stale_reads([*WRITTEN, *reads]))) == 1


@pytest.mark.parametrize(
    "events",
    [
        [Event(2, 3, "get", 5, "five"), Event(5, 6, "get", None)],
        [Event(3, 5, "get", None), Event(3.5, 5, "get", 5, "five")],
        [Event(2, 3, UPSERT, 7, "seven", over=5), Event(5, 6, "get", 7, "seven")],
        [Event(5, 6, UPSERT, 7, "seven", over=0), Event(7, 8, "get", 7, "seven")],
        [Event(3, 6, UPSERT, 7, "seven", over=0)],
        [Event(3, 6, UPSERT, 7, "seven", over=5)],
    ],
)
def test_an_expiry_that_can_be(events: list[Event]) -> None:
    assert list(stale_reads([*EXPIRING, *events])) == []


@pytest.mark.parametrize(
    "events",
    [
        [Event(2, 3, "get", None)],
        [Event(5, 6, "get", 5, "five")],
        [Event(4.5, 4.6, "get", None), Event(5, 6, "get", 5, "five")],
        [Event(2, 3, UPSERT, 7, "seven"), Event(5, 6, "get", None)],
        [Event(2, 3, UPSERT, 7, "seven", over=0)],
        [Event(5, 6, UPSERT, 7, "seven", over=5)],
        [Event(2, 3, UPSERT, 7, "seven"), Event(5, 6, UPSERT, 9, "nine", over=5)],
    ],
)
def test_an_expiry_that_cannot_be(events: list[Event]) -> None:
    assert list(stale_reads([*EXPIRING, *events])) != []
