"""What an index answers, exact and quantized alike, whatever was applied, saved or swapped."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from memory3.store import limits
from memory3.store.errors import Corrupted
from memory3.store.index.clustering import clustered, plan
from memory3.store.index.inverted import InvertedLists
from memory3.store.index.snapshot import Slice, Snapshot
from memory3.store.index.vector_index import Allowed, Proposal, VectorIndex, candidates_for
from memory3.store.shard.derived import at_once
from memory3.store.types import IndexKind

from ..builders import DIMENSION, vector_of

SHARD = "00" * 16
BASE = 3 << 48
"""Of a shard other than the first, so that seqs and FAISS's ids differ."""

Matrix = np.ndarray


def vectors_of(seqs: Sequence[int]) -> Matrix:
    return np.array([vector_of(str(seq)) for seq in seqs], dtype=np.float32).reshape(len(seqs), DIMENSION)


def fetch(seqs: Sequence[int]) -> tuple[Sequence[int], Matrix]:
    """The vectors that records would hold: of every seq."""
    return seqs, vectors_of(seqs)


def seqs_from(first: int, last: int) -> list[int]:
    return list(range(BASE + first, BASE + last + 1))


def exact(seqs: list[int]) -> VectorIndex:
    index = VectorIndex(DIMENSION, BASE)
    index.apply(max(seqs, default=BASE), [], seqs, vectors_of(seqs))
    return index


def quantized(seqs: list[int]) -> VectorIndex:
    sample = vectors_of(seqs or seqs_from(1, 100))
    index = VectorIndex(DIMENSION, BASE)
    index.adopt(clustered(sample, plan(len(sample)), at_once), BASE, BASE)
    index.apply(max(seqs, default=BASE), [], seqs, vectors_of(seqs))
    assert index.kind is IndexKind.QUANTIZED
    return index


Filled = Callable[[list[int]], VectorIndex]
both = pytest.mark.parametrize("filled", [exact, quantized])


def nearest(index: VectorIndex, seq: int) -> int:
    return seqs_of(index.search(vector_of(str(seq))[None], 1).ranked(fetch)[0])[0]


def seqs_of(proposal: Proposal) -> list[int]:
    return [seq for _, seq in proposal]


def allowed(index: VectorIndex, seqs: Sequence[int]) -> Allowed:
    bits = np.zeros(max(seqs, default=BASE) - BASE + 1, bool)
    bits[np.array(seqs, np.int64) - BASE] = True
    return Allowed(np.packbits(bits, bitorder="little"), len(seqs))


def brute(seqs: Sequence[int], query: Matrix, k: int) -> list[int]:
    scores = vectors_of(seqs) @ query
    return [seqs[at] for at in np.argsort(-scores, kind="stable")[:k]]


@both
def test_an_empty_index_finds_nothing(filled: Filled) -> None:
    assert filled([]).search(vectors_of([1, 2]), 5).ranked(fetch) == [[], []]


@both
def test_every_vector_finds_itself(filled: Filled) -> None:
    seqs = seqs_from(1, 199)
    index = filled(seqs)
    assert all(nearest(index, seq) == seq for seq in seqs)


@both
def test_scores_are_exact_and_in_order(filled: Filled) -> None:
    seqs = seqs_from(1, 99)
    query = vector_of("query")
    (proposal,) = filled(seqs).search(query[None], 99).ranked(fetch)
    scores = [score for score, _ in proposal]
    expected = vectors_of(seqs) @ query
    np.testing.assert_allclose(scores, np.sort(expected)[::-1], atol=1e-6)
    np.testing.assert_allclose(scores, expected[np.array(seqs_of(proposal)) - BASE - 1], atol=1e-6)


@both
def test_equal_scores_come_by_seq(filled: Filled) -> None:
    index = filled(seqs_from(1, 50))
    twins = [BASE + 70, BASE + 60, BASE + 65]
    index.apply(BASE + 70, [], twins, np.repeat(vectors_of([7]), 3, axis=0))

    def fetched(seqs: Sequence[int]) -> tuple[Sequence[int], Matrix]:
        return seqs, vectors_of([7 if seq in twins else seq for seq in seqs])

    assert seqs_of(index.search(vectors_of([7]), 3).ranked(fetched)[0]) == sorted(twins)


