"""The benchmark of the engine: each part runs on a small random model and tells what it should."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from memory3.bench import engine, engine_parts, engine_streams
from memory3.bench.engine_work import Settings, Work, open_work, turns
from memory3.model.engine.engine import Engine
from memory3.model.source import GenerationOptions

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
)


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
    assert [one["running"] for one in measured] == [1, 3]
    assert "4 greedy answers of the engine are those of the model alone." in report
    for one in measured:
        variants = one["variants"]
        assert list(variants) == ["no memory", "recall by text", "recall by vector", "recall by text, pool warm"]
        for variant in variants.values():
            assert_spread(variant["ratio"])
            assert variant["seconds"]["total"] > 0
        assert variants["no memory"]["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
        assert not any(variants["no memory"]["parts"].values())
        assert variants["recall by text"]["device_hits"] < 0.2
        assert variants["recall by text, pool warm"]["device_hits"] > 0.9
        assert variants["recall by vector"]["parts"]["embed"] < variants["recall by text"]["parts"]["embed"]


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
    assert list(measured["variants"]) == ["text RAG", "memories", "memories, pool warm"]
    for variant in measured["variants"].values():
        assert_spread(variant["ratio"])
    assert measured["requests"] == 6
    assert measured["prompt_tokens"] > measured["question_tokens"] + 2 * measured["shared_tokens"]
    assert "| text RAG |" in report


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
    with pytest.raises(engine_parts.Unequal):
        run("memory", work)


def test_each_round_begins_with_another() -> None:
    assert [turns(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
