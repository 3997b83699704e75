"""A collection against a dictionary: any sequence of calls, damage to caches and reopening included."""

import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memory3.store import limits
from memory3.store.backup.back_up import back_up
from memory3.store.backup.restore import restore
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from memory3.store.filters.language import matches
from memory3.store.filters.parser import parse_filter
from memory3.store.placement import shard_of_key
from memory3.store.seqs import base_of, shard_of_seq
from memory3.store.shard import state
from memory3.store.shard.shard import Shard
from memory3.store.types import Count, DeleteReceipt, EmbeddedDocument, MemoryReads, Quotas, UpsertResult

from .builders import DIMENSION, EMBEDDER, embedded, vector_of

KEYS = ["a", "b", "ab", "Zoë", "x" * 511, "日本"]
FINGERPRINTS = {"model": 8, "other": 21}
FILTERS = [{"n": 1}, {"n": {"$gte": 1}}, {"n": {"$exists": False}}, {"$not": {"n": 2}}, {"$or": [{"n": 1}, {"n": 2}]}]
START = 1.8e9
"""Where the machine's clock begins."""
SOON_S = 0.005
WAIT_S = 20.0

keys = st.sampled_from(KEYS)
filters = st.sampled_from(FILTERS)
pieces = st.lists(st.sampled_from(["one ", "two ", "drei ", "π. ", "last"]), min_size=1, max_size=3)
documents = st.builds(
    lambda key, texts, number, expires: embedded(
        key, *texts, metadata={"n": number} if number else {}, expires_at=expires
    ),
    keys,
    pieces,
    st.integers(0, 2),
    st.sampled_from([None, None, START + 5, START + 10]),
)


some_seqs = st.builds(lambda shard, number: base_of(shard) + number, st.sampled_from([0, 0, 1, 2]), st.integers(0, 40))
"""Also of memories that never were, and of shards that do not exist."""


class Hidden(NamedTuple):
    """What is still there of a document that has expired: places of its key-values, and how often they were read."""

    places: set[tuple[str, int]]
    reads: Counter[int]


