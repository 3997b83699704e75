"""The whole of Memory3 in one process: a data directory, an embedder and a model; what `memory3.open` returns."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, overload

import numpy as np
import numpy.typing as npt

from ..answers import AnswerStream
from ..calls import (
    DEFAULT_COLLECTION,
    FilterMapping,
    Progress,
    Queries,
    Query,
    checked_request_id,
    documents_of,
    held_of,
    keys_of,
    parsed,
    versions_of,
)
from ..changes import ChangeStream
from ..model.engine.limits import EngineLimits
from ..model.source import GenerationOptions
from ..store.backup.back_up import back_up
from ..store.collection import Collection
from ..store.directory import DataDirectory
from ..store.errors import FailedPrecondition, FingerprintMismatch, InvalidArgument, NotFound
from ..store.types import (
    BackupReport,
    CheckReport,
    CollectionInfo,
    CollectionStats,
    CompactReport,
    Count,
    DeleteReceipt,
    Document,
    Hit,
    Page,
    Quotas,
    StoredDocument,
    UpsertResult,
)
from .generating import options_of
from .ingest import upsert
from .memory_source import CollectionSource
from .models import Models
from .watching import watch
from .writing import write_cold

EMBED_QUERIES = 64
"""Queries between two looks at whether the caller still waits."""


class Embedded:
    """A data directory opened in this process; a context manager, safe to share between threads.

    The collection "default" always exists, and is of this process's embedder, and of so many `shards`, as long as it is
    empty. `quotas` are those of each collection, `engine` the limits of what generates. Model and embedder are loaded
    by the first call that needs them.

    Raises:
        DirectoryInUse: another process serves the directory; it names the address to connect to.
        UnsupportedFormat: the directory was written in another format version.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        embedder: str | None = None,
        model: str | None = None,
        device: str = "cpu",
        shards: int = 1,
        quotas: Quotas | None = None,
        engine: EngineLimits | None = None,
    ) -> None:
        self.models = Models(embedder, model, device, engine)
        self._shards = shards
        self._directory = DataDirectory.open(path, quotas)
        self._making_default = threading.Lock()

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
        # A client has put the number of its call to the id.
        request = None if request_id is None else checked_request_id(request_id, part=True)
        return upsert(self._embedding(collection), self.models, found, expected, request, progress)

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
        opened, matching = self.opened(collection), parsed(filter)
        if matching is None:
            wanted = keys_of(() if keys is None else keys)
            return opened.delete(wanted, versions_of(expected_versions, wanted), request_id)
        if keys is not None or expected_versions is not None:
            raise InvalidArgument("delete takes keys, with their expected versions, or a filter, not both")
        return opened.delete_matching(matching, request_id)

    # To the type checker a str is an iterable of str too; the first overload that fits wins, which is right here.
    @overload
    def get(self, keys: str, *, collection: str = ...) -> StoredDocument | None: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, keys: Iterable[str], *, collection: str = ...) -> list[StoredDocument | None]: ...
    def get(
        self, keys: str | Iterable[str], *, collection: str = DEFAULT_COLLECTION
    ) -> StoredDocument | list[StoredDocument | None] | None:
        """The document under a key, or those under many in their order; None where there is none."""
        documents = self.opened(collection).get(keys_of(keys))
        return documents[0] if isinstance(keys, str) else documents

    def count(self, *, filter: FilterMapping | None = None, collection: str = DEFAULT_COLLECTION) -> Count:
        """How many documents and memories the collection holds, or how many of them match a filter."""
        return self.opened(collection).count(parsed(filter))

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
        the one of this process, and False as long as that is not loaded.
        """
        queries = Queries.of(query)
        if not queries.count:
            return []
        vectors, texts = queries.vectors, queries.texts
        opened = self.opened(collection) if texts is None else self._embedding(collection)
        if vectors is None:
            vectors = _embed(self.models, texts or [], progress)
        own = self.models.language_model.fingerprint if self.models.model_loaded else None
        found = opened.recall(
            vectors,
            k,
            own if key_values is None else key_values,
            parsed(filter),
            key_values=key_values is not None,
            held=held_of(held),
        )
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
        options = options_of(max_tokens, memories, temperature, top_p, top_k, seed, stop, explain)
        return self.answer("question", question, options, collection=collection, filter=filter)

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
        options = options_of(max_tokens, memories, temperature, top_p, top_k, seed, stop, explain)
        return self.answer("prompt", prompt, options, collection=collection, filter=filter)

    def answer(
        self,
        kind: Literal["question", "prompt"],
        text: str,
        options: GenerationOptions,
        *,
        collection: str = DEFAULT_COLLECTION,
        filter: FilterMapping | None = None,
        owner: str = "",
        deadline: float | None = None,
    ) -> AnswerStream:
        """What `ask` and `generate` do, for an `owner` who takes turns with others, until a `time.monotonic()`."""
        source = CollectionSource(self._embedding(collection), self.models, parsed(filter))
        engine = self.models.engine
        start = engine.ask if kind == "question" else engine.generate
        return AnswerStream(start(text, source, options=options, owner=owner, deadline=deadline))

    def write(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        progress: Progress | None = None,
    ) -> int:
        """Write key-values for the cold memories of these documents, or of all; returns how many were written."""
        wanted = None if keys is None else keys_of(keys)
        return write_cold(self.opened(collection), self.models.language_model, wanted, progress=progress)[0]

    def put_key_values(
        self, fingerprint: str, key_values: Mapping[int, bytes], *, collection: str = DEFAULT_COLLECTION
    ) -> int:
        """Store key-values by seq, written by the model of `fingerprint`; returns how many memories still were there.

        Raises:
            FingerprintMismatch: their length is not that of the model's key-values.
        """
        opened = self.opened(collection)
        model = self.models.language_model if self.models.model_loaded else None
        for seq, values in key_values.items():
            if model is not None and fingerprint == model.fingerprint and len(values) != model.key_value_bytes:
                raise FingerprintMismatch(
                    f"key-values of seq {seq} have {len(values)} bytes, those of model {model.name!r} have "
                    f"{model.key_value_bytes}; write them with the model that the fingerprint names"
                )
        return sum(opened.put_key_values(fingerprint, list(key_values.items())))

    def fetch_key_values(
        self, fingerprint: str, seqs: Iterable[int], *, collection: str = DEFAULT_COLLECTION
    ) -> list[bytes | None]:
        """The key-values of memories in the order asked for; None where none are stored for this model."""
        return self.opened(collection).fetch_key_values(fingerprint, list(seqs))

    def watch(self, after: Iterable[int] | None = None, *, collection: str = DEFAULT_COLLECTION) -> ChangeStream:
        """The collection's changes as they come, without end; iterate, and close it to stop.

        `after` holds a seq of each shard to be watched, as a stream's `positions` do; None watches from now on.

        Raises:
            FailedPrecondition: the log does not reach back so far: list the documents and watch from `stats`.
        """
        return ChangeStream(watch(self.opened(collection), None if after is None else list(after), lambda: None))

    def stats(self, *, most_read: int = 0, collection: str = DEFAULT_COLLECTION) -> CollectionStats:
        """The state of the collection: sizes, counts, which models' key-values it holds.

        With `most_read` it names so many of the memories that are read most, at most 1,000.
        """
        return self.opened(collection).stats(most_read)

    def check(
        self, *, full: bool = False, collection: str = DEFAULT_COLLECTION, progress: Progress | None = None
    ) -> CheckReport:
        """Verify the collection's invariants; `full` also reads every stored value.

        Reads and writes go on. `progress` is told of steps; what it raises ends the check.
        """
        return self.opened(collection).check(full, progress)

    def backup(self, path: str | Path, *, progress: Progress | None = None) -> BackupReport:
        """Copy the whole data directory to the new directory `path`, while it is read and written.

        What was acknowledged before is in it; each shard is copied as it was at one moment.
        `progress` is told of bytes; what it raises stops the backup, which leaves nothing behind. See `restore`.

        Raises:
            FailedPrecondition: there is something at `path`.
            InvalidArgument: `path` is within the data directory.
            NotFound: the directory that `path` is to be in is not there.
            ResourceExhausted: its disk has too little space.
        """
        return back_up(self._directory, path, progress)

    def compact(self, *, collection: str = DEFAULT_COLLECTION, progress: Progress | None = None) -> CompactReport:
        """Give free space in the collection's files back to the file system.

        Reads and writes go on, and wait for a moment at the end; the disk needs space for a copy. `progress` is told of
        bytes; what it raises stops the work, and changes nothing.

        Raises:
            ResourceExhausted: there is too little space for a copy, or too much was written meanwhile; nothing is lost.
        """
        self.opened(collection)
        return self._directory.compact(collection, progress)

    def create_collection(self, name: str, *, shards: int | None = None) -> CollectionInfo:
        """Make a collection for this process's embedder; one that exists with the same settings is returned.

        `shards` is fixed for its life: the parts, searched side by side, that its documents are spread over.
        """
        if name == DEFAULT_COLLECTION:
            self.opened(name)
        return self._directory.create_collection(name, self.models.embedder_name, self.models.dimension, shards).info

    def drop_collection(self, name: str) -> None:
        """Remove a collection and all that it holds."""
        self._directory.drop_collection(name)

    def describe_collection(self, name: str) -> CollectionInfo:
        """The settings of a collection."""
        return self.opened(name).info

    def list_collections(self) -> list[CollectionInfo]:
        """The settings of every collection, by name."""
        self.opened(DEFAULT_COLLECTION)
        return self._directory.collections()

    def close(self) -> None:
        """End generations, wait for calls under way, and let go of the directory."""
        self.models.close()
        self._directory.close()

    def list(
        self,
        *,
        filter: FilterMapping | None = None,
        limit: int = 100,
        page_token: str = "",
        collection: str = DEFAULT_COLLECTION,
    ) -> Page:
        """Documents in the order of their keys, a page at a time; pages may be shorter than `limit`."""
        return self.opened(collection).list(limit, page_token, parsed(filter))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def opened(self, name: str) -> Collection:
        """The collection itself, for those who serve it; "default" is made when it is first asked for."""
        if name != DEFAULT_COLLECTION:
            return self._directory.collection(name)
        # One at a time: of two that both found it empty, the second would drop what the first has stored since.
        with self._making_default:
            return self._default()

    def load_models(self) -> None:
        """Load embedder and model now, so that the first call does not wait for them."""
        _ = self.models.embedder, self.models.language_model

    def publish(self, address: str) -> None:
        """Let those who open this directory know where it is served."""
        self._directory.publish(address)

    def _default(self) -> Collection:
        """The collection "default", made anew if it is empty and of another embedder: a mere look may have made it."""
        try:
            found = self._directory.collection(DEFAULT_COLLECTION)
        except NotFound:
            found = None
        embedder = self.models.embedder_name
        if found is not None and (found.info.embedder == embedder or found.count() != Count(0, 0)):
            return found
        dimension = self.models.dimension  # may fail, and then what is there must stay
        if found is not None:
            self._directory.drop_collection(DEFAULT_COLLECTION)
        return self._directory.create_collection(DEFAULT_COLLECTION, embedder, dimension, self._shards)

    def _embedding(self, name: str) -> Collection:
        """The collection, if this process's embedder made its vectors; a text's vector of another finds nonsense."""
        collection = self.opened(name)
        if collection.info.embedder != self.models.embedder_name:
            raise FailedPrecondition(
                f"collection {name!r} was embedded with {collection.info.embedder!r}, this process embeds with "
                f"{self.models.embedder_name!r}; open it with embedder={collection.info.embedder!r}"
            )
        return collection


def _embed(models: Models, queries: Sequence[str], progress: Progress | None) -> npt.NDArray[np.float32]:
    """The vectors of queries, told of between batches, so that nobody is worked for who no longer waits."""
    vectors = []
    for start in range(0, len(queries), EMBED_QUERIES):
        if progress is not None:
            progress(start, len(queries))
        vectors.append(models.embedder.embed(queries[start : start + EMBED_QUERIES]))
    if progress is not None:
        progress(len(queries), len(queries))
    return np.concatenate(vectors)
