"""What exact search finds among the memories of all rounds, which are made again one round at a time.

`Q` queries, `R` references of a round, `K` results.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from memory3.bench.index_vectors import Matrix
from memory3.bench.scale_data import RealDocuments, round_percents, round_vectors

Seqs = npt.NDArray[np.int64]

FILTERS: Final[Mapping[str, Mapping[str, Any] | None]] = {
    "all": None,
    "1 %": {"percent": 7},
    "10 %": {"percent": {"$lt": 10}},
}
"""Among which memories is searched, as callers write it."""


_PARTS = ("seqs", "scores")


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest memories of each query, best first: seqs (Q, K) and their scores (Q, K)."""

    seqs: Seqs
    scores: Matrix


def exact(real: RealDocuments, rounds: int, queries: Matrix, k: int) -> dict[str, Nearest]:
    """Return for each of `FILTERS` the k nearest memories of each query (Q, D), seqs being given in order from 1 on."""
    found = {name: Nearest(np.zeros((len(queries), 0), np.int64), queries[:, :0]) for name in FILTERS}
    for number in range(rounds):
        scores = queries @ round_vectors(real, number).T
        percents = round_percents(real, number)
        first = number * len(real.texts) + 1
        for name, kept in (("all", percents >= 0), ("1 %", percents == 7), ("10 %", percents < 10)):
            rows = np.flatnonzero(kept)
            found[name] = _merged(found[name], scores[:, rows], first + rows, k)
    return found


def kept_exact(folder: Path, real: RealDocuments, rounds: int, queries: Matrix, k: int) -> dict[str, Nearest]:
    """Return what `exact` does, from a file in `folder`, made if missing: it takes minutes for many rounds."""
    digest = hashlib.sha256(queries.tobytes() + real.references.tobytes()).hexdigest()[:12]
    path = folder / f"exact-{digest}-{rounds}-{k}.npz"
    if not path.exists():
        found = exact(real, rounds, queries, k)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{f"{name} {part}": getattr(one, part) for name, one in found.items() for part in _PARTS})
    with np.load(path) as kept:
        return {name: Nearest(*(kept[f"{name} {part}"] for part in _PARTS)) for name in FILTERS}


def _merged(nearest: Nearest, scores: Matrix, seqs: Seqs, k: int) -> Nearest:
    scores = np.concatenate([nearest.scores, scores], axis=1)
    seqs = np.concatenate([nearest.seqs, np.broadcast_to(seqs, (len(scores), len(seqs)))], axis=1)
    if scores.shape[1] > k:
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, seqs = np.take_along_axis(scores, best, axis=1), np.take_along_axis(seqs, best, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return Nearest(np.take_along_axis(seqs, order, axis=1), np.take_along_axis(scores, order, axis=1))