class CollectionMachine(RuleBasedStateMachine):
    """`model` maps each key to its document and its seqs; `values` maps (fingerprint, seq) to key-values.

    What has expired is gone from the model at once. In the store it is hidden, and deleted by a later sweep, whose
    delete gets a seq.
    """

    SHARDS = 1

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.restored = 0
        self.path = self.folder / "data"
        self.model: dict[str, tuple[EmbeddedDocument, tuple[int, ...]]] = {}
        self.values: dict[tuple[str, int], bytes] = {}
        self.positions = [base_of(shard) for shard in range(self.SHARDS)]
        self.hidden: dict[str, Hidden] = {}
        """Keys whose document has expired and is still there."""
        self.reads: Counter[int] = Counter()
        """How often the key-values of each memory were read."""
        self.saved_reads: Counter[int] = Counter()
        """The same as of the last save, which is what a crash may leave."""
        self.followed = list(self.positions)
        """How far the log was followed."""
        self.quotas = Quotas()
        self.changed: dict[str, int] = {}
        """The last change of each key that the log must tell of."""
        self.answers: dict[str, tuple[Callable[[str, int], Any], Any]] = {}
        """Of each request how it is sent, as which and with the version expected of its first key, and its answer."""
        self.now = START
        self.clock = patch.object(state, "time", SimpleNamespace(time=lambda: self.now))
        self.clock.start()
        # The background would sweep too, and nobody could say when.
        self.idle = patch.object(Shard, "_sweep_is_due", lambda _: False)
        self.idle.start()
        self.directory: DataDirectory
        self.collection: Collection

    @initialize()
    def open(self) -> None:
        self.directory = DataDirectory.open(self.path, self.quotas)
        self.collection = self.make("default")

    def make(self, name: str) -> Collection:
        return self.directory.create_collection(name, EMBEDDER, DIMENSION, self.SHARDS)

    def teardown(self) -> None:
        try:
            if hasattr(self, "directory"):
                assert self.collection.check(full=True).problems == ()
                self.directory.close()
        finally:
            self.idle.stop()
            self.clock.stop()
            shutil.rmtree(self.folder)

    @property
    def live(self) -> dict[int, tuple[str, str]]:
        """Every live memory: seq to key and text."""
        return {
            seq: (key, reference.text)
            for key, (document, seqs) in self.model.items()
            for seq, reference in zip(seqs, document.references, strict=True)
        }

    @property
    def key_values(self) -> int:
        return len(self.values) + sum(len(hidden.places) for hidden in self.hidden.values())

    @property
    def all_reads(self) -> Counter[int]:
        """Also of what has expired and is still there."""
        return sum((hidden.reads for hidden in self.hidden.values()), +self.reads)

    def forget(self, key: str) -> int:
        _, seqs = self.model.pop(key, (None, ()))
        self.values = {place: value for place, value in self.values.items() if place[1] not in seqs}
        self.reads = Counter({seq: count for seq, count in self.reads.items() if seq not in seqs})
        return len(seqs)

    def next_seqs(self, key: str, count: int) -> tuple[int, ...]:
        number = shard_of_key(key, self.SHARDS)
        first = self.positions[number] + 1
        self.positions[number] += count
        self.changed[key] = self.positions[number]
        return tuple(range(first, first + count))

    @rule(batch=st.lists(documents, min_size=1, max_size=3, unique_by=lambda document: document.document.key))
    def upsert(self, batch: list[EmbeddedDocument]) -> None:
        same = {d.document.key for d in batch if self.standing(d)}
        assert self.collection.unchanged([d.document for d in batch]) == same
        batch = self.with_room(batch, None)
        self.stored(batch, self.collection.upsert(batch), same)

    @rule(batch=st.lists(documents, min_size=1, max_size=3, unique_by=lambda document: document.document.key))
    def upsert_as_a_request(self, batch: list[EmbeddedDocument]) -> None:
        """It is sent twice; other requests may come in between. One that was refused may be another the next time."""
        same = {d.document.key for d in batch if self.standing(d)}
        batch = self.with_room(batch, f"request {len(self.answers)}")
        if not batch:
            return

        def send(request: str, expected: int) -> list[UpsertResult]:
            return self.collection.upsert([replace(batch[0], expected_version=expected or None), *batch[1:]], request)

        self.stored(batch, self.asked(send), same)

    @rule(batch=st.lists(keys, min_size=1, max_size=4))
    def delete_as_a_request(self, batch: list[str]) -> None:
        once = list(dict.fromkeys(batch))
        present = tuple(key for key in once if key in self.model)

        def send(request: str, expected: int) -> DeleteReceipt:
            return self.collection.delete(batch, {batch[0]: expected} if expected else None, request)

        self.deleted(self.asked(send), once, present)

    def asked(self, send: Callable[[str, int], Any]) -> Any:
        request = f"request {len(self.answers)}"
        answer = send(request, 0)
        self.answers[request] = send, answer
        return answer

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        if not self.answers:
            return
        request = data.draw(st.sampled_from(sorted(self.answers)))
        send, answer = self.answers[request]
        assert send(request, 0) == answer
        with pytest.raises(InvalidArgument, match="was used for another request"):
            send(request, 7)

    @rule(document=documents, right=st.booleans())
    def upsert_over_a_version(self, document: EmbeddedDocument, right: bool) -> None:
        key = document.document.key
        standing = self.model[key][1][-1] if key in self.model else 0
        expected = replace(document, expected_version=standing if right else standing + 1)
        if not self.with_room([expected], None):
            return
        if right:
            same = {key} if self.standing(document) else set()
            self.stored([document], self.collection.upsert([expected]), same)
        else:
            with pytest.raises(Aborted, match=re.escape(repr(key))):
                self.collection.upsert([expected])

    def with_room(self, batch: list[EmbeddedDocument], request: str | None) -> list[EmbeddedDocument]:
        """Return the documents whose shard has room; the others are refused, and nothing of them stands."""
        full = self.full_shards()
        keys = [document.document.key for document in batch]
        refused = {key for key in keys if shard_of_key(key, self.SHARDS) in full}
        if refused:
            with pytest.raises(ResourceExhausted, match="its quota is"):
                self.collection.upsert([d for d in batch if d.document.key in refused], request)
        return [d for d in batch if d.document.key not in refused]

    def full_shards(self) -> set[int]:
        most = self.quotas.of_shard(self.SHARDS).bytes_max
        return set() if most is None else {number for number, used in enumerate(self.used()) if used >= most}

    def used(self) -> list[int]:
        self.wait_for_saves()
        stats = [shard_there.stats() for shard_there in self.collection._shards.values()]
        return [one.records_bytes + one.key_values_bytes for one in stats]

    @rule(left=st.sampled_from([None, -8_192, 8_192]), data=st.data())
    def set_quotas(self, left: int | None, data: st.DataObject) -> None:
        """A shard that is over its own refuses what adds, until deletes make room or the quota is raised."""
        self.quotas = Quotas(None if left is None else (max(self.used()) + left) * self.SHARDS)
        self.directory.close()
        self.saved_reads = self.all_reads
        self.open()
        self.send_again(data)

    def stored(self, batch: list[EmbeddedDocument], results: list[UpsertResult], same: set[str]) -> None:
        for document, result in zip(batch, results, strict=True):
            key = document.document.key
            assert (result.key, result.changed) == (key, key not in same)
            if result.changed:
                self.forget(key)
                self.hidden.pop(key, None)
                self.model[key] = (document, self.next_seqs(key, len(document.references)))
            assert (result.version, result.memories) == (self.model[key][1][-1], len(self.model[key][1]))
        self.expire()

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.expire()

    def expire(self) -> None:
        for key, (document, _) in list(self.model.items()):
            if (document.document.expires_at or self.now + 1) <= self.now:
                seqs = self.model[key][1]
                reads = Counter({seq: self.reads[seq] for seq in seqs})
                self.hidden[key] = Hidden({place for place in self.values if place[1] in seqs}, reads)
                self.forget(key)

    @rule()
    def sweep(self) -> None:
        assert self.collection.sweep() == len(self.hidden)
        for key in self.hidden:
            self.next_seqs(key, 1)
        # In which order a shard's own were deleted is not told, only that they were.
        for key in self.hidden:
            self.changed[key] = 0
        self.hidden.clear()

    def standing(self, document: EmbeddedDocument) -> bool:
        stored = self.model.get(document.document.key)
        return stored is not None and stored[0].document == document.document

    @rule(batch=st.lists(keys, max_size=4))
    def delete(self, batch: list[str]) -> None:
        once = list(dict.fromkeys(batch))
        present = tuple(key for key in once if key in self.model)
        self.deleted(self.collection.delete(batch), once, present)

    @rule(key=keys, right=st.booleans())
    def delete_over_a_version(self, key: str, right: bool) -> None:
        present = key in self.model
        standing = self.model[key][1][-1] if present else 0
        if right:
            receipt = self.collection.delete([key], {key: standing})
            self.deleted(receipt, [key], (key,) if present else ())
        else:
            with pytest.raises(Aborted, match=re.escape(repr(key))):
                self.collection.delete([key], {key: standing + 1})

    @rule(filter=filters)
    def delete_matching(self, filter: dict[str, Any]) -> None:
        receipt = self.collection.delete_matching(parse_filter(filter))
        assert set(receipt.deleted) == self.matching(filter) and receipt.missing == ()
        self.deleted(receipt, list(receipt.deleted), receipt.deleted)

    def deleted(self, receipt: DeleteReceipt, asked: list[str], present: tuple[str, ...]) -> None:
        assert receipt.deleted == present
        assert receipt.missing == tuple(key for key in asked if key not in present)
        assert receipt.memories == sum(self.forget(key) for key in present)
        for key in asked:
            # What has expired is missing to its caller, and goes for good all the same.
            if key in present or key in self.hidden:
                self.next_seqs(key, 1)
        self.hidden = {key: hidden for key, hidden in self.hidden.items() if key not in asked}
        for position in receipt.positions:
            assert position == self.positions[shard_of_seq(position)]

    def matching(self, filter: dict[str, Any]) -> set[str]:
        parsed = parse_filter(filter)
        return {key for key, (document, _) in self.model.items() if matches(parsed, document.document.metadata)}

    @rule(batch=st.lists(keys, max_size=4))
    def get(self, batch: list[str]) -> None:
        for key, stored in zip(batch, self.collection.get(batch), strict=True):
            assert (stored is None) == (key not in self.model)
            if stored is not None:
                document, seqs = self.model[key]
                assert (stored.text, stored.metadata) == (document.document.text, document.document.metadata)
                assert (stored.memories, stored.version) == (seqs, seqs[-1])
                assert stored.expires_at == document.document.expires_at
                assert stored.reads == tuple(self.reads[seq] for seq in seqs)

    @rule(limit=st.integers(1, 7), filter=st.none() | filters, sorting=st.booleans())
    def list_all(self, limit: int, filter: dict[str, Any] | None, sorting: bool) -> None:
        found, token = [], ""
        parsed = None if filter is None else parse_filter(filter)
        with patch.object(limits, "SORTED_KEYS_MAX", 1_000 if sorting else 0):
            while True:
                page = self.collection.list(limit, token, parsed)
                found += [stored.key for stored in page.documents]
                token = page.next_page_token
                if not token:
                    break
        assert found == sorted(self.model if filter is None else self.matching(filter), key=str.encode)

    @rule(filter=filters)
    def count_matching(self, filter: dict[str, Any]) -> None:
        keys = self.matching(filter)
        assert self.collection.count(parse_filter(filter)) == Count(
            len(keys), sum(len(self.model[key][1]) for key in keys)
        )

    @rule(limit=st.integers(1, 9))
    def changes(self, limit: int) -> None:
        """From the beginning the log tells the last change of every key, in the order of each shard."""
        self.wait_for_saves()
        self.assert_told([self.log_begins(number) for number in range(self.SHARDS)], limit)

    @rule(limit=st.integers(1, 9))
    def follow(self, limit: int) -> None:
        """Whoever goes on from where they were is told the last change of every key since, or that it is too late."""
        self.wait_for_saves()
        assert self.collection.wait(self.followed, 0) == (self.followed != self.positions)
        for number, after in enumerate(self.followed):
            if after < self.log_begins(number):
                with pytest.raises(FailedPrecondition, match="the log begins at"):
                    self.collection.changes(after, limit)
                self.followed[number] = self.log_begins(number)
        self.assert_told(self.followed, limit)
        self.followed = list(self.positions)

    def assert_told(self, after: Sequence[int], limit: int) -> None:
        """After these seqs, one of each shard, the log tells the last change of every key."""
        told: dict[str, int] = {}
        for number, position in enumerate(after):
            while found := self.collection.changes(position, limit):
                assert [change.seq for change in found] == sorted({change.seq for change in found})
                assert found[0].seq > position
                position = found[-1].seq
                told.update({change.key: change.seq for change in found})
                for change in found:
                    if self.changed[change.key] == change.seq:
                        assert (change.kind == "upsert") == (change.key in self.model or change.key in self.hidden)
            assert position == self.positions[number]
        for key, seq in self.changed.items():
            if seq > after[shard_of_key(key, self.SHARDS)]:
                assert told[key] == seq

    @rule(document=documents)
    def wait(self, document: EmbeddedDocument) -> None:
        """Whoever waits hears at once of a change by another thread, and of nothing where nothing changes."""
        same = {document.document.key} if self.standing(document) else set()
        if not self.with_room([document], None):
            return

        def soon() -> list[UpsertResult]:
            time.sleep(SOON_S)
            return self.collection.upsert([document])

        with ThreadPoolExecutor(1) as thread:
            began, results = time.monotonic(), thread.submit(soon)
            assert self.collection.wait(self.positions, 2 * SOON_S if same else WAIT_S) == (not same)
            assert time.monotonic() - began < WAIT_S
        self.stored([document], results.result(), same)

    def wait_for_saves(self) -> None:
        """A save under way trims the log, and makes files grow, at any moment."""
        for shard_there in self.collection._shards.values():
            shard_there._maintenance.wait()

    def log_begins(self, shard: int) -> int:
        records = self.collection._shards[shard]._records
        with records.environment.reading() as txn:
            return records.changes_from(txn) - 1

    @rule(text=st.sampled_from(["one ", "two ", "elsewhere"]), k=st.integers(1, 12), filter=st.none() | filters)
    def recall(self, text: str, k: int, filter: dict[str, Any] | None) -> None:
        live, query = self.live, vector_of(text)
        if filter is not None:
            live = {seq: (key, piece) for seq, (key, piece) in live.items() if key in self.matching(filter)}
        parsed = None if filter is None else parse_filter(filter)
        hits = self.collection.recall(query[None], k, "model", parsed, key_values=True)[0]
        scores = {seq: float(vector_of(piece) @ query) for seq, (_, piece) in live.items()}
        np.testing.assert_allclose([h.score for h in hits], sorted(scores.values(), reverse=True)[:k], atol=1e-6)
        assert len({hit.seq for hit in hits}) == len(hits)
        for hit in hits:
            assert (hit.key, hit.text) == live[hit.seq]
            assert abs(hit.score - scores[hit.seq]) < 1e-6
            assert hit.warm == (("model", hit.seq) in self.values)
            assert hit.key_values == self.values.get(("model", hit.seq))
            assert hit.shard == shard_of_key(hit.key, self.SHARDS)
            assert hit.metadata == self.model[hit.key][0].document.metadata
            self.reads[hit.seq] += hit.key_values is not None

    def draw_seqs(self, data: st.DataObject) -> list[int]:
        """Mostly of memories that there are."""
        live = sorted(self.live)
        return data.draw(st.lists(st.sampled_from(live) | some_seqs if live else some_seqs, max_size=5), "seqs")

    @rule(fingerprint=st.sampled_from(sorted(FINGERPRINTS)), data=st.data())
    def put(self, fingerprint: str, data: st.DataObject) -> None:
        # Those of a shard together: when they come in several batches, the first may fill a quota that the next meets.
        seqs = sorted(self.draw_seqs(data))
        items = [(seq, f"{fingerprint}{seq}".encode().ljust(FINGERPRINTS[fingerprint])) for seq in seqs]
        live, full = self.live, self.full_shards()
        refused = [item for item in items if item[0] in live and shard_of_seq(item[0]) in full]
        if refused:
            with pytest.raises(ResourceExhausted, match="its quota is"):
                self.collection.put_key_values(fingerprint, refused)
        items = [item for item in items if item not in refused]
        assert self.collection.put_key_values(fingerprint, items) == [seq in live for seq, _ in items]
        self.values.update({(fingerprint, seq): value for seq, value in items if seq in live})

    @rule(fingerprint=st.sampled_from(sorted(FINGERPRINTS)), data=st.data())
    def fetch(self, fingerprint: str, data: st.DataObject) -> None:
        seqs = self.draw_seqs(data)
        expected = [self.values.get((fingerprint, seq)) for seq in seqs]
        assert self.collection.fetch_key_values(fingerprint, seqs) == expected
        self.reads.update(seq for seq, value in zip(seqs, expected, strict=True) if value is not None)

    @rule(data=st.data())
    def note_reads(self, data: st.DataObject) -> None:
        """What is gone, or never was, is not counted."""
        known = [seq for seq in self.draw_seqs(data) if shard_of_seq(seq) < self.SHARDS]
        self.collection.note_reads(known)
        self.reads.update(seq for seq in known if seq in self.live)

    @rule(limit=st.integers(0, 6))
    def most_read(self, limit: int) -> None:
        live = self.live
        read = sorted((-count, seq) for seq, count in self.reads.items() if count)
        expected = tuple(MemoryReads(live[seq][0], seq, -count) for count, seq in read[:limit])
        assert self.collection.stats(limit).most_read == expected

    @rule(fingerprint=st.sampled_from(sorted(FINGERPRINTS)), limit=st.integers(1, 5), after=some_seqs)
    def cold(self, fingerprint: str, limit: int, after: int) -> None:
        expected = [
            (seq, text)
            for seq, (_, text) in sorted(self.live.items())
            if seq > after and (fingerprint, seq) not in self.values
        ]
        assert self.collection.cold(fingerprint, limit, after) == expected[:limit]

    @rule(seqs=st.lists(some_seqs, max_size=6))
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
        self.saved_reads = self.all_reads

    @rule()
    def compact(self) -> None:
        self.wait_for_saves()
        report = self.directory.compact("default")
        assert report.bytes_after <= report.bytes_before

    @rule()
    def restore_a_backup(self) -> None:
        """Nothing is lost by it but the latest reads."""
        self.restored += 1
        backup = self.folder / f"backup {self.restored}"
        back_up(self.directory, backup)
        self.directory.close()
        self.path = self.folder / f"restored {self.restored}"
        restore(backup, self.path)
        self.open()
        self.take_up_reads()

    def take_up_reads(self) -> None:
        """They may be as of any time since they were saved for sure."""
        for counts in (self.reads, *(hidden.reads for hidden in self.hidden.values())):
            for seq in counts:
                found = self.collection._shards[shard_of_seq(seq)]._key_values.reads.of(seq)
                assert self.saved_reads[seq] <= found <= counts[seq]
                counts[seq] = found
        self.saved_reads = self.all_reads

    @rule(name=st.sampled_from(["default", "spare", "spare", "spare"]), document=documents)
    def drop(self, name: str, document: EmbeddedDocument) -> None:
        """It answers no more, another of its name begins empty, and the one beside it is as it was."""
        key, dropped = document.document.key, self.make(name)
        self.directory.drop_collection(name)
        for call in (dropped.stats, dropped.save, lambda: dropped.get([key]), lambda: dropped.upsert([document])):
            with pytest.raises(Unavailable, match="is closed"):
                call()
        with pytest.raises(NotFound, match=f"no collection '{name}'"):
            self.directory.collection(name)
        anew = self.make(name)
        bases = tuple(base_of(shard) for shard in range(self.SHARDS))
        assert (anew.count(), anew.get([key]), anew.positions()) == (Count(0, 0), [None], bases)
        assert anew.recall(vector_of("one ")[None], 5) == [[]] and anew.stats().key_values_bytes < 1 << 20
        if name == "spare":
            with suppress(ResourceExhausted):
                anew.upsert([document])
            return
        self.collection = anew
        self.positions, self.followed = list(bases), list(bases)
        for forgotten in (self.model, self.values, self.hidden, self.changed, self.answers, self.reads):
            forgotten.clear()

    @rule(
        lose_snapshot=st.booleans(),
        lose_key_values=st.sampled_from([False, False, True]),
        save=st.booleans(),
        last=st.sampled_from(["", "", "reads", "deletes"]),
        data=st.data(),
    )
    def reopen(self, lose_snapshot: bool, lose_key_values: bool, save: bool, last: str, data: st.DataObject) -> None:
        """`last` says what alone happened after the last save, if anything."""
        if last:
            self.save()
            self.note_reads(data)
        if last == "deletes":
            self.save()
            self.delete([key for seq, (key, _) in self.live.items() if self.reads[seq]][:1])
        if save:
            self.saved_reads = self.all_reads
        else:
            self.collection.close(save=False)
        self.directory.close()
        if lose_snapshot:
            for snapshot in self.path.glob("collections/*/shard-*/index.snapshot"):
                snapshot.unlink()
        if lose_key_values:
            for key_values in self.path.glob("collections/*/shard-*/kv"):
                shutil.rmtree(key_values)
            self.values.clear()
            self.reads.clear()
            self.saved_reads.clear()
            self.hidden = {key: Hidden(set(), Counter()) for key in self.hidden}
        self.open()
        self.take_up_reads()

    @rule(full=st.booleans())
    def check(self, full: bool) -> None:
        report = self.collection.check(full)
        assert report.problems == ()
        assert report.key_values == self.key_values

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "collection"):
            stats = self.collection.stats()
            assert stats.count == Count(len(self.model), len(self.live))
            assert stats.positions == tuple(self.positions)
            assert sum(stats.warm.values()) == self.key_values
            assert (stats.reads, stats.memories_read) == (self.all_reads.total(), len(self.all_reads))
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


class ShardedMachine(CollectionMachine):
    """The same over three shards."""

    SHARDS = 3


class ClusteredMachine(CollectionMachine):
    """The same with an index that is clustered for a few vectors, and exact again for fewer."""

    SHARDS = 2

    def __init__(self) -> None:
        super().__init__()
        self._limits = (limits.EXACT_MAX, limits.BUILT_AT_OPENING_MAX)
        limits.EXACT_MAX, limits.BUILT_AT_OPENING_MAX = 3, -1

    def teardown(self) -> None:
        super().teardown()
        limits.EXACT_MAX, limits.BUILT_AT_OPENING_MAX = self._limits


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestSharded = ShardedMachine.TestCase
TestSharded.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestTrimming = TrimmingMachine.TestCase
TestTrimming.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestClustered = ClusteredMachine.TestCase
TestClustered.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
