"""The Python client: the methods of the embedded store, carried out by a server. Needs no torch, faiss or lmdb."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from google.protobuf.message import Message

from .answers import AnswerStream, GenerationEvent
from .calls import (
    DEFAULT_COLLECTION,
    FilterMapping,
    Progress,
    Queries,
    Query,
    checked_request_id,
    documents_of,
    held_of,
    keys_of,
    stops_of,
    versions_of,
)
from .changes import Batch, ChangeStream
from .protos.memory3.v1 import generation_service_pb2 as generation_pb
from .protos.memory3.v1 import memory_service_pb2 as pb
from .protos.memory3.v1 import types_pb2
from .store.errors import InvalidArgument, Unavailable
from .store.types import (
    BackupReport,
    CheckReport,
    CollectionInfo,
    CollectionStats,
    CompactReport,
    Count,
    DeleteReceipt,
    Document,
    Hit,
    Hits,
    Page,
    StoredDocument,
    UpsertResult,
)
from .wire import convert, events
from .wire.key_values import KeyValuesItem, PutKeyValues, batches, decode_fetched, decode_recalled, encode_put
from .wire.transport import Responses, Transport

TIMEOUT_S = 120.0
LONG_TIMEOUT_S = 7 * 24 * 3600.0
"""For backups, compactions and checks, which take as long as the disk takes and tell how far they are."""
MESSAGE_BYTES_MAX = 64 << 20
UPSERT_BATCH_DOCUMENTS = 64
UPSERT_BATCH_BYTES = 64 << 10
"""One call's share of an upsert: some seconds of embedding, so that progress shows and a deadline means something."""
GET_BATCH_KEYS = 64

Request = TypeVar("Request", bound=Message)


