import numpy as np
import pytest
from memory3.store.errors import Corrupted
from memory3.store.index import VectorIndex
from memory3.store.snapshot import Snapshot

from .builders import DIMENSION, vector_of

SHARD = "00" * 16


def vectors_of(seqs: list[int]) -> np.ndarray:
    return np.array([vector_of(str(seq)) for seq in seqs], dtype=np.float32).reshape(len(seqs), DIMENSION)


def filled(seqs: list[int]) -> VectorIndex:
    index = VectorIndex(DIMENSION)
    index.apply(max(seqs, default=0), [], seqs, vectors_of(seqs))
    return index


def nearest(index: VectorIndex, seq: int) -> int:
    return int(index.search(vector_of(str(seq))[None], 1)[1][0, 0])


def test_an_empty_index_finds_nothing() -> None:
    scores, seqs = VectorIndex(DIMENSION).search(vectors_of([1, 2]), 5)
    assert scores.shape == seqs.shape == (2, 0)


def test_every_vector_finds_itself() -> None:
    index = filled(list(range(1, 200)))
    assert all(nearest(index, seq) == seq for seq in range(1, 200))


def test_scores_are_exact() -> None:
    index = filled(list(range(1, 100)))
    query = vector_of("query")
    scores, seqs = index.search(query[None], 99)
    expected = vectors_of(list(range(1, 100))) @ query
    np.testing.assert_allclose(scores[0], np.sort(expected)[::-1], atol=1e-6)
    np.testing.assert_allclose(scores[0], expected[seqs[0] - 1], atol=1e-6)


def test_what_is_forgotten_is_gone_and_the_rest_is_found() -> None:
    index = filled(list(range(1, 100)))
    index.apply(120, [range(10, 20), range(50, 51)], [100], vectors_of([100]))
    live = set(range(1, 101)) - set(range(10, 20)) - {50}
    assert set(index.seqs().tolist()) == live
    assert index.count == len(live)
    assert index.position == 120
    assert all(nearest(index, seq) == seq for seq in live)


def test_applying_twice_is_applying_once() -> None:
    """FAISS keeps two vectors under one id and removes only one of them later."""
    index = filled([1, 2, 3])
    for _ in range(2):
        index.apply(5, [range(1, 2)], [4, 5], vectors_of([4, 5]))
    assert sorted(index.seqs().tolist()) == [2, 3, 4, 5]
    index.apply(6, [range(4, 5)], [], vectors_of([]))
    assert sorted(index.seqs().tolist()) == [2, 3, 5]


def test_a_saved_index_is_the_same_index() -> None:
    index = filled(list(range(1, 50)))
    index.apply(60, [range(3, 9)], [], vectors_of([]))
    loaded = VectorIndex.load(index.snapshot(SHARD))
    assert loaded.position == 60
    assert sorted(loaded.seqs().tolist()) == sorted(index.seqs().tolist())
    query = vector_of("query")[None]
    for found, expected in zip(loaded.search(query, 9), index.search(query, 9), strict=True):
        np.testing.assert_array_equal(found, expected)
    loaded.apply(61, [range(10, 12)], [61], vectors_of([61]))
    assert nearest(loaded, 61) == 61
    assert not {10, 11} & set(loaded.seqs().tolist())


def test_an_empty_index_can_be_saved_and_filled() -> None:
    loaded = VectorIndex.load(VectorIndex(DIMENSION).snapshot(SHARD))
    loaded.apply(1, [], [1], vectors_of([1]))
    assert nearest(loaded, 1) == 1


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"\0" * 100])
def test_a_payload_that_is_no_index_is_corrupted(payload: bytes) -> None:
    with pytest.raises(Corrupted):
        VectorIndex.load(Snapshot(DIMENSION, SHARD, 1, 1, payload))


def test_a_header_that_does_not_fit_its_payload_is_corrupted() -> None:
    good = filled([1, 2]).snapshot(SHARD)
    for dimension, count in ((DIMENSION, 3), (DIMENSION + 1, 2)):
        with pytest.raises(Corrupted, match="another index"):
            VectorIndex.load(Snapshot(dimension, SHARD, 1, count, good.payload))


def test_rebuilding_replaces_everything() -> None:
    index = filled([1, 2, 3])
    index.rebuild(9, [([7], vectors_of([7])), ([8, 9], vectors_of([8, 9]))])
    assert sorted(index.seqs().tolist()) == [7, 8, 9]
    assert index.position == 9
