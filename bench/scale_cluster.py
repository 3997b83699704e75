"""Clustering a shard's index at rest: by the store's own code, without the pauses that it makes for callers' sake."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memory3.bench.scale_data import COLLECTION
from memory3.store.directory import DataDirectory
from memory3.store.disk.environment import DATA_FILE
from memory3.store.disk.seal import Damaged
from memory3.store.index.building import Builder, Matrix
from memory3.store.index.clustering import GiveWay
from memory3.store.index.snapshot import write_snapshot
from memory3.store.index.vector_index import Seqs, VectorIndex
from memory3.store.records import Records
from memory3.store.shard.derived import at_once

_AHEAD_BYTES = 256 << 20


class AheadBuilder(Builder):
    """Reads vectors while those before are put into lists, and tells the kernel what of the file comes next.

    LMDB maps files for access at random, so that by itself the kernel reads a page at a time.
    """

    def _vectors(self, seqs: Seqs, give_way: GiveWay) -> Iterator[tuple[list[int], Matrix]]:
        parts = super()._vectors(seqs, give_way)
        file = os.open(self._records.environment.path / DATA_FILE, os.O_RDONLY)
        try:
            size, told, done = os.fstat(file).st_size, 0, 0
            with ThreadPoolExecutor(1) as reader:
                coming = reader.submit(next, parts, None)
                while (part := coming.result()) is not None:
                    # Vectors lie in the file in the order in which they were written, about.
                    wanted = min(size, int(size * done / len(seqs)) + _AHEAD_BYTES)
                    if wanted > told:
                        os.posix_fadvise(file, told, wanted - told, os.POSIX_FADV_WILLNEED)
                    told, done = wanted, done + len(part[0])
                    coming = reader.submit(next, parts, None)
                    yield part
        finally:
            os.close(file)


def cluster_at_rest(path: Path) -> None:
    """Build the index of the only shard anew from its records, and save it."""
    with DataDirectory.open(path) as directory:
        (shard,) = path.glob("collections/*/shard-*")
        _save_new_index(shard)
        # Saved once more by the shard itself, which trims the log then.
        collection = directory.collection(COLLECTION)
        collection._shards[0]._derived._saved = None
        collection.save()


def _save_new_index(shard: Path) -> None:
    records = Records.open(shard / "records")
    try:
        with records.environment.reading() as txn:
            position = records.position(txn)
        index = VectorIndex(records.identity.dimension, records.base)
        index.adopt(AheadBuilder(records, _refuse).build(at_once), position, position)
        write_snapshot(shard / "index.snapshot", index.snapshot(records.identity.id))
    finally:
        records.environment.close()


def _refuse(damages: Sequence[Damaged]) -> None:
    if damages:
        raise damages[0]
