"""The shapes of the phrase tables."""

from dataclasses import dataclass

VALUE_MAKERS = frozenset(
    [
        "person",
        "place",
        "firm",
        "product",
        "event",
        "building",
        "ship",
        "species",
        "book",
        "team",
        "institute",
        "first_name",
        "year",
        "date",
        "month",
        "weekday",
        "time",
        "age",
        "count",
        "price",
        "length",
        "weight",
        "duration",
        "percent",
        "temperature",
        "speed",
        "area",
        "code",
        "job",
        "colour",
        "material",
        "food",
        "drink",
        "animal",
        "instrument",
        "subject",
        "language",
        "sport",
        "hobby",
        "plant",
        "industry",
        "vehicle",
        "weather",
        "award",
        "nickname",
        "phone",
        "room",
        "currency",
        "tool",
        "body_part",
        "gem",
        "fabric",
        "dish",
        "adjective",
    ]
)
"""The names that `values` and `entity` may have: each is a maker of names or values."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that can be known about an entity.

    Attributes:
        name: unique within its kind.
        values: the maker of its values, one of `VALUE_MAKERS`.
        statements: sentences with `{e}` (entity) and `{v}` (value) exactly once each.
        questions: questions with `{e}` exactly once, whose answer is the value.
    """

    name: str
    values: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Sentences that state two attributes at once, with `{e}`, `{a}` (of `first`) and `{b}` (of `second`)."""

    first: str
    second: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entity.

    Attributes:
        name: unique among the kinds.
        entity: the maker of the entity's own name, one of `VALUE_MAKERS`.
        references: what may replace the name at the start of a later sentence.
        attributes: what can be known about such an entity.
        pairs: sentences that state two attributes.
        openings: sentences about `{e}` that state nothing.
    """

    name: str
    entity: str
    references: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    pairs: tuple[Pair, ...]
    openings: tuple[str, ...]
