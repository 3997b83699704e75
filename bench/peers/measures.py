"""What is measured of a store in process. Every measure checks first, or while it runs, that the answers are right."""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from memory3.bench.peers.protocol import Item, Peer, Searcher, Store, Unsupported, Where
from memory3.bench.peers.timing import calls_per_second, latency, percentiles
from memory3.bench.peers.work import FILTERS, KEY_VALUE_BYTES, K, Keys, Work

CALLERS = (1, 4, 16)
BATCH = 64
LOAD_BATCH = 256
SINGLES_MAX, BATCHED_MAX = 1_000, 4_096
RECALL_MIN = 0.95
TUNING_QUESTIONS = 300
MIXED_CALLERS = 4
MIXED_UPSERTS = MIXED_DELETES = 0.05
PROBES = 100
"""Changed items that are looked up after the mixed load."""

Results = dict[str, Any]


class Wrong(Exception):
    """The store answered what it must not; there are no figures of it."""


def check(store: Store, peer: Peer, work: Work) -> None:
    """A handful of items in and out of an empty store, byte for byte.

    Raises:
        Wrong: an item did not come back as it was, or came back when it was gone.
    """
    keys = range(work.size, work.size + 2 * BATCH)
    store.load([work.item(key) for key in keys[:BATCH]])
    store.settle()
    store.upsert([work.item(key) for key in keys[BATCH:]])
    expect(store, peer, work, dict.fromkeys(keys, 0))
    store.upsert([work.item(keys[0], 1)])
    store.delete([keys[1], keys[BATCH]])
    expect(store, peer, work, {keys[0]: 1, keys[1]: None, keys[BATCH]: None, keys[-1]: 0})


def load(store: Store, work: Work, limit_s: float) -> Results:
    """The whole set, then what the store advises after it.

    Raises:
        Wrong: it takes longer than the limit.
    """
    started = time.perf_counter()
    done = 0
    for batch in work.batches(LOAD_BATCH):
        store.load(batch)
        done += len(batch)
        if time.perf_counter() - started > limit_s:
            raise Wrong(f"the load was stopped after {limit_s:.0f} s with {done:,} of {work.size:,} items stored")
    loaded = time.perf_counter()
    store.settle()
    return {"load_s": loaded - started, "settle_s": time.perf_counter() - loaded}


def tune(store: Store, peer: Peer, work: Work) -> Results:
    """The least effort that finds enough of what exact search finds, and how much it finds then."""
    return _tune(store, peer, work, work.exact, range(len(work.questions)), None)


def recall_of(searcher: Searcher, work: Work, exact: Keys, questions: range, where: Where | None = None) -> float:
    """The share of the exact nearest that is found with its own key-values.

    Raises:
        Wrong: an item came with other bytes than were stored.
    """
    found = 0
    for number in questions:
        expected = set(exact[number].tolist())
        for one in searcher.recall(work.questions[number], K, where):
            if one.key is not None and one.key_values != work.key_values(one.key):
                raise Wrong(f"item {one.key} came back with {len(one.key_values)} bytes that are not its own")
            found += one.key in expected
    return float(found / exact[questions.start : questions.stop].size)


def recall(searcher: Searcher, work: Work, calls: int, seconds: float) -> Results:
    """Times of recalling five with their key-values."""

    def call(number: int) -> None:
        searcher.recall(work.questions[number % len(work.questions)], K)

    callers = {str(count): calls_per_second(call, count, seconds) for count in CALLERS}
    return {**latency(call, calls), "calls_per_s": callers}


def filtered(store: Store, peer: Peer, work: Work, calls: int) -> Results:
    """Recall within a share of the items, each tuned anew; or what the store says that it lacks."""
    results: Results = {}
    questions = range(min(TUNING_QUESTIONS, len(work.questions)))
    for share, where in FILTERS.items():
        try:
            tuned = _tune(store, peer, work, work.filtered[share], questions, where)
        except Unsupported as unsupported:
            results[share] = {"unsupported": str(unsupported)}
            continue

        def call(number: int, where: Where = where) -> None:
            store.recall(work.questions[number % len(work.questions)], K, where)

        results[share] = {**latency(call, calls), **tuned}
    return results


def upserts(store: Store, work: Work, seconds: float) -> Results:
    """New items, one a call and 64 a call; all are deleted again."""
    middle = work.size + SINGLES_MAX
    single = _upserts(store, work, range(work.size, middle), 1, seconds)
    batch = _upserts(store, work, range(middle, middle + BATCHED_MAX), BATCH, seconds)
    return {"single_per_s": single, "batch_per_s": batch}


