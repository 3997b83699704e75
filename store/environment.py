"""LMDB environments and their tables of sealed values; LMDB's errors become ours here and nowhere else."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import lmdb

from . import points
from .durable import FULL, disk_errors, make_directory, remove_file, sync_directory, write_file
from .errors import Corrupted, Memory3Error, ResourceExhausted, Unavailable
from .limits import READERS_MAX
from .meta_pages import check_meta_pages
from .seal import Bytes, Damaged, seal, unseal

T = TypeVar("T")
Transaction: TypeAlias = "lmdb.Transaction[bytes] | lmdb.Transaction[memoryview]"
WriteTransaction: TypeAlias = "lmdb.Transaction[bytes]"

DATA_FILE = "data.mdb"
_TABLES_MAX = 16
_SPARE_TRANSACTIONS = 32
_PROBE_BYTES = 1 << 20
_SHORT_BYTES_MAX = 1 << 30
"""What one transaction may take and give back at the end of a file."""
_MAP_FULL = (lmdb.MapFullError, lmdb.TxnFullError)
_BROKEN = (
    *(lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError),
    # What LMDB says when the record of a table is damaged: it takes the caller for one who uses it wrongly.
    *(lmdb.BadTxnError, lmdb.BadDbiError, lmdb.BadValsizeError, lmdb.IncompatibleError),
)


class Table(Generic[T]):
    """One LMDB database: values of type T, encoded, sealed on the way in and verified on the way out."""

    def __init__(
        self, environment: lmdb.Environment, name: str, encode: Callable[[T], bytes], decode: Callable[[Bytes], T]
    ) -> None:
        self.name = name
        self._handle = environment.open_db(name.encode())
        self._encode = encode
        self._decode = decode

    def get(self, txn: Transaction, key: bytes) -> T | None:
        """Return the value under `key`, None when there is none.

        Raises:
            Damaged: there is one, and it is not what was written there.
        """
        sealed = txn.get(key, None, self._handle)
        return None if sealed is None else self._open(key, sealed)

    def exists(self, txn: Transaction, key: bytes) -> bool:
        """Say whether a value stands under `key`, without reading it."""
        return txn.get(key, None, self._handle) is not None

    def put(self, txn: WriteTransaction, key: bytes, value: T, append: bool = False) -> None:
        """Store a value. `append` is quicker and only right when `key` is greater than all that stand."""
        txn.put(key, seal(self.name, key, self._encode(value)), db=self._handle, append=append)

    def delete(self, txn: WriteTransaction, key: bytes) -> bool:
        return txn.delete(key, db=self._handle)

    def keys(self, txn: Transaction, start: bytes = b"") -> Iterator[bytes]:
        """Yield the keys from `start` on, in order."""
        with txn.cursor(self._handle) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key in cursor.iternext(keys=True, values=False):
                    yield bytes(key)

    def last_key(self, txn: Transaction, before: bytes) -> bytes | None:
        """Return the greatest key less than `before`."""
        with txn.cursor(self._handle) as cursor:
            found = cursor.prev() if cursor.set_range(before) else cursor.last()
            return bytes(cursor.key()) if found else None

    def items(self, txn: Transaction, start: bytes = b"") -> Iterator[tuple[bytes, T | Damaged]]:
        """Yield keys from `start` on with their values; a damaged value comes as the error that names it."""
        with txn.cursor(self._handle) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for raw_key, sealed in cursor.iternext():
                    key = bytes(raw_key)
                    try:
                        yield key, self._open(key, sealed)
                    except Damaged as damage:
                        yield key, damage

    def count(self, txn: Transaction) -> int:
        return int(txn.stat(self._handle)["entries"])

    def bytes_used(self, txn: Transaction) -> int:
        """Return the bytes of the pages that hold this table."""
        stat = txn.stat(self._handle)
        return int(stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]))

    def _open(self, key: bytes, sealed: Bytes) -> T:
        payload = unseal(self.name, key, sealed)
        try:
            return self._decode(payload)
        except Damaged:
            raise
        except Corrupted as error:
            raise Damaged(self.name, key, str(error)) from error


class Environment:
    """An LMDB environment, opened once in a process and never carried across a fork.

    `durable` commits sync data and meta page; without it a power failure may undo the last commits, never tear them.
    """

    def __init__(self, path: Path, map_bytes: int, durable: bool) -> None:
        self.path = path
        self._tables: dict[str, Table[Any]] = {}
        if (path / DATA_FILE).exists():
            with disk_errors(f"reading {path / DATA_FILE}"):
                check_meta_pages(path / DATA_FILE)
        with self._errors():
            self.lmdb = lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=_TABLES_MAX,
                max_readers=READERS_MAX,
                max_spare_txns=_SPARE_TRANSACTIONS,
                metasync=durable,
                readahead=False,
            )
            # Readers of a process that was killed would keep its pages from ever being used again.
            self.lmdb.reader_check()
        with closed_on_failure(self):
            self._fill_up()

    @classmethod
    def create(cls, path: Path, map_bytes: int, durable: bool) -> "Environment":
        """Make an empty environment whose files survive a power failure."""
        make_directory(path)
        environment = cls(path, map_bytes, durable)
        sync_directory(path)
        return environment

    def table(self, name: str, encode: Callable[[T], bytes], decode: Callable[[Bytes], T]) -> Table[T]:
        """Open a table, made if need be; not within a transaction, because it takes one itself."""
        with self._errors():
            table = Table(self.lmdb, name, encode, decode)
        self._tables[name] = table
        return table

    @contextmanager
    def reading(self) -> Iterator["lmdb.Transaction[memoryview]"]:
        """Read one unchanging state. Keep it short: pages that it sees cannot be used again.

        What is read is memory of the map: copy it before the transaction ends.
        """
        with self._errors(), self.lmdb.begin(buffers=True) as txn:
            yield txn

    @contextmanager
    def writing(self) -> Iterator[WriteTransaction]:
        """Change the environment: all of it is committed at the end, none of it when an exception leaves the block.

        Raises:
            ResourceExhausted: the disk or the map is full; nothing was changed.
        """
        with self._errors(), self.lmdb.begin(write=True) as txn:
            yield txn
            points.reached(points.BEFORE_COMMIT, self.path)
        points.reached(points.COMMITTED, self.path)

    def bytes_used(self, txn: Transaction) -> int:
        """Return the bytes of all pages that hold data; the file may hold free ones besides."""
        return sum(table.bytes_used(txn) for table in self._tables.values())

    def close(self) -> None:
        self.lmdb.close()

    def _fill_up(self) -> None:
        # Memory beyond the end of its file cannot be read: the process would end there, with SIGBUS. Filled up with
        # zeros, which are no page to LMDB, what was cut off is found missing like any other damage. A file may also be
        # short when all is well, by pages at its end that a transaction took and gave back.
        file = self.path / DATA_FILE
        with self._errors():
            reach = (int(self.lmdb.info()["last_pgno"]) + 1) * int(self.lmdb.stat()["psize"])
        size = file.stat().st_size
        if reach - size > _SHORT_BYTES_MAX:
            raise Corrupted(
                f"{file} is cut short: it has {size} bytes, its pages reach {reach}; restore it from a copy"
            )
        if reach > size:
            with disk_errors(f"filling up {file}"):
                os.truncate(file, reach)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise _translated(error, self.path) from error


@contextmanager
def closed_on_failure(environment: Environment) -> Iterator[None]:
    """Close an environment that could not be made ready, so that it can be tried again in this process."""
    try:
        yield
    except BaseException:
        environment.close()
        raise


def _is_full(error: lmdb.Error, path: Path) -> bool:
    if error.code in FULL:
        return True
    if error.code != errno.EIO:
        return False
    # LMDB calls a write that the disk took only in part an input/output error, so try whether there is space.
    try:
        write_file(path / "space", bytes(_PROBE_BYTES))
        remove_file(path / "space")
    except ResourceExhausted:
        return True
    return False


def _translated(error: lmdb.Error, path: Path) -> Memory3Error:
    if isinstance(error, _MAP_FULL) or _is_full(error, path):
        return ResourceExhausted(f"no space is left for {path}: {error}; nothing was changed; free space and try again")
    if isinstance(error, _BROKEN):
        return Corrupted(f"the LMDB environment {path} is damaged: {error}; restore it from a copy")
    if isinstance(error, lmdb.ReadersFullError):
        return ResourceExhausted(f"more than {READERS_MAX} readers at once in {path}; try again")
    return Unavailable(f"LMDB refuses {path}: {error}")
