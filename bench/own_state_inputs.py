"""Input of bench/own_state.py: references with queries about them, and what a model's layers make of such texts.

`N` texts, `T` own tokens of all texts one behind the other, `H` query heads, `D` head size, `E` hidden size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from memory3.bench.real_data import read_countries, read_squad
from memory3.model.checkpoint import Checkpoint
from memory3.model.evaluation.exam import unseen_worlds
from memory3.model.language_model import LanguageModel
from memory3.model.layout import REFERENCE_TOKENS, MemoryLayout
from memory3.model.prompts import QUESTION
from memory3.model.rotation import Rotation
from memory3.model.schedule import CHUNK_TOKENS
from memory3.model.selection import RULES, keep
from memory3.model.writer import causal_mask
from torch import Tensor

SEED = 2026
BATCH = 16
SHORTEST = 96
"""Tokens of the shortest reference of which the first 64 ask for the rest."""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Work:
    """References and, for each, the document it is of; queries and, for each, the right document; if they ask."""

    name: str
    references: list[str]
    documents: list[str]
    queries: list[str]
    right: list[str]
    asked: bool


def worlds(model: LanguageModel, queries: int, documents: int) -> Work:
    """Documents such as `memory3 eval` asks about, and some of the questions that one of them answers."""
    exam = unseen_worlds(2 * documents, SEED)
    asked = _some([question for question in exam.questions if question.answers], queries)
    references, keys = _cut(model, exam.documents.items())
    return Work("worlds", references, keys, [q.text for q in asked], [q.key for q in asked], True)


def squad(model: LanguageModel, folder: Path, queries: int, references: int) -> Work:
    """The first SQuAD paragraphs, and some of the questions about them."""
    paragraphs, questions = read_squad(folder)
    texts, documents = _cut(model, ((paragraph.key, paragraph.text) for paragraph in paragraphs), references)
    known = set(documents[:-1])
    asked = _some([question for question in questions if question.key in known], queries)
    return Work("SQuAD", texts, documents, [q.text for q in asked], [q.key for q in asked], True)


def rests(model: LanguageModel, name: str, texts: Iterable[str], queries: int, references: int) -> Work:
    """The first words of a reference, up to 64 tokens, are the query; its rest is what should be found among rests."""
    pieces = [piece for text in texts for piece in model.split(text)]
    rows = _some([row for row in map(model.checkpoint.encode, pieces) if len(row) >= SHORTEST], references)
    cuts = [_at_a_word(model, row) for row in rows]
    documents = [str(number) for number in range(len(rows))]
    first = [str(model.checkpoint.tokenizer.decode(row[:cut])) for row, cut in zip(rows, cuts, strict=True)]
    rest = [str(model.checkpoint.tokenizer.decode(row[cut:])) for row, cut in zip(rows, cuts, strict=True)]
    return Work(name, rest, documents, first[:queries], documents[:queries], False)


def all_work(model: LanguageModel, folder: Path, queries: int, references: int) -> list[Work]:
    """All four; the worlds with half as many references, as these are one document each."""
    paragraphs, countries = read_squad(folder)[0], read_countries(folder)
    return [
        worlds(model, queries, references // 2),
        squad(model, folder, queries, references),
        rests(model, "SQuAD's rests", [document.text for document in paragraphs], queries, references),
        rests(model, "countries' rests", [document.text for document in countries], queries, references),
    ]


def _cut(
    model: LanguageModel, documents: Iterable[tuple[str, str]], limit: int | None = None
) -> tuple[list[str], list[str]]:
    """The first references of documents (key, text), cut as the store cuts them, and the key of each."""
    pieces = list(islice(((piece, key) for key, text in documents for piece in model.split(text)), limit))
    return [piece for piece, _ in pieces], [key for _, key in pieces]


def _at_a_word(model: LanguageModel, row: list[int]) -> int:
    """The last token of the first 64 and the next that begins a word."""
    decode = model.checkpoint.tokenizer.decode
    return next(
        (at for at in range(CHUNK_TOKENS, 0, -1) if str(decode(row[at : at + 1])).startswith(" ")), CHUNK_TOKENS
    )


def _some(candidates: list[Any], count: int) -> list[Any]:
    return Random(SEED).sample(candidates, min(count, len(candidates)))


@dataclass(frozen=True, slots=True)
class Rows:
    """A padded batch (N, T): `valid` marks the tokens of the texts themselves, `last` (N,) is each row's last token."""

    tokens: Tensor
    positions: Tensor
    valid: Tensor
    last: Tensor


def reference_rows(model: LanguageModel, texts: Sequence[str]) -> Rows:
    """As the writer reads references: behind the prefix."""
    return _rows([(model.checkpoint.prefix, model.checkpoint.encode(text), []) for text in texts], 0, 0)


def query_rows(model: LanguageModel, texts: Sequence[str], asked: bool) -> Rows:
    """As the engine reads a context: behind the prefix, 128 free positions and `<s>`; questions in the model's form."""
    checkpoint = model.checkpoint
    start, rows = [*checkpoint.prefix, *checkpoint.bos], []
    before = QUESTION.partition("{question}")[0] if asked else ""
    begin = len(checkpoint.encode(before.rstrip()))
    for text in texts:
        tokens = model.question(text) if asked else checkpoint.encode(text)
        end = len(checkpoint.encode(before + text))
        rows.append(([*start, *tokens[:begin]], tokens[begin:end], tokens[end:]))
    return _rows(rows, len(checkpoint.prefix), REFERENCE_TOKENS)


