"""Explanations equal a slow reference that reads the whole sequence at once, without a cache, by an explicit softmax.

Dimensions: `H` query heads, `G` KV heads, `T` tokens, `S` memories, `K` kept tokens of each, `D` head size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from memory3.answers import ChunkExplanation, Explained, Explaining, Finished, GenerationEvent, Recalled, Text
from memory3.model import explanation
from memory3.model.attention import LayerMemories
from memory3.model.context import Context
from memory3.model.language_model import LanguageModel
from memory3.model.layout import REFERENCE_TOKENS, MemoryLayout
from memory3.model.reader import Reading
from memory3.model.recall_weight import recall_bias
from memory3.model.source import GenerationOptions
from memory3.model.transcript import Transcript
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from .builders import FAMILIES, Scripted, random_tokens
from .conftest import Load

LAYOUT = MemoryLayout((0, 2), kept_tokens=6, rule="key_value_norm", stored="float32")
TEXTS = [
    "the bees of the old roof",
    "Tomas repairs clocks in the harbour; the ferry leaves at nine",
    "honey on Saturdays",
    "Mira",
    "post office and island",
    "who keeps the clocks",
]
SCRIPT = [[0, 1, 2], [3, 4], [], [5, 0], [2]]
"""What the first, second... recall finds."""

Plain = Callable[[str], PreTrainedModel]


@pytest.fixture
def model(load: Load) -> LanguageModel:
    return endless(load("llama", LAYOUT))


def endless(model: LanguageModel, recall_weight: float = 0.0) -> LanguageModel:
    """The model, but no token ends it."""
    made = replace(model.checkpoint, layout=replace(model.checkpoint.layout, recall_weight=recall_weight))
    made.__dict__["ends"] = frozenset()
    return LanguageModel(made)


def read(
    model: LanguageModel,
    tokens: int,
    prompt_tokens: int = 12,
    script: Sequence[Sequence[int]] = SCRIPT,
    gone: Sequence[int] = (),
) -> tuple[list[GenerationEvent], Transcript]:
    """Generate from a prompt, and return the events and the transcript."""
    source = Scripted(script, dict(enumerate(model.write(TEXTS))), gone)
    reading = Reading(model.checkpoint, source, GenerationOptions(max_tokens=tokens, explain=True))
    events = list(reading.run(random_tokens(1, prompt_tokens)))
    return events, Transcript(reading._transcript, reading._answer)


def explained(events: Sequence[GenerationEvent]) -> tuple[ChunkExplanation, ...]:
    (event,) = [event for event in events if isinstance(event, Explained)]
    assert event is events[-2] and isinstance(events[-1], Finished)
    return event.chunks


def explain(model: LanguageModel, transcript: Transcript) -> tuple[ChunkExplanation, ...]:
    """The explanation itself, without what is told on the way."""
    going = explanation.explain(model.checkpoint, transcript)
    while True:
        try:
            next(going)
        except StopIteration as end:
            chunks: tuple[ChunkExplanation, ...] = end.value
            return chunks


def losses(chunk: ChunkExplanation) -> list[float]:
    assert all(memory.log_probability_loss is not None for memory in chunk.read)
    return [memory.log_probability_loss or 0.0 for memory in chunk.read]


@dataclass
class Block:
    """Tokens `start` to `end` of a sequence and what they read; `masses` collects (S,) of each layer."""

    start: int
    end: int
    memories: dict[int, LayerMemories] | None
    count: int
    masses: list[Tensor]


class Blocks:
    """Attention by blocks of one sequence: the queries of each see their own memories and all before them."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def __call__(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        **options: object,
    ) -> tuple[Tensor, None]:
        del mask, options
        layer: int = module.layer_idx  # type: ignore[assignment]
        heads, ratio = query.shape[1], query.shape[1] // key.shape[1]
        rows = torch.zeros_like(query)
        for block in self.blocks:
            memory = None if block.memories is None else block.memories.get(layer)
            shares = []
            for head in range(heads):
                group = head // ratio
                for token in range(block.start, block.end):
                    scores = key[0, group, : token + 1] @ query[0, head, token] * scaling
                    values = value[0, group, : token + 1]
                    if memory is not None:
                        assert memory.mask is not None
                        added = memory.mask[0, group]
                        if added.dtype == torch.bool:
                            added = torch.zeros(added.shape).masked_fill(~added, -math.inf)
                        scores = torch.cat([memory.key[0, group] @ query[0, head, token] * scaling + added, scores])
                        values = torch.cat([memory.value[0, group], values])
                    share = scores.softmax(0)
                    rows[0, head, token] = share @ values
                    if memory is not None:
                        shares.append(share[: memory.key.shape[2]].view(block.count, -1).sum(1))
            if shares:
                block.masses.append(torch.stack(shares).mean(0))
        return rows.transpose(1, 2), None


BLOCKS = Blocks()
AttentionInterface.register("explained-blocks", BLOCKS)


