"""Our values to protobuf messages and back; each pair of functions is one type's whole conversion."""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..protos.memory3.v1 import types_pb2 as pb
from ..store.errors import InvalidArgument
from ..store.filters.parser import filter_from_json
from ..store.types import (
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
    IndexKind,
    IndexState,
    MemoryReads,
    Metadata,
    MetadataValue,
    StoredDocument,
    UpsertResult,
)

_FIELDS = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}
_INDEX_KINDS = {IndexKind.EXACT: pb.INDEX_KIND_EXACT, IndexKind.QUANTIZED: pb.INDEX_KIND_QUANTIZED}


def put_metadata(wire: MutableMapping[str, pb.MetadataValue], key: str, metadata: Metadata) -> None:
    """Fill in a message's metadata, those of document `key`: in place, because protobuf copies what it is given.

    Raises:
        InvalidArgument: a value is none that metadata may have, or an integer of more than 64 bits.
    """
    for name, value in metadata.items():
        field = _FIELDS.get(type(value)) or _field_of(key, name, value)
        try:
            setattr(wire[name], field, value)
        except ValueError as error:
            raise InvalidArgument(
                f"document {key!r}: metadata {name!r} is {value!r}, which cannot be sent: {error}"
            ) from error


def metadata_from_wire(metadata: Mapping[str, pb.MetadataValue]) -> dict[str, MetadataValue]:
    found: dict[str, MetadataValue] = {}
    # By key, because `items` of protobuf's maps takes several times as long.
    for name in metadata:
        value = metadata[name]
        kind = value.WhichOneof("kind")
        if kind is None:
            raise InvalidArgument(f"metadata {name!r} has no value; set one of its kinds or leave it out")
        found[name] = getattr(value, kind)
    return found


def _field_of(key: str, name: str, value: object) -> str:
    # Of classes made from these; bool first, because in Python a bool is an int too.
    for kind, field in _FIELDS.items():
        if isinstance(value, kind):
            return field
    raise InvalidArgument(
        f"document {key!r}: metadata {name!r} is of type {type(value).__name__}; use str, int, float or bool"
    )


def document_to_wire(document: Document) -> pb.Document:
    try:
        wire = pb.Document(key=document.key, text=document.text, expires_at=document.expires_at)
        put_metadata(wire.metadata, document.key, document.metadata)
        return wire
    except (UnicodeEncodeError, ValueError, TypeError) as error:
        raise InvalidArgument(
            f"document {document.key!r} cannot be sent: {error}; key and text must be text"
        ) from error


def document_from_wire(document: pb.Document) -> Document:
    expires_at = document.expires_at if document.HasField("expires_at") else None
    return Document(document.key, document.text, metadata_from_wire(document.metadata), expires_at)


def stored_to_wire(stored: StoredDocument) -> pb.StoredDocument:
    wire = pb.StoredDocument(
        key=stored.key,
        text=stored.text,
        version=stored.version,
        memories=stored.memories,
        updated_at=stored.updated_at,
        expires_at=stored.expires_at,
        reads=stored.reads,
    )
    put_metadata(wire.metadata, stored.key, stored.metadata)
    return wire


def stored_from_wire(stored: pb.StoredDocument) -> StoredDocument:
    return StoredDocument(
        key=stored.key,
        text=stored.text,
        metadata=metadata_from_wire(stored.metadata),
        version=stored.version,
        memories=tuple(stored.memories),
        updated_at=stored.updated_at,
        expires_at=stored.expires_at if stored.HasField("expires_at") else None,
        reads=tuple(stored.reads),
    )


def hit_to_wire(hit: Hit) -> pb.Hit:
    wire = pb.Hit()
    put_hit(wire, hit)
    return wire


def put_hit(wire: pb.Hit, hit: Hit) -> None:
    """Fill in a message that stands within another one, and need not be copied into it."""
    wire.key = hit.key
    wire.version = hit.version
    wire.text = hit.text
    wire.score = hit.score
    wire.seq = hit.seq
    wire.shard = hit.shard
    wire.warm = hit.warm
    put_metadata(wire.metadata, hit.key, hit.metadata)


