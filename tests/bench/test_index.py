"""The benchmark of the index: what it counts, and that it runs, on few vectors in any direction."""

from pathlib import Path

import numpy as np
import pytest
from memory3.bench import index, index_filters
from memory3.bench.index_kinds import share_found, truth
from memory3.bench.index_vectors import NOISE, TextVectors, grown, perturbed, queries, text_vectors
from memory3.bench.real_data import DataMissing
from memory3.store import limits


def directions(count: int, dimension: int = 32, seed: int = 3) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_perturbed_vectors_lie_near_their_originals() -> None:
    vectors = directions(200, 384)
    copies = perturbed(vectors, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(copies, axis=1), 1, atol=1e-5)
    cosines = np.sum(vectors * copies, axis=1)
    assert np.mean(cosines) == pytest.approx(1 / np.sqrt(1 + NOISE**2), abs=0.01)


def test_more_vectors_are_the_real_ones_and_copies_that_differ() -> None:
    vectors = directions(50)
    more = grown(vectors, 120)
    assert more.shape == (120, 32)
    np.testing.assert_array_equal(more[:50], vectors)
    assert len(np.unique(more, axis=0)) == 120
    np.testing.assert_array_equal(grown(vectors, 20), vectors[:20])


def test_half_of_the_queries_are_questions() -> None:
    vectors = TextVectors(directions(50), directions(40, seed=4))
    asked = queries(vectors, 20)
    assert asked.shape == (20, 32)
    np.testing.assert_array_equal(asked[:10], vectors.questions[:10])


def test_the_truth_is_what_is_nearest_of_what_is_allowed() -> None:
    vectors = directions(300)
    assert (truth(vectors, vectors[:30], 1)[:, 0] == np.arange(30)).all()
    allowed = np.arange(300) >= 100
    assert (truth(vectors, vectors[:30], 5, allowed) >= 100).all()


def test_the_share_found_is_counted_in_any_order() -> None:
    assert share_found(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [6, 5, 4]])) == pytest.approx(5 / 6)


def test_without_cache_and_data_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataMissing):
        text_vectors(tmp_path, tmp_path / "cache", 10)
    assert index.main(["--data", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 2


def test_it_runs_and_prints_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "EXACT_MAX", 500)
    np.savez(
        tmp_path / f"references-{index.REFERENCES}.npz", references=directions(600), questions=directions(200, seed=4)
    )
    sizes, parts = ["--sizes", "300", "600"], ["--parts", "kinds", "alone", "shard"]
    assert index.main(["--cache", str(tmp_path), *sizes, *parts, "--markdown", str(tmp_path / "table")]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "table").read_text().strip()
    for expected in (
        "commit",
        "| flat | 1.000 |",
        "exact, 32 lists",
        "quantized, 49 lists",
        "recall with texts",
        "index alone",
    ):
        assert expected in printed


def test_filters_at_random_and_by_topic_are_searched_in_as_many_lists_as_each_rule_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(index_filters, "SHARES", (0.25,))
    cache = tmp_path / f"references-{index.REFERENCES}.npz"
    np.savez(cache, references=directions(9_000, 16), questions=directions(100, 16, seed=4))
    assert index_filters.main(["--cache", str(tmp_path), "--sizes", "9000"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| 25%")]
    assert [(row[0], row[2]) for row in rows] == [
        ("| 25% at random", "128"),
        ("| 25% at random", "64"),
        ("| 25% by topic", "128"),
        ("| 25% by topic", "64"),
    ]
    assert all(0.5 < float(row[3]) <= 1 for row in rows)