def mixed(store: Store, peer: Peer, work: Work, effort: int, seconds: float) -> Results:
    """Recalls with 5 % upserts and 5 % deletes from four callers; then what was changed is looked up.

    Raises:
        Wrong: a deleted item came back, or an upserted one did not.
    """
    shares = [range(work.size + place, len(work.vectors), MIXED_CALLERS) for place in range(MIXED_CALLERS)]
    callers = [_Caller(store, work, share, seed) for seed, share in enumerate(shares)]
    started = time.perf_counter()
    threads = [threading.Thread(target=caller.run, args=(started + seconds,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    for caller in callers:
        if caller.error is not None:
            raise caller.error
    live = {key: version for caller in callers for key, version in caller.live.items()}
    dead = [key for caller in callers for key in caller.versions if key not in live]
    probed = {key: live[key] for key in [*live][-PROBES:]} | dict.fromkeys(dead[-PROBES:])
    expect(store, peer, work, probed)
    if effort:
        store.set_effort(effort)
    recalls = [duration for caller in callers for duration in caller.recalls]
    changes = sum(caller.changes for caller in callers)
    store.delete([*live])
    return {
        "recall": percentiles(recalls),
        "calls_per_s": (len(recalls) + changes) / took,
        "changes": changes,
        "probed": len(probed),
    }


class _Caller:
    """One caller of the mixed load: it changes items of its own, and recalls what all share."""

    def __init__(self, store: Store, work: Work, keys: range, seed: int) -> None:
        self._store, self._work, self._keys = store, work, keys
        self._random = random.Random(seed)
        self.versions: dict[int, int] = {}
        self.live: dict[int, int] = {}
        self.recalls: list[float] = []
        self.changes = 0
        self.error: Exception | None = None

    def run(self, end: float) -> None:
        try:
            while time.perf_counter() < end:
                self._step(self._random.random())
        except Exception as error:
            self.error = error

    def _step(self, draw: float) -> None:
        if draw < MIXED_DELETES and self.live:
            key = self._random.choice([*self.live])
            self._store.delete([key])
            del self.live[key]
        elif draw < MIXED_DELETES + MIXED_UPSERTS:
            key = self._random.choice(self._keys)
            version = self.versions.get(key, -1) + 1
            self._store.upsert([self._work.item(key, version)])
            self.versions[key] = self.live[key] = version
        else:
            question = self._work.questions[self._random.randrange(len(self._work.questions))]
            before = time.perf_counter()
            self._store.recall(question, K)
            self.recalls.append(time.perf_counter() - before)
            return
        self.changes += 1


def _tune(store: Store, peer: Peer, work: Work, exact: Keys, questions: range, where: Where | None) -> Results:
    for effort in peer.efforts or (0,):
        if effort:
            store.set_effort(effort)
        found = recall_of(store, work, exact, questions, where)
        if found >= RECALL_MIN:
            break
    return {"effort": effort, "recall": found}


def _upserts(store: Store, work: Work, keys: range, count: int, seconds: float) -> float:
    started, done, spent = time.perf_counter(), 0, 0.0
    for batch in _batches(work, keys, count):
        before = time.perf_counter()
        store.upsert(batch)
        spent += time.perf_counter() - before
        done += len(batch)
        if time.perf_counter() - started > seconds:
            break
    store.delete([*keys[:done]])
    return done / spent


def _batches(work: Work, keys: range, count: int) -> Iterator[list[Item]]:
    for start in range(0, len(keys), count):
        yield [work.item(key) for key in keys[start : start + count]]


def expect(store: Store, peer: Peer, work: Work, versions: Mapping[int, int | None]) -> None:
    """Look each key up by its own vector: there with the bytes of its version, or gone where that is None.

    Leaves the store at its greatest effort, at which no approximate index may miss an item by its own vector.

    Raises:
        Wrong: it is otherwise.
    """
    if peer.efforts:
        store.set_effort(peer.efforts[-1])
    for key, version in versions.items():
        wrong = wrong_version(store, work, key, version)
        if wrong:
            raise Wrong(wrong)


def wrong_version(searcher: Searcher, work: Work, key: int, version: int | None) -> str | None:
    """What is wrong with the item under a key that should be of this version, or gone where that is None."""
    found = {one.key: one.key_values for one in searcher.recall(work.vectors[key], K)}
    if version is None:
        return f"item {key} came back after its delete" if key in found else None
    if key not in found:
        return f"item {key} is not found by its own vector"
    if found[key] != work.key_values(key, version):
        return f"item {key} came back with other than its {KEY_VALUE_BYTES:,} bytes"
    return None
