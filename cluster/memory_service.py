"""The servicer of `MemoryService`: each method validates, calls the embedded store and converts."""

from collections.abc import Iterator, Sequence
from threading import Event
from typing import cast

import grpc

from ..calls import DEFAULT_COLLECTION, Query
from ..protos.memory3.v1 import memory_service_pb2 as pb
from ..store.errors import InvalidArgument, Unavailable
from ..store.types import Hits
from ..wire import convert
from ..wire.key_values import KeyValuesItem, batches, decode_put, encode_fetched, encode_recalled
from .binding import check_alive
from .embedded import Embedded
from .gate import Gate
from .long_call import LongCall
from .watching import watch

LIST_LIMIT_DEFAULT = 100
RECALL_K_DEFAULT = 5
FETCH_GROUP = 16
"""Key-values in memory at once while a stream of them is sent."""


class MemoryServicer:
    """Knowledge in and out over gRPC."""

    def __init__(self, memory: Embedded, message_bytes_max: int, watches_max: int) -> None:
        self._memory = memory
        self._message_bytes_max = message_bytes_max
        self._watches = Gate(watches_max, "watches")
        self._stopping = Event()

    def stop(self) -> None:
        """End the streams that would never end by themselves."""
        self._stopping.set()

    def Upsert(self, request: pb.UpsertRequest, context: grpc.ServicerContext) -> pb.UpsertResponse:
        documents = [convert.document_from_wire(document) for document in request.documents]
        results = self._memory.upsert(
            documents,
            expected_versions=dict(request.expected_versions),
            request_id=request.request_id or None,
            collection=_collection(request.collection),
            progress=lambda done, of: check_alive(context),
        )
        return pb.UpsertResponse(results=map(convert.upsert_result_to_wire, results))

    def Delete(self, request: pb.DeleteRequest, context: grpc.ServicerContext) -> pb.DeleteResponse:
        filter = convert.filter_from_wire(request.filter)
        receipt = self._memory.delete(
            None if filter is not None and not request.keys else list(request.keys),
            filter=filter,
            expected_versions=dict(request.expected_versions) or None,
            request_id=request.request_id or None,
            collection=_collection(request.collection),
        )
        return pb.DeleteResponse(receipt=convert.receipt_to_wire(receipt))

    def Get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:
        documents = self._memory.get(list(request.keys), collection=_collection(request.collection))
        return pb.GetResponse(documents=[convert.stored_to_wire(found) for found in documents if found is not None])

    def List(self, request: pb.ListRequest, context: grpc.ServicerContext) -> pb.ListResponse:
        limit = request.limit if request.HasField("limit") else LIST_LIMIT_DEFAULT
        while True:
            page = self._memory.list(
                filter=convert.filter_from_wire(request.filter),
                limit=limit,
                page_token=request.page_token,
                collection=_collection(request.collection),
            )
            response = pb.ListResponse(
                documents=map(convert.stored_to_wire, page.documents), next_page_token=page.next_page_token
            )
            # A page of long documents is cut shorter rather than refused: its token leads on just as well.
            if response.ByteSize() <= self._message_bytes_max or limit == 1:
                return response
            limit = max(1, min(limit, len(page.documents)) // 2)

    def Count(self, request: pb.CountRequest, context: grpc.ServicerContext) -> pb.CountResponse:
        filter = convert.filter_from_wire(request.filter)
        count = self._memory.count(filter=filter, collection=_collection(request.collection))
        return pb.CountResponse(count=convert.count_to_wire(count))

    def Recall(self, request: pb.RecallRequest, context: grpc.ServicerContext) -> bytes:
        if bool(request.texts) == bool(request.vectors):
            raise InvalidArgument("recall takes either texts or vectors, and at least one")
        queries: Sequence[Query] = list(request.texts)
        if request.vectors:
            # A matrix is as good as a list of its rows, which would be put together again.
            queries = cast(Sequence[Query], convert.vectors_from_wire(request.vectors))
        k = request.k if request.HasField("k") else RECALL_K_DEFAULT
        found = self._memory.recall(
            queries,
            k,
            filter=convert.filter_from_wire(request.filter),
            key_values=request.fingerprint or None,
            held=request.held,
            collection=_collection(request.collection),
            progress=lambda done, of: check_alive(context),
        )
        response = pb.RecallResponse()
        for hits in found:
            result = response.results.add(missing_shards=Hits.missing_of(hits))
            for hit in hits:
                convert.put_hit(result.hits.add(), hit)
        key_values = {hit.seq: hit.key_values for hits in found for hit in hits if hit.key_values is not None}
        return encode_recalled(response.SerializeToString(), map(KeyValuesItem, key_values, key_values.values()))

    def FetchKeyValues(self, request: pb.FetchKeyValuesRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        collection = _collection(request.collection)
        for start in range(0, len(request.seqs), FETCH_GROUP):
            check_alive(context)
            seqs = request.seqs[start : start + FETCH_GROUP]
            values = self._memory.fetch_key_values(request.fingerprint, seqs, collection=collection)
            for batch in batches(map(KeyValuesItem, seqs, values)):
                yield encode_fetched(batch)

    def PutKeyValues(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> pb.PutKeyValuesResponse:
        first = None
        stored = 0
        for message in requests:
            check_alive(context)
            put = decode_put(message)
            first = first or put
            if any(item.values is None for item in put.items):
                raise InvalidArgument("an item of key-values has no values; send each memory's values with its seq")
            key_values = {item.seq: item.values for item in put.items if item.values is not None}
            stored += self._memory.put_key_values(
                first.fingerprint, key_values, collection=_collection(first.collection)
            )
        return pb.PutKeyValuesResponse(stored=stored)

    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        def check() -> None:
            check_alive(context)
            if self._stopping.is_set():
                raise Unavailable("the server is stopping; watch again, after the positions that you have")

        with self._watches.passage():
            collection = self._memory.opened(_collection(request.collection))
            for changes, positions in watch(collection, list(request.after) or None, check):
                yield pb.WatchResponse(changes=map(convert.change_to_wire, changes), positions=positions)

    def Stats(self, request: pb.StatsRequest, context: grpc.ServicerContext) -> pb.StatsResponse:
        stats = self._memory.stats(most_read=request.most_read, collection=_collection(request.collection))
        return pb.StatsResponse(stats=convert.stats_to_wire(stats))

    def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> Iterator[pb.CheckResponse]:
        collection = _collection(request.collection)
        call = LongCall(
            lambda progress: self._memory.check(full=request.full, collection=collection, progress=progress), context
        )
        for done, total in call:
            yield pb.CheckResponse(progress=convert.progress_to_wire(done, total))
        yield pb.CheckResponse(report=convert.report_to_wire(call.result))

    def Backup(self, request: pb.BackupRequest, context: grpc.ServicerContext) -> Iterator[pb.BackupResponse]:
        if not request.path.startswith("/"):
            raise InvalidArgument(
                f"the backup's path {request.path!r} is not absolute; it is on the machine of the server, so name it "
                "from the root on"
            )
        call = LongCall(lambda progress: self._memory.backup(request.path, progress=progress), context)
        for done, total in call:
            yield pb.BackupResponse(progress=convert.progress_to_wire(done, total))
        yield pb.BackupResponse(report=convert.backup_to_wire(call.result))

    def Compact(self, request: pb.CompactRequest, context: grpc.ServicerContext) -> Iterator[pb.CompactResponse]:
        collection = _collection(request.collection)
        call = LongCall(lambda progress: self._memory.compact(collection=collection, progress=progress), context)
        for done, total in call:
            yield pb.CompactResponse(progress=convert.progress_to_wire(done, total))
        yield pb.CompactResponse(report=convert.compact_to_wire(call.result))

    def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: grpc.ServicerContext
    ) -> pb.CreateCollectionResponse:
        shards = request.shards if request.HasField("shards") else None
        info = self._memory.create_collection(request.collection, shards=shards)
        return pb.CreateCollectionResponse(info=convert.info_to_wire(info))

    def DropCollection(
        self, request: pb.DropCollectionRequest, context: grpc.ServicerContext
    ) -> pb.DropCollectionResponse:
        self._memory.drop_collection(request.collection)
        return pb.DropCollectionResponse()

    def DescribeCollection(
        self, request: pb.DescribeCollectionRequest, context: grpc.ServicerContext
    ) -> pb.DescribeCollectionResponse:
        info = self._memory.describe_collection(_collection(request.collection))
        return pb.DescribeCollectionResponse(info=convert.info_to_wire(info))

    def ListCollections(
        self, request: pb.ListCollectionsRequest, context: grpc.ServicerContext
    ) -> pb.ListCollectionsResponse:
        return pb.ListCollectionsResponse(collections=map(convert.info_to_wire, self._memory.list_collections()))


def _collection(name: str) -> str:
    return name or DEFAULT_COLLECTION
