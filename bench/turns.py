"""What taking turns at LMDB (store/disk/turns.py) gives several callers in one process: with and without, in turns.

    python bench/turns.py runs/store/work-10000-10000-500

The folder is a work of bench/store.py, which made it. Calls a second, the median of the rounds.
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
        found: dict[tuple[str, bool], list[float]] = {}
        for _ in range(options.rounds):
            for taken in (False, True):
                for name, load in loads.items():
                    found.setdefault((name, taken), []).append(load() if taken else _without(load))
        store.close()
    print(machine_line(), end="\n\n")
    print("| calls a second | without turns | with turns | ratio |\n|---|---|---|---|")
    for name in loads:
        rates = [median(found[name, taken]) for taken in (False, True)]
        print(f"| {name} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[1] / rates[0]:.2f} |")


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
    with patch.object(READS, "_take", lambda queue: None):
        return load()


if __name__ == "__main__":
    main()
