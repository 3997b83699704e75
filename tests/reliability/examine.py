"""A store held against the oracle: every document, memory, vector and key-value that it answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from memory3.client import Client
from memory3.store.collection import Collection
from memory3.store.types import Hit, StoredDocument, Vector

from .content import FINGERPRINTS, document_of, texts_of, values_of, vector_of, version_in
from .oracle import ABSENT, Oracle

PAGE = 50
K_MAX = 1_000
SCORE_TOLERANCE = 1e-5
QUERIES = 3
FORGOTTEN_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Store:
    """The calls that an examination makes, of a collection in this process or of a server."""

    get: Callable[[Sequence[str]], list[StoredDocument | None]]
    page: Callable[[str], Any]
    recall: Callable[[Vector, int], list[Hit]]
    fetch: Callable[[str, Sequence[int]], list[bytes | None]]
    check: Callable[[], tuple[str, ...]]

    @classmethod
    def of_collection(cls, collection: Collection) -> "Store":
        return cls(
            get=collection.get,
            page=lambda token: collection.list(PAGE, token),
            recall=lambda vector, k: collection.recall(vector[None], k)[0],
            fetch=collection.fetch_key_values,
            check=lambda: collection.check(full=True).problems,
        )

    @classmethod
    def of_client(cls, client: Client) -> "Store":
        return cls(
            get=client.get,
            page=lambda token: client.list(limit=PAGE, page_token=token),
            recall=client.recall,
            fetch=client.fetch_key_values,
            check=lambda: client.check(full=True).problems,
        )

    def documents(self) -> Iterator[StoredDocument]:
        """Every document, by `list`."""
        token = ""
        while True:
            page = self.page(token)
            yield from page.documents
            token = page.next_page_token
            if not token:
                return


def examine(store: Store, oracle: Oracle, values_may_be_lost: bool = False) -> list[str]:
    """Return every violation: lost, stale, resurrected, torn or wrong; settle the oracle when there is none.

    `values_may_be_lost`: after a power failure acknowledged key-values may be gone, as they are derived.
    """
    listed = {document.key: document for document in store.documents()}
    versions = {key: version_in(document.text) for key, document in listed.items()}
    live = {
        seq: text
        for key, document in listed.items()
        for seq, text in zip(document.memories, texts_of(key, versions[key]), strict=False)
    }
    wrong = oracle.judge(versions)
    wrong += [problem for document in listed.values() for problem in _document(document)]
    wrong += _gets(store, oracle, listed)
    wrong += _recalls(store, live)
    wrong += _values(store, oracle, live, values_may_be_lost)
    wrong += [f"check: {problem}" for problem in store.check()]
    if not wrong:
        oracle.settle(versions, {key: document.memories for key, document in listed.items()})
    return wrong


def _document(document: StoredDocument) -> Iterator[str]:
    version = version_in(document.text)
    expected = document_of(document.key, version)
    if (document.text, dict(document.metadata)) != (expected.text, expected.metadata):
        yield f"{document.key!r} is not what was written as version {version!r}: {document.text[:80]!r}"
    if len(document.memories) != len(texts_of(document.key, version)):
        yield f"{document.key!r} has the memories {document.memories}"


def _gets(store: Store, oracle: Oracle, listed: dict[str, StoredDocument]) -> Iterator[str]:
    keys = oracle.keys
    for key, found in zip(keys, store.get(keys), strict=True):
        if found != listed.get(key):
            yield f"get and list differ on {key!r}: {found and found.version} and {listed.get(key, ABSENT)!r:.60}"


def _recalls(store: Store, live: dict[int, str]) -> Iterator[str]:
    """The index is exact: its answers are those of a search through all live vectors."""
    asked = [*list(live.values())[:: max(1, len(live) // QUERIES)], "anything"]
    seqs, matrix = list(live), np.array([vector_of(text) for text in live.values()])
    for text in asked:
        query = vector_of(text)
        hits = store.recall(query, K_MAX)
        scores = dict(zip(seqs, (matrix @ query).tolist(), strict=True)) if live else {}
        nearest = sorted(scores.values(), reverse=True)[:K_MAX]
        if {hit.seq for hit in hits} - live.keys() or len(hits) != len(nearest):
            yield f"recall of {text[:30]!r} gives seqs {sorted({hit.seq for hit in hits} ^ live.keys())[:9]} too much"
            continue
        for hit, score in zip(hits, nearest, strict=True):
            if hit.text != live[hit.seq] or abs(hit.score - scores[hit.seq]) > SCORE_TOLERANCE:
                yield f"recall gives {hit.text[:40]!r} with score {hit.score} for seq {hit.seq}"
            if abs(hit.score - score) > SCORE_TOLERANCE:
                yield f"recall of {text[:30]!r} is not in the order of nearness at seq {hit.seq}"


def _values(store: Store, oracle: Oracle, live: dict[int, str], may_be_lost: bool) -> Iterator[str]:
    dead = sorted(oracle.forgotten - live.keys())[-FORGOTTEN_MAX:]
    for fingerprint in FINGERPRINTS:
        for seq, value in zip(live, store.fetch(fingerprint, list(live)), strict=True):
            if value is None:
                if oracle.has_values(fingerprint, seq) and not may_be_lost:
                    yield f"the key-values of seq {seq} of {fingerprint!r} are lost"
            elif value != values_of(fingerprint, seq, live[seq]):
                yield f"the key-values of seq {seq} of {fingerprint!r} are wrong"
        for seq, value in zip(dead, store.fetch(fingerprint, dead), strict=True):
            if value is not None:
                yield f"key-values of the forgotten seq {seq} of {fingerprint!r} are served"