def hit_from_wire(hit: pb.Hit, key_values: bytes | None = None) -> Hit:
    return Hit(
        key=hit.key,
        version=hit.version,
        metadata=metadata_from_wire(hit.metadata),
        text=hit.text,
        score=hit.score,
        seq=hit.seq,
        shard=hit.shard,
        warm=hit.warm,
        key_values=key_values,
    )


def vectors_to_wire(vectors: npt.NDArray[np.float32]) -> list[pb.Vector]:
    return [pb.Vector(float32_le=vector.astype("<f4").tobytes()) for vector in vectors]


def vectors_from_wire(vectors: Sequence[pb.Vector]) -> npt.NDArray[np.float32]:
    """One row for each vector.

    Raises:
        InvalidArgument: they differ in length, or one is no whole number of float32.
    """
    parts = [vector.float32_le for vector in vectors]
    lengths = set(map(len, parts))
    if len(lengths) != 1 or len(parts[0]) % 4:
        raise InvalidArgument(
            f"vectors of {sorted(lengths)} bytes; all must have the collection's dimension, four bytes each"
        )
    return np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float32, copy=False).reshape(len(parts), -1)


def upsert_result_to_wire(result: UpsertResult) -> pb.UpsertResult:
    return pb.UpsertResult(key=result.key, version=result.version, changed=result.changed, memories=result.memories)


def upsert_result_from_wire(result: pb.UpsertResult) -> UpsertResult:
    return UpsertResult(result.key, result.version, result.changed, result.memories)


def receipt_to_wire(receipt: DeleteReceipt) -> pb.DeleteReceipt:
    return pb.DeleteReceipt(
        deleted=receipt.deleted, missing=receipt.missing, memories=receipt.memories, positions=receipt.positions
    )


def receipt_from_wire(receipt: pb.DeleteReceipt) -> DeleteReceipt:
    return DeleteReceipt(tuple(receipt.deleted), tuple(receipt.missing), receipt.memories, tuple(receipt.positions))


def filter_to_wire(filter: Mapping[str, Any] | None) -> str:
    """The JSON of a filter, empty for none.

    Raises:
        InvalidArgument: it holds something that JSON does not know.
    """
    if filter is None:
        return ""
    try:
        return json.dumps(filter, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"the filter cannot be sent: {error}; see docs/filters.md for what it may hold"
        ) from error


def filter_from_wire(text: str) -> Mapping[str, Any] | None:
    """The filter of a JSON text, not yet checked; None for an empty one.

    Raises:
        InvalidArgument: it is no JSON object.
    """
    return filter_from_json(text) if text else None


def change_to_wire(change: Change) -> pb.Change:
    kind = pb.CHANGE_KIND_UPSERT if change.kind == "upsert" else pb.CHANGE_KIND_DELETE
    return pb.Change(seq=change.seq, kind=kind, key=change.key, at=change.at)


def change_from_wire(change: pb.Change) -> Change:
    return Change(change.seq, "delete" if change.kind == pb.CHANGE_KIND_DELETE else "upsert", change.key, change.at)


def count_to_wire(count: Count) -> pb.Count:
    return pb.Count(documents=count.documents, memories=count.memories)


def count_from_wire(count: pb.Count) -> Count:
    return Count(count.documents, count.memories)


def info_to_wire(info: CollectionInfo) -> pb.CollectionInfo:
    return pb.CollectionInfo(name=info.name, embedder=info.embedder, dimension=info.dimension, shards=info.shards)


def info_from_wire(info: pb.CollectionInfo) -> CollectionInfo:
    return CollectionInfo(info.name, info.embedder, info.dimension, info.shards)


def stats_to_wire(stats: CollectionStats) -> pb.CollectionStats:
    return pb.CollectionStats(
        info=info_to_wire(stats.info),
        count=count_to_wire(stats.count),
        warm=dict(stats.warm),
        records_bytes=stats.records_bytes,
        key_values_bytes=stats.key_values_bytes,
        index_bytes=stats.index_bytes,
        quarantined=stats.quarantined,
        positions=stats.positions,
        records_free_bytes=stats.records_free_bytes,
        key_values_free_bytes=stats.key_values_free_bytes,
        oldest_reader=stats.oldest_reader,
        reads=stats.reads,
        indices=map(index_to_wire, stats.indices),
        missing_shards=stats.missing_shards,
        warm_bytes=dict(stats.warm_bytes),
        memories_read=stats.memories_read,
        most_read=map(memory_reads_to_wire, stats.most_read),
        cold=dict(stats.cold),
        records_held_bytes=stats.records_held_bytes,
        key_values_held_bytes=stats.key_values_held_bytes,
        disk_free_bytes=stats.disk_free_bytes,
        disk_reserved_bytes=stats.disk_reserved_bytes,
    )


