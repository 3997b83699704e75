"""Documents, vectors and damage for the tests of the store. `D` embedding size."""

import resource
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.types import Document, EmbeddedDocument, Metadata, Reference, Vector

DIMENSION = 16
EMBEDDER = "test embedder"
RECORDS = Path("collections/00000001/shard-0000/records")
KEY_VALUES = Path("collections/00000001/shard-0000/kv")
SNAPSHOT = Path("collections/00000001/shard-0000/index.snapshot")


def vector_of(text: str, dimension: int = DIMENSION) -> Vector:
    """Return the vector that stands for a text in every test and process, shape (D,), length one."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def embedded(
    key: str, *texts: str, metadata: Metadata | None = None, expires_at: float | None = None
) -> EmbeddedDocument:
    """Return a document made of these references."""
    references = [Reference(text, vector_of(text)) for text in texts]
    return EmbeddedDocument(Document(key, "".join(texts), metadata or {}, expires_at), references)


@contextmanager
def collection_at(path: Path) -> Iterator[Collection]:
    """Open the only collection of a data directory, made if need be."""
    with DataDirectory.open(path) as directory:
        yield directory.create_collection("default", EMBEDDER, DIMENSION)


def recalled(collection: Collection, text: str, k: int = 5) -> list[str]:
    """Return the texts found for a text, best first."""
    return [hit.text for hit in collection.recall(vector_of(text)[None], k)[0]]


def damage_value(environment: Path, table: str, key: bytes, byte: int = -1) -> None:
    """Flip a bit of a stored value in an environment that nobody has open."""
    with lmdb.open(str(environment), max_dbs=16, map_size=1 << 30) as opened:
        handle = opened.open_db(table.encode(), create=False)
        with opened.begin(write=True) as txn:
            value = bytearray(txn.get(key, db=handle) or b"")
            value[byte] ^= 1
            txn.put(key, bytes(value), db=handle)


def put_raw(environment: Path, table: str, key: bytes, value: bytes) -> None:
    """Store bytes as they are in an environment that nobody has open."""
    with lmdb.open(str(environment), max_dbs=16, map_size=1 << 30) as opened:
        handle = opened.open_db(table.encode(), create=False)
        with opened.begin(write=True) as txn:
            txn.put(key, value, db=handle)


def seq_key(seq: int) -> bytes:
    return seq.to_bytes(8, "big")


def value_key(fingerprint_number: int, seq: int) -> bytes:
    return fingerprint_number.to_bytes(4, "big") + seq.to_bytes(8, "big")


def copy_of(path: Path, to: Path) -> Path:
    shutil.copytree(path, to)
    return to


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
