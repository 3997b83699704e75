"""A store held against the oracle: every document, memory, vector and key-value that it answers, filtered or not."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from memory3.store.types import Count, Hit, StoredDocument

from .access import FilterMapping, Store
from .content import (
    FILTERS,
    FINGERPRINTS,
    document_of,
    matches,
    metadata_of,
    texts_of,
    values_of,
    vector_of,
    version_in,
)
from .oracle import ABSENT, Oracle

K_MAX = 1_000
SCORE_TOLERANCE = 1e-5
QUERIES = 3
FORGOTTEN_MAX = 2_000

Live = dict[int, tuple[str, str]]
"""Key and text of each memory by its seq."""


def examine(
    store: Store, oracle: Oracle, filters: Sequence[FilterMapping] = FILTERS, values_may_be_lost: bool = False
) -> list[str]:
    """Return every violation: lost, stale, resurrected, torn or wrong; settle the oracle when there is none.

    `values_may_be_lost`: after a power failure acknowledged key-values may be gone, as they are derived.
    """
    while True:
        began = oracle.clock()
        wrong, listed = _examine(store, oracle, filters, values_may_be_lost)
        # What expires meanwhile is in some answers and not in others; what is wrong stays so.
        if not wrong or not oracle.expires_within(began, oracle.clock()):
            break
    if not wrong:
        versions = {key: version_in(document.text) for key, document in listed.items()}
        oracle.settle(versions, {key: document.memories for key, document in listed.items()})
    return wrong


def _examine(
    store: Store, oracle: Oracle, filters: Sequence[FilterMapping], values_may_be_lost: bool
) -> tuple[list[str], dict[str, StoredDocument]]:
    listed = {document.key: document for document in store.documents()}
    live = {
        seq: (key, text)
        for key, document in listed.items()
        for seq, text in zip(document.memories, texts_of(key, version_in(document.text)), strict=False)
    }
    wrong = oracle.judge({key: version_in(document.text) for key, document in listed.items()})
    wrong += [problem for document in listed.values() for problem in _document(document)]
    wrong += _gets(store, oracle, listed)
    wrong += _recalls(store, live, None)
    for filter in filters:
        wrong += [f"with {filter!r:.60}: {problem}" for problem in _filtered(store, listed, live, filter)]
    wrong += _values(store, oracle, live, values_may_be_lost)
    return wrong + [f"check: {problem}" for problem in store.check()], listed


def _document(document: StoredDocument) -> Iterator[str]:
    version = version_in(document.text)
    expected = document_of(document.key, version)
    if (document.text, dict(document.metadata)) != (expected.text, expected.metadata):
        yield f"{document.key!r} is not what was written as version {version!r}: {document.text[:80]!r}"
    if document.expires_at != expected.expires_at:
        yield f"{document.key!r} expires at {document.expires_at}, written was {expected.expires_at}"
    if len(document.memories) != len(texts_of(document.key, version)):
        yield f"{document.key!r} has the memories {document.memories}"


def _gets(store: Store, oracle: Oracle, listed: dict[str, StoredDocument]) -> Iterator[str]:
    keys = oracle.keys
    for key, found in zip(keys, store.get(keys), strict=True):
        if _unread(found) != _unread(listed.get(key)):
            yield f"get and list differ on {key!r}: {found and found.version} and {listed.get(key, ABSENT)!r:.60}"


def _unread(document: StoredDocument | None) -> StoredDocument | None:
    """The document without its reads, which every recall of key-values adds to."""
    return None if document is None else replace(document, reads=())


def _filtered(store: Store, listed: dict[str, StoredDocument], live: Live, filter: FilterMapping) -> Iterator[str]:
    """A filter chooses what its meaning says of the metadata, for `list`, `count` and `recall` alike."""
    expected = {key: one for key, one in listed.items() if matches(filter, key, version_in(one.text))}
    found = {document.key: document for document in store.documents(filter)}
    keys = found.keys() | expected.keys()
    if any(_unread(found.get(key)) != _unread(expected.get(key)) for key in keys):
        yield f"list gives and lacks {sorted(found.keys() ^ expected.keys())}"
    count = store.count(filter)
    if count != Count(len(expected), sum(len(document.memories) for document in expected.values())):
        yield f"there are {count}, of {len(expected)} documents"
    yield from _recalls(store, {seq: place for seq, place in live.items() if place[0] in expected}, filter)


def _recalls(store: Store, live: Live, filter: FilterMapping | None) -> Iterator[str]:
    """All that is there is asked for, so that the answers are those of a search through all live vectors."""
    texts = [text for _, text in live.values()]
    asked = [*texts[:: max(1, len(live) // QUERIES)], "anything"] if filter is None else ["anything"]
    seqs, matrix = list(live), np.array([vector_of(text) for text in texts])
    for number, text in enumerate(asked):
        query = vector_of(text)
        fingerprint = [None, *FINGERPRINTS][number % (len(FINGERPRINTS) + 1)]
        hits = store.recall(query, K_MAX, filter, fingerprint)
        scores = dict(zip(seqs, (matrix @ query).tolist(), strict=True)) if live else {}
        nearest = sorted(scores.values(), reverse=True)[:K_MAX]
        if {hit.seq for hit in hits} - live.keys() or len(hits) != len(nearest):
            yield f"recall of {text[:30]!r} gives seqs {sorted({hit.seq for hit in hits} ^ live.keys())[:9]} too much"
            continue
        for hit, score in zip(hits, nearest, strict=True):
            yield from _hit(hit, live, fingerprint)
            if abs(hit.score - scores[hit.seq]) > SCORE_TOLERANCE:
                yield f"recall gives {hit.text[:40]!r} the score {hit.score}"
            if abs(hit.score - score) > SCORE_TOLERANCE:
                yield f"recall of {text[:30]!r} is not in the order of nearness at seq {hit.seq}"


def _hit(hit: Hit, live: Live, fingerprint: str | None) -> Iterator[str]:
    if (hit.key, hit.text) != live[hit.seq]:
        yield f"recall gives {hit.text[:40]!r} of {hit.key!r} for seq {hit.seq}"
    elif dict(hit.metadata) != metadata_of(hit.key, version_in(hit.text)):
        yield f"recall gives {hit.key!r} the metadata {hit.metadata}"
    if hit.key_values is not None and (
        fingerprint is None or hit.key_values != values_of(fingerprint, hit.seq, hit.text)
    ):
        yield f"recall brings wrong key-values of {fingerprint!r} for seq {hit.seq}"


def _values(store: Store, oracle: Oracle, live: Live, may_be_lost: bool) -> Iterator[str]:
    dead = sorted(oracle.forgotten - live.keys())[-FORGOTTEN_MAX:]
    for fingerprint in FINGERPRINTS:
        for seq, value in zip(live, store.fetch(fingerprint, list(live)), strict=True):
            if value is None:
                if oracle.has_values(fingerprint, seq) and not may_be_lost:
                    yield f"the key-values of seq {seq} of {fingerprint!r} are lost"
            elif value != values_of(fingerprint, seq, live[seq][1]):
                yield f"the key-values of seq {seq} of {fingerprint!r} are wrong"
        for seq, value in zip(dead, store.fetch(fingerprint, dead), strict=True):
            if value is not None:
                yield f"key-values of the forgotten seq {seq} of {fingerprint!r} are served"
