"""Turning cold memories warm: the model writes their key-values, the store takes those of memories still there."""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..calls import Progress
from ..store.collection import Collection
from ..store.errors import ResourceExhausted

if TYPE_CHECKING:
    from ..model.language_model import LanguageModel

_log = logging.getLogger(__name__)

BATCH_MEMORIES = 16
LOOK_UP_MEMORIES = 1_000


def write_memories(
    collection: Collection, model: "LanguageModel", texts: dict[int, str], *, stored: bool = True
) -> dict[int, bytes]:
    """Write key-values for the references `texts` (by seq), store them, and return those of memories still there.

    The store looks whether a memory is live in the same transaction in which it takes the key-values: what was deleted
    while the model was writing stays deleted. A reference that was cut for another model, and is too long for this
    one, is written as far as this one reads. Who only wants to read them need not have them `stored`, when there is no
    room: they are written again the next time.
    """
    key_values = dict(zip(texts, model.write(list(texts.values()), shorten=True), strict=True))
    try:
        live = collection.put_key_values(model.fingerprint, list(key_values.items()))
    except ResourceExhausted as error:
        if stored:
            raise
        _log.warning("key-values that were written to be read are not stored: %s", error)
        live = [hit is not None for hit in collection.memories(list(key_values))]
    return {seq: values for (seq, values), alive in zip(key_values.items(), live, strict=True) if alive}


def write_cold(
    collection: Collection,
    model: "LanguageModel",
    keys: Sequence[str] | None,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write cold memories, of the documents `keys` or of all, until `limit` is reached; return (written, remaining)."""
    written = 0
    total = _count(collection, model.fingerprint, keys)
    for texts in cold_batches(collection, model.fingerprint, keys, BATCH_MEMORIES):
        if limit is not None and written >= limit:
            break
        if progress is not None:
            progress(written, total)
        written += len(write_memories(collection, model, texts))
    remaining = _count(collection, model.fingerprint, keys)
    if progress is not None:
        progress(written, written + remaining)
    return written, remaining


def cold_batches(
    collection: Collection, fingerprint: str, keys: Sequence[str] | None, size: int
) -> Iterator[dict[int, str]]:
    """Yield the cold references of the documents `keys` or of all, by seq, a batch at a time."""
    if keys is not None:
        found = list(_cold_of(collection, fingerprint, keys).items())
        yield from (dict(found[start : start + size]) for start in range(0, len(found), size))
        return
    after = 0
    while batch := collection.cold(fingerprint, size, after):
        yield dict(batch)
        after = batch[-1][0]


def _count(collection: Collection, fingerprint: str, keys: Sequence[str] | None) -> int:
    if keys is not None:
        return len(_cold_of(collection, fingerprint, keys))
    stats = collection.stats()
    return stats.count.memories - stats.warm.get(fingerprint, 0)


def _cold_of(collection: Collection, fingerprint: str, keys: Sequence[str]) -> dict[int, str]:
    seqs = [seq for document in collection.get(keys) if document is not None for seq in document.memories]
    found: dict[int, str] = {}
    for start in range(0, len(seqs), LOOK_UP_MEMORIES):
        for hit in collection.memories(seqs[start : start + LOOK_UP_MEMORIES], fingerprint):
            if hit is not None and not hit.warm:
                found[hit.seq] = hit.text
    return found
