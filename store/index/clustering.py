"""Where the lists of a quantized index lie: spherical k-means, in steps that can be stopped and give way to others.

`N` vectors, `D` embedding size, `L` lists.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..types import IndexKind
from .inverted import InvertedLists
from .nearest import nearest

Matrix: TypeAlias = npt.NDArray[np.float32]
GiveWay: TypeAlias = Callable[[], None]
"""Called between steps of a few hundredths of a second; raises to stop the work."""

_LISTS_PER_ROOT = 2
_SAMPLE_PER_LIST = 64
_ITERATIONS = 8
_QUICK_LISTS_MAX = 256
_QUICK_ITERATIONS = 4
_STEP_PRODUCTS = 1 << 21
"""Products of a vector and a centroid in one step."""
_MARGIN = 0.05
"""How far the range of a component reaches beyond the sample's, as a share of it: what lies outside is cut off."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a number of vectors is clustered."""

    lists: int
    iterations: int

    @property
    def sample(self) -> int:
        """How many vectors the lists are made from."""
        return self.lists * _SAMPLE_PER_LIST


def plan(count: int) -> Plan:
    """Return the plan for `count` vectors: 2 * sqrt(N) lists."""
    return Plan(max(1, round(_LISTS_PER_ROOT * count**0.5)), _ITERATIONS)


def quick_plan(count: int) -> Plan:
    """Return a plan that takes little time, for searches that have to go on until there is a better one."""
    return Plan(min(plan(count).lists, _QUICK_LISTS_MAX), _QUICK_ITERATIONS)


def clustered(sample: Matrix, chosen: Plan, give_way: GiveWay) -> InvertedLists:
    """Return empty quantized lists that suit a sample (N, D) of vectors, of length one, in no order."""
    random = np.random.default_rng(len(sample))
    lists = min(chosen.lists, len(sample))
    centroids = np.array(sample[random.choice(len(sample), lists, replace=False)], np.float32)
    for _ in range(chosen.iterations):
        sums, sizes = _sums(sample, centroids, give_way)
        # A list that nothing is near to begins anew, somewhere.
        empty = np.flatnonzero(sizes == 0)
        sums[empty] = sample[random.choice(len(sample), len(empty))]
        centroids = _of_length_one(sums)
    return InvertedLists(IndexKind.QUANTIZED, sample.shape[1], centroids, _ranges(sample))


def _sums(sample: Matrix, centroids: Matrix, give_way: GiveWay) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Return for each centroid (L, D) the sum (L, D) and the number (L,) of the vectors nearest to it."""
    sums, sizes = np.zeros_like(centroids), np.zeros(len(centroids), np.int64)
    for part in steps(len(sample), len(centroids)):
        give_way()
        rows = sample[part]
        lists = nearest(rows, centroids)
        order = np.argsort(lists, kind="stable")
        found, starts = np.unique(lists[order], return_index=True)
        sums[found] += np.add.reduceat(rows[order], starts, axis=0)
        sizes += np.bincount(lists, minlength=len(centroids))
    return sums, sizes


def steps(count: int, lists: int) -> Iterator[slice]:
    """Cut `count` vectors into parts that are compared with all lists in a few hundredths of a second."""
    size = max(1, _STEP_PRODUCTS // lists)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _of_length_one(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _ranges(sample: Matrix) -> Matrix:
    least, greatest = sample.min(axis=0), sample.max(axis=0)
    margin = (greatest - least) * _MARGIN + np.finfo(np.float32).eps
    return np.stack([least - margin, greatest - least + 2 * margin])