def stats_from_wire(stats: pb.CollectionStats) -> CollectionStats:
    return CollectionStats(
        info=info_from_wire(stats.info),
        count=count_from_wire(stats.count),
        warm=dict(stats.warm),
        positions=tuple(stats.positions),
        records_bytes=stats.records_bytes,
        key_values_bytes=stats.key_values_bytes,
        index_bytes=stats.index_bytes,
        quarantined=stats.quarantined,
        records_free_bytes=stats.records_free_bytes,
        key_values_free_bytes=stats.key_values_free_bytes,
        oldest_reader=stats.oldest_reader,
        reads=stats.reads,
        indices=tuple(map(index_from_wire, stats.indices)),
        missing_shards=tuple(stats.missing_shards),
        warm_bytes=dict(stats.warm_bytes),
        memories_read=stats.memories_read,
        most_read=tuple(map(memory_reads_from_wire, stats.most_read)),
        cold=dict(stats.cold),
        records_held_bytes=stats.records_held_bytes,
        key_values_held_bytes=stats.key_values_held_bytes,
        disk_free_bytes=stats.disk_free_bytes,
        disk_reserved_bytes=stats.disk_reserved_bytes,
    )


def memory_reads_to_wire(memory: MemoryReads) -> pb.MemoryReads:
    return pb.MemoryReads(key=memory.key, seq=memory.seq, reads=memory.reads)


def memory_reads_from_wire(memory: pb.MemoryReads) -> MemoryReads:
    return MemoryReads(memory.key, memory.seq, memory.reads)


def index_to_wire(index: IndexState) -> pb.IndexState:
    return pb.IndexState(
        kind=_INDEX_KINDS[index.kind],
        count=index.count,
        lists=index.lists,
        clustering=index.clustering,
        saved_at=index.saved_at,
    )


def index_from_wire(index: pb.IndexState) -> IndexState:
    kind = IndexKind.QUANTIZED if index.kind == pb.INDEX_KIND_QUANTIZED else IndexKind.EXACT
    saved_at = index.saved_at if index.HasField("saved_at") else None
    return IndexState(kind, index.count, index.lists, index.clustering, saved_at)


def report_to_wire(report: CheckReport) -> pb.CheckReport:
    return pb.CheckReport(
        documents=report.documents, memories=report.memories, key_values=report.key_values, problems=report.problems
    )


def report_from_wire(report: pb.CheckReport) -> CheckReport:
    return CheckReport(report.documents, report.memories, report.key_values, tuple(report.problems))


def progress_to_wire(done: int, total: int) -> pb.Progress:
    return pb.Progress(done=done, total=total)


def backup_to_wire(report: BackupReport) -> pb.BackupReport:
    collections = [
        pb.CollectionBackup(
            name=found.name, documents=found.documents, memories=found.memories, positions=found.positions
        )
        for found in report.collections
    ]
    return pb.BackupReport(
        path=report.path,
        started_at=report.started_at,
        collections=collections,
        files=report.files,
        bytes=report.bytes,
    )


def backup_from_wire(report: pb.BackupReport) -> BackupReport:
    collections = tuple(
        CollectionBackup(found.name, found.documents, found.memories, tuple(found.positions))
        for found in report.collections
    )
    return BackupReport(report.path, report.started_at, collections, report.files, report.bytes)


def compact_to_wire(report: CompactReport) -> pb.CompactReport:
    return pb.CompactReport(bytes_before=report.bytes_before, bytes_after=report.bytes_after)


def compact_from_wire(report: pb.CompactReport) -> CompactReport:
    return CompactReport(report.bytes_before, report.bytes_after)
