"""Batches: what carries the loss is the answer, rows stand where they are read, and references hold their texts.

Dimensions: `N` references, `R` rows, `T` tokens, `S` memories of a row.
"""

from itertools import pairwise

import pytest
import torch
from memory3.model.layout import REFERENCE_TOKENS
from memory3.model.prompts import UNKNOWN
from memory3.model.training.batches import LANGUAGE_WEIGHT, Encoder, Rows, Sampler
from memory3.model.training.trainer import copies
from memory3.model.training.worlds import Passage, Question, World
from transformers import PreTrainedTokenizerFast


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer)


@pytest.fixture
def sampler(encoder: Encoder) -> Sampler:
    return Sampler(encoder, World(3, "train"), 3)


def text(encoder: Encoder, tokens: list[int]) -> str:
    decoded = encoder.tokenizer.decode(tokens, skip_special_tokens=True)
    assert isinstance(decoded, str)
    return decoded.strip()


def answers(encoder: Encoder, rows: Rows, row: int) -> list[str]:
    """The stretches of targets with whole weight, each cut at its `</s>`."""
    weighted = rows.targets[row][rows.weights[row] >= 1.0].tolist()
    found: list[list[int]] = [[]]
    for token in weighted:
        if token == encoder.eos:
            found.append([])
        else:
            found[-1].append(token)
    assert found.pop() == [], "an answer does not end with </s>"
    return [text(encoder, tokens) for tokens in found]


def asked(encoder: Encoder, rows: Rows, row: int) -> list[str]:
    """The questions of a row, as its text puts them."""
    whole = text(encoder, rows.tokens[row].tolist())
    return [part.split("\nAnswer:")[0].strip() for part in whole.split("Question:")[1:]]


def test_targets_are_the_next_tokens(sampler: Sampler) -> None:
    rows = sampler.context_rows(6, 2, 3, 0.2)
    assert rows.tokens.shape == rows.targets.shape == rows.weights.shape == rows.positions.shape
    assert torch.equal(rows.targets[:, :-1], rows.tokens[:, 1:])
    assert not rows.weights[:, -1].any()


def test_padding_carries_no_loss(encoder: Encoder, sampler: Sampler) -> None:
    rows = sampler.context_rows(6, 2, 3, 0.2)
    assert (rows.tokens == encoder.pad).any()
    assert not rows.weights[rows.targets == encoder.pad].any()
    assert rows.weights.unique().tolist() == pytest.approx([0.0, LANGUAGE_WEIGHT / 2, LANGUAGE_WEIGHT, 1.0])


def test_questions_are_framed_as_in_use(encoder: Encoder) -> None:
    tokens, weights = encoder.question(Question("Who keeps bees?", "Mira Sandoval", "person.job"))
    assert tokens[0] == encoder.bos and tokens[-1] == encoder.eos
    assert text(encoder, tokens) == "Question: Who keeps bees?\nAnswer: Mira Sandoval"
    answer = [token for token, weight in zip(tokens, weights, strict=True) if weight == 1.0]
    assert answer == [*encoder.encode("Mira Sandoval"), encoder.eos]


def test_rows_of_stage_one_ask_what_their_context_answers(encoder: Encoder) -> None:
    sampler = Sampler(encoder, World(4, "train"), 4)
    rows = sampler.context_rows(12, 3, 4, unknown=0.0)
    for row in range(12):
        context = text(encoder, rows.tokens[row].tolist()).split("Question:")[0]
        assert context.startswith("Reference:")
        given = answers(encoder, rows, row)
        assert len(given) == len(asked(encoder, rows, row)) == 4
        assert all(answer in context for answer in given)
        length = int((rows.tokens[row] != encoder.pad).sum())
        assert rows.positions[row, :length].tolist() == list(range(length))


def test_unknown_questions_are_answered_as_unknown(encoder: Encoder, sampler: Sampler) -> None:
    rows = sampler.context_rows(6, 2, 3, unknown=1.0)
    assert [answers(encoder, rows, row) for row in range(6)] == [[UNKNOWN] * 3] * 6


