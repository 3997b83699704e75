"""Documents that end, found by their time: hidden as soon as it comes, deleted when somebody next sweeps."""

import struct
from collections.abc import Iterator
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

    def has_ended(self, txn: Transaction, now: float) -> bool:
        """Say whether any document has ended that is not deleted yet."""
        return next(self.ended(txn, now), None) is not None

    def ended(self, txn: Transaction, now: float) -> Iterator[Entry]:
        """Yield the entries whose time has come and that are not removed yet, in the order of their times."""
        for entry in self.entries(txn):
            if isinstance(entry, Damaged):
                # It hides nothing here; the document's own record still says when it ended.
                continue
            # The bytes of positive floats are in the order of their values.
            if entry.at > now:
                return
            yield entry

    def time_of(self, txn: Transaction, seqs: range) -> float:
        """Return when the document of these memories ends, `NEVER` when it does not; looks at every entry."""
        places = (_KEY.unpack(place) for place in self.table.keys(txn))
        return next((at for at, first in places if first == seqs.start and len(seqs)), NEVER)

    def _delete(self, txn: WriteTransaction, place: bytes) -> None:
        self.table.delete(txn, place)
        self._quarantine.clear(txn, self.table.name, place)

    def entries(self, txn: Transaction) -> Iterator[Entry | Damaged]:
        """Yield every entry in the order of their times."""
        for place, entry in self.table.items(txn):
            at, first = _KEY.unpack(place)
            yield entry if isinstance(entry, Damaged) else Entry(at, entry[0], range(first, first + entry[1]))
