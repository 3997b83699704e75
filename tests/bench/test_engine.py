"""The benchmark of the engine: each part runs on a small random model and tells what it should."""

import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from memory3.bench import engine, engine_check, engine_parts, engine_report, engine_streams
from memory3.bench.engine_generate import Generate
from memory3.bench.engine_work import Settings, Work, endless, engine_of, filled, open_work, turns
from memory3.bench.random_model import Shape, spoken, write_model
from memory3.model.attention import NAME
from memory3.model.engine.engine import Engine
from memory3.model.engine.limits import EngineLimits
from memory3.model.language_model import LanguageModel
from memory3.model.source import GenerationOptions
from memory3.model.training.worlds import World
from torch import Tensor

from ..model.engine.test_paged import REFERENCE

SETTINGS = Settings(
    rounds=1,
    documents=60,
    prompt_tokens=70,
    tokens=66,
    answer_tokens=5,
    memories=2,
    concurrency=(1, 3),
    requests_min=2,
    callers=3,
    waves=2,
    checked=2,
    memory_waves=2,
)
WITHOUT = GenerationOptions(SETTINGS.answer_tokens, memories=0)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, random_model: str) -> Iterator[Work]:
    with open_work(tmp_path_factory.mktemp("engine") / "data", SETTINGS, random_model, "cpu") as opened:
        yield opened


def run(part: str, work: Work, **results: Any) -> tuple[Any, str]:
    lines = list(engine.run_part(part, work, SETTINGS, 0.03, results))
    json.dumps(results)
    return results[part], "\n".join(lines)


def assert_spread(ratio: dict[str, float]) -> None:
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"] < math.inf


def test_with_memory_over_without(work: Work) -> None:
    measured, report = run("memory", work)
    assert [(one["running"], one["requests"]) for one in measured] == [(1, 2), (3, 6)]
    assert "4 greedy answers of the engine are those of the model alone." in report
    for one in measured:
        variants = one["variants"]
        assert list(variants) == ["no memory", "recall by text", "recall by vector", "recall by text, pool warm"]
        for variant in variants.values():
            assert_spread(variant["ratio"])
            assert variant["seconds"]["total"] > 0
        assert variants["no memory"]["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
        plain, reading = (variants[name]["parts"] for name in ("no memory", "recall by text"))
        assert not any(plain.get(part) for part in engine_report.RECALL_PARTS)
        for parts in (plain, reading):
            assert 0 < parts["attend"] < parts["step"]
        assert variants["recall by text"]["device_hits"] < 0.2
        assert variants["recall by text, pool warm"]["device_hits"] > 0.9
        assert variants["recall by vector"]["parts"]["embed"] < variants["recall by text"]["parts"]["embed"]
        # Half of them wait for the other half.
        account = variants["recall by text"]["seconds"]
        assert account["queue"] > 0.1 * account["total"]


def test_references_are_filled_up(work: Work) -> None:
    encode, world = work.model.checkpoint.encode, World(1, "test")
    texts = [world.passage().text for _ in range(20)]
    for text in texts:
        made = filled(text, 400, encode, world)
        assert made.startswith(text) and 370 < len(encode(made)) <= 400
        assert filled(text, 0, encode, world) == text
    assert filled(" ".join(texts), 400, encode, world) == " ".join(texts)


def test_requests_of_several_waves(work: Work) -> None:
    assert [Settings().requests(running) for running in (1, 8, 32)] == [8, 8, 32]
    assert replace(Settings(), memory_waves=3).requests(32) == 96
    assert len({tuple(prompt) for prompt in work.prompts}) == len(work.prompts) == SETTINGS.requests(3)
    with engine_of(work, 3, SETTINGS.memories, cold=True) as cold:
        assert (cold.limits.running_max, cold.limits.slots, cold.limits.ram_bytes) == (3, 12, 0)


def test_a_source_may_find_no_memory_twice(work: Work) -> None:
    questions = [work.questions[0]] * 4
    work.source.read_others(True)
    others = work.source.recall(questions, 3)
    work.source.read_others(False)
    usual = work.source.recall(questions, 3)
    assert others[0] == usual[0] == usual[3]
    assert len({hit.seq for hits in others for hit in hits}) == 12
    assert [[hit.score for hit in hits] for hits in others] == [[hit.score for hit in hits] for hits in usual]


def test_memories_against_text_rag(work: Work) -> None:
    measured, report = run("rag", work, checked=0)
    by_generate = "text RAG, Transformers' generate (SDPA)"
    assert list(measured["variants"]) == ["text RAG", by_generate, "memories", "memories, pool warm"]
    for name, variant in measured["variants"].items():
        assert_spread(variant["ratio"])
        assert_spread(measured["over_generate"][name])
    assert measured["over_generate"][by_generate] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert measured["variants"][by_generate]["parts"]["embed"] > 0
    assert measured["requests"] == 6
    assert measured["prompt_tokens"] > measured["question_tokens"] + 2 * measured["shared_tokens"]
    assert "| text RAG |" in report and f"| {by_generate} |" in report


def test_generate_answers_as_the_engine_does(work: Work) -> None:
    """Prompts of several lengths, padded; with the engine's weights and without touching its attention."""
    prompts = [prompt[:length] for prompt, length in zip(work.prompts, (70, 9, 33), strict=False)]
    generate = Generate(work.model, SETTINGS.answer_tokens)
    made = generate.answers(prompts)
    assert [len(answer) for answer in made] == [SETTINGS.answer_tokens] * 3
    with engine_of(work, 3, 0, cold=False) as running:
        texts = [
            "".join(event.text for event in running.generate(prompt, None, options=WITHOUT) if hasattr(event, "text"))
            for prompt in prompts
        ]
    assert [work.model.checkpoint.text(answer) for answer in made] == [text.strip() for text in texts]
    own, others = work.model.checkpoint.model, generate.model
    assert own.config._attn_implementation == NAME
    assert others.config._attn_implementation == "sdpa"
    assert [one.data_ptr() for one in own.parameters()] == [one.data_ptr() for one in others.parameters()]


def test_the_papers_bytes(work: Work) -> None:
    paper = engine_parts.bytes_read(work.model, 5, 100.0)["the paper's"]
    assert list(paper.values()) == [5 * 39_424, 5 * 450_560, 5 * 14_417_920, 5 * 72_089_600]


def test_streams(work: Work) -> None:
    measured, report = run("streams", work, checked=0)
    assert_spread(measured["ratio"])
    for way in measured["ways"].values():
        assert way["tokens_per_text"] >= 1
        for times in (way["first_ms"], way["gap_ms"]):
            assert 0 < times["p50"] <= times["p99"] <= times["max"]
    assert "| one at a time |" in report


def test_soak(work: Work) -> None:
    measured, report = run("soak", work)
    assert sum(measured["requests"].values()) > 0 and measured["tokens"] > 0
    assert (measured["left_over"], measured["errors"]) == (0, [])
    assert len(measured["resident_bytes"]) >= engine_streams.SAMPLES_MIN
    assert ("Passed." in report) == measured["ok"]


def test_growth_is_of_the_last_quarter_over_the_second() -> None:
    assert engine_streams.grown([9, 9, 2, 4, 7, 7, 5, 7]) == 2.0
    assert engine_streams.grown([3]) == 1.0


def test_nothing_is_timed_if_an_answer_differs(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = Engine.generate

    def shorter(*args: Any, options: GenerationOptions, **named: Any) -> Any:
        return generate(*args, options=GenerationOptions(options.max_tokens - 1, options.memories), **named)

    monkeypatch.setattr(Engine, "generate", shorter)
    with pytest.raises(engine_check.Unequal):
        run("memory", work)


@pytest.fixture(scope="module")
def random_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Work, str]]:
    """Work whose model has an output layer of its own, and the model's folder."""
    folder = tmp_path_factory.mktemp("shape")
    write_model(Shape(4, 4, 2, 16, 64, 64, vocabulary=2_304), folder)
    with open_work(tmp_path_factory.mktemp("random") / "data", SETTINGS, str(folder), "cpu") as opened:
        yield opened, str(folder)


