"""Rows of tokens for the two stages of training: text in the context, then memories.

Dimensions: `N` references, `R` rows, `T` tokens, `S` memories of a row.
"""

from dataclasses import dataclass
from random import Random
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..layout import REFERENCE_TOKENS
from ..prompts import QUESTION, REFERENCE_PREFIX
from .worlds import Passage, Question, World

LANGUAGE_WEIGHT = 0.02
"""Weight of the loss on tokens that are no answer."""

NEIGHBOURS = 4
"""Most passages drawn to resemble one passage."""


class PassageSource(Protocol):
    """Anything that draws passages."""

    def passage(self) -> Passage: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Padded rows. `tokens`, `positions`, `targets` (R, T) int64, `weights` (R, T) float32: the loss of each target."""

    tokens: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class References:
    """Padded references with the prefix before each: `tokens` (N, T) int64, `valid` (N, T) bool (text, no prefix)."""

    tokens: Tensor
    valid: Tensor


@dataclass(frozen=True, slots=True)
class MemoryBatch:
    """Rows of one question each; `reads` (R, S) int64 names the references that a row reads, -1 for none."""

    references: References
    rows: Rows
    reads: Tensor
    facts: tuple[str, ...]


class Encoder:
    """Turns texts into the tokens of rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.bos: int = tokenizer.bos_token_id
        self.eos: int = tokenizer.eos_token_id
        self.pad: int = tokenizer.pad_token_id
        self.prefix = [self.bos, *self.encode(REFERENCE_PREFIX)]
        self.newline = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("x\n")[-1])

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def question(self, question: Question) -> tuple[list[int], list[float]]:
        """Tokens of a question with its answer, and the loss weight of each."""
        asked = [self.bos, *self.encode(QUESTION.format(question=question.text))]
        answer = [*self.encode(question.answer), self.eos]
        return asked + answer, [0.0] + [LANGUAGE_WEIGHT] * (len(asked) - 1) + [1.0] * len(answer)

    def pad_rows(self, rows: list[list[int]]) -> Tensor:
        # Few different widths: libraries keep what they prepared for each shape, and the heap grows by it.
        width = -(-max(map(len, rows)) // 16) * 16
        return torch.tensor([row + [self.pad] * (width - len(row)) for row in rows])

    def rows(self, tokens: list[list[int]], weights: list[list[float]], positions: list[list[int]]) -> Rows:
        """Pad rows and shift their targets by one."""
        padded = self.pad_rows(tokens)
        width = padded.shape[1]
        weight = torch.tensor([[*row[1:], *[0.0] * (width - len(row) + 1)] for row in weights])
        position = torch.tensor([row + [0] * (width - len(row)) for row in positions])
        return Rows(padded, position, padded.roll(-1, dims=1), weight)

    def references(self, texts: list[str]) -> References:
        rows = [self.prefix + self.encode(text) for text in texts]
        tokens = self.pad_rows(rows)
        lengths = torch.tensor([len(row) for row in rows])[:, None]
        column = torch.arange(tokens.shape[1])[None]
        return References(tokens, (column >= len(self.prefix)) & (column < lengths))


class Sampler:
    """Draws batches from worlds, mixed with natural passages.

    Args:
        natural: sources of natural passages and the share of each; the rest is drawn from `world`.
    """

    def __init__(
        self, encoder: Encoder, world: World, seed: int, natural: tuple[tuple[PassageSource, float], ...] = ()
    ) -> None:
        self._encoder = encoder
        self._world = world
        self._natural = natural
        self._random = Random(seed)

    def passage(self) -> Passage:
        """A passage that fits a reference and has a question."""
        while True:
            draw = self._random.random()
            passage = None
            for source, share in self._natural:
                if draw < share:
                    passage = source.passage()
                    break
                draw -= share
            passage = passage or self._world.passage()
            if passage.questions and len(self._encoder.encode(passage.text)) <= REFERENCE_TOKENS:
                return passage

    def passages(self, count: int) -> list[Passage]:
        """Passages of which most have some near them that tell the same facts of other entities."""
        drawn: list[Passage] = []
        while len(drawn) < count:
            passage = self.passage()
            drawn.append(passage)
            if not passage.kind.startswith("natural") and self._random.random() < 0.8:
                drawn += [self._world.passage(like=passage) for _ in range(self._random.randint(1, NEIGHBOURS))]
        return [p for p in drawn if len(self._encoder.encode(p.text)) <= REFERENCE_TOKENS][:count]

    def _unknown(self, passage: Passage) -> Question:
        if passage.unanswerable and (passage.kind.startswith("natural") or self._random.random() < 0.6):
            return self._random.choice(passage.unanswerable)
        if passage.kind.startswith("natural"):
            passage = self._world.passage()
        return self._world.stranger(passage.kind)

    def context_rows(self, rows: int, references: int, questions: int, unknown: float) -> Rows:
        """Stage 1: each row holds 1 to `references` references in its context, then questions with answers."""
        encoder, random = self._encoder, self._random
        tokens, weights, positions = [], [], []
        for _ in range(rows):
            passages = self.passages(random.randint(1, references))
            row = list(encoder.prefix)
            for number, passage in enumerate(passages):
                row += ([encoder.newline] if number else []) + encoder.encode(passage.text)
            weight = [LANGUAGE_WEIGHT / 2] * len(row)
            for _ in range(questions):
                passage = random.choice(passages)
                asked = self._unknown(passage) if random.random() < unknown else random.choice(passage.questions)
                added, added_weight = encoder.question(asked)
                row, weight = row + added, weight + added_weight
            tokens.append(row)
            weights.append(weight)
            positions.append(list(range(len(row))))
        return encoder.rows(tokens, weights, positions)

    def _others(self, own: int, passages: int, count: int) -> list[int]:
        """Other passages than `own`, the first of them mostly neighbours, which are the hard ones to tell apart."""
        near = [(own + step) % passages for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]
        hard = self._random.sample(near, self._random.randint(0, min(count, len(near))))
        any_ones = self._random.sample(range(passages), min(passages, count + 1 + len(near)))
        return [other for other in dict.fromkeys([*hard, *any_ones]) if other != own][:count]

    def memory_batch(self, references: int, rows: int, reads: int, unknown: float) -> MemoryBatch:
        """Stage 2: each row asks one question and reads `reads` memories, its own among them if it has an answer."""
        encoder, random = self._encoder, self._random
        passages = self.passages(references)
        start = len(encoder.prefix) + REFERENCE_TOKENS
        tokens, weights, positions, read, facts = [], [], [], [], []
        for number in range(rows):
            own = number % len(passages)
            passage = passages[own]
            asked = self._unknown(passage) if random.random() < unknown else random.choice(passage.questions)
            added, weight = encoder.question(asked)
            tokens.append(encoder.prefix + added)
            weights.append([0.0] * len(encoder.prefix) + weight)
            positions.append([*range(len(encoder.prefix)), *range(start, start + len(added))])
            others = self._others(own, len(passages), reads - 1)
            count = random.randint(0, reads - 1) if random.random() < 0.3 else reads - 1
            chosen = [own, *others[:count]]
            read.append(chosen + [-1] * (reads - len(chosen)))
            facts.append(asked.fact)
        return MemoryBatch(
            encoder.references([passage.text for passage in passages]),
            encoder.rows(tokens, weights, positions),
            torch.tensor(read),
            tuple(facts),
        )
