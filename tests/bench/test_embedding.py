"""The benchmark of the embedder's products: what it counts, on vectors in known directions and on real texts."""

import numpy as np
import pytest
from memory3.bench.embedding import Found, embedded, query_milliseconds
from memory3.bench.real_data import Question
from memory3.model.embedder import Embedder


def test_recall_counts_questions_whose_paragraph_is_among_the_nearest() -> None:
    references = np.eye(4, dtype=np.float32)
    questions = np.array([[1, 0.5, 0, 0], [0, 0.5, 1, 0], [0.1, 0.2, 0.3, 1]], np.float32)
    found = Found(references, questions, 1.0)
    asked = [Question("first", "a"), Question("second", "b"), Question("third", "a")]
    keys = ["a", "b", "c", "c"]
    assert found.recall(keys, asked, 1) == pytest.approx(1 / 3)
    assert found.recall(keys, asked, 2) == pytest.approx(2 / 3)
    assert found.recall(keys, asked, 3) == pytest.approx(2 / 3)


def test_both_types_are_timed_and_find_the_same() -> None:
    texts = ["Mira keeps bees on the roof.", "The ferry leaves at nine.", "Tomas repairs clocks in the harbour."]
    asked = [Question("Who repairs clocks?", "2"), Question("When does the ferry leave?", "1")]
    embedders = [Embedder.load(bfloat16=False), Embedder.load(bfloat16=True)]
    for embedder in embedders:
        assert embedded(embedder, texts, asked).recall(["0", "1", "2"], asked, 1) == 1.0
    times = query_milliseconds(embedders, texts, 2, rounds=2)
    assert len(times) == 2 and min(times) > 0
