"""Verifying what is derived from the records, index and key-values, while both are changed.

Records and what is derived from them stand still together only under the writer lock. So they are compared without it
first, and what looks wrong is looked at again under it, a little at a time.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyroaring import BitMap64

from .. import limits
from ..disk.environment import Transaction
from ..disk.seal import Damaged
from ..format import decode_seq, decode_value_key, encode_seq
from ..types import Vector
from .findings import Findings
from .parts import Parts
from .records import check_readable, check_vector

T = TypeVar("T")

_AGAIN = 100
"""What is looked at again while changes wait, in a millisecond or so."""


def check_index(parts: Parts, findings: Findings) -> None:
    """Check that the index holds each live memory, once, and nothing else."""
    records, index = parts.records, parts.index
    memories = _live(parts, findings)
    seqs = index.seqs()
    held = findings.bitmap(map(int, seqs))
    if len(seqs) != len(held):
        findings.problem(f"the index holds {len(seqs) - len(held)} vectors twice")

    def again(txn: Transaction, seq: int) -> None:
        live, there = records.is_live(txn, seq), index.holds(seq)
        if there and not live:
            findings.problem(f"the index holds {seq}, which is no live memory")
        # A quarantined vector is reported for itself.
        elif live and not there and not records.quarantine.holds(txn, records.vectors.name, encode_seq(seq)):
            findings.problem(f"memory {seq} is not in the index")

    _again(parts, findings, list(memories ^ held), again)
    with parts.writer, records.environment.reading() as txn:
        if index.position != records.position(txn):
            findings.problem(f"the index is at seq {index.position}, the records at {records.position(txn)}")


def check_key_values(parts: Parts, findings: Findings) -> None:
    """Check that key-values stand for live memories, and that they are counted right."""
    key_values = parts.key_values
    memories = _live(parts, findings)
    strange: list[bytes] = []
    with key_values.environment.reading() as txn:
        try:
            fingerprints = list(key_values.by_fingerprint(txn))
        except Damaged as damage:
            findings.problem(str(damage))
            return
        counts = {record.number: 0 for _, record in fingerprints}
        for key in findings.looking(key_values.values.keys(txn)):
            number, seq = decode_value_key(key)
            findings.key_values += 1
            if number not in counts:
                findings.problem(f"key-values of seq {seq} stand under the unknown fingerprint {number}")
            else:
                counts[number] += 1
            if seq not in memories:
                strange.append(key)
    for name, record in fingerprints:
        if counts[record.number] != record.count:
            counted = counts[record.number]
            findings.problem(f"fingerprint {name!r} has {counted} key-values, its record says {record.count}")

    def again(txn: Transaction, key: bytes) -> None:
        seq = decode_value_key(key)[1]
        with key_values.environment.reading() as kv_txn:
            if key_values.values.exists(kv_txn, key) and not parts.records.is_live(txn, seq):
                findings.problem(f"key-values of seq {seq} stand for no live memory")

    _again(parts, findings, strange, again)


def check_marks(parts: Parts, findings: Findings) -> None:
    """Tell which key-values are in quarantine."""
    with parts.key_values.environment.reading() as txn:
        for sentence in parts.key_values.quarantine.describe(txn):
            findings.problem(sentence)


def check_vectors(parts: Parts, findings: Findings) -> None:
    """Read every vector, and compare what the index holds for it."""
    records, index = parts.records, parts.index
    unlike: list[int] = []

    def see(txn: Transaction, batch: list[tuple[bytes, Vector | Damaged]]) -> None:
        for key, vector in batch:
            whole = check_vector(records, key, vector, findings)
            if not isinstance(vector, Damaged) and (whole or len(vector) == index.dimension):
                seq = decode_seq(key)
                if not index.holds(seq, vector):
                    unlike.append(seq)

    def again(txn: Transaction, seq: int) -> None:
        try:
            vector = records.vectors.get(txn, encode_seq(seq))
        except Damaged:
            return
        if vector is not None and index.holds(seq) and not index.holds(seq, vector):
            findings.problem(f"the index holds another vector for memory {seq} than the records")

    findings.in_parts(records.environment, records.vectors.items, see)
    _again(parts, findings, unlike, again)


def check_values(parts: Parts, findings: Findings) -> None:
    """Read all key-values."""
    key_values = parts.key_values

    def see(txn: Transaction, batch: list[tuple[bytes, bytes | Damaged]]) -> None:
        records = [record for _, record in key_values.fingerprints.items(txn) if not isinstance(record, Damaged)]
        sizes = {record.number: record.value_bytes for record in records}
        for key, value in batch:
            number, seq = decode_value_key(key)
            if isinstance(value, Damaged):
                findings.damage(value)
            elif number in sizes and len(value) != sizes[number]:
                findings.problem(f"key-values of seq {seq} have {len(value)} bytes, expected {sizes[number]}")

    findings.in_parts(key_values.environment, key_values.values.items, see)


def check_reads(parts: Parts, findings: Findings) -> None:
    """Read every count of reads."""
    with parts.key_values.environment.reading() as txn:
        check_readable(parts.key_values.reads.table, txn, findings)


def _live(parts: Parts, findings: Findings) -> BitMap64:
    with parts.records.environment.reading() as txn:
        return findings.bitmap(parts.records.seqs(txn))


def _again(parts: Parts, findings: Findings, doubtful: Sequence[T], see: Callable[[Transaction, T], None]) -> None:
    """Show again what looked wrong, with the writer lock held."""
    for start in range(0, len(doubtful), _AGAIN):
        findings.look()
        with parts.writer, parts.records.environment.reading() as txn:
            for one in doubtful[start : start + _AGAIN]:
                see(txn, one)
        time.sleep(limits.REST_S)
