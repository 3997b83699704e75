"""Keeps what is derived, index and key-values, in step with the records: after a commit, after a crash, after damage.

One way for all of them: read the log of changes after the seq that a thing is current to, and apply it. `load` and
`catch_up` run under the shard's writer lock, or before the shard is shared; saving runs beside changes.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from .. import limits
from ..backup.progress import one_at_a_time
from ..disk.durable import remove_file
from ..disk.environment import Transaction
from ..disk.seal import Damaged
from ..disk.turns import READS
from ..errors import Corrupted, Memory3Error
from ..filters.terms import NAME as TERMS
from ..index.building import Builder
from ..index.clustering import GiveWay
from ..index.inverted import InvertedLists
from ..index.snapshot import Slice, read_snapshot, write_snapshot
from ..index.vector_index import VectorIndex
from ..key_values import KeyValues
from ..records import Changes, Records
from ..types import IndexKind, IndexState

_SNAPSHOT_SHARE = 4
_GAINED = 5
"""By how many times `TAKEN_UP_MAX` an index that is being built gains at once on those who write as fast as it follows,
while they wait."""

_clustering_alone = threading.Lock()
"""Held by the one large shard of this process that is being clustered."""

_log = logging.getLogger(__name__)


def at_once() -> None:
    """Give way to nobody."""


class Derived:
    """The index and the key-values of one shard, with the file that saves the index."""

    def __init__(self, records: Records, key_values: KeyValues, snapshot_path: Path) -> None:
        self.index = VectorIndex(records.identity.dimension, records.base)
        self._records = records
        self._key_values = key_values
        self._builder = Builder(records, self.quarantine)
        self._snapshot_path = snapshot_path
        self._saving = threading.Lock()
        self._saved: tuple[int, int] | None = None
        """Position and generation of the saved index."""
        self._clustering_from: int | None = None
        """Position from which an index is being built; the log must lead on from there."""

    def load(self) -> None:
        """Take the saved index if it is whole and ours, and bring everything up to date.

        Without it, that of a large shard is left to be built by `cluster`.
        """
        try:
            self.index = self._saved_index()
            self._saved = self.index.position, self.index.generation
        except Corrupted as error:
            _log.warning("%s: the index is built again from the vectors: %s", self._snapshot_path.parent, error)
            self._lose_index()
        self.catch_up()
        self._sweep_beyond()
        if not self.index.whole and self._memories() <= limits.BUILT_AT_OPENING_MAX:
            self._cluster(nullcontext(), at_once)

    def catch_up(self) -> None:
        """Apply to index and key-values what the records hold beyond them."""
        # Mostly both are at the same seq, and the log is read once for both.
        self._catch_up_index()
        if self._key_values.applied != self.index.position:
            with _tried_again():
                self._catch_up_key_values()

    def state(self) -> IndexState:
        """Return how the index stands."""
        index, saved = self.index, self._saved
        clustering = self._clustering_from is not None or not index.whole
        return IndexState(index.kind, index.count, index.lists, clustering, None if saved is None else saved[0])

    def save_is_due(self) -> bool:
        """Say whether the index should be saved: much has changed, or it was clustered since."""
        if not self.index.whole:
            return False
        position, generation = self._saved or (self._records.base, 0)
        enough = max(limits.SNAPSHOT_CHANGES_MIN, self.index.count // _SNAPSHOT_SHARE)
        clustered = self.index.kind is IndexKind.QUANTIZED and self.index.generation != generation
        return clustered or self.index.position - position >= enough

    def try_save(self) -> None:
        """Save the index; a failure costs time at the next start, so it is only logged."""
        try:
            self.save()
        except Memory3Error as error:
            _log.warning("the index could not be saved: %s", error)

    def save(self, give_way: GiveWay = at_once) -> None:
        """Save the index aside, beside changes and searches, and trim the changes that nobody needs any more.

        One that is not whole is left to be built.

        Raises:
            ResourceExhausted: the disk is full; the last saved index stands.
            Unavailable: it was lost just now.
        """
        if not self.index.whole:
            return
        with self._saving:
            generation = self.index.generation
            snapshot = self.index.snapshot(self._records.identity.id)
            if self._saved != (snapshot.seq, generation):
                write_snapshot(self._snapshot_path, replace(snapshot, slices=_each(snapshot.slices, give_way)))
                self._saved = snapshot.seq, generation
            elif not self._key_values.reads.unsaved:
                return
            # Changes go on meanwhile: what is durable after the checkpoint is this or more.
            applied = self._key_values.applied
            self._key_values.checkpoint(give_way)
            self._trim(min(snapshot.seq, applied), give_way)

    def key_values_are_due(self) -> bool:
        """Say whether key-values should be looked through, or are damaged so that they should begin anew."""
        return self._key_values.environment.broken or not self._key_values.verified

    def key_values_are_whole(self, give_way: GiveWay) -> bool:
        """Look the key-values through beside everybody's calls, and say whether LMDB can read them."""
        if not self._key_values.environment.broken:
            try:
                self._key_values.verify(give_way)
                return True
            except Corrupted as error:
                _log.error("%s: key-values are damaged: %s", self._snapshot_path.parent, error)
        return False

    def begin_key_values_anew(self) -> None:
        """Put nothing in the place of damaged key-values. Everybody waits for the reads that are under way.

        Raises:
            ResourceExhausted: the disk is full; they are as they were.
        """
        _log.error("%s: key-values begin anew, and will be written again", self._snapshot_path.parent)
        self._key_values.begin_anew(self._position())

    def clustering_is_due(self) -> bool:
        return not self.index.whole or self._builder.is_due(self.index)

    def cluster(self, writer: AbstractContextManager[object], give_way: GiveWay) -> None:
        """Build the index anew beside changes and searches, and take it up.

        Changes wait for the last of it; those of somebody who writes faster than they can be followed wait for more.
        A large shard waits until no other large one is built, unless `give_way` raises. Where nothing can be recalled
        until then, quickly made lists come first, and better ones the next time.

        Raises:
            Aborted: the log does not lead from the beginning of the work to its end; it may be tried again.
        """
        large = not self.index.whole or self.index.count >= limits.CLUSTERED_ALONE_MIN
        with one_at_a_time(_clustering_alone, lambda *_: give_way()) if large else nullcontext():
            self._cluster(writer, give_way)

    def _cluster(self, writer: AbstractContextManager[object], give_way: GiveWay) -> None:
        start = self._clustering_from = self._position()
        try:
            fresh = self._builder.build(give_way, quick=not self.index.whole)
            old = self._take_up(fresh, start, writer, give_way)
        finally:
            self._clustering_from = None
        # They may be just being saved.
        with self._saving:
            old.release()

    def rebuild(self, tables: Set[str]) -> None:
        """Make tables of the records anew that follow from the documents, because some of it was damaged."""
        known = {TERMS: self._records.rebuild_terms, self._records.expiry.table.name: self._records.rebuild_expiry}
        for name, make in known.items():
            if name in tables:
                _log.warning("%s: %s is made again from the documents", self._records.environment.path, name)
                with self._records.environment.writing() as txn:
                    make(txn)

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

    def _take_up(
        self, fresh: InvertedLists, start: int, writer: AbstractContextManager[object], give_way: GiveWay
    ) -> InvertedLists:
        """Bring lists that were built from `start` on to the last change and exchange them; return the old ones."""
        position, left = start, self._position() - start
        # Beside changes, as long as each time at most half as much is left.
        while left > limits.TAKEN_UP_MAX:
            position = self._builder.replay(fresh, position, position + left, give_way)
            before, left = left, self._position() - position
            if left > before // 2:
                break
        last = self._position()
        while True:
            with writer:
                # More than what was written since: who writes as fast as this follows would else be followed for ever.
                written, last = self._position() - last, self._position()
                until = min(last, position + written + _GAINED * limits.TAKEN_UP_MAX)
                position = self._builder.replay(fresh, position, until, at_once)
                if position == last:
                    return self.index.adopt(fresh, position, start)
            give_way()

    def _position(self) -> int:
        with self._records.environment.reading() as txn:
            return self._records.position(txn)

    def _saved_index(self) -> VectorIndex:
        identity = self._records.identity
        with read_snapshot(self._snapshot_path) as snapshot:
            found = snapshot.shard_id, snapshot.dimension, snapshot.base
            if found != (identity.id, identity.dimension, self._records.base):
                raise Corrupted("the index snapshot is another shard's")
            return VectorIndex.load(snapshot)

    def _catch_up_index(self) -> None:
        while True:
            with self._records.environment.reading() as txn, READS.turn(ahead=True):
                changes = self._changes_after(txn, self.index.position, limits.CHANGES_AT_ONCE)
                if changes is None:
                    break
                seqs, vectors, damages = self._records.matrix(txn, changes.written)
                last = changes.position == self._records.position(txn)
                together = self._key_values.applied == self.index.position
                # Within the turn: those who search then hold the index, but not the interpreter.
                self.index.apply(changes.position, changes.forgotten, seqs, vectors)
            if together:
                with _tried_again():
                    self._key_values.forget(changes.forgotten, changes.position)
            self.quarantine(damages)
            if last:
                return
        self._lose_index()

    def _changes_after(self, txn: Transaction, seq: int, limit: int) -> Changes | None:
        try:
            return self._records.changes_after(txn, seq, limit)
        except Damaged as damage:
            self.quarantine([damage])
            return None

    def _lose_index(self) -> None:
        """Begin an index anew that lacks all memories there are, and follows the log from here on."""
        # Left there, a saved index of a future that the records have lost would fit again once they give its seqs anew.
        remove_file(self._snapshot_path)
        self.index.lose(self._position())
        self._saved = None

    def _memories(self) -> int:
        with self._records.environment.reading() as txn:
            return self._records.memories.count(txn)

    def _catch_up_key_values(self) -> None:
        while True:
            with self._records.environment.reading() as txn:
                changes = self._changes_after(txn, self._key_values.applied, limits.CHANGES_AT_ONCE)
                if changes is None:
                    self._sweep(txn)
                    return
                self._key_values.forget(changes.forgotten, changes.position)
                if changes.position == self._records.position(txn):
                    return

    def _sweep_beyond(self) -> None:
        # Records restored from an older copy give seqs again that key-values of the newer ones still stand under.
        try:
            last = self._key_values.last_seq()
        except Corrupted as error:
            _log.error("%s: key-values are damaged: %s", self._snapshot_path.parent, error)
            self.begin_key_values_anew()
            return
        with self._records.environment.reading() as txn:
            if last > self._records.position(txn):
                self._sweep(txn)

    def _sweep(self, txn: Transaction) -> None:
        self._key_values.sweep(lambda seq: self._records.is_live(txn, seq), self._records.position(txn))

    def _trim(self, seen: int, give_way: GiveWay) -> None:
        # In steps, each a transaction, because changes wait for a transaction to end.
        while self._trimmable(seen):
            with self._records.environment.writing() as txn:
                first, last = self._records.changes_from(txn), self._last_trimmed(txn, seen)
                self._records.trim_changes(txn, min(last, first + limits.TRIMMED_AT_ONCE - 1))
            give_way()

    def _trimmable(self, seen: int) -> bool:
        with self._records.environment.reading() as txn:
            return self._records.changes_from(txn) <= self._last_trimmed(txn, seen)

    def _last_trimmed(self, txn: Transaction, seen: int) -> int:
        needed_from = self._clustering_from
        seen = seen if needed_from is None else min(seen, needed_from)
        return min(seen, self._records.position(txn) - limits.CHANGES_KEPT)


@contextmanager
def _tried_again() -> Iterator[None]:
    """Go on when key-values cannot be removed: the records have forgotten their memories, so they are not served."""
    try:
        yield
    except Memory3Error as error:
        _log.warning("key-values of forgotten memories could not be removed yet: %s", error)


def _each(slices: Iterable[Slice], give_way: GiveWay) -> Iterator[Slice]:
    for part in slices:
        give_way()
        yield part