def slow_reading(
    model: LanguageModel, plain: PreTrainedModel, transcript: Transcript, left_out: tuple[int, int] | None = None
) -> tuple[list[list[float]], float]:
    """The mass of each memory of each chunk, and log p(answer), with one memory taken out of its chunk by hand."""
    checkpoint = model.checkpoint
    whole = list(checkpoint.prefix)
    blocks = [Block(0, len(whole), None, 0, [])]
    for number, chunk in enumerate(transcript.chunks):
        kept = [n for n in range(len(chunk.memories)) if (number, n) != left_out]
        bias = None
        if checkpoint.layout.recall_weight and kept:
            scores = torch.tensor([hit.score for hit, _ in chunk.memories])
            bias = recall_bias(scores, checkpoint.layout.recall_weight)[kept]
        values = [chunk.memories[n][1] for n in kept]
        memories = checkpoint.form.layers(values, torch.device("cpu"), torch.float32, bias) if kept else None
        blocks.append(Block(len(whole), len(whole) + len(chunk.tokens), memories, len(kept), []))
        whole += chunk.tokens
    prefix = len(checkpoint.prefix)
    positions = [*range(prefix), *range(prefix + REFERENCE_TOKENS, len(whole) + REFERENCE_TOKENS)]
    plain.set_attn_implementation("explained-blocks")
    try:
        BLOCKS.blocks = blocks
        logits = plain(input_ids=torch.tensor([whole]), position_ids=torch.tensor([positions]), use_cache=False).logits[
            0
        ]
    finally:
        plain.set_attn_implementation("sdpa")
    answer = torch.tensor(list(transcript.answer))
    log_probability = logits[-len(answer) :].log_softmax(-1).gather(1, answer[:, None]).sum()
    masses = [torch.stack(block.masses).mean(0).tolist() if block.masses else [] for block in blocks[1:]]
    return masses, float(log_probability)


def compare(model: LanguageModel, plain: PreTrainedModel, transcript: Transcript) -> None:
    """The explanation of a transcript with what the slow reference makes of it."""
    chunks = explain(model, transcript)
    masses, as_read = slow_reading(model, plain, transcript)
    assert len(chunks) == len(transcript.chunks)
    for number, chunk in enumerate(chunks):
        assert chunk.chunk == number
        assert [memory.mass for memory in chunk.read] == pytest.approx(masses[number], abs=1e-5)
        assert chunk.context_mass + sum(memory.mass for memory in chunk.read) == pytest.approx(1.0)
        expected = [as_read - slow_reading(model, plain, transcript, (number, n))[1] for n in range(len(chunk.read))]
        assert losses(chunk) == pytest.approx(expected, abs=2e-4)
        assert all(abs(loss) > 1e-3 for loss in expected), "the memories of this test must matter"


@pytest.mark.parametrize(("prompt_tokens", "tokens"), [(12, 6), (12, 1), (80, 3)])
def test_masses_and_losses_equal_the_slow_reference(
    prompt_tokens: int, tokens: int, model: LanguageModel, plain_model: Plain
) -> None:
    """One chunk and two, and an answer of one token, of which none was read."""
    events, transcript = read(model, tokens, prompt_tokens)
    assert len(transcript.answer) == tokens
    compare(model, plain_model("llama"), transcript)
    assert explained(events) == explain(model, transcript)


def test_generated_chunks_are_explained_too(model: LanguageModel, plain_model: Plain) -> None:
    """The first tokens that are generated read what the end of the prompt read, the 64th and on what it recalls."""
    events, transcript = read(model, 70, 12, script=[[0, 1], [3]])
    assert [len(chunk.tokens) for chunk in transcript.chunks] == [13 + 63, 6]
    assert [len(chunk.read) for chunk in explained(events)] == [2, 1]
    compare(model, plain_model("llama"), transcript)


@pytest.mark.parametrize("name", [*FAMILIES[1:], "mistral-window"])
def test_every_family_is_explained(name: str, load: Load, plain_model: Plain) -> None:
    made = endless(load(name, LAYOUT))
    _, transcript = read(made, 3, 70, script=[[0, 1], [3]])
    compare(made, plain_model(name), transcript)


def test_the_others_keep_their_weight_when_the_best_is_left_out(model: LanguageModel, plain_model: Plain) -> None:
    """Their bias is what it was beside the best one: raised by its absence, they would hide what it did."""
    weighed = endless(model, recall_weight=50.0)
    _, transcript = read(weighed, 4, script=[[0, 2, 5]])
    compare(weighed, plain_model("llama"), transcript)
    first, *_ = transcript.chunks
    without = replace(first, memories=first.memories[1:])
    loss = losses(explain(weighed, transcript)[0])[0]
    raised = explain(weighed, Transcript([without], transcript.answer))
    kept = slow_reading(weighed, plain_model("llama"), transcript, (0, 0))[0][0]
    assert loss and sum(kept) < 0.8 * sum(memory.mass for memory in raised[0].read)