class Recorded:
    """A passage source that remembers what it gave."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.given: dict[str, Passage] = {}

    def passage(self) -> Passage:
        passage = self._world.passage()
        self.given[passage.text] = passage
        return passage


def test_rows_of_stage_two_read_the_reference_that_answers(encoder: Encoder) -> None:
    source = Recorded(World(5, "train"))
    sampler = Sampler(encoder, World(6, "train"), 5, ((source, 1.0),))
    batch = sampler.memory_batch(references=10, rows=25, reads=5, unknown=0.0)
    texts = [
        text(encoder, tokens[valid].tolist())
        for tokens, valid in zip(batch.references.tokens, batch.references.valid, strict=True)
    ]
    assert batch.reads.shape == batch.scores.shape == (25, 5) and len(batch.facts) == 25
    assert batch.prefix.tolist() == encoder.prefix
    start = len(encoder.prefix) + REFERENCE_TOKENS
    owns = []
    for row in range(25):
        read = [number for number in batch.reads[row].tolist() if number >= 0]
        owns.append(read[0])
        assert len(set(read)) == len(read)
        (answer,) = answers(encoder, batch.rows, row)
        assert answer in texts[read[0]]
        assert batch.facts[row]
        tokens = batch.rows.tokens[row].tolist()
        assert tokens[0] == encoder.bos
        length = int((batch.rows.tokens[row] != encoder.pad).sum())
        assert batch.rows.positions[row, :length].tolist() == list(range(start, start + length))
    assert max(owns.count(own) for own in range(10)) == 3, "questions are spread evenly over the references"
    assert (batch.reads == -1).any() and (batch.reads >= 0).all(dim=1).any(), "some rows read fewer memories"


def test_rows_and_references_lie_in_order_of_length(encoder: Encoder, sampler: Sampler) -> None:
    """So that parts of them need little padding."""
    batch = sampler.memory_batch(references=20, rows=40, reads=5, unknown=0.2)
    for lengths in (batch.references.valid.sum(dim=1), (batch.rows.tokens != encoder.pad).sum(dim=1)):
        assert lengths.tolist() == sorted(lengths.tolist())


def test_the_right_memory_is_mostly_the_nearest(sampler: Sampler) -> None:
    batch = sampler.memory_batch(references=20, rows=400, reads=5, unknown=0.0)
    full = (batch.reads >= 0).all(dim=1)
    scores = batch.scores[full]
    unscored = (scores == 0).all(dim=1)
    assert 0.2 < unscored.float().mean() < 0.4
    first = (scores[~unscored].argmax(dim=1) == 0).float().mean()
    assert 0.9 < first < 1.0
    strangers = sampler.memory_batch(references=20, rows=200, reads=5, unknown=1.0)
    assert strangers.scores.max() <= 0.5 and (strangers.scores.argmax(dim=1) != 0).any()


def test_references_hold_prefix_text_and_padding(encoder: Encoder) -> None:
    given = ["Mira keeps bees.", "The ferry leaves at nine from the harbour in Ostmark."]
    references = encoder.references(given)
    for number, sentence in enumerate(given):
        row, valid = references.tokens[number], references.valid[number]
        assert row[: len(encoder.prefix)].tolist() == encoder.prefix
        assert row[valid].tolist() == encoder.encode(sentence)
        assert (row[len(encoder.prefix) :][~valid[len(encoder.prefix) :]] == encoder.pad).all()


def test_passages_fit_a_reference_and_have_neighbours_of_their_kind(encoder: Encoder, sampler: Sampler) -> None:
    passages = sampler.passages(60)
    assert all(len(encoder.encode(passage.text)) <= REFERENCE_TOKENS for passage in passages)
    alike = sum(a.kind == b.kind for a, b in pairwise(passages))
    assert 59 >= len(passages) - 1 >= alike > 15


def test_copies_repeat_random_tokens(encoder: Encoder) -> None:
    rows = copies(encoder, 5, seed=1)
    for row in range(5):
        tokens = [token for token in rows.tokens[row].tolist() if token != encoder.pad]
        drawn = tokens[len(encoder.prefix) :]
        at = drawn.index(encoder.bos)
        assert drawn[:at] == drawn[at + 1 :] and at >= 12
        # The first token of the copy cannot be known; all others can.
        assert rows.targets[row][rows.weights[row] > 0].tolist() == drawn[1:at]
    assert torch.equal(rows.tokens, copies(encoder, 5, seed=1).tokens)
    assert not torch.equal(rows.tokens[:, :12], copies(encoder, 5, seed=2).tokens[:, :12])
