"""One shard on one disk: records, key-values and index kept in step.

`N` queries, `D` embedding size. Any number of threads may call it; changes go one at a time, those of many callers in
one commit. The order of locks is: in use, lasting, making room, writer, index.
"""

import builtins
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .. import limits
from ..backup.compact import bytes_to_compact, compact
from ..backup.copying import FrozenShard, frozen
from ..backup.progress import Tally, one_at_a_time
from ..checks.findings import Findings
from ..checks.parts import Parts
from ..checks.steps import steps
from ..disk.durable import make_directory
from ..disk.environment import WriteTransaction
from ..disk.locks import ReadWriteLock
from ..disk.seal import Damaged
from ..errors import Corrupted, Unavailable
from ..filters.language import Filter
from ..filters.terms import NAME as TERMS
from ..format import Identity
from ..index.clustering import GiveWay
from ..key_values import KeyValues
from ..records import MAGIC, Records
from ..requests import (
    Request,
    receipt_from_json,
    receipt_to_json,
    upsert_results_from_json,
    upsert_results_to_json,
)
from ..types import (
    Change,
    CheckReport,
    CollectionInfo,
    CollectionStats,
    Count,
    DeleteReceipt,
    Document,
    EmbeddedDocument,
    Hit,
    Page,
    Quotas,
    StoredDocument,
    UpsertResult,
)
from ..validation import check_limit, check_seqs
from .group_commit import GroupCommit
from .maintenance import Maintenance
from .recall import Recall
from .state import ShardState
from .statistics import statistics
from .warm import WarmMemories

T = TypeVar("T")

_RECORDS = "records"
KEY_VALUES = "kv"


