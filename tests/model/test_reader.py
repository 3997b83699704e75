"""Generation by the paper's schedule equals a slow reference that computes the whole sequence again for each token.

Dimensions: `G` KV heads, `T` tokens, `M` memory tokens, `D` head size, `V` vocabulary.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from memory3.answers import Finished, Recalled, Text
from memory3.kernels.reference import attend
from memory3.model.attention import LayerMemories
from memory3.model.language_model import LanguageModel
from memory3.model.layout import REFERENCE_TOKENS, MemoryLayout
from memory3.model.reader import Reading
from memory3.model.schedule import CHUNK_TOKENS, RECALL_AHEAD
from memory3.model.source import GenerationOptions
from memory3.store.errors import Corrupted, InvalidArgument
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from .builders import FAMILIES, Scripted, hit, tokenizer_of
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


@pytest.fixture
def model(load: Load) -> LanguageModel:
    return load("llama", LAYOUT)


def source_of(model: LanguageModel, script: Sequence[Sequence[int]] = SCRIPT, gone: Sequence[int] = ()) -> Scripted:
    return Scripted(script, dict(enumerate(model.write(TEXTS))), gone)


def prompt_of(model: LanguageModel, tokens: int, seed: int = 1) -> str:
    """A prompt of exactly so many tokens, without `<s>`."""
    words = ["bees", " honey", " roof", " clocks", " Mira", " the", " of", " ferry", "!", "?"]
    assert all(len(model.checkpoint.encode(word)) >= 1 for word in words)
    picked = torch.randint(len(words), (tokens,), generator=torch.Generator().manual_seed(seed)).tolist()
    text = model.checkpoint.tokenizer.decode(model.checkpoint.encode("".join(words[n] for n in picked))[:tokens])
    assert isinstance(text, str)
    assert len(model.checkpoint.encode(text)) == tokens
    return text


class Blocks:
    """Attention by blocks of one sequence: the queries of each block see their own memories and all before them."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, int, dict[int, LayerMemories] | None]] = []

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
        parts = []
        for start, end, memories in self.blocks:
            memory = None if memories is None else memories.get(layer)
            part = attend(
                query[:, :, start:end],
                key[:, :, :end],
                value[:, :, :end],
                scale=scaling,
                memory_key=None if memory is None else memory.key,
                memory_value=None if memory is None else memory.value,
                memory_mask=None if memory is None else memory.mask,
            )
            parts.append(part)
        return torch.cat(parts, dim=2).transpose(1, 2), None


BLOCKS = Blocks()
AttentionInterface.register("blocks", BLOCKS)


def slow_generation(
    model: LanguageModel,
    plain: PreTrainedModel,
    prompt: list[int],
    tokens: int,
    source: Scripted,
    ahead: int = RECALL_AHEAD,
) -> tuple[list[int], list[str]]:
    """Greedy tokens and queries, by recomputing prefix, context and all blocks without a cache for each token."""
    checkpoint = model.checkpoint
    prefix, context = checkpoint.prefix, [*checkpoint.bos, *prompt]

    def recalled(query: str) -> dict[int, LayerMemories] | None:
        values = [value for value in source.key_values(source.recall([query], 5)[0]) if value is not None]
        return checkpoint.form.layers(values, torch.device("cpu"), torch.float32) if values else None

    blocks: list[tuple[int, int, dict[int, LayerMemories] | None]] = [(0, len(prefix), None)]
    coming: dict[int, LayerMemories] | None = None
    for start in range(0, len(context), 64):
        chunk = context[start : start + 64]
        memories = recalled(str(checkpoint.tokenizer.decode(chunk, skip_special_tokens=True)).strip())
        blocks.append((len(prefix) + start, len(prefix) + start + len(chunk), memories))
    generated: list[int] = []
    plain.set_attn_implementation("blocks")
    try:
        while True:
            whole = [*prefix, *context, *generated]
            positions = [*range(len(prefix)), *range(len(prefix) + 128, len(whole) + 128)]
            BLOCKS.blocks = blocks
            logits = plain(input_ids=torch.tensor([whole]), position_ids=torch.tensor([positions]), use_cache=False)
            generated.append(int(logits.logits[0, -1].argmax()))
            if len(generated) == tokens:
                return generated, source.queries
            memories = blocks[-1][2]
            if (len(generated) + ahead) % 64 == 0 and len(generated) + ahead < tokens:
                text = checkpoint.tokenizer.decode(generated[-64:], skip_special_tokens=True)
                coming = recalled(str(text).strip())
            if len(generated) % 64 == 0:
                memories = coming
            end = blocks[-1][1]
            blocks.append((end, end + 1, memories))
    finally:
        plain.set_attn_implementation("sdpa")


