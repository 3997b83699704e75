"""Finding memories: the index proposes, the records decide.

The index is searched before the transaction begins whose state everything else here sees: so what the index holds has
been committed, and what it lacks stands in the log of changes.

`N` queries, `D` embedding size.
"""

import threading
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import nullcontext
from itertools import chain

import numpy as np
import numpy.typing as npt

from .. import limits
from ..disk.environment import Transaction
from ..disk.seal import Damaged
from ..disk.turns import READS
from ..errors import Unavailable
from ..filters.choosing import Chosen
from ..filters.language import Filter
from ..filters.terms import check_match
from ..index.vector_index import NOT_WHOLE, Candidates, Proposal, candidates_for, ranked
from ..records import Records
from ..types import Hit
from ..validation import check_queries
from .memory_reader import MemoryReader
from .state import ShardState

_INDEX_LOOK_S = 0.1
_WIDEN = 4
"""By how much more candidates are asked for when too few of them are live."""


class Recall:
    """Recalls from one shard."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._waiting = threading.Semaphore(limits.INDEX_WAITERS_MAX)

    def wait_for_index(self) -> None:
        """Return once the index is whole: one that is lost is built again beside changes.

        Raises:
            Unavailable: many wait already.
        """
        if self._state.derived.index.whole:
            return
        if not self._waiting.acquire(blocking=False):
            raise Unavailable(f"collection {self._state.info.name!r}: {NOT_WHOLE}")
        try:
            self.until_index_is_whole(lambda: None)
        finally:
            self._waiting.release()

    def until_index_is_whole(self, look: Callable[[], None]) -> None:
        """Return once the index is whole; `look` is called meanwhile, and may raise."""
        while not self._state.derived.index.whole:
            look()
            with self._state.using():
                self._state.wake()
            self._state.leaving.wait(_INDEX_LOOK_S)

    def recall(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        fingerprint: str | None,
        filter: Filter | None,
        held: Set[int] | None,
    ) -> list[list[Hit]]:
        """Return for each query (N, D) its k nearest memories, as `Shard.recall` says."""
        try:
            return self._recall(vectors, k, fingerprint, filter, held)
        except Damaged as damage:
            with self._state.using():
                self._state.mend_terms(damage)
        return self._recall(vectors, k, fingerprint, filter, held)

    def _recall(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        fingerprint: str | None,
        filter: Filter | None,
        held: Set[int] | None,
    ) -> list[list[Hit]]:
        state = self._state
        hits: list[list[Hit]] = []
        readers: list[MemoryReader] = []
        index, width = state.derived.index, candidates_for(k)
        # A short search costs the others less than an interpreter that is shared with them.
        with READS.turn() if filter is None and index.is_quick(len(vectors), width) else nullcontext():
            check_queries(vectors, state.info.dimension, k)
            while len(hits) < len(vectors):
                chosen = None if filter is None else state.read(lambda txn: state.choices.of(txn, filter))
                # A few at a time, because others wait meanwhile.
                at_once = index.queries_at_once(width, None if chosen is None else chosen.allowed)
                part = vectors[len(hits) : len(hits) + at_once]
                found = self._nearest(part, k, width, fingerprint, chosen, held, readers.append)
                if found is None:
                    width *= _WIDEN
                    continue
                hits += found
                width = candidates_for(k)
            if held is not None:
                state.key_values.reads.note(hit.seq for found in hits for hit in found if hit.key_values is not None)
        self._attend_to(readers)
        return hits

    def _nearest(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        width: int,
        fingerprint: str | None,
        chosen: Chosen | None,
        held: Set[int] | None,
        met: Callable[[MemoryReader], None],
    ) -> list[list[Hit]] | None:
        """Return for each query its k nearest; None when `width` candidates are too few, because many are dead."""
        state = self._state
        with state.using():
            # Before the transaction: what the index holds has then been committed, and what it lacks is in the log.
            candidates = state.derived.index.search(queries, width, None if chosen is None else chosen.allowed)
            known = candidates.position if chosen is None else min(candidates.position, chosen.position)
            with READS.turn(), state.memory_reader(fingerprint, held) as (txn, reader):
                met(reader)
                fresh = _written_since(state.records, txn, reader, known)
                if fresh and chosen is not None:
                    selection = state.choices.of(txn, chosen.filter).selection
                    fresh = [seq for seq in fresh if seq in selection]
                found = [_live_hits(reader, proposal, k) for proposal in _propose(reader, candidates, fresh)]
        if chosen is not None:
            for hit in chain.from_iterable(found):
                check_match(chosen.filter, hit.key, hit.metadata)
        return found if candidates.complete or all(len(hits) == k for hits in found) else None

    def _attend_to(self, readers: Iterable[MemoryReader]) -> None:
        """Mark what was found damaged, and have swept what has expired: it is in the way of those who search."""
        for reader in readers:
            if reader.damages or reader.key_values.damages or reader.saw_ended:
                with self._state.using():
                    self._state.quarantine(reader.damages)
                    self._state.expel(reader.key_values.damages)
                    self._state.wake()


def _written_since(records: Records, txn: Transaction, reader: MemoryReader, position: int) -> list[int]:
    """Return the seqs that were written after `position`, and stand.

    A search that was made before knows nothing of them: without them a document that is being replaced would be found
    neither in its old nor in its new version.
    """
    if records.position(txn) == position:
        return []
    try:
        changes = records.changes_after(txn, position)
    except Damaged as damage:
        reader.damages.append(damage)
        return []
    return changes.written if changes else []


def _propose(reader: MemoryReader, candidates: Candidates, fresh: Sequence[int]) -> list[Proposal]:
    """Rank for each query what a search has found, and all of the `fresh`."""
    proposals = candidates.ranked(reader.vectors)
    if not fresh:
        return proposals
    seqs, vectors = reader.vectors(fresh)
    scores = (candidates.queries @ vectors.T).tolist()
    return [ranked([*found, *zip(row, seqs, strict=True)]) for found, row in zip(proposals, scores, strict=True)]


def _live_hits(reader: MemoryReader, proposal: Proposal, k: int) -> list[Hit]:
    """Return the first k of the candidates that are live."""
    hits: list[Hit] = []
    for score, seq in proposal:
        if len(hits) == k:
            break
        hit = reader.hit(seq, min(1.0, max(-1.0, score)))
        if hit is not None:
            hits.append(hit)
    return hits
