"""Sequences that run together get what each would get alone; who leaves, is late, or fails does not disturb the others.

The models are small ones with random weights, so that a wrong position, mask or memory changes the tokens.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from memory3.answers import Finished, GenerationEvent, Recalled, Text
from memory3.model.engine.engine import Engine
from memory3.model.engine.limits import EngineLimits
from memory3.model.engine.paged import Kernels
from memory3.model.language_model import LanguageModel
from memory3.model.layout import MemoryLayout
from memory3.model.source import GenerationOptions, MemorySource
from memory3.store.errors import Corrupted, DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from memory3.store.types import Hit, Hits

from ..builders import FAMILIES, hit
from ..conftest import Load

LAYOUT = MemoryLayout((0, 2), kept_tokens=6, rule="key_value_norm", stored="float32")
WORDS = ["bees", " honey", " roof", " clocks", " Mira", " the", " of", " ferry", "!", " island", " nine", " Tomas"]
SMALL = EngineLimits(running_max=4, waiting_max=2, context_tokens_max=4_096, slots=128, ram_bytes=1 << 20)


class Found(MemorySource):
    """A source that finds, for each text, memories that follow from the text alone: the same in any order of calls."""

    def __init__(self, model: LanguageModel) -> None:
        random = Random(7)
        self._texts = ["".join(random.choices(WORDS, k=random.randrange(1, 20))) for _ in range(30)]
        self._values = dict(enumerate(model.write(self._texts)))
        self.gone: set[int] = set()
        self.damaged: set[int] = set()
        self.calls: list[int] = []
        self.answered = 0
        self.loaded: list[int] = []
        self.pause = threading.Event()
        self.pause.set()
        self.error: Exception | None = None
        self.failed = 0
        self.lost: Exception | None = None

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.calls.append(len(queries))
        self.pause.wait()
        if self.error is not None:
            self.failed += 1
            raise self.error
        found = [self._nearest(query, k) for query in queries]
        self.answered += 1
        return found

    def _nearest(self, query: str, k: int) -> list[Hit]:
        random = Random(query)
        numbers = random.sample([n for n in self._values if n not in self.gone], random.randrange(0, k + 1))
        return Hits([hit(number) for number in sorted(numbers)])

    def live(self, hits: Sequence[Hit]) -> list[bool]:
        if self.lost is not None:
            raise self.lost
        return [found.seq not in self.gone for found in hits]

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        self.loaded += [found.seq for found in hits]
        return [self._value(found.seq) for found in hits]

    def _value(self, seq: int) -> bytes | None:
        if seq in self.gone:
            return None
        return self._values[seq][:-1] if seq in self.damaged else self._values[seq]


def endless(model: LanguageModel, **changed: object) -> LanguageModel:
    made = replace(model.checkpoint, **changed)  # type: ignore[arg-type]
    made.__dict__["ends"] = frozenset()
    return LanguageModel(made)


@pytest.fixture
def model(load: Load) -> LanguageModel:
    return endless(load("llama", LAYOUT))


@contextmanager
def engine_of(model: LanguageModel, limits: EngineLimits = SMALL, kernels: Kernels | None = None) -> Iterator[Engine]:
    engine = Engine(model, limits, kernels)
    try:
        yield engine
    finally:
        engine.close()
    # Whatever happened: nothing is left pinned, running or waiting.
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.pool.pinned) == (0, 0, 0)


def prompt(seed: int, words: int) -> str:
    return "".join(Random(seed).choices(WORDS, k=words))


def read(events: Sequence[GenerationEvent]) -> tuple[str, list[tuple[int, list[int]]], str, int]:
    """Text, memories of each chunk, why it ended, and how many tokens it has."""
    finished = events[-1]
    assert isinstance(finished, Finished)
    chunks = [(event.chunk, [found.seq for found in event.memories]) for event in events if isinstance(event, Recalled)]
    text = "".join(event.text for event in events if isinstance(event, Text))
    return text, chunks, finished.reason, finished.tokens


REQUESTS = [
    (prompt(1, 3), GenerationOptions(max_tokens=70)),
    (prompt(2, 90), GenerationOptions(max_tokens=5)),
    (prompt(3, 20), GenerationOptions(max_tokens=140, recall_ahead=0)),
    (prompt(4, 60), GenerationOptions(max_tokens=30, memories=2)),
    (prompt(5, 10), GenerationOptions(max_tokens=80, memories=0)),
    (prompt(6, 1), GenerationOptions(max_tokens=1)),
    (prompt(7, 150), GenerationOptions(max_tokens=66)),
    (prompt(8, 30), GenerationOptions(max_tokens=20, memories=0)),
    (prompt(9, 12), GenerationOptions(max_tokens=65, stop=("ee",))),
    (prompt(10, 12), GenerationOptions(max_tokens=40, temperature=0.8, seed=3)),
    (prompt(11, 25), GenerationOptions(max_tokens=40, temperature=1.5, top_p=0.9, seed=4)),
    (prompt(12, 25), GenerationOptions(max_tokens=40, temperature=1.5, top_k=5, seed=5)),
]


@pytest.mark.parametrize("stored", ["int8", "int4", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_coded_memories_are_read_as_alone(name: str, stored: str, load: Load) -> None:
    """Whole numbers are multiplied by their scales only where they are read."""
    model = endless(load(name, replace(LAYOUT, stored=stored)))
    source, requests = Found(model), REQUESTS[:4]
    expected = [read(list(model.generate(text, source, options=options))) for text, options in requests]
    with engine_of(model) as engine:
        generations = [engine.generate(text, source, options=options) for text, options in requests]
        assert [read(list(generation)) for generation in generations] == expected


@pytest.mark.parametrize(
    "limits", [SMALL, replace(SMALL, running_max=12), replace(SMALL, running_max=1, waiting_max=20)]
)
def test_each_gets_what_it_would_get_alone(limits: EngineLimits, model: LanguageModel) -> None:
    """Long and short prompts, greedy and drawn, with and without memories, joining and leaving all the time."""
    source = Found(model)
    expected = [read(list(model.generate(text, source, options=options))) for text, options in REQUESTS]
    assert len({text for text, *_ in expected}) == len(REQUESTS)
    with engine_of(model, replace(limits, waiting_max=20)) as engine:
        generations = [engine.generate(text, source, options=options) for text, options in REQUESTS]
        assert [read(list(generation)) for generation in generations] == expected
        # Again on a warm pool, in another order.
        order = [5, 2, 9, 0, 7, 11, 3, 1, 10, 4, 8, 6]
        again = [engine.generate(*REQUESTS[n][:1], source, options=REQUESTS[n][1]) for n in order]
        assert [read(list(generation)) for generation in again] == [expected[n] for n in order]
        assert engine.stats().tokens >= 2 * sum(tokens for *_, tokens in expected)


def test_a_model_in_bfloat16_generates_on_a_cpu(saved: Callable[[str], Path]) -> None:
    """Once it raised at the first step, because masks were float32. Its first tokens are mostly those
    of one at a time: where two are as likely within the type's resolution, either may come.
    """
    model = endless(LanguageModel.load(str(saved("llama")), dtype=torch.bfloat16, layout=LAYOUT))
    source, options = Found(model), GenerationOptions(max_tokens=70)
    prompts = [prompt(seed, 9) for seed in range(12)]
    alone = [next(text_of(model.generate(text, source, options=options))) for text in prompts]
    with engine_of(model, replace(SMALL, waiting_max=12)) as engine:
        generations = [list(engine.generate(text, source, options=options)) for text in prompts]
    assert all(read(events)[3] == 70 and len(read(events)[1]) == 2 for events in generations)
    together = [next(text_of(iter(events))) for events in generations]
    assert sum(one == other for one, other in zip(together, alone, strict=True)) >= 9


def text_of(events: Iterator[GenerationEvent]) -> Iterator[str]:
    return (event.text for event in events if isinstance(event, Text))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_generates_together(name: str, load: Load) -> None:
    model = endless(load(name, LAYOUT))
    source, requests = Found(model), REQUESTS[:6]
    expected = [read(list(model.generate(text, source, options=options))) for text, options in requests]
    with engine_of(model, replace(SMALL, waiting_max=8)) as engine:
        generations = [engine.generate(text, source, options=options) for text, options in requests]
        assert [read(list(generation)) for generation in generations] == expected


def test_a_recall_weight_counts_as_it_does_alone(model: LanguageModel) -> None:
    weighed = endless(model, layout=replace(LAYOUT, recall_weight=40.0))
    source, requests = Found(weighed), REQUESTS[:4]
    expected = [read(list(weighed.generate(text, source, options=options))) for text, options in requests]
    with engine_of(weighed) as engine:
        generations = [engine.generate(text, source, options=options) for text, options in requests]
        assert [read(list(generation)) for generation in generations] == expected
    assert expected != [read(list(model.generate(text, source, options=options))) for text, options in requests]


def test_a_question_is_asked_in_the_models_form(model: LanguageModel) -> None:
    source, options = Found(model), GenerationOptions(max_tokens=9)
    with engine_of(model) as engine:
        got = read(list(engine.ask("who keeps bees?", source, options=options)))
    assert got == read(list(model.ask("who keeps bees?", source, options=options)))


def test_a_prompt_may_be_tokens(model: LanguageModel) -> None:
    """So texts in the prompt (text RAG) are answered from together with other requests."""
    source, options = Found(model), GenerationOptions(max_tokens=20, memories=0)
    texts = [prompt(21, 40), prompt(22, 25)]
    with engine_of(model) as engine:
        as_text = engine.generate(prompt(20, 30), source, options=options)
        as_tokens = engine.generate(model.checkpoint.encode(prompt(20, 30)), source, options=options)
        with_texts = engine.generate(model.prompt_with_texts("who?", texts), source, options=options)
        assert read(list(as_tokens)) == read(list(as_text))
        assert read(list(with_texts)) == read(list(model.ask_with_texts("who?", texts, options=options)))


def test_recalls_of_several_sequences_go_in_one_call(model: LanguageModel) -> None:
    source = Found(model)
    source.pause.clear()
    with engine_of(model) as engine:
        generations = [engine.generate(prompt(n, 9), source, options=GenerationOptions(max_tokens=4)) for n in range(4)]
        _until(lambda: engine.stats().running == 4 and source.calls)
        source.pause.set()
        for generation in generations:
            list(generation)
    # The first call had begun before the others came.
    assert len(source.calls) <= 2 and sum(source.calls) == 4


def test_a_sequence_that_waits_for_its_recall_holds_up_nobody(model: LanguageModel) -> None:
    slow, quick = Found(model), Found(model)
    slow.pause.clear()
    with engine_of(model) as engine:
        waiting = engine.generate(prompt(1, 9), slow, options=GenerationOptions(max_tokens=4))
        _until(lambda: bool(slow.calls))
        got = read(list(engine.generate(prompt(2, 9), quick, options=GenerationOptions(max_tokens=30, memories=0))))
        assert got[3] == 30
        slow.pause.set()
        assert read(list(waiting))[3] == 4


def test_memories_are_found_for_those_who_wait_for_their_turn(model: LanguageModel) -> None:
    """Before the one that runs has ended; when their turn comes, nothing is asked again."""
    source, options = Found(model), GenerationOptions(max_tokens=5)
    texts = [prompt(2, 9), prompt(3, 200)]
    expected = [read(list(model.generate(text, source, options=options))) for text in texts]
    source.calls.clear()
    source.loaded.clear()
    with engine_of(model, replace(SMALL, running_max=1, waiting_max=2)) as engine:
        running = engine.generate(prompt(1, 9), source, options=GenerationOptions(max_tokens=1_500, memories=0))
        waiting = [engine.generate(text, source, options=options) for text in texts]
        # One may look far ahead, but no further than to those who may run together next.
        _until(lambda: source.calls == [1])
        assert engine.stats().waiting == 2 and not source.loaded
        running.close()
        assert [read(list(generation)) for generation in waiting] == expected
    assert source.calls[0] == 1 and sum(source.calls) == 1 + len(model.checkpoint.encode(texts[1])) // 64 + 1


@pytest.mark.parametrize("happens", ["it fails", "it is deleted"])
def test_what_was_found_early_is_looked_at_again(happens: str, model: LanguageModel) -> None:
    """An early recall that failed is made again in turn; what was deleted since an early recall is not read."""
    source, options = Found(model), GenerationOptions(max_tokens=5)
    text = next(prompt(seed, 9) for seed in range(99) if _first(model, source, prompt(seed, 9), options))
    found = _first(model, source, text, options)
    source.calls.clear()
    source.error = Unavailable("the index is being loaded") if happens == "it fails" else None
    with engine_of(model, replace(SMALL, running_max=1)) as engine:
        answered = source.answered
        running = engine.generate(prompt(1, 9), source, options=GenerationOptions(max_tokens=1_500, memories=0))
        waiting = engine.generate(text, source, options=options)
        _until(lambda: source.failed + source.answered > answered)
        source.error = None
        if happens == "it is deleted":
            source.gone = set(found)
        assert engine.stats().waiting == 1
        running.close()
        chunks = read(list(waiting))[1]
    assert chunks == ([(0, found)] if happens == "it fails" else [(0, [])])
    assert len(source.calls) == (2 if happens == "it fails" else 1)


def test_a_request_that_is_closed_while_it_waits_asks_for_nothing(model: LanguageModel) -> None:
    source = Found(model)
    source.pause.clear()
    with engine_of(model, replace(SMALL, running_max=1)) as engine:
        running = engine.generate(prompt(1, 9), source, options=GenerationOptions(max_tokens=5))
        _until(lambda: source.calls == [1])
        closed, kept = (
            engine.generate(prompt(seed, 9), source, options=GenerationOptions(max_tokens=5)) for seed in (2, 3)
        )
        closed.close()
        source.pause.set()
        assert read(list(running))[3] == read(list(kept))[3] == 5
    assert source.calls == [1, 1]


def test_a_memory_deleted_meanwhile_leaves_at_the_next_chunk(model: LanguageModel) -> None:
    """Recalled for the second chunk while it was there, deleted before that chunk began: it is not read."""
    source = Found(model)
    options = GenerationOptions(max_tokens=80, recall_ahead=40)
    text = next(prompt(seed, 9) for seed in range(99) if _second(model, source, prompt(seed, 9), options))
    doomed = _second(model, source, text, options)
    with engine_of(model) as engine:
        answered = source.answered
        generation = engine.generate(text, source, options=options)
        events: list[GenerationEvent] = []
        for event in generation:
            events.append(event)
            # The second recall is 40 tokens before the chunk that it is for.
            if not source.gone and source.answered == answered + 2:
                source.gone = set(doomed)
                assert calls_of(events) == 1, "the chunk began before its memories were deleted"
    chunks = [event for event in events if isinstance(event, Recalled)]
    assert source.gone and {found.seq for found in chunks[1].unread} == source.gone
    assert {found.seq for found in chunks[1].memories}.isdisjoint(doomed)


def _first(model: LanguageModel, source: Found, text: str, options: GenerationOptions) -> list[int]:
    """The memories of the first chunk."""
    return read(list(model.generate(text, source, options=options)))[1][0][1]


def _second(model: LanguageModel, source: Found, text: str, options: GenerationOptions) -> list[int]:
    """The memories of the second chunk."""
    chunks = read(list(model.generate(text, source, options=options)))[1]
    return chunks[1][1]


def calls_of(events: Sequence[GenerationEvent]) -> int:
    return sum(isinstance(event, Recalled) for event in events)


def test_a_memory_that_cannot_be_loaded_is_missed_and_the_answer_says_so(model: LanguageModel) -> None:
    source = Found(model)
    source.damaged = set(range(0, 30, 2))
    with engine_of(model) as engine:
        events = list(engine.generate(prompt(3, 20), source, options=GenerationOptions(max_tokens=70)))
        failed = engine.stats().pool.failed
    chunks = [event for event in events if isinstance(event, Recalled)]
    unread = [found.seq for event in chunks for found in event.unread]
    assert unread and all(seq % 2 == 0 for seq in unread) and failed == len(unread)
    assert all(found.seq % 2 for event in chunks for found in event.memories)


def test_a_recall_that_fails_ends_its_own_generation_only(model: LanguageModel) -> None:
    broken, sound = Found(model), Found(model)
    broken.error = Corrupted("the index is damaged")
    with engine_of(model) as engine:
        good = engine.generate(prompt(2, 9), sound, options=GenerationOptions(max_tokens=20))
        bad = engine.generate(prompt(1, 9), broken, options=GenerationOptions(max_tokens=4))
        with pytest.raises(Corrupted, match="index is damaged"):
            list(bad)
        assert read(list(good))[3] == 20


def test_a_look_at_what_lives_that_fails_ends_its_own_generation_and_pins_nothing(model: LanguageModel) -> None:
    """Once the slots that had been loaded for it stayed pinned for ever; `engine_of` looks for such."""
    broken, sound = Found(model), Found(model)
    text = next(
        prompt(seed, 9)
        for seed in range(99)
        if read(list(model.generate(prompt(seed, 9), sound, options=GenerationOptions(max_tokens=1))))[1][0][1]
    )
    broken.lost = Unavailable("the collection is closed")
    with engine_of(model) as engine:
        good = engine.generate(text, sound, options=GenerationOptions(max_tokens=20))
        with pytest.raises(Unavailable, match="collection is closed"):
            list(engine.generate(text, broken, options=GenerationOptions(max_tokens=4)))
        assert read(list(good))[3] == 20


def test_a_step_that_fails_ends_those_who_took_part_and_the_engine_goes_on(model: LanguageModel) -> None:
    source = Found(model)

    def fail(*_: object) -> None:
        raise RuntimeError("the device is out of memory")

    with engine_of(model) as engine:
        handle = model.checkpoint.model.register_forward_pre_hook(fail)
        generation = engine.generate(prompt(2, 9), source, options=GenerationOptions(max_tokens=20))
        with pytest.raises(RuntimeError, match="out of memory"):
            list(generation)
        handle.remove()
        assert read(list(engine.generate(prompt(2, 9), source, options=GenerationOptions(max_tokens=20))))[3] == 20


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_closed_or_forgotten_generation_makes_room(forgotten: bool, model: LanguageModel) -> None:
    source = Found(model)
    with engine_of(model, replace(SMALL, running_max=1, waiting_max=1)) as engine:
        generation = engine.generate(prompt(1, 9), source, options=GenerationOptions(max_tokens=1_500))
        next(generation)
        waiting = engine.generate(prompt(2, 9), source, options=GenerationOptions(max_tokens=5))
        if forgotten:
            del generation
        else:
            generation.close()
            # Nothing comes any more but what had come already.
            assert len(list(generation)) < 200
        assert read(list(waiting))[3] == 5
        assert engine.stats().tokens < 400


def test_a_request_that_is_closed_while_it_waits_never_runs(model: LanguageModel) -> None:
    source = Found(model)
    with engine_of(model, replace(SMALL, running_max=1, waiting_max=1)) as engine:
        running = engine.generate(prompt(1, 9), source, options=GenerationOptions(max_tokens=300))
        waiting = engine.generate(prompt(2, 9), source, options=GenerationOptions(max_tokens=5))
        waiting.close()
        assert list(waiting) == []
        # Its place is free for another.
        _until(lambda: engine.stats().waiting == 0)
        third = engine.generate(prompt(3, 9), source, options=GenerationOptions(max_tokens=5))
        running.close()
        assert read(list(third))[3] == 5


@pytest.mark.parametrize("running_max", [1, 2])
def test_a_deadline_ends_what_runs_and_what_waits(running_max: int, model: LanguageModel) -> None:
    source, options = Found(model), GenerationOptions(max_tokens=1_500)
    with engine_of(model, replace(SMALL, running_max=running_max, waiting_max=2)) as engine:
        first = engine.generate(prompt(1, 9), source, options=options)
        late = engine.generate(prompt(2, 9), source, options=options, deadline=time.monotonic() + 0.3)
        with pytest.raises(DeadlineExceeded, match="before the answer was complete"):
            list(late)
        first.close()


def test_a_deadline_passes_while_nothing_runs(model: LanguageModel) -> None:
    source = Found(model)
    source.pause.clear()
    with engine_of(model) as engine:
        late = engine.generate(prompt(2, 9), source, options=GenerationOptions(), deadline=time.monotonic() + 0.2)
        with pytest.raises(DeadlineExceeded):
            list(late)
        source.pause.set()


def test_who_comes_when_all_is_full_is_refused_at_once(model: LanguageModel) -> None:
    source, options = Found(model), GenerationOptions(max_tokens=1_000)
    with engine_of(model, replace(SMALL, running_max=1, waiting_max=1)) as engine:
        held = [engine.generate(prompt(n, 9), source, options=options) for n in range(2)]
        with pytest.raises(ResourceExhausted, match="try again"):
            engine.generate(prompt(3, 9), source, options=options)
        for generation in held:
            generation.close()


def test_what_never_fits_is_refused_and_what_does_not_fit_now_waits(model: LanguageModel) -> None:
    source = Found(model)
    with engine_of(model, replace(SMALL, context_tokens_max=400)) as engine:
        with pytest.raises(InvalidArgument, match="the engine has 400"):
            engine.generate(prompt(1, 9), source, options=GenerationOptions(max_tokens=500))
        generations = [
            engine.generate(prompt(n, 9), source, options=GenerationOptions(max_tokens=250)) for n in range(2)
        ]
        _until(lambda: engine.stats().running == 1 and engine.stats().waiting == 1)
        assert [read(list(generation))[3] for generation in generations] == [250, 250]
    with engine_of(model, replace(SMALL, slots=8)) as engine, pytest.raises(InvalidArgument, match="10 memories"):
        engine.generate(prompt(1, 9), source, options=GenerationOptions())


def test_an_owner_with_many_requests_does_not_hold_up_another(model: LanguageModel) -> None:
    source, options = Found(model), GenerationOptions(max_tokens=40)
    ended: list[str] = []
    with engine_of(model, replace(SMALL, running_max=1, waiting_max=8)) as engine:
        generations = [
            (owner, engine.generate(prompt(n, 9), source, options=options, owner=owner))
            for n, owner in enumerate(["many"] * 5 + ["one"])
        ]

        def wait(owner: str, generation: Iterator[GenerationEvent]) -> None:
            list(generation)
            ended.append(owner)

        threads = [threading.Thread(target=wait, args=pair) for pair in generations]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # The first of the many ran already, or was just to; then it is the other's turn.
    assert "one" in ended[:3]


def test_closing_ends_what_runs_and_what_waits(model: LanguageModel) -> None:
    source, options = Found(model), GenerationOptions(max_tokens=1_000)
    engine = Engine(model, replace(SMALL, running_max=1))
    generations = [engine.generate(prompt(n, 9), source, options=options) for n in range(2)]
    next(generations[0])
    engine.close()
    for generation in generations:
        with pytest.raises(Unavailable, match="was closed"):
            list(generation)
    with pytest.raises(Unavailable, match="is closed"):
        engine.generate(prompt(1, 9), source, options=options)
    engine.close()


def test_the_seconds_of_a_generation_are_told(model: LanguageModel) -> None:
    with engine_of(model) as engine:
        events = list(engine.generate(prompt(3, 9), Found(model), options=GenerationOptions(max_tokens=70)))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert set(finished.seconds) == {"queue", "recall", "fetch", "model", "total"}
    assert all(0 < seconds <= finished.seconds["total"] for seconds in finished.seconds.values())


def test_a_bad_prompt_is_refused_when_it_is_given(model: LanguageModel) -> None:
    source = Found(model)
    with engine_of(model) as engine:
        with pytest.raises(InvalidArgument, match="prompt is empty"):
            engine.generate("", source, options=GenerationOptions())
        with pytest.raises(InvalidArgument, match="question is empty"):
            engine.ask(" ", source, options=GenerationOptions())
        with pytest.raises(InvalidArgument, match="positions, this model has 2048"):
            engine.generate(prompt(1, 4_000), source, options=GenerationOptions())


def _until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_a_storm_of_callers_gets_what_each_would_get_alone(model: LanguageModel) -> None:
    """Callers that come, go, and close amid their answers; every whole answer is right."""
    source = Found(model)
    options = [replace(options, max_tokens=min(options.max_tokens, 70)) for _, options in REQUESTS]
    expected = [read(list(model.generate(text, source, options=options[n]))) for n, (text, _) in enumerate(REQUESTS)]
    wrong: list[int] = []
    whole = [0] * 6

    with engine_of(model, replace(SMALL, waiting_max=8)) as engine:

        def call(number: int) -> None:
            random = Random(number)
            for _ in range(8):
                n = random.randrange(len(REQUESTS))
                generation = engine.generate(REQUESTS[n][0], source, options=options[n], owner=str(number))
                if random.random() < 0.3:
                    for _, _ in zip(range(random.randrange(5)), generation, strict=False):
                        pass
                    generation.close()
                    continue
                whole[number] += 1
                if read(list(generation)) != expected[n]:
                    wrong.append(n)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == [] and min(whole) > 0
    assert torch.get_num_threads() == 1
