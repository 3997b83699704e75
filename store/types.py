"""The values that callers, store and model exchange; plain data, no lmdb, faiss or torch.

Dimensions: `D` embedding size. Times are seconds since the epoch. A `seq` is the number of a change in its shard:
it names a memory for ever, because a memory is never changed, only replaced under a new seq (docs/format.md: seqs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

MetadataValue: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, MetadataValue]
Vector: TypeAlias = npt.NDArray[np.float32]
"""An embedding, shape (D,), float32, of length one."""


@dataclass(frozen=True, slots=True)
class Document:
    """A caller's text under a caller's key."""

    key: str
    text: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """A piece of a document, at most 128 tokens, with its embedding. The pieces of a document join to its text."""

    text: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A document ready to be stored: cut into references, each embedded."""

    document: Document
    references: Sequence[Reference]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it stands in the store.

    `version` is the seq of its last change, `memories` the seqs of its references in the order of the text,
    `updated_at` the time of that change.
    """

    key: str
    text: str
    metadata: Metadata
    version: int
    memories: tuple[int, ...]
    updated_at: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory found by recall.

    `key`, `version` and `metadata` are its document's; `text` is the reference's own; `score` the cosine with the
    query, -1 to 1; `seq` names the memory within `shard`; `warm` says whether its key-values are stored.
    """

    key: str
    text: str
    score: float
    version: int
    metadata: Metadata
    seq: int
    shard: int = 0
    warm: bool = False


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

    `position` is the seq of the delete: every read at or after it no longer sees the keys.
    """

    deleted: tuple[str, ...]
    missing: tuple[str, ...]
    memories: int
    position: int


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
    """The settings that a collection keeps for life: its name, embedder and embedding size `D`."""

    name: str
    embedder: str
    dimension: int
    shards: int = 1


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """The state of a collection. Byte counts are bytes on disk (LMDB pages in use) unless they say otherwise."""

    info: CollectionInfo
    count: Count
    warm: Mapping[str, int]
    """Memories with key-values, by model fingerprint."""
    position: int
    """Seq of the last change."""
    records_bytes: int
    key_values_bytes: int
    index_bytes: int
    """Bytes of the vector index in memory."""
    quarantined: int
    """Values that failed their checksum and are no longer served."""
    records_free_bytes: int
    """Bytes of the file of records that hold nothing: used again by writes, given back by `compact`."""
    key_values_free_bytes: int
    oldest_reader: int
    """How many commits the oldest read under way lags behind: pages freed since cannot be used again until it ends."""


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
