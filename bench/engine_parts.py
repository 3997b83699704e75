"""The parts `memory` and `rag` of bench/engine.py."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from memory3.answers import GenerationEvent
from memory3.bench.engine_generate import Generate
from memory3.bench.engine_work import Pass, Settings, Work, engine_of, run_pass, spread, turns
from memory3.model.engine.engine import Engine
from memory3.model.language_model import LanguageModel
from memory3.model.source import GenerationOptions

PLAIN, BY_TEXT, BY_VECTOR, WARM = "no memory", "recall by text", "recall by vector", "recall by text, pool warm"
FROM_MEMORIES, FROM_MEMORIES_WARM, RAG = "memories", "memories, pool warm", "text RAG"
RAG_BY_GENERATE = "text RAG, Transformers' generate (SDPA)"
PAPER = {"layers": 44, "memory layers": 22, "query heads": 40, "KV heads": 8, "kept tokens": 8, "head size": 80}
PAPER_CODED_BYTES = 39_424
PAPER_REFERENCE_TOKENS = 128
PAPER_ITEM_BYTES = 2


@dataclass
class _Variant:
    """How one variant runs, and what its passes took; `engine` is None for one that has none."""

    engine: Engine | None
    run: Callable[[], Pass]
    passes: list[Pass] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    loaded: list[int] = field(default_factory=list)


def memory_part(work: Work, settings: Settings) -> list[dict[str, Any]]:
    """Tokens a second with memory over without, for each number of sequences at a time."""
    return [_memory(work, settings, running) for running in settings.concurrency]


def _memory(work: Work, settings: Settings, running: int) -> dict[str, Any]:
    prompts = work.prompts[: settings.requests(running)]
    options = {reads: GenerationOptions(settings.tokens, settings.memories if reads else 0) for reads in (False, True)}

    def passes(engine: Engine, reads: bool, replays: bool = False) -> Callable[[], Pass]:
        def run() -> Pass:
            work.source.replays = replays
            work.source.read_others(True)
            return run_pass(lambda: [engine.generate(p, work.source, options=options[reads]) for p in prompts])

        return run

    with ExitStack() as stack:
        cold = stack.enter_context(engine_of(work, running, settings.memories, cold=True))
        warm = stack.enter_context(engine_of(work, running, settings.memories, cold=False))
        variants = {
            PLAIN: _Variant(cold, passes(cold, False)),
            BY_TEXT: _Variant(cold, passes(cold, True)),
            BY_VECTOR: _Variant(cold, passes(cold, True, replays=True)),
            WARM: _Variant(warm, passes(warm, True)),
        }
        work.source.keeps = True
        for variant in variants.values():
            variant.run()
        work.source.keeps, work.source.missed = False, 0
        _alternate(work, variants, settings.rounds, len(prompts))
    work.source.replays = False
    work.source.read_others(False)
    measured = _measured(variants, PLAIN)
    return {"running": running, "requests": len(prompts), "replays_missed": work.source.missed, "variants": measured}


def rag_part(work: Work, settings: Settings) -> dict[str, Any]:
    """Answers from memories and from the same memories' texts in the prompt, found by the same retriever."""
    options = GenerationOptions(settings.answer_tokens, settings.memories)
    plain = GenerationOptions(settings.answer_tokens, memories=0)
    waves = [work.questions[n : n + settings.callers] for n in range(0, len(work.questions), settings.callers)]
    prompts: list[int] = []

    def from_memories(engine: Engine) -> Callable[[], Pass]:
        def ask(wave: Sequence[str]) -> Sequence[Iterator[GenerationEvent]]:
            return [engine.ask(question, work.source, options=options) for question in wave]

        return lambda: _joined([run_pass(partial(ask, wave)) for wave in waves])

    def with_texts(wave: Sequence[str]) -> list[list[int]]:
        found = work.source.recall(wave, settings.memories)
        asked = [
            work.model.prompt_with_texts(question, [hit.text for hit in hits])
            for question, hits in zip(wave, found, strict=True)
        ]
        prompts.extend(map(len, asked))
        return asked

    def from_texts(engine: Engine) -> Callable[[], Pass]:
        def ask(wave: Sequence[str]) -> list[Iterator[GenerationEvent]]:
            return [engine.generate(prompt, work.source, options=plain) for prompt in with_texts(wave)]

        return lambda: _joined([run_pass(partial(ask, wave)) for wave in waves])

    def by_generate(generate: Generate) -> Callable[[], Pass]:
        def answer(wave: Sequence[str]) -> Pass:
            began = time.perf_counter()
            taken = generate.run(with_texts(wave))
            return replace(taken, wall=time.perf_counter() - began)

        return lambda: _joined([answer(wave) for wave in waves])

    with ExitStack() as stack:
        cold = stack.enter_context(engine_of(work, settings.callers, settings.memories, cold=True))
        warm = stack.enter_context(engine_of(work, settings.callers, settings.memories, cold=False))
        variants = {
            RAG: _Variant(cold, from_texts(cold)),
            RAG_BY_GENERATE: _Variant(None, by_generate(Generate(work.model, settings.answer_tokens))),
            FROM_MEMORIES: _Variant(cold, from_memories(cold)),
            FROM_MEMORIES_WARM: _Variant(warm, from_memories(warm)),
        }
        for variant in variants.values():
            variant.run()
        _alternate(work, variants, settings.rounds, len(work.questions))
    return {
        "callers": settings.callers,
        "requests": len(work.questions),
        "answer_tokens": settings.answer_tokens,
        "prompt_tokens": sum(prompts) / len(prompts),
        "question_tokens": sum(len(work.model.question(q)) for q in work.questions) / len(work.questions),
        "shared_tokens": len(work.model.checkpoint.prefix),
        "variants": _measured(variants, RAG),
        "over_generate": {name: _ratio(variant, variants[RAG_BY_GENERATE]) for name, variant in variants.items()},
        "bytes": bytes_read(work.model, settings.memories, work.reference_tokens),
    }


