"""The data directory: one process at a time, its collections, and the version of its format."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from . import limits
from .backup.progress import Progress, one_at_a_time
from .catalog import Catalog, read_catalog, write_catalog
from .collection import Collection
from .disk.durable import TEMPORARY, disk_errors, make_directory, write_file
from .disk.environment import DATA_FILE, DEADLY_FILE, UNFIT_FILE
from .disk.lock_file import DirectoryLock
from .disk.set_aside import WALK_AFTER, set_aside
from .errors import AlreadyExists, Corrupted, FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from .format import FORMAT, check_format
from .shard.shard import KEY_VALUES
from .types import CollectionInfo, CompactReport, Quotas
from .validation import check_collection, check_collection_name

_MAGIC = "memory3 data directory"
_FORMAT = "format.json"
CATALOG = "catalog.json"
_COLLECTIONS = "collections"
_LOCK = "lock"
_SHARDS = f"{_COLLECTIONS}/[0-9]*/shard-*"
_UNFINISHED = tuple(
    name + TEMPORARY
    for name in (
        _FORMAT,
        CATALOG,
        "server.json",
        f"{_SHARDS}/index.snapshot",
        f"{_SHARDS}/*/space",
        f"{_SHARDS}/*/{DATA_FILE}",
        f"{_SHARDS}/*/{DEADLY_FILE}",
        f"{_SHARDS}/*/{UNFIT_FILE}",
    )
)
"""What a crash while a file is written may leave, as patterns; any other file of that ending is somebody's own."""
_NUMBER = re.compile("[0-9]{8,}")


class DataDirectory:
    """A data directory, open and locked. Collections are opened when first asked for."""

    def __init__(self, path: Path, lock: DirectoryLock, catalog: Catalog, quotas: Quotas) -> None:
        self.path = path
        self._lock_file = lock
        self._catalog = catalog
        self._quotas = quotas
        self._open: dict[str, Collection] = {}
        self._mutex = threading.RLock()
        self._closed = False
        self.maintenance = threading.Lock()
        """Held by a backup or a compaction: each reads and writes as much as the disk gives."""

    @classmethod
    def open(cls, path: str | Path, quotas: Quotas | None = None) -> "DataDirectory":
        """Open a data directory, or make one where there is nothing; `quotas` are those of each collection.

        Raises:
            DirectoryInUse: another opener has it; names the address where it is served.
            UnsupportedFormat: it was written in another format version.
            FailedPrecondition: there are other things in it.
            Corrupted: its catalog is damaged.
        """
        path = Path(path).absolute()
        _check_ours(path)
        make_directory(path)
        lock = DirectoryLock(path)
        try:
            directory = cls(path, lock, _catalog(path), quotas or Quotas())
            directory._sweep()
            return directory
        except BaseException:
            lock.release()
            raise

    def publish(self, address: str) -> None:
        """Tell later openers that this directory is served at `address` ("host:port")."""
        with self._using():
            self._lock_file.publish(address)

    def collections(self) -> list[CollectionInfo]:
        """Return the settings of every collection, by name."""
        with self._using():
            return sorted((info for info, _ in self._catalog.collections.values()), key=lambda info: info.name)

    def collection(self, name: str) -> Collection:
        """Return a collection, which belongs to the directory: closing the directory closes it.

        Raises:
            NotFound: there is none of this name.
        """
        with self._using():
            if name not in self._open:
                info, number = self._entry(name)
                self._set_aside_damaged(self._directory(number))
                self._open[name] = Collection.open(self._directory(number), info, self._quotas)
            return self._open[name]

    def create_collection(self, name: str, embedder: str, dimension: int, shards: int | None = None) -> Collection:
        """Make a collection of one shard or of `shards`, or return the one that has this name and these settings.

        Raises:
            AlreadyExists: one of this name has other settings.
            InvalidArgument: the name or a setting is not valid.
        """
        info = CollectionInfo(name, embedder, dimension, 1 if shards is None else shards)
        check_collection(info)
        with self._using():
            if name in self._catalog.collections:
                self._check_same(info if shards is not None else replace(info, shards=self._entry(name)[0].shards))
                return self.collection(name)
            if len(self._catalog.collections) >= limits.COLLECTIONS_MAX:
                raise ResourceExhausted(
                    f"{limits.COLLECTIONS_MAX} collections exist, no more are allowed; drop one first"
                )
            # Files first, catalog second: a crash in between leaves files that nobody names, swept at the next open.
            path = self._directory(self._catalog.next_directory)
            shutil.rmtree(path, ignore_errors=True)
            collection = Collection.create(path, info, self._quotas)
            try:
                self._write(self._catalog.with_collection(info))
            except BaseException:
                collection.close(save=False)
                raise
            self._open[name] = collection
            return collection

    def catalog(self) -> Catalog:
        """Return the catalog as it is now."""
        with self._using():
            return self._catalog

    def opened(self) -> tuple[Catalog, dict[str, Collection]]:
        """Return the catalog as it is now with every collection that it names, opened.

        Raises:
            Corrupted: one of them is damaged.
        """
        with self._using():
            return self._catalog, {name: self.collection(name) for name in self._catalog.collections}

    def compact(self, name: str, progress: Progress | None = None) -> CompactReport:
        """Compact a collection, one at a time in a directory and none while a backup runs; who comes second waits.

        Raises:
            NotFound: there is none of this name.
        """
        collection = self.collection(name)
        with one_at_a_time(self.maintenance, progress):
            return collection.compact(progress)

    def drop_collection(self, name: str) -> None:
        """Forget a collection with everything in it; calls under way on it end first, later ones are Unavailable.

        Raises:
            NotFound: there is none of this name.
        """
        with self._using():
            _, number = self._entry(name)
            # Catalog first, files second: a crash in between leaves files that nobody names.
            self._write(self._catalog.without(name))
            collection = self._open.pop(name, None)
            if collection is not None:
                collection.close(save=False)
            shutil.rmtree(self._directory(number), ignore_errors=True)

    def close(self) -> None:
        """Close every collection and let go of the directory."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            with ExitStack() as closing:
                closing.callback(self._lock_file.release)
                for collection in self._open.values():
                    closing.callback(collection.close)

    def __enter__(self) -> "DataDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._mutex:
            if self._closed:
                raise Unavailable(f"data directory {self.path} is closed")
            yield

    def _entry(self, name: str) -> tuple[CollectionInfo, int]:
        check_collection_name(name)
        if name not in self._catalog.collections:
            raise NotFound(f"there is no collection {name!r}; create it first")
        return self._catalog.collections[name]

    def _check_same(self, info: CollectionInfo) -> None:
        found, _ = self._entry(info.name)
        if found != info:
            raise AlreadyExists(
                f"collection {info.name!r} has embedder {found.embedder!r}, dimension {found.dimension} and "
                f"{found.shards} shards, asked for are {info.embedder!r}, {info.dimension} and {info.shards}; "
                "choose another name or drop it first"
            )

    def _set_aside_damaged(self, collection: Path) -> None:
        environments = sorted(file.parent for file in collection.glob(f"shard-*/*/{DATA_FILE}"))
        derived = [environment for environment in environments if environment.name == KEY_VALUES]
        set_aside(environments, derived, self._lock_file.unreleased)
        if self._lock_file.unreleased >= WALK_AFTER:
            self._lock_file.begin_anew()

    def _directory(self, number: int) -> Path:
        return self.path / place_of(number)

    def _write(self, catalog: Catalog) -> None:
        write_catalog(self.path / CATALOG, catalog)
        self._catalog = catalog

    def _sweep(self) -> None:
        """Remove what crashes left: half-written files, and collections that the catalog does not name."""
        for temporary in [found for pattern in _UNFINISHED for found in self.path.glob(pattern)]:
            temporary.unlink(missing_ok=True)
        named = {self._directory(number) for _, number in self._catalog.collections.values()}
        if (self.path / _COLLECTIONS).is_dir():
            for found in (self.path / _COLLECTIONS).iterdir():
                if found not in named and _NUMBER.fullmatch(found.name):
                    shutil.rmtree(found, ignore_errors=True)


def place_of(number: int) -> str:
    """Return where a collection's directory is within a data directory."""
    return f"{_COLLECTIONS}/{number:08}"


