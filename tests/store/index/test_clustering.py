import numpy as np
import pytest
from memory3.store.index.clustering import Plan, clustered, plan, quick_plan, steps
from memory3.store.shard.derived import at_once
from memory3.store.types import IndexKind


def heaps(count: int, each: int, dimension: int = 32) -> np.ndarray:
    """Vectors in heaps around `count` directions, shuffled."""
    random = np.random.default_rng(5)
    centres = random.standard_normal((count, dimension)).astype(np.float32)
    vectors = np.repeat(centres, each, axis=0) + 0.2 * random.standard_normal((count * each, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return random.permutation(vectors).astype(np.float32)


def test_a_plan_has_lists_by_the_root_of_the_vectors() -> None:
    assert plan(10_000).lists == 200
    assert plan(1_000_000).lists == 2_000
    assert quick_plan(1_000_000).lists == 256
    assert quick_plan(1_000_000).iterations < plan(1_000_000).iterations


def test_heaps_become_lists() -> None:
    """With vectors in heaps, nearly all are close to the centroid of their list."""
    vectors = heaps(20, 200)
    lists = clustered(vectors, Plan(60, 8), at_once)
    assert lists.kind is IndexKind.QUANTIZED
    assert lists.lists == 60
    np.testing.assert_allclose(np.linalg.norm(lists.centroids, axis=1), 1, atol=1e-5)
    nearest = lists.assign(np.arange(len(vectors)), vectors)
    to_centroid = np.sum(vectors * lists.centroids[nearest], axis=1)
    at_random = np.sum(vectors * np.roll(vectors, 1, axis=0), axis=1)
    assert np.mean(to_centroid) > 0.8 > np.mean(at_random) + 0.5


def test_lists_that_nothing_is_near_to_begin_anew() -> None:
    """Many equal vectors: all but one of the centroids that were chosen among them stay without any."""
    vectors = np.concatenate([np.repeat(heaps(1, 1), 500, axis=0), heaps(40, 5)])
    lists = clustered(vectors, Plan(50, 8), at_once)
    assert np.isfinite(lists.centroids).all()
    used = np.unique(lists.assign(np.arange(len(vectors)), vectors))
    assert len(used) > 30


def test_a_vector_alone_and_among_many_has_the_list_nearest_to_it() -> None:
    vectors = heaps(20, 50)
    lists = clustered(vectors, Plan(30, 2), at_once)
    ids = np.arange(len(vectors))
    together = lists.assign(ids, vectors)
    alone = [lists.assign(ids[at : at + 1], vectors[at : at + 1])[0] for at in ids]
    np.testing.assert_array_equal(together, np.argmax(vectors @ lists.centroids.T, axis=1))
    np.testing.assert_array_equal(alone, together)


def test_codes_reach_beyond_the_sample() -> None:
    vectors = heaps(20, 50)
    lists = clustered(vectors, Plan(10, 2), at_once)
    assert (lists.ranges[0] < vectors.min(axis=0)).all()
    assert (lists.ranges[0] + lists.ranges[1] > vectors.max(axis=0)).all()


def test_fewer_vectors_than_lists_make_fewer_lists() -> None:
    assert clustered(heaps(1, 3), Plan(10, 2), at_once).lists == 3


def test_every_vector_is_in_one_step_and_steps_are_short() -> None:
    parts = list(steps(100_000, 1_000))
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, 100_000)
    assert len(parts) > 40
    assert len(list(steps(3, 1 << 40))) == 3
    assert list(steps(0, 10)) == []


def test_it_gives_way_and_can_be_stopped_between_steps() -> None:
    class Enough(Exception):
        pass

    turns = 0

    def give_way() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            raise Enough

    with pytest.raises(Enough):
        clustered(heaps(20, 200), Plan(60, 8), give_way)
