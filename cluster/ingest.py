"""Documents to embedded documents to the store, a batch at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from ..calls import Progress
from ..store.collection import Collection
from ..store.types import Document, EmbeddedDocument, Reference, UpsertResult
from .models import Models

BATCH_DOCUMENTS = 64
BATCH_CHARACTERS = 64 << 10
"""Text of one transaction, as far as a single document is not longer."""
EMBED_REFERENCES = 64
"""References between two looks at whether the caller still waits."""


def upsert(
    collection: Collection,
    models: Models,
    documents: Sequence[Document],
    expected_versions: Mapping[str, int],
    request_id: str | None,
    progress: Progress | None,
) -> list[UpsertResult]:
    """Store documents that were checked before; what is stored already is not embedded again.

    Each batch is a request of its own, named by `request_id` and its number, because each is a transaction of its own.
    """
    results: list[UpsertResult] = []

    def report() -> None:
        if progress is not None:
            progress(len(results), len(documents))

    for number, batch in enumerate(_batches(documents)):
        report()
        part_id = None if request_id is None else f"{request_id}/{number}"
        # What is sent again or must be of some version is for the store to judge, in the transaction that stores it.
        judged = part_id is not None or any(document.key in expected_versions for document in batch)
        standing = {} if judged else _standing(collection, batch)
        changed = [document for document in batch if document.key not in standing]
        stored = _store(collection, models, changed, expected_versions, part_id, report) if changed else []
        by_key = standing | {result.key: result for result in stored}
        results += [by_key[document.key] for document in batch]
    report()
    return results


def _store(
    collection: Collection,
    models: Models,
    documents: Sequence[Document],
    expected_versions: Mapping[str, int],
    request_id: str | None,
    report: Callable[[], None],
) -> list[UpsertResult]:
    embedded = [
        replace(one, expected_version=expected_versions.get(one.document.key))
        for one in _embed(models, documents, report)
    ]
    return collection.upsert(embedded, request_id)


def _standing(collection: Collection, batch: Sequence[Document]) -> dict[str, UpsertResult]:
    found = collection.get(sorted(collection.unchanged(batch)))
    return {
        document.key: UpsertResult(document.key, document.version, False, len(document.memories))
        for document in found
        if document is not None
    }


def _embed(models: Models, documents: Sequence[Document], report: Callable[[], None]) -> list[EmbeddedDocument]:
    cuts = [models.language_model.split(document.text) for document in documents]
    texts = [text for cut in cuts for text in cut]
    vectors = []
    for start in range(0, len(texts), EMBED_REFERENCES):
        report()
        vectors.append(models.embedder.embed(texts[start : start + EMBED_REFERENCES]))
    references = map(Reference, texts, np.concatenate(vectors))
    # `islice` takes each document's share from the one iterator.
    return [
        EmbeddedDocument(document, list(islice(references, len(cut))))
        for document, cut in zip(documents, cuts, strict=True)
    ]


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        if batch and (len(batch) == BATCH_DOCUMENTS or size + len(document.text) > BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document.text)
    if batch:
        yield batch