class Client:
    """A connection to a Memory3 server; a context manager, safe to share between threads.

    Each call raises the class of `store/errors.py` that the server raised, `Unavailable` when there is no server, and
    `DeadlineExceeded` after `timeout_s`.
    """

    def __init__(
        self, address: str, *, timeout_s: float = TIMEOUT_S, message_bytes_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        self._transport = Transport(address, timeout_s=timeout_s, message_bytes_max=message_bytes_max)

    def upsert(
        self,
        documents: Document | Iterable[Document],
        *,
        expected_versions: Mapping[str, int] | None = None,
        request_id: str | None = None,
        collection: str = DEFAULT_COLLECTION,
        progress: Progress | None = None,
    ) -> list[UpsertResult]:
        """Store each document whole, replacing what stood under its key; durable and searchable when it returns.

        A long list is stored in several transactions: what `progress` was told of is stored, also when it raises.
        `expected_versions` are versions that must stand under some of the keys, 0 for none. The same documents sent
        again under the same `request_id` are not stored twice, whatever happened meanwhile: the answer is the same.

        Raises:
            InvalidArgument: a document is invalid, or a key comes twice; nothing is stored.
            Aborted: another version stands under a key than was expected.
        """
        found = documents_of(documents)
        expected = versions_of(expected_versions, [document.key for document in found])
        messages = [convert.document_to_wire(document) for document in found]
        results = []
        for number, (batch, size) in enumerate(_upsert_batches(messages)):
            request = _message(
                pb.UpsertRequest,
                collection=collection,
                documents=batch,
                expected_versions={one.key: expected[one.key] for one in batch if one.key in expected},
                request_id=None if request_id is None else f"{checked_request_id(request_id)}/{number}",
            )
            timeout_s = self._transport.timeout_s * max(1.0, size / UPSERT_BATCH_BYTES)
            response = self._transport.call("Upsert", request, timeout_s)
            results += [convert.upsert_result_from_wire(result) for result in response.results]
            if progress is not None:
                progress(len(results), len(found))
        return results

    def delete(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        filter: FilterMapping | None = None,
        expected_versions: Mapping[str, int] | None = None,
        request_id: str | None = None,
        collection: str = DEFAULT_COLLECTION,
    ) -> DeleteReceipt:
        """Forget documents, by key or by filter; once it returns, nothing of them is ever returned again.

        Raises:
            Aborted: another version stands under a key than was expected.
        """
        if filter is not None and (keys is not None or expected_versions is not None):
            raise InvalidArgument("delete takes keys, with their expected versions, or a filter, not both")
        wanted = keys_of(() if keys is None else keys)
        request = _message(
            pb.DeleteRequest,
            collection=collection,
            keys=wanted,
            filter=convert.filter_to_wire(filter),
            expected_versions=versions_of(expected_versions, wanted),
            request_id=None if request_id is None else checked_request_id(request_id),
        )
        return convert.receipt_from_wire(self._transport.call("Delete", request).receipt)

    # To the type checker a str is an iterable of str too; the first overload that fits wins, which is right here.
    @overload
    def get(self, keys: str, *, collection: str = ...) -> StoredDocument | None: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, keys: Iterable[str], *, collection: str = ...) -> list[StoredDocument | None]: ...
    def get(
        self, keys: str | Iterable[str], *, collection: str = DEFAULT_COLLECTION
    ) -> StoredDocument | list[StoredDocument | None] | None:
        """The document under a key, or those under many in their order; None where there is none."""
        wanted = keys_of(keys)
        found: dict[str, StoredDocument] = {}
        unique = list(dict.fromkeys(wanted))
        for start in range(0, len(unique), GET_BATCH_KEYS) or [0]:
            request = _message(pb.GetRequest, collection=collection, keys=unique[start : start + GET_BATCH_KEYS])
            for message in self._transport.call("Get", request).documents:
                found[message.key] = convert.stored_from_wire(message)
        documents = [found.get(key) for key in wanted]
        return documents[0] if isinstance(keys, str) else documents

    def count(self, *, filter: FilterMapping | None = None, collection: str = DEFAULT_COLLECTION) -> Count:
        """How many documents and memories the collection holds, or how many of them match a filter."""
        request = _message(pb.CountRequest, collection=collection, filter=convert.filter_to_wire(filter))
        return convert.count_from_wire(self._transport.call("Count", request).count)

    # Likewise: a str is a sequence of str.
    @overload
    def recall(  # type: ignore[overload-overlap]
        self,
        query: Query,
        k: int = ...,
        *,
        filter: FilterMapping | None = ...,
        key_values: str | None = ...,
        held: Iterable[int] = ...,
        collection: str = ...,
        progress: Progress | None = ...,
    ) -> list[Hit]: ...
    @overload
    def recall(
        self,
        query: Sequence[Query],
        k: int = ...,
        *,
        filter: FilterMapping | None = ...,
        key_values: str | None = ...,
        held: Iterable[int] = ...,
        collection: str = ...,
        progress: Progress | None = ...,
    ) -> list[list[Hit]]: ...
    def recall(
        self,
        query: Query | Sequence[Query],
        k: int = 5,
        *,
        filter: FilterMapping | None = None,
        key_values: str | None = None,
        held: Iterable[int] = (),
        collection: str = DEFAULT_COLLECTION,
        progress: Progress | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` memories nearest to a text or vector, best first; a list of such lists for many queries.

        Only memories of documents that match `filter`, if given. `key_values` is the fingerprint of a model whose
        key-values come with the hits, but for those of the seqs `held`. `Hit.warm` is about that model, else about
        the server's.
        """
        queries = Queries.of(query)
        if not queries.count:
            return []
        vectors = [] if queries.vectors is None else convert.vectors_to_wire(queries.vectors)
        request = _message(
            pb.RecallRequest,
            collection=collection,
            texts=queries.texts,
            vectors=vectors,
            k=k,
            filter=convert.filter_to_wire(filter),
            fingerprint=key_values,
            held=held_of(held),
        )
        results, items = decode_recalled(self._transport.call("Recall", request))
        values = {item.seq: item.values for item in items}
        found: list[list[Hit]] = []
        for result in map(pb.Hits.FromString, results):
            hits = (convert.hit_from_wire(hit, values.get(hit.seq)) for hit in result.hits)
            found.append(Hits(hits, tuple(result.missing_shards)))
        if progress is not None:
            progress(len(found), len(found))
        return found if queries.many else found[0]

    def ask(
        self,
        question: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        max_tokens: int = 64,
        memories: int = 5,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        filter: FilterMapping | None = None,
        explain: bool = False,
    ) -> AnswerStream:
        """Answer a question from memories; iterate the answer for its text as it comes, or call its `result`.

        Only memories of documents that match `filter`, if given, are read.
        `explain` ends the answer with what each memory did (`Answer.explanation`).
        """
        request = _message(
            generation_pb.GenerateRequest,
            collection=collection,
            question=question,
            max_tokens=max_tokens,
            memories=memories,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stops_of(stop),
            filter=convert.filter_to_wire(filter),
            explain=explain,
        )
        return self._generate(request)

    def generate(
        self,
        prompt: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        max_tokens: int = 64,
        memories: int = 5,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        filter: FilterMapping | None = None,
        explain: bool = False,
    ) -> AnswerStream:
        """Continue a prompt as it is, reading memories on the way; of documents that match `filter`, if given.

        `explain` ends it with what each memory did (`Answer.explanation`).
        """
        request = _message(
            generation_pb.GenerateRequest,
            collection=collection,
            prompt=prompt,
            max_tokens=max_tokens,
            memories=memories,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stops_of(stop),
            filter=convert.filter_to_wire(filter),
            explain=explain,
        )
        return self._generate(request)

    def write(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        progress: Progress | None = None,
    ) -> int:
        """Write key-values for the cold memories of these documents, or of all; returns how many were written."""
        request = _message(
            generation_pb.WriteRequest, collection=collection, keys=[] if keys is None else keys_of(keys)
        )
        if keys is not None and not request.keys:
            return 0
        total = 0
        while True:
            response: generation_pb.WriteResponse = self._transport.call("Write", request)
            total += response.written
            if progress is not None:
                progress(total, total + response.remaining)
            if not response.remaining or not response.written:
                return total

    def put_key_values(
        self, fingerprint: str, key_values: Mapping[int, bytes], *, collection: str = DEFAULT_COLLECTION
    ) -> int:
        """Store key-values by seq, written by the model of `fingerprint`; returns how many memories still were there.

        Raises:
            FingerprintMismatch: their length is not that of the model's other key-values.
        """
        items = (KeyValuesItem(seq, values) for seq, values in key_values.items())
        groups = iter([*batches(items)] or [[]])
        messages = (encode_put(PutKeyValues(collection, fingerprint, group)) for group in groups)
        response: pb.PutKeyValuesResponse = self._transport.call("PutKeyValues", messages)
        return response.stored

    def fetch_key_values(
        self, fingerprint: str, seqs: Iterable[int], *, collection: str = DEFAULT_COLLECTION
    ) -> list[bytes | None]:
        """The key-values of memories in the order asked for; None where none are stored for this model."""
        request = _message(pb.FetchKeyValuesRequest, collection=collection, fingerprint=fingerprint, seqs=seqs)
        stream = self._transport.stream("FetchKeyValues", request)
        return [item.values for message in stream for item in decode_fetched(message)]

    def watch(self, after: Iterable[int] | None = None, *, collection: str = DEFAULT_COLLECTION) -> ChangeStream:
        """The collection's changes as they come, without end; iterate, and close it to stop.

        `after` holds a seq of each shard to be watched, as a stream's `positions` do; None watches from now on.

        Raises:
            FailedPrecondition: the log does not reach back so far: list the documents and watch from `stats`.
        """
        request = _message(pb.WatchRequest, collection=collection, after=() if after is None else list(after))
        return ChangeStream(_Batches(self._transport.stream("Watch", request, math.inf)))

    def stats(self, *, most_read: int = 0, collection: str = DEFAULT_COLLECTION) -> CollectionStats:
        """The state of the collection: sizes, counts, which models' key-values it holds.

        With `most_read` it names so many of the memories that are read most, at most 1,000.
        """
        request = _message(pb.StatsRequest, collection=collection, most_read=most_read)
        return convert.stats_from_wire(self._transport.call("Stats", request).stats)

    def check(
        self, *, full: bool = False, collection: str = DEFAULT_COLLECTION, progress: Progress | None = None
    ) -> CheckReport:
        """Verify the collection's invariants; `full` also reads every stored value.

        Reads and writes go on. `progress` is told of steps; what it raises ends the check. `timeout_s` does not apply.
        """
        request = _message(pb.CheckRequest, collection=collection, full=full)
        stream = self._transport.stream("Check", request, LONG_TIMEOUT_S)
        return convert.report_from_wire(_report(stream, progress))

    def backup(self, path: str | Path, *, progress: Progress | None = None) -> BackupReport:
        """Copy the whole data directory to the new directory `path`, while it is read and written.

        `path` is absolute, and on the server's machine. What was acknowledged before is in it; each shard is copied as
        it was at one moment. `timeout_s` does not apply: it takes as long as the disk takes.
        `progress` is told of bytes; what it raises stops the backup, which leaves nothing behind. See `restore`.

        Raises:
            FailedPrecondition: there is something at `path`.
            InvalidArgument: `path` is within the data directory, or not absolute.
            NotFound: the directory that `path` is to be in is not there.
            ResourceExhausted: its disk has too little space.
        """
        request = _message(pb.BackupRequest, path=str(path))
        stream = self._transport.stream("Backup", request, LONG_TIMEOUT_S)
        return convert.backup_from_wire(_report(stream, progress))

    def compact(self, *, collection: str = DEFAULT_COLLECTION, progress: Progress | None = None) -> CompactReport:
        """Give free space in the collection's files back to the file system.

        Reads and writes go on, and wait for a moment at the end; the disk needs space for a copy. `progress` is told of
        bytes; what it raises stops the work, and changes nothing. `timeout_s` does not apply.

        Raises:
            ResourceExhausted: there is too little space for a copy, or too much was written meanwhile; nothing is lost.
        """
        request = _message(pb.CompactRequest, collection=collection)
        stream = self._transport.stream("Compact", request, LONG_TIMEOUT_S)
        return convert.compact_from_wire(_report(stream, progress))

    def create_collection(self, name: str, *, shards: int | None = None) -> CollectionInfo:
        """Make a collection for the server's embedder; one that exists with the same settings is returned.

        `shards` is fixed for its life: the parts, searched side by side, that its documents are spread over.
        """
        request = _message(pb.CreateCollectionRequest, collection=name, shards=shards)
        return convert.info_from_wire(self._transport.call("CreateCollection", request).info)

    def drop_collection(self, name: str) -> None:
        """Remove a collection and all that it holds."""
        self._transport.call("DropCollection", _message(pb.DropCollectionRequest, collection=name))

    def describe_collection(self, name: str) -> CollectionInfo:
        """The settings of a collection."""
        request = _message(pb.DescribeCollectionRequest, collection=name)
        return convert.info_from_wire(self._transport.call("DescribeCollection", request).info)

    def list_collections(self) -> list[CollectionInfo]:
        """The settings of every collection, by name."""
        response = self._transport.call("ListCollections", pb.ListCollectionsRequest())
        return [convert.info_from_wire(info) for info in response.collections]

    def close(self) -> None:
        """End the connection and the calls that run on it."""
        self._transport.close()

    def list(
        self,
        *,
        filter: FilterMapping | None = None,
        limit: int = 100,
        page_token: str = "",
        collection: str = DEFAULT_COLLECTION,
    ) -> Page:
        """Documents in the order of their keys, a page at a time; pages may be shorter than `limit`."""
        request = _message(
            pb.ListRequest,
            collection=collection,
            filter=convert.filter_to_wire(filter),
            limit=limit,
            page_token=page_token,
        )
        response = self._transport.call("List", request)
        return Page(tuple(map(convert.stored_from_wire, response.documents)), response.next_page_token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _generate(self, request: generation_pb.GenerateRequest) -> AnswerStream:
        return AnswerStream(_Events(self._transport.stream("Generate", request)))


class _Events(Iterator[GenerationEvent]):
    """A stream of responses as events; closing it stops the generation."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses
        self.close: Callable[[], None] = responses.close

    def __next__(self) -> GenerationEvent:
        while True:
            event = events.event_from_wire(next(self._responses))
            if event is not None:
                return event


class _Batches(Iterator[Batch]):
    """A stream of changes as batches; closing it ends the watch."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses
        self.close: Callable[[], None] = responses.close

    def __next__(self) -> Batch:
        response: pb.WatchResponse = next(self._responses)
        return [convert.change_from_wire(change) for change in response.changes], tuple(response.positions)


def _report(responses: Responses, progress: Progress | None) -> Any:
    """The report that a long call ends with, after its progress; the call is stopped when `progress` raises."""
    try:
        for response in responses:
            if response.HasField("report"):
                return response.report
            if progress is not None:
                progress(response.progress.done, response.progress.total)
    finally:
        responses.close()
    raise Unavailable("the server ended a long call without its report; look whether it was done, and try again")


def _message(kind: type[Request], **fields: Any) -> Request:
    """A message, or our own error where protobuf refuses a value."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"an argument cannot be sent: {error}") from error


def _upsert_batches(messages: Sequence[types_pb2.Document]) -> Iterator[tuple[list[types_pb2.Document], int]]:
    batch: list[types_pb2.Document] = []
    size = 0
    for message in messages:
        length = message.ByteSize()
        if batch and (len(batch) == UPSERT_BATCH_DOCUMENTS or size + length > UPSERT_BATCH_BYTES):
            yield batch, size
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch, size
