"""Times of calls: one after the other, and from several callers at once."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import numpy as np

BLOCK = 50
"""Calls of one kind before it is the next kind's turn."""


class Latency(TypedDict):
    """Milliseconds of single calls."""

    p50_ms: float
    p99_ms: float
    calls: int


def percentiles(seconds: Sequence[float]) -> Latency:
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99]).tolist()
    return Latency(p50_ms=p50, p99_ms=p99, calls=len(seconds))


def latency(call: Callable[[int], object], calls: int) -> Latency:
    """Of calls with 0, 1, 2 and so on, after a tenth of them to warm up."""
    return latencies({"": call}, calls)[""]


def latencies(kinds: Mapping[str, Callable[[int], object]], calls: int) -> dict[str, Latency]:
    """Of several kinds of call, in turns, so that what else the machine does strikes all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for call in kinds.values():
        for number in range(max(1, calls // 10)):
            call(number)
    for start in range(0, calls, BLOCK):
        for name, call in kinds.items():
            for number in range(start, min(start + BLOCK, calls)):
                before = time.perf_counter()
                call(number)
                seconds[name].append(time.perf_counter() - before)
    return {name: percentiles(found) for name, found in seconds.items()}


def calls_per_second(call: Callable[[int], object], callers: int, seconds: float) -> float:
    """How many calls return in a second while so many callers call without a pause.

    Raises:
        Exception: what any of the calls raised.
    """
    done = [0] * callers
    errors: list[Exception] = []
    started = threading.Barrier(callers + 1)
    end = [float("inf")]

    def caller(place: int) -> None:
        started.wait()
        try:
            while time.perf_counter() < end[0]:
                call(place + callers * done[place])
                done[place] += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=caller, args=(place,)) for place in range(callers)]
    for thread in threads:
        thread.start()
    before = time.perf_counter()
    end[0] = before + seconds
    started.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(done) / (time.perf_counter() - before)