def _rows(rows: Sequence[tuple[list[int], list[int], list[int]]], free_from: int, free: int) -> Rows:
    """Pad rows of tokens before the text, of the text, and behind it; `free` positions are left out at `free_from`."""
    lengths = [sum(map(len, row)) for row in rows]
    tokens = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    valid = torch.zeros_like(tokens, dtype=torch.bool)
    for number, (before, text, behind) in enumerate(rows):
        tokens[number, : lengths[number]] = torch.tensor([*before, *text, *behind])
        valid[number, len(before) : len(before) + len(text)] = True
    positions = torch.arange(max(lengths))
    positions[free_from:] += free
    return Rows(tokens, positions.expand_as(tokens), valid, torch.tensor(lengths) - 1)


class _Recorder:
    """A `Recorder` (model/attention.py) of memory layers: queries, keys without rotation, and which keys are kept."""

    def __init__(self, layout: MemoryLayout, valid: Tensor, rotation: Rotation) -> None:
        self._layout, self._valid, self._rotation = layout, valid, rotation
        self.seen: dict[str, Tensor] = {}

    def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        if layer not in self._layout.layers:
            return
        query, key = self._rotation.undo(query, key)
        scores = RULES[self._layout.rule](query, key, value, self._valid, query.shape[-1] ** -0.5)
        indices, real = keep(scores, self._valid, self._layout.kept_tokens)
        kept = torch.zeros(key.shape[:3], dtype=torch.bool).scatter_(2, indices, real)
        shared = query.shape[1] // key.shape[1]
        for name, one in (("query", query), ("key", key), ("kept", kept)):
            by_head = one if name == "query" else one.repeat_interleave(shared, dim=1)
            self.seen[f"{name} {layer}"] = by_head.transpose(1, 2)[self._valid]


@dataclass(frozen=True, slots=True)
class States:
    """What layers make of texts. `starts` (N,): where each text's own tokens begin among all.

    `tokens`, by name: `hidden L` (T, E), 0 for the embedding; of memory layers `query L` and `key L` (T, H, D), a key
    once for each query head that reads it, and `kept L` (T, H), which of them the writer keeps. `ids` (T,) are the
    tokens. `last`, by layer: hidden states (N, E) of the last token of all, for a question that of "Answer:".
    """

    starts: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    tokens: dict[str, npt.NDArray[Any]]
    last: dict[int, Matrix]

    def mean(self, name: str, weights: npt.NDArray[Any] | None = None) -> Matrix:
        """Means (N, all dimensions) over each text's own tokens, by weights of tokens or, (T, H), of their heads."""
        tokens = self.tokens[name]
        counted = np.ones(tokens.shape[:-1], np.float32) if weights is None else weights.astype(np.float32)
        summed: Matrix = np.add.reduceat(tokens * counted[..., None], self.starts)
        totals: Matrix = np.maximum(np.add.reduceat(counted, self.starts), 1e-6)
        means: Matrix = summed / totals[..., None]
        return means.reshape(len(self.starts), -1)


def forward(checkpoint: Checkpoint, rows: Rows, recorder: _Recorder | None = None) -> tuple[Tensor, ...]:
    """Hidden states (N, T, E) of the embedding and of each layer; nothing is read from memories."""
    decoder: Any = checkpoint.model.base_model
    hidden: tuple[Tensor, ...] = decoder(
        input_ids=rows.tokens,
        attention_mask=causal_mask(rows.tokens.shape[1], rows.tokens.device),
        position_ids=rows.positions,
        use_cache=False,
        output_hidden_states=True,
        recorder=recorder,
    ).hidden_states
    return hidden


@torch.inference_mode()
def states(checkpoint: Checkpoint, batches: Iterable[Rows]) -> States:
    """Run batches through the model."""
    decoder: Any = checkpoint.model.base_model
    counts: list[int] = []
    ids: list[int] = []
    tokens: dict[str, list[npt.NDArray[Any]]] = {}
    last: dict[int, list[Matrix]] = {}
    for rows in batches:
        rotation = Rotation(decoder, decoder.layers[0].self_attn, next(decoder.parameters())[:1], rows.positions)
        recorder = _Recorder(checkpoint.layout, rows.valid, rotation)
        for layer, hidden in enumerate(forward(checkpoint, rows, recorder)):
            recorder.seen[f"hidden {layer}"] = hidden[rows.valid]
            last.setdefault(layer, []).append(hidden[torch.arange(len(hidden)), rows.last].numpy())
        for name, seen in recorder.seen.items():
            tokens.setdefault(name, []).append(seen.numpy())
        counts += rows.valid.sum(dim=1).tolist()
        ids += rows.tokens[rows.valid].tolist()
    return States(
        np.cumsum([0, *counts[:-1]]),
        np.array(ids),
        {name: np.concatenate(parts) for name, parts in tokens.items()},
        {layer: np.concatenate(parts) for layer, parts in last.items()},
    )


def batched(texts: Sequence[str]) -> Iterable[Sequence[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
