"""The truth of a shard, in one LMDB environment: documents, memories, vectors and what is needed to find them.

`D` embedding size. Every method takes a transaction, so that callers see one state and change it whole.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import limits
from .disk.environment import DATA_FILE, Environment, Table, Transaction, WriteTransaction, closed_on_failure
from .disk.identity import IDENTITY, identity_table, read_identity
from .disk.quarantine import Quarantine
from .disk.seal import Damaged, Missing
from .errors import Corrupted
from .expiry import Expiry
from .filters.term_changes import TermChanges
from .filters.terms import NAME as TERMS
from .filters.terms import Terms
from .format import (
    DELETED,
    NEVER,
    WRITTEN,
    ChangeRecord,
    DocumentRecord,
    Identity,
    MemoryRecord,
    decode_change,
    decode_document,
    decode_memory,
    decode_seq,
    decode_u64,
    decode_vector,
    encode_change,
    encode_document,
    encode_memory,
    encode_seq,
    encode_u64,
    encode_vector,
)
from .requests import Requests
from .seqs import base_of
from .types import EmbeddedDocument, Metadata

MAGIC = "memory3 records"
_POSITION = b"position"
_CHANGES_FROM = b"changes_from"
_NOTHING = range(0)


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened after some seq, up to `position`: seqs forgotten, and seqs written that are still there."""

    position: int
    forgotten: list[range]
    written: list[int]


