"""Documents that end, found by their time: hidden as soon as it comes, deleted when somebody next sweeps."""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .disk.environment import Environment, Transaction, WriteTransaction
from .disk.quarantine import Quarantine
from .disk.seal import Damaged
from .format import NEVER, decode_expiry, encode_expiry

_KEY = struct.Struct(">dQ")


class Entry(NamedTuple):
    """The document that stands under `key` with the memories `seqs` ends `at` this time."""

    at: float
    key: str
    seqs: range


class Expiry:
    """The table `expiry` of one environment. Times are seconds since the epoch, over 0."""

    def __init__(self, environment: Environment, quarantine: Quarantine) -> None:
        self.table = environment.table("expiry", encode_expiry, decode_expiry)
        self._quarantine = quarantine

    def add(self, txn: WriteTransaction, at: float, key: str, seqs: range) -> None:
        self.table.put(txn, _KEY.pack(at, seqs.start), (key, len(seqs)))

    def remove(self, txn: WriteTransaction, at: float, seqs: range) -> None:
        self._delete(txn, _KEY.pack(at, seqs.start))

    def holds(self, txn: Transaction, at: float, key: str, seqs: range) -> bool:
        """Say whether exactly this entry is there, and whole."""
        try:
            return self.table.get(txn, _KEY.pack(at, seqs.start)) == (key, len(seqs))
        except Damaged:
            return False

    def retain(self, txn: WriteTransaction, wanted: Callable[[range], bool]) -> None:
        """Remove the entries that cannot be read, and those of memories that are not wanted."""
        entries = zip(self.table.keys(txn), self.entries(txn), strict=True)
        for place in [place for place, entry in entries if isinstance(entry, Damaged) or not wanted(entry.seqs)]:
            self._delete(txn, place)

    def has_ended(self, txn: Transaction, now: float) -> bool:
        """Say whether any document may have ended that is not deleted yet."""
        return next(self.ended(txn, now), None) is not None

    def ended(self, txn: Transaction, now: float) -> Iterator[Entry | Damaged]:
        """Yield the entries whose time has come, in the order of their times; one that is damaged as its error."""
        for place, entry in self.table.items(txn):
            # The bytes of positive floats are in the order of their values.
            if _taken_apart(place)[0] > now:
                return
            yield _entry(place, entry)

    def time_of(self, txn: Transaction, seqs: range) -> float:
        """Return when the document of these memories ends, `NEVER` when it does not; looks at every entry."""
        places = map(_taken_apart, self.table.keys(txn))
        return next((at for at, first in places if first == seqs.start and len(seqs)), NEVER)

    def _delete(self, txn: WriteTransaction, place: bytes) -> None:
        self.table.delete(txn, place)
        self._quarantine.clear(txn, self.table.name, place)

    def entries(self, txn: Transaction) -> Iterator[Entry | Damaged]:
        """Yield every entry in the order of their times."""
        for place, entry in self.table.items(txn):
            yield _entry(place, entry)


def whole(entries: Iterable[Entry | Damaged]) -> list[Entry]:
    """Return the entries that are not damaged. What is hides nothing: each document's record says when it ends."""
    return [entry for entry in entries if not isinstance(entry, Damaged)]


def _entry(place: bytes, entry: tuple[str, int] | Damaged) -> Entry | Damaged:
    at, first = _taken_apart(place)
    return entry if isinstance(entry, Damaged) else Entry(at, entry[0], range(first, first + entry[1]))


def _taken_apart(place: bytes) -> tuple[float, int]:
    """Return time and first seq of a key; of a damaged one, whose entry is damaged too, what no document has."""
    return _KEY.unpack(place) if len(place) == _KEY.size else (NEVER, 0)
