"""Documents that end, found by their time: hidden as soon as it comes, deleted when somebody next sweeps."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .disk.environment import Environment, Transaction, WriteTransaction
from .disk.quarantine import Quarantine
from .disk.seal import Damaged
from .format import NEVER, decode_expiry, encode_expiry

_KEY = struct.Struct(">dQ")


@dataclass(frozen=True, slots=True)
class Ended:
    """Documents that have ended and are not deleted yet: when, whose key, and the seqs of its memories.

    `damaged` says that there may be more, because an entry cannot be read.
    """

    entries: list[tuple[float, str, range]]
    damaged: bool

    @property
    def documents(self) -> dict[str, range]:
        """The seqs of each document's memories."""
        return {key: seqs for _, key, seqs in self.entries}

    @property
    def memories(self) -> int:
        return sum(map(len, self.documents.values()))


class Expiry:
    """The table `expiry` of one environment. Times are seconds since the epoch, over 0."""

    def __init__(self, environment: Environment, quarantine: Quarantine) -> None:
        self.table = environment.table("expiry", encode_expiry, decode_expiry)
        self._quarantine = quarantine

    def add(self, txn: WriteTransaction, at: float, key: str, seqs: range) -> None:
        self.table.put(txn, _KEY.pack(at, seqs.start), (key, len(seqs)))

    def remove(self, txn: WriteTransaction, at: float, seqs: range) -> None:
        self._delete(txn, _KEY.pack(at, seqs.start))

    def retain(self, txn: WriteTransaction, wanted: Callable[[range], bool]) -> None:
        """Remove the entries that cannot be read, and those of memories that are not wanted."""
        entries = zip(self.table.keys(txn), self.entries(txn), strict=True)
        for place in [place for place, entry in entries if isinstance(entry, Damaged) or not wanted(entry[2])]:
            self._delete(txn, place)

    def has_ended(self, txn: Transaction, now: float) -> bool:
        """Say whether any document has ended that is not deleted yet, as far as that is known."""
        ended = self.ended(txn, now, 1)
        return bool(ended.entries) or ended.damaged

    def ended(self, txn: Transaction, now: float, limit: int | None = None) -> Ended:
        """Return the documents whose time has come, the first `limit` of them."""
        entries: list[tuple[float, str, range]] = []
        damaged = False
        # The bytes of positive floats are in the order of their values.
        for place, entry in self.table.items(txn):
            at, first = _taken_apart(place)
            if at > now or len(entries) == limit:
                break
            if isinstance(entry, Damaged):
                damaged = True
            else:
                entries.append((at, entry[0], range(first, first + entry[1])))
        return Ended(entries, damaged)

    def time_of(self, txn: Transaction, seqs: range) -> float:
        """Return when the document of these memories ends, `NEVER` when it does not; looks at every entry."""
        places = map(_taken_apart, self.table.keys(txn))
        return next((at for at, first in places if first == seqs.start and len(seqs)), NEVER)

    def _delete(self, txn: WriteTransaction, place: bytes) -> None:
        self.table.delete(txn, place)
        self._quarantine.clear(txn, self.table.name, place)

    def entries(self, txn: Transaction) -> Iterator[tuple[float, str, range] | Damaged]:
        """Yield every entry: when, whose, and its seqs."""
        for place, entry in self.table.items(txn):
            at, first = _taken_apart(place)
            yield entry if isinstance(entry, Damaged) else (at, entry[0], range(first, first + entry[1]))


def _taken_apart(place: bytes) -> tuple[float, int]:
    """Return time and first seq of a key; of a damaged one, whose entry is damaged too, what no document has."""
    return _KEY.unpack(place) if len(place) == _KEY.size else (NEVER, 0)
