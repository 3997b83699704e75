"""What `Embedded` and `Client` share in taking their callers' arguments, so that both accept and refuse the same."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .store.errors import InvalidArgument
from .store.filters.language import Filter
from .store.filters.parser import parse_filter
from .store.limits import RECALL_QUERIES_MAX, REQUEST_ID_BYTES_MAX, REQUEST_PART_BYTES_MAX
from .store.types import Document, Vector
from .store.validation import check_documents, check_request_id, check_seqs, check_versions

DEFAULT_COLLECTION = "default"
RECALL_BYTES_MAX = 1 << 20
"""Text of the queries of one recall; store/limits.py says how many they may be."""

Query: TypeAlias = str | Vector
FilterMapping: TypeAlias = Mapping[str, Any]
"""A filter as callers write it, such as `{"year": {"$gte": 2000}}` (docs/filters.md)."""
Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, of how many); an exception that it raises ends the work between two batches."""


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of one recall: texts, or vectors of shape (queries, D). `many` is False for a lone query."""

    texts: Sequence[str] | None
    vectors: npt.NDArray[np.float32] | None
    many: bool

    @property
    def count(self) -> int:
        return len(self.texts or ()) if self.vectors is None else len(self.vectors)

    @classmethod
    def of(cls, query: Query | Sequence[Query]) -> "Queries":
        """Sort out what a caller passed, and refuse what is over a limit before any of it is embedded.

        Raises:
            InvalidArgument: it is neither text nor vectors, texts and vectors mixed, or too much for one call.
        """
        if isinstance(query, str):
            return cls(_texts([query]), None, False)
        if isinstance(query, np.ndarray):
            rows = _float32(query)
            if rows.ndim not in (1, 2):
                raise InvalidArgument(f"a query array has {rows.ndim} dimensions; one vector has 1, many have 2")
            _check_number(1 if rows.ndim == 1 else len(rows))
            return cls(None, rows.reshape(1, -1) if rows.ndim == 1 else rows, rows.ndim == 2)
        _check_number(len(query))
        texts = [one for one in query if isinstance(one, str)]
        if len(texts) == len(query):
            return cls(_texts(texts), None, True)
        if texts:
            raise InvalidArgument("the queries mix texts and vectors; ask for them in two calls")
        vectors = [_float32(one) for one in query]
        if {vector.ndim for vector in vectors} != {1} or len({len(vector) for vector in vectors}) != 1:
            raise InvalidArgument("queries are neither texts nor vectors of one length; give an array or a list")
        return cls(None, np.stack(vectors), True)


def documents_of(documents: Document | Iterable[Document]) -> list[Document]:
    """The documents of one upsert, checked before anything is embedded or sent.

    Raises:
        InvalidArgument: something is not a Document, a document is invalid, or a key comes twice.
    """
    found = [documents] if isinstance(documents, Document) else list(documents)
    for document in found:
        if not isinstance(document, Document):
            raise InvalidArgument(f"upsert takes Documents, not {type(document).__name__}; use Document(key, text)")
    check_documents(found)
    return found


def checked_request_id(request_id: str, part: bool = False) -> str:
    """A caller's id of a request, or of a part of one, which is a little longer.

    Raises:
        InvalidArgument: it is empty or too long.
    """
    check_request_id(request_id, REQUEST_ID_BYTES_MAX + (REQUEST_PART_BYTES_MAX // 2 if part else 0))
    return request_id


def held_of(held: Iterable[int]) -> frozenset[int]:
    """The seqs whose key-values a caller holds.

    Raises:
        InvalidArgument: they are too many, or something else.
    """
    found = list(held)
    check_seqs(found)
    return frozenset(found)


def versions_of(expected: Mapping[str, int] | None, keys: Sequence[str]) -> dict[str, int]:
    """The versions expected of some of a call's keys.

    Raises:
        InvalidArgument: they are of other keys, or something else.
    """
    found = {} if expected is None else expected
    check_versions(found, keys)
    return dict(found)


def parsed(filter: FilterMapping | None) -> Filter | None:
    """The filter that a mapping describes (docs/filters.md).

    Raises:
        InvalidArgument: it is no filter; says where, and what is allowed there.
    """
    return None if filter is None else parse_filter(filter)


def keys_of(keys: str | Iterable[str]) -> list[str]:
    """The keys of one call.

    Raises:
        InvalidArgument: they are something else than texts.
    """
    found = [keys] if isinstance(keys, str) else list(keys) if isinstance(keys, Iterable) else [keys]
    for key in found:
        if not isinstance(key, str):
            raise InvalidArgument(f"a key must be text, got {key!r:.100}")
    return found


def stops_of(stop: str | Iterable[str]) -> tuple[str, ...]:
    """The stop strings of one generation; one text is one of them.

    Raises:
        InvalidArgument: one is empty, which would end every answer before it begins, or they are something else.
    """
    found = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Iterable) else (stop,)
    for one in found:
        if not isinstance(one, str):
            raise InvalidArgument(f"a stop string must be text, got {one!r:.100}")
        if not one:
            raise InvalidArgument("a stop string is empty and would end every answer at once; leave it out")
    return found


def _check_number(queries: int) -> None:
    if queries > RECALL_QUERIES_MAX:
        raise InvalidArgument(
            f"{queries} queries in one call, at most {RECALL_QUERIES_MAX} are allowed; ask in several calls"
        )


def _texts(queries: list[str]) -> list[str]:
    try:
        size = sum(len(query.encode()) for query in queries)
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"a query holds half a surrogate pair at {error.start}, which is no text") from error
    if size > RECALL_BYTES_MAX:
        raise InvalidArgument(
            f"{size} bytes of queries in one call, at most {RECALL_BYTES_MAX} are allowed; ask in several calls"
        )
    return queries


def _float32(vector: npt.ArrayLike) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"a query is neither text nor a vector of numbers: {error}") from error
