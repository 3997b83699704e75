"""Verifying the records: every invariant of theirs that docs/format.md states, in sentences that name what breaks it.

What has to be seen in one state is read in one transaction; what stands by itself in many short ones.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from pyroaring import BitMap64

from ..disk.environment import Table, Transaction
from ..disk.seal import Damaged, describe
from ..expiry import Entry
from ..filters.terms import NAME as TERMS
from ..format import NEVER, DocumentRecord, decode_seq, encode_seq
from ..limits import VECTOR_NORM_TOLERANCE
from ..metadata import content_digest
from ..records import Records
from ..types import Document, Vector
from .findings import Findings
from .parts import Parts


def check_documents(parts: Parts, findings: Findings) -> None:
    """Check that documents and memories belong together, one to one."""
    records = parts.records
    named = BitMap64()
    with records.environment.reading() as txn:
        findings.documents = records.documents.count(txn)
        findings.memories = records.memories.count(txn)
        position = records.position(txn)
        for raw_key, record in findings.looking(records.documents.items(txn)):
            if isinstance(record, Damaged):
                findings.damage(record)
                continue
            key = raw_key.decode()
            if any(seq in named for seq in record.seqs):
                findings.problem(f"document {key!r} shares memories with another document")
            named.add_range(record.seqs.start, record.seqs.stop)
            if record.version > position:
                findings.problem(f"document {key!r} has version {record.version}, after the last seq")
            for seq in record.seqs:
                if not records.is_live(txn, seq):
                    findings.problem(f"document {key!r} names memory {seq}, which is missing")
        for seq in findings.looking(records.seqs(txn)):
            if seq not in named:
                findings.problem(f"memory {seq} belongs to no document")


def check_vectors(parts: Parts, findings: Findings) -> None:
    """Check that each memory has a vector, and no other seq."""
    records = parts.records
    with records.environment.reading() as txn:
        memories, vectors = (_seqs(table, txn, findings) for table in (records.memories, records.vectors))
    for seq in memories ^ vectors:
        has, lacks = ("vector", "memory") if seq in vectors else ("memory", "vector")
        findings.problem(f"seq {seq} has a {has} and no {lacks}")


def check_log(parts: Parts, findings: Findings) -> None:
    """Check that the log has no gap."""
    records = parts.records
    expected = BitMap64()
    with records.environment.reading() as txn:
        expected.add_range(records.changes_from(txn), records.position(txn) + 1)
        found = _seqs(records.changes, txn, findings)
    for seq in found ^ expected:
        findings.problem(f"the log {'lacks' if seq in expected else 'has an unexpected'} change {seq}")


def check_expiry(parts: Parts, findings: Findings) -> None:
    """Check that expiry has an entry for each document that expires, and no other."""
    records = parts.records
    expiry = records.expiry

    def problem(sentence: str) -> None:
        findings.problem(sentence)
        findings.derived.add(expiry.table.name)

    with records.environment.reading() as txn:
        for key, record in findings.looking(records.documents.items(txn)):
            if isinstance(record, Damaged) or record.expires_at == NEVER:
                continue
            if not expiry.holds(txn, record.expires_at, key.decode(), record.seqs):
                problem(f"that document {key.decode()!r} expires at {record.expires_at} is missing in expiry")
        for entry in findings.looking(expiry.entries(txn)):
            if isinstance(entry, Damaged):
                findings.damage(entry)
            elif not _ends(records, txn, entry):
                problem(f"expiry says that document {entry.key!r} expires at {entry.at}, its own record does not")


def check_marks(parts: Parts, findings: Findings) -> None:
    """Tell what is in quarantine."""
    records = parts.records
    with records.environment.reading() as txn:
        for sentence in records.quarantine.describe(txn):
            findings.problem(sentence)


def check_contents(parts: Parts, findings: Findings) -> None:
    """Read every document with its memories, and compare it with its digest."""
    records = parts.records

    def see(txn: Transaction, batch: list[tuple[bytes, DocumentRecord | Damaged]]) -> None:
        for key, record in batch:
            if not isinstance(record, Damaged):
                _check_content(records, txn, key.decode(), record, findings)

    findings.in_parts(records.environment, records.documents.items, see)


def check_changes(parts: Parts, findings: Findings) -> None:
    """Read every change of the log."""
    records = parts.records

    def see(txn: Transaction, batch: list[tuple[bytes, object]]) -> None:
        for _, change in batch:
            if isinstance(change, Damaged):
                findings.damage(change)

    findings.in_parts(records.environment, records.changes.items, see)


def check_terms(parts: Parts, findings: Findings) -> None:
    """Check that the terms are those of the documents."""
    records = parts.records
    with records.environment.reading() as txn:
        for sentence in records.terms.check(txn, findings.looking(records.metadata(txn))):
            findings.problem(sentence)
            findings.derived.add(TERMS)


def check_keys(parts: Parts, findings: Findings) -> None:
    """Check that what is stored is found by its key.

    The keys on LMDB's branch pages lead to values and have no checksum. Where one is damaged, a cursor that goes from
    leaf to leaf still comes to every value, and a look-up by key says that there is none.
    """
    records = parts.records
    tables: tuple[Table[Any], ...] = (records.documents, records.memories, records.vectors, records.changes)
    for table in (*tables, records.expiry.table):
        _check_found(records, table, findings)


def check_requests(parts: Parts, findings: Findings) -> None:
    """Read every answer that is kept."""
    records = parts.records
    with records.environment.reading() as txn:
        for table in records.requests.tables:
            check_readable(table, txn, findings)


def check_vector(records: Records, key: bytes, vector: Vector | Damaged, findings: Findings) -> bool:
    """Check one vector, and say whether it is as it should be."""
    if isinstance(vector, Damaged):
        findings.damage(vector)
    elif len(vector) != records.identity.dimension:
        findings.problem(f"vector {decode_seq(key)} has size {len(vector)}")
    elif not abs(float(np.linalg.norm(vector)) - 1) <= 2 * VECTOR_NORM_TOLERANCE:
        findings.problem(f"vector {decode_seq(key)} is not of length one")
    else:
        return True
    return False


def check_readable(table: Table[Any], txn: Transaction, findings: Findings) -> None:
    """Read every value. For tables that nothing else hangs on: what is damaged is named and not quarantined."""
    for _, value in findings.looking(table.items(txn)):
        if isinstance(value, Damaged):
            findings.problem(str(value))


def _ends(records: Records, txn: Transaction, entry: Entry) -> bool:
    try:
        record = records.documents.get(txn, entry.key.encode())
    except Damaged:
        return False
    return record is not None and (record.expires_at, record.seqs) == (entry.at, entry.seqs)


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


def _check_found(records: Records, table: Table[Any], findings: Findings) -> None:
    def keys(txn: Transaction, start: bytes) -> Iterator[tuple[bytes, None]]:
        return ((key, None) for key in table.keys(txn, start))

    def see(txn: Transaction, batch: list[tuple[bytes, None]]) -> None:
        for key, _ in batch:
            if not table.exists(txn, key):
                what = describe(table.name, key)
                findings.problem(f"{what} is stored but not found by its key; restore it from a copy")

    findings.in_parts(records.environment, keys, see)


def _seqs(table: Table[Any], txn: Transaction, findings: Findings) -> BitMap64:
    return findings.bitmap(map(decode_seq, table.keys(txn)))