def decoded(model: LanguageModel, tokens: list[int]) -> str:
    text = model.checkpoint.tokenizer.decode(tokens, skip_special_tokens=True)
    assert isinstance(text, str)
    return text.strip().rstrip("\ufffd")


def run(
    model: LanguageModel, prompt: str, source: Scripted, options: GenerationOptions
) -> tuple[str, list[Recalled], Finished]:
    events = list(model.generate(prompt, source, options=options))
    finished = events[-1]
    assert isinstance(finished, Finished)
    text = "".join(event.text for event in events if isinstance(event, Text))
    return text.strip(), [event for event in events if isinstance(event, Recalled)], finished


def without_end(model: LanguageModel, **changed: Any) -> LanguageModel:
    """The model, but no token ends it, so that generations are as long as they are asked for."""
    made = replace(model.checkpoint, **changed)
    made.__dict__["ends"] = frozenset()
    return LanguageModel(made)


@pytest.fixture
def endless(model: LanguageModel) -> LanguageModel:
    return without_end(model)


@pytest.mark.parametrize(
    ("prompt_tokens", "tokens", "ahead"),
    [
        (10, 20, RECALL_AHEAD),
        (CHUNK_TOKENS - 1, 5, RECALL_AHEAD),
        (CHUNK_TOKENS, 5, RECALL_AHEAD),
        (150, 8, RECALL_AHEAD),
        (20, CHUNK_TOKENS, RECALL_AHEAD),
        (20, CHUNK_TOKENS + 1, RECALL_AHEAD),
        (100, 140, RECALL_AHEAD),
        (20, CHUNK_TOKENS, 0),
        (100, 140, 0),
        (20, 70, CHUNK_TOKENS - 1),
    ],
)
def test_the_schedule_equals_recomputing_everything(
    prompt_tokens: int, tokens: int, ahead: int, endless: LanguageModel, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    """One chunk and several, each with memories of its own, and generations that recall again; 0 ahead is the paper."""
    prompt = prompt_of(endless, prompt_tokens)
    slow_source, source = source_of(endless), source_of(endless)
    expected, queries = slow_generation(
        endless, plain_model("llama"), endless.checkpoint.encode(prompt), tokens, slow_source, ahead
    )
    options = GenerationOptions(max_tokens=tokens, recall_ahead=ahead)
    text, recalled, finished = run(endless, prompt, source, options)
    assert text == decoded(endless, expected)
    assert source.queries == [query for query in queries if query]
    assert finished.tokens == tokens and finished.reason == "length"
    chunks = -(-(prompt_tokens + 1) // CHUNK_TOKENS) + (tokens - 1) // CHUNK_TOKENS
    assert [event.chunk for event in recalled] == list(range(chunks)) and chunks == len(queries)
    assert [[found.seq for found in event.memories] for event in recalled] == [
        SCRIPT[min(n, len(SCRIPT) - 1)] for n in range(chunks)
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_follows_the_schedule(
    name: str, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    model = without_end(load(name, LAYOUT))
    _compare_with_slow(model, plain_model(name), prompt_tokens=90, tokens=70)


def test_a_model_without_a_token_that_begins_follows_it_too(
    plain_model: Callable[[str], PreTrainedModel], load: Load
) -> None:
    """As Qwen's: prefix, references and context then stand there without it."""
    tokenizer = tokenizer_of()
    tokenizer.bos_token = None
    model = without_end(load("qwen3", LAYOUT), tokenizer=tokenizer)
    assert model.checkpoint.bos == [] and model.checkpoint.prefix == model.checkpoint.encode("Reference:")
    _compare_with_slow(model, plain_model("qwen3"), prompt_tokens=66, tokens=6)


def _compare_with_slow(model: LanguageModel, plain: PreTrainedModel, prompt_tokens: int, tokens: int) -> None:
    prompt = prompt_of(model, prompt_tokens)
    slow_source, source = source_of(model), source_of(model)
    expected, queries = slow_generation(model, plain, model.checkpoint.encode(prompt), tokens, slow_source)
    text, _, finished = run(model, prompt, source, GenerationOptions(max_tokens=tokens))
    assert text == decoded(model, expected) and finished.tokens == tokens
    assert source.queries == [query for query in queries if query]


def test_what_is_read_changes_what_is_generated(endless: LanguageModel) -> None:
    prompt = prompt_of(endless, 12)
    options = GenerationOptions(max_tokens=20)
    answers = {run(endless, prompt, source_of(endless, [[number]]), options)[0] for number in range(4)}
    assert len(answers) > 1


def weighed(model: LanguageModel, weight: float) -> LanguageModel:
    return without_end(model, layout=replace(model.checkpoint.layout, recall_weight=weight))


def test_a_recall_weight_makes_the_best_memory_count_more(endless: LanguageModel) -> None:
    """From reading all alike, at 0, to reading the best one alone, in one continuous change."""
    prompt = prompt_of(endless, 12)
    memories = dict(enumerate(endless.write(TEXTS)))

    def logits(model: LanguageModel, script: list[int]) -> Tensor:
        reading = Reading(model.checkpoint, Scripted([script], memories), GenerationOptions())
        reading._recall("who")
        list(reading._begin())
        reading._read(model.checkpoint.prefix)
        return reading._read(model.checkpoint.encode(prompt))

    # Similarities of `hit`: 0.99, 0.98 and 0.95.
    alike, best = logits(endless, [1, 2, 5]), logits(endless, [1])
    torch.testing.assert_close(logits(weighed(endless, 1e-6), [1, 2, 5]), alike, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(weighed(endless, 1e5), [1, 2, 5]), best, atol=1e-5, rtol=1e-5)
    between = logits(weighed(endless, 100.0), [1, 2, 5])
    assert (between - alike).abs().max() > 1e-3 and (between - best).abs().max() > 1e-3
    assert torch.equal(logits(weighed(endless, 1e5), [1]), best)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_memories_it_equals_the_generation_of_transformers(
    name: str, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    model = load(name)
    prompt = prompt_of(model, 80)
    tokens = [*model.checkpoint.bos, *model.checkpoint.encode(prompt)]
    plain: Any = plain_model(name)
    theirs = plain.generate(torch.tensor([tokens]), max_new_tokens=40, do_sample=False)[0, len(tokens) :]
    source = Scripted([[0]], {})
    text, recalled, finished = run(model, prompt, source, GenerationOptions(max_tokens=40, memories=0))
    expected = [token for token in theirs.tolist() if token not in model.checkpoint.ends]
    assert text == decoded(model, expected)
    assert finished.tokens == len(expected)
    assert recalled == [] and source.queries == []


def test_a_question_recalls_by_itself_and_not_by_its_form(model: LanguageModel) -> None:
    source = source_of(model)
    list(model.ask("who keeps bees?", source, options=GenerationOptions(max_tokens=2)))
    assert source.queries == ["who keeps bees?"]


def test_a_memory_deleted_meanwhile_is_left_out_and_said_to_be_unread(endless: LanguageModel) -> None:
    prompt, options = prompt_of(endless, 12), GenerationOptions(max_tokens=12)
    text, recalled, _ = run(endless, prompt, source_of(endless, [[0, 1, 2]], gone=[1]), options)
    expected, _, _ = run(endless, prompt, source_of(endless, [[0, 2]]), options)
    assert [found.seq for event in recalled for found in event.memories] == [0, 2]
    assert [found.seq for event in recalled for found in event.unread] == [1]
    assert text == expected
    alone, recalled, _ = run(endless, prompt, source_of(endless, [[0, 1]], gone=[0, 1]), options)
    assert recalled == [Recalled(0, (), unread=(hit(0), hit(1)))]
    assert alone == run(endless, prompt, source_of(endless, [[]]), options)[0]


def test_key_values_of_another_shape_are_refused(model: LanguageModel) -> None:
    source = Scripted([[0]], {0: b"\x01\x00\x00\x00" + bytes(10)})
    with pytest.raises(Corrupted, match="14 bytes"):
        list(model.generate("bees", source, options=GenerationOptions(max_tokens=2)))


def test_a_closed_generation_stops(endless: LanguageModel) -> None:
    source = source_of(endless)
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    handle = endless.checkpoint.model.register_forward_hook(count)
    try:
        events = endless.generate("bees", source, options=GenerationOptions(max_tokens=500))
        for _ in itertools.islice(events, 3):
            pass
        before = passes
        events.close()  # type: ignore[attr-defined]
        assert next(events, None) is None
        assert passes == before
        assert 0 < before < 100
    finally:
        handle.remove()


def test_an_empty_prompt_or_question_is_refused(model: LanguageModel) -> None:
    options = GenerationOptions(max_tokens=2)
    with pytest.raises(InvalidArgument, match="prompt is empty"):
        list(model.generate("", source_of(model), options=options))
    with pytest.raises(InvalidArgument, match="question is empty"):
        list(model.ask(" \n", source_of(model), options=options))


def room_of(model: LanguageModel) -> int:
    """Tokens of the longest prompt: the window of a sliding model counts prefix, references, `<s>` and prompt."""
    return 512 - len(model.checkpoint.prefix) - REFERENCE_TOKENS - 1


def test_a_prompt_that_outgrows_the_window_is_refused_unread(load: Load) -> None:
    """Once it was read and recalled for until the window was full, and then the caller was told to try again."""
    model = load("mistral-window", MemoryLayout((0,), stored="float32"))
    source, options = source_of(model), GenerationOptions(max_tokens=1)
    room = room_of(model)
    with pytest.raises(InvalidArgument, match="513 positions, this model has 512; give a shorter one"):
        list(model.generate(prompt_of(model, room + 1), source, options=options))
    assert source.queries == []
    assert run(model, prompt_of(model, room), source, options)[2].tokens <= 1


@pytest.mark.parametrize("left", [0, 1, 40])
def test_an_answer_that_fills_the_window_ends_there(left: int, load: Load) -> None:
    """Once it ended in an error, and the answer made so far was lost."""
    model = without_end(load("mistral-window", MemoryLayout((0,), stored="float32")))
    prompt = prompt_of(model, room_of(model) - left)
    text, _, finished = run(model, prompt, source_of(model), GenerationOptions(max_tokens=500))
    # The last token is made from a full window and need not be read.
    assert (finished.reason, finished.tokens) == ("length", left + 1)
    assert text == run(model, prompt, source_of(model), GenerationOptions(max_tokens=left + 1))[0]


def test_the_end_of_a_sequence_ends_the_answer(model: LanguageModel) -> None:
    """Every token is made an end in turn: generation stops at it and does not show it."""
    checkpoint = model.checkpoint
    options = GenerationOptions(max_tokens=8, memories=0)
    first = checkpoint.model(input_ids=torch.tensor([[0, *checkpoint.encode("bees")]])).logits[0, -1].argmax()
    made = type(checkpoint)(checkpoint.name, checkpoint.model, checkpoint.tokenizer, checkpoint.layout)
    made.__dict__["ends"] = frozenset([int(first)])
    text, _, finished = run(LanguageModel(made), "bees", source_of(model), options)
    assert (text, finished.tokens, finished.reason) == ("", 0, "stop")


def test_a_stop_string_ends_the_answer_before_it(endless: LanguageModel) -> None:
    prompt = prompt_of(endless, 30)
    whole, _, _ = run(endless, prompt, source_of(endless), GenerationOptions(max_tokens=30))
    stop = whole[5:8]
    text, _, finished = run(endless, prompt, source_of(endless), GenerationOptions(max_tokens=30, stop=(stop,)))
    assert text == whole[: whole.index(stop)].strip()
    assert finished.reason == "stop" and finished.tokens < 30


def test_the_seconds_of_a_generation_add_up(model: LanguageModel) -> None:
    _, _, finished = run(model, "bees", source_of(model), GenerationOptions(max_tokens=5))
    seconds = finished.seconds
    assert set(seconds) == {"recall", "fetch", "model", "total"}
    assert all(value > 0 for value in seconds.values())
    assert seconds["recall"] + seconds["fetch"] + seconds["model"] <= seconds["total"]


def test_texts_in_the_context_are_read_as_in_training(model: LanguageModel) -> None:
    """Text RAG: the prefix, the texts on lines of their own, `<s>`, the question."""
    checkpoint = model.checkpoint
    seen: list[list[int]] = []

    def keep(_: torch.nn.Module, __: object, kept: dict[str, Tensor]) -> None:
        seen.append(kept["input_ids"][0].tolist())

    handle = checkpoint.model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        list(model.ask_with_texts("who?", ["the bees", "a roof"], options=GenerationOptions(max_tokens=1)))
    finally:
        handle.remove()
    newline = checkpoint.encode("\n")
    assert [token for chunk in seen for token in chunk] == [
        *checkpoint.prefix,
        *checkpoint.encode("the bees"),
        *newline,
        *checkpoint.encode("a roof"),
        *checkpoint.bos,
        *checkpoint.encode("Question: who?\nAnswer:"),
    ]
