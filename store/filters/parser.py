"""The filters that callers write, read: a JSON object in the form that MongoDB, Pinecone and Chroma use."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from .. import limits
from ..errors import InvalidArgument
from ..types import MetadataValue
from .language import And, Bound, Exists, Filter, In, Kind, Not, Or, Range, kind_of

_BETWEEN: Final = ("$and", "$or", "$not")
_LOWER: Final = {"$gt": False, "$gte": True}
_UPPER: Final = {"$lt": False, "$lte": True}
_OF_A_NAME: Final = ("$eq", "$ne", *_LOWER, *_UPPER, "$in", "$nin", "$exists", "$not")


def filter_from_json(text: str) -> Mapping[str, Any]:
    """Read what a caller wrote as JSON; `parse_filter` says whether it is a filter.

    Raises:
        InvalidArgument: it is no JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the filter is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"the filter is a JSON {type(found).__name__}, it must be an object; see docs/filters.md")
    return found


def parse_filter(filter: Mapping[str, Any]) -> Filter:
    """Read a filter as callers write it.

    Raises:
        InvalidArgument: it is none; the message names the place and what is allowed there.
    """
    return _Parser().conditions(filter, "filter", 1)


class _Parser:
    """Reads one filter; counts its conditions and listed values. A place is written as Python would index it."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def conditions(self, written: object, place: str, depth: int) -> Filter:
        """Read an object whose entries are all to hold."""
        if depth > limits.FILTER_DEPTH_MAX:
            raise InvalidArgument(f"{place} lies {depth} deep, at most {limits.FILTER_DEPTH_MAX} are allowed")
        parts = [self._entry(name, of, f"{place}[{name!r:.60}]", depth) for name, of in _entries(written, place)]
        return _all(parts)

    def _entry(self, name: object, written: object, place: str, depth: int) -> Filter:
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"{place}: a name must be text and not empty")
        if name == "$not":
            return Not(self.conditions(written, place, depth + 1))
        if name in _BETWEEN:
            listed = enumerate(_listed(written, place, "conditions"))
            parts = tuple(self.conditions(one, f"{place}[{number}]", depth + 1) for number, one in listed)
            return And(parts) if name == "$and" else Or(parts)
        if name.startswith("$"):
            raise InvalidArgument(f"{place} is no operator between conditions; allowed are {', '.join(_BETWEEN)}")
        if len(_utf8(name, place)) > limits.METADATA_KEY_BYTES_MAX:
            raise InvalidArgument(f"{place}: the name is over {limits.METADATA_KEY_BYTES_MAX} bytes")
        if isinstance(written, Mapping):
            return self._operators(name, written, place, depth + 1)
        return self._equal(name, written, place)

    def _operators(self, name: str, written: object, place: str, depth: int) -> Filter:
        if depth > limits.FILTER_DEPTH_MAX:
            raise InvalidArgument(f"{place} lies {depth} deep, at most {limits.FILTER_DEPTH_MAX} are allowed")
        operators = dict(_entries(written, place))
        readers: dict[str, Callable[[object, str], Filter]] = {
            "$eq": lambda of, at: self._equal(name, of, at),
            "$ne": lambda of, at: Not(self._equal(name, of, at)),
            "$in": lambda of, at: self._in(name, of, at),
            "$nin": lambda of, at: Not(self._in(name, of, at)),
            "$exists": lambda of, at: self._exists(name, of, at),
            "$not": lambda of, at: Not(self._operators(name, of, at, depth + 1)),
        }
        parts = []
        for operator, of in operators.items():
            at = f"{place}[{operator!r:.60}]"
            if operator not in _OF_A_NAME:
                raise InvalidArgument(f"{at} is no operator on a name; allowed are {', '.join(_OF_A_NAME)}")
            if operator in readers:
                parts.append(readers[operator](of, at))
        if any(operator in operators for operator in (*_LOWER, *_UPPER)):
            parts.append(self._range(name, operators, place))
        return _all(parts)

    def _equal(self, name: str, written: object, place: str) -> Filter:
        self._condition(place)
        value = _value(written, place, "str, int, float, bool and an object of operators")
        return In(name, kind_of(value), frozenset([value]))

    def _in(self, name: str, written: object, place: str) -> Filter:
        self._condition(place)
        listed = _listed(written, place, "values")
        self._values += len(listed)
        if self._values > limits.FILTER_VALUES_MAX:
            raise InvalidArgument(
                f"{place}: {self._values} values listed up to here, at most {limits.FILTER_VALUES_MAX} are allowed"
            )
        values = [_value(one, f"{place}[{number}]", "str, int, float and bool") for number, one in enumerate(listed)]
        kinds = {kind: frozenset(value for value in values if kind_of(value) is kind) for kind in Kind}
        parts = tuple(In(name, kind, of_kind) for kind, of_kind in kinds.items() if of_kind)
        return parts[0] if len(parts) == 1 else Or(parts)

    def _exists(self, name: str, written: object, place: str) -> Filter:
        self._condition(place)
        if not isinstance(written, bool):
            raise InvalidArgument(f"{place} is a {type(written).__name__}, allowed are true and false")
        return Exists(name) if written else Not(Exists(name))

    def _range(self, name: str, operators: Mapping[Any, object], place: str) -> Filter:
        lower = self._bound(operators, _LOWER, place)
        upper = self._bound(operators, _UPPER, place)
        kinds = {kind_of(bound.value) for bound in (lower, upper) if bound}
        if len(kinds) > 1:
            raise InvalidArgument(f"{place} has a number and a string as bounds; both must be of one kind")
        return Range(name, kinds.pop(), lower, upper)

    def _bound(self, operators: Mapping[Any, object], allowed: Mapping[str, bool], place: str) -> Bound | None:
        found = [operator for operator in allowed if operator in operators]
        if not found:
            return None
        if len(found) > 1:
            raise InvalidArgument(f"{place} has both {' and '.join(found)}; keep one of them")
        at = f"{place}[{found[0]!r}]"
        self._condition(at)
        value = _value(operators[found[0]], at, "int, float and str")
        if isinstance(value, bool):
            raise InvalidArgument(f"{at} is a bool, allowed are int, float and str")
        return Bound(value, allowed[found[0]])

    def _condition(self, place: str) -> None:
        self._conditions += 1
        if self._conditions > limits.FILTER_CONDITIONS_MAX:
            raise InvalidArgument(f"{place} is one condition too many, {limits.FILTER_CONDITIONS_MAX} are allowed")


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _entries(written: object, place: str) -> list[tuple[object, object]]:
    if not isinstance(written, Mapping):
        raise InvalidArgument(f"{place} must be an object of conditions, got {type(written).__name__}")
    # Nothing matches everything by accident: the same filters choose what is deleted.
    if not written:
        raise InvalidArgument(f"{place} is empty; it must hold at least one condition")
    return list(written.items())


def _listed(written: object, place: str, what: str) -> list[object]:
    if not isinstance(written, list | tuple):
        raise InvalidArgument(f"{place} must be a list of {what}, got {type(written).__name__}")
    if not written:
        raise InvalidArgument(f"{place} is empty; it must list at least one of its {what}")
    return list(written)


def _value(written: object, place: str, allowed: str) -> MetadataValue:
    # Values that no metadata can hold are refused as metadata is: nothing could ever match them.
    if isinstance(written, str):
        if len(_utf8(written, place)) > limits.METADATA_BYTES_MAX:
            raise InvalidArgument(
                f"{place} is text of over {limits.METADATA_BYTES_MAX} bytes, longer than metadata can be"
            )
        return written
    if isinstance(written, float):
        if not math.isfinite(written):
            raise InvalidArgument(f"{place} is {written}, a float must be finite")
        return written
    if isinstance(written, int):
        if not isinstance(written, bool) and not -(1 << 63) <= written < 1 << 63:
            raise InvalidArgument(f"{place} is an integer of {written.bit_length()} bits, it must fit 64 with its sign")
        return written
    hint = "; to ask for a name without a value write {'$exists': false}" if written is None else ""
    raise InvalidArgument(f"{place} is a {type(written).__name__}, allowed are {allowed}{hint}")


def _utf8(text: str, place: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{place} holds half a surrogate pair at {error.start}, which is no text") from error