def check_with_twins(
    random_work: tuple[Work, str], dtype: torch.dtype, likeness: float, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Check an engine that always takes the twin of the likeliest token, whose logit is that times `likeness`."""
    work, folder = random_work

    def model_of(first: float, second: float) -> LanguageModel:
        model = LanguageModel.load(folder, dtype=dtype)
        rows: Tensor = model.checkpoint.model.lm_head.weight
        tokens = spoken(model.checkpoint.tokenizer)
        for one, other in zip(tokens[0::2], tokens[1::2], strict=False):
            rows[one], rows[other] = first * rows[one], second * rows[one]
        return endless(model)

    @contextmanager
    def engine_with_twins(asked: Work, running: int, memories: int, *, cold: bool) -> Iterator[Engine]:
        checkpoint = replace(model_of(0.0, likeness).checkpoint, tokenizer=asked.model.checkpoint.tokenizer)
        # Pages, as on a GPU: rows, which a CPU has, are in float32 only.
        limits = EngineLimits(running_max=running, context_tokens_max=4_096)
        with closing(Engine(endless(LanguageModel(checkpoint)), limits, REFERENCE)) as made:
            yield made

    monkeypatch.setattr(engine_check, "engine_of", engine_with_twins)
    return engine_check.check(replace(work, model=model_of(1.0, likeness)), SETTINGS)


RESOLUTION = torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("likeness", [1.0, 1 - 0.5 * engine_check.TIE * RESOLUTION])
def test_in_bfloat16_tokens_may_tie(
    random_work: tuple[Work, str], likeness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = check_with_twins(random_work, torch.bfloat16, likeness, monkeypatch)
    assert checked["answers"] == checked["differ"] == 4
    assert engine_report.check_line(checked).startswith(
        "4 greedy answers of the engine are those of the model alone, but 4"
    )
    assert (1 - likeness) / RESOLUTION - 1 <= checked["behind"] <= engine_check.TIE


@pytest.mark.parametrize(
    ("dtype", "likeness"),
    [(torch.bfloat16, 1 - 2 * engine_check.TIE * RESOLUTION), (torch.bfloat16, -1.0), (torch.float32, 1.0)],
)
def test_other_tokens_than_the_likeliest_are_refused(
    random_work: tuple[Work, str], dtype: torch.dtype, likeness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(engine_check.Unequal):
        check_with_twins(random_work, dtype, likeness, monkeypatch)


def test_each_round_begins_with_another() -> None:
    assert [turns(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
