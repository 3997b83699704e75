"""Key-values of memories, for each model fingerprint, in an LMDB environment of their own; derived, never the truth.

Nothing here knows whether a memory is live: the shard asks the records first, and holds its lock around every write.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from . import limits
from .disk.environment import BROKEN, DATA_FILE, Environment, Table, Transaction, WriteTransaction, closed_on_failure
from .disk.identity import IDENTITY, identity_table, read_identity
from .disk.quarantine import Quarantine
from .disk.seal import Damaged
from .disk.turns import READS
from .errors import Corrupted, FailedPrecondition, InvalidArgument, ResourceExhausted
from .format import (
    VALUE_KEY,
    FingerprintRecord,
    Identity,
    decode_fingerprint,
    decode_u32,
    decode_u64,
    decode_value_key,
    encode_fingerprint,
    encode_u32,
    encode_u64,
    encode_value_key,
)
from .reads import Reads
from .seqs import base_of

MAGIC = "memory3 key-values"
_APPLIED = b"applied"
_NEXT = b"next_fingerprint"
_ANEW = "anew"

_log = logging.getLogger(__name__)


class KeyValuesView:
    """The key-values of one fingerprint in one state; those that are damaged are gathered in `damages`.

    Where LMDB itself comes to damage there are none any more, and the environment is `broken`.
    """

    def __init__(self, environment: Environment, values: Table[bytes], txn: Transaction, number: int | None) -> None:
        self.damages: list[Damaged] = []
        self._environment = environment
        self._values = values
        self._txn = txn
        self._number = number

    def holds(self, seq: int) -> bool:
        if self._number is None:
            return False
        try:
            return self._values.exists(self._txn, encode_value_key(self._number, seq))
        except BROKEN as error:
            self._lose(error)
            return False

    def get(self, seq: int) -> bytes | None:
        """Return the key-values of a memory, None where there are none, or where they are damaged."""
        if self._number is None:
            return None
        try:
            return self._values.get(self._txn, encode_value_key(self._number, seq))
        except Damaged as damage:
            self.damages.append(damage)
        except BROKEN as error:
            self._lose(error)
        return None

    def _lose(self, error: Exception) -> None:
        _log.error("key-values at %s are damaged: %s", self._environment.path, error)
        self._environment.broken = True
        self._number = None


class KeyValues:
    """The tables of the `kv` environment. `applied` is the seq up to which forgotten memories are gone from it."""

    def __init__(self, environment: Environment, identity: Identity) -> None:
        self.environment = environment
        self.verified = False
        """Every key was looked at since this was opened."""
        self._identity = identity
        self.numbers = environment.table("meta", encode_u64, decode_u64)
        self.counters = environment.table("meta", encode_u32, decode_u32)
        self.fingerprints = environment.table("fingerprints", encode_fingerprint, decode_fingerprint)
        self.values = environment.table("values", bytes, bytes)
        self.quarantine = Quarantine(environment)
        self.reads = Reads(environment)
        self.applied = 0

    @classmethod
    def create(cls, path: Path, records: Identity) -> "KeyValues":
        """Make an empty environment for the shard that `records` identifies."""
        environment = Environment.create(path, limits.KEY_VALUES_BYTES_MAX, durable=False)
        with closed_on_failure(environment):
            key_values = cls(environment, records)
            identities = identity_table(environment)
            with environment.writing() as txn:
                identities.put(txn, IDENTITY, replace(records, magic=MAGIC))
                key_values.numbers.put(txn, _APPLIED, base_of(records.shard))
                key_values.counters.put(txn, _NEXT, 1)
            key_values.applied = base_of(records.shard)
            key_values.verified = True
        return key_values

    @classmethod
    def open(cls, path: Path, records: Identity) -> "KeyValues":
        """Open what `create` made; what is damaged or missing is made anew, empty, because models can write it again.

        Raises:
            FailedPrecondition: these are whole key-values of another shard.
            UnsupportedFormat: they were written in another format version.
        """
        try:
            return cls._open(path, records)
        except Corrupted as error:
            _log.error("key-values at %s are damaged and will be written again: %s", path, error)
            shutil.rmtree(path, ignore_errors=True)
            return cls.create(path, records)

    @classmethod
    def _open(cls, path: Path, records: Identity) -> "KeyValues":
        if not (path / DATA_FILE).is_file():
            raise Corrupted(f"{path / DATA_FILE} is missing")
        # Left by a crash amid `begin_anew`.
        shutil.rmtree(path / _ANEW, ignore_errors=True)
        environment = Environment(path, limits.KEY_VALUES_BYTES_MAX, durable=False)
        with closed_on_failure(environment):
            identity = read_identity(environment, MAGIC)
            if identity.id != records.id:
                raise FailedPrecondition(f"{path} holds the key-values of another shard; move them away to go on")
            key_values = cls(environment, records)
            key_values._begin()
        return key_values

    def verify(self, give_way: Callable[[], None]) -> None:
        """Look at every key, some at a time.

        LMDB finds a damaged page only when it comes there. It looks at the first page of each value too, so that this
        takes minutes for a million key-values that are not in memory.

        Raises:
            Corrupted: a page is damaged, or key-values stand under a key of another kind; `begin_anew`.
        """
        start = b""
        while True:
            give_way()
            with self.environment.reading() as txn:
                keys = list(islice(self.values.keys(txn, start), limits.VERIFIED_AT_ONCE))
            for key in keys:
                decode_value_key(key)
            if len(keys) < limits.VERIFIED_AT_ONCE:
                break
            start = keys[-1] + b"\0"
        self.verified = True

    def begin_anew(self, applied: int) -> None:
        """Put nothing in the place of key-values that are damaged, as of seq `applied`: models can write them again.

        Raises:
            ResourceExhausted: the disk is full; they are as they were.
        """
        aside = self.environment.path / _ANEW
        shutil.rmtree(aside, ignore_errors=True)
        empty = KeyValues.create(aside, self._identity)
        with closed_on_failure(empty.environment), empty.environment.writing() as txn:
            empty.numbers.put(txn, _APPLIED, applied)
        empty.environment.close()
        self.environment.replace_data(aside / DATA_FILE)
        shutil.rmtree(aside, ignore_errors=True)
        with self.environment.reading() as txn:
            self.reads.load(txn)
        self.applied, self.verified = applied, True

    def _begin(self) -> None:
        with self.environment.reading() as txn:
            applied = self.numbers.get(txn, _APPLIED)
            if applied is None or self.counters.get(txn, _NEXT) is None:
                raise Corrupted("a counter is missing")
            for _ in self.by_fingerprint(txn):
                pass
            # Of more than so many this would take long, and is done beside calls.
            count = self.values.count(txn)
            if count <= limits.VERIFIED_AT_OPENING_MAX:
                if self.values.bytes_of_keys(txn) != VALUE_KEY.itemsize * count:
                    raise Corrupted("key-values are missing, or stand under keys of another kind")
                self.verified = True
            for key in self.quarantine.keys(txn, self.values.name):
                decode_value_key(key)
            self.applied = applied
            self.reads.load(txn)

    def by_fingerprint(self, txn: Transaction) -> Iterator[tuple[str, FingerprintRecord]]:
        """Yield each model fingerprint with its record."""
        for key, record in self.fingerprints.items(txn):
            if isinstance(record, Damaged):
                raise record
            yield key.decode(), record

    def put(self, fingerprint: bytes, items: Sequence[tuple[int, bytes]]) -> None:
        """Store key-values of live memories in one transaction, replacing those that stand.

        Raises:
            InvalidArgument: a size differs from that of the fingerprint's other key-values; none were stored.
        """
        with self.environment.writing() as txn:
            record = self.fingerprints.get(txn, fingerprint) or self._new_fingerprint(txn, len(items[0][1]))
            added = 0
            for seq, value in items:
                if len(value) != record.value_bytes:
                    raise InvalidArgument(
                        f"key-values of seq {seq} have {len(value)} bytes, "
                        f"those of fingerprint {fingerprint.decode()!r} have {record.value_bytes}"
                    )
                key = encode_value_key(record.number, seq)
                added += not self.values.exists(txn, key)
                self.values.put(txn, key, value)
                self.quarantine.clear(txn, self.values.name, key)
            self.fingerprints.put(txn, fingerprint, replace(record, count=record.count + added))

    def fetch(
        self, fingerprint: bytes, seqs: Sequence[int], live: Sequence[bool]
    ) -> tuple[list[bytes | None], list[Damaged]]:
        """Return the key-values of those seqs that are live, None where there are none, and those that are damaged."""
        with self.environment.reading() as txn, READS.turn():
            view = self.view(txn, fingerprint)
            values = [view.get(seq) if is_live else None for seq, is_live in zip(seqs, live, strict=True)]
        return values, view.damages

    def view(self, txn: Transaction, fingerprint: bytes | None) -> "KeyValuesView":
        """Look at the key-values of one fingerprint, or of none."""
        record = self.fingerprints.get(txn, fingerprint) if fingerprint else None
        return KeyValuesView(self.environment, self.values, txn, None if record is None else record.number)

    def least_read(self, over: int, bytes_max: int, new: Set[int]) -> Iterator[list[bytes]]:
        """Yield, a few at a time, the keys of those read least, `over` bytes and a spare.

        Equally often read, the `new` seqs come last, and of the others the oldest first.
        """
        with self.environment.reading() as txn:
            sizes = {record.number: record.value_bytes for _, record in self.by_fingerprint(txn)}
            keys = np.fromiter(self.values.keys(txn), f"S{VALUE_KEY.itemsize}").view(VALUE_KEY)
        # In arrays: with millions of them a list fills the memory, and making or sorting it stops the interpreter.
        seqs = keys["seq"].astype(np.uint64)
        reads = np.fromiter((self.reads.of(int(seq)) for seq in seqs), np.int64, len(seqs))
        order = np.lexsort((seqs, np.isin(seqs, np.array(list(new), np.uint64)), reads))
        freed = np.zeros(len(keys), np.int64)
        for number, size in sizes.items():
            freed[keys["number"] == number] = size
        enough = int(np.searchsorted(np.cumsum(freed[order]), over + bytes_max // limits.SPARE_SHARE)) + 1
        chosen = order[:enough]
        for start in range(0, len(chosen), limits.KEY_VALUES_REMOVED_AT_ONCE):
            part = chosen[start : start + limits.KEY_VALUES_REMOVED_AT_ONCE]
            yield [encode_value_key(number, seq) for number, seq in keys[part].tolist()]

    def remove(self, keys: Sequence[bytes]) -> None:
        """Remove key-values: their memories are cold from then on, and can be written again from their text."""
        with self.environment.writing() as txn:
            self._delete(txn, keys)

    def forget(self, forgotten: Iterable[range], applied: int) -> None:
        """Remove the key-values and the reads of these seqs, of which the last was forgotten at seq `applied`."""
        with self.environment.reading() as txn, READS.turn(ahead=True):
            records = [record for _, record in self.by_fingerprint(txn)]
            keys = [encode_value_key(record.number, seq) for record in records for seqs in forgotten for seq in seqs]
            marks = self.quarantine.count(txn)
            dead = [
                key
                for key in keys
                if self.values.exists(txn, key) or (marks and self.quarantine.holds(txn, self.values.name, key))
            ]
        read = [seq for seqs in forgotten for seq in seqs if self.reads.of(seq)]
        if dead or read:
            self._remove(dead, read, applied)
        self.applied = applied

    def sweep(self, is_live: Callable[[int], bool], applied: int) -> None:
        """Remove the key-values, their marks and the reads of every memory that is not live, as of seq `applied`."""
        with self.environment.reading() as txn:
            keys = chain(self.values.keys(txn), self.quarantine.keys(txn, self.values.name))
            dead = [key for key in keys if not is_live(decode_value_key(key)[1])]
        read = [seq for seq in self.reads.seqs() if not is_live(seq)]
        # Also when nothing is dead: `applied` on the disk may be ahead of records restored from an older copy.
        self._remove(dead, read, applied)
        self.applied = applied

    def last_seq(self) -> int:
        """Return the greatest seq that key-values or reads stand under, 0 when there are none."""
        with self.environment.reading() as txn:
            return max([decode_value_key(key)[1] for key in self._last_keys(txn)] + self.reads.seqs(), default=0)

    def checkpoint(self, give_way: Callable[[], None]) -> None:
        """Make `applied` durable, so that the changes up to it may be trimmed, and save the counts of reads."""
        with self.environment.writing() as txn:
            self.numbers.put(txn, _APPLIED, self.applied)
        # As many as there are now: those who read meanwhile must not keep it going for ever.
        for _ in range(0, self.reads.unsaved, limits.READS_SAVED_AT_ONCE):
            give_way()
            with self.environment.writing() as txn:
                self.reads.save(txn, limits.READS_SAVED_AT_ONCE)

    def expel(self, damages: Iterable[Damaged]) -> None:
        """Remove key-values that are damaged still, and mark them: they read as cold and can be written again."""
        with self.environment.writing() as txn:
            damaged = [damage for damage in damages if self._is_damaged(txn, damage.key)]
            for damage in damaged:
                self.quarantine.mark(txn, damage)
            self._delete(txn, [damage.key for damage in damaged])

    def _is_damaged(self, txn: Transaction, key: bytes) -> bool:
        try:
            self.values.get(txn, key)
        except Damaged:
            return True
        return False

    def _last_keys(self, txn: Transaction) -> Iterator[bytes]:
        for _, record in self.by_fingerprint(txn):
            key = self.values.last_key(txn, before=encode_value_key(record.number + 1, 0))
            if key is not None:
                yield key

    def _remove(self, keys: Sequence[bytes], read: Sequence[int], applied: int) -> None:
        with self.environment.writing() as txn:
            for key in keys:
                self.quarantine.clear(txn, self.values.name, key)
            self._delete(txn, keys)
            self.reads.delete(txn, read)
            self.numbers.put(txn, _APPLIED, applied)
        self.reads.forget(read)

    def _delete(self, txn: WriteTransaction, keys: Sequence[bytes]) -> None:
        removed = Counter(decode_value_key(key)[0] for key in keys if self.values.delete(txn, key))
        for fingerprint, record in list(self.by_fingerprint(txn)):
            left = replace(record, count=record.count - removed[record.number])
            # Marks are under the fingerprint's number, and have to be found when a value is written again or forgotten.
            if not left.count and not self._has_marks(txn, record.number):
                self.fingerprints.delete(txn, fingerprint.encode())
            elif left != record:
                self.fingerprints.put(txn, fingerprint.encode(), left)

    def _has_marks(self, txn: Transaction, number: int) -> bool:
        return any(decode_value_key(key)[0] == number for key in self.quarantine.keys(txn, self.values.name))

    def _new_fingerprint(self, txn: WriteTransaction, value_bytes: int) -> FingerprintRecord:
        if self.fingerprints.count(txn) >= limits.FINGERPRINTS_MAX:
            raise ResourceExhausted(
                f"key-values of {limits.FINGERPRINTS_MAX} fingerprints are stored, no more are allowed"
            )
        number = self.counters.get(txn, _NEXT)
        if number is None:
            raise Damaged("meta", _NEXT, "it is missing")
        self.counters.put(txn, _NEXT, number + 1)
        return FingerprintRecord(number, value_bytes, 0)
