from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_KIND_UNSPECIFIED: _ClassVar[ChangeKind]
    CHANGE_KIND_UPSERT: _ClassVar[ChangeKind]
    CHANGE_KIND_DELETE: _ClassVar[ChangeKind]

class IndexKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_KIND_UNSPECIFIED: _ClassVar[IndexKind]
    INDEX_KIND_EXACT: _ClassVar[IndexKind]
    INDEX_KIND_QUANTIZED: _ClassVar[IndexKind]
CHANGE_KIND_UNSPECIFIED: ChangeKind
CHANGE_KIND_UPSERT: ChangeKind
CHANGE_KIND_DELETE: ChangeKind
INDEX_KIND_UNSPECIFIED: IndexKind
INDEX_KIND_EXACT: IndexKind
INDEX_KIND_QUANTIZED: IndexKind

class MetadataValue(_message.Message):
    __slots__ = ("string_value", "int_value", "double_value", "bool_value")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    int_value: int
    double_value: float
    bool_value: bool
    def __init__(self, string_value: _Optional[str] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., bool_value: _Optional[bool] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("key", "text", "metadata", "expires_at")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping[str, object]]] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    key: str
    text: str
    metadata: _containers.MessageMap[str, MetadataValue]
    expires_at: float
    def __init__(self, key: _Optional[str] = ..., text: _Optional[str] = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ..., expires_at: _Optional[float] = ...) -> None: ...

class StoredDocument(_message.Message):
    __slots__ = ("key", "text", "metadata", "version", "memories", "updated_at", "expires_at", "reads")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping[str, object]]] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    key: str
    text: str
    metadata: _containers.MessageMap[str, MetadataValue]
    version: int
    memories: _containers.RepeatedScalarFieldContainer[int]
    updated_at: float
    expires_at: float
    reads: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, key: _Optional[str] = ..., text: _Optional[str] = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ..., version: _Optional[int] = ..., memories: _Optional[_Iterable[int]] = ..., updated_at: _Optional[float] = ..., expires_at: _Optional[float] = ..., reads: _Optional[_Iterable[int]] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("float32_le",)
    FLOAT32_LE_FIELD_NUMBER: _ClassVar[int]
    float32_le: bytes
    def __init__(self, float32_le: _Optional[bytes] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("key", "version", "metadata", "text", "score", "seq", "shard", "warm")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping[str, object]]] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    key: str
    version: int
    metadata: _containers.MessageMap[str, MetadataValue]
    text: str
    score: float
    seq: int
    shard: int
    warm: bool
    def __init__(self, key: _Optional[str] = ..., version: _Optional[int] = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ..., text: _Optional[str] = ..., score: _Optional[float] = ..., seq: _Optional[int] = ..., shard: _Optional[int] = ..., warm: _Optional[bool] = ...) -> None: ...

class UpsertResult(_message.Message):
    __slots__ = ("key", "version", "changed", "memories")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    key: str
    version: int
    changed: bool
    memories: int
    def __init__(self, key: _Optional[str] = ..., version: _Optional[int] = ..., changed: _Optional[bool] = ..., memories: _Optional[int] = ...) -> None: ...

class DeleteReceipt(_message.Message):
    __slots__ = ("deleted", "missing", "memories", "positions")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    deleted: _containers.RepeatedScalarFieldContainer[str]
    missing: _containers.RepeatedScalarFieldContainer[str]
    memories: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, deleted: _Optional[_Iterable[str]] = ..., missing: _Optional[_Iterable[str]] = ..., memories: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("seq", "kind", "key", "at")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    kind: ChangeKind
    key: str
    at: float
    def __init__(self, seq: _Optional[int] = ..., kind: _Optional[_Union[ChangeKind, str]] = ..., key: _Optional[str] = ..., at: _Optional[float] = ...) -> None: ...

class Count(_message.Message):
    __slots__ = ("documents", "memories")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    documents: int
    memories: int
    def __init__(self, documents: _Optional[int] = ..., memories: _Optional[int] = ...) -> None: ...

class CollectionInfo(_message.Message):
    __slots__ = ("name", "embedder", "dimension", "shards")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    embedder: str
    dimension: int
    shards: int
    def __init__(self, name: _Optional[str] = ..., embedder: _Optional[str] = ..., dimension: _Optional[int] = ..., shards: _Optional[int] = ...) -> None: ...

