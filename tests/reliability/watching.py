"""What a watch tells, held against what was asked for: a client that goes on behind the last seq that it has seen."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from memory3.client import Client
from memory3.store.errors import FailedPrecondition
from memory3.store.placement import shard_of_key
from memory3.store.seqs import shard_of_seq
from memory3.store.types import Change

from .access import Store
from .oracle import Oracle


class Watching:
    """One watch over many servers, one after the other.

    `told` counts changes, `resumed` how often it went on, `listed` how often the log no longer reached back so far and
    the documents were listed in the place of what was missed.
    """

    def __init__(self, oracle: Oracle, shards: int) -> None:
        self.violations: list[str] = []
        self.told = 0
        self.resumed = 0
        self.listed = 0
        self._oracle = oracle
        self._shards = shards
        self._positions: dict[int, int] = {}
        self._last: dict[str, tuple[str, int]] = {}
        """Kind and seq of the last change of each key."""
        self._seen: set[str] = set()
        """Keys of which a list told, or told that they are absent."""
        self._counts: Counter[tuple[str, str]] = Counter()

    def follow(self, client: Client) -> None:
        """Take what a server tells, until it raises."""
        try:
            if self._positions:
                self.resumed += 1
            else:
                # In this order: what changes in between is told.
                positions, known = client.stats().positions, self._oracle.keys
                self.begin(positions, known, {one.key: one.version for one in Store.of_client(client).documents()})
            with client.watch(after=list(self._positions.values())) as changes:
                for change in changes:
                    self.tell(change)
        except FailedPrecondition:
            self.listed += 1
            self._positions.clear()

    def begin(self, positions: Sequence[int], known: Iterable[str], versions: Mapping[str, int]) -> None:
        """Begin behind these positions, one of each shard: of the keys known there, these documents stand."""
        self._positions = {shard_of_seq(position): position for position in positions}
        self._last = {key: ("upsert", version) for key, version in versions.items()}
        self._seen.update(known)

    def tell(self, change: Change) -> None:
        """Take one change."""
        self.told += 1
        self._counts[change.key, change.kind] += 1
        shard, told = shard_of_seq(change.seq), self._counts[change.key, change.kind]
        last, before = self._positions.get(shard, 0), self._last.get(change.key)
        if shard != shard_of_key(change.key, self._shards):
            self._wrong(change, f"is of shard {shard}")
        if change.seq <= last:
            self._wrong(change, f"comes after seq {last}")
        if told > self._oracle.asked(change.key, change.kind):
            self._wrong(change, f"comes for the {told}. time, and was not asked for as often")
        if change.kind == "delete" and before is not None and before[0] == "delete":
            self._wrong(change, "deletes what was deleted")
        self._positions[shard] = max(last, change.seq)
        self._last[change.key] = (change.kind, change.seq)

    def judge(self, versions: Mapping[str, int]) -> list[str]:
        """Say of which keys the last change was not told, when no more is to come and these versions stand."""
        found = [
            f"{key!r} stands in version {version}, told last was {self._last.get(key)}"
            for key, version in versions.items()
            if self._last.get(key) != ("upsert", version)
        ]
        for key in sorted({*self._oracle.keys, *self._last} - versions.keys()):
            last = self._last.get(key)
            if last is None and key in self._oracle.stored - self._seen:
                found.append(f"{key!r} was stored and is gone, and nothing of it was told")
            elif last is not None and last[0] == "upsert":
                found.append(f"{key!r} is gone, told last was {last}")
        return found

    def _wrong(self, change: Change, words: str) -> None:
        self.violations.append(f"the watch tells of {change}, which {words}")
