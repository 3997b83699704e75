"""Proof: under concurrent writers and readers of the same keys every answer was current at some moment of its call."""

import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import Aborted
from memory3.store.filters.parser import parse_filter
from memory3.store.types import Hit, StoredDocument

from .content import (
    DIMENSION,
    EMBEDDER,
    FILTERS,
    embedded_of,
    expiring,
    matches,
    texts_of,
    vector_of,
    version_in,
)
from .oracle import ABSENT
from .outcome import Outcome

T = TypeVar("T")

KEYS = [f"key-{number}" for number in range(8)]
SHARDS = 3
WRITE_SHARES = (0.3, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0)
"""Of the calls of each thread; a write waits for the disk, and the others work meanwhile."""
UPSERT, DELETE, EXPIRY = "upsert", "delete", "expiry"
DELETE_SHARE = 0.3
OVER_SHARE = 0.2
"""Of the upserts, those over a version that was seen before."""
EXPIRES_SHARE = 0.2
LIFETIME_S = 0.05
AGAIN_SHARE = 0.1
"""Of the writes, requests that are sent again."""
KEPT = 5
"""Requests of each thread that may be sent again."""
K = 200
VIOLATIONS_MAX = 20

Sight = tuple[float | None, str]
"""A version that was seen: its seq and its name."""
_NOTHING: Sight = (None, ABSENT)


@dataclass(frozen=True, slots=True)
class Event:
    """A call that wrote or saw a version of a key, from `began` to `ended` (seconds of one clock), or its expiry.

    `version` is the seq that the store gave it, of a delete the seq of the delete, of an expiry half a seq after what
    expired; None where the key was seen absent. `name` is what the text says of its version. An upsert was asked to be
    made `over` a version, 0 for none; None leaves that open.
    """

    began: float
    ended: float
    what: str
    version: float | None
    name: str = ABSENT
    over: int | None = None

    @property
    def writes(self) -> bool:
        return self.what in (UPSERT, DELETE, EXPIRY)


def stale_reads(events: Iterable[Event]) -> Iterator[str]:
    """Yield what cannot be in the history of one key.

    A history must be linearizable, which for versions that are numbered in their order means: no call sees or makes a
    version less than one that was seen or made by a call that ended before it began, nor one whose write began after
    it ended. An absent key is taken for the first absence that fits: a later one would only forbid more.
    """
    events = sorted(events, key=lambda event: event.began)
    written = {event.version: event for event in events if event.writes}
    absences = [0, *sorted(event.version or 0 for event in events if event.what in (DELETE, EXPIRY))]
    waiting: list[tuple[float, float]] = []
    least: float = 0
    for event in events:
        while waiting and waiting[0][0] < event.began:
            least = max(least, heappop(waiting)[1])
        version = event.version
        if event.what == EXPIRY:
            # Nobody's answer; that it comes to pass the others' answers must say.
            pass
        elif version is None:
            there = (seq for seq in absences if seq >= least and not (seq and written[seq].began > event.ended))
            version = next(there, None)
            if version is None:
                yield f"{event.what} finds nothing, though version {least} was known"
                continue
        elif version < least:
            yield f"{event.what} gives version {version}, though {least} was known"
        elif version not in written or written[version].began > event.ended:
            yield f"{event.what} gives version {version}, which nobody had begun to write"
        elif written[version].name != event.name:
            yield f"{event.what} gives version {version} with the text of {event.name!r}"
        heappush(waiting, (event.ended, version or 0))
    yield from _wrong_orders(written)


def _wrong_orders(written: Mapping[float | None, Event]) -> Iterator[str]:
    """Yield each write over a version that did not stand there."""
    before: Event | None = None
    for event in sorted(written.values(), key=lambda event: event.version or 0):
        if event.over is not None:
            there = {before.version or 0 if before and before.what == UPSERT else 0}
            expiry = written.get(before.version + 0.5) if before and before.version else None
            if expiry and expiry.began <= event.ended:
                there = {0} if expiry.began < event.began else there | {0}
            if event.over not in there:
                yield f"version {event.version} was written over {event.over}, there stood {there}"
        if event.what != EXPIRY:
            before = event


