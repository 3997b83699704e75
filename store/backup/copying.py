"""Compact copies of LMDB environments while they are in use: what a backup and a compaction are made of.

LMDB writes the copy into a pipe and we read it there. So it can be counted, summed and written like any other bytes,
and stopped between two pieces: LMDB ends when nobody reads any more.
"""

import os
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lmdb

from ..disk.environment import Environment, Transaction
from ..errors import Corrupted
from ..limits import COPY_PIECE_BYTES, TOUCHED_BATCH


class FrozenEnvironment:
    """One unchanging state of an environment.

    `bytes` is the size of its copy, known before it is made, `counts` the entries of each table.
    """

    def __init__(self, environment: Environment, txn: Transaction) -> None:
        self.bytes = environment.bytes_used(txn)
        self._environment = environment
        self.txn = txn
        self.counts = environment.counts(txn)

    def pieces(self) -> Generator[bytes]:
        """Yield the copy: a data file of this state without free pages. Close it before the state is let go."""
        readable, writable = os.pipe()
        failures: list[BaseException] = []

        def copy() -> None:
            try:
                self._environment.lmdb.copyfd(writable, compact=True, txn=self.txn)
            except BaseException as error:
                failures.append(error)
            finally:
                os.close(writable)

        thread = threading.Thread(target=copy, name="memory3-copy", daemon=True)
        thread.start()
        try:
            # Closed when the caller stops too: without a reader LMDB gives up at its next write.
            with open(readable, "rb") as pipe:
                while piece := pipe.read(COPY_PIECE_BYTES):
                    yield piece
        finally:
            # The transaction may end only after it.
            thread.join()
        with self._environment.errors():
            for failure in failures:
                raise failure

    def check_copy(self, path: Path) -> None:
        """Open a copy of this state, and compare how many entries each of its tables has.

        Raises:
            Corrupted: it is not what was written.
        """
        with (
            self._environment.errors(),
            lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_dbs=len(self.counts)) as copy,
        ):
            handles = {name: copy.open_db(name.encode(), create=False) for name in self.counts}
            with copy.begin() as txn:
                found = {name: txn.stat(handle)["entries"] for name, handle in handles.items()}
        if found != self.counts:
            raise Corrupted(f"{path} was not written as it was read: it has {found}, expected {self.counts}")


class GrowingCopy:
    """A copy of an environment that is brought up to date. It is durable only once it is closed."""

    def __init__(self, path: Path, environment: Environment) -> None:
        self._environment = environment
        self._tables = environment.by_name()
        with environment.errors():
            self._lmdb = lmdb.open(
                str(path),
                subdir=False,
                lock=False,
                sync=False,
                readahead=False,
                map_size=environment.map_bytes,
                max_dbs=len(self._tables),
            )
            self._handles = {name: self._lmdb.open_db(name.encode(), create=False) for name in self._tables}

    def take(self, keys: Collection[tuple[str, bytes]]) -> None:
        """Make the values under these (table, key) what they are now in the environment."""
        rest = iter(keys)
        while batch := list(islice(rest, TOUCHED_BATCH)):
            with self._environment.reading() as txn, self._lmdb.begin(write=True) as changing:
                for name, key in batch:
                    sealed = self._tables[name].sealed(txn, key)
                    if sealed is None:
                        changing.delete(key, db=self._handles[name])
                    else:
                        changing.put(key, sealed, db=self._handles[name])

    def close(self) -> None:
        with self._environment.errors():
            self._lmdb.sync(True)
            self._lmdb.close()


@contextmanager
def frozen(environment: Environment) -> Iterator[FrozenEnvironment]:
    """Hold the state of an environment as it is now.

    Pages that are freed meanwhile cannot be used again, so the file grows by what is written.
    """
    with environment.reading() as txn:
        yield FrozenEnvironment(environment, txn)


@dataclass(frozen=True, slots=True)
class FrozenShard:
    """One state of a shard. `leaving` says whether the shard is to be closed and waits for whoever holds this."""

    environments: Mapping[str, FrozenEnvironment]
    documents: int
    memories: int
    position: int
    leaving: Callable[[], bool]

    @property
    def bytes(self) -> int:
        return sum(environment.bytes for environment in self.environments.values())