def _alternate(work: Work, variants: dict[str, _Variant], rounds: int, requests: int) -> None:
    for number in range(rounds):
        for name in turns(list(variants), number):
            variant = variants[name]
            work.source.seconds.clear()
            before = variant.engine and variant.engine.stats().pool
            taken = variant.run()
            after = variant.engine and variant.engine.stats().pool
            variant.passes.append(taken)
            parts = {part: seconds / requests for part, seconds in work.source.seconds.items()}
            if "fetch" in taken.seconds:
                # Loads go one at a time, so that the requests' own seconds add up.
                parts["decode"] = taken.seconds["fetch"] - parts.get("read", 0.0) - parts.get("note", 0.0)
            variant.parts.append(parts)
            if before and after:
                variant.found.append(after.device_hits - before.device_hits)
                variant.loaded.append(after.fetched + after.ram_hits - before.fetched - before.ram_hits)


def _measured(variants: dict[str, _Variant], base: str) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "tokens_per_s": spread([one.rate for one in variant.passes]),
            "ratio": _ratio(variant, variants[base]),
            "seconds": _mean([dict(one.seconds) for one in variant.passes]),
            "parts": _mean(variant.parts),
            "device_hits": sum(variant.found) / max(1, sum(variant.found) + sum(variant.loaded)),
        }
        for name, variant in variants.items()
    }


def _ratio(variant: _Variant, base: _Variant) -> dict[str, float]:
    """Of tokens a second, round by round."""
    return spread([one.rate / other.rate for one, other in zip(variant.passes, base.passes, strict=True)])


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in rows[0]}


def _joined(passes: Sequence[Pass]) -> Pass:
    seconds = _mean([dict(one.seconds) for one in passes])
    return Pass(sum(one.wall for one in passes), sum(one.tokens for one in passes), seconds)


def bytes_read(model: LanguageModel, memories: int, reference_tokens: float) -> dict[str, dict[str, float]]:
    """Bytes of key-values that a request reads: coded, decoded, and as whole references in its context."""
    config, form = model.checkpoint.model.config, model.checkpoint.form
    layers, both, heads, kept, size = form.shape
    item = model.checkpoint.model.dtype.itemsize
    own = {
        "coded": float(memories * form.bytes),
        "decoded": float(memories * layers * both * heads * kept * size * item),
        "in the context": memories * config.num_hidden_layers * both * heads * size * item * reference_tokens,
    }
    vector = 2 * PAPER["head size"] * PAPER_ITEM_BYTES
    whole = memories * PAPER["layers"] * PAPER_REFERENCE_TOKENS * vector
    paper = {
        "coded": float(memories * PAPER_CODED_BYTES),
        "decoded": float(memories * PAPER["memory layers"] * PAPER["KV heads"] * PAPER["kept tokens"] * vector),
        "in the context": float(whole * PAPER["KV heads"]),
        "in the context, a key and value for each query head": float(whole * PAPER["query heads"]),
    }
    return {"this model": own, "the paper's": paper}
