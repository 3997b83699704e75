"""Marks for values that failed their checksum, so that damage is counted and reported until it is replaced."""

import time
from collections.abc import Iterator

import xxhash

from ..format import Mark, decode_mark, encode_mark
from .environment import Environment, Transaction, WriteTransaction
from .seal import Damaged, describe


class Quarantine:
    """The quarantine table of one environment."""

    def __init__(self, environment: Environment) -> None:
        self._marks = environment.table("quarantine", encode_mark, decode_mark)

    def mark(self, txn: WriteTransaction, damage: Damaged) -> bool:
        """Remember a damaged value; False when it was known."""
        key = _mark_key(damage.table, damage.key)
        if self._marks.exists(txn, key):
            return False
        self._marks.put(txn, key, Mark(time.time(), damage.key, damage.reason))
        return True

    def clear(self, txn: WriteTransaction, table: str, key: bytes) -> None:
        """Forget the mark of a value that was replaced or deleted."""
        self._marks.delete(txn, _mark_key(table, key))

    def holds(self, txn: Transaction, table: str, key: bytes) -> bool:
        return self._marks.exists(txn, _mark_key(table, key))

    def count(self, txn: Transaction) -> int:
        return self._marks.count(txn)

    def keys(self, txn: Transaction, table: str) -> Iterator[bytes]:
        """Yield the keys of a table's marked values."""
        for mark_key, mark in self._marks.items(txn):
            if mark_key.startswith(_mark_prefix(table)) and not isinstance(mark, Damaged):
                yield mark.key

    def describe(self, txn: Transaction) -> Iterator[str]:
        """Yield a sentence for each mark."""
        for mark_key, mark in self._marks.items(txn):
            if isinstance(mark, Damaged):
                yield str(mark)
            else:
                table = mark_key.partition(b"\0")[0].decode()
                yield f"{describe(table, mark.key)} is quarantined: {mark.reason}"


def _mark_prefix(table: str) -> bytes:
    return table.encode() + b"\0"


def _mark_key(table: str, key: bytes) -> bytes:
    # The key itself may be as long as LMDB allows, so its hash stands in; the mark holds it whole.
    return _mark_prefix(table) + xxhash.xxh3_128_digest(key)
