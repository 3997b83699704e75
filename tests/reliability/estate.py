"""A data directory to damage: two collections of the same keys, with a past, and a copy of it from that past."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory

from .content import DIMENSION, EMBEDDER, FINGERPRINTS, embedded_of, texts_of, values_of

COLLECTIONS = ("one", "two")
DOCUMENTS = 60
VALUES_SHARE = 0.5

Versions = dict[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """What stands in a collection: the version of each key, the text of each memory by its seq."""

    versions: Versions
    memories: dict[int, str]


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
        choose = random.Random(0)
        _work(now, {name: {f"key-{n}": f"{name}-old" for n in range(DOCUMENTS)} for name in COLLECTIONS}, choose)
        older_states = _states(now)
        shutil.copytree(now, older)
        changed = {
            name: {f"key-{n}": f"{name}-new" if n % 2 else "" for n in range(0, DOCUMENTS, 3)} for name in COLLECTIONS
        }
        _work(now, changed, choose)
        return cls(now, older, _states(now), older_states)


def _work(path: Path, changes: dict[str, Versions], choose: random.Random) -> None:
    """Store these versions, delete where there is none, and write key-values for a part of the memories."""
    with DataDirectory.open(path) as directory:
        for name, of_key in changes.items():
            collection = directory.create_collection(name, EMBEDDER, DIMENSION)
            collection.delete([key for key, version in of_key.items() if not version])
            collection.save()
            collection.upsert([embedded_of(key, version) for key, version in of_key.items() if version])
            for stored in collection.get([key for key, version in of_key.items() if version]):
                assert stored is not None
                for fingerprint in FINGERPRINTS:
                    if choose.random() < VALUES_SHARE:
                        write_values(collection, fingerprint, stored.memories, texts_of(stored.key, of_key[stored.key]))
            # One of them as a crash leaves it, with changes that no saved index knows.
            if name == COLLECTIONS[-1]:
                collection.close(save=False)


def write_values(collection: Collection, fingerprint: str, seqs: tuple[int, ...], texts: list[str]) -> None:
    items = [(seq, values_of(fingerprint, seq, text)) for seq, text in zip(seqs, texts, strict=True)]
    assert all(collection.put_key_values(fingerprint, items))


def _states(path: Path) -> States:
    with DataDirectory.open(path) as directory:
        return {name: _state(directory.collection(name)) for name in COLLECTIONS}


def _state(collection: Collection) -> State:
    documents = collection.list(1_000).documents
    seqs = [seq for document in documents for seq in document.memories]
    texts = {hit.seq: hit.text for hit in collection.memories(seqs) if hit is not None}
    return State({document.key: str(document.metadata["version"]) for document in documents}, texts)