def write_format(path: Path) -> None:
    """Say durably that the directory `path` is a data directory of this format version."""
    write_file(path / _FORMAT, json.dumps({"magic": _MAGIC, "format": FORMAT}).encode())


def _check_ours(path: Path) -> None:
    """Refuse a directory of something else, or of another version, before anything is written, the lock included."""
    if not path.exists():
        return
    if (path / _FORMAT).exists():
        _check_format(path / _FORMAT)
        return
    if not path.is_dir():
        raise FailedPrecondition(f"{path} is not a directory")
    # A crash before there is a format leaves no more than these.
    strangers = {entry.name for entry in path.iterdir()} - {_LOCK, _FORMAT + TEMPORARY}
    if strangers:
        raise FailedPrecondition(
            f"{path} is not a Memory3 data directory: it holds {sorted(strangers)[0]!r} and no {_FORMAT}; "
            "choose an empty directory"
        )


def _catalog(path: Path) -> Catalog:
    """Read the catalog of a locked directory, after its format; a new directory gets both."""
    if not (path / _FORMAT).exists():
        write_format(path)
    # Once more under the lock: until then another release may have had the directory.
    _check_format(path / _FORMAT)
    # The catalog is written before the first collection: without both, this directory has never been used.
    if not (path / CATALOG).exists() and not (path / _COLLECTIONS).exists():
        write_catalog(path / CATALOG, Catalog(1, {}))
    return read_catalog(path / CATALOG)


def _check_format(path: Path) -> None:
    with disk_errors(f"reading {path}"):
        data = path.read_bytes()
    try:
        fields = json.loads(data)
        if fields["magic"] != _MAGIC:
            raise FailedPrecondition(f"{path} belongs to something else: its magic is {fields['magic']!r}")
        check_format(fields, str(path.parent))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupted(f"{path} cannot be read: {error}; restore it from a copy") from error
