"""What a model reads from: one collection, searched with the embedder; cold memories are written on the spot."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ..model.source import MemorySource
from ..store.collection import Collection
from ..store.errors import Corrupted
from ..store.filters.language import Filter
from ..store.types import Hit
from .models import Models
from .writing import write_memories

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectionSource(MemorySource):
    """A `MemorySource` over a collection; of documents that match `filter`, if given."""

    collection: Collection
    models: Models
    filter: Filter | None = None

    @property
    def scope(self) -> Hashable:
        """The opened collection itself: another of its name, made after it was dropped, is another object."""
        return self.collection

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` nearest memories for each query, of documents that match the filter, best first."""
        vectors = self.models.embedder.embed(queries)
        return self.collection.recall(vectors, k, self.models.language_model.fingerprint, self.filter)

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        """The key-values of each memory; None for one that was deleted since it was recalled."""
        found = self._fetch([hit.seq for hit in hits])
        cold = {hit.seq: hit.text for hit, values in zip(hits, found, strict=True) if values is None}
        if not cold:
            return found
        written = write_memories(self.collection, self.models.language_model, cold, stored=False)
        return [values or written.get(hit.seq) for hit, values in zip(hits, found, strict=True)]

    def note_reads(self, hits: Sequence[Hit]) -> None:
        """Count a read of memories that did not have to be fetched."""
        self.collection.note_reads([hit.seq for hit in hits])

    def live(self, hits: Sequence[Hit]) -> list[bool]:
        """Whether each memory is still there."""
        return [found is not None for found in self.collection.memories([hit.seq for hit in hits])]

    def _fetch(self, seqs: Sequence[int]) -> list[bytes | None]:
        fingerprint = self.models.language_model.fingerprint
        for _ in seqs:
            try:
                return self.collection.fetch_key_values(fingerprint, seqs)
            except Corrupted as error:
                # The store has removed what was damaged, so these memories are cold now and their text is still
                # there: they are written again. Each round removes at least one, or it is no value that is damaged.
                _log.warning("%s; they are written again", error)
        return self.collection.fetch_key_values(fingerprint, seqs)
