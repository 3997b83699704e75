"""A look at a damaged directory, in a process of its own, because LMDB may end it."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import Memory3Error
from memory3.store.placement import shard_of_key
from memory3.store.seqs import base_of, shard_of_seq
from memory3.store.types import Count, Hit, StoredDocument, Vector

from .access import FilterMapping, Store
from .content import (
    FILTERS,
    FINGERPRINTS,
    document_of,
    embedded_of,
    matches,
    metadata_of,
    texts_of,
    values_of,
    vector_of,
    version_in,
)
from .estate import REQUEST, SHARDS, State, States

P = ParamSpec("P")
T = TypeVar("T")

K = 1_000
SCORE_TOLERANCE = 1e-5
SEQS = 400
"""Of each shard, more than were given."""
FRESH = tuple(f"fresh-{number}" for number in range(12))
"""Keys in all shards, of documents that are made while all is looked at."""
FILTERS_ASKED = 3
"""Of the filters, those that a collection is asked with."""
DIRECTORY = ""
"""The name under which the directory's own errors are told."""


@dataclass
class Seen:
    """What one collection answered.

    `wrong` is what it must never answer, an error that is not ours included; `missing` how many documents and hits
    were not answered, by shard; `miscounts` what `count` answers otherwise than it should; `old` how many documents as
    they were before, where that is allowed; `opened` whether it could be asked at all; `reported` each of our errors
    and each problem that `check` names; `logged` what only the log tells, as damage to a thing that is built again;
    `mended` whether sending the documents again made all well.
    """

    wrong: list[str] = field(default_factory=list)
    missing: Counter[int] = field(default_factory=Counter)
    miscounts: list[str] = field(default_factory=list)
    old: int = 0
    opened: bool = False
    reported: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    mended: bool = False

    def of(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
        """Call, and note an error instead of raising it."""
        try:
            return call(*arguments, **named)
        except Memory3Error as error:
            self.reported.append(f"{type(error).__name__}: {error}")
        except Exception as error:
            self.wrong.append(f"an error that is none of ours: {error!r}")
        return None


def probe(path: Path, allowed: list[States], parent: Connection) -> None:
    """Tell the parent what each collection answers, as `Seen` by name; `allowed` are the states that may stand."""
    names = sorted(allowed[0])
    seen = {name: Seen() for name in [DIRECTORY, *names]}
    logging.basicConfig(handlers=[_Listed(seen[DIRECTORY].logged)], force=True)
    directory = seen[DIRECTORY].of(DataDirectory.open, path)
    if directory is not None:
        for name in names:
            collection = seen[name].of(directory.collection, name)
            if collection is not None:
                seen[name].opened = True
                _Probe(collection, [states[name] for states in allowed], seen[name]).run()
        seen[DIRECTORY].of(directory.close)
    parent.send(seen)
    parent.close()


class _Listed(logging.Handler):
    """Keeps what is logged in a list."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


class _Probe:
    """Everything that can be asked of one collection."""

    def __init__(self, collection: Collection, allowed: list[State], seen: Seen) -> None:
        self._collection = collection
        self._store = Store.of_collection(collection)
        self._allowed = allowed
        self._seen = seen
        self._whole: dict[str, StoredDocument] = {}
        """The documents that were answered as they should be."""

    def run(self) -> None:
        seen, collection = self._seen, self._collection
        for key in sorted({key for state in self._allowed for key in state.versions}):
            (found,) = seen.of(collection.get, [key]) or [None]
            if found is not None:
                self._judge(found)
            self._expect(key, found is not None)
        self._list(None)
        self._count(None)
        self._recall(None)
        for filter in random.sample(FILTERS, FILTERS_ASKED):
            self._list(filter)
            self._count(filter)
            self._recall(filter)
        self._fetch()
        report = seen.of(collection.check, full=True)
        seen.reported += [f"check: {problem}" for problem in (report.problems if report else ())]
        seen.of(collection.stats)
        self._send_again()
        if seen.reported:
            seen.mended = bool(Seen().of(self._mend))

    def _expect(self, key: str, found: bool) -> None:
        if not found and all(key in state.versions for state in self._allowed):
            self._seen.missing[shard_of_key(key, SHARDS)] += 1

    def _judge(self, document: StoredDocument) -> None:
        version = version_in(document.text)
        expected = document_of(document.key, version)
        if version not in self._versions(document.key):
            self._seen.wrong.append(f"{document.key!r} is served as version {version!r}")
        elif (document.text, dict(document.metadata)) != (expected.text, expected.metadata):
            self._seen.wrong.append(f"{document.key!r} is served as {document.text[:60]!r} with {document.metadata}")
        elif document.expires_at != expected.expires_at:
            self._seen.wrong.append(f"{document.key!r} is served as expiring at {document.expires_at}")
        else:
            self._whole[document.key] = document
            self._seen.old += version != self._allowed[0].versions.get(document.key)

    def _list(self, filter: FilterMapping | None) -> None:
        # A damaged document ends the list there, in our words.
        listed = self._seen.of(lambda: list(self._store.documents(filter)))
        if listed is None:
            return
        for document in listed:
            self._judge(document)
            if filter is not None and not matches(filter, document.key, version_in(document.text)):
                self._seen.wrong.append(f"list gives {document.key!r} for {filter!r:.60}")
        found = {document.key for document in listed}
        for key in self._expected(filter):
            self._expect(key, key in found)

    def _count(self, filter: FilterMapping | None) -> None:
        count = self._seen.of(self._store.count, filter)
        # Where a shard may stand as it was, it may also stand as it was in between.
        if count is not None and len(self._allowed) == 1 and count != self._counted(self._allowed[0], filter):
            self._seen.miscounts.append(f"count of {filter!r:.60} is {count}")

    def _counted(self, state: State, filter: FilterMapping | None) -> Count:
        keys = [key for key, version in state.versions.items() if filter is None or matches(filter, key, version)]
        return Count(len(keys), sum(len(texts_of(key, state.versions[key])) for key in keys))

    def _expected(self, filter: FilterMapping | None) -> set[str]:
        """The keys that match, whichever of the allowed states stands."""
        found = [
            {key for key, version in state.versions.items() if filter is None or matches(filter, key, version)}
            for state in self._allowed
        ]
        return set.intersection(*found)

    def _recall(self, filter: FilterMapping | None) -> None:
        """All that `get` gave is found, and nothing else that ever was."""
        expected = {
            seq: text
            for key in self._expected(filter) & self._whole.keys()
            for seq, text in zip(
                self._whole[key].memories, texts_of(key, version_in(self._whole[key].text)), strict=True
            )
        }
        for text in [*list(expected.values())[:1], "anything"]:
            query = vector_of(text)
            hits = self._seen.of(self._store.recall, query, K, filter, next(iter(FINGERPRINTS)))
            for hit in hits or []:
                self._seen.wrong += self._wrong_hit(hit, query)
                if filter is not None and not matches(filter, hit.key, version_in(hit.text)):
                    self._seen.wrong.append(f"recall gives {hit.key!r} for {filter!r:.60}")
            if hits is not None:
                for seq in expected.keys() - {hit.seq for hit in hits}:
                    self._seen.missing[shard_of_seq(seq)] += 1

    def _wrong_hit(self, hit: Hit, query: Vector) -> Iterator[str]:
        version = version_in(hit.text)
        if version not in self._versions(hit.key) or hit.text not in texts_of(hit.key, version):
            yield f"recall gives {hit.text[:60]!r} of {hit.key!r}"
        elif abs(hit.score - float(vector_of(hit.text) @ query)) > SCORE_TOLERANCE:
            yield f"recall gives {hit.text[:60]!r} the score {hit.score}"
        elif dict(hit.metadata) != metadata_of(hit.key, version):
            yield f"recall gives {hit.key!r} the metadata {hit.metadata}"
        elif hit.key_values not in (None, values_of(next(iter(FINGERPRINTS)), hit.seq, hit.text)):
            yield f"recall brings wrong key-values for seq {hit.seq}"

    def _fetch(self) -> None:
        """Key-values may be missing at any time, as they are derived: what counts is that none is wrong."""
        for fingerprint in FINGERPRINTS:
            for shard in range(SHARDS):
                for seq, value in self._values(fingerprint, range(base_of(shard) + 1, base_of(shard) + SEQS)):
                    texts = {state.memories.get(seq, "") for state in self._allowed}
                    if value is not None and value not in {values_of(fingerprint, seq, text) for text in texts if text}:
                        self._seen.wrong.append(f"the key-values of seq {seq} of {fingerprint!r} are wrong")

    def _values(self, fingerprint: str, seqs: range) -> Iterator[tuple[int, bytes | None]]:
        found = self._seen.of(self._collection.fetch_key_values, fingerprint, seqs)
        if found is not None:
            yield from zip(seqs, found, strict=True)
            return
        for seq in seqs:
            found = self._seen.of(self._collection.fetch_key_values, fingerprint, [seq])
            yield seq, found[0] if found else None

    def _send_again(self) -> None:
        """The last request gets its answer again; where that is lost, what stands is not stored once more."""
        state = self._allowed[0]
        documents = [embedded_of(key, version) for key, version in state.asked.items()]
        results = self._seen.of(self._collection.upsert, documents, REQUEST)
        for result, first in zip(results or [], state.answered, strict=False):
            document = self._whole.get(result.key)
            unchanged = document is not None and (result.changed, result.version) == (False, document.version)
            if result != first and document is not None and not unchanged and len(self._allowed) == 1:
                self._seen.wrong.append(f"a request sent again is answered with {result}, first with {first}")

    def _mend(self) -> bool:
        collection = self._collection
        collection.upsert([embedded_of(key, "1") for key in FRESH])
        fresh = [seq for document in collection.get(FRESH) if document for seq in document.memories]
        for fingerprint in FINGERPRINTS:
            if any(collection.fetch_key_values(fingerprint, fresh)):
                self._seen.wrong.append(f"key-values of {fingerprint!r} stand for memories that have just been made")
        collection.delete(FRESH)
        versions = self._allowed[0].versions
        lost = [key for key in versions if key not in self._whole]
        collection.delete(lost)
        collection.upsert([embedded_of(key, versions[key]) for key in lost])
        return not collection.check(full=True).problems

    def _versions(self, key: str) -> set[str | None]:
        return {state.versions.get(key) for state in self._allowed} - {None}
