"""How often each memory's key-values were read, so that those read least make room when there is too little."""

import threading
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop
from itertools import islice

from .disk.environment import Environment, Transaction, WriteTransaction
from .disk.seal import Damaged
from .format import decode_seq, decode_u64, encode_seq, encode_u64
from .limits import READS_KEPT

_AGED_SHARE = 256
"""Over the limit, one count in so many is halved at a time, which takes a millisecond or two."""


class Reads:
    """Counts by seq, in memory; the table `reads` keeps them from one opening to the next, as of the last save."""

    def __init__(self, environment: Environment) -> None:
        self.table = environment.table("reads", encode_u64, decode_u64)
        self._mutex = threading.Lock()
        self._counts: dict[int, int] = {}
        self._unsaved: set[int] = set()

    def load(self, txn: Transaction) -> None:
        """Take up the counts that were saved; those that are damaged begin anew."""
        self._counts = {
            decode_seq(key): count for key, count in self.table.items(txn) if not isinstance(count, Damaged)
        }

    def note(self, seqs: Iterable[int]) -> None:
        """Count one more read of each."""
        seqs = list(seqs)
        with self._mutex:
            for seq in seqs:
                self._counts[seq] = self._counts.get(seq, 0) + 1
                self._unsaved.add(seq)
            if len(self._counts) > READS_KEPT:
                self._age(max(2 * len(seqs), READS_KEPT // _AGED_SHARE))

    def forget(self, seqs: Iterable[int]) -> None:
        """Drop the counts of memories that are gone."""
        with self._mutex:
            for seq in seqs:
                if self._counts.pop(seq, None) is not None:
                    self._unsaved.add(seq)

    def of(self, seq: int) -> int:
        return self._counts.get(seq, 0)

    def delete(self, txn: WriteTransaction, seqs: Iterable[int]) -> None:
        """Drop the saved counts of memories that are forgotten: whoever opens this next would count them."""
        for seq in seqs:
            self.table.delete(txn, encode_seq(seq))

    def seqs(self) -> list[int]:
        """Return the seqs that have a count."""
        with self._mutex:
            return list(self._counts)

    def most(self) -> Iterator[tuple[int, int]]:
        """Yield the seqs with their counts, most reads first, equal ones by seq."""
        with self._mutex:
            counts = self._counts.copy()
        left = [(-count, seq) for seq, count in counts.items()]
        heapify(left)
        while left:
            count, seq = heappop(left)
            yield seq, -count

    @property
    def memories(self) -> int:
        """How many memories have a count."""
        return len(self._counts)

    @property
    def total(self) -> int:
        with self._mutex:
            return sum(self._counts.values())

    @property
    def unsaved(self) -> int:
        """How many counts changed since they were saved."""
        return len(self._unsaved)

    def save(self, txn: WriteTransaction, limit: int) -> None:
        """Write up to `limit` of the counts that changed since they were saved."""
        with self._mutex:
            seqs = sorted(self._unsaved.pop() for _ in range(min(limit, len(self._unsaved))))
            changed = {seq: self._counts.get(seq) for seq in seqs}
        for seq, count in changed.items():
            if count is None:
                self.table.delete(txn, encode_seq(seq))
            else:
                self.table.put(txn, encode_seq(seq), count)

    def _age(self, limit: int) -> None:
        # What was read often long ago should not stay for ever, nor the counts fill the memory. Some at a time, in
        # turns: those first whose turn was longest ago.
        for seq in list(islice(self._counts, limit)):
            count = self._counts.pop(seq) // 2
            if count:
                self._counts[seq] = count
            self._unsaved.add(seq)