def test_one_pass_equals_reading_token_by_token(model: LanguageModel) -> None:
    """What is read again in one pass is what was read when it was generated."""
    _, transcript = read(model, 70)
    checkpoint, context = model.checkpoint, Context(model.checkpoint.model)
    context.extend(checkpoint.prefix)
    context.skip(REFERENCE_TOKENS)
    expected: list[float] = []
    targets = list(transcript.answer)
    before = sum(len(chunk.tokens) for chunk in transcript.chunks) - len(targets)
    for chunk in transcript.chunks:
        for token in chunk.tokens:
            logits = context.extend([token], checkpoint.layers_of(chunk.memories))
            if before > 0:
                before -= 1
            else:
                expected.append(float(logits.log_softmax(-1)[targets[len(expected)]]))
    assert len(expected) == 70
    replay = explanation._Replay(checkpoint, transcript, held_from=0)
    assert sum(replay.read() for _ in transcript.chunks) == pytest.approx(sum(expected), abs=2e-4)


def test_a_memory_deleted_meanwhile_is_recalled_and_not_read(model: LanguageModel) -> None:
    events, _ = read(model, 3, script=[[0, 1, 2]], gone=[1])
    (chunk,) = explained(events)
    assert [hit.seq for hit in chunk.recalled] == [0, 1, 2]
    assert [memory.hit.seq for memory in chunk.read] == [0, 2]
    (recalled,) = [event for event in events if isinstance(event, Recalled)]
    assert [hit.seq for hit in recalled.memories] == [0, 2]


def test_a_chunk_that_reads_nothing_attends_to_the_context_alone(model: LanguageModel) -> None:
    (chunk,) = explained(read(model, 3, script=[[]])[0])
    assert chunk == ChunkExplanation(0, (), (), 1.0)


def test_beyond_the_limit_a_loss_is_not_computed(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last chunks come first, and what is not computed is None and never 0."""
    _, transcript = read(model, 3, 140)
    whole = explain(model, transcript)
    monkeypatch.setattr(explanation, "EXPLAINED_MEMORIES_MAX", 3)
    bounded = explain(model, transcript)
    assert [len(chunk.read) for chunk in bounded] == [3, 2, 0]
    assert [memory.log_probability_loss is None for memory in bounded[0].read] == [False, True, True]
    assert losses(bounded[1]) == pytest.approx(losses(whole[1]), abs=1e-6)
    assert [memory.mass for memory in bounded[0].read] == [memory.mass for memory in whole[0].read]


def test_the_token_that_ends_an_answer_belongs_to_it(model: LanguageModel) -> None:
    """An empty answer was an answer too: what made the model end at once is told."""
    _, transcript = read(model, 1)
    model.checkpoint.__dict__["ends"] = frozenset(transcript.answer)
    events, ended = read(model, 5)
    assert isinstance(events[-1], Finished) and events[-1].tokens == 0
    assert ended.answer == transcript.answer
    assert all(losses(explained(events)[0]))


def test_an_explanation_tells_how_far_it_is_and_stops_when_it_is_closed(model: LanguageModel) -> None:
    """Nobody who went away is worked for longer than it takes to leave one memory out."""
    events, _ = read(model, 3)
    assert [event for event in events if isinstance(event, Explaining)] == [Explaining(n, 3) for n in range(3)]
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    source = Scripted(SCRIPT, dict(enumerate(model.write(TEXTS))))
    going = model.generate("bees", source, options=GenerationOptions(max_tokens=3, explain=True))
    handle = model.checkpoint.model.register_forward_hook(count)
    try:
        while not isinstance(event := next(going), Explaining):
            pass
        before = passes
        assert next(going) == replace(event, done=1) and passes == before + 1
        going.close()  # type: ignore[attr-defined]
        assert passes == before + 1
    finally:
        handle.remove()


def test_without_memories_there_is_nothing_to_explain(model: LanguageModel) -> None:
    options = GenerationOptions(max_tokens=3, memories=0, explain=True)
    events = list(model.generate("bees", Scripted([[0]], {}), options=options))
    assert explained(events) == ()


def test_an_explanation_changes_nothing_else(model: LanguageModel) -> None:
    """The same text and recalls, and its seconds are told beside the others."""
    events, _ = read(model, 20)
    source = Scripted(SCRIPT, dict(enumerate(model.write(TEXTS))))
    plain = list(Reading(model.checkpoint, source, GenerationOptions(max_tokens=20)).run(random_tokens(1, 12)))
    kinds = (Text, Recalled)
    assert [event for event in events if isinstance(event, kinds)] == [
        event for event in plain if isinstance(event, kinds)
    ]
    assert not any(isinstance(event, Explained) for event in plain)
    finished, without = events[-1], plain[-1]
    assert isinstance(finished, Finished) and isinstance(without, Finished)
    assert set(finished.seconds) == {*without.seconds, "explain"}
    assert sum(finished.seconds[name] for name in ("recall", "fetch", "model", "explain")) <= finished.seconds["total"]