class CollectionStats(_message.Message):
    __slots__ = ("info", "count", "warm", "records_bytes", "key_values_bytes", "index_bytes", "quarantined", "positions", "records_free_bytes", "key_values_free_bytes", "oldest_reader", "reads", "indices", "missing_shards", "warm_bytes", "memories_read", "most_read", "cold", "records_held_bytes", "key_values_held_bytes", "disk_free_bytes", "disk_reserved_bytes")
    class WarmEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class WarmBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ColdEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    INFO_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    RECORDS_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUES_BYTES_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUES_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_READER_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    WARM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_READ_FIELD_NUMBER: _ClassVar[int]
    MOST_READ_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    RECORDS_HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUES_HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    info: CollectionInfo
    count: Count
    warm: _containers.ScalarMap[str, int]
    records_bytes: int
    key_values_bytes: int
    index_bytes: int
    quarantined: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    records_free_bytes: int
    key_values_free_bytes: int
    oldest_reader: int
    reads: int
    indices: _containers.RepeatedCompositeFieldContainer[IndexState]
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    warm_bytes: _containers.ScalarMap[str, int]
    memories_read: int
    most_read: _containers.RepeatedCompositeFieldContainer[MemoryReads]
    cold: _containers.ScalarMap[str, int]
    records_held_bytes: int
    key_values_held_bytes: int
    disk_free_bytes: int
    disk_reserved_bytes: int
    def __init__(self, info: _Optional[_Union[CollectionInfo, _Mapping[str, object]]] = ..., count: _Optional[_Union[Count, _Mapping[str, object]]] = ..., warm: _Optional[_Mapping[str, int]] = ..., records_bytes: _Optional[int] = ..., key_values_bytes: _Optional[int] = ..., index_bytes: _Optional[int] = ..., quarantined: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ..., records_free_bytes: _Optional[int] = ..., key_values_free_bytes: _Optional[int] = ..., oldest_reader: _Optional[int] = ..., reads: _Optional[int] = ..., indices: _Optional[_Iterable[_Union[IndexState, _Mapping[str, object]]]] = ..., missing_shards: _Optional[_Iterable[int]] = ..., warm_bytes: _Optional[_Mapping[str, int]] = ..., memories_read: _Optional[int] = ..., most_read: _Optional[_Iterable[_Union[MemoryReads, _Mapping[str, object]]]] = ..., cold: _Optional[_Mapping[str, int]] = ..., records_held_bytes: _Optional[int] = ..., key_values_held_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., disk_reserved_bytes: _Optional[int] = ...) -> None: ...

class MemoryReads(_message.Message):
    __slots__ = ("key", "seq", "reads")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    key: str
    seq: int
    reads: int
    def __init__(self, key: _Optional[str] = ..., seq: _Optional[int] = ..., reads: _Optional[int] = ...) -> None: ...

class IndexState(_message.Message):
    __slots__ = ("kind", "count", "lists", "clustering", "saved_at")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    CLUSTERING_FIELD_NUMBER: _ClassVar[int]
    SAVED_AT_FIELD_NUMBER: _ClassVar[int]
    kind: IndexKind
    count: int
    lists: int
    clustering: bool
    saved_at: int
    def __init__(self, kind: _Optional[_Union[IndexKind, str]] = ..., count: _Optional[int] = ..., lists: _Optional[int] = ..., clustering: _Optional[bool] = ..., saved_at: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class BackupReport(_message.Message):
    __slots__ = ("path", "started_at", "collections", "files", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    started_at: float
    collections: _containers.RepeatedCompositeFieldContainer[CollectionBackup]
    files: int
    bytes: int
    def __init__(self, path: _Optional[str] = ..., started_at: _Optional[float] = ..., collections: _Optional[_Iterable[_Union[CollectionBackup, _Mapping[str, object]]]] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class CollectionBackup(_message.Message):
    __slots__ = ("name", "documents", "memories", "positions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    documents: int
    memories: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., documents: _Optional[int] = ..., memories: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ...) -> None: ...

class CompactReport(_message.Message):
    __slots__ = ("bytes_before", "bytes_after")
    BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    bytes_before: int
    bytes_after: int
    def __init__(self, bytes_before: _Optional[int] = ..., bytes_after: _Optional[int] = ...) -> None: ...

class CheckReport(_message.Message):
    __slots__ = ("documents", "memories", "key_values", "problems")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    documents: int
    memories: int
    key_values: int
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, documents: _Optional[int] = ..., memories: _Optional[int] = ..., key_values: _Optional[int] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class KeyValues(_message.Message):
    __slots__ = ("seq", "shard", "values")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    seq: int
    shard: int
    values: bytes
    def __init__(self, seq: _Optional[int] = ..., shard: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...