@both
def test_what_is_forgotten_is_gone_and_the_rest_is_found(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMOVED_AT_ONCE", 3)
    index = filled(seqs_from(1, 99))
    runs = [range(BASE + 10, BASE + 20), range(BASE + 50, BASE + 51)]
    index.apply(BASE + 120, runs, [BASE + 100], vectors_of([BASE + 100]))
    live = set(seqs_from(1, 100)) - set(runs[0]) - set(runs[1])
    assert set(index.seqs().tolist()) == live
    assert index.count == len(live)
    assert index.position == BASE + 120
    assert all(nearest(index, seq) == seq for seq in live)


@both
def test_applying_twice_is_applying_once(filled: Filled) -> None:
    """FAISS keeps two vectors under one id and removes only one of them later."""
    index = filled(seqs_from(1, 3))
    for _ in range(2):
        index.apply(BASE + 5, [range(BASE + 1, BASE + 2)], seqs_from(4, 5), vectors_of(seqs_from(4, 5)))
    assert sorted(index.seqs().tolist()) == seqs_from(2, 5)
    index.apply(BASE + 6, [range(BASE + 4, BASE + 5)], [], vectors_of([]))
    assert sorted(index.seqs().tolist()) == [BASE + 2, BASE + 3, BASE + 5]


@both
def test_only_what_is_allowed_is_found(filled: Filled) -> None:
    seqs = seqs_from(1, 400)
    index = filled(seqs)
    query = vector_of("query")
    for chosen in (seqs[::2], seqs[:7], seqs[390:], [seqs[200]]):
        found = index.search(query[None], candidates_for(5), allowed(index, chosen)).ranked(fetch)[0]
        assert seqs_of(found)[:5] == brute(chosen, query, 5)
    assert index.search(query[None], 5, allowed(index, [])).ranked(fetch) == [[]]


@both
def test_a_selection_of_more_than_is_held_finds_what_is_held(filled: Filled) -> None:
    index = filled(seqs_from(1, 50))
    chosen = allowed(index, [BASE + 3, *seqs_from(100, 110)])
    ((score, seq),) = index.search(vector_of("query")[None], 4, chosen).ranked(fetch)[0]
    assert seq == BASE + 3
    assert score == pytest.approx(vectors_of([BASE + 3])[0] @ vector_of("query"), abs=1e-6)


def test_as_many_are_found_as_there_are_also_far_from_the_nearest_lists() -> None:
    """Lists near the query may hold less than k; then all of them are searched."""
    seqs = seqs_from(1, 3_000)
    index = quantized(seqs)
    assert index.lists > 100
    found = index.search(vectors_of([1, 2, 3]), 2_990).ranked(fetch)
    assert [len(set(seqs_of(proposal))) for proposal in found] == [2_990] * 3


def test_what_the_records_do_not_have_is_left_out() -> None:
    seqs = seqs_from(1, 50)
    index = quantized(seqs)
    best = brute(seqs, vector_of("query"), 10)

    def fetched(wanted: Sequence[int]) -> tuple[Sequence[int], Matrix]:
        return fetch([seq for seq in wanted if seq != best[0]])

    assert seqs_of(index.search(vector_of("query")[None], candidates_for(5)).ranked(fetched)[0])[:5] == best[1:6]
    assert index.search(vector_of("query")[None], 5).ranked(lambda _: ([], vectors_of([]))) == [[]]


def test_a_quantized_index_finds_what_an_exact_one_finds() -> None:
    seqs = seqs_from(1, 2_000)
    index, truth = quantized(seqs), exact(seqs)
    queries = vectors_of(range(10_000, 10_100))
    found = index.search(queries, candidates_for(5)).ranked(fetch)
    expected = truth.search(queries, 5).ranked(fetch)
    shared = [len({*seqs_of(one)[:5]} & {*seqs_of(other)}) for one, other in zip(found, expected, strict=True)]
    # Vectors in all directions are the hardest there are: real ones lie in heaps.
    assert np.mean(shared) / 5 >= 0.95


@pytest.mark.parametrize("dimension", [20, 32, 96, 384])
def test_a_quantized_index_finds_the_nearest_in_any_dimension(dimension: int) -> None:
    """FAISS multiplies bytes by other instructions in some dimensions, and there makes bytes of the query too."""
    random = np.random.default_rng(dimension)
    # In heaps, as real ones are; the components differ in how far they reach, and do not lie about zero.
    heaps = random.standard_normal((50, dimension), np.float32)[random.integers(50, size=2_050)]
    vectors = heaps + 0.5 * random.standard_normal((2_050, dimension), np.float32)
    vectors = vectors * np.geomspace(0.05, 5, dimension) + 0.5
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows, queries = vectors[:2_000], vectors[2_000:]
    index = VectorIndex(dimension)
    index.adopt(clustered(rows, plan(len(rows)), at_once), 0, 0)
    index.apply(len(rows), [], range(1, len(rows) + 1), rows)

    found = index.search(queries, candidates_for(5)).ranked(lambda seqs: (seqs, rows[np.array(seqs) - 1]))
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :5] + 1
    shared = [len({*seqs_of(one)[:5]} & {*other.tolist()}) for one, other in zip(found, expected, strict=True)]
    assert np.mean(shared) / 5 >= 0.95


