"""Building the lists of an index from the records, beside changes and searches.

Everything is read in short transactions, because pages that a reader sees cannot be used again. What changes meanwhile
is applied afterwards from the log.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .. import limits
from ..disk.seal import Damaged
from ..errors import Aborted
from ..records import Changes, Records
from ..types import IndexKind
from .clustering import GiveWay, Plan, clustered, plan, quick_plan, steps
from .inverted import InvertedLists, flat_ids
from .vector_index import Seqs, VectorIndex

Matrix: TypeAlias = npt.NDArray[np.float32]

_log = logging.getLogger(__name__)

_SEQS_AT_ONCE = 1_000
_VECTORS_AT_ONCE = 1_000
"""Each step waits for the interpreter beside a busy writer: with 200 most of the time was spent waiting."""


class Builder:
    """Builds lists from the records of one shard; `damaged` is told of each vector and change that cannot be read."""

    def __init__(self, records: Records, damaged: Callable[[Sequence[Damaged]], object]) -> None:
        self._records = records
        self._base = records.base
        self._damaged = damaged

    def is_due(self, index: VectorIndex) -> bool:
        """Say whether the index should be built anew: its kind or its lists do not suit what it holds by now."""
        count, factor = index.count, limits.CLUSTERING_FACTOR
        if index.kind is IndexKind.EXACT:
            return count > limits.EXACT_MAX
        if count < limits.EXACT_MAX // factor:
            return True
        unlike = max(plan(count).lists / index.lists, index.lists / plan(count).lists)
        return unlike**2 >= factor or index.position - index.clustered_at > factor * count

    def build(self, give_way: GiveWay, quick: bool = False) -> InvertedLists:
        """Return lists of the kind and number that suit the memories there are; `quick` takes fewer lists.

        They are current up to the position before the call, and may hold newer memories.
        """
        seqs = self._seqs(give_way)
        lists = InvertedLists.exact(self._records.identity.dimension)
        if len(seqs) > limits.EXACT_MAX:
            chosen = quick_plan(len(seqs)) if quick else plan(len(seqs))
            sample = self._sample(seqs, chosen, give_way)
            # All of it may have been deleted meanwhile.
            lists = clustered(sample, chosen, give_way) if len(sample) else lists
        lists.make_room(len(seqs))
        for found, vectors in self._vectors(seqs, give_way):
            _add(lists, flat_ids([], found, self._base), vectors, give_way)
        return lists

    def replay(self, lists: InvertedLists, position: int, until: int, give_way: GiveWay) -> int:
        """Apply the changes after `position` up to `until` to lists that nobody searches yet; return where that ended.

        Raises:
            Aborted: the log does not lead on from there.
        """
        while position < until:
            changes, found, vectors = self._changes(position, min(until - position, limits.CHANGES_AT_ONCE))
            ids = flat_ids([], found, self._base)
            lists.remove(flat_ids(changes.forgotten, found, self._base))
            _add(lists, ids, vectors, give_way)
            position = changes.position
        return position

    def _changes(self, position: int, limit: int) -> tuple[Changes, list[int], Matrix]:
        with self._records.environment.reading() as txn:
            try:
                changes = self._records.changes_after(txn, position, limit)
            except Damaged as damage:
                self._damaged([damage])
                raise Aborted(f"the index cannot be built from seq {position} on: {damage}") from damage
            if changes is None:
                raise Aborted(f"the log does not reach back to seq {position}; the index is to be built again")
            found, vectors, damages = self._records.matrix(txn, changes.written)
        self._damaged(damages)
        return changes, found, vectors

    def _seqs(self, give_way: GiveWay) -> Seqs:
        """Return the seqs of all memories, shape (N,), in order."""
        # They stand as bitmaps in the terms. The keys of `memories` lead over every page of texts, which takes minutes
        # where millions of them are not in memory; that there are as many tells whether the terms can be believed.
        with self._records.environment.reading() as txn:
            try:
                live = self._records.terms.live(txn)
                if live.count == self._records.memories.count(txn):
                    return live.array()
            except Damaged as damage:
                _log.warning("memories are looked through for the index: %s", damage)
        # Once each: FAISS would keep two vectors of one seq.
        return np.unique(np.fromiter(self._walked(give_way), np.int64))

    def _walked(self, give_way: GiveWay) -> Iterator[int]:
        # No further than now: somebody may write faster than this reads.
        with self._records.environment.reading() as txn:
            after, last = self._base, self._records.position(txn)
        while after < last:
            give_way()
            with self._records.environment.reading() as txn:
                found = list(islice(self._records.seqs(txn, after), _SEQS_AT_ONCE))
            # A damaged key is any number, at any place: further each time, and no further than there are seqs.
            seqs = [seq for seq in found if after < seq <= last]
            yield from seqs
            after = seqs[-1] if seqs else last

    def _sample(self, seqs: Seqs, chosen: Plan, give_way: GiveWay) -> Matrix:
        random = np.random.default_rng(len(seqs))
        taken = random.choice(seqs, min(chosen.sample, len(seqs)), replace=False)
        # What is read is given up before the next copy is made: at 10,000,000 memories it is 600 MB.
        return random.permutation(np.concatenate([vectors for _, vectors in self._vectors(np.sort(taken), give_way)]))

    def _vectors(self, seqs: Seqs, give_way: GiveWay) -> Iterator[tuple[list[int], Matrix]]:
        for start in range(0, len(seqs), _VECTORS_AT_ONCE):
            give_way()
            with self._records.environment.reading() as txn:
                part = seqs[start : start + _VECTORS_AT_ONCE].tolist()
                found, vectors, damages = self._records.matrix(txn, part)
            self._damaged(damages)
            yield found, vectors


def _add(lists: InvertedLists, ids: npt.NDArray[np.int64], vectors: Matrix, give_way: GiveWay) -> None:
    for part in steps(len(ids), lists.lists):
        give_way()
        lists.add(ids[part], vectors[part], lists.assign(ids[part], vectors[part]))
