"""What filters choose of a shard, remembered until something changes: one filter comes with query after query."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from ..disk.environment import Transaction
from ..index.vector_index import Allowed
from ..limits import CHOICES_KEPT
from ..records import Records
from .language import Filter
from .selection import Selection


@dataclass(frozen=True, slots=True)
class Chosen:
    """The memories that match a filter at some position, as a set, and as the index takes it."""

    filter: Filter
    position: int
    selection: Selection
    allowed: Allowed


class Choices:
    """The latest filters of one shard with what they chose."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._mutex = Lock()
        self._latest: OrderedDict[Filter, Chosen] = OrderedDict()

    def of(self, txn: Transaction, filter: Filter) -> Chosen:
        """Return what a filter chooses in the state of `txn`.

        Raises:
            Damaged: a term that this needs is damaged.
        """
        position = self._records.position(txn)
        with self._mutex:
            found = self._latest.get(filter)
        if found is not None and found.position == position:
            return found
        selection = self._records.terms.matching(txn, filter)
        chosen = Chosen(filter, position, selection, Allowed(*selection.bitmap(self._records.base)))
        with self._mutex:
            self._latest[filter] = chosen
            self._latest.move_to_end(filter)
            while len(self._latest) > CHOICES_KEPT:
                self._latest.popitem(last=False)
        return chosen

    def forget(self) -> None:
        """Choose anew from now on, because terms were made again."""
        with self._mutex:
            self._latest.clear()