@both
def test_a_saved_index_is_the_same_index(filled: Filled) -> None:
    index = filled(seqs_from(1, 300))
    index.apply(BASE + 310, [range(BASE + 3, BASE + 9)], [], vectors_of([]))
    loaded = VectorIndex.load(index.snapshot(SHARD))
    assert (loaded.position, loaded.clustered_at, loaded.base) == (BASE + 310, index.clustered_at, BASE)
    assert (loaded.kind, loaded.lists) == (index.kind, index.lists)
    assert sorted(loaded.seqs().tolist()) == sorted(index.seqs().tolist())
    assert all(loaded.holds(seq, vector_of(str(seq))) for seq in loaded.seqs().tolist())
    query = vector_of("query")[None]
    assert loaded.search(query, 9).ranked(fetch) == index.search(query, 9).ranked(fetch)
    loaded.apply(BASE + 311, [range(BASE + 10, BASE + 12)], [BASE + 311], vectors_of([BASE + 311]))
    assert nearest(loaded, BASE + 311) == BASE + 311
    assert not {BASE + 10, BASE + 11} & set(loaded.seqs().tolist())


@both
def test_an_empty_index_can_be_saved_and_filled(filled: Filled) -> None:
    loaded = VectorIndex.load(filled([]).snapshot(SHARD))
    loaded.apply(BASE + 1, [], [BASE + 1], vectors_of([BASE + 1]))
    assert nearest(loaded, BASE + 1) == BASE + 1


