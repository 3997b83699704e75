"""FAISS starts no threads of its own for whichever thread asks it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from memory3.store.index.clustering import clustered, plan
from memory3.store.index.inverted import InvertedLists
from memory3.store.index.nearest import nearest

DIMENSION = 16


def vectors_of(count: int) -> np.ndarray:
    vectors = np.random.default_rng(count).standard_normal((count, DIMENSION)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def make() -> InvertedLists:
    vectors = vectors_of(200)
    lists = clustered(vectors, plan(len(vectors)), lambda: None)
    ids = np.arange(len(vectors))
    lists.add(ids, vectors, lists.assign(ids, vectors))
    return lists


def add(lists: InvertedLists) -> None:
    lists.add(np.array([500]), vectors_of(1), np.array([0]))


@pytest.mark.parametrize(
    "work",
    [
        lambda lists: lists.search(vectors_of(3), 5, 4, None),
        lambda lists: lists.encode(vectors_of(1)[0]),
        lambda lists: nearest(vectors_of(3), lists.centroids),
        lambda lists: make(),
        add,
    ],
    ids=["search", "encode", "nearest", "make", "add"],
)
def test_each_thread_works_alone(work: Callable[[InvertedLists], object]) -> None:
    lists = make()

    def threads() -> int:
        # As a thread has it where nothing else was said: one for each core.
        faiss.omp_set_num_threads(4)
        work(lists)
        return int(faiss.omp_get_max_threads())

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads).result() == 1