def histories(path: Path, operations: int, seed: int = 0) -> Outcome:
    """Let writers and readers share a few keys until `operations` calls are done, then judge what each one answered."""
    outcome = Outcome("histories", "threads that upsert, delete and read the same keys, each answer judged by its time")
    with DataDirectory.open(path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, SHARDS)
        threads = [
            _Caller(collection, f"{seed}.{number}", share, -(-operations // len(WRITE_SHARES)))
            for number, share in enumerate(WRITE_SHARES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcome.violations += [f"check: {problem}" for problem in collection.check(full=True).problems]
    events: dict[str, list[Event]] = defaultdict(list)
    for thread in threads:
        outcome.violations += thread.violations
        outcome.counts += thread.counts
        for key, event in thread.events:
            events[key].append(event)
    for key, of_key in events.items():
        outcome.violations += [f"{key}: {problem}" for problem in islice(stale_reads(of_key), VIOLATIONS_MAX)]
    outcome.counts["answers judged"] = sum(map(len, events.values()))
    return outcome.done()


class _Caller(threading.Thread):
    """One thread of calls, and what each of them saw or did."""

    def __init__(self, collection: Collection, name: str, write_share: float, operations: int) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[str, Event]] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._collection = collection
        self._name = name
        self._write_share = write_share
        self._operations = operations
        self._choose = random.Random(name)
        self._sent: deque[tuple[Callable[[], Any], Any]] = deque(maxlen=KEPT)
        self._seen: dict[str, int] = {}

    def run(self) -> None:
        try:
            for turn in range(self._operations):
                call = self._write if self._choose.random() < self._write_share else self._read
                self.counts[call(f"{self._name}.{turn}")] += 1
                self.counts["operations"] += 1
        except Exception as error:
            self.violations.append(f"a call failed: {error!r}")

    def _write(self, name: str) -> str:
        if self._sent and self._choose.random() < AGAIN_SHARE:
            send, answer = self._choose.choice(self._sent)
            if (again := send()) != answer:
                self.violations.append(f"a request sent again is answered with {again}, first with {answer}")
            return "requests sent again"
        key = self._choose.choice(KEYS)
        if self._choose.random() < DELETE_SHARE:
            began = time.time()
            receipt = self._asked(lambda: self._collection.delete([key], None, name))
            version, what = (receipt.positions[0], DELETE) if receipt.deleted else (None, "delete of nothing")
            self._note(key, Event(began, time.time(), what, version))
        else:
            self._upsert(key, name)
        return "writes"

    def _upsert(self, key: str, name: str) -> None:
        over = self._seen.get(key, 0) if self._choose.random() < OVER_SHARE else None
        expires = time.time() + LIFETIME_S if over is None and self._choose.random() < EXPIRES_SHARE else None
        version = name if expires is None else expiring(name, expires)
        document = replace(embedded_of(key, version), expected_version=over)
        began = time.time()
        try:
            (result,) = self._asked(lambda: self._collection.upsert([document], name))
        except Aborted:
            self.counts["writes over another version, refused"] += 1
            return
        ended = time.time()
        self._note(key, Event(began, ended, UPSERT, result.version, version, over))
        if expires is not None:
            # Before it was written it cannot have expired.
            self._note(key, Event(max(began, expires), max(ended, expires), EXPIRY, result.version + 0.5))

    def _asked(self, send: Callable[[], T]) -> T:
        answer = send()
        self._sent.append((send, answer))
        return answer

    def _read(self, _: str) -> str:
        read = self._choose.choice([self._get, self._list, self._recall, self._list_matching])
        began = time.time()
        found = read()
        ended = time.time()
        what = read.__name__.strip("_")
        for key, (version, name) in found.items():
            self._note(key, Event(began, ended, what, version, name))
            self._seen[key] = int(version or 0)
        return what

    def _note(self, key: str, event: Event) -> None:
        self.events.append((key, event))

    def _get(self) -> dict[str, Sight]:
        keys = self._choose.sample(KEYS, 2)
        return {key: _sight(stored) for key, stored in zip(keys, self._collection.get(keys), strict=True)}

    def _list(self) -> dict[str, Sight]:
        listed = {stored.key: stored for stored in self._collection.list(len(KEYS)).documents}
        return {key: _sight(listed.get(key)) for key in KEYS}

    def _list_matching(self) -> dict[str, Sight]:
        """Of the keys that are not listed nothing is known."""
        filter = self._choose.choice(FILTERS)
        found = self._collection.list(len(KEYS), "", parse_filter(filter)).documents
        for stored in found:
            if not matches(filter, stored.key, version_in(stored.text)):
                self.violations.append(f"{stored.key!r} of version {version_in(stored.text)!r} matches {filter}")
        return {stored.key: _sight(stored) for stored in found}

    def _recall(self) -> dict[str, Sight]:
        """Everything, as there are fewer memories than `K`: of each key one version, with all of its memories."""
        found: dict[str, list[Hit]] = {key: [] for key in KEYS}
        for hit in self._collection.recall(vector_of(self._choose.choice(KEYS))[None], K)[0]:
            found[hit.key].append(hit)
        for key, hits in found.items():
            texts = sorted(hit.text for hit in hits)
            if hits and tuple(texts) != tuple(sorted(texts_of(key, version_in(texts[0])))):
                self.violations.append(f"recall gives of {key!r} {[text[:30] for text in texts]}")
        return {key: (hits[0].version, version_in(hits[0].text)) if hits else _NOTHING for key, hits in found.items()}


def _sight(stored: StoredDocument | None) -> Sight:
    return (stored.version, version_in(stored.text)) if stored else _NOTHING
