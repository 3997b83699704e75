"""What many memories take: bytes, nodes and money, by arithmetic from what one shard was measured to take.

    python bench/capacity.py FILE.json [--memories 1e9 1e10] [--key-value-bytes 39424 34820] [--replicas 2] …

FILE is what `bench/scale.py measure --out` wrote. Everything else is an assumption of the reader's: nodes, prices, how
much of the files is to be in memory, how many recalls a second there are. Bytes are decimal (1 TB is 10^12).
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = 4_096
PAGE_HEADER = 16
SEAL = 8
"""What LMDB and the store's checksum add to a value on pages of its own."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one memory takes, in bytes: texts and vectors on disk, its index on disk and in memory."""

    records: float
    index_file: float
    index: float

    @classmethod
    def measured(cls, figures: Mapping[str, Any]) -> "Memory":
        count, disk = figures["memories"], figures["disk"]
        return cls(disk["records"] / count, disk["index"] / count, figures["index bytes"] / count)


@dataclass(frozen=True, slots=True)
class Node:
    """A machine, and what it costs a month."""

    cores: int
    memory_gib: float
    disk_tb: float
    price: float


@dataclass(frozen=True, slots=True)
class Need:
    """What a collection needs, all replicas together, and how many nodes each of its needs asks for."""

    shards: int
    records_tb: float
    index_tb: float
    key_values_tb: float
    memory_tb: float
    by_disk: int
    by_memory: int
    by_cores: int

    @property
    def disk_tb(self) -> float:
        return self.records_tb + self.index_tb + self.key_values_tb

    @property
    def nodes(self) -> int:
        return max(self.by_disk, self.by_memory, self.by_cores)


def key_value_bytes_on_disk(value: int) -> int:
    """Return what key-values of `value` bytes take in LMDB: whole pages of their own."""
    return -(-(value + SEAL + PAGE_HEADER) // PAGE) * PAGE


def need(memories: float, memory: Memory, value_bytes: int, node: Node, options: argparse.Namespace) -> Need:
    """Return what so many memories need."""
    shards = math.ceil(memories / options.shard)
    copies = memories * options.replicas
    values = copies * options.warm * key_value_bytes_on_disk(value_bytes)
    # A node builds one index anew at a time, beside the one that serves; its file is written beside the last one.
    spare = options.shard / 1e12
    held = (copies * memory.index + options.cached * copies * memory.records) / 1e12
    disk = copies * (memory.records + memory.index_file) / 1e12 + values / 1e12
    cores = options.recalls * shards / options.recalls_per_core
    return Need(
        shards=shards,
        records_tb=copies * memory.records / 1e12,
        index_tb=copies * memory.index_file / 1e12,
        key_values_tb=values / 1e12,
        memory_tb=held,
        by_disk=math.ceil(disk / (node.disk_tb * options.full - spare * memory.index_file)),
        by_memory=math.ceil(held / (node.memory_gib * 2**30 / 1e12 - spare * memory.index)),
        by_cores=math.ceil(cores / node.cores),
    )


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    found = json.loads(options.file.read_text(encoding="utf-8"))
    memory = Memory.measured(found["figures"])
    if options.recalls_per_core is None:
        options.recalls_per_core = found["figures"]["recalls/s, 1 callers"]
    node = Node(options.cores, options.memory_gib, options.disk_tb, options.price)
    print("; ".join(found["machine"].values()))
    print(
        f"A memory takes {memory.records:,.0f} bytes of records, {memory.index_file:,.0f} of saved index, and "
        f"{memory.index:,.0f} of index in memory; a core answers {options.recalls_per_core:,.0f} recalls of one shard "
        "a second.\n"
    )
    print(table(memory, node, options))
    return 0


def table(memory: Memory, node: Node, options: argparse.Namespace) -> str:
    """Return a row for each number of memories with each size of key-values."""
    rows = [
        "| memories | shards | key-values, bytes | texts and vectors | saved index | key-values | in memory "
        "| nodes by disk / memory / cores | a month |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for memories in options.memories:
        for value_bytes in options.key_value_bytes:
            found = need(memories, memory, value_bytes, node, options)
            rows.append(
                f"| {memories:.0e} | {found.shards:,} | {value_bytes:,} | {found.records_tb:,.1f} TB "
                f"| {found.index_tb:,.1f} TB | {found.key_values_tb:,.1f} TB | {found.memory_tb:,.2f} TB "
                f"| {found.by_disk:,} / {found.by_memory:,} / {found.by_cores:,} | {found.nodes * node.price:,.0f} |"
            )
    return "\n".join(rows)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="what `bench/scale.py measure --out` wrote")
    parser.add_argument("--memories", type=float, nargs="+", default=[1e9, 1e10], help="[1e9 1e10]")
    parser.add_argument("--shard", type=float, default=1e7, help="memories of a shard [1e7]")
    parser.add_argument("--key-value-bytes", type=int, nargs="+", default=[39_424, 34_820], help="[39424 34820]")
    parser.add_argument("--warm", type=float, default=1.0, help="share of memories with key-values [1]")
    parser.add_argument("--replicas", type=int, default=2, help="copies of everything [2]")
    parser.add_argument("--cached", type=float, default=0.1, help="share of texts and vectors kept in memory [0.1]")
    parser.add_argument("--full", type=float, default=0.8, help="share of a disk that may be used [0.8]")
    parser.add_argument("--recalls", type=float, default=100.0, help="recalls a second over everything [100]")
    parser.add_argument("--recalls-per-core", type=float, help="of one shard, a second [as measured with one caller]")
    parser.add_argument("--cores", type=int, default=32, help="of a node [32]")
    parser.add_argument("--memory-gib", type=float, default=256.0, help="of a node [256]")
    parser.add_argument("--disk-tb", type=float, default=15.0, help="of a node [15]")
    parser.add_argument("--price", type=float, default=1_500.0, help="of a node, a month, in any currency [1500]")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
