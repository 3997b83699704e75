"""Rows of tokens for the two stages of training: text in the context, then memories.

Dimensions: `N` references, `R` rows, `T` tokens, `S` memories of a row.
"""

from collections.abc import Sequence
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

MISSING_SHARE = 0.6
"""Of the questions without an answer, the share that ask for what the entity's own passage does not tell."""

GAP = (0.28, 0.11)
"""Mean and spread of how far other memories lie behind the right one, in similarity. The packaged retriever on unseen
worlds (bench/recall_weight.py) gives 0.27 at the second place and 0.34 at the fifth, spread 0.1."""

STRANGER_GAP = 0.12
"""Spread of the similarities of memories none of which is about the question."""

UNSCORED_SHARE = 0.3
"""Rows whose memories all lie equally near, so that the model learns to tell them apart by itself as well."""


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
    """Rows of one question each, rows and references in order of length; `prefix` (P,) int64 stands before each row.

    `reads` (R, S) int64 names the references that a row reads, -1 for none, its own first; `scores` (R, S) float32 are
    similarities to the question such as recall gives.
    """

    references: References
    prefix: Tensor
    rows: Rows
    reads: Tensor
    scores: Tensor
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One row of a `MemoryBatch` before it is padded; `reads` still counts passages in the order they were drawn."""

    tokens: list[int]
    weights: list[float]
    positions: list[int]
    reads: list[int]
    scores: list[float]
    fact: str


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

    def _ask(self, passage: Passage, unknown: float) -> tuple[Question, bool]:
        """A question, without an answer in a share `unknown` of cases, and whether it is about what is told here."""
        random = self._random
        natural = passage.kind.startswith("natural")
        if random.random() >= unknown:
            return random.choice(passage.questions), True
        if passage.unanswerable and (natural or random.random() < MISSING_SHARE):
            return random.choice(passage.unanswerable), not natural
        kind = self._world.passage().kind if natural else passage.kind
        return self._world.stranger(kind), False

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
                added, added_weight = encoder.question(self._ask(passage, unknown)[0])
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

    def _scores(self, known: bool, count: int) -> list[float]:
        """Similarities of `count` memories to a question, the first of them about it if `known`."""
        if self._random.random() < UNSCORED_SHARE:
            return [0.0] * count
        if not known:
            return [-abs(self._random.gauss(0, STRANGER_GAP)) for _ in range(count)]
        return [0.0] + [-self._random.gauss(*GAP) for _ in range(count - 1)]

    def _memory_row(self, passages: Sequence[Passage], own: int, reads: int, unknown: float) -> MemoryRow:
        """A row that asks one question about the passage `own` and reads up to `reads`, its own first."""
        encoder, random = self._encoder, self._random
        asked, known = self._ask(passages[own], unknown)
        added, weights = encoder.question(asked)
        others = self._others(own, len(passages), reads - 1)
        count = random.randint(0, reads - 1) if random.random() < 0.3 else reads - 1
        chosen = [own, *others[:count]]
        spare = reads - len(chosen)
        start = len(encoder.prefix) + REFERENCE_TOKENS
        return MemoryRow(
            added,
            weights,
            list(range(start, start + len(added))),
            chosen + [-1] * spare,
            self._scores(known, len(chosen)) + [-1.0] * spare,
            asked.fact,
        )

    def memory_batch(self, references: int, rows: int, reads: int, unknown: float) -> MemoryBatch:
        """Stage 2: each row asks one question and reads `reads` memories, its own among them if it has an answer."""
        encoder = self._encoder
        passages = self.passages(references)
        drawn = [self._memory_row(passages, number % len(passages), reads, unknown) for number in range(rows)]
        drawn.sort(key=lambda row: len(row.tokens))
        lengths = [len(encoder.encode(passage.text)) for passage in passages]
        order = sorted(range(len(passages)), key=lengths.__getitem__)
        place = {number: at for at, number in enumerate(order)} | {-1: -1}
        return MemoryBatch(
            encoder.references([passages[number].text for number in order]),
            torch.tensor(encoder.prefix),
            encoder.rows(
                [row.tokens for row in drawn], [row.weights for row in drawn], [row.positions for row in drawn]
            ),
            torch.tensor([[place[number] for number in row.reads] for row in drawn]),
            torch.tensor([row.scores for row in drawn]),
            tuple(row.fact for row in drawn),
        )
