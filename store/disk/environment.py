"""LMDB environments and their tables of sealed values; LMDB's errors become ours here and nowhere else."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

import lmdb

from ..errors import Corrupted, Memory3Error, ResourceExhausted, Unavailable
from ..limits import READERS_MAX, TOUCHED_MAX
from . import points
from .durable import FULL, disk_errors, make_directory, remove_file, sync_directory, write_file
from .free_pages import bytes_freed_since
from .locks import NestingReadWriteLock
from .meta_pages import check_meta_pages
from .seal import Bytes, Damaged, seal, unseal
from .turns import READS

T = TypeVar("T")
Transaction: TypeAlias = "lmdb.Transaction[bytes] | lmdb.Transaction[memoryview]"
WriteTransaction: TypeAlias = "lmdb.Transaction[bytes]"

DATA_FILE = "data.mdb"
DEADLY_FILE = "deadly"
"""Its presence says that the environment must not be opened, and its text why (set_aside.py)."""
UNFIT_FILE = "unfit"
"""Its presence says that the environment must not be changed, and its text why."""
TABLES_MAX = 16
_SPARE_TRANSACTIONS = 32
_METAS = 2
_PROBE_BYTES = 1 << 20
_LOCK_FILE = "lock.mdb"
_LOCK_BYTES = READERS_MAX * 64 + 4_096
"""A line of the processor's cache for each reader, and what LMDB keeps before them."""
_SHORT_BYTES_MAX = 1 << 30
"""What one transaction may take and give back at the end of a file."""
_MAP_FULL = (lmdb.MapFullError, lmdb.TxnFullError)
BROKEN = (
    *(lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError),
    # What LMDB says when the record of a table is damaged: it takes the caller for one who uses it wrongly.
    *(lmdb.BadTxnError, lmdb.BadDbiError, lmdb.BadValsizeError, lmdb.IncompatibleError),
)
"""What LMDB raises when it comes to damage, within a transaction of `reading` or `writing`."""


class Touched:
    """The values that changes have touched, as (table, key); `missed` when there were too many to remember."""

    def __init__(self) -> None:
        self.keys: set[tuple[str, bytes]] = set()
        self.missed = False

    def add(self, table: str, key: bytes) -> None:
        if len(self.keys) < TOUCHED_MAX:
            self.keys.add((table, key))
        else:
            self.missed = True


