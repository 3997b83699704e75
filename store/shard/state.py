"""What the parts of a shard share: its data, the locks around them, and what is done about damage."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..disk.environment import Environment, Transaction
from ..disk.locks import ReadWriteLock
from ..disk.seal import Damaged
from ..documents import Documents
from ..errors import Unavailable
from ..filters.choosing import Choices
from ..filters.terms import NAME as TERMS
from ..key_values import KeyValues
from ..records import Records
from ..types import CollectionInfo, Quotas
from ..validation import check_fingerprint
from .derived import Derived
from .memory_reader import MemoryReader
from .room import Room

T = TypeVar("T")

_SNAPSHOT = "index.snapshot"


class ShardState:
    """One shard's data, open in this process. `wake` is called when something of it is to be mended or swept.

    Attributes:
        writer: held by whoever changes anything.
        leaving: set when the shard is about to be closed.
    """

    def __init__(
        self,
        path: Path,
        info: CollectionInfo,
        records: Records,
        key_values: KeyValues,
        quotas: Quotas,
        wake: Callable[[], None],
    ) -> None:
        self.info = info
        self.records = records
        self.key_values = key_values
        self.documents = Documents(records, key_values.reads)
        self.choices = Choices(records)
        self.room = Room(records.environment, key_values.environment, quotas.of_shard(info.shards))
        self.derived = Derived(records, key_values, path / _SNAPSHOT)
        self.writer = threading.Lock()
        self.leaving = threading.Event()
        self.wake = wake
        self._in_use = ReadWriteLock()
        self._closed = False

    @staticmethod
    def now() -> float:
        """Return the time by which documents expire, in seconds since 1970: one clock for all parts."""
        return time.time()

    def environments(self) -> tuple[Environment, Environment]:
        return self.records.environment, self.key_values.environment

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep the shard open within the block; not within another one of the same thread.

        Raises:
            Unavailable: it is closed.
        """
        with self._in_use.reading():
            if self._closed:
                raise Unavailable(f"collection {self.info.name!r} is closed")
            try:
                yield
            finally:
                if self.key_values.environment.broken:
                    self.wake()

    @contextmanager
    def closing(self) -> Iterator[bool]:
        """Let nobody use the shard any more, once those who do are done; True for the first who does this."""
        self.leaving.set()
        with self._in_use.writing():
            first = not self._closed
            self._closed = True
            yield first

    def read(self, look: Callable[[Transaction], T]) -> T:
        """Look at one state of the records; what is damaged is quarantined, terms are made anew and looked at again."""
        with self.using():
            try:
                with self.records.environment.reading() as txn:
                    return look(txn)
            except Damaged as damage:
                self.mend_terms(damage)
            with self.records.environment.reading() as txn:
                return look(txn)

    @contextmanager
    def memory_reader(
        self, fingerprint: str | None, held: Set[int] | None = None
    ) -> Iterator[tuple[Transaction, MemoryReader]]:
        """Read memories in one state of records and of the key-values of `fingerprint`; `held` as in `MemoryReader`."""
        key = None if fingerprint is None else check_fingerprint(fingerprint)
        with self.records.environment.reading() as txn, self.key_values.environment.reading() as kv_txn:
            view = self.key_values.view(kv_txn, key)
            yield txn, MemoryReader(self.records, txn, view, self.now(), held)

    def quarantine(self, damages: Sequence[Damaged]) -> None:
        """Mark what was found damaged, so that it is never served."""
        if damages:
            with self.writer:
                self.derived.quarantine(damages)

    def expel(self, damages: Sequence[Damaged]) -> None:
        """Remove damaged key-values: their memories are cold from now on."""
        if damages:
            with self.writer:
                self.key_values.expel(damages)

    def mend_terms(self, damage: Damaged) -> None:
        """Make the terms anew where it is they that a read has found damaged; else mark and raise the damage."""
        self.quarantine([damage])
        if damage.table != TERMS:
            raise damage
        self.make_terms_anew()

    def make_terms_anew(self) -> None:
        """Derive from the documents once more what filters go by."""
        with self.writer:
            self.derived.rebuild({TERMS})
        self.choices.forget()
