"""Verifying a shard: every invariant that docs/format.md states, in sentences that name what breaks it.

`check_records` and `check_derived` need the shard's writer lock, so that all is seen at the same seq. `check_values`
reads all key-values, may take long, and needs no lock.
"""

from itertools import islice
from typing import Any

import numpy as np

from .disk.environment import Table, Transaction
from .disk.seal import Damaged, describe
from .filters.terms import NAME as TERMS
from .format import NEVER, DocumentRecord, decode_seq, decode_value_key, encode_seq
from .index.vector_index import VectorIndex
from .key_values import KeyValues
from .limits import VECTOR_NORM_TOLERANCE
from .metadata import content_digest
from .records import Records
from .types import CheckReport, Document

_PROBLEMS_MAX = 1_000
_BATCH = 256


class Findings:
    """What a check counted and found wrong so far."""

    def __init__(self) -> None:
        self.documents = 0
        self.memories = 0
        self.key_values = 0
        self.damages: list[Damaged] = []
        self.derived: set[str] = set()
        """Tables that follow from the documents and do not agree with them."""
        self._problems: dict[str, None] = {}
        self._left_out = 0

    def problem(self, sentence: str) -> None:
        """Note a problem; the same one counts once, and those over a limit are only counted."""
        if len(self._problems) < _PROBLEMS_MAX:
            self._problems[sentence] = None
        else:
            self._left_out += 1

    def damage(self, damage: Damaged) -> None:
        self.damages.append(damage)
        self.problem(str(damage))

    def report(self) -> CheckReport:
        problems = tuple(self._problems)
        if self._left_out:
            problems += (f"{self._left_out} further problems are left out",)
        return CheckReport(self.documents, self.memories, self.key_values, problems)


def check_records(records: Records, full: bool, findings: Findings) -> None:
    """Check documents, memories, vectors and the log against each other; `full` decodes every one of them."""
    with records.environment.reading() as txn:
        findings.documents = records.documents.count(txn)
        findings.memories = records.memories.count(txn)
        _check_documents(records, txn, full, findings)
        _check_vectors(records, txn, full, findings)
        _check_changes(records, txn, full, findings)
        _check_expiry(records, txn, findings)
        if full:
            for sentence in records.terms.check(txn, records.metadata(txn)):
                findings.problem(sentence)
                findings.derived.add(TERMS)
            for table in (records.documents, records.memories, records.vectors, records.changes, records.expiry.table):
                _check_found(table, txn, findings)
            for table in records.requests.tables:
                _check_readable(table, txn, findings)
        for sentence in records.quarantine.describe(txn):
            findings.problem(sentence)


def check_derived(records: Records, key_values: KeyValues, index: VectorIndex, full: bool, findings: Findings) -> None:
    """Check that index and key-values hold what is live, and nothing else; `full` compares every indexed vector."""
    with records.environment.reading() as txn:
        memories = set(records.seqs(txn))
        _check_index(records, txn, index, memories, findings)
        if full:
            _check_indexed_vectors(records, txn, index, memories, findings)
    with key_values.environment.reading() as txn:
        try:
            _check_key_values(key_values, txn, memories, findings)
        except Damaged as damage:
            findings.problem(str(damage))
        if full:
            _check_readable(key_values.reads.table, txn, findings)
        for sentence in key_values.quarantine.describe(txn):
            findings.problem(sentence)


def check_values(key_values: KeyValues, findings: Findings) -> None:
    """Read all key-values, a batch to a transaction, so that writers can use freed pages again meanwhile."""
    after = b""
    while True:
        with key_values.environment.reading() as txn:
            records = [record for _, record in key_values.fingerprints.items(txn) if not isinstance(record, Damaged)]
            batch = list(islice(key_values.values.items(txn, after), _BATCH))
        sizes = {record.number: record.value_bytes for record in records}
        for key, value in batch:
            number, seq = decode_value_key(key)
            if isinstance(value, Damaged):
                findings.damage(value)
            elif number in sizes and len(value) != sizes[number]:
                findings.problem(f"key-values of seq {seq} have {len(value)} bytes, expected {sizes[number]}")
        if len(batch) < _BATCH:
            return
        after = batch[-1][0] + b"\0"


def _check_documents(records: Records, txn: Transaction, full: bool, findings: Findings) -> None:
    named: set[int] = set()
    for raw_key, record in records.documents.items(txn):
        if isinstance(record, Damaged):
            findings.damage(record)
            continue
        key = raw_key.decode()
        if not named.isdisjoint(record.seqs):
            findings.problem(f"document {key!r} shares memories with another document")
        named.update(record.seqs)
        if record.version > records.position(txn):
            findings.problem(f"document {key!r} has version {record.version}, after the last seq")
        for seq in record.seqs:
            if not records.is_live(txn, seq):
                findings.problem(f"document {key!r} names memory {seq}, which is missing")
        if full:
            _check_content(records, txn, key, record, findings)
    for seq in records.seqs(txn):
        if seq not in named:
            findings.problem(f"memory {seq} belongs to no document")


