"""Arguments are taken alike by both ends, and what cannot be meant is refused."""

import numpy as np
import pytest
from memory3.calls import RECALL_BYTES_MAX, Queries, stops_of
from memory3.store.errors import InvalidArgument
from memory3.store.limits import RECALL_QUERIES_MAX


def test_one_text_is_one_stop_string() -> None:
    assert stops_of("abc") == ("abc",)
    assert stops_of(["ab", "c"]) == ("ab", "c")
    assert stops_of(()) == ()


@pytest.mark.parametrize(("stop", "message"), [("", "empty"), (["a", ""], "empty"), ([3], "text"), (None, "text")])
def test_stop_strings_that_cannot_be_meant(stop: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        stops_of(stop)  # type: ignore[arg-type]


def test_queries_are_counted_before_they_are_embedded() -> None:
    most = ["q"] * RECALL_QUERIES_MAX
    assert Queries.of(most).count == RECALL_QUERIES_MAX
    vectors = np.zeros((RECALL_QUERIES_MAX + 1, 4), np.float32)
    for many in ([*most, "q"], vectors, list(vectors)):
        with pytest.raises(InvalidArgument, match=r"1025 queries in one call, at most 1024 .* several calls"):
            Queries.of(many)


def test_queries_are_measured_before_they_are_embedded() -> None:
    """In bytes, as a message is, and not in characters."""
    half = "ä" * (RECALL_BYTES_MAX // 4)
    assert Queries.of([half, half]).count == 2
    for long in (half + half + "x", [half, half, "x"]):
        with pytest.raises(InvalidArgument, match="1048577 bytes of queries in one call, at most 1048576"):
            Queries.of(long)
    with pytest.raises(InvalidArgument, match="half a surrogate pair"):
        Queries.of("\ud800")
