"""Documents, vectors and key-values that follow from names, so that any answer can be judged without a copy of it.

A document's text names its key, its version and each part: what a store answers is right, of another version, or
wrong, and the answer itself tells which. Metadata follow from the names too, and a version's name says when it
expires. `D` embedding size.
"""

import random
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import shake_128
from typing import Any

import numpy as np
from memory3.store.filters.language import Filter
from memory3.store.filters.language import matches as metadata_matches
from memory3.store.filters.parser import parse_filter
from memory3.store.types import Document, EmbeddedDocument, Metadata, MetadataValue, Reference, Vector

DIMENSION = 16
EMBEDDER = "vectors of names"
FINGERPRINTS = {"model a": 48, "model b": 5_000}
"""Size of a memory's key-values by fingerprint: some share an LMDB page, some take pages of their own."""

PARTS_MAX = 3
LONG_PART = 6_000
"""Characters that take a memory to pages of its own (LMDB's overflow pages)."""
_LONG_SHARE = 0.1
_END = ". "
_EXPIRES = "@"

LONG_GROUP = "group " * 40
"""Longer than what the key of a term holds."""
_VALUES: dict[str, Sequence[MetadataValue]] = {
    "group": ("g0", "g1", "g\0", LONG_GROUP),
    "number": (0, 1, 2.5, 4, -3, (1 << 53) + 1),
    "odd": (True, False),
}
_NAME_SHARE = 0.85
"""Of the names that a document has."""
FILTERS: tuple[dict[str, Any], ...] = (
    {"group": "g0"},
    {"group": {"$in": ["g1", LONG_GROUP]}},
    {"group": {"$gte": "g"}},
    {"number": {"$gte": 1, "$lt": 4}},
    {"number": {"$in": [2.5, (1 << 53) + 1]}},
    {"$not": {"odd": True}},
    {"number": {"$exists": False}},
    {"$or": [{"group": {"$ne": "g1"}}, {"odd": False}]},
    {"version": {"$lt": "5"}},
)
"""Of every kind of condition, each matching some of the documents."""


@lru_cache(1_000)
def texts_of(key: str, version: str) -> tuple[str, ...]:
    """The references of a version of a document: one to three, now and then a long one."""
    choose = random.Random(f"{key} {version}")
    parts = range(choose.randint(1, PARTS_MAX))
    return tuple(f"{key} {version} {part}{_filler(choose)}{_END}" for part in parts)


def document_of(key: str, version: str) -> Document:
    return Document(key, "".join(texts_of(key, version)), metadata_of(key, version), expiry_of(version))


def embedded_of(key: str, version: str, dimension: int = DIMENSION) -> EmbeddedDocument:
    references = [Reference(text, vector_of(text, dimension)) for text in texts_of(key, version)]
    return EmbeddedDocument(document_of(key, version), references)


@lru_cache(1_000)
def metadata_of(key: str, version: str) -> Metadata:
    choose = random.Random(f"metadata {key} {version}")
    names = [name for name in _VALUES if choose.random() < _NAME_SHARE]
    return {"version": version, "owner": owner_of(key)} | {name: choose.choice(_VALUES[name]) for name in names}


def owner_of(key: str) -> str:
    """The one who changes this key, a call at a time."""
    return key.partition("-")[0]


def expiring(version: str, at: float) -> str:
    """The name of a version that expires at a time, seconds since the epoch."""
    return f"{version}{_EXPIRES}{at!r}"


def expiry_of(version: str) -> float | None:
    _, marked, at = version.partition(_EXPIRES)
    return float(at) if marked else None


def matches(filter: Mapping[str, Any], key: str, version: str) -> bool:
    """Say whether a filter, as callers write it, matches a version of a document."""
    return metadata_matches(_parsed(repr(filter), filter), metadata_of(key, version))


def split(text: str) -> list[str]:
    """Cut a text made here into its references, as `texts_of` made them."""
    return [piece + _END for piece in text.split(_END)[:-1]] or [text]


def version_in(text: str) -> str:
    """The version that a text made here names; of any other text, something that is none."""
    words = text.split(maxsplit=2)
    return words[1].removesuffix(".") if len(words) > 1 else f"none: {text[:40]!r}"


@lru_cache(1_000)
def vector_of(text: str, dimension: int = DIMENSION) -> Vector:
    """The vector that stands for a text in every process, shape (D,), float32, length one."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(dimension).astype(np.float32)
    vector /= np.linalg.norm(vector)
    vector.flags.writeable = False
    return vector


def vectors_of(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """One row for each text, shape (N, D), float32."""
    return np.stack([vector_of(text) for text in texts]).reshape(len(texts), DIMENSION)


def values_of(fingerprint: str, seq: int, text: str, size: int | None = None) -> bytes:
    """The key-values of one memory, `size` bytes in the place of the fingerprint's: no two memories, models or seqs
    have the same.
    """
    return shake_128(f"{fingerprint} {seq} {text}".encode()).digest(size or FINGERPRINTS[fingerprint])


_filters: dict[str, Filter] = {}


def _parsed(name: str, filter: Mapping[str, Any]) -> Filter:
    if name not in _filters:
        _filters[name] = parse_filter(filter)
    return _filters[name]


def _filler(choose: random.Random) -> str:
    return " " + "long " * (LONG_PART // 5) if choose.random() < _LONG_SHARE else ""
