"""Documents, vectors and key-values that follow from names, so that any answer can be judged without a copy of it.

A document's text names its key, its version and each part: what a store answers is right, of another version, or
wrong, and the answer itself tells which. `D` embedding size.
"""

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache
from hashlib import shake_128

import numpy as np
from memory3.store.types import Document, EmbeddedDocument, Reference, Vector

DIMENSION = 16
EMBEDDER = "vectors of names"
FINGERPRINTS = {"model a": 48, "model b": 5_000}
"""Size of a memory's key-values by fingerprint: some share an LMDB page, some take pages of their own."""

PARTS_MAX = 3
LONG_PART = 6_000
"""Characters that take a memory to pages of its own (LMDB's overflow pages)."""
_LONG_SHARE = 0.1
_END = ". "


def texts_of(key: str, version: str) -> list[str]:
    """The references of a version of a document: one to three, now and then a long one."""
    choose = random.Random(f"{key} {version}")
    parts = range(choose.randint(1, PARTS_MAX))
    return [f"{key} {version} {part}{_filler(choose)}{_END}" for part in parts]


def document_of(key: str, version: str) -> Document:
    return Document(key, "".join(texts_of(key, version)), {"version": version})


def embedded_of(key: str, version: str) -> EmbeddedDocument:
    references = [Reference(text, vector_of(text)) for text in texts_of(key, version)]
    return EmbeddedDocument(document_of(key, version), references)


def split(text: str) -> list[str]:
    """Cut a text made here into its references, as `texts_of` made them."""
    return [piece + _END for piece in text.split(_END)[:-1]] or [text]


def version_in(text: str) -> str:
    """The version that a text made here names; of any other text, something that is none."""
    words = text.split(maxsplit=2)
    return words[1].removesuffix(".") if len(words) > 1 else f"none: {text[:40]!r}"


@lru_cache(100_000)
def vector_of(text: str) -> Vector:
    """The vector that stands for a text in every process, shape (D,), float32, length one."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSION).astype(np.float32)
    vector /= np.linalg.norm(vector)
    vector.flags.writeable = False
    return vector


def vectors_of(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """One row for each text, shape (N, D), float32."""
    return np.stack([vector_of(text) for text in texts]).reshape(len(texts), DIMENSION)


def values_of(fingerprint: str, seq: int, text: str) -> bytes:
    """The key-values of one memory: no two memories, models or seqs have the same."""
    return shake_128(f"{fingerprint} {seq} {text}".encode()).digest(FINGERPRINTS[fingerprint])


def _filler(choose: random.Random) -> str:
    return " " + "long " * (LONG_PART // 5) if choose.random() < _LONG_SHARE else ""
