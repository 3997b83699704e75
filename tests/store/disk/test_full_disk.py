"""A file system of a few megabytes that is really full: nothing acknowledged is lost, and all goes on afterwards."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.backup.back_up import back_up
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk.durable import free_bytes
from memory3.store.errors import ResourceExhausted

from ..builders import DIMENSION, EMBEDDER, embedded, vector_of

MODEL = "model"
VALUE_BYTES = 20_000
DISK_BYTES = 48 << 20
BATCH = 10


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system; `stranger` is a file of somebody else's."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def stranger(self) -> Path:
        return self.path / "stranger"

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)

    def fill(self) -> None:
        """Let a stranger take all that is left."""
        with open(self.stranger, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(self.path))
        assert free_bytes(self.path) == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no `mount` to make a small file system with")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@dataclass
class Acknowledged:
    """What a collection has acknowledged: texts by key, key-values by seq, and what is gone."""

    texts: dict[str, str] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)
    """Keys of the last call, which stands in some shards and not in others when it was refused."""

    def fill_up(self, collection: Collection, name: str) -> None:
        """Write documents with their key-values until one or the other is refused."""
        try:
            for number in range(10_000):
                self.write(collection, f"{name} {number}")
        except ResourceExhausted:
            return
        raise AssertionError("everything fits")

    def take_back(self, collection: Collection) -> None:
        """Delete what the call that was refused may have stored."""
        collection.delete(self.last)
        for key in self.last:
            self.texts.pop(key, None)
            if key in self.seqs:
                self.gone[key] = self.seqs.pop(key)

    def write(self, collection: Collection, name: str) -> None:
        texts = {f"{name} {n}": f"{name} {n} " + "word " * 400 for n in range(BATCH)}
        self.last = list(texts)
        results = collection.upsert([embedded(key, text) for key, text in texts.items()])
        self.texts |= texts
        self.seqs |= {result.key: result.version for result in results}
        values = {result.version: b"%d " % result.version + bytes(VALUE_BYTES) for result in results}
        values = {seq: value[:VALUE_BYTES] for seq, value in values.items()}
        assert all(collection.put_key_values(MODEL, values.items()))
        self.values |= values

    def delete(self, collection: Collection, keys: list[str]) -> None:
        assert collection.delete(keys).deleted == tuple(keys)
        for key in keys:
            del self.texts[key]
            self.gone[key] = self.seqs.pop(key)
            self.values.pop(self.gone[key], None)

    def examine(self, collection: Collection) -> None:
        """Documents, recall and key-values are what was acknowledged, and what was deleted is gone."""
        for keys in (list(self.texts), list(self.gone)):
            found = {
                key: stored.text if stored else None for key, stored in zip(keys, collection.get(keys), strict=True)
            }
            assert found == {key: self.texts.get(key) for key in keys}
        assert collection.count().documents == len(self.texts)
        live = {self.seqs[key] for key in self.texts}
        (hits,) = collection.recall(vector_of("anything")[None], 1_000, MODEL, key_values=True)
        assert {hit.seq for hit in hits} <= live and len(hits) == min(1_000, len(live))
        assert all(hit.key_values == self.values.get(hit.seq) for hit in hits)
        seqs = [*self.values, *self.gone.values()]
        assert collection.fetch_key_values(MODEL, seqs) == [self.values.get(seq) for seq in seqs]


def refuses(collection: Collection, acknowledged: Acknowledged) -> None:
    with pytest.raises(ResourceExhausted):
        collection.upsert([embedded("refused", "text")])
    with pytest.raises(ResourceExhausted):
        collection.put_key_values("another", [(next(iter(acknowledged.seqs.values())), b"value")])
    assert collection.get(["refused"]) == [None] and "another" not in collection.stats().warm


@pytest.mark.parametrize("shards", [1, 3])
def test_a_store_fills_its_disk_and_is_emptied_again(disk: Disk, shards: int) -> None:
    known = Acknowledged()
    with DataDirectory.open(disk.data) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, shards)
        known.fill_up(collection, "first")
        known.take_back(collection)
        stats = collection.stats()
        assert len(known.texts) > 300 and 0 < stats.disk_free_bytes < stats.disk_reserved_bytes
        refuses(collection, known)
        known.examine(collection)
        # One by one, which writes most.
        for key in list(known.texts)[::4]:
            known.delete(collection, [key])
        known.delete(collection, list(known.texts)[: len(known.texts) // 2])
        known.examine(collection)
        refuses(collection, known)
        assert collection.check(full=True).problems == ()
        directory.compact("default")
        known.write(collection, "second")
        known.examine(collection)
        assert collection.check(full=True).problems == ()
    with DataDirectory.open(disk.data) as directory:
        collection = directory.collection("default")
        known.examine(collection)
        known.fill_up(collection, "third")
        known.take_back(collection)
        refuses(collection, known)
        disk.resize(2 * DISK_BYTES)
        known.write(collection, "fourth")
        known.examine(collection)
        assert collection.check(full=True).problems == ()
    with DataDirectory.open(disk.data) as directory:
        known.examine(directory.collection("default"))
        assert directory.collection("default").check(full=True).problems == ()


def test_writers_that_meet_the_end_of_the_disk_together_lose_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reserve it is LMDB that comes to the end, in the midst of a commit."""
    monkeypatch.setattr(limits, "BYTES_RESERVED", 0)
    parts = [Acknowledged() for _ in range(3)]
    with DataDirectory.open(disk.data) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        threads = [
            threading.Thread(target=part.fill_up, args=(collection, f"writer {number}"))
            for number, part in enumerate(parts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        known = Acknowledged()
        for part in parts:
            known.texts |= part.texts
            known.seqs |= part.seqs
            known.values |= part.values
        assert len(known.texts) > 300
        known.examine(collection)
        with pytest.raises(ResourceExhausted):
            back_up(directory, disk.path / "backup")
        assert not list(disk.path.glob("backup*"))
        with pytest.raises(ResourceExhausted):
            collection.upsert([embedded("large", "x" * (8 << 20))])
        assert collection.check(full=True).problems == ()
    with DataDirectory.open(disk.data) as directory:
        collection = directory.collection("default")
        known.examine(collection)
        disk.resize(2 * DISK_BYTES)
        known.write(collection, "later")
        known.examine(collection)
        assert collection.check(full=True).problems == ()


READ = """
import sys
from contextlib import ExitStack
from pathlib import Path
from memory3.store.directory import DataDirectory

with DataDirectory.open(Path(sys.argv[1])) as directory:
    collection = directory.collection("default")
    shard = collection._shards[0]
    with ExitStack() as many:
        for _ in range(500):
            for environment in shard._state.environments():
                many.enter_context(environment.reading())
        assert collection.count().documents
"""


def test_a_disk_that_others_fill_is_read_and_opened(disk: Disk) -> None:
    """LMDB's readers were written into a file with holes: one more than ever before ended the process with SIGBUS."""
    known = Acknowledged()
    with DataDirectory.open(disk.data) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        for number in range(20):
            known.write(collection, f"first {number}")
        disk.fill()
        refuses(collection, known)
        known.examine(collection)
        # LMDB may find room for a delete among its own pages, or not: then nothing of it is done.
        for key in list(known.texts)[:40]:
            try:
                known.delete(collection, [key])
            except ResourceExhausted:
                assert collection.get([key]) != [None]
        known.examine(collection)
    assert subprocess.run([sys.executable, "-c", READ, str(disk.data)], timeout=60).returncode == 0
    with DataDirectory.open(disk.data) as directory:
        collection = directory.collection("default")
        refuses(collection, known)
        known.examine(collection)
        disk.stranger.unlink()
        known.delete(collection, [next(iter(known.texts))])
        known.write(collection, "second")
        known.examine(collection)
        assert collection.check(full=True).problems == ()


def test_a_restored_directory_on_a_full_disk_is_refused_and_does_not_end_the_process(disk: Disk) -> None:
    """Without a file for LMDB's readers there is none to be made."""
    known = Acknowledged()
    with DataDirectory.open(disk.data) as directory:
        known.write(directory.create_collection("default", EMBEDDER, DIMENSION), "first")
    for file in disk.data.rglob("lock.mdb"):
        file.unlink()
    disk.fill()
    ran = subprocess.run([sys.executable, "-c", READ, str(disk.data)], timeout=60, capture_output=True, text=True)
    assert ran.returncode == 1 and "ResourceExhausted" in ran.stderr
    disk.stranger.unlink()
    with DataDirectory.open(disk.data) as directory:
        known.examine(directory.collection("default"))
        assert directory.collection("default").check(full=True).problems == ()
