"""Which list each vector is nearest to: by NumPy or FAISS, or on a GPU where `faiss-gpu` is installed and finds one.

This is most of the work of making and filling lists, and all of it that a GPU is good for. Searches stay on the CPU.
"""

import logging
import threading
from functools import lru_cache
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from .openmp import in_this_thread

Matrix = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

_PRODUCTS_MIN = 1 << 17
"""Of a vector and a centroid: fewer are done before they have come to a GPU."""
_MANY = 20
"""Vectors from which on their lists are found by NumPy."""
_TEMPORARY_BYTES = 64 << 20
"""Of the GPU's memory; FAISS would take 1.5 GB, beside a model that needs it."""


def nearest(vectors: Matrix, centroids: Matrix) -> Ids:
    """Return the number of the centroid (L, D) of greatest inner product with each vector (N, D), shape (N,).

    All N * L products are in memory at once. NumPy's BLAS makes them six times as fast as that of FAISS's wheels, for
    many vectors: for a few, its threads wait for each other longer than the work takes, on a machine that is busy.
    """
    if len(vectors) * len(centroids) >= _PRODUCTS_MIN and (gpu := _gpu()) is not None:
        found = gpu.nearest(vectors, centroids)
        if found is not None:
            return found
    if len(vectors) < _MANY:
        return by_faiss(vectors, centroids)
    lists: Ids = np.argmax(vectors @ centroids.T, axis=1)
    return lists


def by_faiss(vectors: Matrix, centroids: Matrix) -> Ids:
    """Return the same for any number of vectors, found by one thread."""
    if not len(vectors):
        return np.empty(0, np.int64)
    in_this_thread()
    _, found = faiss.knn(
        np.ascontiguousarray(vectors), np.ascontiguousarray(centroids), 1, metric=faiss.METRIC_INNER_PRODUCT
    )
    return np.ascontiguousarray(found[:, 0])


class _Gpu:
    """FAISS's resources on the first device, which one thread may use at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resources: Any = None
        self._failed = False

    def nearest(self, vectors: Matrix, centroids: Matrix) -> Ids | None:
        """What `nearest` returns; None if the device cannot do it, from then on."""
        with self._lock:
            if self._failed:
                return None
            try:
                return self._found(np.ascontiguousarray(vectors), np.ascontiguousarray(centroids))
            except Exception:
                _log.warning("lists are not made on the GPU: FAISS failed there; the CPU makes them", exc_info=True)
                self._failed = True
                return None

    def _found(self, vectors: Matrix, centroids: Matrix) -> Ids:
        # What only FAISS's wheels for GPUs have.
        library: Any = faiss
        if self._resources is None:
            self._resources = library.StandardGpuResources()
            self._resources.setTempMemory(_TEMPORARY_BYTES)
        _, found = library.knn_gpu(self._resources, vectors, centroids, 1, metric=faiss.METRIC_INNER_PRODUCT, device=0)
        return np.ascontiguousarray(found[:, 0], np.int64)


@lru_cache
def _gpu() -> _Gpu | None:
    return _Gpu() if faiss.get_num_gpus() else None
