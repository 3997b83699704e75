"""What a shard holds and how it fares, counted in one state of records and key-values."""

from .. import limits
from ..disk.durable import free_bytes
from ..types import CollectionStats
from .state import ShardState


def statistics(state: ShardState, most_read: int) -> CollectionStats:
    """Return the statistics of a shard, with up to so many of the memories `most_read`."""
    key_values, records = state.key_values, state.records
    with state.using(), records.environment.reading() as txn, key_values.environment.reading() as kv_txn:
        now, fingerprints = state.now(), list(key_values.by_fingerprint(kv_txn))
        count, ended = state.documents.count(txn, now), state.documents.ended(txn, now).values()
        views = {name: key_values.view(kv_txn, name.encode()) for name, _ in fingerprints}
        # Two states, of which one may be a moment newer.
        cold = {
            name: max(0, count.memories - record.count + sum(views[name].holds(seq) for seqs in ended for seq in seqs))
            for name, record in fingerprints
        }
        return CollectionStats(
            info=state.info,
            count=count,
            warm={name: record.count for name, record in fingerprints},
            cold=cold,
            warm_bytes={name: record.count * record.value_bytes for name, record in fingerprints},
            positions=(records.position(txn),),
            records_bytes=records.environment.bytes_used(txn),
            key_values_bytes=key_values.environment.bytes_used(kv_txn),
            index_bytes=state.derived.index.bytes_used,
            quarantined=records.quarantine.count(txn) + key_values.quarantine.count(kv_txn),
            records_free_bytes=records.environment.free_bytes(txn),
            key_values_free_bytes=key_values.environment.free_bytes(kv_txn),
            records_held_bytes=records.environment.held_bytes(txn),
            key_values_held_bytes=key_values.environment.held_bytes(kv_txn),
            disk_free_bytes=free_bytes(records.environment.path),
            disk_reserved_bytes=limits.BYTES_RESERVED,
            oldest_reader=max(records.environment.oldest_reader(), key_values.environment.oldest_reader()),
            reads=key_values.reads.total,
            memories_read=key_values.reads.memories,
            indices=(state.derived.state(),),
            most_read=tuple(state.documents.most_read(txn, most_read, now)),
        )
