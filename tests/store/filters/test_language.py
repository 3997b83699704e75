"""What filters mean, on documents that tell the doubtful cases apart."""

from typing import Any

import pytest
from memory3.store.filters.language import matches
from memory3.store.filters.parser import parse_filter
from memory3.store.types import Metadata


@pytest.mark.parametrize(
    ("written", "metadata", "expected"),
    [
        ({"country": "FR"}, {"country": "FR"}, True),
        ({"country": "FR"}, {"country": "DE"}, False),
        ({"country": "FR"}, {}, False),
        ({"country": {"$eq": "FR"}}, {"country": "FR"}, True),
        # Several names, and several operators on one name, mean and.
        ({"country": "FR", "year": 2004}, {"country": "FR", "year": 2004}, True),
        ({"country": "FR", "year": 2004}, {"country": "FR", "year": 2005}, False),
        ({"year": {"$gte": 2000, "$lt": 2010}}, {"year": 2000}, True),
        ({"year": {"$gte": 2000, "$lt": 2010}}, {"year": 2010}, False),
        ({"year": {"$gt": 2000, "$lte": 2010}}, {"year": 2000}, False),
        ({"year": {"$gt": 2000, "$lte": 2010}}, {"year": 2010}, True),
        ({"year": {"$gt": 2000, "$ne": 2004}}, {"year": 2004}, False),
        # Numbers compare as numbers, exactly; a bool is no number.
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1.0}, {"n": 1}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": True}, {"n": 1}, False),
        ({"n": False}, {"n": False}, True),
        ({"n": {"$gte": 0}}, {"n": True}, False),
        ({"n": 0.0}, {"n": -0.0}, True),
        ({"n": 2**53 + 1}, {"n": float(2**53)}, False),
        ({"n": {"$gt": float(2**53)}}, {"n": 2**53 + 1}, True),
        ({"n": {"$lt": float(2**63)}}, {"n": 2**63 - 1}, True),
        ({"n": "1"}, {"n": 1}, False),
        # A range sees values of its bounds' kind only; strings compare by their bytes.
        ({"n": {"$gte": 0}}, {"n": "5"}, False),
        ({"n": {"$gte": "0"}}, {"n": 5}, False),
        ({"n": {"$gt": "a"}}, {"n": "a\0"}, True),
        ({"n": {"$lt": "a"}}, {"n": "Z"}, True),
        ({"n": {"$lt": "\U0001f600"}}, {"n": "\uffff"}, True),
        ({"n": {"$gte": ""}}, {"n": ""}, True),
        # Lists may mix kinds.
        ({"kind": {"$in": ["law", 3, True]}}, {"kind": 3.0}, True),
        ({"kind": {"$in": ["law", 3, True]}}, {"kind": True}, True),
        ({"kind": {"$in": ["law", 3]}}, {"kind": True}, False),
        ({"kind": {"$nin": ["law", "decree"]}}, {"kind": "law"}, False),
        ({"kind": {"$nin": ["law", "decree"]}}, {"kind": "bill"}, True),
        # What lacks the name is matched by every negation.
        ({"kind": {"$ne": "law"}}, {}, True),
        ({"kind": {"$nin": ["law"]}}, {}, True),
        ({"kind": {"$not": {"$gte": 3}}}, {}, True),
        ({"$not": {"kind": "law"}}, {}, True),
        ({"kind": {"$exists": True, "$ne": "law"}}, {}, False),
        ({"kind": {"$exists": True}}, {"kind": ""}, True),
        ({"kind": {"$exists": False}}, {"kind": False}, False),
        ({"kind": {"$exists": False}}, {}, True),
        ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 2}, True),
        ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1}, False),
        ({"$or": [{"a": 1}, {"b": 2}], "c": 3}, {"b": 2, "c": 3}, True),
        ({"$or": [{"a": 1}, {"b": 2}], "c": 3}, {"b": 2}, False),
        ({"$not": {"a": 1, "b": 2}}, {"a": 1, "b": 3}, True),
        ({"a": {"$not": {"$gte": 2, "$lt": 4}}}, {"a": 3}, False),
    ],
)
def test_a_filter_means_what_the_docs_say(written: dict[str, Any], metadata: Metadata, expected: bool) -> None:
    assert matches(parse_filter(written), metadata) is expected
