"""Keeps what is derived, index and key-values, in step with the records: after a commit, after a crash, after damage.

One way for all of them: read the log of changes after the seq that a thing is current to, and apply it. Every method
runs under the shard's writer lock, or before the shard is shared.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import limits
from .durable import remove_file
from .environment import Transaction
from .errors import Corrupted, Memory3Error
from .index import VectorIndex
from .key_values import KeyValues
from .records import Changes, Records
from .seal import Damaged
from .snapshot import read_snapshot, write_snapshot

_SNAPSHOT_SHARE = 4
_BATCH = 10_000
_NEVER = -1

_log = logging.getLogger(__name__)


class Derived:
    """The index and the key-values of one shard, with the file that saves the index."""

    def __init__(self, records: Records, key_values: KeyValues, snapshot_path: Path) -> None:
        self.index = VectorIndex(records.identity.dimension)
        self.index.position = records.base
        self._records = records
        self._key_values = key_values
        self._snapshot_path = snapshot_path
        self._saved_at = 0

    def load(self) -> None:
        """Take the saved index if it is whole and ours, and bring everything up to date."""
        try:
            self.index = self._saved_index()
            self._saved_at = self.index.position
        except Corrupted as error:
            _log.warning("%s: the index is built again from the vectors: %s", self._snapshot_path.parent, error)
            self._rebuild()
        self.catch_up()
        self._sweep_beyond()

    def catch_up(self) -> None:
        """Apply to index and key-values what the records hold beyond them."""
        self._catch_up_index()
        try:
            self._catch_up_key_values()
        except Memory3Error as error:
            # The records have forgotten these memories, so their key-values are not served; removal is tried again.
            _log.warning("key-values of forgotten memories could not be removed yet: %s", error)

    def save_if_due(self) -> None:
        """Save the index when enough has changed; a failure costs time at the next start, so it is only logged."""
        changed = self.index.position - max(self._saved_at, 0)
        if changed >= max(limits.SNAPSHOT_CHANGES_MIN, self.index.count // _SNAPSHOT_SHARE):
            self.try_save()

    def try_save(self) -> None:
        try:
            self.save()
        except Memory3Error as error:
            _log.warning("the index could not be saved: %s", error)

    def save(self) -> None:
        """Save the index aside and trim the changes that nobody needs any more.

        Raises:
            ResourceExhausted: the disk is full; the last saved index stands.
        """
        if self._saved_at == self.index.position:
            return
        write_snapshot(self._snapshot_path, self.index.snapshot(self._records.identity.id))
        self._saved_at = self.index.position
        self._key_values.checkpoint()
        self._trim()

    def rebuild_terms(self) -> None:
        """Make the terms of all metadata anew: one of them was damaged."""
        _log.warning("%s: the terms are made again from the documents", self._records.environment.path)
        with self._records.environment.writing() as txn:
            self._records.rebuild_terms(txn)

    def quarantine(self, damages: Iterable[Damaged]) -> None:
        """Mark damaged records, so that they are counted until they are replaced."""
        damages = list(damages)
        if not damages:
            return
        try:
            with self._records.environment.writing() as txn:
                damages = [damage for damage in damages if self._records.mark(txn, damage)]
        except Memory3Error as error:
            # The caller is about to hear of the damage itself; that the mark failed must not hide it.
            _log.error("damage could not be marked: %s", error)
        for damage in damages:
            _log.error("%s: %s", self._records.environment.path, damage)

    def _saved_index(self) -> VectorIndex:
        snapshot = read_snapshot(self._snapshot_path)
        identity = self._records.identity
        if (snapshot.shard_id, snapshot.dimension) != (identity.id, identity.dimension):
            raise Corrupted("the index snapshot is another shard's")
        return VectorIndex.load(snapshot)

    def _catch_up_index(self) -> None:
        with self._records.environment.reading() as txn:
            changes = self._changes_after(txn, self.index.position)
            if changes is not None:
                seqs, vectors, damages = self._records.matrix(txn, changes.written)
        if changes is None:
            self._rebuild()
        else:
            self.index.apply(changes.position, changes.forgotten, seqs, vectors)
            self.quarantine(damages)

    def _changes_after(self, txn: Transaction, seq: int) -> Changes | None:
        try:
            return self._records.changes_after(txn, seq)
        except Damaged as damage:
            self.quarantine([damage])
            return None

    def _rebuild(self) -> None:
        # Left there, a saved index of a future that the records have lost would fit again once they give its seqs anew.
        remove_file(self._snapshot_path)
        damages: list[Damaged] = []
        with self._records.environment.reading() as txn:
            self.index.rebuild(self._records.position(txn), self._batches(txn, damages))
        self._saved_at = _NEVER
        self.quarantine(damages)

    def _batches(self, txn: Transaction, damages: list[Damaged]) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        seqs = self._records.seqs(txn)
        while batch := list(islice(seqs, _BATCH)):
            found, vectors, damaged = self._records.matrix(txn, batch)
            damages += damaged
            yield found, vectors

    def _catch_up_key_values(self) -> None:
        with self._records.environment.reading() as txn:
            changes = self._changes_after(txn, self._key_values.applied)
            if changes is None:
                self._sweep(txn)
            else:
                self._key_values.forget(changes.forgotten, changes.position)

    def _sweep_beyond(self) -> None:
        # Records restored from an older copy give seqs again that key-values of the newer ones still stand under.
        with self._records.environment.reading() as txn:
            if self._key_values.last_seq() > self._records.position(txn):
                self._sweep(txn)

    def _sweep(self, txn: Transaction) -> None:
        self._key_values.sweep(lambda seq: self._records.is_live(txn, seq), self._records.position(txn))

    def _trim(self) -> None:
        with self._records.environment.writing() as txn:
            seen = min(self._saved_at, self._key_values.applied)
            self._records.trim_changes(txn, min(seen, self._records.position(txn) - limits.CHANGES_KEPT))
