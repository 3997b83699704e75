"""Filters on metadata as plain data, and what they mean (docs/filters.md).

`filter_parser.py` makes them of what callers write. Nothing here knows how matching memories are found quickly: that is
`terms.py`, and `matches` is what it is held against.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from ..types import Metadata, MetadataValue


class Kind(Enum):
    """What compares with what: an int and a float compare as numbers, and a bool is no number."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class And:
    parts: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    parts: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """What `part` does not match, documents without the name among it."""

    part: "Filter"


@dataclass(frozen=True, slots=True)
class Exists:
    """The name has a value, of whatever kind."""

    name: str


@dataclass(frozen=True, slots=True)
class In:
    """The name's value is of this kind and one of `values`, which are all of it."""

    name: str
    kind: Kind
    values: frozenset[MetadataValue]


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range; `inclusive` when the value itself is within."""

    value: MetadataValue
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Range:
    """The name's value is of this kind, number or string, and lies between the bounds; None is no bound.

    Strings compare by their UTF-8 bytes, which is how Python compares them too.
    """

    name: str
    kind: Kind
    lower: Bound | None
    upper: Bound | None


Filter: TypeAlias = And | Or | Not | Exists | In | Range


def matches(filter: Filter, metadata: Metadata) -> bool:
    """Say whether a document with this metadata matches."""
    match filter:
        case And(parts):
            return all(matches(part, metadata) for part in parts)
        case Or(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)
        case Exists(name):
            return name in metadata
        case In(name, kind, values):
            return name in metadata and kind_of(metadata[name]) is kind and metadata[name] in values
        case Range(name, kind):
            return name in metadata and kind_of(metadata[name]) is kind and within(filter, metadata[name])


def kind_of(value: MetadataValue) -> Kind:
    # bool before int: in Python every bool is an int.
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.STRING if isinstance(value, str) else Kind.NUMBER


def within(span: Range, value: Any) -> bool:
    """Say whether a value of the range's kind lies between its bounds."""
    lower, upper = span.lower, span.upper
    if lower is not None and (value < lower.value or (value == lower.value and not lower.inclusive)):
        return False
    return upper is None or value < upper.value or (value == upper.value and upper.inclusive)