@both
def test_changes_while_an_index_is_saved_lose_nothing_that_stays(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing moves the last entry of a list into the gap: a copy from the beginning would miss it."""
    monkeypatch.setattr(limits, "COPIED_AT_ONCE", 5 * DIMENSION * 4)
    random = np.random.default_rng(0)
    index = filled(seqs_from(1, 2_000))
    snapshot = index.snapshot(SHARD)
    position, next_seq = index.position, BASE + 2_001
    added: list[int] = []
    forgotten: list[int] = []

    def changing() -> list[Slice]:
        nonlocal next_seq
        slices = []
        for part in snapshot.slices:
            slices.append(part)
            gone = int(random.choice(index.seqs()))
            new = [next_seq, next_seq + 1]
            index.apply(next_seq + 1, [range(gone, gone + 1)], new, vectors_of(new))
            next_seq += 2
            forgotten.append(gone)
            added.extend(new)
        return slices

    loaded = VectorIndex.load(replace(snapshot, slices=changing()))
    assert loaded.position == position
    assert len(forgotten) > 100
    stayed = [seq for seq in added if seq not in forgotten]
    loaded.apply(next_seq, [range(seq, seq + 1) for seq in forgotten], stayed, vectors_of(stayed))
    assert sorted(loaded.seqs().tolist()) == sorted(index.seqs().tolist())
    assert loaded.count == index.count
    assert all(loaded.holds(seq, vector_of(str(seq))) for seq in loaded.seqs().tolist())


def test_a_snapshot_that_holds_a_vector_in_two_lists_is_corrupted() -> None:
    """A delete would remove only one of them."""
    snapshot = quantized(seqs_from(1, 50)).snapshot(SHARD)
    slices = list(snapshot.slices)
    number, ids, codes = slices[0]
    other = next(place for place in range(len(snapshot.centroids)) if place != number)
    with pytest.raises(Corrupted, match="twice"):
        VectorIndex.load(replace(snapshot, slices=[*slices, (other, ids, codes)]))


def edited(array: Matrix, value: float) -> Matrix:
    changed = np.array(array)
    changed[-1, 0] = value
    return changed


def of_ids(snapshot: Snapshot, first: int) -> Snapshot:
    return replace(snapshot, slices=[(number, ids + first, codes) for number, ids, codes in snapshot.slices])


Spoil = Callable[[Snapshot], Snapshot]


def of_centroid(value: float) -> Spoil:
    return lambda snapshot: replace(snapshot, centroids=edited(snapshot.centroids, value))


def of_width(value: float) -> Spoil:
    return lambda snapshot: replace(snapshot, ranges=edited(snapshot.ranges, value))


UNUSABLE: dict[str, tuple[Filled, Spoil]] = {
    **{f"a centroid of {value}": (quantized, of_centroid(value)) for value in (np.nan, np.inf, 3e38)},
    **{f"a width of {value}": (quantized, of_width(value)) for value in (np.nan, np.inf, -1, 0, 1e-40, 1e30)},
    "a least value of NaN": (quantized, lambda s: replace(s, ranges=edited(s.ranges[::-1], np.nan)[::-1])),
    "a vector of NaN": (
        exact,
        lambda s: replace(s, slices=[(0, np.array([1]), np.full((1, DIMENSION), np.nan, np.float32).view(np.uint8))]),
    ),
    "a negative id": (exact, lambda s: of_ids(s, -(1 << 50))),
    "an id of another shard": (quantized, lambda s: of_ids(s, 1 << 48)),
    "more lists than an exact index has": (
        exact,
        lambda s: replace(s, centroids=np.broadcast_to(np.float32(0), (limits.LISTS_MAX, limits.DIMENSION_MAX))),
    ),
    "a position of another shard": (exact, lambda s: replace(s, seq=BASE + (1 << 48))),
    "clustered before its shard began": (quantized, lambda s: replace(s, clustered_at=BASE - 1)),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_snapshot_that_makes_no_index_to_search_is_corrupted(name: str) -> None:
    """Whatever its checksums say: FAISS takes it, and then finds nothing, or something else."""
    filled, spoilt = UNUSABLE[name]
    with pytest.raises(Corrupted):
        VectorIndex.load(spoilt(filled(seqs_from(1, 50)).snapshot(SHARD)))


@both
def test_taking_up_other_lists_replaces_everything(filled: Filled) -> None:
    index = filled(seqs_from(1, 3))
    other = exact(seqs_from(7, 9))
    old = index.adopt(other._lists, BASE + 9, BASE + 8)
    old.release()
    assert sorted(index.seqs().tolist()) == seqs_from(7, 9)
    assert (index.position, index.clustered_at) == (BASE + 9, BASE + 8)
    assert nearest(index, BASE + 8) == BASE + 8


@both
def test_it_knows_what_it_would_hold_for_a_vector(filled: Filled) -> None:
    index = filled(seqs_from(1, 50))
    assert index.holds(BASE + 7, vector_of(str(BASE + 7)))
    assert not index.holds(BASE + 7, vector_of("another"))
    assert not index.holds(BASE + 51, vector_of(str(BASE + 51)))


def test_a_few_queries_at_once_however_many_vectors() -> None:
    small, large = exact(seqs_from(1, 10)), exact(seqs_from(1, 5_000))
    assert small.queries_at_once(5) > large.queries_at_once(5) > large.queries_at_once(1_000) >= 1


def test_fewer_queries_at_once_where_a_selection_has_more_lists_searched() -> None:
    index = quantized(seqs_from(1, 5_000))
    few = allowed(index, seqs_from(1, 250))
    assert index.queries_at_once(5) > index.queries_at_once(5, few) >= 1


def test_an_exact_index_grows_in_many_lists() -> None:
    """A list that grows is copied whole, and with a single one those were all vectors there are."""
    index = exact(seqs_from(1, 5_000))
    sizes = [index._lists.size(number) for number in range(index.lists)]
    assert sum(sizes) == 5_000
    assert max(sizes) <= 1_024


def test_released_lists_are_empty() -> None:
    lists = InvertedLists.exact(DIMENSION)
    ids = np.arange(10)
    lists.add(ids, vectors_of(ids.tolist()), lists.assign(ids, vectors_of(ids.tolist())))
    lists.release()
    assert all(lists.size(number) == 0 for number in range(lists.lists))
