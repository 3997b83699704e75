"""The values that callers, store and model exchange; plain data, no lmdb, faiss or torch.

Dimensions: `D` embedding size. Times are seconds since the epoch. A `seq` is the number of a change in its shard:
it names a memory for ever, because a memory is never changed, only replaced under a new seq (docs/format.md: seqs).
Seqs of different shards differ too, so that one alone names a memory in its collection.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

MetadataValue: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, MetadataValue]
Vector: TypeAlias = npt.NDArray[np.float32]
"""An embedding, shape (D,), float32, of length one."""


@dataclass(frozen=True, slots=True)
class Document:
    """A caller's text under a caller's key; from `expires_at` on, if given, it is as if it had been deleted."""

    key: str
    text: str
    metadata: Metadata = field(default_factory=dict)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A piece of a document, at most 128 tokens, with its embedding. The pieces of a document join to its text."""

    text: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A document ready to be stored: cut into references, each embedded.

    With an `expected_version` it is stored only where that version stands under its key; 0 means none.
    """

    document: Document
    references: Sequence[Reference]
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it stands in the store.

    `version` is the seq of its last change, `memories` the seqs of its references in the order of the text,
    `updated_at` the time of that change, `expires_at` when it ends, None for never. `reads` says how often the
    key-values of each of its memories were read.
    """

    key: str
    text: str
    metadata: Metadata
    version: int
    memories: tuple[int, ...]
    updated_at: float
    expires_at: float | None = None
    reads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory found by recall.

    `key`, `version` and `metadata` are its document's; `text` is the reference's own; `score` the cosine with the
    query, -1 to 1; `seq` names the memory, and `shard` is where it is; `warm` says whether its key-values are stored;
    `key_values` are these, if they were asked for.
    """

    key: str
    text: str
    score: float
    version: int
    metadata: Metadata
    seq: int
    shard: int = 0
    warm: bool = False
    key_values: bytes | None = field(default=None, repr=False)


class Hits(list[Hit]):
    """The hits of one query, best first; `missing_shards` could not be asked, because they are damaged."""

    def __init__(self, hits: Iterable[Hit], missing_shards: tuple[int, ...] = ()) -> None:
        super().__init__(hits)
        self.missing_shards = missing_shards

    @staticmethod
    def missing_of(hits: Sequence[Hit]) -> tuple[int, ...]:
        """Return the shards that could not be asked for these hits; a plain list has none."""
        return hits.missing_shards if isinstance(hits, Hits) else ()


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What became of one document: `changed` is False when the store already held exactly this content."""

    key: str
    version: int
    changed: bool
    memories: int


@dataclass(frozen=True, slots=True)
class DeleteReceipt:
    """What a delete removed: the keys found and forgotten, the keys that did not exist, and the memories gone.

    `positions` are seqs, one of each shard that had a part in it: every read at or after them no longer sees the keys.
    """

    deleted: tuple[str, ...]
    missing: tuple[str, ...]
    memories: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A document that came to stand under a key, or went, and the seq of that change.

    Of changes of one key that follow each other directly only the last may be told.
    """

    seq: int
    kind: Literal["upsert", "delete"]
    key: str
    at: float


@dataclass(frozen=True, slots=True)
class Page:
    """One page of documents in the order of their keys; `next_page_token` is empty on the last page."""

    documents: tuple[StoredDocument, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many live documents and memories a collection holds."""

    documents: int
    memories: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The settings that a collection keeps for life: its name, embedder, embedding size `D` and number of shards."""

    name: str
    embedder: str
    dimension: int
    shards: int = 1


@dataclass(frozen=True, slots=True)
class Quotas:
    """How many bytes on disk a collection may take; None is no limit."""

    bytes_max: int | None = None
    """Of records and key-values together: over it nothing is added, and deletes go through."""
    key_values_bytes_max: int | None = None
    """Of key-values: over it those that are read least make room, and their memories are cold again."""

    def of_shard(self, shards: int) -> "Quotas":
        """Return the share of one of so many shards."""
        return Quotas(
            None if self.bytes_max is None else self.bytes_max // shards,
            None if self.key_values_bytes_max is None else self.key_values_bytes_max // shards,
        )


class IndexKind(IntEnum):
    """How a vector index finds what is near; the numbers are those of its file (docs/format.md)."""

    EXACT = 1
    """Every vector is compared."""
    QUANTIZED = 2
    """The nearest lists are searched by codes of one byte a component; the best are ranked by their exact vectors."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """How the vector index of a shard stands."""

    kind: IndexKind
    count: int
    """Vectors in it."""
    lists: int
    clustering: bool
    """It is being clustered anew in the background."""
    saved_at: int | None
    """Seq at which it was last saved, None when there is no saved one."""


@dataclass(frozen=True, slots=True)
class MemoryReads:
    """How often a memory's key-values were read, older reads weighing less; `key` is its document's."""

    key: str
    seq: int
    reads: int


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """The state of a collection. Byte counts are bytes on disk (LMDB pages in use) unless they say otherwise."""

    info: CollectionInfo
    count: Count
    warm: Mapping[str, int]
    """Memories with key-values, by model fingerprint."""
    cold: Mapping[str, int]
    """Memories without key-values of each of these models, which are written again from their text."""
    warm_bytes: Mapping[str, int]
    """Bytes of these key-values: those of a model that serves no more are dead weight."""
    positions: tuple[int, ...]
    """Seq of the last change in each shard."""
    records_bytes: int
    key_values_bytes: int
    index_bytes: int
    """Bytes of the vector index in memory."""
    quarantined: int
    """Values that failed their checksum and are no longer served."""
    records_free_bytes: int
    """Bytes of the file of records that are dead: used again by writes, given back by `compact`."""
    key_values_free_bytes: int
    records_held_bytes: int
    """Of these, bytes that writes cannot use before the oldest read under way ends, which may see what they held."""
    key_values_held_bytes: int
    disk_free_bytes: int
    """Bytes free on the file system, as far as this process may take them; of shards on several the least."""
    disk_reserved_bytes: int
    """Of these, bytes that are kept so that deletes can be stored: whatever adds something is refused before."""
    oldest_reader: int
    """How many commits the oldest read under way lags behind: pages freed since cannot be used again until it ends."""
    reads: int
    """How often key-values were read, those of each memory that has some summed up, older reads weighing less."""
    memories_read: int
    """Memories whose key-values were ever read; `get` and `list` tell of each memory."""
    indices: tuple[IndexState, ...]
    """The vector index of each shard."""
    missing_shards: tuple[int, ...] = ()
    """Shards that are damaged and not served; what this says is of the others."""
    most_read: tuple[MemoryReads, ...] = ()
    """The memories that are read most, as many as were asked for, most reads first."""


@dataclass(frozen=True, slots=True)
class CollectionBackup:
    """What a backup holds of a collection; `positions` are the seqs of each shard's last change."""

    name: str
    documents: int
    memories: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A backup at `path`, begun at `started_at`, with the number and size of its files."""

    path: str
    started_at: float
    collections: tuple[CollectionBackup, ...]
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CompactReport:
    """The size of a collection's files on disk before and after a compaction; indices are not counted."""

    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check: `problems` names each violated invariant, and is empty when all hold."""

    documents: int
    memories: int
    key_values: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems
