from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.errors import Aborted, Corrupted, InvalidArgument
from memory3.store.filters.parser import parse_filter
from memory3.store.requests import digest_of_filter
from memory3.store.types import Count

from .builders import RECORDS, collection_at, damage_value, embedded


def test_answers_are_kept_over_a_restart(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        results = collection.upsert([embedded("a", "1"), embedded("b", "2")], "first")
        receipt = collection.delete(["a", "none"], request_id="second")
    with collection_at(tmp_path) as collection:
        assert collection.upsert([embedded("a", "1"), embedded("b", "2")], "first") == results
        assert collection.delete(["a", "none"], request_id="second") == receipt
        assert collection.count() == Count(1, 1)
        assert collection.check(full=True).problems == ()


def test_a_request_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    """Its error is no answer: nothing was done, so nothing is kept."""
    with collection_at(tmp_path) as collection:
        with pytest.raises(Aborted):
            collection.delete(["a"], {"a": 1}, "drop")
        collection.upsert([embedded("a", "1")])
        assert collection.delete(["a"], {"a": 1}, "drop").deleted == ("a",)


def test_the_oldest_answers_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUESTS_KEPT", 3)
    with collection_at(tmp_path) as collection:
        for number in range(5):
            collection.upsert([embedded("key", f"text {number}")], f"request {number}")
        # Known still, so it changes nothing; the first is forgotten, so it is carried out.
        collection.upsert([embedded("key", "text 2")], "request 2")
        (stored,) = collection.get(["key"])
        assert stored is not None and stored.text == "text 4"
        collection.upsert([embedded("key", "text 0")], "request 0")
        (stored,) = collection.get(["key"])
        assert stored is not None and stored.text == "text 0"
        records = collection._shards[0]._records
        with records.environment.reading() as txn:
            assert records.requests._answers.count(txn) == records.requests._order.count(txn) == 3


def test_a_delete_by_filter_is_told_from_others(tmp_path: Path) -> None:
    one, other = {"$or": [{"n": {"$in": [1, 2, 3]}}, {"m": "x"}]}, {"$or": [{"n": {"$in": [1, 2, 4]}}, {"m": "x"}]}
    again = {"$or": [{"n": {"$in": [3, 2, 1]}}, {"m": "x"}]}
    assert digest_of_filter(parse_filter(one)) == digest_of_filter(parse_filter(again))
    assert digest_of_filter(parse_filter(one)) != digest_of_filter(parse_filter(other))
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(str(n), f"text {n}", metadata={"n": n}) for n in range(5)])
        receipt = collection.delete_matching(parse_filter(one), "drop")
        assert set(receipt.deleted) == {"1", "2", "3"}
        collection.upsert([embedded("1", "text", metadata={"n": 1})])
        assert collection.delete_matching(parse_filter(again), "drop") == receipt
        with pytest.raises(InvalidArgument, match="another request"):
            collection.delete_matching(parse_filter(other), "drop")
        assert collection.count() == Count(3, 3)


def test_a_damaged_answer_is_named_and_answers_nobody(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("a", "1")], "first")
    damage_value(tmp_path / RECORDS, "requests", b"first")
    with collection_at(tmp_path) as collection:
        assert any("'first' in requests is damaged" in problem for problem in collection.check(full=True).problems)
        with pytest.raises(Corrupted, match="'first' in requests"):
            collection.upsert([embedded("a", "1")], "first")
        collection.upsert([embedded("a", "2")], "second")


@pytest.mark.parametrize("request_id", ["", "x" * 321, 7])
def test_a_bad_id_is_refused(tmp_path: Path, request_id: str) -> None:
    with collection_at(tmp_path) as collection, pytest.raises(InvalidArgument, match="request_id"):
        collection.upsert([embedded("a", "1")], request_id)
