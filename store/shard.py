"""One shard on one disk: records, key-values and index kept in step.

`N` queries, `D` embedding size. Any number of threads may call it; changes go one at a time, those of many callers in
one commit. The order of locks is: in use, lasting, making room, writer, index.
"""

import builtins
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from . import limits
from .backup.compact import bytes_to_compact, compact
from .backup.copying import FrozenShard, frozen
from .backup.progress import Tally, one_at_a_time
from .checks.findings import Findings
from .checks.parts import Parts
from .checks.steps import steps
from .derived import Derived
from .disk.durable import free_bytes, make_directory
from .disk.environment import Environment, Transaction, WriteTransaction
from .disk.locks import ReadWriteLock
from .disk.seal import Damaged
from .disk.turns import READS
from .documents import Documents
from .errors import Corrupted, Unavailable
from .filters.choosing import Choices, Chosen
from .filters.language import Filter
from .filters.terms import NAME as TERMS
from .filters.terms import check_match
from .format import Identity
from .group_commit import GroupCommit
from .index.clustering import GiveWay
from .index.vector_index import NOT_WHOLE, candidates_for
from .key_values import KeyValues
from .maintenance import Maintenance
from .recall import MemoryReader, live_hits, propose, written_since
from .records import MAGIC, Records
from .requests import (
    Request,
    receipt_from_json,
    receipt_to_json,
    upsert_results_from_json,
    upsert_results_to_json,
)
from .room import Room
from .types import (
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
from .validation import (
    check_fingerprint,
    check_key_values,
    check_limit,
    check_queries,
    check_seq,
    check_seqs,
)

T = TypeVar("T")

_RECORDS = "records"
KEY_VALUES = "kv"
_SNAPSHOT = "index.snapshot"
_INDEX_LOOK_S = 0.1
_WIDEN = 4
"""By how much more candidates are asked for when too few of them are live."""


class Shard:
    """A shard, open. Changes are durable when their call returns, and seen by every call that starts after.

    Every method raises Unavailable once the shard is closed.
    """

    def __init__(
        self, path: Path, info: CollectionInfo, records: Records, key_values: KeyValues, quotas: Quotas
    ) -> None:
        self.info = info
        self._records = records
        self._key_values = key_values
        self._documents = Documents(records, key_values.reads)
        self._choices = Choices(records)
        self._room = Room(records.environment, key_values.environment, quotas.of_shard(info.shards))
        self._derived = Derived(records, key_values, path / _SNAPSHOT)
        self._in_use = ReadWriteLock()
        self._writer = threading.Lock()
        self._commits = GroupCommit(records.environment, self._writer, self._committed)
        self._maintenance = Maintenance(self._derived, self._writer, self._mend, self._sweep, self._sweep_is_due)
        self._notify: Callable[[], None] = lambda: None
        self._making_room = threading.Lock()
        self._waiting_for_index = threading.Semaphore(limits.INDEX_WAITERS_MAX)
        self._leaving = threading.Event()
        self._lasting = threading.Lock()
        """Held by a check, whose long reads a compaction would wait for while everybody waits for it; and by that."""
        self._frozen = ReadWriteLock()
        """Read by whoever holds a state for long, written by whoever would wait for that while everybody waits."""
        self._closed = False

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
        with self._using(), self._records.environment.reading() as txn:
            return self._documents.unchanged(txn, documents, time.time())

    def upsert(
        self, documents: Sequence[EmbeddedDocument], request: Request | None = None
    ) -> builtins.list[UpsertResult]:
        """Store documents, checked before, whole, each in the place of what stood under its key; all of them or none.

        Raises:
            Aborted: a document was expected to stand in another version than it does.
            ResourceExhausted: the disk or the quota is full.
        """
        with self._using():
            # What was answered adds nothing when it is sent again.
            if not self._is_known(request):
                self._room.check()
        at = time.time()

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
        at = time.time()

        def change(txn: WriteTransaction) -> DeleteReceipt:
            self._documents.expect(txn, expected or {}, at)
            return self._documents.delete(txn, keys, at)

        return self._commit(
            lambda txn: self._records.requests.once(txn, request, change, receipt_to_json, receipt_from_json)
        )

    def delete_matching(self, filter: Filter, request: Request | None = None) -> DeleteReceipt:
        """Forget the documents that match when this is carried out."""
        at = time.time()

        def change(txn: WriteTransaction) -> DeleteReceipt:
            return self._documents.delete_matching(txn, filter, at)

        return self._commit(
            lambda txn: self._records.requests.once(txn, request, change, receipt_to_json, receipt_from_json)
        )

    def sweep(self, limit: int = limits.SWEEP_MAX) -> int:
        """Delete some documents that have expired, of up to `limit` memories or one, and return how many."""
        with self._using():
            return self._sweep(limit)

    def changes(self, after: int, limit: int) -> builtins.list[Change]:
        """Return changes after seq `after` in their order; `limit` bounds how many entries of the log are read.

        Raises:
            FailedPrecondition: the log does not reach back so far.
        """
        check_limit(limit, limits.CHANGES_MAX)
        return self._read(lambda txn: self._documents.changes(txn, max(after, self._records.base), limit))

    def on_commit(self, notify: Callable[[], None]) -> None:
        """Have `notify` called after each commit, under the writer lock: it must not wait."""
        self._notify = notify

    def position(self) -> int:
        """Return the seq of the last change."""
        with self._using(), self._records.environment.reading() as txn:
            return self._records.position(txn)

    def get(self, keys: Sequence[str]) -> builtins.list[StoredDocument | None]:
        """Return the document of each key, None where there is none.

        Raises:
            Corrupted: one of them is damaged; names the key or the seq.
        """
        return self._read(lambda txn: self._documents.get(txn, keys, time.time()))

    def list(self, limit: int, page_token: str = "", filter: Filter | None = None) -> Page:
        """Return up to `limit` documents, of those that match, in the byte order of their keys, after the token's page.

        Raises:
            Corrupted: one of them is damaged; upsert it again, or delete it, to go on.
        """
        check_limit(limit, limits.PAGE_DOCUMENTS_MAX)
        return self._read(lambda txn: self._documents.page(txn, limit, page_token, time.time(), filter))

    def count(self, filter: Filter | None = None) -> Count:
        """Return how many documents and memories there are, or how many of them match."""
        return self._read(lambda txn: self._documents.count(txn, time.time(), filter))

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
        try:
            return self._recall(vectors, k, fingerprint, filter, held)
        except Damaged as damage:
            with self._using():
                self._mend_terms(damage)
        return self._recall(vectors, k, fingerprint, filter, held)

    def _recall(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        fingerprint: str | None,
        filter: Filter | None,
        held: Set[int] | None,
    ) -> builtins.list[builtins.list[Hit]]:
        hits: builtins.list[builtins.list[Hit]] = []
        readers: builtins.list[MemoryReader] = []
        index, width = self._derived.index, candidates_for(k)
        # A short search costs the others less than an interpreter that is shared with them.
        with READS.turn() if filter is None and index.is_quick(len(vectors), width) else nullcontext():
            check_queries(vectors, self.info.dimension, k)
            while len(hits) < len(vectors):
                chosen = None if filter is None else self._read(lambda txn: self._choices.of(txn, filter))
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
                self._key_values.reads.note(hit.seq for found in hits for hit in found if hit.key_values is not None)
        self._attend_to(readers)
        return hits

    def wait_for_index(self) -> None:
        """Return once the index is whole: one that is lost is built again beside changes.

        Raises:
            Unavailable: many wait already.
        """
        if self._derived.index.whole:
            return
        if not self._waiting_for_index.acquire(blocking=False):
            raise Unavailable(f"collection {self.info.name!r}: {NOT_WHOLE}")
        try:
            self._until_index_is_whole(lambda: None)
        finally:
            self._waiting_for_index.release()

    def _until_index_is_whole(self, look: Callable[[], None]) -> None:
        while not self._derived.index.whole:
            look()
            with self._using():
                self._maintenance.wake()
            self._leaving.wait(_INDEX_LOOK_S)

    def memories(self, seqs: Sequence[int], fingerprint: str | None = None) -> builtins.list[Hit | None]:
        """Return each memory by its seq with a score of 0, None where it is gone or damaged."""
        check_seqs(seqs)
        with self._using():
            with self._memory_reader(fingerprint) as (_, reader):
                hits = [reader.hit(seq, 0.0) for seq in seqs]
            self._quarantine(reader.damages)
        return hits

    def cold(self, fingerprint: str, limit: int, after: int = 0) -> builtins.list[tuple[int, str]]:
        """Return up to `limit` memories without key-values of `fingerprint`, as (seq, text), seqs over `after`."""
        check_fingerprint(fingerprint)
        check_limit(limit, limits.COLD_MAX)
        check_seq(after)
        found: builtins.list[tuple[int, str]] = []
        with self._using():
            with self._memory_reader(fingerprint) as (txn, reader):
                for seq in self._records.seqs(txn, after):
                    if len(found) == limit:
                        break
                    hit = None if reader.key_values.holds(seq) else reader.hit(seq, 0.0)
                    if hit is not None:
                        found.append((seq, hit.text))
            self._quarantine(reader.damages)
        return found

    def put_key_values(self, fingerprint: str, items: Iterable[tuple[int, bytes]]) -> builtins.list[bool]:
        """Store key-values by seq; False for each memory that is gone.

        A long stream is stored in several transactions, and what was stored stays when a later one fails.

        Raises:
            InvalidArgument: a value is empty, too large, or of another size than the fingerprint's others.
            ResourceExhausted: the disk is full, or too many fingerprints are stored.
        """
        key = check_fingerprint(fingerprint)
        stored: builtins.list[bool] = []
        for batch in _batches(items):
            if stored:
                time.sleep(limits.REST_S)
            stored += self._put_batch(key, batch)
        return stored

    def fetch_key_values(self, fingerprint: str, seqs: Sequence[int]) -> builtins.list[bytes | None]:
        """Return the key-values of each memory, None where it is gone or cold.

        Raises:
            Corrupted: some are damaged; they are removed, so the memory is cold from now on.
        """
        values, damages = self._fetch(fingerprint, seqs)
        if damages:
            raise Corrupted(
                f"key-values of fingerprint {fingerprint!r} failed their checksum and were removed; the memories "
                f"are cold now: {'; '.join(str(damage) for damage in damages)}"
            )
        return values

    def whole_key_values(self, fingerprint: str, seqs: Sequence[int]) -> builtins.list[bytes | None]:
        """Return the key-values of each memory, None where it is gone or cold, or where they are damaged.

        What is damaged is removed, so the memory is cold from now on.
        """
        return self._fetch(fingerprint, seqs)[0]

    def note_reads(self, seqs: Sequence[int]) -> builtins.list[None]:
        """Count one more read of key-values that the caller held and did not fetch, but for memories that are gone."""
        with self._using():
            with self._records.environment.reading() as txn:
                live = self._records.live_at(txn, seqs, time.time())
            self._key_values.reads.note(seq for seq, is_live in zip(seqs, live, strict=True) if is_live)
        return [None] * len(seqs)

    def has_room_for_key_values(self) -> bool:
        """Say whether key-values can be added without others making room for them."""
        with self._using():
            return self._room.is_there_for_key_values()

    def stats(self, most_read: int = 0) -> CollectionStats:
        key_values, records = self._key_values, self._records
        with self._using(), records.environment.reading() as txn, key_values.environment.reading() as kv_txn:
            now, fingerprints = time.time(), list(key_values.by_fingerprint(kv_txn))
            count, ended = self._documents.count(txn, now), self._documents.ended(txn, now).values()
            views = {name: key_values.view(kv_txn, name.encode()) for name, _ in fingerprints}
            # Two states, of which one may be a moment newer.
            cold = {
                name: max(
                    0, count.memories - record.count + sum(views[name].holds(seq) for seqs in ended for seq in seqs)
                )
                for name, record in fingerprints
            }
            return CollectionStats(
                info=self.info,
                count=count,
                warm={name: record.count for name, record in fingerprints},
                cold=cold,
                warm_bytes={name: record.count * record.value_bytes for name, record in fingerprints},
                positions=(records.position(txn),),
                records_bytes=records.environment.bytes_used(txn),
                key_values_bytes=key_values.environment.bytes_used(kv_txn),
                index_bytes=self._derived.index.bytes_used,
                quarantined=records.quarantine.count(txn) + key_values.quarantine.count(kv_txn),
                records_free_bytes=records.environment.free_bytes(txn),
                key_values_free_bytes=key_values.environment.free_bytes(kv_txn),
                records_held_bytes=records.environment.held_bytes(txn),
                key_values_held_bytes=key_values.environment.held_bytes(kv_txn),
                disk_free_bytes=free_bytes(records.environment.path),
                disk_reserved_bytes=limits.BYTES_RESERVED,
                oldest_reader=max(records.environment.oldest_reader(), key_values.environment.oldest_reader()),
                reads=key_values.reads.total,
                memories_read=key_values.reads.memories,
                indices=(self._derived.state(),),
                most_read=tuple(self._documents.most_read(txn, most_read, now)),
            )

    def check(self, full: bool, tally: Tally) -> CheckReport:
        """Verify that records, log, index and key-values agree; `full` also reads every value.

        Reads and changes go on. Tables that follow from the documents and do not agree with them are made again.
        `tally` counts steps, and ends the check by raising.

        Raises:
            Unavailable: the shard was closed meanwhile.
        """

        def look() -> None:
            if self._leaving.is_set():
                raise Unavailable(f"collection {self.info.name!r} is being closed; its check was given up")
            tally.add(0)

        self._until_index_is_whole(look)
        findings = Findings(look)
        parts = Parts(self._records, self._key_values, self._derived.index, self._writer)
        with self._using(), one_at_a_time(self._lasting, lambda *_: look()):
            for step in steps(full):
                step(parts, findings)
                tally.add(1)
            values = self._key_values.values.name
            self._quarantine([damage for damage in findings.damages if damage.table != values])
            self._expel([damage for damage in findings.damages if damage.table == values])
            unfit = self._records.environment.unfit
            if unfit is not None:
                findings.problem(f"{self._records.environment.path} can be read and not changed: {unfit}")
            elif findings.derived:
                with self._writer:
                    self._derived.rebuild(findings.derived)
                self._choices.forget()
        return findings.report()

    @contextmanager
    def frozen(self) -> Iterator[FrozenShard]:
        """Hold the shard's state as it is now, for a backup, while reads and writes go on."""
        records, key_values = self._records, self._key_values
        # Key-values first: the records then know whatever happened to them, and their log which are forgotten.
        with (
            self._using(),
            self._frozen.reading(),
            frozen(key_values.environment) as kv_state,
            frozen(records.environment) as state,
        ):
            yield FrozenShard(
                environments={_RECORDS: state, KEY_VALUES: kv_state},
                documents=state.counts[records.documents.name],
                memories=state.counts[records.memories.name],
                position=records.position(state.txn),
                leaving=self._leaving.is_set,
            )

    def file_bytes(self) -> int:
        """Return the size of the LMDB files."""
        with self._using():
            return sum(environment.file_bytes() for environment in self._environments())

    def bytes_to_compact(self) -> int:
        """Return how many bytes `compact` has to copy."""
        with self._using():
            return sum(map(bytes_to_compact, self._environments()))

    def compact(self, tally: Tally) -> None:
        """Give the free pages of the files back to the file system, while reads and writes go on.

        Raises:
            ResourceExhausted: there is no space for a copy beside the file; nothing was changed.
            Unavailable: the shard was closed meanwhile; nothing was changed.
        """
        with self._using(), one_at_a_time(self._lasting, lambda *_: tally.add(0)):
            for environment in self._environments():
                compact(environment, self._writer, self._leaving.is_set, tally)

    def save(self) -> None:
        """Save the index aside, so that the next start need not read every vector.

        Raises:
            ResourceExhausted: the disk is full; nothing is lost.
        """
        with self._using():
            self._derived.save()

    def close(self, save: bool = True) -> None:
        """Wait for calls under way, save the index unless `save` is False, and let go of the files."""
        self._leaving.set()
        with self._in_use.writing():
            if self._closed:
                return
            self._closed = True
            self._maintenance.stop()
            if save:
                self._derived.try_save()
            self._derived.index.release()
            self._records.environment.close()
            self._key_values.environment.close()

    def __enter__(self) -> "Shard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _environments(self) -> tuple[Environment, Environment]:
        return self._records.environment, self._key_values.environment

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._in_use.reading():
            if self._closed:
                raise Unavailable(f"collection {self.info.name!r} is closed")
            try:
                yield
            finally:
                if self._key_values.environment.broken:
                    self._maintenance.wake()

    def _read(self, look: Callable[[Transaction], T]) -> T:
        """Look at one state of the records; what is damaged is quarantined, terms are made anew and looked at again."""
        with self._using():
            try:
                with self._records.environment.reading() as txn:
                    return look(txn)
            except Damaged as damage:
                self._mend_terms(damage)
            with self._records.environment.reading() as txn:
                return look(txn)

    def _mend_terms(self, damage: Damaged) -> None:
        """Make the terms anew where it is they that a read has found damaged; else mark and raise the damage."""
        self._quarantine([damage])
        if damage.table != TERMS:
            raise damage
        self._make_terms_anew()

    def _make_terms_anew(self) -> None:
        with self._writer:
            self._derived.rebuild({TERMS})
        self._choices.forget()

    @contextmanager
    def _memory_reader(
        self, fingerprint: str | None, held: Set[int] | None = None
    ) -> Iterator[tuple[Transaction, MemoryReader]]:
        key = None if fingerprint is None else check_fingerprint(fingerprint)
        with self._records.environment.reading() as txn, self._key_values.environment.reading() as kv_txn:
            view = self._key_values.view(kv_txn, key)
            yield txn, MemoryReader(self._records, txn, view, time.time(), held)

    def _nearest(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        width: int,
        fingerprint: str | None,
        chosen: Chosen | None,
        held: Set[int] | None,
        met: Callable[[MemoryReader], None],
    ) -> builtins.list[builtins.list[Hit]] | None:
        """Return for each query its k nearest; None when `width` candidates are too few, because many are dead."""
        with self._using():
            # Before the transaction: what the index holds has then been committed, and what it lacks is in the log.
            candidates = self._derived.index.search(queries, width, None if chosen is None else chosen.allowed)
            known = candidates.position if chosen is None else min(candidates.position, chosen.position)
            with READS.turn(), self._memory_reader(fingerprint, held) as (txn, reader):
                met(reader)
                fresh = written_since(self._records, txn, reader, known)
                if fresh and chosen is not None:
                    selection = self._choices.of(txn, chosen.filter).selection
                    fresh = [seq for seq in fresh if seq in selection]
                found = [live_hits(reader, proposal, k) for proposal in propose(reader, candidates, fresh)]
        if chosen is not None:
            for hit in chain.from_iterable(found):
                check_match(chosen.filter, hit.key, hit.metadata)
        return found if candidates.complete or all(len(hits) == k for hits in found) else None

    def _attend_to(self, readers: Iterable[MemoryReader]) -> None:
        """Mark what was found damaged, and have swept what has expired: it is in the way of those who search."""
        for reader in readers:
            if reader.damages or reader.key_values.damages or reader.saw_ended:
                with self._using():
                    self._quarantine(reader.damages)
                    self._expel(reader.key_values.damages)
                    self._maintenance.wake()

    def _commit(self, change: Callable[[WriteTransaction], T], size: int = 0) -> T:
        # The one way in for changes to the records: whole or not at all, durable, and in the index before it returns.
        with self._using():
            return self._submit(change, size)

    def _submit(self, change: Callable[[WriteTransaction], T], size: int) -> T:
        try:
            return self._commits.submit(change, size)
        except Damaged as damage:
            if damage.table != TERMS:
                raise
        # Nothing of the change was stored. Terms follow from the documents, so they are made anew first.
        self._make_terms_anew()
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
        # Not within `_using`, because closing waits for the maintenance thread.
        now = time.time()
        return self._submit(lambda txn: self._documents.sweep(txn, now, limit), 0)

    def _sweep_is_due(self) -> bool:
        with self._records.environment.reading() as txn:
            return self._records.expiry.has_ended(txn, time.time())

    def _committed(self) -> None:
        self._derived.catch_up()
        self._maintenance.wake()
        self._notify()

    def _fetch(
        self, fingerprint: str, seqs: Sequence[int]
    ) -> tuple[builtins.list[bytes | None], builtins.list[Damaged]]:
        key = check_fingerprint(fingerprint)
        check_seqs(seqs)
        with self._using():
            with self._records.environment.reading() as txn:
                live = self._records.live_at(txn, seqs, time.time())
            values, damages = self._key_values.fetch(key, seqs, live)
            self._key_values.reads.note(seq for seq, value in zip(seqs, values, strict=True) if value is not None)
            self._expel(damages)
        return values, damages

    def _put_batch(self, fingerprint: bytes, batch: Sequence[tuple[int, bytes]]) -> builtins.list[bool]:
        with self._using():
            # Under the writer lock no memory goes away between the look and the commit.
            with self._writer:
                with self._records.environment.reading() as txn:
                    live = self._records.live_at(txn, [seq for seq, _ in batch], time.time())
                kept = [item for item, is_live in zip(batch, live, strict=True) if is_live]
                if kept:
                    self._room.check()
                    self._key_values.put(fingerprint, kept)
            self._make_room({seq for seq, _ in kept})
            return live

    def _make_room(self, new: Set[int]) -> None:
        most = self._room.quotas.key_values_bytes_max
        if most is None or not self._room.key_values_over():
            return
        with self._making_room:
            # Whoever had the lock before may have made enough.
            over = self._room.key_values_over()
            for keys in self._key_values.least_read(over, most, new) if over else ():
                with self._writer:
                    self._key_values.remove(keys)
                time.sleep(limits.REST_S)

    def _expel(self, damages: Sequence[Damaged]) -> None:
        if damages:
            with self._writer:
                self._key_values.expel(damages)

    def _quarantine(self, damages: Sequence[Damaged]) -> None:
        if damages:
            with self._writer:
                self._derived.quarantine(damages)


def _check_identity(path: Path, identity: Identity, info: CollectionInfo, number: int) -> None:
    found = (identity.collection, identity.embedder, identity.dimension, identity.shard)
    expected = (info.name, info.embedder, info.dimension, number)
    if found != expected:
        raise Corrupted(f"{path} holds the records of {found}, the catalog expects {expected}; restore the right files")


def _batches(items: Iterable[tuple[int, bytes]]) -> Iterator[Sequence[tuple[int, bytes]]]:
    batch: list[tuple[int, bytes]] = []
    size = 0
    for seq, value in items:
        check_key_values(seq, value)
        batch.append((seq, value))
        size += len(value)
        if len(batch) == limits.KEY_VALUES_BATCH_MAX or size >= limits.KEY_VALUES_BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
