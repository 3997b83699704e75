"""The answers of several shards as one."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .types import CheckReport, CollectionInfo, CollectionStats, Count, DeleteReceipt


def merged_counts(counts: Sequence[Count]) -> Count:
    return Count(sum(count.documents for count in counts), sum(count.memories for count in counts))


def merged_receipts(keys: Sequence[str], receipts: Sequence[DeleteReceipt]) -> DeleteReceipt:
    """Return one receipt for the keys, in their order."""
    deleted = {key for receipt in receipts for key in receipt.deleted}
    return DeleteReceipt(
        deleted=tuple(key for key in keys if key in deleted),
        missing=tuple(key for key in keys if key not in deleted),
        memories=sum(receipt.memories for receipt in receipts),
        positions=tuple(position for receipt in receipts for position in receipt.positions),
    )


def merged_stats(
    info: CollectionInfo, stats: Sequence[CollectionStats], missing_shards: tuple[int, ...], most_read: int
) -> CollectionStats:
    warm: Counter[str] = Counter()
    warm_bytes: Counter[str] = Counter()
    for one in stats:
        warm.update(one.warm)
        warm_bytes.update(one.warm_bytes)
    # In a shard without any key-values of a model all memories are cold for it.
    cold = {name: sum(one.cold.get(name, one.count.memories) for one in stats) for name in warm}
    read = [memory for one in stats for memory in one.most_read]
    return CollectionStats(
        info=info,
        count=merged_counts([one.count for one in stats]),
        warm=dict(warm),
        cold=cold,
        warm_bytes=dict(warm_bytes),
        positions=tuple(position for one in stats for position in one.positions),
        records_bytes=sum(one.records_bytes for one in stats),
        key_values_bytes=sum(one.key_values_bytes for one in stats),
        index_bytes=sum(one.index_bytes for one in stats),
        quarantined=sum(one.quarantined for one in stats),
        records_free_bytes=sum(one.records_free_bytes for one in stats),
        key_values_free_bytes=sum(one.key_values_free_bytes for one in stats),
        records_held_bytes=sum(one.records_held_bytes for one in stats),
        key_values_held_bytes=sum(one.key_values_held_bytes for one in stats),
        disk_free_bytes=min((one.disk_free_bytes for one in stats), default=0),
        disk_reserved_bytes=max((one.disk_reserved_bytes for one in stats), default=0),
        oldest_reader=max((one.oldest_reader for one in stats), default=0),
        reads=sum(one.reads for one in stats),
        memories_read=sum(one.memories_read for one in stats),
        indices=tuple(index for one in stats for index in one.indices),
        missing_shards=missing_shards,
        most_read=tuple(sorted(read, key=lambda memory: (-memory.reads, memory.seq))[:most_read]),
    )


def merged_reports(reports: Mapping[int, CheckReport], problems: Sequence[str], several: bool) -> CheckReport:
    """Return one report of these shards, and further problems; of several shards each problem says whose it is."""
    found = [
        f"shard {number}: {problem}" if several else problem
        for number, report in reports.items()
        for problem in report.problems
    ]
    return CheckReport(
        documents=sum(report.documents for report in reports.values()),
        memories=sum(report.memories for report in reports.values()),
        key_values=sum(report.key_values for report in reports.values()),
        problems=(*problems, *found),
    )
