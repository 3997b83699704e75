"""`memory3 stats` and `check`: how a store is."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from ..store.types import CollectionStats, IndexKind, IndexState
from .connection import connected
from .options import CollectionName, Data, Json, ServerAddress, Target
from .output import bytes_of, counted, plain, print_json, results, table_of_fields


def stats(
    most_read: Annotated[
        int, typer.Option("--most-read", min=0, max=1000, help="How many of the memories read most to name.")
    ] = 5,
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    json: Json = False,
) -> None:
    """Show how much a collection holds, on disk and in memory, and what of it is read."""
    target = Target.of(data, server, collection)
    with connected(target) as memory:
        found = memory.stats(most_read=most_read, collection=target.collection)
    if json:
        print_json(_fields(found))
        return
    warm = {
        f"warm for {fingerprint}": f"{count} memories, {bytes_of(found.warm_bytes[fingerprint])}; "
        f"{found.cold[fingerprint]} are cold"
        for fingerprint, count in found.warm.items()
    }
    fields = {
        "collection": found.info.name,
        "embedder": f"{found.info.embedder}, {found.info.dimension} dimensions",
        "documents": found.count.documents,
        "memories": found.count.memories,
        **warm,
        "position": ", ".join(map(str, found.positions)),
        "records": _space(found.records_bytes, found.records_free_bytes, found.records_held_bytes),
        "key-values": _space(found.key_values_bytes, found.key_values_free_bytes, found.key_values_held_bytes),
        "reads of key-values": f"{found.reads}, of {found.memories_read} memories",
        "oldest read": f"{found.oldest_reader} commits behind",
        "disk": f"{bytes_of(found.disk_free_bytes)} free, {bytes_of(found.disk_reserved_bytes)} of it kept for deletes",
        "index in memory": f"{bytes_of(found.index_bytes)}, {', '.join(map(_index, found.indices))}",
        "damaged values": found.quarantined,
        **({"missing shards": ", ".join(map(str, found.missing_shards))} if found.missing_shards else {}),
    }
    results.print(table_of_fields(fields))
    if found.most_read:
        table = Table("reads", "seq", "key", title="memories read most", title_justify="left")
        for one in found.most_read:
            table.add_row(str(one.reads), str(one.seq), plain(one.key))
        results.print(table)


def check(
    full: Annotated[
        bool, typer.Option("--full", help="Also read every stored value and compare its checksum.")
    ] = False,
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    json: Json = False,
) -> None:
    """Verify that records, keys, vectors, index and key-values agree. The exit code is 1 when they do not."""
    target = Target.of(data, server, collection)
    what = "reading every stored value" if full else "comparing records, vectors, index and key-values"
    with connected(target) as memory, counted(what) as progress:
        report = memory.check(full=full, collection=target.collection, progress=progress)
    if json:
        print_json({"ok": report.ok} | asdict(report))
    else:
        for problem in report.problems:
            results.print(plain(problem), style="red")
        verdict = "all is well" if report.ok else f"{len(report.problems)} problems"
        results.print(
            f"{report.documents} documents, {report.memories} memories, {report.key_values} key-values: {verdict}"
        )
    if not report.ok:
        raise typer.Exit(1)


def _space(used: int, free: int, held: int) -> str:
    but = f", but for {bytes_of(held)} that the oldest read holds" if held else ""
    return f"{bytes_of(used)} live, {bytes_of(free)} dead: free for what is written next{but}"


def _index(index: IndexState) -> str:
    lists = f" of {index.lists} lists" if index.kind is IndexKind.QUANTIZED else ""
    return f"{index.kind.name.lower()}{lists}{', being clustered' if index.clustering else ''}"


def _fields(stats: CollectionStats) -> dict[str, Any]:
    return asdict(stats) | {"warm": dict(stats.warm), "cold": dict(stats.cold), "warm_bytes": dict(stats.warm_bytes)}
