from . import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpsertRequest(_message.Message):
    __slots__ = ("collection", "documents", "expected_versions", "request_id")
    class ExpectedVersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    documents: _containers.RepeatedCompositeFieldContainer[_types_pb2.Document]
    expected_versions: _containers.ScalarMap[str, int]
    request_id: str
    def __init__(self, collection: _Optional[str] = ..., documents: _Optional[_Iterable[_Union[_types_pb2.Document, _Mapping[str, object]]]] = ..., expected_versions: _Optional[_Mapping[str, int]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpsertResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_types_pb2.UpsertResult]
    def __init__(self, results: _Optional[_Iterable[_Union[_types_pb2.UpsertResult, _Mapping[str, object]]]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "keys", "filter", "expected_versions", "request_id")
    class ExpectedVersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    expected_versions: _containers.ScalarMap[str, int]
    request_id: str
    def __init__(self, collection: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., expected_versions: _Optional[_Mapping[str, int]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: _types_pb2.DeleteReceipt
    def __init__(self, receipt: _Optional[_Union[_types_pb2.DeleteReceipt, _Mapping[str, object]]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("collection", "keys")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, collection: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("documents",)
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[_types_pb2.StoredDocument]
    def __init__(self, documents: _Optional[_Iterable[_Union[_types_pb2.StoredDocument, _Mapping[str, object]]]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("collection", "limit", "page_token", "filter")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    limit: int
    page_token: str
    filter: str
    def __init__(self, collection: _Optional[str] = ..., limit: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("documents", "next_page_token")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[_types_pb2.StoredDocument]
    next_page_token: str
    def __init__(self, documents: _Optional[_Iterable[_Union[_types_pb2.StoredDocument, _Mapping[str, object]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("collection", "filter")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: str
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: _types_pb2.Count
    def __init__(self, count: _Optional[_Union[_types_pb2.Count, _Mapping[str, object]]] = ...) -> None: ...

class RecallRequest(_message.Message):
    __slots__ = ("collection", "texts", "vectors", "k", "filter", "fingerprint", "held")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    collection: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    vectors: _containers.RepeatedCompositeFieldContainer[_types_pb2.Vector]
    k: int
    filter: str
    fingerprint: str
    held: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, collection: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., vectors: _Optional[_Iterable[_Union[_types_pb2.Vector, _Mapping[str, object]]]] = ..., k: _Optional[int] = ..., filter: _Optional[str] = ..., fingerprint: _Optional[str] = ..., held: _Optional[_Iterable[int]] = ...) -> None: ...

class RecallResponse(_message.Message):
    __slots__ = ("results", "key_values")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Hits]
    key_values: _containers.RepeatedCompositeFieldContainer[_types_pb2.KeyValues]
    def __init__(self, results: _Optional[_Iterable[_Union[Hits, _Mapping[str, object]]]] = ..., key_values: _Optional[_Iterable[_Union[_types_pb2.KeyValues, _Mapping[str, object]]]] = ...) -> None: ...

class Hits(_message.Message):
    __slots__ = ("hits", "missing_shards")
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hit]
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hits: _Optional[_Iterable[_Union[_types_pb2.Hit, _Mapping[str, object]]]] = ..., missing_shards: _Optional[_Iterable[int]] = ...) -> None: ...

class FetchKeyValuesRequest(_message.Message):
    __slots__ = ("collection", "fingerprint", "seqs")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SEQS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    fingerprint: str
    seqs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, collection: _Optional[str] = ..., fingerprint: _Optional[str] = ..., seqs: _Optional[_Iterable[int]] = ...) -> None: ...

class FetchKeyValuesResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_types_pb2.KeyValues]
    def __init__(self, items: _Optional[_Iterable[_Union[_types_pb2.KeyValues, _Mapping[str, object]]]] = ...) -> None: ...

class PutKeyValuesRequest(_message.Message):
    __slots__ = ("collection", "fingerprint", "items")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    fingerprint: str
    items: _containers.RepeatedCompositeFieldContainer[_types_pb2.KeyValues]
    def __init__(self, collection: _Optional[str] = ..., fingerprint: _Optional[str] = ..., items: _Optional[_Iterable[_Union[_types_pb2.KeyValues, _Mapping[str, object]]]] = ...) -> None: ...

class PutKeyValuesResponse(_message.Message):
    __slots__ = ("stored",)
    STORED_FIELD_NUMBER: _ClassVar[int]
    stored: int
    def __init__(self, stored: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("collection", "after")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    after: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, collection: _Optional[str] = ..., after: _Optional[_Iterable[int]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("changes", "positions")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[_types_pb2.Change]
    positions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, changes: _Optional[_Iterable[_Union[_types_pb2.Change, _Mapping[str, object]]]] = ..., positions: _Optional[_Iterable[int]] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ("collection", "most_read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    MOST_READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    most_read: int
    def __init__(self, collection: _Optional[str] = ..., most_read: _Optional[int] = ...) -> None: ...

class StatsResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: _types_pb2.CollectionStats
    def __init__(self, stats: _Optional[_Union[_types_pb2.CollectionStats, _Mapping[str, object]]] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("collection", "full")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    collection: str
    full: bool
    def __init__(self, collection: _Optional[str] = ..., full: _Optional[bool] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("report", "progress")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    report: _types_pb2.CheckReport
    progress: _types_pb2.Progress
    def __init__(self, report: _Optional[_Union[_types_pb2.CheckReport, _Mapping[str, object]]] = ..., progress: _Optional[_Union[_types_pb2.Progress, _Mapping[str, object]]] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class BackupResponse(_message.Message):
    __slots__ = ("progress", "report")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    progress: _types_pb2.Progress
    report: _types_pb2.BackupReport
    def __init__(self, progress: _Optional[_Union[_types_pb2.Progress, _Mapping[str, object]]] = ..., report: _Optional[_Union[_types_pb2.BackupReport, _Mapping[str, object]]] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class CompactResponse(_message.Message):
    __slots__ = ("progress", "report")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    progress: _types_pb2.Progress
    report: _types_pb2.CompactReport
    def __init__(self, progress: _Optional[_Union[_types_pb2.Progress, _Mapping[str, object]]] = ..., report: _Optional[_Union[_types_pb2.CompactReport, _Mapping[str, object]]] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("collection", "shards")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    shards: int
    def __init__(self, collection: _Optional[str] = ..., shards: _Optional[int] = ...) -> None: ...

class CreateCollectionResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: _types_pb2.CollectionInfo
    def __init__(self, info: _Optional[_Union[_types_pb2.CollectionInfo, _Mapping[str, object]]] = ...) -> None: ...

class DropCollectionRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class DropCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeCollectionRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class DescribeCollectionResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: _types_pb2.CollectionInfo
    def __init__(self, info: _Optional[_Union[_types_pb2.CollectionInfo, _Mapping[str, object]]] = ...) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("collections",)
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[_types_pb2.CollectionInfo]
    def __init__(self, collections: _Optional[_Iterable[_Union[_types_pb2.CollectionInfo, _Mapping[str, object]]]] = ...) -> None: ...
