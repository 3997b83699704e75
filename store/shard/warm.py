"""Key-values of memories by their seq: stored, fetched, counted when read, the least read dropped when over budget."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence, Set

from .. import limits
from ..disk.seal import Damaged
from ..errors import Corrupted
from ..validation import check_fingerprint, check_key_values, check_limit, check_seq, check_seqs
from .state import ShardState


class WarmMemories:
    """The memories of one shard that have key-values, and those that have none."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._making_room = threading.Lock()

    def cold(self, fingerprint: str, limit: int, after: int = 0) -> list[tuple[int, str]]:
        """Return up to `limit` memories without key-values of `fingerprint`, as (seq, text), seqs over `after`."""
        state = self._state
        check_fingerprint(fingerprint)
        check_limit(limit, limits.COLD_MAX)
        check_seq(after)
        found: list[tuple[int, str]] = []
        with state.using():
            with state.memory_reader(fingerprint) as (txn, reader):
                for seq in state.records.seqs(txn, after):
                    if len(found) == limit:
                        break
                    hit = None if reader.key_values.holds(seq) else reader.hit(seq, 0.0)
                    if hit is not None:
                        found.append((seq, hit.text))
            state.quarantine(reader.damages)
        return found

    def put(self, fingerprint: str, items: Iterable[tuple[int, bytes]]) -> list[bool]:
        """Store key-values by seq; False for each memory that is gone.

        A long stream is stored in several transactions, and what was stored stays when a later one fails.

        Raises:
            InvalidArgument: a value is empty, too large, or of another size than the fingerprint's others.
            ResourceExhausted: the disk is full, or too many fingerprints are stored.
        """
        key = check_fingerprint(fingerprint)
        stored: list[bool] = []
        for batch in _batches(items):
            if stored:
                time.sleep(limits.REST_S)
            stored += self._put_batch(key, batch)
        return stored

    def fetch(self, fingerprint: str, seqs: Sequence[int]) -> list[bytes | None]:
        """Return the key-values of each memory, None where it is gone or cold.

        Raises:
            Corrupted: some are damaged; they are removed, so the memory is cold from now on.
        """
        values, damages = self._fetch(fingerprint, seqs)
        if damages:
            raise Corrupted(
                f"key-values of fingerprint {fingerprint!r} failed their checksum and were removed; the memories "
                f"are cold now: {'; '.join(str(damage) for damage in damages)}"
            )
        return values

    def fetch_whole(self, fingerprint: str, seqs: Sequence[int]) -> list[bytes | None]:
        """Return the key-values of each memory, None where it is gone or cold, or where they are damaged.

        What is damaged is removed, so the memory is cold from now on.
        """
        return self._fetch(fingerprint, seqs)[0]

    def note_reads(self, seqs: Sequence[int]) -> list[None]:
        """Count one more read of key-values that the caller held and did not fetch, but for memories that are gone."""
        state = self._state
        with state.using():
            with state.records.environment.reading() as txn:
                live = state.records.live_at(txn, seqs, state.now())
            state.key_values.reads.note(seq for seq, is_live in zip(seqs, live, strict=True) if is_live)
        return [None] * len(seqs)

    def has_room(self) -> bool:
        """Say whether key-values can be added without others making room for them."""
        state = self._state
        with state.using():
            return state.room.is_there_for_key_values()

    def _fetch(self, fingerprint: str, seqs: Sequence[int]) -> tuple[list[bytes | None], list[Damaged]]:
        state = self._state
        key = check_fingerprint(fingerprint)
        check_seqs(seqs)
        with state.using():
            with state.records.environment.reading() as txn:
                live = state.records.live_at(txn, seqs, state.now())
            values, damages = state.key_values.fetch(key, seqs, live)
            state.key_values.reads.note(seq for seq, value in zip(seqs, values, strict=True) if value is not None)
            state.expel(damages)
        return values, damages

    def _put_batch(self, fingerprint: bytes, batch: Sequence[tuple[int, bytes]]) -> list[bool]:
        state = self._state
        with state.using():
            # Under the writer lock no memory goes away between the look and the commit.
            with state.writer:
                with state.records.environment.reading() as txn:
                    live = state.records.live_at(txn, [seq for seq, _ in batch], state.now())
                kept = [item for item, is_live in zip(batch, live, strict=True) if is_live]
                if kept:
                    state.room.check()
                    state.key_values.put(fingerprint, kept)
            self._make_room({seq for seq, _ in kept})
            return live

    def _make_room(self, new: Set[int]) -> None:
        state = self._state
        most = state.room.quotas.key_values_bytes_max
        if most is None or not state.room.key_values_over():
            return
        with self._making_room:
            # Whoever had the lock before may have made enough.
            over = state.room.key_values_over()
            for keys in state.key_values.least_read(over, most, new) if over else ():
                with state.writer:
                    state.key_values.remove(keys)
                time.sleep(limits.REST_S)


def _batches(items: Iterable[tuple[int, bytes]]) -> Iterator[Sequence[tuple[int, bytes]]]:
    batch: list[tuple[int, bytes]] = []
    size = 0
    for seq, value in items:
        check_key_values(seq, value)
        batch.append((seq, value))
        size += len(value)
        if len(batch) == limits.KEY_VALUES_BATCH_MAX or size >= limits.KEY_VALUES_BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
