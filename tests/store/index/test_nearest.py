"""The nearest centroids are the same by NumPy and on a GPU, and a GPU that fails is not asked again."""

import logging
from collections.abc import Iterator

import faiss
import numpy as np
import pytest
from memory3.store.index import nearest as module
from memory3.store.index.nearest import nearest


def directions(count: int, seed: int, dimension: int = 24) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture(autouse=True)
def forget_devices() -> Iterator[None]:
    module._gpu.cache_clear()
    yield
    module._gpu.cache_clear()


def test_the_greatest_product_wins() -> None:
    centroids = np.eye(3, dtype=np.float32)
    vectors = np.array([[0.1, 0.9, 0.2], [1, 0, 0], [-1, -0.5, -0.1]], np.float32)
    found = nearest(vectors, centroids)
    assert found.dtype == np.int64 and found.tolist() == [1, 0, 2]


@pytest.mark.skipif(not faiss.get_num_gpus(), reason="needs faiss-gpu and a GPU")
def test_a_gpu_finds_the_same() -> None:
    vectors, centroids = directions(2_000, 1), directions(100, 2)
    gpu = module._gpu()
    assert gpu is not None
    found = gpu.nearest(vectors, centroids)
    assert found is not None
    products = vectors @ centroids.T
    np.testing.assert_allclose(products[np.arange(len(vectors)), found], products.max(axis=1), atol=1e-5)


def test_a_gpu_that_fails_is_asked_once_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def resources() -> None:
        asked.append(1)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", resources, raising=False)
    vectors, centroids = directions(2_000, 1), directions(100, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_array_equal(nearest(vectors, centroids), np.argmax(vectors @ centroids.T, axis=1))
    assert len(asked) == 1 and len(caplog.records) == 1 and "the CPU makes them" in caplog.text


def test_a_few_vectors_are_not_sent_to_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: pytest.fail("asked for a GPU"))
    vectors, centroids = directions(20, 1), directions(100, 2)
    np.testing.assert_array_equal(nearest(vectors, centroids), np.argmax(vectors @ centroids.T, axis=1))