class Shard:
    """A shard, open. Changes are durable when their call returns, and seen by every call that starts after.

    `warm` are its key-values. Every method raises Unavailable once the shard is closed.
    """

    def __init__(
        self, path: Path, info: CollectionInfo, records: Records, key_values: KeyValues, quotas: Quotas
    ) -> None:
        self.info = info
        self._state = ShardState(path, info, records, key_values, quotas, lambda: self._maintenance.wake())
        self.warm = WarmMemories(self._state)
        self._recall = Recall(self._state)
        self._records = records
        self._key_values = key_values
        self._documents = self._state.documents
        self._derived = self._state.derived
        self._writer = self._state.writer
        self._commits = GroupCommit(records.environment, self._writer, self._committed)
        self._maintenance = Maintenance(self._derived, self._writer, self._mend, self._sweep, self._sweep_is_due)
        self._notify: Callable[[], None] = lambda: None
        self._lasting = threading.Lock()
        """Held by a check, whose long reads a compaction would wait for while everybody waits for it; and by that."""
        self._frozen = ReadWriteLock()
        """Read by whoever holds a state for long, written by whoever would wait for that while everybody waits."""

    @classmethod
    def create(cls, path: Path, info: CollectionInfo, number: int, quotas: Quotas) -> "Shard":
        """Make an empty shard in the new directory `path`."""
        make_directory(path)
        identity = Identity(MAGIC, uuid.uuid4().hex, info.name, info.embedder, info.dimension, number)
        with ExitStack() as opened:
            records = Records.create(path / _RECORDS, identity)
            opened.callback(records.environment.close)
            key_values = KeyValues.create(path / KEY_VALUES, identity)
            opened.pop_all()
        return cls(path, info, records, key_values, quotas)

    @classmethod
    def open(cls, path: Path, info: CollectionInfo, number: int, quotas: Quotas) -> "Shard":
        """Open what `create` made.

        Raises:
            Corrupted: the records are damaged, missing or of another collection.
            FailedPrecondition: the key-values are of another shard.
            UnsupportedFormat: they were written in another format version.
        """
        with ExitStack() as opened:
            records = Records.open(path / _RECORDS)
            opened.callback(records.environment.close)
            _check_identity(path, records.identity, info, number)
            key_values = KeyValues.open(path / KEY_VALUES, records.identity)
            opened.callback(key_values.environment.close)
            shard = cls(path, info, records, key_values, quotas)
            shard._derived.load()
            opened.pop_all()
        shard._maintenance.wake()
        return shard

    def unchanged(self, documents: Sequence[Document]) -> set[str]:
        """Return the keys of those documents that stand here with exactly this content, whole."""
        with self._state.using(), self._records.environment.reading() as txn:
            return self._documents.unchanged(txn, documents, self._state.now())

    def upsert(
        self, documents: Sequence[EmbeddedDocument], request: Request | None = None
    ) -> builtins.list[UpsertResult]:
        """Store documents, checked before, whole, each in the place of what stood under its key; all of them or none.

        Raises:
            Aborted: a document was expected to stand in another version than it does.
            ResourceExhausted: the disk or the quota is full.
        """
        with self._state.using():
            # What was answered adds nothing when it is sent again.
            if not self._is_known(request):
                self._state.room.check()
        at = self._state.now()

        def change(txn: WriteTransaction) -> builtins.list[UpsertResult]:
            return self._documents.upsert(txn, documents, at)

        size = sum(len(embedded.document.text) for embedded in documents)
        return self._commit(
            lambda txn: self._records.requests.once(
                txn, request, change, upsert_results_to_json, upsert_results_from_json
            ),
            size,
        )

    def delete(
        self, keys: Sequence[str], expected: Mapping[str, int] | None = None, request: Request | None = None
    ) -> DeleteReceipt:
        """Forget documents, their keys checked before; a key that comes twice counts once.

        Raises:
            Aborted: one of the versions `expected` does not stand under its key; nothing was deleted.
        """
        at = self._state.now()

        def change(txn: WriteTransaction) -> DeleteReceipt:
            self._documents.expect(txn, expected or {}, at)
            return self._documents.delete(txn, keys, at)

        return self._commit(
            lambda txn: self._records.requests.once(txn, request, change, receipt_to_json, receipt_from_json)
        )

    def delete_matching(self, filter: Filter, request: Request | None = None) -> DeleteReceipt:
        """Forget the documents that match when this is carried out."""
        at = self._state.now()

        def change(txn: WriteTransaction) -> DeleteReceipt:
            return self._documents.delete_matching(txn, filter, at)

        return self._commit(
            lambda txn: self._records.requests.once(txn, request, change, receipt_to_json, receipt_from_json)
        )

    def sweep(self, limit: int = limits.SWEEP_MAX) -> int:
        """Delete some documents that have expired, of up to `limit` memories or one, and return how many."""
        with self._state.using():
            return self._sweep(limit)

    def changes(self, after: int, limit: int) -> builtins.list[Change]:
        """Return changes after seq `after` in their order; `limit` bounds how many entries of the log are read.

        Raises:
            FailedPrecondition: the log does not reach back so far.
        """
        check_limit(limit, limits.CHANGES_MAX)
        return self._state.read(lambda txn: self._documents.changes(txn, max(after, self._records.base), limit))

    def on_commit(self, notify: Callable[[], None]) -> None:
        """Have `notify` called after each commit, under the writer lock: it must not wait."""
        self._notify = notify

    def position(self) -> int:
        """Return the seq of the last change."""
        with self._state.using(), self._records.environment.reading() as txn:
            return self._records.position(txn)

    def get(self, keys: Sequence[str]) -> builtins.list[StoredDocument | None]:
        """Return the document of each key, None where there is none.

        Raises:
            Corrupted: one of them is damaged; names the key or the seq.
        """
        return self._state.read(lambda txn: self._documents.get(txn, keys, self._state.now()))

    def list(self, limit: int, page_token: str = "", filter: Filter | None = None) -> Page:
        """Return up to `limit` documents, of those that match, in the byte order of their keys, after the token's page.

        Raises:
            Corrupted: one of them is damaged; upsert it again, or delete it, to go on.
        """
        check_limit(limit, limits.PAGE_DOCUMENTS_MAX)
        return self._state.read(lambda txn: self._documents.page(txn, limit, page_token, self._state.now(), filter))

    def count(self, filter: Filter | None = None) -> Count:
        """Return how many documents and memories there are, or how many of them match."""
        return self._state.read(lambda txn: self._documents.count(txn, self._state.now(), filter))

    def recall(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        fingerprint: str | None = None,
        filter: Filter | None = None,
        held: Set[int] | None = None,
    ) -> builtins.list[builtins.list[Hit]]:
        """Return for each query (N, D), of length one, its k nearest memories of those that match, best first.

        `warm` says whether key-values of `fingerprint` are stored; without one it is False. With `held` they come with
        the hits, but for these seqs. Damaged memories are quarantined and left out, damaged key-values removed.
        """
        return self._recall.recall(vectors, k, fingerprint, filter, held)

    def wait_for_index(self) -> None:
        """Return once the index is whole: one that is lost is built again beside changes.

        Raises:
            Unavailable: many wait already.
        """
        self._recall.wait_for_index()

    def memories(self, seqs: Sequence[int], fingerprint: str | None = None) -> builtins.list[Hit | None]:
        """Return each memory by its seq with a score of 0, None where it is gone or damaged."""
        check_seqs(seqs)
        with self._state.using():
            with self._state.memory_reader(fingerprint) as (_, reader):
                hits = [reader.hit(seq, 0.0) for seq in seqs]
            self._state.quarantine(reader.damages)
        return hits

    def stats(self, most_read: int = 0) -> CollectionStats:
        """Return what is held and how it fares, with up to so many of the memories `most_read`."""
        return statistics(self._state, most_read)

    def check(self, full: bool, tally: Tally) -> CheckReport:
        """Verify that records, log, index and key-values agree; `full` also reads every value.

        Reads and changes go on. Tables that follow from the documents and do not agree with them are made again.
        `tally` counts steps, and ends the check by raising.

        Raises:
            Unavailable: the shard was closed meanwhile.
        """

        def look() -> None:
            if self._state.leaving.is_set():
                raise Unavailable(f"collection {self.info.name!r} is being closed; its check was given up")
            tally.add(0)

        self._recall.until_index_is_whole(look)
        findings = Findings(look)
        parts = Parts(self._records, self._key_values, self._derived.index, self._writer)
        with self._state.using(), one_at_a_time(self._lasting, lambda *_: look()):
            for step in steps(full):
                step(parts, findings)
                tally.add(1)
            values = self._key_values.values.name
            self._state.quarantine([damage for damage in findings.damages if damage.table != values])
            self._state.expel([damage for damage in findings.damages if damage.table == values])
            unfit = self._records.environment.unfit
            if unfit is not None:
                findings.problem(f"{self._records.environment.path} can be read and not changed: {unfit}")
            elif findings.derived:
                with self._writer:
                    self._derived.rebuild(findings.derived)
                self._state.choices.forget()
        return findings.report()

    @contextmanager
    def frozen(self) -> Iterator[FrozenShard]:
        """Hold the shard's state as it is now, for a backup, while reads and writes go on."""
        records, key_values = self._records, self._key_values
        # Key-values first: the records then know whatever happened to them, and their log which are forgotten.
        with (
            self._state.using(),
            self._frozen.reading(),
            frozen(key_values.environment) as kv_state,
            frozen(records.environment) as state,
        ):
            yield FrozenShard(
                environments={_RECORDS: state, KEY_VALUES: kv_state},
                documents=state.counts[records.documents.name],
                memories=state.counts[records.memories.name],
                position=records.position(state.txn),
                leaving=self._state.leaving.is_set,
            )

    def file_bytes(self) -> int:
        """Return the size of the LMDB files."""
        with self._state.using():
            return sum(environment.file_bytes() for environment in self._state.environments())

    def bytes_to_compact(self) -> int:
        """Return how many bytes `compact` has to copy."""
        with self._state.using():
            return sum(map(bytes_to_compact, self._state.environments()))

    def compact(self, tally: Tally) -> None:
        """Give the free pages of the files back to the file system, while reads and writes go on.

        Raises:
            ResourceExhausted: there is no space for a copy beside the file; nothing was changed.
            Unavailable: the shard was closed meanwhile; nothing was changed.
        """
        with self._state.using(), one_at_a_time(self._lasting, lambda *_: tally.add(0)):
            for environment in self._state.environments():
                compact(environment, self._writer, self._state.leaving.is_set, tally)

    def save(self) -> None:
        """Save the index aside, so that the next start need not read every vector.

        Raises:
            ResourceExhausted: the disk is full; nothing is lost.
        """
        with self._state.using():
            self._derived.save()

    def close(self, save: bool = True) -> None:
        """Wait for calls under way, save the index unless `save` is False, and let go of the files."""
        with self._state.closing() as first:
            if first:
                self._maintenance.stop()
                if save:
                    self._derived.try_save()
                self._derived.index.release()
                for environment in self._state.environments():
                    environment.close()

    def __enter__(self) -> "Shard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self, change: Callable[[WriteTransaction], T], size: int = 0) -> T:
        # The one way in for changes to the records: whole or not at all, durable, and in the index before it returns.
        with self._state.using():
            return self._submit(change, size)

    def _submit(self, change: Callable[[WriteTransaction], T], size: int) -> T:
        try:
            return self._commits.submit(change, size)
        except Damaged as damage:
            if damage.table != TERMS:
                raise
        # Nothing of the change was stored. Terms follow from the documents, so they are made anew first.
        self._state.make_terms_anew()
        return self._commits.submit(change, size)

    def _is_known(self, request: Request | None) -> bool:
        if request is None:
            return False
        with self._records.environment.reading() as txn:
            return self._records.requests.holds(txn, request)

    def _mend(self, give_way: GiveWay) -> None:
        if self._derived.key_values_are_whole(give_way):
            return
        with one_at_a_time(self._lasting, lambda *_: give_way()), self._frozen.writing(), self._writer:
            self._derived.begin_key_values_anew()

    def _sweep(self, limit: int = limits.SWEEP_MAX) -> int:
        # Not within `using`, because closing waits for the maintenance thread.
        now = self._state.now()
        return self._submit(lambda txn: self._documents.sweep(txn, now, limit), 0)

    def _sweep_is_due(self) -> bool:
        with self._records.environment.reading() as txn:
            return self._records.expiry.has_ended(txn, self._state.now())

    def _committed(self) -> None:
        self._derived.catch_up()
        self._maintenance.wake()
        self._notify()


def _check_identity(path: Path, identity: Identity, info: CollectionInfo, number: int) -> None:
    found = (identity.collection, identity.embedder, identity.dimension, identity.shard)
    expected = (info.name, info.embedder, info.dimension, number)
    if found != expected:
        raise Corrupted(f"{path} holds the records of {found}, the catalog expects {expected}; restore the right files")
