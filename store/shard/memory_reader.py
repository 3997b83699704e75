"""Memories as one state of records and key-values has them: live or gone, warm or cold.

`N` vectors, `D` embedding size.
"""

from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt

from ..disk.environment import Transaction
from ..disk.seal import Damaged
from ..format import DocumentRecord, encode_seq
from ..key_values import KeyValuesView
from ..records import Records
from ..seqs import shard_of_seq
from ..types import Hit


class MemoryReader:
    """Looks up live memories in one state, as of `now`; what is damaged is left out and gathered in `damages`.

    With `held` the key-values come too, but for these seqs.
    """

    def __init__(
        self,
        records: Records,
        txn: Transaction,
        key_values: KeyValuesView,
        now: float,
        held: Set[int] | None = None,
    ) -> None:
        self.damages: list[Damaged] = []
        self.saw_ended = False
        """A memory was met whose document has expired and is not deleted yet."""
        self.key_values = key_values
        self._records = records
        self._txn = txn
        self._now = now
        self._held = held
        self._documents: dict[str, DocumentRecord | None] = {}

    def hit(self, seq: int, score: float) -> Hit | None:
        """Return the live memory `seq`, None when it is gone or damaged."""
        try:
            memory = self._records.memories.get(self._txn, encode_seq(seq))
            document = self._document(memory.key) if memory else None
        except Damaged as damage:
            self.damages.append(damage)
            return None
        if memory is None or document is None or seq not in document.seqs:
            return None
        if document.has_ended(self._now):
            self.saw_ended = True
            return None
        shard, values = shard_of_seq(seq), None
        if self._held is None or seq in self._held:
            warm = self.key_values.holds(seq)
        else:
            values = self.key_values.get(seq)
            warm = values is not None
        return Hit(memory.key, memory.text, score, document.version, document.metadata, seq, shard, warm, values)

    def vectors(self, seqs: Sequence[int]) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Return those of these seqs that have a vector here, and their vectors (N, D)."""
        found, vectors, damages = self._records.matrix(self._txn, seqs)
        self.damages += damages
        return found, vectors

    def _document(self, key: str) -> DocumentRecord | None:
        if key not in self._documents:
            # Set first, so that a damaged record is reported once and its other memories are left out quietly.
            self._documents[key] = None
            self._documents[key] = self._records.documents.get(self._txn, key.encode())
        return self._documents[key]
