"""Backups: a whole and consistent copy of a data directory, made while it is read and written.

Every shard is copied as it was at one moment, a little after the backup began: all of them are frozen before the first
byte is copied. What was acknowledged before the backup began is in it. Of a shard, key-values are frozen before
records. So the records know of everything that happened to the key-values, and their log says which of those have been
forgotten in between; the first opening removes them, by the same code as after a crash. What was written in between is
cold in the copy, as it was when it was written.

The index is not copied: it is derived, changes in memory, and is built from the vectors at the first opening.
"""

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import xxhash

from ..catalog import Catalog, write_catalog
from ..collection import Collection
from ..directory import CATALOG, DataDirectory, place_of, write_format
from ..disk.durable import TEMPORARY, make_directory
from ..disk.environment import DATA_FILE
from ..errors import InvalidArgument, Unavailable
from ..types import BackupReport, CollectionBackup
from .copying import FrozenShard
from .manifest import DATA, MANIFEST, BackupFile, Manifest, write_manifest
from .progress import Progress, Tally, one_at_a_time
from .staging import check_free, check_space, staged
from .writing import write_copy

_NAMES = frozenset({DATA, MANIFEST, MANIFEST + TEMPORARY})


def back_up(directory: DataDirectory, target: str | Path, progress: Progress | None = None) -> BackupReport:
    """Copy an open data directory to the new directory `target`, of which its parent must be there.

    Reads and writes go on. A collection made after it began is not in it, one that is dropped before it is copied
    neither. `progress` is told of bytes; what it raises stops the backup, which leaves nothing behind.

    Raises:
        FailedPrecondition: the target is there and not empty.
        InvalidArgument: the target lies within the data directory, or is no path.
        NotFound: the target's parent is not there.
        ResourceExhausted: the target's disk is full, or has too little space to begin.
        Corrupted: a collection cannot be opened; a backup without it would be none.
        Unavailable: the data directory was closed meanwhile.
    """
    if "\0" in str(target):
        raise InvalidArgument(f"{str(target)!r} holds a NUL, which no path can")
    target = Path(target).absolute().resolve()
    if target.is_relative_to(directory.path.resolve()):
        raise InvalidArgument(f"{target} lies within the data directory {directory.path}; back up to another place")
    check_free(target)
    with one_at_a_time(directory.maintenance, progress), staged(target, _NAMES) as folder:
        started_at = time.time()
        catalog, collections = directory.opened()
        data = folder / DATA
        make_directory(data)
        with ExitStack() as holding:
            copies = [_CollectionCopy(name, collections[name], catalog) for name in sorted(collections)]
            for copy in copies:
                holding.callback(copy.release)
            for copy in copies:
                copy.freeze()
            total = sum(copy.bytes for copy in copies)
            check_space(folder, total)
            tally = Tally(progress, total)
            for copy in copies:
                copy.write(folder, tally)
        # Only now, when nothing is held that a drop might wait for: it holds what this look needs.
        remaining = directory.catalog()
        for copy in copies:
            if copy.left and copy.number in {number for _, number in remaining.collections.values()}:
                raise Unavailable(f"collection {copy.name!r} was closed while it was backed up; try again")
        kept = [copy for copy in copies if not copy.left]
        named = {copy.name: catalog.collections[copy.name] for copy in kept}
        write_format(data)
        write_catalog(data / CATALOG, Catalog(catalog.next_directory, named))
        small = tuple(_described(folder, path) for path in sorted(data.iterdir()) if path.is_file())
        files = small + tuple(file for copy in kept for file in copy.files)
        manifest = Manifest(started_at, tuple(copy.described() for copy in kept), files)
        write_manifest(folder, manifest)
    return manifest.report(target)


class _LeftError(Exception):
    """The collection is being dropped or closed, and waits for us."""


class _CollectionCopy:
    """A collection on its way into a backup. It is `left` out once it is dropped or closed."""

    def __init__(self, name: str, collection: Collection, catalog: Catalog) -> None:
        self.name = name
        _, self.number = catalog.collections[name]
        self.left = False
        self.files: list[BackupFile] = []
        self._place = place_of(self.number)
        self._collection = collection
        self._frozen: Mapping[str, FrozenShard] = {}
        self._holding = ExitStack()

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self._frozen.values())

    def freeze(self) -> None:
        try:
            self._frozen = self._holding.enter_context(self._collection.frozen())
        except Unavailable:
            self.left = True

    def release(self) -> None:
        self._holding.close()

    def write(self, folder: Path, tally: Tally) -> None:
        if self.left:
            return
        try:
            for name, shard in self._frozen.items():
                self._write_shard(folder, f"{DATA}/{self._place}/{name}", shard, tally)
        except _LeftError:
            self.left = True
        # At once: a drop may be waiting, and pages that are frozen are not used again.
        self.release()
        if self.left:
            shutil.rmtree(folder / DATA / self._place, ignore_errors=True)

    def described(self) -> CollectionBackup:
        shards = self._frozen.values()
        return CollectionBackup(
            self.name,
            sum(shard.documents for shard in shards),
            sum(shard.memories for shard in shards),
            tuple(shard.position for shard in shards),
        )

    def _write_shard(self, folder: Path, place: str, shard: FrozenShard, tally: Tally) -> None:
        def written(size: int) -> None:
            if shard.leaving():
                raise _LeftError
            tally.add(size)

        for name, environment in shard.environments.items():
            path = f"{place}/{name}/{DATA_FILE}"
            make_directory((folder / path).parent)
            checksum = write_copy(folder / path, environment.pieces(), written)
            self.files.append(BackupFile(path, (folder / path).stat().st_size, checksum))


def _described(folder: Path, path: Path) -> BackupFile:
    content = path.read_bytes()
    return BackupFile(path.relative_to(folder).as_posix(), len(content), xxhash.xxh3_128_hexdigest(content))
