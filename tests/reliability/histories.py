"""Proof: under concurrent writers and readers of the same keys every answer was current at some moment of its call."""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.types import Hit, StoredDocument

from .content import DIMENSION, EMBEDDER, embedded_of, texts_of, vector_of, version_in
from .oracle import ABSENT
from .outcome import Outcome

KEYS = [f"key-{number}" for number in range(8)]
WRITE_SHARES = (0.3, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0)
"""Of the calls of each thread; a write waits for the disk, and the others work meanwhile."""
UPSERT, DELETE = "upsert", "delete"
DELETE_SHARE = 0.3
K = 200
VIOLATIONS_MAX = 20

Sight = tuple[int | None, str]
"""A version that was seen: its seq and its name."""
_NOTHING: Sight = (None, ABSENT)


@dataclass(frozen=True, slots=True)
class Event:
    """A call that wrote or saw a version of a key, from `began` to `ended` (seconds of one clock).

    `version` is the seq that the store gave it, of a delete the seq of the delete; None where the key was seen absent.
    `name` is what the text says of its version.
    """

    began: float
    ended: float
    what: str
    version: int | None
    name: str = ABSENT

    @property
    def writes(self) -> bool:
        return self.what in (UPSERT, DELETE)


def stale_reads(events: Iterable[Event]) -> Iterator[str]:
    """Yield what cannot be in the history of one key.

    A history must be linearizable, which for versions that are numbered in their order means: no call sees or makes a
    version less than one that was seen or made by a call that ended before it began, nor one whose write began after
    it ended. An absent key is taken for the first absence that fits: a later one would only forbid more.
    """
    events = sorted(events, key=lambda event: event.began)
    written = {event.version: event for event in events if event.writes}
    absences = [0, *sorted(event.version or 0 for event in events if event.what == DELETE)]
    waiting: list[tuple[float, int]] = []
    least = 0
    for event in events:
        while waiting and waiting[0][0] < event.began:
            least = max(least, heappop(waiting)[1])
        version = event.version
        if version is None:
            version = next((seq for seq in absences if seq >= least), None)
            if version is None or (version and written[version].began > event.ended):
                yield f"{event.what} finds nothing, though version {least} was known"
                continue
        elif version < least:
            yield f"{event.what} gives version {version}, though {least} was known"
        elif version not in written or written[version].began > event.ended:
            yield f"{event.what} gives version {version}, which nobody had begun to write"
        elif written[version].name != event.name:
            yield f"{event.what} gives version {version} with the text of {event.name!r}"
        heappush(waiting, (event.ended, version))


def histories(path: Path, operations: int, seed: int = 0) -> Outcome:
    """Let writers and readers share a few keys until `operations` calls are done, then judge what each one answered."""
    outcome = Outcome("histories", "threads that upsert, delete and read the same keys, each answer judged by its time")
    with DataDirectory.open(path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
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

    def run(self) -> None:
        try:
            for turn in range(self._operations):
                call = self._write if self._choose.random() < self._write_share else self._read
                self.counts[call(f"{self._name}.{turn}")] += 1
                self.counts["operations"] += 1
        except Exception as error:
            self.violations.append(f"a call failed: {error!r}")

    def _write(self, name: str) -> str:
        key = self._choose.choice(KEYS)
        began = time.perf_counter()
        if self._choose.random() < DELETE_SHARE:
            receipt = self._collection.delete([key])
            version, what = (receipt.positions[0], DELETE) if receipt.deleted else (None, "delete of nothing")
            self._note(key, Event(began, time.perf_counter(), what, version))
        else:
            (result,) = self._collection.upsert([embedded_of(key, name)])
            self._note(key, Event(began, time.perf_counter(), UPSERT, result.version, name))
        return "writes"

    def _read(self, _: str) -> str:
        read = self._choose.choice([self._get, self._list, self._recall])
        began = time.perf_counter()
        found = read()
        ended = time.perf_counter()
        what = read.__name__.strip("_")
        for key, (version, name) in found.items():
            self._note(key, Event(began, ended, what, version, name))
        return what

    def _note(self, key: str, event: Event) -> None:
        self.events.append((key, event))

    def _get(self) -> dict[str, Sight]:
        keys = self._choose.sample(KEYS, 2)
        return {key: _sight(stored) for key, stored in zip(keys, self._collection.get(keys), strict=True)}

    def _list(self) -> dict[str, Sight]:
        listed = {stored.key: stored for stored in self._collection.list(len(KEYS)).documents}
        return {key: _sight(listed.get(key)) for key in KEYS}

    def _recall(self) -> dict[str, Sight]:
        """Everything, as there are fewer memories than `K`: of each key one version, with all of its memories."""
        found: dict[str, list[Hit]] = {key: [] for key in KEYS}
        for hit in self._collection.recall(vector_of(self._choose.choice(KEYS))[None], K)[0]:
            found[hit.key].append(hit)
        for key, hits in found.items():
            texts = sorted(hit.text for hit in hits)
            if hits and texts != sorted(texts_of(key, version_in(texts[0]))):
                self.violations.append(f"recall gives of {key!r} {[text[:30] for text in texts]}")
        return {key: (hits[0].version, version_in(hits[0].text)) if hits else _NOTHING for key, hits in found.items()}


def _sight(stored: StoredDocument | None) -> Sight:
    return (stored.version, version_in(stored.text)) if stored else _NOTHING
