"""A collection: what callers of the store hold. Today it is one shard; its methods are those of the collection."""

import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from .copying import FrozenShard
from .progress import Progress, Tally
from .shard import Shard
from .types import (
    CheckReport,
    CollectionInfo,
    CollectionStats,
    CompactReport,
    Count,
    DeleteReceipt,
    Document,
    EmbeddedDocument,
    Hit,
    Page,
    StoredDocument,
    UpsertResult,
)


class Collection:
    """Documents with their memories, under one embedder. `N` queries, `D` embedding size.

    Any number of threads may call it. Changes are durable when their call returns, and seen by every call that starts
    after. Every method but `close` raises Unavailable once the collection is closed or dropped.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    @classmethod
    def create(cls, path: Path, info: CollectionInfo) -> "Collection":
        """Make an empty collection in the new directory `path`."""
        return cls(Shard.create(path / _shard_name(0), info, 0))

    @classmethod
    def open(cls, path: Path, info: CollectionInfo) -> "Collection":
        """Open what `create` made.

        Raises:
            Corrupted: its records are damaged, missing or another collection's.
        """
        return cls(Shard.open(path / _shard_name(0), info, 0))

    @property
    def info(self) -> CollectionInfo:
        return self._shard.info

    def unchanged(self, documents: Sequence[Document]) -> set[str]:
        """Return the keys of those documents that stand here with exactly this text and metadata.

        They need not be embedded: an upsert of them changes nothing.
        """
        return self._shard.unchanged(documents)

    def upsert(self, documents: Sequence[EmbeddedDocument]) -> builtins.list[UpsertResult]:
        """Store documents whole, each in the place of what stood under its key; all of them or none.

        Raises:
            InvalidArgument: a document, a reference or a vector is not valid; names its key.
            ResourceExhausted: the disk is full; nothing was changed.
        """
        return self._shard.upsert(documents)

    def delete(self, keys: Sequence[str]) -> DeleteReceipt:
        """Forget documents with all that is derived from them; a key that comes twice counts once."""
        return self._shard.delete(keys)

    def get(self, keys: Sequence[str]) -> builtins.list[StoredDocument | None]:
        """Return the document of each key, None where there is none.

        Raises:
            Corrupted: one of them is damaged; names the key. Upsert it again to mend it, or delete it.
        """
        return self._shard.get(keys)

    def list(self, limit: int, page_token: str = "") -> Page:
        """Return up to `limit` documents in the byte order of their keys, from where the token's page ended.

        Raises:
            Corrupted: one of them is damaged; names the key. Upsert it again to mend it, or delete it.
        """
        return self._shard.list(limit, page_token)

    def count(self) -> Count:
        return self._shard.count()

    def recall(
        self, vectors: npt.NDArray[np.float32], k: int, fingerprint: str | None = None
    ) -> builtins.list[builtins.list[Hit]]:
        """Return for each query (N, D), float32, of length one, its k nearest memories, best first.

        Fewer than k only when the collection holds fewer. `warm` says whether key-values of `fingerprint` are stored.
        Damaged memories are quarantined, counted in `stats`, and left out.
        """
        return self._shard.recall(vectors, k, fingerprint)

    def memories(self, seqs: Sequence[int], fingerprint: str | None = None) -> builtins.list[Hit | None]:
        """Return each memory by its seq with a score of 0, None where it is gone or damaged."""
        return self._shard.memories(seqs, fingerprint)

    def cold(self, fingerprint: str, limit: int, after: int = 0) -> builtins.list[tuple[int, str]]:
        """Return up to `limit` memories without key-values of `fingerprint`, as (seq, text), seqs over `after`."""
        return self._shard.cold(fingerprint, limit, after)

    def put_key_values(self, fingerprint: str, items: Iterable[tuple[int, bytes]]) -> builtins.list[bool]:
        """Store key-values by seq; False for each memory that is gone.

        A long stream is stored in several transactions, and what was stored stays when a later one fails.

        Raises:
            InvalidArgument: a value is empty, too large, or of another size than the fingerprint's others.
            ResourceExhausted: the disk is full, or too many fingerprints are stored.
        """
        return self._shard.put_key_values(fingerprint, items)

    def fetch_key_values(self, fingerprint: str, seqs: Sequence[int]) -> builtins.list[bytes | None]:
        """Return the key-values of each memory, None where it is gone or cold.

        Raises:
            Corrupted: some are damaged; they are removed, so the memory is cold from now on.
        """
        return self._shard.fetch_key_values(fingerprint, seqs)

    def stats(self) -> CollectionStats:
        return self._shard.stats()

    def check(self, full: bool) -> CheckReport:
        """Verify that records, log, index and key-values agree; `full` also reads every value."""
        return self._shard.check(full)

    @contextmanager
    def frozen(self) -> Iterator[Mapping[str, FrozenShard]]:
        """Hold every shard's state as it is now, by the name of its directory, while reads and writes go on."""
        with self._shard.frozen() as frozen:
            yield {_shard_name(0): frozen}

    def compact(self, progress: Progress | None = None) -> CompactReport:
        """Give free pages of the files back to the file system, where more than a tenth of a file is free.

        Reads and writes go on, and wait for a moment at the end. The copies need space on the disk. Not while it is
        frozen: `DataDirectory.compact` waits for that.

        Raises:
            ResourceExhausted: there is no space for a copy, or too much was written meanwhile; nothing is lost.
            Unavailable: the collection was closed or dropped meanwhile.
        """
        before = self._shard.file_bytes()
        self._shard.compact(Tally(progress, self._shard.bytes_to_compact()))
        return CompactReport(before, self._shard.file_bytes())

    def save(self) -> None:
        """Save the index aside, so that the next start need not read every vector.

        Raises:
            ResourceExhausted: the disk is full; nothing is lost.
        """
        self._shard.save()

    def close(self, save: bool = True) -> None:
        """Wait for calls under way, save the index unless `save` is False, and let go of the files."""
        self._shard.close(save)

    def __enter__(self) -> "Collection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shard_name(number: int) -> str:
    return f"shard-{number:04}"
