"""A collection against a dictionary: any sequence of calls, damage to caches and reopening included."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.types import Count, EmbeddedDocument

from .builders import DIMENSION, EMBEDDER, KEY_VALUES, SNAPSHOT, embedded, vector_of

KEYS = ["a", "b", "ab", "Zoë", "x" * 511, "日本"]
FINGERPRINTS = {"model": 8, "other": 21}

keys = st.sampled_from(KEYS)
pieces = st.lists(st.sampled_from(["one ", "two ", "drei ", "π. ", "last"]), min_size=1, max_size=3)
documents = st.builds(
    lambda key, texts, number: embedded(key, *texts, metadata={"n": number} if number else {}),
    keys,
    pieces,
    st.integers(0, 2),
)


class CollectionMachine(RuleBasedStateMachine):
    """`model` maps each key to its document and its seqs; `values` maps (fingerprint, seq) to key-values."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.model: dict[str, tuple[EmbeddedDocument, tuple[int, ...]]] = {}
        self.values: dict[tuple[str, int], bytes] = {}
        self.position = 0
        self.directory: DataDirectory
        self.collection: Collection

    @initialize()
    def open(self) -> None:
        self.directory = DataDirectory.open(self.path)
        self.collection = self.directory.create_collection("default", EMBEDDER, DIMENSION)

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            assert self.collection.check(full=True).problems == ()
            self.directory.close()
        shutil.rmtree(self.path)

    @property
    def live(self) -> dict[int, tuple[str, str]]:
        """Every live memory: seq to key and text."""
        return {
            seq: (key, reference.text)
            for key, (document, seqs) in self.model.items()
            for seq, reference in zip(seqs, document.references, strict=True)
        }

    def forget(self, key: str) -> int:
        _, seqs = self.model.pop(key, (None, ()))
        self.values = {place: value for place, value in self.values.items() if place[1] not in seqs}
        return len(seqs)

    @rule(batch=st.lists(documents, min_size=1, max_size=3, unique_by=lambda document: document.document.key))
    def upsert(self, batch: list[EmbeddedDocument]) -> None:
        same = {d.document.key for d in batch if self.standing(d)}
        assert self.collection.unchanged([d.document for d in batch]) == same
        for document, result in zip(batch, self.collection.upsert(batch), strict=True):
            key = document.document.key
            assert (result.key, result.changed) == (key, key not in same)
            if result.changed:
                self.forget(key)
                count = len(document.references)
                seqs = tuple(range(self.position + 1, self.position + count + 1))
                self.position += count
                self.model[key] = (document, seqs)
            assert (result.version, result.memories) == (self.model[key][1][-1], len(self.model[key][1]))

    def standing(self, document: EmbeddedDocument) -> bool:
        stored = self.model.get(document.document.key)
        return stored is not None and stored[0].document == document.document

    @rule(batch=st.lists(keys, max_size=4))
    def delete(self, batch: list[str]) -> None:
        once = list(dict.fromkeys(batch))
        present = tuple(key for key in once if key in self.model)
        receipt = self.collection.delete(batch)
        assert receipt.deleted == present
        assert receipt.missing == tuple(key for key in once if key not in present)
        assert receipt.memories == sum(self.forget(key) for key in present)
        self.position += len(present)
        assert receipt.position == self.position

    @rule(batch=st.lists(keys, max_size=4))
    def get(self, batch: list[str]) -> None:
        for key, stored in zip(batch, self.collection.get(batch), strict=True):
            assert (stored is None) == (key not in self.model)
            if stored is not None:
                document, seqs = self.model[key]
                assert (stored.text, stored.metadata) == (document.document.text, document.document.metadata)
                assert (stored.memories, stored.version) == (seqs, seqs[-1])

    @rule(limit=st.integers(1, 7))
    def list_all(self, limit: int) -> None:
        found, token = [], ""
        while True:
            page = self.collection.list(limit, token)
            found += [stored.key for stored in page.documents]
            token = page.next_page_token
            if not token:
                break
        assert found == sorted(self.model, key=str.encode)

    @rule(text=st.sampled_from(["one ", "two ", "elsewhere"]), k=st.integers(1, 12))
    def recall(self, text: str, k: int) -> None:
        live, query = self.live, vector_of(text)
        hits = self.collection.recall(query[None], k, "model")[0]
        scores = {seq: float(vector_of(piece) @ query) for seq, (_, piece) in live.items()}
        np.testing.assert_allclose([h.score for h in hits], sorted(scores.values(), reverse=True)[:k], atol=1e-6)
        assert len({hit.seq for hit in hits}) == len(hits)
        for hit in hits:
            assert (hit.key, hit.text) == live[hit.seq]
            assert abs(hit.score - scores[hit.seq]) < 1e-6
            assert hit.warm == (("model", hit.seq) in self.values)
            assert hit.metadata == self.model[hit.key][0].document.metadata

    @rule(fingerprint=st.sampled_from(sorted(FINGERPRINTS)), seqs=st.lists(st.integers(0, 40), max_size=5))
    def put(self, fingerprint: str, seqs: list[int]) -> None:
        items = [(seq, f"{fingerprint}{seq}".encode().ljust(FINGERPRINTS[fingerprint])) for seq in seqs]
        live = self.live
        assert self.collection.put_key_values(fingerprint, items) == [seq in live for seq, _ in items]
        self.values.update({(fingerprint, seq): value for seq, value in items if seq in live})

    @rule(fingerprint=st.sampled_from(sorted(FINGERPRINTS)), seqs=st.lists(st.integers(0, 40), max_size=5))
    def fetch(self, fingerprint: str, seqs: list[int]) -> None:
        expected = [self.values.get((fingerprint, seq)) for seq in seqs]
        assert self.collection.fetch_key_values(fingerprint, seqs) == expected

    @rule(fingerprint=st.sampled_from(sorted(FINGERPRINTS)), limit=st.integers(1, 5), after=st.integers(0, 20))
    def cold(self, fingerprint: str, limit: int, after: int) -> None:
        expected = [
            (seq, text)
            for seq, (_, text) in sorted(self.live.items())
            if seq > after and (fingerprint, seq) not in self.values
        ]
        assert self.collection.cold(fingerprint, limit, after) == expected[:limit]

    @rule(seqs=st.lists(st.integers(0, 60), max_size=6))
    def memories(self, seqs: list[int]) -> None:
        live = self.live
        for seq, hit in zip(seqs, self.collection.memories(seqs, "model"), strict=True):
            assert (hit is None) == (seq not in live)
            if hit is not None:
                assert (hit.key, hit.text, hit.seq, hit.score) == (*live[seq], seq, 0.0)
                assert hit.version == self.model[hit.key][1][-1]
                assert hit.warm == (("model", seq) in self.values)

    @rule()
    def save(self) -> None:
        self.collection.save()

    @rule(lose_snapshot=st.booleans(), lose_key_values=st.sampled_from([False, False, True]), save=st.booleans())
    def reopen(self, lose_snapshot: bool, lose_key_values: bool, save: bool) -> None:
        if not save:
            self.collection.close(save=False)
        self.directory.close()
        if lose_snapshot:
            (self.path / SNAPSHOT).unlink(missing_ok=True)
        if lose_key_values:
            shutil.rmtree(self.path / KEY_VALUES)
            self.values.clear()
        self.open()

    @rule(full=st.booleans())
    def check(self, full: bool) -> None:
        report = self.collection.check(full)
        assert report.problems == ()
        assert report.key_values == len(self.values)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "collection"):
            stats = self.collection.stats()
            assert stats.count == Count(len(self.model), len(self.live))
            assert stats.position == self.position
            assert sum(stats.warm.values()) == len(self.values)
            assert stats.quarantined == 0


class TrimmingMachine(CollectionMachine):
    """The same with a log that forgets almost at once and an index saved all the time."""

    def __init__(self) -> None:
        super().__init__()
        self._limits = (limits.CHANGES_KEPT, limits.SNAPSHOT_CHANGES_MIN)
        limits.CHANGES_KEPT, limits.SNAPSHOT_CHANGES_MIN = 2, 3

    def teardown(self) -> None:
        super().teardown()
        limits.CHANGES_KEPT, limits.SNAPSHOT_CHANGES_MIN = self._limits


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestTrimming = TrimmingMachine.TestCase
TestTrimming.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
