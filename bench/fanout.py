"""How long a recall over many shards takes, from times that `bench/scale.py measure` took of one shard.

    python bench/fanout.py FILE.json [--sample "recall, first time"] [--in-turn 1] [--network-ms 0.5] …

A recall over n nodes ends with the slowest of n. The times of a node are the sample's, as if nodes were independent of
each other and as idle as the shard that was measured: with `--in-turn m` they are sums of m draws, for a core that
searches m shards in turn. From these the distribution of the slowest of n is computed, not drawn. A quantile that lies
beyond the sample, because n is large, is the sample's longest time and marked with a *: the truth is no less.

Network, merging and deadline are assumptions, to be given by the reader.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Times: TypeAlias = npt.NDArray[np.float64]
NODES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
QUANTILES = (0.5, 0.99, 0.999)
_DRAWS = 200_000
_SEED = 24


@dataclass(frozen=True, slots=True)
class Slowest:
    """The time of the slowest of some nodes: milliseconds (T,), rising, and the share (T,) that one node is within.

    `resolution` is the least share that the sample can tell from none.
    """

    times: Times
    within: Times
    resolution: float

    @classmethod
    def of(cls, sample: Times, hedged_after: float | None = None) -> "Slowest":
        """Each node's time is one of the sample's; a second replica is asked after `hedged_after` ms, if given."""
        sample = np.sort(sample)
        if hedged_after is None:
            times = np.unique(sample)
            return cls(times, _within(sample, times), 1 / len(sample))
        times = np.unique(np.concatenate([sample, sample + hedged_after]))
        both_late = (1 - _within(sample, times)) * (1 - _within(sample, times - hedged_after))
        return cls(times, 1 - both_late, 1 / len(sample) ** 2)

    def quantile(self, share: float, nodes: int) -> tuple[float, bool]:
        """Return the time that the slowest of `nodes` keeps in such a share of recalls, and whether it is known."""
        wanted = share ** (1 / nodes)
        at = int(np.searchsorted(self.within, wanted, side="left"))
        return float(self.times[min(at, len(self.times) - 1)]), 1 - wanted >= self.resolution

    def whole(self, deadline: float, nodes: int) -> float:
        """Return the share of recalls to which all nodes have answered by the deadline."""
        at = int(np.searchsorted(self.times, deadline, side="right"))
        return float(self.within[at - 1] ** nodes) if at else 0.0


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    found = json.loads(options.file.read_text(encoding="utf-8"))
    if options.sample not in found["samples_ms"]:
        print(f"error: there is no sample {options.sample!r}; one of {', '.join(found['samples_ms'])}", file=sys.stderr)
        return 2
    sample = in_turn(np.array(found["samples_ms"][options.sample]), options.in_turn)
    print("; ".join(found["machine"].values()))
    print(table(sample, options))
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="what `bench/scale.py measure --out` wrote")
    parser.add_argument("--sample", default="recall, first time", help="whose times [recall, first time]")
    parser.add_argument("--in-turn", type=int, default=1, metavar="M", help="shards that one core searches [1]")
    parser.add_argument("--network-ms", type=float, default=0.5, help="there and back, with calls [0.5]")
    parser.add_argument("--merge-ms", type=float, default=0.02, help="for each answer at who asks [0.02]")
    parser.add_argument("--hedge", type=float, default=95.0, metavar="P", help="percentile to ask again after [95]")
    parser.add_argument("--deadline-ms", type=float, default=50.0, help="after which an answer is partial [50]")
    return parser.parse_args(arguments)


def in_turn(sample: Times, shards: int) -> Times:
    """Return the times of a core that searches so many shards one after another."""
    if shards == 1:
        return sample
    times: Times = np.random.default_rng(_SEED).choice(sample, (_DRAWS, shards)).sum(axis=1)
    return times


def table(sample: Times, options: argparse.Namespace) -> str:
    """Return a row for each number of nodes: quantiles plain and hedged, and how many answers the deadline cuts."""
    after = float(np.percentile(sample, options.hedge))
    plain, hedged = Slowest.of(sample), Slowest.of(sample, after)
    names = " / ".join(f"p{100 * share:g}" for share in QUANTILES)
    rows = [
        f"| nodes | {names} ms | asked again after {after:.1f} ms: {names} ms "
        f"| whole within {options.deadline_ms:g} ms |",
        "|---|---|---|---|",
    ]
    for nodes in NODES:
        fixed = options.network_ms + options.merge_ms * nodes
        cells = [_quantiles(slowest, nodes, fixed) for slowest in (plain, hedged)]
        whole = plain.whole(options.deadline_ms - fixed, nodes)
        rows.append(f"| {nodes:,} | {cells[0]} | {cells[1]} | {100 * whole:.1f} % |")
    return "\n".join(rows)


def _quantiles(slowest: Slowest, nodes: int, fixed: float) -> str:
    cells = []
    for share in QUANTILES:
        time, known = slowest.quantile(share, nodes)
        cells.append(f"{time + fixed:.1f}{'' if known else '*'}")
    return " / ".join(cells)


def _within(rising: Times, times: Times) -> Times:
    return np.searchsorted(rising, times, side="right") / len(rising)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
