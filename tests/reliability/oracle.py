"""What a store may answer, from what it acknowledged: a client's own record."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from memory3.store.placement import shard_of_key

from .content import expiry_of, owner_of

ABSENT = ""
"""The version of a document that is not there."""

State = dict[str, str]
"""The version of each key."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A call that changes keys to versions; `number` tells it from others, also in copies."""

    number: int
    versions: State
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """What was acknowledged when a copy of the store was begun."""

    acknowledged: frozenset[int]
    values: frozenset[tuple[str, int]]


class Oracle:
    """The states that may stand: what stood when last somebody looked (`settle`), and the calls since, in their order.

    A call that was acknowledged stands. One that was cut off stands or not, of each shard's documents all alike. Safe
    to share between threads that change keys of different owners, each owner a call at a time. What has expired by
    the `clock`, seconds since the epoch, is absent.
    """

    def __init__(self, shards: int = 1, clock: Callable[[], float] = time.time) -> None:
        self.changes = 0
        """How many calls were acknowledged."""
        self.stored: set[str] = set()
        """Keys under which an acknowledged call has stored something; not known to a copy."""
        self.forgotten: set[int] = set()
        self.clock = clock
        self._shards = shards
        self._mutex = threading.Lock()
        self._begun = 0
        self._settled: State = {}
        self._log: list[_Change] = []
        self._asked: dict[str, list[str]] = defaultdict(list)
        self._since: Moment | None = None
        self._values: set[tuple[str, int]] = set()
        self._live: dict[str, tuple[int, ...]] = {}

    @property
    def keys(self) -> list[str]:
        with self._mutex:
            return self._keys()

    @contextmanager
    def change(self, versions: Mapping[str, str]) -> Iterator[None]:
        """Within it these keys are changed to these versions in one call; leaving it without error acknowledges."""
        with self._mutex:
            self._begun += 1
            change = _Change(self._begun, dict(versions))
            self._log.append(change)
            for key, version in versions.items():
                self._asked[key].append(version)
        yield
        with self._mutex:
            self.changes += 1
            self.stored |= {key for key, version in versions.items() if version != ABSENT}
            self._log = [replace(one, acknowledged=True) if one.number == change.number else one for one in self._log]

    def asked(self, key: str, kind: str) -> int:
        """How many calls were begun that upsert, or may by now have deleted, a key; not known to a copy."""
        now = self.clock()
        with self._mutex:
            versions = list(self._asked[key])
        deleted = sum(standing(version, now) == ABSENT for version in versions)
        return deleted if kind == "delete" else sum(version != ABSENT for version in versions)

    def moment(self) -> Moment:
        """Return what a copy of the store must hold that is begun now."""
        with self._mutex:
            return Moment(frozenset(one.number for one in self._log if one.acknowledged), frozenset(self._values))

    def copy(self, since: Moment | None = None) -> "Oracle":
        """An oracle that goes its own way from here; of a copy of the store that was begun at the moment `since`.

        Such a copy holds of each shard the state of one moment from then until now.
        """
        with self._mutex:
            other = Oracle(self._shards, self.clock)
            other.changes, other.forgotten, other._begun = self.changes, set(self.forgotten), self._begun
            other._settled, other._log, other._since = dict(self._settled), list(self._log), since
            other._values, other._live = set(since.values if since else self._values), dict(self._live)
            return other

    def wrote(self, fingerprint: str, seqs: Iterable[int]) -> None:
        """Key-values of these memories were acknowledged."""
        with self._mutex:
            self._values.update((fingerprint, seq) for seq in seqs)

    def has_values(self, fingerprint: str, seq: int) -> bool:
        with self._mutex:
            return (fingerprint, seq) in self._values

    def version(self, key: str) -> str | None:
        """The version that stands under a key, whether or not it has expired; None when that is open."""
        with self._mutex:
            found = {state.get(key, ABSENT) for state in self._states(self._place(key))}
        return found.pop() if len(found) == 1 else None

    def expires_within(self, start: float, end: float) -> bool:
        """Say whether anything that may stand expires between two times."""
        with self._mutex:
            versions = {*self._settled.values(), *(name for one in self._log for name in one.versions.values())}
        return any(start <= (expiry_of(version) or 0) <= end for version in versions)

    def judge(self, found: Mapping[str, str]) -> list[str]:
        """Say what of the versions found must not be."""
        now = self.clock()
        with self._mutex:
            known = self._keys()
            wrong = [f"{key!r} was never written" for key in found.keys() - set(known)]
            by_place: dict[tuple[str, int], list[str]] = defaultdict(list)
            for key in known:
                by_place[self._place(key)].append(key)
            for place, keys in by_place.items():
                seen = {key: found.get(key, ABSENT) for key in keys}
                allowed = [
                    {key: standing(state.get(key, ABSENT), now) for key in keys} for state in self._states(place)
                ]
                if seen not in allowed:
                    wrong += _differences(seen, allowed)
        return wrong

    def settle(self, found: Mapping[str, str], seqs: Mapping[str, tuple[int, ...]]) -> None:
        """Take what was found as what stands, with the seqs of its memories, after `judge` found nothing wrong."""
        with self._mutex:
            self._settled = {key: found.get(key, ABSENT) for key in self._keys()}
            self._log.clear()
            self._since = None
            before = {seq for of_key in self._live.values() for seq in of_key}
            self._live = dict(seqs)
            live = {seq for of_key in seqs.values() for seq in of_key}
            self.forgotten |= before - live
            self._values = {place for place in self._values if place[1] in live}

    def _keys(self) -> list[str]:
        return sorted({*self._settled, *(key for change in self._log for key in change.versions)})

    def _place(self, key: str) -> tuple[str, int]:
        return owner_of(key), shard_of_key(key, self._shards)

    def _states(self, place: tuple[str, int]) -> list[State]:
        """The states that the keys of one owner in one shard may have."""
        states = [{key: version for key, version in self._settled.items() if self._place(key) == place}]
        log = [change for change in self._log if any(self._place(key) == place for key in change.versions)]
        if self._since is None:
            for change in log:
                states = self._after(states, change, place)
            return states
        # Changes of one owner follow each other, so a copy that holds one holds all before it.
        held = max((at for at, one in enumerate(log, 1) if one.number in self._since.acknowledged), default=0)
        found = [] if held else list(states)
        for at, change in enumerate(log, 1):
            states = self._after(states, change, place)
            found += states if at >= held else []
        return found

    def _after(self, states: list[State], change: _Change, place: tuple[str, int]) -> list[State]:
        part = {key: version for key, version in change.versions.items() if self._place(key) == place}
        found = [state | part for state in states] + ([] if change.acknowledged else states)
        return [state for at, state in enumerate(found) if state not in found[:at]]


def standing(version: str, now: float) -> str:
    """What a reader sees of a version."""
    at = expiry_of(version)
    return ABSENT if at is not None and at <= now else version


def _differences(seen: State, allowed: Sequence[State]) -> list[str]:
    wrong = []
    for key, version in seen.items():
        versions = sorted({state[key] for state in allowed})
        if version not in versions:
            wrong.append(f"{key!r} is {version or 'absent'!r}, acknowledged is one of {versions}")
    return wrong or [f"of a call that was cut off a part stands: {seen}"]
