"""The parts `streams` and `soak` of bench/engine.py: what many callers see who follow their answers as they come."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from memory3.answers import Finished, Text
from memory3.bench.engine_work import SEED, Settings, Work, engine_of, spread, turns
from memory3.bench.memory import memory_bytes
from memory3.model.engine.engine import Engine
from memory3.model.engine.generation import Generation
from memory3.model.source import GenerationOptions
from memory3.store.errors import DeadlineExceeded, ResourceExhausted

TOGETHER, ALONE = "together", "one at a time"
GROWTH_MAX = 1.05
SAMPLES_MIN = 8
SOAK_CALLERS = 24
_SAMPLE_S = 60.0
_DEADLINE_S = 0.5
_NOTICE_S = 10.0


@dataclass(frozen=True, slots=True)
class Stream:
    """What one caller saw: seconds to the first text, and from each text to the next."""

    first: float
    gaps: Sequence[float]
    tokens: int

    @property
    def texts(self) -> int:
        return len(self.gaps) + 1


def follow(start: Callable[[], Generation]) -> Stream:
    """Take an answer piece by piece, as it comes."""
    began = time.perf_counter()
    times: list[float] = []
    tokens = 0
    for event in start():
        if isinstance(event, Text):
            times.append(time.perf_counter())
        elif isinstance(event, Finished):
            tokens = event.tokens
    # Of special tokens alone there is no text.
    times = times or [time.perf_counter()]
    return Stream(times[0] - began, np.diff(times).tolist(), tokens)


def streams_part(work: Work, settings: Settings) -> dict[str, Any]:
    """As many streams as there are callers, together and one after another, on one engine that finds memories warm."""
    prompts = work.prompts[: settings.callers]
    options = GenerationOptions(settings.tokens, settings.memories)
    found: dict[str, list[Stream]] = {TOGETHER: [], ALONE: []}
    rates: dict[str, list[float]] = {TOGETHER: [], ALONE: []}
    with engine_of(work, len(prompts), settings.memories, cold=False) as engine:

        def one(prompt: Sequence[int]) -> Stream:
            return follow(lambda: engine.generate(prompt, work.source, options=options))

        def measure(name: str) -> tuple[list[Stream], float]:
            began = time.perf_counter()
            with ThreadPoolExecutor(len(prompts) if name == TOGETHER else 1) as pool:
                streams = list(pool.map(one, prompts))
            return streams, sum(stream.tokens for stream in streams) / (time.perf_counter() - began)

        measure(TOGETHER)
        for number in range(settings.rounds):
            for name in turns(list(found), number):
                streams, rate = measure(name)
                found[name] += streams
                rates[name].append(rate)
    ratios = [together / alone for together, alone in zip(rates[TOGETHER], rates[ALONE], strict=True)]
    ways = {name: _seen(streams) | {"tokens_per_s": spread(rates[name])} for name, streams in found.items()}
    return {"callers": len(prompts), "ratio": spread(ratios), "ways": ways}


def _seen(streams: Sequence[Stream]) -> dict[str, Any]:
    gaps = [gap for stream in streams for gap in stream.gaps]
    return {
        "first_ms": _percentiles([stream.first for stream in streams]),
        "gap_ms": _percentiles(gaps),
        "tokens_per_text": sum(stream.tokens for stream in streams) / sum(stream.texts for stream in streams),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(seconds or [0.0]) * 1e3, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": 1e3 * max(seconds, default=0.0)}


def soak_part(work: Work, settings: Settings, minutes: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Callers come and go, and some leave early; `ok` says whether memory stayed as it was, and all was let go."""
    ends, samples = time.monotonic() + 60 * minutes, list[int]()
    pause = min(_SAMPLE_S, 60 * minutes / SAMPLES_MIN)
    with engine_of(work, settings.callers, settings.memories, cold=False) as engine:
        with ThreadPoolExecutor(SOAK_CALLERS) as pool:
            calls = [
                pool.submit(_calls, engine, work, settings, Random(SEED + number), ends)
                for number in range(SOAK_CALLERS)
            ]
            while (left := ends - time.monotonic()) > 0:
                time.sleep(min(pause, left))
                samples.append(memory_bytes()["anonymous"])
                tell(f"{samples[-1] / 2**20:,.0f} MiB resident, {engine.stats().tokens:,} tokens generated")
        left_over = _left_over(engine)
        tokens = engine.stats().tokens
    errors = [f"{type(error).__name__}: {error}" for call in calls if (error := call.exception()) is not None]
    asked = sum((call.result() for call in calls if call.exception() is None), Counter[str]())
    growth = grown(samples)
    return {
        "minutes": minutes,
        "resident_bytes": samples,
        "growth": growth,
        "requests": dict(asked),
        "tokens": tokens,
        "left_over": left_over,
        "errors": errors,
        "ok": growth <= GROWTH_MAX and not left_over and not errors,
    }


def _left_over(engine: Engine) -> int:
    """What still runs, waits or is pinned, once the engine has had time to notice who left."""
    ends = time.monotonic() + _NOTICE_S
    while True:
        stats = engine.stats()
        count = stats.running + stats.waiting + stats.pool.pinned
        if not count or time.monotonic() > ends:
            return count
        time.sleep(0.01)


def grown(samples: Sequence[int]) -> float:
    """The mean of the last quarter over that of the second."""
    quarter = max(1, len(samples) // 4)
    before, after = samples[quarter : 2 * quarter] or samples[:1], samples[-quarter:]
    return (sum(after) / len(after)) / (sum(before) / len(before))


def _calls(engine: Engine, work: Work, settings: Settings, random: Random, ends: float) -> Counter[str]:
    """One request after another until the end; how many ended in which way."""
    seen: Counter[str] = Counter()
    while time.monotonic() < ends:
        seen[_one(engine, work, settings, random)] += 1
    return seen


def _one(engine: Engine, work: Work, settings: Settings, random: Random) -> str:
    options = GenerationOptions(
        random.randint(1, settings.tokens),
        random.choice((0, settings.memories, settings.memories)),
        temperature=random.choice((0.0, 1.0)),
        seed=random.getrandbits(32),
    )
    deadline = time.monotonic() + _DEADLINE_S if random.random() < 0.1 else None
    start = random.choice((engine.ask, engine.generate))
    text = f"{random.choice(work.questions)} {random.getrandbits(16)}"
    leaves = random.randint(0, options.max_tokens // 2) if random.random() < 0.3 else None
    with suppress(DeadlineExceeded, ResourceExhausted):
        generation = start(text, work.source, options=options, deadline=deadline)
        for number, _ in enumerate(generation):
            if number == leaves:
                # Half of them say so, the others just forget the answer.
                if random.random() < 0.5:
                    generation.close()
                return "left early"
        return "complete"
    return "refused or late"
