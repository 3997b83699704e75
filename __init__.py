"""Memory3: explicit memory for language models.

    with memory3.open("data") as memory:          # in this process; or memory3.connect("host:port")
        memory.upsert(memory3.Document("mira", "Mira keeps bees on the roof of the old post office."))
        print(memory.ask("What does Mira keep?").result().text)

Nothing heavy is imported before it is needed: `connect` needs neither torch nor faiss nor lmdb.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from .answers import (
    Answer,
    AnswerStream,
    ChunkExplanation,
    Explained,
    Explaining,
    Finished,
    GenerationEvent,
    ReadMemory,
    Recalled,
    Text,
)
from .changes import ChangeStream
from .store.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    Corrupted,
    DeadlineExceeded,
    DirectoryInUse,
    FailedPrecondition,
    FingerprintMismatch,
    InvalidArgument,
    Memory3Error,
    NotFound,
    ResourceExhausted,
    Unavailable,
    UnsupportedFormat,
)
from .store.types import (
    BackupReport,
    Change,
    CheckReport,
    CollectionBackup,
    CollectionInfo,
    CollectionStats,
    CompactReport,
    Count,
    DeleteReceipt,
    Document,
    Hit,
    Hits,
    IndexKind,
    IndexState,
    MemoryReads,
    Page,
    Quotas,
    StoredDocument,
    UpsertResult,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import Client
    from .cluster.embedded import Embedded

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Answer",
    "AnswerStream",
    "BackupReport",
    "Cancelled",
    "Change",
    "ChangeStream",
    "CheckReport",
    "ChunkExplanation",
    "CollectionBackup",
    "CollectionInfo",
    "CollectionStats",
    "CompactReport",
    "Corrupted",
    "Count",
    "DeadlineExceeded",
    "DeleteReceipt",
    "DirectoryInUse",
    "Document",
    "Explained",
    "Explaining",
    "FailedPrecondition",
    "FingerprintMismatch",
    "Finished",
    "GenerationEvent",
    "Hit",
    "Hits",
    "IndexKind",
    "IndexState",
    "InvalidArgument",
    "Memory3Error",
    "MemoryReads",
    "NotFound",
    "Page",
    "Quotas",
    "ReadMemory",
    "Recalled",
    "ResourceExhausted",
    "StoredDocument",
    "Text",
    "Unavailable",
    "UnsupportedFormat",
    "UpsertResult",
    "connect",
    "open",
    "restore",
]


def open(
    path: str | Path,
    *,
    embedder: str | None = None,
    model: str | None = None,
    device: str = "cpu",
    shards: int = 1,
    quotas: Quotas | None = None,
) -> "Embedded":
    """Open a data directory in this process, or make one where there is nothing; a context manager.

    `embedder` is a sentence-transformers name or folder, `model` a Hugging Face name or folder; without them the
    packaged ones are used. `shards` is what a new default collection is spread over, `quotas` are those of each
    collection. Needs the extra `memory3[server]`.

    Raises:
        DirectoryInUse: another process serves it; connect to the address that the error names.
        UnsupportedFormat: it was written in another format version.
    """
    from .cluster.embedded import Embedded

    return Embedded(path, embedder=embedder, model=model, device=device, shards=shards, quotas=quotas)


def connect(address: str, *, timeout_s: float = 120.0) -> "Client":
    """Talk to the server at `address` ("host:port"); a context manager. `timeout_s` is for each call.

    Nothing is sent yet: a wrong address shows as `Unavailable` at the first call.
    """
    from .client import Client

    return Client(address, timeout_s=timeout_s)


def restore(
    backup: str | Path, path: str | Path, *, progress: "Callable[[int, int], None] | None" = None
) -> BackupReport:
    """Make the new data directory `path` of what `memory.backup` made, and return what it holds.

    Every file is compared with its checksum before anything is written. `progress` is told of bytes, each of which
    counts when it is compared and when it is written. Needs the extra `memory3[server]`.

    Raises:
        Corrupted: a file of the backup is damaged or missing; it is named.
        FailedPrecondition: there is no backup, or there is something at `path`.
        ResourceExhausted: the disk has too little space.
    """
    from .store.backup.restore import restore

    return restore(backup, path, progress)