def _check_content(records: Records, txn: Transaction, key: str, record: DocumentRecord, findings: Findings) -> None:
    texts = []
    for ordinal, seq in enumerate(record.seqs):
        try:
            memory = records.memories.get(txn, encode_seq(seq))
        except Damaged as damage:
            findings.damage(damage)
            continue
        if memory is None:
            continue
        if (memory.key, memory.ordinal, memory.total) != (key, ordinal, record.memories):
            findings.problem(f"memory {seq} does not fit its place {ordinal} in document {key!r}")
        texts.append(memory.text)
    document = Document(key, "".join(texts), record.metadata)
    if len(texts) == record.memories and content_digest(document, records.identity.embedder) != record.digest:
        findings.problem(f"the content of document {key!r} is not what its digest says")


def _check_vectors(records: Records, txn: Transaction, full: bool, findings: Findings) -> None:
    memories, vectors = _seqs(records.memories, txn), _seqs(records.vectors, txn)
    for seq in sorted(memories ^ vectors):
        has, lacks = ("vector", "memory") if seq in vectors else ("memory", "vector")
        findings.problem(f"seq {seq} has a {has} and no {lacks}")
    if not full:
        return
    for key, vector in records.vectors.items(txn):
        if isinstance(vector, Damaged):
            findings.damage(vector)
        elif len(vector) != records.identity.dimension:
            findings.problem(f"vector {decode_seq(key)} has size {len(vector)}")
        elif not abs(float(np.linalg.norm(vector)) - 1) <= 2 * VECTOR_NORM_TOLERANCE:
            findings.problem(f"vector {decode_seq(key)} is not of length one")


def _check_changes(records: Records, txn: Transaction, full: bool, findings: Findings) -> None:
    expected = set(range(records.changes_from(txn), records.position(txn) + 1))
    for seq in sorted(_seqs(records.changes, txn) ^ expected):
        findings.problem(f"the log {'lacks' if seq in expected else 'has an unexpected'} change {seq}")
    if not full:
        return
    for _, change in records.changes.items(txn):
        if isinstance(change, Damaged):
            findings.damage(change)


def _check_expiry(records: Records, txn: Transaction, findings: Findings) -> None:
    expected = {
        (record.expires_at, key.decode(), record.seqs)
        for key, record in records.documents.items(txn)
        if not isinstance(record, Damaged) and record.expires_at != NEVER
    }
    found: set[tuple[float, str, range]] = set()
    for entry in records.expiry.entries(txn):
        if isinstance(entry, Damaged):
            findings.damage(entry)
        else:
            found.add(entry)
    if expected != found:
        findings.derived.add(records.expiry.table.name)
    for at, key, _ in sorted(expected - found, key=str):
        findings.problem(f"that document {key!r} expires at {at} is missing in expiry")
    for at, key, _ in sorted(found - expected, key=str):
        findings.problem(f"expiry says that document {key!r} expires at {at}, its own record does not")


def _check_index(
    records: Records, txn: Transaction, index: VectorIndex, memories: set[int], findings: Findings
) -> None:
    if index.position != records.position(txn):
        findings.problem(f"the index is at seq {index.position}, the records at {records.position(txn)}")
    found = index.seqs().tolist()
    held = set(found)
    if len(found) != len(held):
        findings.problem(f"the index holds {len(found) - len(held)} vectors twice")
    for seq in sorted(held - memories):
        findings.problem(f"the index holds {seq}, which is no live memory")
    for seq in sorted(memories - held):
        # A quarantined vector is reported for itself.
        if not records.quarantine.holds(txn, records.vectors.name, encode_seq(seq)):
            findings.problem(f"memory {seq} is not in the index")


def _check_indexed_vectors(
    records: Records, txn: Transaction, index: VectorIndex, memories: set[int], findings: Findings
) -> None:
    for seq in sorted(memories.intersection(index.seqs().tolist())):
        try:
            vector = records.vectors.get(txn, encode_seq(seq))
        except Damaged:
            # Named by the check of the records.
            continue
        if vector is not None and not index.holds(seq, vector):
            findings.problem(f"the index holds another vector for memory {seq} than the records")


def _check_key_values(key_values: KeyValues, txn: Transaction, memories: set[int], findings: Findings) -> None:
    counts = {record.number: 0 for _, record in key_values.by_fingerprint(txn)}
    for key in key_values.values.keys(txn):
        number, seq = decode_value_key(key)
        findings.key_values += 1
        if number not in counts:
            findings.problem(f"key-values of seq {seq} stand under the unknown fingerprint {number}")
        else:
            counts[number] += 1
        if seq not in memories:
            findings.problem(f"key-values of seq {seq} stand for no live memory")
    for name, record in key_values.by_fingerprint(txn):
        if counts[record.number] != record.count:
            counted = counts[record.number]
            findings.problem(f"fingerprint {name!r} has {counted} key-values, its record says {record.count}")


def _check_readable(table: Table[Any], txn: Transaction, findings: Findings) -> None:
    # Nothing else hangs on these, so they are named and not quarantined.
    for _, value in table.items(txn):
        if isinstance(value, Damaged):
            findings.problem(str(value))


def _check_found(table: Table[Any], txn: Transaction, findings: Findings) -> None:
    # The keys on LMDB's branch pages lead to values and have no checksum. Where one is damaged, a cursor that goes from
    # leaf to leaf still comes to every value, and a look-up by key says that there is none.
    for key in table.keys(txn):
        if not table.exists(txn, key):
            findings.problem(f"{describe(table.name, key)} is stored but not found by its key; restore it from a copy")


def _seqs(table: Table[Any], txn: Transaction) -> set[int]:
    return {decode_seq(key) for key in table.keys(txn)}
