"""What taking turns at LMDB (store/disk/turns.py) gives several callers in one process: three ways, one after another.

    python bench/turns.py runs/store/work-10000-10000-500

The folder is a work of bench/store.py, which made it. Calls a second, the median of the rounds: without turns, with
turns that are given up for each search of the index, and as they are, kept in a short search.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

from memory3.bench.machine import machine_line
from memory3.bench.peers import measures
from memory3.bench.peers.memory3_store import PEER, Memory3Store
from memory3.bench.peers.timing import calls_per_second
from memory3.bench.peers.work import K, Work, load_work
from memory3.store.disk.turns import READS
from memory3.store.index import inverted

CALLERS = (1, 4, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of a work")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measure [1]")
    parser.add_argument("--rounds", type=int, default=5, help="of all of them [5]")
    parser.add_argument("--folder", type=Path, help="where the store is put [temporary]")
    options = parser.parse_args()
    work = load_work(options.work)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store = Memory3Store(Path(folder) / "data", work.size)
        measures.load(store, work, 3_600)
        loads = _loads(store, work, options.seconds)
        found: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for way, run in WAYS.items():
                for name, load in loads.items():
                    found.setdefault((name, way), []).append(run(load))
        store.close()
    print(machine_line(), end="\n\n")
    print(f"| calls a second | {' | '.join(WAYS)} |\n{'|---' * (1 + len(WAYS))}|")
    for name in loads:
        rates = [median(found[name, way]) for way in WAYS]
        print(f"| {name} | {' | '.join(f'{rate:,.0f} ({rate / rates[0]:.2f})' for rate in rates)} |")


def _loads(store: Memory3Store, work: Work, seconds: float) -> dict[str, Callable[[], float]]:
    def recall(number: int) -> object:
        return store.recall(work.questions[number % len(work.questions)], K)

    def recalls(callers: int) -> Callable[[], float]:
        return lambda: calls_per_second(recall, callers, seconds)

    def mixed() -> float:
        rate: float = measures.mixed(store, PEER, work, 0, seconds)["calls_per_s"]
        return rate

    named = {f"recalls of {callers}": recalls(callers) for callers in CALLERS}
    return {**named, f"mixed load of {measures.MIXED_CALLERS}": mixed}


def _without(load: Callable[[], float]) -> float:
    # Nobody ever has the turn, and nobody waits for it.
    with patch.object(READS, "_take", lambda: None):
        return load()


def _given_up(load: Callable[[], float]) -> float:
    with patch.object(inverted, "LONG_COMPONENTS", 0):
        return load()


WAYS: dict[str, Callable[[Callable[[], float]], float]] = {
    "without turns": _without,
    "given up in each search": _given_up,
    "with turns": lambda load: load(),
}


if __name__ == "__main__":
    main()
