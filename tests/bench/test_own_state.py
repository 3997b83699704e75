"""Recall by the model's own state: what is taken from the model, how ways score, and that the comparison runs."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory3.bench import own_state
from memory3.bench.own_state import Tokens, by_attention, by_hidden_states, cosine, found, whitening
from memory3.bench.own_state_inputs import States, Work, batched, query_rows, reference_rows, rests, states, worlds
from memory3.model.language_model import LanguageModel
from memory3.model.layout import MemoryLayout

DOCUMENTS = 20


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.load(None)


@pytest.fixture(scope="module")
def work(model: LanguageModel) -> Work:
    return worlds(model, 10, DOCUMENTS)


@pytest.fixture(scope="module")
def references(model: LanguageModel, work: Work) -> States:
    return states(model.checkpoint, (reference_rows(model, texts) for texts in batched(work.references)))


def test_a_reference_is_found_by_its_own_text(model: LanguageModel, work: Work, references: States) -> None:
    own = Work("own", work.references, work.documents, work.references, work.documents, asked=False)
    queries = states(model.checkpoint, (query_rows(model, texts, False) for texts in batched(own.queries)))
    size = len(model.checkpoint.tokenizer)
    scored = {(way, layer): found(scores, own) for way, layer, scores in by_hidden_states(queries, references, size, 4)}
    for way in ("mean hidden state", "mean hidden state, centred", "hidden states token by token, centred"):
        assert scored[way, "1"] == [1, 1]
    attended = {(way, layer): found(s, own) for way, layer, s in by_attention(queries, references, (1, 2, 3, 4))}
    assert attended["mean key, mean key, centred", "1"] == [1, 1]
    assert attended["query and key token by token, centred", "1"][0] > 0.8
    for at_1, at_5 in [*scored.values(), *attended.values()]:
        assert 0 <= at_1 <= at_5 <= 1


def test_states_are_those_of_the_text_s_own_tokens_alone(model: LanguageModel, work: Work, references: States) -> None:
    encoded = [model.checkpoint.encode(text) for text in work.references]
    assert references.ids.tolist() == [token for tokens in encoded for token in tokens]
    assert references.starts.tolist() == np.cumsum([0, *map(len, encoded[:-1])]).tolist()
    alone = states(model.checkpoint, [reference_rows(model, work.references[1:2])])
    span = slice(references.starts[1], references.starts[2])
    for name, tokens in alone.tokens.items():
        np.testing.assert_allclose(tokens, references.tokens[name][span], atol=1e-3, err_msg=name)
    kept = min(len(encoded[1]), model.checkpoint.layout.kept_tokens)
    assert (alone.tokens["kept 1"].sum(axis=0) == kept).all()


def test_a_question_is_read_in_the_model_s_form_without_counting_it(model: LanguageModel) -> None:
    checkpoint, text = model.checkpoint, "Who keeps bees?"
    rows = query_rows(model, [text, "Where is the harbour of the island?"], asked=True)
    assert checkpoint.text(rows.tokens[0][rows.valid[0]].tolist()) == text
    whole = [*checkpoint.prefix, *checkpoint.bos, *model.question(text)]
    assert rows.tokens[0][: len(whole)].tolist() == whole
    assert int(rows.last[0]) == len(whole) - 1
    free = len(checkpoint.prefix)
    assert rows.positions[0, free - 1 : free + 2].tolist() == [free - 1, free + 128, free + 129]


def test_keys_come_without_their_rotation() -> None:
    model = LanguageModel.load(None, layout=MemoryLayout(layers=(0,), kept_tokens=8))
    seen = states(model.checkpoint, [query_rows(model, ["Mira keeps bees on the roof of the old post office"], False)])
    decoder: Any = model.checkpoint.model.base_model
    first = decoder.layers[0]
    with torch.inference_mode():
        expected = first.self_attn.k_proj(first.input_layernorm(torch.from_numpy(seen.tokens["hidden 0"])))
    np.testing.assert_allclose(seen.tokens["key 0"].reshape(expected.shape), expected.numpy(), atol=1e-4)


def test_token_by_token_adds_the_best_product_of_each_token_and_head() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((9, 2, 4), np.float32)
    query = random.standard_normal((3, 2, 4), np.float32)
    starts = np.array([0, 2, 5])
    kept = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1]], bool)
    for chosen in (None, kept):
        takes = np.ones_like(kept) if chosen is None else chosen
        expected = [
            sum(
                max(float(query[t, h] @ vectors[r, h]) for r in range(*span) if takes[r, h])
                for t in range(3)
                for h in range(2)
            )
            for span in ((0, 2), (2, 5), (5, 9))
        ]
        np.testing.assert_allclose(Tokens.of(vectors, starts, chosen).scores(query), expected, rtol=1e-5)


def test_means_count_each_text_and_head_apart() -> None:
    tokens = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    of = States(np.array([0, 3]), np.zeros(4, np.int64), {"key 0": tokens}, {})
    assert of.mean("key 0").tolist() == [[2, 3], [6, 7]]
    kept = np.array([[1, 0], [0, 1], [1, 1], [1, 1]], bool)
    assert of.mean("key 0", kept).tolist() == [[2, 4], [6, 7]]


def test_whitened_references_vary_alike() -> None:
    vectors = np.random.default_rng(0).standard_normal((5000, 3)) * np.array([1, 2, 4])
    np.testing.assert_allclose(np.cov((vectors @ whitening(vectors)).T), np.eye(3), atol=0.08)


def test_found_counts_the_right_document_wherever_it_was_cut() -> None:
    work = Work("", ["", "", "", "", "", ""], ["a", "a", "b", "c", "d", "e"], ["", "", ""], ["a", "b", "x"], True)
    scores = np.array([[0, 9, 8, 7, 6, 5], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4]], np.float32)
    assert found(scores, work) == pytest.approx([1 / 3, 2 / 3])
    assert cosine(scores[:1], scores[:1]) == pytest.approx(1)


def test_a_rest_goes_on_where_its_query_ends(model: LanguageModel) -> None:
    text = " ".join(f"The ferry number {number} leaves at nine." for number in range(40))
    work = rests(model, "rests", [text], queries=2, references=3)
    assert len(work.references) == 3 and len(work.queries) == 2
    assert all(
        (query + rest).strip() in text and rest[0] == " "
        for query, rest in zip(work.queries, work.references, strict=False)
    )


def test_it_prints_a_row_for_each_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prose = " ".join(
        f"In the year {number} the ferry {number * 7} came to harbour {number * 3}." for number in range(90)
    )
    (tmp_path / "squad").mkdir()
    (tmp_path / "factbook").mkdir()
    paragraph = {"context": prose, "qas": [{"question": f"Where came ferry {number * 7}?"} for number in range(9)]}
    articles = {"data": [{"title": "Ferries", "paragraphs": [paragraph, {"context": "The end.", "qas": []}]}]}
    (tmp_path / "squad" / "squad-36-articles.json").write_text(json.dumps(articles))
    (tmp_path / "factbook" / "europe--xx.json").write_text(json.dumps({"Ferries": {"list": {"text": prose}}}))
    monkeypatch.setattr(own_state, "TIMED", 2)
    monkeypatch.setattr(sys, "argv", ["own_state", "--queries", "5", "--references", "12", "--data", str(tmp_path)])
    own_state.main()
    printed = capsys.readouterr().out
    for expected in ("**embedder**", "mean hidden state, whitened", "mean query, mean key", "token by token, centred"):
        assert f"\n| {expected}" in printed or f"{expected} |" in printed
    assert "| embedder | SQuAD, " in printed
