"""A data directory to damage: two collections of the same keys, with a past, and a copy of it from that past."""

import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.placement import shard_of_key
from memory3.store.seqs import shard_of_seq
from memory3.store.types import UpsertResult

from .content import DIMENSION, EMBEDDER, FINGERPRINTS, embedded_of, expiring, expiry_of, texts_of, values_of

COLLECTIONS = ("one", "two")
SHARDS = 3
DOCUMENTS = 90
VALUES_SHARE = 0.5
REQUEST = "the last request"
BUILD_S = 2.0
"""From so long after the beginning some documents have expired, which nobody has deleted yet."""
LATER_S = 3_600.0

Versions = dict[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """What stands in a collection: the version of each key, the text of each memory by its seq.

    `asked` and `answered` are its last request and the answer to it.
    """

    versions: Versions
    memories: dict[int, str]
    asked: Versions = field(default_factory=dict)
    answered: list[UpsertResult] = field(default_factory=list)

    def with_shard_of(self, other: "State", shard: int) -> "State":
        """Return this state with one shard as it is in another."""
        versions = {
            key: version
            for state, chosen in ((self, False), (other, True))
            for key, version in state.versions.items()
            if (shard_of_key(key, SHARDS) == shard) is chosen
        }
        memories = {
            seq: text
            for state, chosen in ((self, False), (other, True))
            for seq, text in state.memories.items()
            if (shard_of_seq(seq) == shard) is chosen
        }
        return State(versions, memories, self.asked, self.answered)


States = dict[str, State]
"""By the collection's name."""


@dataclass(frozen=True, slots=True)
class Estate:
    """`now` is a closed data directory, in which `states` stands; `older` is what it was before, in `older_states`."""

    now: Path
    older: Path
    states: States
    older_states: States

    @classmethod
    def build(cls, folder: Path) -> "Estate":
        """Make it in a folder that is empty."""
        now, older = folder / "now", folder / "older"
        choose, soon = random.Random(0), time.time() + BUILD_S
        first = {name: {f"key-{n}": _version(f"{name}-old", n, soon) for n in range(DOCUMENTS)} for name in COLLECTIONS}
        _work(now, first, choose)
        older_states = _states(now, {}, {})
        shutil.copytree(now, older)
        changed = {
            name: {f"key-{n}": _version(f"{name}-new", n, soon) if n % 2 else "" for n in range(0, DOCUMENTS, 3)}
            for name in COLLECTIONS
        }
        answers = _work(now, changed, choose, REQUEST)
        states = _states(now, changed, answers)
        time.sleep(max(0.0, soon - time.time()))
        return cls(now, older, states, older_states)


def _version(name: str, number: int, soon: float) -> str:
    if number % 10 == 1:
        return expiring(name, soon)
    return expiring(name, soon + LATER_S) if number % 10 == 5 else name


def _work(
    path: Path, changes: Mapping[str, Versions], choose: random.Random, request: str = "a request"
) -> dict[str, list[UpsertResult]]:
    """Store these versions, delete where there is none, write key-values for a part of the memories, and read some."""
    answers = {}
    with DataDirectory.open(path) as directory:
        for name, of_key in changes.items():
            collection = directory.create_collection(name, EMBEDDER, DIMENSION, SHARDS)
            collection.delete([key for key, version in of_key.items() if not version])
            collection.save()
            written = _written(of_key)
            answers[name] = collection.upsert([embedded_of(*one) for one in written.items()], request)
            for stored in collection.get(list(written)):
                if stored is None:
                    continue
                for fingerprint in FINGERPRINTS:
                    if choose.random() < VALUES_SHARE:
                        write_values(
                            collection, fingerprint, stored.memories, texts_of(stored.key, written[stored.key])
                        )
                        collection.fetch_key_values(fingerprint, stored.memories)
            # One of them as a crash leaves it, with changes that no saved index knows.
            if name == COLLECTIONS[-1]:
                collection.close(save=False)
    return answers


def _written(changed: Versions) -> Versions:
    return {key: version for key, version in changed.items() if version}


def write_values(collection: Collection, fingerprint: str, seqs: Sequence[int], texts: Sequence[str]) -> None:
    items = [(seq, values_of(fingerprint, seq, text)) for seq, text in zip(seqs, texts, strict=True)]
    collection.put_key_values(fingerprint, items)


def _states(path: Path, changed: Mapping[str, Versions], answers: Mapping[str, list[UpsertResult]]) -> States:
    with DataDirectory.open(path) as directory:
        return {
            name: _state(directory.collection(name), _written(changed.get(name, {})), answers.get(name, []))
            for name in COLLECTIONS
        }


def _state(collection: Collection, asked: Versions, answered: list[UpsertResult]) -> State:
    documents = list(_lasting(collection))
    seqs = [seq for _, _, memories in documents for seq in memories]
    texts = {hit.seq: hit.text for hit in collection.memories(seqs) if hit is not None}
    return State({key: version for key, version, _ in documents}, texts, asked, answered)


def _lasting(collection: Collection) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Key, version and seqs of the documents that do not expire soon."""
    for document in collection.list(1_000).documents:
        version = str(document.metadata["version"])
        if (expiry_of(version) or float("inf")) > time.time() + LATER_S / 2:
            yield document.key, version, document.memories