class Records:
    """The tables of the `records` environment."""

    def __init__(self, environment: Environment, identity: Identity) -> None:
        self.environment = environment
        self.identity = identity
        self.numbers = environment.table("meta", encode_u64, decode_u64)
        self.documents = environment.table("documents", encode_document, decode_document)
        self.memories = environment.table("memories", encode_memory, decode_memory)
        self.vectors = environment.table("vectors", encode_vector, decode_vector)
        self.changes = environment.table("changes", encode_change, decode_change)
        self.terms = Terms(environment)
        self.requests = Requests(environment)
        self.quarantine = Quarantine(environment)
        self.expiry = Expiry(environment, self.quarantine)

    @classmethod
    def create(cls, path: Path, identity: Identity) -> "Records":
        environment = Environment.create(path, limits.RECORDS_BYTES_MAX, durable=True)
        with closed_on_failure(environment):
            records = cls(environment, identity)
            identities = identity_table(environment)
            with environment.writing() as txn:
                identities.put(txn, IDENTITY, identity)
                records.numbers.put(txn, _POSITION, records.base)
                records.numbers.put(txn, _CHANGES_FROM, records.base + 1)
        return records

    @classmethod
    def open(cls, path: Path) -> "Records":
        """Open what `create` made.

        Raises:
            Corrupted: it is damaged or not there; an empty shard must never stand in for a lost one.
            UnsupportedFormat: it was written in another format version.
        """
        if not (path / DATA_FILE).is_file():
            raise Corrupted(f"{path / DATA_FILE} is missing; restore it from a copy")
        environment = Environment(path, limits.RECORDS_BYTES_MAX, durable=True)
        with closed_on_failure(environment):
            records = cls(environment, read_identity(environment, MAGIC))
            with environment.reading() as txn:
                records.position(txn)
                records.changes_from(txn)
        return records

    @property
    def base(self) -> int:
        """The seq before the first one of this shard."""
        return base_of(self.identity.shard)

    def position(self, txn: Transaction) -> int:
        """Return the last seq given, `base` before any."""
        return self._number(txn, _POSITION)

    def changes_from(self, txn: Transaction) -> int:
        """Return the first seq that the log still holds."""
        return self._number(txn, _CHANGES_FROM)

    def write(
        self, txn: WriteTransaction, embedded: EmbeddedDocument, digest: bytes, at: float, terms: TermChanges
    ) -> DocumentRecord:
        """Store a document in the place of what stood under its key; `terms` gathers what is to be applied after it."""
        document = embedded.document
        key = document.key.encode()
        forgotten = self._forget(txn, key, terms)
        first, total = self.position(txn) + 1, len(embedded.references)
        for ordinal, reference in enumerate(embedded.references):
            seq = encode_seq(first + ordinal)
            memory = MemoryRecord(document.key, ordinal, total, reference.text)
            change = ChangeRecord(WRITTEN, at, document.key, _NOTHING if ordinal else forgotten)
            self.memories.put(txn, seq, memory, append=True)
            self.vectors.put(txn, seq, reference.vector, append=True)
            self.changes.put(txn, seq, change, append=True)
        record = DocumentRecord(first, total, at, document.expires_at or NEVER, digest, document.metadata)
        self.documents.put(txn, key, record)
        if record.expires_at:
            self.expiry.add(txn, record.expires_at, document.key, record.seqs)
        terms.add(document.metadata, record.seqs)
        self.numbers.put(txn, _POSITION, record.version)
        return record

    def delete(self, txn: WriteTransaction, key: str, at: float, terms: TermChanges) -> int | None:
        """Forget a document; return how many memories that forgot, None when there is no such key."""
        if not self.documents.exists(txn, key.encode()):
            return None
        forgotten = self._forget(txn, key.encode(), terms)
        self.documents.delete(txn, key.encode())
        position = self.position(txn) + 1
        self.changes.put(txn, encode_seq(position), ChangeRecord(DELETED, at, key, forgotten), append=True)
        self.numbers.put(txn, _POSITION, position)
        return len(forgotten)

    def is_whole(self, txn: Transaction, key: bytes, record: DocumentRecord) -> bool:
        """Say whether all of a document reads as it was written, and nothing of it is in quarantine."""
        if self.quarantine.holds(txn, self.documents.name, key):
            return False
        return all(
            self._reads(txn, table, encode_seq(seq)) for seq in record.seqs for table in (self.memories, self.vectors)
        )

    def texts(self, txn: Transaction, key: str, record: DocumentRecord) -> list[str]:
        """Return the texts of a document's memories, in order.

        Raises:
            Damaged: one of them is damaged or missing.
        """
        texts = []
        for seq in record.seqs:
            place = encode_seq(seq)
            try:
                memory = self.memories.get(txn, place)
            except Damaged as damage:
                raise Damaged(damage.table, place, f"{damage.reason} (document {key!r})") from damage
            if memory is None:
                raise Missing(self.memories.name, place, f"it is missing (document {key!r})")
            texts.append(memory.text)
        return texts

    def is_live(self, txn: Transaction, seq: int) -> bool:
        return self.memories.exists(txn, encode_seq(seq))

    def live_at(self, txn: Transaction, seqs: Iterable[int], now: float) -> list[bool]:
        """Say of each memory whether it is there and its document has not expired."""
        # Where documents expire each one's own record says whether it has: an entry of `expiry` may be damaged.
        if self.expiry.table.count(txn):
            return [self._stands(txn, seq, now) for seq in seqs]
        return [self.is_live(txn, seq) for seq in seqs]

    def changes_after(self, txn: Transaction, seq: int, limit: int | None = None) -> Changes | None:
        """Sum up what happened after `seq`, the first `limit` changes; None when the log does not reach back so far.

        Raises:
            Damaged: one of these changes is damaged.
        """
        position = self.position(txn)
        if seq > position or seq + 1 < self.changes_from(txn):
            return None
        forgotten: list[range] = []
        written: list[int] = []
        for taken, (key, change) in enumerate(self.changes.items(txn, encode_seq(seq + 1)), start=1):
            if isinstance(change, Damaged):
                raise change
            if change.forgotten:
                forgotten.append(change.forgotten)
            if change.kind == WRITTEN and self.memories.exists(txn, key):
                written.append(decode_seq(key))
            if taken == limit:
                position = decode_seq(key)
                break
        return Changes(position, forgotten, written)

    def matrix(self, txn: Transaction, seqs: Iterable[int]) -> tuple[list[int], npt.NDArray[np.float32], list[Damaged]]:
        """Return the vectors of these seqs as rows (N, D), the seqs of the rows, and the vectors that are damaged."""
        rows: list[memoryview] = []
        found: list[int] = []
        damages: list[Damaged] = []
        size = 4 * self.identity.dimension
        for seq in seqs:
            key = encode_seq(seq)
            try:
                row = self.vectors.payload(txn, key)
            except Damaged as damage:
                damages.append(damage)
                continue
            if row is None:
                continue
            if len(row) != size:
                damages.append(Damaged(self.vectors.name, key, f"{len(row)} bytes, a vector has {size}"))
                continue
            found.append(seq)
            rows.append(row)
        # All rows at once: an array for each would take longer than to read it.
        matrix = np.frombuffer(b"".join(rows), dtype="<f4").astype(np.float32, copy=False)
        return found, matrix.reshape(len(rows), self.identity.dimension), damages

    def seqs(self, txn: Transaction, after: int = 0) -> Iterator[int]:
        """Yield the seqs of the live memories greater than `after`, in order."""
        for key in self.memories.keys(txn, encode_seq(after + 1)):
            yield decode_seq(key)

    def mark(self, txn: WriteTransaction, damage: Damaged) -> bool:
        """Put a damaged value in quarantine; False when it was there, or when it was replaced or deleted meanwhile."""
        tables = (self.documents, self.memories, self.vectors, self.changes, self.expiry.table)
        if any(table.name == damage.table and not _stands(txn, table, damage) for table in tables):
            return False
        return self.quarantine.mark(txn, damage)

    def rebuild_terms(self, txn: WriteTransaction) -> None:
        """Make the terms anew from the documents, those of which are damaged left out."""
        self.terms.rebuild(txn, self.metadata(txn))
        for key in list(self.quarantine.keys(txn, TERMS)):
            self.quarantine.clear(txn, TERMS, key)

    def rebuild_expiry(self, txn: WriteTransaction) -> None:
        """Make the entries of all documents anew; those of damaged ones stay, as they alone say when these end."""
        whole = {record.first_seq for _, record in self.documents.items(txn) if not isinstance(record, Damaged)}
        self.expiry.retain(txn, lambda seqs: seqs.start not in whole and self.is_live(txn, seqs.start))
        for key, record in self.documents.items(txn):
            if not isinstance(record, Damaged) and record.expires_at != NEVER:
                self.expiry.add(txn, record.expires_at, key.decode(), record.seqs)

    def metadata(self, txn: Transaction) -> Iterator[tuple[Metadata, range]]:
        """Yield the metadata and the seqs of every document that is whole."""
        for _, record in self.documents.items(txn):
            if not isinstance(record, Damaged):
                yield record.metadata, record.seqs

    def trim_changes(self, txn: WriteTransaction, up_to: int) -> None:
        """Drop the changes up to and including seq `up_to`."""
        first = self.changes_from(txn)
        for seq in range(first, up_to + 1):
            self.changes.delete(txn, encode_seq(seq))
            self.quarantine.clear(txn, self.changes.name, encode_seq(seq))
        self.numbers.put(txn, _CHANGES_FROM, max(first, up_to + 1))

    def _stands(self, txn: Transaction, seq: int, now: float) -> bool:
        """Say whether a memory is there and known to belong to a document that has not expired."""
        try:
            memory = self.memories.get(txn, encode_seq(seq))
            record = None if memory is None else self.documents.get(txn, memory.key.encode())
        except Damaged:
            # Told to whoever asks for its text.
            return False
        return record is not None and not record.has_ended(now)

    def _reads(self, txn: Transaction, table: Table[Any], key: bytes) -> bool:
        try:
            return table.get(txn, key) is not None and not self.quarantine.holds(txn, table.name, key)
        except Damaged:
            return False

    def _forget(self, txn: WriteTransaction, key: bytes, terms: TermChanges) -> range:
        seqs, expires_at, metadata = self._standing(txn, key)
        terms.remove(metadata, seqs)
        if expires_at:
            self.expiry.remove(txn, expires_at, seqs)
        for seq in map(encode_seq, seqs):
            self.memories.delete(txn, seq)
            self.vectors.delete(txn, seq)
        if self.quarantine.count(txn):
            self.quarantine.clear(txn, self.documents.name, key)
            for seq in map(encode_seq, seqs):
                self.quarantine.clear(txn, self.memories.name, seq)
                self.quarantine.clear(txn, self.vectors.name, seq)
        return seqs

    def _standing(self, txn: Transaction, key: bytes) -> tuple[range, float, Metadata]:
        """Return the seqs of what stands under a key, when it expires, and its metadata as far as they are known.

        Terms of metadata that nobody knows any more keep seqs that are gone; what is live is a term of its own, so
        they find nothing.
        """
        try:
            record = self.documents.get(txn, key)
        except Damaged:
            seqs = self._seqs_by_memories(txn, key.decode())
            return seqs, self.expiry.time_of(txn, seqs), {}
        return (record.seqs, record.expires_at, record.metadata) if record else (_NOTHING, NEVER, {})

    def _seqs_by_memories(self, txn: Transaction, key: str) -> range:
        # Its record is damaged, so any one of its memories must tell which others are its own.
        for seq, memory in self.memories.items(txn):
            if not isinstance(memory, Damaged) and memory.key == key:
                first = decode_seq(seq) - memory.ordinal
                return range(first, first + memory.total)
        return _NOTHING

    def _number(self, txn: Transaction, key: bytes) -> int:
        number = self.numbers.get(txn, key)
        if number is None:
            raise Damaged("meta", key, "it is missing")
        return number


def _stands(txn: Transaction, table: Table[Any], damage: Damaged) -> bool:
    try:
        return table.get(txn, damage.key) is None and isinstance(damage, Missing)
    except Damaged:
        return True