class Table(Generic[T]):
    """One LMDB database: values of type T, encoded, sealed on the way in and verified on the way out."""

    def __init__(
        self,
        environment: lmdb.Environment,
        name: str,
        encode: Callable[[T], bytes],
        decode: Callable[[Bytes], T],
        touch: Callable[[str, bytes], None],
    ) -> None:
        self.name = name
        self.open(environment)
        self._touch = touch
        self._encode = encode
        self._decode = decode

    def open(self, environment: lmdb.Environment) -> None:
        """Take the handle of this table, made if need be; anew after the environment was opened anew."""
        self._handle = environment.open_db(self.name.encode())

    def get(self, txn: Transaction, key: bytes) -> T | None:
        """Return the value under `key`, None when there is none.

        Raises:
            Damaged: there is one, and it is not what was written there.
        """
        sealed = txn.get(key, None, self._handle)
        return None if sealed is None else self._open(key, sealed)

    def payload(self, txn: Transaction, key: bytes) -> memoryview | None:
        """Return the bytes of the value under `key`, verified and not decoded, None when there is none.

        Raises:
            Damaged: there is one, and it is not what was written there.
        """
        sealed = txn.get(key, None, self._handle)
        return None if sealed is None else unseal(self.name, key, sealed)

    def exists(self, txn: Transaction, key: bytes) -> bool:
        """Say whether a value stands under `key`, without reading it."""
        return txn.get(key, None, self._handle) is not None

    def put(self, txn: WriteTransaction, key: bytes, value: T, append: bool = False) -> None:
        """Store a value. `append` is quicker and only right when `key` is greater than all that stand."""
        self._touch(self.name, key)
        txn.put(key, seal(self.name, key, self._encode(value)), db=self._handle, append=append)

    def delete(self, txn: WriteTransaction, key: bytes) -> bool:
        self._touch(self.name, key)
        return txn.delete(key, db=self._handle)

    def sealed(self, txn: Transaction, key: bytes) -> Bytes | None:
        """Return the bytes stored under `key` as they are, for a copy of them."""
        return txn.get(key, None, self._handle)

    def keys(self, txn: Transaction, start: bytes = b"") -> Iterator[bytes]:
        """Yield the keys from `start` on, in order."""
        with txn.cursor(self._handle) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key in cursor.iternext(keys=True, values=False):
                    yield bytes(key)

    def bytes_of_keys(self, txn: Transaction) -> int:
        """Return the bytes of all keys, each of which is read, in less time than `keys` takes (bench/walk.py)."""
        with txn.cursor(self._handle) as cursor:
            return sum(map(len, cursor.iternext(keys=True, values=False))) if cursor.first() else 0

    def last_key(self, txn: Transaction, before: bytes | None = None) -> bytes | None:
        """Return the greatest key, of those less than `before` if given."""
        with txn.cursor(self._handle) as cursor:
            found = cursor.prev() if before is not None and cursor.set_range(before) else cursor.last()
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
        return _bytes_of(txn.stat(self._handle))

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
        self.map_bytes = map_bytes
        self._durable = durable
        self._tables: list[Table[Any]] = []
        self._in_use = NestingReadWriteLock()
        self._touched: Touched | None = None
        self.unfit: str | None = None
        """Why this must not be changed; None if it may."""
        self.broken = False
        """LMDB came to damage, since this was opened or its data replaced."""
        self._open()

    @classmethod
    def create(cls, path: Path, map_bytes: int, durable: bool) -> "Environment":
        """Make an empty environment whose files survive a power failure."""
        make_directory(path)
        environment = cls(path, map_bytes, durable)
        sync_directory(path)
        return environment

    def table(self, name: str, encode: Callable[[T], bytes], decode: Callable[[Bytes], T]) -> Table[T]:
        """Open a table, made if need be; not within a transaction, because it takes one itself."""
        with self.errors():
            table = Table(self.lmdb, name, encode, decode, self._touch)
        self._tables.append(table)
        return table

    def reading(self) -> "Reading":
        """Return a context that reads one unchanging state. Keep it short: pages that it sees cannot be used again.

        What is read is memory of the map: copy it before the transaction ends.
        """
        return Reading(self)

    @contextmanager
    def writing(self) -> Iterator[WriteTransaction]:
        """Change the environment: all of it is committed at the end, none of it when an exception leaves the block.

        Raises:
            ResourceExhausted: the disk or the map is full; nothing was changed.
            Corrupted: its pages do not fit together, so that a change might do more harm.
        """
        self._check_fit()
        with self._in_use.reading(), self.errors(), self.lmdb.begin(write=True) as txn:
            # The commit itself waits for the disk, and is nobody's turn.
            with READS.turn(ahead=True):
                yield txn
            points.reached(points.BEFORE_COMMIT, self.path)
        points.reached(points.COMMITTED, self.path)

    @contextmanager
    def part(self, txn: WriteTransaction) -> Iterator[WriteTransaction]:
        """Change a part of a transaction: when an exception leaves the block only that part is undone."""
        with self.errors(), self.lmdb.begin(write=True, parent=txn) as part:
            yield part

    def bytes_used(self, txn: Transaction) -> int:
        """Return the bytes of all pages in use, which is the size of a compact copy; the file may hold free ones."""
        tables = sum(table.bytes_used(txn) for table in self.by_name().values())
        # And LMDB's own table of tables, and the two meta pages.
        return tables + _bytes_of(txn.stat()) + _METAS * _page(txn)

    def counts(self, txn: Transaction) -> dict[str, int]:
        """Return how many values each table holds."""
        return {name: table.count(txn) for name, table in self.by_name().items()}

    def free_bytes(self, txn: Transaction) -> int:
        """Return the bytes of the data file that hold nothing."""
        return max(0, self.file_bytes() - self.bytes_used(txn))

    def held_bytes(self, txn: Transaction) -> int:
        """Return how many of these cannot be used again before a read older than `txn` ends.

        Raises:
            Corrupted: LMDB's list of free pages is damaged.
        """
        oldest = self._oldest_seen()
        if oldest is None or oldest >= txn.id():
            return 0
        # Not `broken` by what this finds: LMDB itself met no damage, and no key-values should begin anew for a figure.
        with disk_errors(f"reading {self.path / DATA_FILE}"):
            return bytes_freed_since(self.path / DATA_FILE, oldest)

    def reach(self) -> int:
        """Return the end of the last page that was ever used; what lies before may be free."""
        with self._in_use.reading():
            return self._reach()

    def file_bytes(self) -> int:
        """Return the size of the data file."""
        with disk_errors(f"looking at {self.path / DATA_FILE}"):
            return (self.path / DATA_FILE).stat().st_size

    def oldest_reader(self) -> int:
        """Return how many transactions the oldest read under way lags behind the last one; 0 without any."""
        with self.errors():
            last = int(self.lmdb.info()["last_txnid"])
        oldest = self._oldest_seen()
        return 0 if oldest is None else last - oldest

    def watch(self) -> Touched:
        """Begin anew to gather which values are written and removed, and return what was gathered so far.

        Every change is seen by the reads that start after this, or is gathered from now on: one under way is waited
        for.

        Raises:
            Corrupted: its pages do not fit together, so that it is not changed.
        """
        self._check_fit()
        with self._in_use.reading(), self.errors(), self.lmdb.begin(write=True):
            gathered, self._touched = self._touched or Touched(), Touched()
        return gathered

    def unwatch(self) -> None:
        self._touched = None

    def by_name(self) -> dict[str, Table[Any]]:
        """Return the tables, each once, however many views there are of it."""
        return {table.name: table for table in self._tables}

    def replace_data(self, copy: Path) -> None:
        """Put a durable copy in the place of the data file, and go on with it.

        Transactions under way are waited for, new ones wait; nobody may have changed anything since the copy was made.
        A crash leaves the old file or the copy.
        """
        data = self.path / DATA_FILE
        # Held open, the old file is freed after the swap and not in it: that takes long when it is large.
        with disk_errors(f"replacing {data}"), open(data, "rb"), self._in_use.writing():
            self.lmdb.close()
            try:
                points.reached(points.BEFORE_RENAME, data)
                os.replace(copy, data)
                self.broken = False
                sync_directory(self.path)
                points.reached(points.RENAMED, data)
            finally:
                # Whichever of the two stands there now.
                self._open()

    def close(self) -> None:
        self.lmdb.close()

    def _touch(self, table: str, key: bytes) -> None:
        # Within a write transaction, of which there is one at a time.
        if self._touched is not None:
            self._touched.add(table, key)

    def _open(self) -> None:
        deadly = self._told(DEADLY_FILE)
        if deadly is not None:
            raise Corrupted(
                f"{self.path} is damaged: {deadly}; restore it from a copy, and remove {self.path / DEADLY_FILE}"
            )
        self.unfit = self._told(UNFIT_FILE)
        if (self.path / DATA_FILE).exists():
            with disk_errors(f"reading {self.path / DATA_FILE}"):
                check_meta_pages(self.path / DATA_FILE)
        self._fill_lock_file()
        with self.errors():
            self.lmdb = lmdb.open(
                str(self.path),
                map_size=self.map_bytes,
                max_dbs=TABLES_MAX,
                max_readers=READERS_MAX,
                max_spare_txns=_SPARE_TRANSACTIONS,
                metasync=self._durable,
                readahead=False,
            )
            # Readers of a process that was killed would keep its pages from ever being used again.
            self.lmdb.reader_check()
        with closed_on_failure(self):
            self._fill_up()
        with self.errors():
            for table in self._tables:
                table.open(self.lmdb)

    def _told(self, name: str) -> str | None:
        file = self.path / name
        with disk_errors(f"reading {file}"):
            return file.read_text(errors="replace") if file.exists() else None

    def _check_fit(self) -> None:
        if self.unfit is not None:
            raise Corrupted(
                f"{self.path} is damaged: {self.unfit}; it can be read, and not changed: restore it from a copy and "
                f"remove {self.path / UNFIT_FILE}, or store its documents in another collection"
            )

    def _oldest_seen(self) -> int | None:
        """Return the commit up to which the oldest read under way sees; None without any."""
        with self.errors():
            # A line for each reader: process, thread, transaction, which is "-" for one that has ended.
            lines = [line.split() for line in self.lmdb.readers().splitlines()[1:]]
        return min((int(fields[2]) for fields in lines if len(fields) == 3 and fields[2].isdigit()), default=None)

    def _reach(self) -> int:
        with self.errors():
            return (int(self.lmdb.info()["last_pgno"]) + 1) * int(self.lmdb.stat()["psize"])

    def _fill_lock_file(self) -> None:
        # LMDB writes its readers into memory over this file. Where that had no place on the disk yet, and the disk is
        # full, the process would end, with SIGBUS, when more read at once than ever before. Only before LMDB opens it:
        # closing it here would let go of LMDB's lock on it.
        with disk_errors(f"making room in {self.path / _LOCK_FILE}"):
            file = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # Not on every system: where it is not, that end remains.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file, 0, _LOCK_BYTES)
            finally:
                os.close(file)

    def _fill_up(self) -> None:
        # Memory beyond the end of its file cannot be read: the process would end there, with SIGBUS. Filled up with
        # zeros, which are no page to LMDB, what was cut off is found missing like any other damage. A file may also be
        # short when all is well, by pages at its end that a transaction took and gave back.
        file = self.path / DATA_FILE
        reach = self._reach()
        size = file.stat().st_size
        if reach - size > _SHORT_BYTES_MAX:
            raise Corrupted(
                f"{file} is cut short: it has {size} bytes, its pages reach {reach}; restore it from a copy"
            )
        if reach > size:
            with disk_errors(f"filling up {file}"):
                os.truncate(file, reach)

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise self._noted(error) from error

    def _noted(self, error: lmdb.Error) -> Memory3Error:
        translated = _translated(error, self.path)
        self.broken = self.broken or isinstance(translated, Corrupted)
        return translated


class Reading:
    """A read of an environment under way; a class of its own, because a generator takes several times as long."""

    __slots__ = ("_environment", "_txn")

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def __enter__(self) -> "lmdb.Transaction[memoryview]":
        self._environment._in_use.enter()
        try:
            self._txn = self._environment.lmdb.begin(buffers=True)
        except BaseException as error:
            self._end(error)
            raise
        return self._txn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._txn.abort()
        finally:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._environment._in_use.leave()
        if isinstance(error, lmdb.Error):
            raise self._environment._noted(error) from error


def _bytes_of(stat: Mapping[str, Any]) -> int:
    return int(stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]))


def _page(txn: Transaction) -> int:
    return int(txn.stat()["psize"])


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
    if isinstance(error, BROKEN):
        return Corrupted(f"the LMDB environment {path} is damaged: {error}; restore it from a copy")
    if isinstance(error, lmdb.ReadersFullError):
        return ResourceExhausted(f"more than {READERS_MAX} readers at once in {path}; try again")
    return Unavailable(f"LMDB refuses {path}: {error}")
