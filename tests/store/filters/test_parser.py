"""What the parser makes of a filter, and how it refuses what is none."""

import re
from typing import Any

import pytest
from memory3.store import limits
from memory3.store.errors import InvalidArgument
from memory3.store.filters.language import And, Bound, Exists, In, Kind, Not, Or, Range
from memory3.store.filters.parser import parse_filter


def nested(depth: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"a": 1}
    for _ in range(depth - 1):
        filter = {"$not": filter}
    return filter


def test_conditions_become_plain_data() -> None:
    written = {"country": "FR", "year": {"$gte": 2000, "$lt": 2010.5}, "kind": {"$nin": ["law", 1, 1.0, True]}}
    assert parse_filter(written) == And(
        (
            In("country", Kind.STRING, frozenset(["FR"])),
            Range("year", Kind.NUMBER, Bound(2000, True), Bound(2010.5, False)),
            Not(
                Or(
                    (
                        In("kind", Kind.STRING, frozenset(["law"])),
                        In("kind", Kind.NUMBER, frozenset([1])),
                        In("kind", Kind.BOOLEAN, frozenset([True])),
                    )
                )
            ),
        )
    )
    assert parse_filter({"$or": [{"a": {"$exists": False}}, {"b": {"$lte": "x"}}]}) == Or(
        (Not(Exists("a")), Range("b", Kind.STRING, None, Bound("x", True)))
    )


def test_one_and_true_are_two_filters() -> None:
    """They are equal to Python, so that selections kept by filter would be mixed up."""
    assert parse_filter({"a": 1}) != parse_filter({"a": True})
    assert parse_filter({"a": 1}) == parse_filter({"a": 1.0})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "filter must be an object of conditions, got list"),
        ("a = 1", "filter must be an object of conditions, got str"),
        ({}, "filter is empty; it must hold at least one condition"),
        ({1: 2}, "filter[1]: a name must be text and not empty"),
        ({"": 2}, "filter['']: a name must be text and not empty"),
        ({"n" * 129: 2}, f"filter['{'n' * 59}]: the name is over 128 bytes"),
        ({"\ud800": 2}, "filter['\\ud800'] holds half a surrogate pair at 0, which is no text"),
        ({"$nor": [{"a": 1}]}, "filter['$nor'] is no operator between conditions; allowed are $and, $or, $not"),
        ({"$and": {"a": 1}}, "filter['$and'] must be a list of conditions, got dict"),
        ({"$or": []}, "filter['$or'] is empty; it must list at least one of its conditions"),
        ({"$or": [{"a": 1}, 2]}, "filter['$or'][1] must be an object of conditions, got int"),
        ({"$not": {}}, "filter['$not'] is empty; it must hold at least one condition"),
        (
            {"a": {"$above": 1}},
            "filter['a']['$above'] is no operator on a name; allowed are "
            "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $not",
        ),
        (
            {"a": {"b": 1}},
            "filter['a']['b'] is no operator on a name; allowed are "
            "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $not",
        ),
        ({"a": {}}, "filter['a'] is empty; it must hold at least one condition"),
        ({"a": [1, 2]}, "filter['a'] is a list, allowed are str, int, float, bool and an object of operators"),
        (
            {"a": None},
            "filter['a'] is a NoneType, allowed are str, int, float, bool and an object of operators; "
            "to ask for a name without a value write {'$exists': false}",
        ),
        ({"a": float("nan")}, "filter['a'] is nan, a float must be finite"),
        ({"a": {"$lt": float("inf")}}, "filter['a']['$lt'] is inf, a float must be finite"),
        ({"a": 10**5000}, "filter['a'] is an integer of 16610 bits, it must fit 64 with its sign"),
        ({"a": 1 << 63}, "filter['a'] is an integer of 64 bits, it must fit 64 with its sign"),
        ({"a": "\udfff"}, "filter['a'] holds half a surrogate pair at 0, which is no text"),
        ({"a": "x" * 65_537}, "filter['a'] is text of over 65536 bytes, longer than metadata can be"),
        ({"a": {"$in": "abc"}}, "filter['a']['$in'] must be a list of values, got str"),
        ({"a": {"$nin": []}}, "filter['a']['$nin'] is empty; it must list at least one of its values"),
        ({"a": {"$in": [1, [2]]}}, "filter['a']['$in'][1] is a list, allowed are str, int, float and bool"),
        ({"a": {"$exists": 1}}, "filter['a']['$exists'] is a int, allowed are true and false"),
        ({"a": {"$gt": True}}, "filter['a']['$gt'] is a bool, allowed are int, float and str"),
        ({"a": {"$gt": 1, "$lt": "b"}}, "filter['a'] has a number and a string as bounds; both must be of one kind"),
        ({"a": {"$gt": 1, "$gte": 2}}, "filter['a'] has both $gt and $gte; keep one of them"),
        ({"a": {"$not": 5}}, "filter['a']['$not'] must be an object of conditions, got int"),
    ],
)
def test_what_is_no_filter_is_refused_by_its_place(written: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{re.escape(message)}$"):
        parse_filter(written)


def test_depth_is_bounded() -> None:
    assert isinstance(parse_filter(nested(limits.FILTER_DEPTH_MAX)), Not)
    with pytest.raises(InvalidArgument, match=rf"lies {limits.FILTER_DEPTH_MAX + 1} deep, at most 16 are allowed$"):
        parse_filter(nested(limits.FILTER_DEPTH_MAX + 1))
    of_a_name: dict[str, Any] = {"$gt": 1}
    for _ in range(100_000):
        of_a_name = {"$not": of_a_name}
    with pytest.raises(InvalidArgument, match="deep, at most 16 are allowed"):
        parse_filter({"a": of_a_name})


def test_the_number_of_conditions_is_bounded() -> None:
    parse_filter({"$or": [{"a": {"$gte": number, "$lt": number + 1}} for number in range(128)]})
    with pytest.raises(InvalidArgument, match=r"^filter\['\$or'\]\[128\]\['a'\] is one condition too many, 256 are"):
        parse_filter({"$or": [{"a": {"$gte": number, "$lt": number + 1}} for number in range(128)] + [{"a": 1}]})


def test_the_number_of_listed_values_is_bounded_over_all_lists() -> None:
    half = list(range(limits.FILTER_VALUES_MAX // 2))
    parse_filter({"a": {"$in": half}, "b": {"$nin": half}})
    with pytest.raises(InvalidArgument, match=r"\['b'\]\['\$nin'\]: 10001 values listed up to here, at most 10000"):
        parse_filter({"a": {"$in": half}, "b": {"$nin": [*half, 0]}})
