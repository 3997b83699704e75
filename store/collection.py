"""A collection: what callers of the store hold. Its shards are asked side by side, and their answers merged."""

import builtins
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from . import limits
from .backup.copying import FrozenShard
from .backup.progress import Progress, Tally
from .checks.steps import steps
from .errors import Corrupted, FailedPrecondition, InvalidArgument, Memory3Error, Unavailable
from .filters.language import Filter
from .merging import merged_counts, merged_receipts, merged_reports, merged_stats
from .page_token import encode_page_token
from .placement import shard_of_key
from .requests import Request, digest_of_delete, digest_of_filter, digest_of_upsert
from .seqs import shard_of_seq
from .shard.shard import Shard
from .types import (
    Change,
    CheckReport,
    CollectionInfo,
    CollectionStats,
    CompactReport,
    Count,
    DeleteReceipt,
    Document,
    EmbeddedDocument,
    Hit,
    Hits,
    Page,
    Quotas,
    StoredDocument,
    UpsertResult,
)
from .validation import (
    check_documents,
    check_embedded,
    check_key_values,
    check_keys,
    check_limit,
    check_most_read,
    check_recalled_key_values,
    check_request_id,
    check_seq,
    check_seqs,
    check_versions,
)

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class Collection:
    """Documents with their memories, under one embedder. `N` queries, `D` embedding size.

    Any number of threads may call it. Changes are durable when their call returns, and seen by every call that starts
    after. A document and its memories are in one shard, the one that its key names; what concerns one shard happens
    whole or not at all. Every method but `close` raises Unavailable once the collection is closed or dropped.

    Of several shards some may be `missing`, because they are damaged: what needs one of them raises Corrupted, the
    others serve on, and a recall says which were not asked.
    """

    def __init__(self, info: CollectionInfo, shards: Mapping[int, Shard], missing: Mapping[int, Corrupted]) -> None:
        self.info = info
        self._shards = shards
        self._missing = missing
        self._news = Condition()
        self._commits = 0
        for shard in shards.values():
            shard.on_commit(self._wake)
        self._threads = ThreadPoolExecutor(len(shards), thread_name_prefix="memory3-shard") if len(shards) > 1 else None

    @classmethod
    def create(cls, path: Path, info: CollectionInfo, quotas: Quotas) -> "Collection":
        """Make an empty collection in the new directory `path`."""
        return cls._of(path, info, quotas, Shard.create)

    @classmethod
    def open(cls, path: Path, info: CollectionInfo, quotas: Quotas) -> "Collection":
        """Open what `create` made.

        Raises:
            Corrupted: its records are damaged, missing or another collection's.
            FailedPrecondition: its key-values are another collection's. Of several shards that one is missing.
        """
        return cls._of(path, info, quotas, Shard.open)

    @classmethod
    def _of(
        cls,
        path: Path,
        info: CollectionInfo,
        quotas: Quotas,
        shard: Callable[[Path, CollectionInfo, int, Quotas], Shard],
    ) -> "Collection":
        shards: dict[int, Shard] = {}
        missing: dict[int, Corrupted] = {}
        with ExitStack() as opened:
            for number in range(info.shards):
                try:
                    shards[number] = shard(path / _shard_name(number), info, number, quotas)
                    opened.callback(shards[number].close, False)
                except (Corrupted, FailedPrecondition) as error:
                    if info.shards == 1:
                        raise
                    missing[number] = Corrupted(f"shard {number} of collection {info.name!r} is missing: {error}")
                    _log.error("%s", missing[number])
            opened.pop_all()
        return cls(info, shards, missing)

    def unchanged(self, documents: Sequence[Document]) -> set[str]:
        """Return the keys of those documents that stand here with exactly this text, metadata and time of expiry.

        They need not be embedded: an upsert of them changes nothing.
        """
        check_documents(documents)
        parts = self._by_shard(documents, lambda document: document.key)
        return set().union(*self._each(parts, lambda shard, part: shard.unchanged(part)).values())

    def upsert(
        self, documents: Sequence[EmbeddedDocument], request_id: str | None = None
    ) -> builtins.list[UpsertResult]:
        """Store documents whole, each in the place of what stood under its key; those of one shard all or none.

        A request that is sent again under the same `request_id` is not carried out twice: it gets the same answer.

        Raises:
            InvalidArgument: a document, a reference or a vector is not valid, or the id was another request's; nothing
                was stored.
            Aborted: a document was expected to stand in another version than it does.
            ResourceExhausted: the disk is full.
        """
        check_embedded(documents, self.info.dimension)
        request = _request(request_id, lambda: digest_of_upsert(documents))
        parts = self._by_shard(documents, lambda embedded: embedded.document.key)
        found = self._changed(parts, lambda shard, part: shard.upsert(part, request))
        results = {result.key: result for part in found.values() for result in part}
        return [results[embedded.document.key] for embedded in documents]

    def delete(
        self,
        keys: Sequence[str],
        expected_versions: Mapping[str, int] | None = None,
        request_id: str | None = None,
    ) -> DeleteReceipt:
        """Forget documents with all that is derived from them; a key that comes twice counts once.

        Raises:
            Aborted: an expected version does not stand under its key; nothing of that shard was deleted.
        """
        check_keys(keys)
        expected = expected_versions or {}
        check_versions(expected, keys)
        request = _request(request_id, lambda: digest_of_delete(keys, expected))
        parts = self._by_shard(dict.fromkeys(keys), str)

        def delete(shard: Shard, part: Sequence[str]) -> DeleteReceipt:
            return shard.delete(part, {key: expected[key] for key in part if key in expected}, request)

        return merged_receipts(list(dict.fromkeys(keys)), list(self._changed(parts, delete).values()))

    def delete_matching(self, filter: Filter, request_id: str | None = None) -> DeleteReceipt:
        """Forget the documents that match, with all that is derived from them; those of one shard all or none."""
        request = _request(request_id, lambda: digest_of_filter(filter))
        parts: dict[int, Sequence[str]] = dict.fromkeys(range(self.info.shards), ())
        receipts = self._changed(parts, lambda shard, _: shard.delete_matching(filter, request))
        return merged_receipts(
            [key for receipt in receipts.values() for key in receipt.deleted], list(receipts.values())
        )

    def get(self, keys: Sequence[str]) -> builtins.list[StoredDocument | None]:
        """Return the document of each key, None where there is none.

        Raises:
            Corrupted: one of them is damaged; names the key. Upsert it again to mend it, or delete it.
        """
        check_keys(keys)
        parts = self._by_shard(dict.fromkeys(keys), str)
        found = self._each(parts, lambda shard, part: shard.get(part))
        documents = {
            key: document for number, part in parts.items() for key, document in zip(part, found[number], strict=True)
        }
        return [documents[key] for key in keys]

    def list(self, limit: int, page_token: str = "", filter: Filter | None = None) -> Page:
        """Return up to `limit` documents, of those that match, in the byte order of their keys, after the token's page.

        Raises:
            Corrupted: one of them is damaged; names the key. Upsert it again to mend it, or delete it.
        """
        check_limit(limit, limits.PAGE_DOCUMENTS_MAX)
        pages = self._all(lambda shard: shard.list(limit, page_token, filter))
        documents = list(merge(*(page.documents for page in pages), key=lambda document: document.key.encode()))
        more = len(documents) > limit or any(page.next_page_token for page in pages)
        page = documents[:limit]
        return Page(tuple(page), encode_page_token(page[-1].key.encode()) if more else "")

    def count(self, filter: Filter | None = None) -> Count:
        """Return how many documents and memories there are, or how many of them match."""
        return merged_counts(self._all(lambda shard: shard.count(filter)))

    def recall(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        fingerprint: str | None = None,
        filter: Filter | None = None,
        *,
        key_values: bool = False,
        held: Set[int] = frozenset(),
    ) -> builtins.list[builtins.list[Hit]]:
        """Return for each query (N, D), float32, of length one, its k nearest memories of those that match, best first.

        Fewer than k only when there are no more. `warm` says whether key-values of `fingerprint` are stored;
        with `key_values` they come with the hits, but for the seqs that the caller has `held`. Damaged memories are
        quarantined, counted in `stats`, and left out; damaged key-values are removed, and the memory comes as cold.
        When shards are missing each list is a `Hits` that names them. Where an index is being built again, this waits.

        Raises:
            Unavailable: many wait for an index already.
        """
        if key_values:
            check_recalled_key_values(len(vectors), k)
        # Here, because shards are asked by threads of which changes need some too.
        for shard in self._shards.values():
            shard.wait_for_index()
        if self.info.shards == 1:
            return self._shards[0].recall(vectors, k, fingerprint, filter, held if key_values else None)
        # Of several shards key-values are read for those only that are among the nearest of all.
        asked = dict.fromkeys(self._shards)
        found = self._each(asked, lambda shard, _: shard.recall(vectors, k, fingerprint, filter)).values()
        merged = [_nearest(hits, k) for hits in zip(*found, strict=True)] or [[] for _ in vectors]
        if key_values and fingerprint:
            merged = self._with_key_values(merged, fingerprint, held)
        return [Hits(hits, tuple(self._missing)) for hits in merged]

    def memories(self, seqs: Sequence[int], fingerprint: str | None = None) -> builtins.list[Hit | None]:
        """Return each memory by its seq with a score of 0, None where it is gone or damaged."""
        check_seqs(seqs)
        return self._by_seq(seqs, lambda shard, part: shard.memories(part, fingerprint))

    def cold(self, fingerprint: str, limit: int, after: int = 0) -> builtins.list[tuple[int, str]]:
        """Return up to `limit` memories without key-values of `fingerprint`, as (seq, text), seqs over `after`."""
        check_limit(limit, limits.COLD_MAX)
        check_seq(after)
        found: builtins.list[tuple[int, str]] = []
        for number, shard in self._shards.items():
            if number >= shard_of_seq(after) and len(found) < limit:
                found += shard.warm.cold(fingerprint, limit - len(found), after)
        return found

    def put_key_values(self, fingerprint: str, items: Iterable[tuple[int, bytes]]) -> builtins.list[bool]:
        """Store key-values by seq; False for each memory that is gone.

        A long stream is stored in several transactions, and what was stored stays when a later one fails.

        Raises:
            InvalidArgument: a value is empty, too large, or of another size than the fingerprint's others.
            ResourceExhausted: the disk is full, or too many fingerprints are stored.
        """
        stored: builtins.list[bool] = []
        for number, group in groupby(_checked(items), key=lambda item: shard_of_seq(item[0])):
            if number < self.info.shards:
                stored += self._shard(number).warm.put(fingerprint, group)
            else:
                stored += [False for _ in group]
        return stored

    def fetch_key_values(self, fingerprint: str, seqs: Sequence[int]) -> builtins.list[bytes | None]:
        """Return the key-values of each memory, None where it is gone or cold.

        Raises:
            Corrupted: some are damaged; they are removed, so the memory is cold from now on.
        """
        check_seqs(seqs)
        return self._by_seq(seqs, lambda shard, part: shard.warm.fetch(fingerprint, part))

    def note_reads(self, seqs: Sequence[int]) -> None:
        """Count one more read of key-values that the caller held and did not fetch, but for memories that are gone."""
        check_seqs(seqs)
        self._by_seq(seqs, lambda shard, part: shard.warm.note_reads(part))

    def changes(self, after: int, limit: int) -> builtins.list[Change]:
        """Return changes of one shard, of which `after` is a seq, in their order.

        `limit` bounds how many entries of the log are read. Changes of one key that follow each other directly come as
        the last of them.

        Raises:
            FailedPrecondition: the log does not reach back so far: list the documents and begin at a newer seq.
            InvalidArgument: there is no such shard.
        """
        check_seq(after)
        return self._shard_of(after).changes(after, limit)

    def positions(self) -> tuple[int, ...]:
        """Return the seq of the last change of each shard."""
        return tuple(shard.position() for shard in self._shards.values())

    def wait(self, positions: Sequence[int], timeout_s: float) -> bool:
        """Wait until a shard of these seqs has changes after its own; False when none has after `timeout_s`."""
        check_seqs(positions)
        watched = [(self._shard_of(seq), seq) for seq in positions]
        # The shards are asked without the lock: who commits holds theirs while it waits for this one.
        with self._news:
            seen = self._commits
        if any(shard.position() > seq for shard, seq in watched):
            return True
        with self._news:
            self._news.wait_for(lambda: self._commits != seen, timeout_s)
        return any(shard.position() > seq for shard, seq in watched)

    def sweep(self) -> int:
        """Delete documents that have expired, a bounded number of each shard, and return how many."""
        return sum(shard.sweep() for shard in self._shards.values())

    def has_room_for_key_values(self) -> bool:
        """Say whether key-values can be added everywhere without others making room for them."""
        return all(shard.warm.has_room() for shard in self._shards.values())

    def stats(self, most_read: int = 0) -> CollectionStats:
        """Return the state of the collection, with up to `most_read` of the memories that are read most."""
        check_most_read(most_read)
        stats = [shard.stats(most_read) for shard in self._shards.values()]
        return merged_stats(self.info, stats, tuple(self._missing), most_read)

    def check(self, full: bool, progress: Progress | None = None) -> CheckReport:
        """Verify that records, log, index and key-values agree; `full` also reads every value.

        Reads and writes go on. `progress` is told of steps; what it raises ends the check.

        Raises:
            Unavailable: the collection was closed or dropped meanwhile.
        """
        tally = Tally(progress, len(steps(full)) * len(self._shards))
        reports = {number: shard.check(full, tally) for number, shard in self._shards.items()}
        return merged_reports(reports, [str(error) for error in self._missing.values()], self.info.shards > 1)

    @contextmanager
    def frozen(self) -> Iterator[Mapping[str, FrozenShard]]:
        """Hold every shard's state as it is now, by the name of its directory, while reads and writes go on."""
        with ExitStack() as frozen:
            yield {
                _shard_name(number): frozen.enter_context(self._shard(number).frozen())
                for number in range(self.info.shards)
            }

    def compact(self, progress: Progress | None = None) -> CompactReport:
        """Give free pages of the files back to the file system, where more than a tenth of a file is free.

        Reads and writes go on, and wait for a moment at the end. The copies need space on the disk. Not while it is
        frozen: `DataDirectory.compact` waits for that.

        Raises:
            ResourceExhausted: there is no space for a copy, or too much was written meanwhile; nothing is lost.
            Unavailable: the collection was closed or dropped meanwhile.
        """
        before = sum(shard.file_bytes() for shard in self._shards.values())
        tally = Tally(progress, sum(shard.bytes_to_compact() for shard in self._shards.values()))
        for shard in self._shards.values():
            shard.compact(tally)
        return CompactReport(before, sum(shard.file_bytes() for shard in self._shards.values()))

    def save(self) -> None:
        """Save the index aside, so that the next start need not read every vector.

        Raises:
            ResourceExhausted: the disk is full; nothing is lost.
        """
        for shard in self._shards.values():
            shard.save()

    def close(self, save: bool = True) -> None:
        """Wait for calls under way, save the index unless `save` is False, and let go of the files."""
        for shard in self._shards.values():
            shard.close(save)
        if self._threads is not None:
            self._threads.shutdown()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _with_key_values(
        self, found: Sequence[Sequence[Hit]], fingerprint: str, held: Set[int]
    ) -> builtins.list[builtins.list[Hit]]:
        seqs = list(dict.fromkeys(hit.seq for hits in found for hit in hits if hit.warm and hit.seq not in held))
        values: dict[int, bytes | None] = {}
        for start in range(0, len(seqs), limits.SEQS_MAX):
            part = seqs[start : start + limits.SEQS_MAX]
            fetched = self._by_seq(part, lambda shard, seqs: shard.warm.fetch_whole(fingerprint, seqs))
            values.update(zip(part, fetched, strict=True))

        def complete(hit: Hit) -> Hit:
            if hit.seq not in values:
                return hit
            # What was warm and has no key-values now was deleted, or damaged, meanwhile.
            return replace(hit, key_values=values[hit.seq], warm=values[hit.seq] is not None)

        return [[complete(hit) for hit in hits] for hits in found]

    def _wake(self) -> None:
        with self._news:
            self._commits += 1
            self._news.notify_all()

    def _shard_of(self, seq: int) -> Shard:
        number = shard_of_seq(seq)
        if number >= self.info.shards:
            raise InvalidArgument(f"seq {seq} is of shard {number}, the collection has {self.info.shards}")
        return self._shard(number)

    def _shard(self, number: int) -> Shard:
        if number in self._missing:
            raise Corrupted(str(self._missing[number]))
        return self._shards[number]

    def _by_shard(self, items: Iterable[T], key: Callable[[T], str]) -> dict[int, builtins.list[T]]:
        parts: dict[int, builtins.list[T]] = defaultdict(list)
        for item in items:
            parts[shard_of_key(key(item), self.info.shards)].append(item)
        return parts

    def _by_seq(
        self, seqs: Sequence[int], ask: Callable[[Shard, Sequence[int]], Sequence[R | None]]
    ) -> builtins.list[R | None]:
        """Ask each seq's shard; None for seqs of shards that do not exist."""
        parts: dict[int, builtins.list[int]] = defaultdict(list)
        for seq in seqs:
            parts[shard_of_seq(seq)].append(seq)
        known = {number: part for number, part in parts.items() if number < self.info.shards}
        found = {number: iter(answer) for number, answer in self._each(known, ask).items()}
        return [next(found[shard_of_seq(seq)]) if shard_of_seq(seq) in found else None for seq in seqs]

    def _each(self, parts: Mapping[int, T], ask: Callable[[Shard, T], R]) -> dict[int, R]:
        """Ask some shards side by side, each for its part."""
        if self._threads is None or len(parts) < 2:
            return {number: ask(self._shard(number), part) for number, part in parts.items()}
        shards = {number: self._shard(number) for number in parts}
        try:
            asked = {number: self._threads.submit(ask, shards[number], part) for number, part in parts.items()}
        except RuntimeError as error:
            # There are no threads any more, because the collection was closed meanwhile.
            raise Unavailable(f"collection {self.info.name!r} is closed") from error
        return {number: future.result() for number, future in asked.items()}

    def _all(self, ask: Callable[[Shard], R]) -> builtins.list[R]:
        parts = dict.fromkeys(range(self.info.shards))
        return list(self._each(parts, lambda shard, _: ask(shard)).values())

    def _changed(self, parts: Mapping[int, Sequence[T]], change: Callable[[Shard, Sequence[T]], R]) -> dict[int, R]:
        """Change several shards; when one refuses, the error says how much of the call the others have carried out."""

        def attempt(shard: Shard, part: Sequence[T]) -> R | Memory3Error:
            try:
                return change(shard, part)
            except Memory3Error as error:
                return error

        done: dict[int, R] = {}
        errors: builtins.list[Memory3Error] = []
        for number, outcome in self._each(parts, attempt).items():
            if isinstance(outcome, Memory3Error):
                errors.append(outcome)
            else:
                done[number] = outcome
        if not errors:
            return done
        if not done:
            raise errors[0]
        carried_out, total = (sum(len(parts[number]) for number in numbers) for numbers in (done, parts))
        # Damage is told as what it is to callers: its own class is made of a place.
        kind = Corrupted if isinstance(errors[0], Corrupted) else type(errors[0])
        raise kind(
            f"{errors[0]}; {carried_out} of the {total} documents of this call are done, in other shards: "
            "send it again for the rest"
        ) from errors[0]


def _nearest(found: Iterable[Sequence[Hit]], k: int) -> list[Hit]:
    """Merge the hits of several shards for one query."""
    return list(islice(merge(*found, key=lambda hit: (-hit.score, hit.seq)), k))


def _request(request_id: str | None, digest: Callable[[], bytes]) -> Request | None:
    if request_id is None:
        return None
    check_request_id(request_id, limits.REQUEST_ID_BYTES_MAX + limits.REQUEST_PART_BYTES_MAX)
    return Request(request_id, digest())


def _checked(items: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for seq, value in items:
        check_key_values(seq, value)
        yield seq, value


def _shard_name(number: int) -> str:
    return f"shard-{number:04}"
